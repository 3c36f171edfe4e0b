//! Runs that go on: to the same bytes, from damaged files, with other models, under changed rules, and never two at once.

use crate::runs::{metrics, same, train};
use crate::support::{self, Outcome, grokscope, require, succeed, test, wanted_adapter};
use grokscope::devices::{self, Chosen};
use grokscope::gpu::device::KernelChoice;
use grokscope::program::Program;
use grokscope::program::batch::Layout;
use grokscope::program::engine::Engine;
use grokscope::progress::Style;
use grokscope::run::RunDir;
use grokscope::session::{self, AtOnce, Cause, Options, Stopped};
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub fn tests() -> Vec<Trial> {
    vec![
        test("two_runs_and_a_resumed_run_are_the_same_bytes_on_the_cpu_engine", || resumes("cpu")),
        test("a_run_of_every_method_resumes_to_the_same_bytes", || methods_resume("cpu")),
        test("a_run_from_files_resumes_to_the_same_bytes", resumes_from_files),
        test("damaged_bits_and_torn_rows_are_noticed", damaged_bits),
        test("a_stop_rule_looks_at_the_weights_as_they_are", stops_on_fresh_rows),
        test("an_ensemble_whose_models_ended_apart_goes_on", ended_apart),
        test("a_resumed_copy_leaves_the_first_run_alone", copies),
        test("the_plan_of_a_run_repeats_it_from_its_own_files", own_files),
        test("what_was_changed_holds_for_groups_that_had_not_gone_on", changes_hold),
        test("of_many_who_resume_at_once_one_at_a_time_trains", many_at_once),
        test("a_history_with_a_gap_is_refused", gaps),
        test("a_checkpoint_that_cannot_be_read_is_not_passed_over", unreadable),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("two_runs_and_a_resumed_run_are_the_same_bytes_on_the_adapter", || resumes(&wanted_adapter())),
        test("a_run_of_every_method_resumes_to_the_same_bytes_on_the_adapter", || methods_resume(&wanted_adapter())),
    ]
}

fn resumes(device: &str) -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    train(device, &path("a"), &["--steps", "70"])?;
    train(device, &path("b"), &["--steps", "70"])?;
    same(&path("a"), &path("b"))?;
    // Ended early, off the schedules of evaluations and of checkpoints, and prolonged.
    train(device, &path("c"), &["--steps", "33"])?;
    let c = path("c").display().to_string();
    succeed(&["train", "--quiet", "--device", device, "--resume", &c, "--steps", "70"])?;
    same(&path("a"), &path("c"))?;
    // A newest checkpoint that is damaged, or has lost a file, is left for the one before.
    for damage in ["model.safetensors", "state.json"] {
        let d = path(damage);
        train(device, &d, &["--steps", "65"])?;
        std::fs::write(d.join("checkpoints/step-000065").join(damage), b"damaged")?;
        succeed(&["train", "--quiet", "--device", device, "--resume", &d.display().to_string(), "--steps", "70"])?;
        same(&path("a"), &d)?;
    }
    // A finished run has nothing left to do, and stays as it is.
    succeed(&["train", "--quiet", "--resume", &path("a").display().to_string()])?;
    same(&path("a"), &path("b"))
}

/// What a method carries from step to step is in its checkpoints.
fn methods_resume(device: &str) -> Outcome {
    let methods: [&[&str]; 7] = [
        &["--optimizer", "adam", "--lr", "5e-3"],
        &["--optimizer", "sgd", "--set", "nesterov=true", "--lr", "0.1"],
        &["--optimizer", "muon", "--lr", "5e-3"],
        &["--grokfast", "ema", "--lr", "5e-3"],
        &["--grokfast", "ma", "--set", "grokfast_window=7", "--lr", "5e-3"],
        &["--set", "orthogonal_grad=true", "--loss", "stablemax", "--lr", "5e-3"],
        &["--optimizer", "muon", "--grokfast", "ema", "--set", "orthogonal_grad=true", "--lr", "5e-3"],
    ];
    for method in methods {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let decay = ["--weight-decay", "1e-3"];
        train(device, &path("whole"), &[&["--steps", "45"], &decay[..], method].concat())?;
        train(device, &path("parts"), &[&["--steps", "33"], &decay[..], method].concat())?;
        let parts = path("parts").display().to_string();
        succeed(&["train", "--quiet", "--device", device, "--resume", &parts, "--steps", "45"])?;
        same(&path("whole"), &path("parts"))?;
        let first = metrics(&path("whole"))?.first().ok_or("no rows")?.train_loss;
        let last = metrics(&path("whole"))?.last().ok_or("no rows")?.train_loss;
        // Guessing costs ln(13), 0.95 of what the first weights do.
        require!(last < 0.93 * first, "{method:?}: the train loss goes from {first} to {last}");
    }
    Ok(())
}

fn ended_apart() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    // The loss at which the first of two seeds stops, and the other goes on.
    train("cpu", &path("probe"), &["--steps", "60", "--models", "2"])?;
    let losses = |k: usize| -> Result<Vec<(u64, f64)>, Failed> {
        let rows = metrics(&path("probe").join(format!("model-{k}")))?;
        Ok(rows.iter().map(|row| (row.step, row.test_loss.unwrap_or(f64::INFINITY))).collect())
    };
    let pairs = losses(0)?.into_iter().zip(losses(1)?).skip(1);
    let (_, between) =
        pairs.map(|(a, b)| (a.0, (a.1 + b.1) / 2.0)).min_by(|a, b| a.1.total_cmp(&b.1)).ok_or("no rows")?;
    let stop = between.to_string();
    train("cpu", &path("apart"), &["--steps", "60", "--models", "2", "--stop-at-test-loss", &stop])?;
    let steps = |name: &str, k: usize| -> Result<u64, Failed> {
        let summary = RunDir::open(&path(name).join(format!("model-{k}")))?.summary()?;
        Ok(summary.ok_or("no summary")?.steps)
    };
    require!(steps("apart", 0)? != steps("apart", 1)?, "both models ended at step {}", steps("apart", 0)?);
    let apart = path("apart").display().to_string();
    succeed(&["train", "--quiet", "--device", "cpu", "--resume", &apart, "--stop-at-test-loss", "0", "--steps", "70"])?;
    train("cpu", &path("whole"), &["--steps", "70", "--models", "2", "--stop-at-test-loss", "0"])?;
    same(&path("apart"), &path("whole"))
}

/// Weights (of a run `first`) and a split, as files for --init and --split.
fn made_elsewhere(directory: &Path) -> Result<(String, String), Failed> {
    let (first, split) = (directory.join("first"), directory.join("split.csv"));
    train("cpu", &first, &["--steps", "20", "--seed", "3"])?;
    std::fs::write(&split, crate::support::pairs(13, 60, 1).to_csv())?;
    Ok((first.join("model.safetensors").display().to_string(), split.display().to_string()))
}

fn resumes_from_files() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let (init, split) = made_elsewhere(directory.path())?;
    let from_files = ["--init", &init[..], "--split", &split];
    train("cpu", &path("whole"), &[&from_files[..], &["--steps", "70"]].concat())?;
    train("cpu", &path("run"), &[&from_files[..], &["--steps", "33"]].concat())?;
    for steps in ["47", "70"] {
        succeed(&["train", "--quiet", "--device", "cpu", "--resume", &text("run"), "--steps", steps])?;
    }
    same(&path("run"), &path("whole"))?;
    // The run's own split, not a file of that name where the program happens to be.
    std::fs::remove_file(path("run").join("split.csv"))?;
    std::fs::write(path("split.csv"), crate::support::pairs(13, 60, 2).to_csv())?;
    let mut command = support::program();
    command.args(["train", "--quiet", "--device", "cpu", "--steps", "80", "--resume", "run"]);
    let output = command.current_dir(directory.path()).output()?;
    let told = support::text(&output.stderr);
    require!(output.status.code() == Some(1) && told.contains("run/split.csv"), "{:?}: {told}", output.status);
    Ok(())
}

fn damaged_bits() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    train("cpu", &path("whole"), &["--steps", "70"])?;
    for name in ["model.safetensors", "optimizer.safetensors"] {
        let run = path(&format!("run-{name}"));
        train("cpu", &run, &["--steps", "60"])?;
        // The lowest bit of the last number: a file that reads well, and is another.
        let file = run.join("checkpoints/step-000060").join(name);
        let mut bytes = std::fs::read(&file)?;
        let last = bytes.len() - 4;
        bytes[last] ^= 1;
        std::fs::write(&file, bytes)?;
        // A row that a crash tore off, as the last write of the run.
        let metrics = run.join("metrics.jsonl");
        let text = std::fs::read_to_string(&metrics)?;
        std::fs::write(&metrics, &text[..text.len() - 20])?;
        succeed(&["train", "--quiet", "--device", "cpu", "--resume", &run.display().to_string(), "--steps", "70"])?;
        same(&run, &path("whole"))?;
    }
    Ok(())
}

fn stops_on_fresh_rows() -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    train("cpu", &run, &["--steps", "33"])?;
    // Back to before the last row: as if it had been stopped at step 33, off the schedule of evaluations.
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl"))?;
    let rows: Vec<&str> = metrics.lines().filter(|line| !line.contains("\"step\":33")).collect();
    std::fs::write(run.join("metrics.jsonl"), rows.join("\n") + "\n")?;
    std::fs::remove_file(run.join("summary.json"))?;
    let text = run.display().to_string();
    succeed(&[
        "train",
        "--quiet",
        "--device",
        "cpu",
        "--resume",
        &text,
        "--steps",
        "90",
        "--stop-at-test-loss",
        "100",
    ])?;
    let summary = RunDir::open(&run)?.summary()?.ok_or("no summary")?;
    require!(summary.steps == 40, "stopped at {}, whose row is that of the next evaluation, 40", summary.steps);
    Ok(())
}

fn copies() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    train("cpu", &path("a"), &["--steps", "33"])?;
    train("cpu", &path("untouched"), &["--steps", "33"])?;
    std::fs::create_dir(path("b.tmp"))?;
    std::fs::write(path("b.tmp").join("mine"), "")?;
    train("cpu", &path("whole"), &["--steps", "70"])?;
    succeed(&["train", "--quiet", "--device", "cpu", "--resume", &text("a"), "--out", &text("b"), "--steps", "70"])?;
    same(&path("a"), &path("untouched"))?;
    same(&path("b"), &path("whole"))?;
    require!(path("b.tmp").join("mine").exists(), "a directory beside the copy is gone");
    Ok(())
}

fn own_files() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let (init, split) = made_elsewhere(directory.path())?;
    train("cpu", &path("second"), &["--steps", "20", "--init", &init, "--split", &split])?;
    std::fs::remove_file(path("split.csv"))?;
    std::fs::remove_dir_all(path("first"))?;
    let plan = text("second/plan.toml");
    succeed(&["train", "--quiet", "--device", "cpu", "--plan", &plan, "--out", &text("third")])?;
    same(&path("second"), &path("third"))
}

/// Two models that ended at different steps, and how to go on with them.
fn apart(run: &Path) -> Outcome {
    for (k, steps) in ["20", "40"].iter().enumerate() {
        train("cpu", &run.join(format!("model-{k}")), &["--steps", steps, "--seed", &k.to_string()])?;
    }
    Ok(())
}

/// Engines that are still to be had.
static ENGINES: AtomicUsize = AtomicUsize::new(1);

fn open_a_few(chosen: &Chosen, program: &Program, layout: Layout, threads: usize) -> anyhow::Result<(Engine, String)> {
    let left = ENGINES.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    anyhow::ensure!(left.is_ok(), "no device is given any more");
    devices::open_engine(chosen, program, layout, threads)
}

/// The second group of an ensemble finds no device; it has the changed plan all the same, and goes on later.
fn changes_hold() -> Outcome {
    static NO_STOP: AtomicBool = AtomicBool::new(false);
    let directory = tempfile::tempdir()?;
    let (run, whole) = (directory.path().join("run"), directory.path().join("whole"));
    apart(&run)?;
    train("cpu", &whole, &["--steps", "70", "--models", "2", "--seed", "0"])?;
    let options = Options {
        device: "cpu".into(),
        threads: 2,
        style: Style::Quiet,
        at_once: AtOnce::Fitting,
        page: true,
        tensorboard: false,
        stop: &NO_STOP,
        kernels: KernelChoice::Auto,
        choose: &devices::choose_checked,
        open: &open_a_few,
    };
    let changes = [("steps".to_string(), "70".to_string())];
    let Err(error) = session::resume(&run, None, &changes, &options) else { return Err("trained on no device".into()) };
    let stopped = error.downcast_ref::<Stopped>().ok_or(format!("not to be gone on with: {error:#}"))?;
    require!(
        stopped.step == 40 && stopped.cause == Cause::Other,
        "{stopped:?}: the model that is left stands at step 40"
    );
    succeed(&["train", "--quiet", "--device", "cpu", "--resume", &run.display().to_string()])?;
    same(&run, &whole)
}

/// Processes that are started together on one directory: each trains alone or says that another does.
fn many_at_once() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (run, whole) = (directory.path().join("run"), directory.path().join("whole"));
    train("cpu", &whole, &["--steps", "70"])?;
    let mut refused = 0;
    for _ in 0..4 {
        train("cpu", &run, &["--steps", "20"])?;
        let mut children = Vec::new();
        for _ in 0..4 {
            let mut command = support::program();
            command.args(["train", "--quiet", "--device", "cpu", "--steps", "70", "--resume"]).arg(&run);
            children.push(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?);
        }
        for child in children {
            let output = child.wait_with_output()?;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let other = output.status.code() == Some(1) && told.contains("another grokscope is training here");
            require!(output.status.success() || other, "{:?}: {told}", output.status);
            refused += usize::from(other);
        }
        same(&run, &whole)?;
        std::fs::remove_dir_all(&run)?;
    }
    require!(refused > 0, "nobody was refused: the processes never met");
    Ok(())
}

/// Refused, with words of the reason.
fn refuses(run: &Path, steps: &str, words: &[&str]) -> Outcome {
    let output =
        grokscope(&["train", "--quiet", "--device", "cpu", "--steps", steps, "--resume", &run.display().to_string()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    require!(output.status.code() == Some(1), "{:?}: {told}", output.status);
    for word in words {
        require!(told.contains(word), "no '{word}' in {told}");
    }
    Ok(())
}

/// Rows or models that are missing, or stand twice.
fn gaps() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (run, models) = (directory.path().join("run"), directory.path().join("models"));
    train("cpu", &run, &["--steps", "40"])?;
    let file = run.join("metrics.jsonl");
    let all = std::fs::read_to_string(&file)?;
    let rows: Vec<&str> = all.split_inclusive('\n').collect();
    for (kept, words) in [
        ([0, 1, 3, 4].as_slice(), ["a row of step 30 where that of step 20", "metrics.jsonl"]),
        (&[0, 1], ["no row of step 20", "a checkpoint of step 40"]),
        (&[], ["no row of step 0", "metrics.jsonl"]),
        (&[0, 1, 1, 2, 3, 4], ["a row of step 10 where that of step 20", "metrics.jsonl"]),
        (&[0, 1, 2, 3, 4, 4], ["a row stands twice", "metrics.jsonl"]),
    ] {
        std::fs::write(&file, kept.iter().map(|&row: &usize| rows[row]).collect::<String>())?;
        refuses(&run, "50", &words)?;
    }
    std::fs::write(&file, &all)?;
    // Clock values are told of before anything is taken away.
    std::fs::write(run.join("timing.jsonl"), "garbage\n")?;
    refuses(&run, "50", &["timing.jsonl:1", "clock values"])?;
    require!(run.join("summary.json").exists(), "what the run had is gone");
    apart(&models)?;
    std::fs::rename(models.join("model-0"), models.join("model-2"))?;
    refuses(&models, "70", &["model-0: has no plan.toml", "model-2"])?;
    std::fs::rename(models.join("model-1"), models.join("model-0"))?;
    refuses(&models, "70", &["model-1: has no plan.toml", "model-2"])
}

/// A newest checkpoint that an error keeps from being read may be whole: it is neither passed over nor removed.
fn unreadable() -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    train("cpu", &run, &["--steps", "40"])?;
    let checkpoint = run.join("checkpoints/step-000040");
    let (file, aside): (PathBuf, PathBuf) = (checkpoint.join("optimizer.safetensors"), run.join("aside"));
    std::fs::rename(&file, &aside)?;
    std::fs::create_dir(&file)?;
    let why = if cfg!(windows) { "os error 5" } else { "directory" };
    refuses(&run, "50", &["step-000040: may be whole", why, "moved away"])?;
    require!(checkpoint.join("model.safetensors").exists(), "the checkpoint was removed");
    std::fs::remove_dir(&file)?;
    std::fs::rename(&aside, &file)?;
    succeed(&["train", "--quiet", "--device", "cpu", "--steps", "50", "--resume", &run.display().to_string()])
}
