//! Memory over time, on host and device: trainers made and dropped, and training that goes on and on.
//!
//! Measured in a process of its own, because the other tests run beside this one: the suite starts itself again with
//! GROKSCOPE_SOAK naming the device. `GROKSCOPE_TRAINERS=100 GROKSCOPE_SOAK_SECONDS=3600` is the long form of docs/reliability.md.

use crate::support::{Outcome, gpu, layout, require, shape, test};
use grokscope::devices;
use grokscope::gpu::device::KernelChoice;
use grokscope::plan::{Draft, Update, preset};
use grokscope::program::engine::Engine;
use grokscope::program::{State, composed};
use grokscope::progress::Style;
use grokscope::session::{self, AtOnce, Options};
use grokscope::train::Outcome as End;
use libtest_mimic::{Failed, Trial};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![test("memory_stays_flat_on_the_cpu_engine", || in_a_process_of_its_own("cpu"))]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("memory_stays_flat_on_the_adapter", || in_a_process_of_its_own("adapter"))]
}

fn in_a_process_of_its_own(device: &str) -> Outcome {
    let output = Command::new(std::env::current_exe()?).env("GROKSCOPE_SOAK", device).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    print!("{told}");
    require!(output.status.success(), "{device}: {told}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn number(name: &str, otherwise: u64) -> Result<u64, Failed> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text}: expected a number").into()),
        Err(_) => Ok(otherwise),
    }
}

/// kB that this process holds.
fn resident() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// What the process does that the tests start.
pub fn child(device: &str) -> Outcome {
    trainers(device)?;
    training(device)
}

/// Slack for what an allocator keeps to itself, in kB.
const SLACK: u64 = 6 << 10;

/// Trainers made and dropped: the last ones leave no more behind than the first ones did.
fn trainers(device: &str) -> Outcome {
    // Pipelines are made on several threads, whose allocators have grown to their size after some ten trainers.
    let count = number("GROKSCOPE_TRAINERS", 36)?;
    let (shape, program) = (shape(29, 32, 4, 64), composed::program());
    let update: Update = preset("default")?.update(20);
    let (mut host, mut on_device) = (Vec::new(), Vec::new());
    for k in 0..count {
        let layout = layout(shape, &[500]);
        let mut engine = match device {
            "cpu" => Engine::on_cpu(&program, layout, 2)?,
            _ => pollster::block_on(Engine::on_gpu(gpu()?, &program, layout))?,
        };
        engine.write_state(0, &State::fresh(grokscope::model::initial_weights("paper", k, &shape)))?;
        pollster::block_on(engine.steps(&[vec![update; 4]]))?;
        pollster::block_on(engine.evaluate())?;
        drop(engine);
        if device != "cpu" {
            let gpu = gpu()?;
            gpu.wait_for(None)?;
            let report =
                gpu.device.generate_allocator_report().ok_or("the device does not say what it has allocated")?;
            on_device.push(report.total_allocated_bytes);
        }
        host.push(resident()?);
    }
    let (early, last) = (host[host.len() / 3], host[host.len() - 1]);
    println!("{device}: {count} trainers: {early} kB after a third of them, {last} kB at the end");
    require!(last <= early + SLACK, "{} kB more after {count} trainers than after a third: {host:?}", last - early);
    if let (Some(early), Some(last)) = (on_device.get(on_device.len() / 3), on_device.last()) {
        println!("{device}: {early} bytes on the device after a third of them, {last} at the end");
        require!(last <= early, "device memory grows: {on_device:?}");
    }
    Ok(())
}

/// Times that new rows of metrics must have been seen, before memory is looked at and in all.
const WARM_UP: u64 = 3;
const EVALUATIONS: u64 = 12;
/// Seconds beyond those asked for, after which training that has not come so far stands still.
const PATIENCE: u64 = 600;

static STOP: AtomicBool = AtomicBool::new(false);

/// A run that trains until it is told to stop, with evaluations and checkpoints.
fn training(device: &str) -> Outcome {
    let seconds = number("GROKSCOPE_SOAK_SECONDS", 6)?;
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    let mut draft = Draft::from_preset("demo")?;
    // A checkpoint now and then: every one of them stays on disk.
    for (field, value) in [("p", "29"), ("steps", "4000000000"), ("eval_every", "50"), ("checkpoint_every", "20000")] {
        draft.set(field, value)?;
    }
    for (field, value) in [("stop_after_cleanup", "false"), ("stop_at_test_loss", "0")] {
        draft.set(field, value)?;
    }
    let plan = draft.finish()?;
    let rows = run.join("metrics.jsonl");
    let device_name = if device == "cpu" { "cpu".into() } else { crate::support::wanted_adapter() };
    let trainer = std::thread::spawn(move || {
        let style = Style::Quiet;
        let options = Options {
            device: device_name,
            threads: 2,
            style,
            at_once: AtOnce::Fitting,
            page: true,
            tensorboard: false,
            stop: &STOP,
            kernels: KernelChoice::Auto,
            choose: &devices::choose_checked,
            open: &devices::open_engine,
        };
        session::train(&plan, &run, &options).map(|ended| ended.outcome)
    });
    // By what was trained, not by the clock alone: on a busy machine the first steps, which compile, take seconds.
    let (began, mut held) = (Instant::now(), Vec::new());
    let (mut length, mut evaluations) = (0, 0);
    let goes_on = |evaluations: u64| match began.elapsed().as_secs() {
        late if late >= seconds + PATIENCE => false,
        now => now < seconds || evaluations < EVALUATIONS,
    };
    while goes_on(evaluations) && !trainer.is_finished() {
        std::thread::sleep(Duration::from_millis(200));
        let now = std::fs::metadata(&rows).map_or(0, |file| file.len());
        evaluations += u64::from(now > length);
        length = now;
        if evaluations >= WARM_UP {
            held.push(resident()?);
        }
    }
    STOP.store(true, Ordering::SeqCst);
    let outcome = trainer.join().map_err(|_| "training panicked")??;
    require!(matches!(outcome, End::Interrupted { .. }), "training ended by itself: {outcome:?}");
    require!(evaluations >= EVALUATIONS, "{evaluations} evaluations in {} s", began.elapsed().as_secs());
    let quarter = |k: usize| held[k * held.len() / 4..(k + 1) * held.len() / 4].iter().max().copied().unwrap_or(0);
    let (early, last) = (quarter(1), quarter(3));
    let seconds = began.elapsed().as_secs();
    println!(
        "{device}: {seconds} s of training ({outcome:?}): {early} kB in the second quarter, {last} kB in the last"
    );
    // A row of metrics is kept for each evaluation, some hundred bytes.
    require!(last <= early + SLACK + held.len() as u64 / 8, "memory grows: {early} kB, then {last} kB");
    Ok(())
}
