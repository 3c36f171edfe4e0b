//! What training survives of its device: it is destroyed at random moments, or never comes back. `GROKSCOPE_LOSSES=100` makes the long
//! campaign of docs/reliability.md out of the same test.

use crate::faults::times;
use crate::runs::same;
use crate::support::{Outcome, require, test, wanted_adapter};
use grokscope::devices::{self, Chosen};
use grokscope::gpu::device::KernelChoice;
use grokscope::plan::{Draft, Plan};
use grokscope::program::Program;
use grokscope::program::batch::Layout;
use grokscope::program::engine::Engine;
use grokscope::progress::Style;
use grokscope::random::Philox;
use grokscope::session::many::{End as Ended, Job, Left, Watch};
use grokscope::session::{self, AtOnce, Options, Stopped};
use grokscope::train::Outcome as End;
use libtest_mimic::{Failed, Trial};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("training_goes_on_when_the_device_goes_away", losses),
        test("a_sweep_goes_on_when_the_device_goes_away", of_a_sweep),
        test("a_device_that_never_comes_back_ends_with_code_75", never_back),
    ]
}

/// Devices that are still to be destroyed, and how many engines were opened.
static LOSSES: AtomicUsize = AtomicUsize::new(0);
static OPENED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicBool = AtomicBool::new(false);
static NO_STOP: AtomicBool = AtomicBool::new(false);
/// The tests of devices share what stands above.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Opens an engine as the program does; its device is destroyed soon after, by another thread, while there are losses left.
fn open_and_destroy(
    chosen: &Chosen,
    program: &Program,
    layout: Layout,
    threads: usize,
) -> anyhow::Result<(Engine, String)> {
    anyhow::ensure!(!REFUSED.load(Ordering::SeqCst), "no device is given any more");
    let (engine, name) = devices::open_engine(chosen, program, layout, threads)?;
    let opened = OPENED.fetch_add(1, Ordering::SeqCst);
    let left = LOSSES.load(Ordering::SeqCst);
    if left > 0 {
        LOSSES.store(left - 1, Ordering::SeqCst);
        let Engine::Gpu(machine) = &engine else { anyhow::bail!("this test needs an adapter") };
        let device = machine.gpu.device.clone();
        let moment = Philox::new(3).block([opened as u32, 0, 0, 0])[0] % 400_000;
        std::thread::spawn(move || {
            sleep(Duration::from_micros(moment.into()));
            device.destroy();
        });
    }
    Ok((engine, name))
}

fn options() -> Options {
    Options {
        device: wanted_adapter(),
        threads: 1,
        style: Style::Quiet,
        at_once: AtOnce::Fitting,
        page: true,
        tensorboard: false,
        stop: &NO_STOP,
        kernels: KernelChoice::Auto,
        choose: &devices::choose_checked,
        open: &open_and_destroy,
    }
}

fn plan() -> Result<Plan, Failed> {
    let mut draft = Draft::from_preset("demo")?;
    for (field, value) in [("p", "13"), ("d_model", "16"), ("d_mlp", "24"), ("steps", "600"), ("eval_every", "20")] {
        draft.set(field, value)?;
    }
    draft.set("checkpoint_every", "20")?;
    draft.set("stop_after_cleanup", "false")?;
    Ok(draft.finish()?)
}

/// Devices are destroyed at random moments: runs and ensembles end with the bytes of one that nothing befell.
fn losses() -> Outcome {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let plans = [plan()?, Plan { models: 2, ..plan()? }];
    LOSSES.store(0, Ordering::SeqCst);
    for (plan, name) in plans.iter().zip(["one", "two"]) {
        session::train(plan, &path(name), &options())?;
    }
    let wanted = times("GROKSCOPE_LOSSES", 6)?;
    let (mut noticed, mut runs, mut by_hand) = (0, 0, 0);
    while noticed < wanted {
        let (run, models) = (path(&format!("run-{runs}")), runs % 2);
        runs += 1;
        OPENED.store(0, Ordering::SeqCst);
        LOSSES.store((wanted - noticed).min(10), Ordering::SeqCst);
        let mut ended = session::train(&plans[models], &run, &options());
        let mut started = 1;
        while let Err(error) = ended {
            // Several in a row without a checkpoint in between: it says so, and can be resumed.
            require!(error.is::<Stopped>(), "not to be gone on with: {error:#}");
            started += 1;
            ended = session::resume(&run, None, &[], &options());
        }
        require!(ended?.outcome == End::Done, "ended early");
        // An engine was opened for each start, and for each loss that ended neither the run nor a start.
        by_hand += started - 1;
        noticed += OPENED.load(Ordering::SeqCst) - 1;
        same(&path(["one", "two"][models]), &run)?;
        // A run may be faster than the moment at which its device was to go.
        require!(runs < 20 * wanted, "{noticed} losses were noticed in {runs} runs");
    }
    println!(
        "{noticed} losses of a device in {runs} runs, which were resumed {by_hand} times by hand and ended with the bytes of an undisturbed one"
    );
    Ok(())
}

/// The device goes, and no other is given: the error says how to go on, and a device later does.
fn never_back() -> Outcome {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    LOSSES.store(0, Ordering::SeqCst);
    REFUSED.store(true, Ordering::SeqCst);
    let Err(error) = session::train(&plan()?, &run, &options()) else { return Err("trains on no device".into()) };
    require!(!error.is::<Stopped>() && !run.exists(), "without a device something began: {error:#}");
    REFUSED.store(false, Ordering::SeqCst);
    LOSSES.store(1, Ordering::SeqCst);
    let trainer = std::thread::spawn({
        let (run, plan) = (run.clone(), Plan { steps: 1_000_000, ..plan()? });
        move || session::train(&plan, &run, &options()).map(|_| ())
    });
    while LOSSES.load(Ordering::SeqCst) > 0 && !trainer.is_finished() {
        sleep(Duration::from_millis(1));
    }
    REFUSED.store(true, Ordering::SeqCst);
    let ended = trainer.join().map_err(|_| "training panicked")?;
    REFUSED.store(false, Ordering::SeqCst);
    let Err(error) = ended else { return Err("trained to the end without a device".into()) };
    let stopped = error.downcast_ref::<Stopped>().ok_or(format!("not to be gone on with: {error:#}"))?;
    require!(stopped.directory == run, "{stopped}");
    let changes = [("steps".to_string(), (stopped.step + 20).to_string())];
    let ended = session::resume(&run, None, &changes, &options())?;
    require!(ended.outcome == End::Done, "{:?}", ended.outcome);
    Ok(())
}

/// Counts what it is told.
#[derive(Default)]
struct Count {
    updates: u64,
    ends: Vec<usize>,
}

impl Watch for Count {
    fn stepped(&mut self, updates: u64) {
        self.updates += updates;
    }
    fn ended(&mut self, number: usize, _: &Ended, _: bool) {
        self.ends.push(number);
    }
}

/// Runs of two shapes and of two lengths, three at once; each end is told once, however often the device goes.
fn of_a_sweep() -> Outcome {
    let _alone = ONE_AT_A_TIME.lock();
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let jobs = |out: &str| -> Result<Vec<Job>, Failed> {
        let job = |seed: u64| -> Result<Job, Failed> {
            let d_mlp = if seed < 4 { 24 } else { 32 };
            let plan = Plan { seed, d_mlp, steps: 200 + 100 * (seed % 2), ..plan()? };
            Ok(Job { directory: path(out).join(seed.to_string()), plan })
        };
        (0..6).map(job).collect()
    };
    let options = Options { at_once: AtOnce::Most(3), page: false, ..options() };
    let sweep = |out: &str, losses: usize| -> Result<Count, Failed> {
        let (jobs, mut count) = (jobs(out)?, Count::default());
        OPENED.store(0, Ordering::SeqCst);
        LOSSES.store(losses, Ordering::SeqCst);
        for _ in 0..10 {
            let left = Left::of(&jobs, &options)?;
            match left.train(&jobs, &path(out), &options, &mut count) {
                Err(error) => {
                    require!(error.is::<Stopped>(), "not to be gone on with: {error:#}");
                }
                Ok(progress) => {
                    require!(!progress.interrupted && progress.left_out.is_empty(), "{:?}", progress.left_out);
                    return Ok(count);
                }
            }
        }
        Err("not at its end after ten calls".into())
    };
    let whole = sweep("whole", 0)?;
    let opened = OPENED.load(Ordering::SeqCst);
    require!(opened == 3, "three waves, {opened} engines");
    require!(whole.updates == 3 * 200 + 3 * 300, "{} updates", whole.updates);
    let lost = sweep("lost", 6)?;
    let reopened = OPENED.load(Ordering::SeqCst);
    require!(reopened > opened, "no device went away");
    for Count { mut ends, .. } in [whole, lost] {
        ends.sort_unstable();
        require!(ends == [0, 1, 2, 3, 4, 5], "told: {ends:?}");
    }
    same(&path("whole"), &path("lost"))
}
