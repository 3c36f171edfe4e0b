//! What reaches the Vulkan driver, and what a driver can do to the program: a layer between them (`tests/layers/layer.c`) counts, times,
//! refuses and swallows.

use crate::runs::same;
use crate::support::{self, Outcome, require, test, text, wanted_adapter};
use libtest_mimic::{Failed, Trial};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("a_training_step_is_at_most_twenty_dispatches", dispatches),
        test("a_graphics_card_gets_long_dispatches_in_parts", in_parts),
        test("memory_that_runs_out_anywhere_halves_the_wave", every_allocation_fails),
        test("an_ensemble_that_is_too_large_for_the_device_is_halved", too_large),
        test("whatever_memory_there_is_as_many_models_are_trained_as_fit", every_limit),
        test("one_model_that_is_too_large_for_the_device_is_an_error", too_large_alone),
        test("a_sweep_halves_its_waves_where_memory_runs_out", of_a_sweep),
        test("a_device_that_hangs_ends_with_code_75", hangs),
        test("a_submission_is_waited_for_only_when_others_run", overlap),
        test("one_thread_of_llvmpipe_and_two_make_the_same_bytes", threads),
        test("p_401_trains_within_2_gb", p_401),
    ]
}

/// A small run that is evaluated and kept now and then, and one that is not.
const OFTEN: [&str; 6] = ["--p", "23", "--eval-every", "20", "--checkpoint-every", "20"];
const RARELY: [&str; 6] = ["--p", "23", "--eval-every", "1000", "--checkpoint-every", "1000"];

/// Models of some MiB each, of which an ensemble needs more than one block of memory.
const LARGE: [&str; 6] = ["--p", "59", "--d-mlp", "256", "--eval-every", "2"];

/// The layer, built into a directory in which runs can be made.
struct Desk(TempDir);

impl Desk {
    /// Builds the layer, and runs the self-check, whose result is kept: what a test counts is training.
    fn new() -> Result<Self, Failed> {
        let desk = Self(tempfile::tempdir()?);
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread", "-o"])
            .arg(desk.path("liblayer.so"))
            .arg("tests/layers/layer.c")
            .status()?;
        require!(built.success(), "the layer cannot be built: is libvulkan-dev installed?");
        std::fs::copy("tests/layers/layer.json", desk.path("layer.json"))?;
        desk.train("self-check", &["--p", "23", "--steps", "1"], &[])?;
        Ok(desk)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program on the test adapter, under the layer with these variables.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output, Failed> {
        let mut command = support::program();
        command.args(arguments).args(["--device", &wanted_adapter()]).current_dir(self.0.path()).env("NO_COLOR", "1");
        if !variables.is_empty() {
            command.env("VK_LAYER_PATH", self.0.path()).env("VK_INSTANCE_LAYERS", "VK_LAYER_GROKSCOPE_test");
            command.envs(variables.iter().copied());
        }
        Ok(command.output()?)
    }

    /// Trains in a new directory, however it ends.
    fn try_train(&self, out: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output, Failed> {
        self.run(&[&["train", "--preset", "demo", "--out", out], arguments].concat(), variables)
    }

    /// Trains in a new directory and says what the program wrote to standard error.
    fn train(&self, out: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String, Failed> {
        let output = self.try_train(out, arguments, variables)?;
        require!(output.status.success(), "{out} ended with {}: {}", output.status, text(&output.stderr));
        Ok(text(&output.stderr))
    }

    /// What the layer counted of a run.
    fn counts(&self, out: &str, arguments: &[&str]) -> Result<Counts, Failed> {
        let file = self.path(&format!("{out}.counts"));
        self.train(out, arguments, &[("GROKSCOPE_LAYER_COUNTS", support::utf8(&file)?)])?;
        Counts::read(&file)
    }

    /// The most bytes of device memory that an ensemble takes with all models at once, and with fewer.
    fn bytes(&self, ensemble: &[&str], fewer: &str) -> Result<[u64; 2], Failed> {
        let all = self.counts("whole", ensemble)?.bytes;
        let less = self.counts("fewer", &[ensemble, &["--at-once", fewer]].concat())?.bytes;
        require!(less < all, "all models take {all} bytes, and {fewer} at once {less}");
        Ok([all, less])
    }
}

/// What the layer counts.
struct Counts {
    dispatches: u64,
    allocations: u64,
    submissions: u64,
    /// Of device memory, at the moment when most was allocated.
    bytes: u64,
}

impl Counts {
    /// From the file that the layer writes.
    fn read(file: &Path) -> Result<Self, Failed> {
        let text = std::fs::read_to_string(file).map_err(|e| format!("the layer was not loaded: {e}"))?;
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("{name}: {text:?}"))?;
            Ok::<u64, Failed>(line.trim().parse()?)
        };
        Ok(Self {
            dispatches: number("dispatches")?,
            allocations: number("allocations")?,
            submissions: number("submissions")?,
            bytes: number("bytes")?,
        })
    }
}

/// Between runs of 1 step and of 11 lie ten steps; evaluations are the same.
fn dispatches() -> Outcome {
    let desk = Desk::new()?;
    for (kernels, most) in [("wide", 20), ("auto", 43)] {
        let rarely = [&RARELY[..], &["--kernels", kernels, "--steps"]].concat();
        desk.train(&format!("{kernels}-first"), &[&rarely[..], &["1"]].concat(), &[])?;
        let of = |steps| {
            Ok::<u64, Failed>(desk.counts(&format!("{kernels}-{steps}"), &[&rarely[..], &[steps]].concat())?.dispatches)
        };
        let (one, eleven) = (of("1")?, of("11")?);
        let of_ten = eleven.checked_sub(one).ok_or(format!("{one} dispatches, then {eleven}"))?;
        println!("{kernels}: {} dispatches a step", of_ten as f64 / 10.0);
        require!(of_ten > 0 && of_ten % 10 == 0 && of_ten <= 10 * most, "{kernels}: {of_ten} dispatches in ten steps");
    }
    Ok(())
}

/// 32 models have products that are estimated to take more than 0.2 s, so already the first step launches them in parts, each a
/// submission of its own.
fn in_parts() -> Outcome {
    let desk = Desk::new()?;
    let plan = [
        "--p",
        "59",
        "--models",
        "32",
        "--steps",
        "2",
        "--kernels",
        "wide",
        "--eval-every",
        "1000",
        "--checkpoint-every",
        "1000",
    ];
    let trace = desk.path("trace");
    let variables = [("GROKSCOPE_LAYER_GPU", "1"), ("GROKSCOPE_LAYER_TRACE", support::utf8(&trace)?)];
    desk.train("parts", &plan, &variables)?;
    let whole = desk.counts("whole", &plan)?.dispatches;
    same(&desk.path("parts"), &desk.path("whole"))?;
    let text = std::fs::read_to_string(&trace)?;
    let dispatches = |line: &str| line.strip_prefix("submit ")?.split(' ').nth(1)?.parse::<u64>().ok();
    let submissions: Vec<u64> = text.lines().filter_map(dispatches).collect();
    let most = submissions.iter().max();
    println!("{} submissions with at most {most:?} dispatches, {whole} dispatches in whole", submissions.len());
    require!(most == Some(&1), "a submission has {most:?} dispatches");
    require!(submissions.len() as u64 > whole, "{} submissions for {whole} dispatches", submissions.len());
    Ok(())
}

/// Each allocation of a run in turn fails, before training and in it. Models leave on the way, which allocates as well.
fn every_allocation_fails() -> Outcome {
    let desk = Desk::new()?;
    let models = [&LARGE[..], &["--models", "4", "--each", "steps=2,4,6,6"]].concat();
    let Counts { allocations, .. } = desk.counts("whole", &models)?;
    require!(allocations > 3, "{allocations} allocations are too few for this test");
    let mut halved = 0;
    for failing in 1..=allocations {
        let out = format!("failing-{failing}");
        let output = desk.try_train(&out, &models, &[("GROKSCOPE_LAYER_FAIL", &failing.to_string())])?;
        let said = text(&output.stderr);
        require!(output.status.success(), "allocation {failing}: {}: {said}", output.status);
        halved += usize::from(said.contains("with 2 models at once"));
        same(&desk.path("whole"), &desk.path(&out))
            .map_err(|e| format!("allocation {failing}: {}", e.message().unwrap_or_default()))?;
    }
    println!("{allocations} allocations failed, one a run: {halved} runs went on with half as many models at once");
    require!(halved > 0, "no wave was halved");
    Ok(())
}

/// An ensemble on a device that has room for half of it.
fn too_large() -> Outcome {
    let desk = Desk::new()?;
    let ensemble = [&LARGE[..], &["--models", "8", "--steps", "2"]].concat();
    let [_, half] = desk.bytes(&ensemble, "4")?;
    let said = desk.train("halved", &ensemble, &[("GROKSCOPE_LAYER_BYTES", &half.to_string())])?;
    require!(said.contains("going on with 4 models at once"), "{said}");
    same(&desk.path("whole"), &desk.path("halved"))
}

/// Limits of memory from what one model needs to what all do: whichever allocation it is that fails, in whatever call of the driver, training
/// goes on with fewer models.
fn every_limit() -> Outcome {
    let desk = Desk::new()?;
    let models = [&LARGE[..], &["--models", "4", "--steps", "4"]].concat();
    let [whole, one] = desk.bytes(&models, "1")?;
    for part in 0..6 {
        let (out, limit) = (format!("limit-{part}"), one + (whole - one) * part / 6);
        for (name, more) in [("", &[][..]), ("-auto", &["--at-once", "auto"])] {
            let out = format!("{out}{name}");
            desk.train(&out, &[&models[..], more].concat(), &[("GROKSCOPE_LAYER_BYTES", &limit.to_string())])?;
            same(&desk.path("whole"), &desk.path(&out))
                .map_err(|e| format!("{out}: {}", e.message().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// A single model cannot be halved: the error says that memory is missing, and nothing was begun.
fn too_large_alone() -> Outcome {
    let desk = Desk::new()?;
    let output =
        desk.try_train("alone", &[&LARGE[..], &["--steps", "2"]].concat(), &[("GROKSCOPE_LAYER_BYTES", "1000000")])?;
    let said = text(&output.stderr);
    require!(output.status.code() == Some(1) && said.to_lowercase().contains("memory"), "{}: {said}", output.status);
    require!(!desk.path("alone").exists(), "a run was begun");
    Ok(())
}

fn of_a_sweep() -> Outcome {
    let desk = Desk::new()?;
    let plan = "preset = \"demo\"\np = 59\nd_mlp = 256\nsteps = 2\n[grid]\nseed = [0, 1, 2, 3]\n";
    std::fs::write(desk.path("sweep.toml"), plan)?;
    let sweep = |out: &str, at_once: &str, variables: &[(&str, &str)]| -> Result<String, Failed> {
        let output = desk.run(&["sweep", "run", "sweep.toml", "--out", out, "--at-once", at_once], variables)?;
        require!(output.status.success(), "{out} ended with {}: {}", output.status, text(&output.stderr));
        Ok(text(&output.stderr))
    };
    let bytes = |out: &str, at_once: &str| -> Result<u64, Failed> {
        let file = desk.path(&format!("{out}.counts"));
        sweep(out, at_once, &[("GROKSCOPE_LAYER_COUNTS", support::utf8(&file)?)])?;
        Ok(Counts::read(&file)?.bytes)
    };
    let [whole, half, one] = [bytes("4", "4")?, bytes("2", "2")?, bytes("1", "1")?];
    require!(one < half && half < whole, "four models take {whole} bytes, two {half}, one {one}");
    for (out, limit) in [("room-for-two", half), ("room-for-one", one), ("between", (one + half) / 2)] {
        let said = sweep(out, "4", &[("GROKSCOPE_LAYER_BYTES", &limit.to_string())])?;
        require!(said.contains("with 2 models at once"), "{out}: {said}");
        same(&desk.path("4/runs"), &desk.path(&format!("{out}/runs")))?;
    }
    Ok(())
}

/// A device stops doing what it is given, in the middle of training: the program ends although its queue never does, and a resumed run ends with
/// the bytes of an undisturbed one. Half a minute passes until it counts as hanging.
fn hangs() -> Outcome {
    let desk = Desk::new()?;
    let steps = [&OFTEN[..], &["--steps", "60"]].concat();
    let Counts { submissions, .. } = desk.counts("whole", &steps)?;
    let hang = (submissions * 3 / 4).to_string();
    let output = desk.try_train("hung", &steps, &[("GROKSCOPE_LAYER_HANG", &hang)])?;
    let said = text(&output.stderr);
    require!(output.status.code() == Some(75), "{}: {said}", output.status);
    require!(said.contains("hangs: it has finished nothing for 3"), "{said}");
    let output = desk.run(&["train", "--resume", "hung"], &[])?;
    require!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    same(&desk.path("whole"), &desk.path("hung"))
}

/// The program begins to wait for a submission of a stretch only after it has made the next one, so the device has work meanwhile. Prints how
/// long the device had none, which depends on what else the machine does and decides nothing.
fn overlap() -> Outcome {
    let desk = Desk::new()?;
    let file = desk.path("trace");
    let variables = [("GROKSCOPE_LAYER_TRACE", support::utf8(&file)?), ("LP_NUM_THREADS", "1")];
    desk.train("traced", &[&RARELY[..], &["--steps", "400"]].concat(), &variables)?;
    let text = std::fs::read_to_string(&file).map_err(|e| format!("the layer was not loaded: {e}"))?;
    let events: Vec<Event> = text.lines().map(Event::parse).collect::<Result<_, Failed>>()?;
    let of = |name: &str| events.iter().filter(|event| event.name == name).cloned().collect::<Vec<_>>();
    let (submitted, finished) = (of("submit"), of("finish"));
    let position = |name: &str, submission: u64| {
        events.iter().position(|event| event.name == name && event.submission == submission)
    };
    let (mut pairs, mut waited_early, mut gap) = (0, HashSet::new(), 0.0_f64);
    for pair in submitted.windows(2).filter(|pair| pair.iter().all(|one| one.dispatches > 0)) {
        let (this, next) = (&pair[0], &pair[1]);
        pairs += 1;
        let made = position("submit", next.submission);
        if position("wait", this.submission).is_some_and(|waited| Some(waited) < made) {
            waited_early.insert(this.submission);
        }
        if let Some(end) = finished.iter().find(|end| end.submission == this.submission) {
            gap = gap.max(next.seconds - end.seconds);
        }
    }
    println!(
        "{} submissions, {pairs} of which follow another in a stretch; the device was idle between two of these for {:.2} ms at most",
        submitted.len(),
        1e3 * gap
    );
    require!(pairs > 10, "{pairs} pairs of submissions are too few for this test");
    // The first of all is waited for, because it says how long a step takes.
    require!(waited_early.len() <= 1, "waited for {waited_early:?} before the next submissions were made");
    Ok(())
}

/// A line of the layer's trace.
#[derive(Clone)]
struct Event {
    name: String,
    submission: u64,
    dispatches: u64,
    seconds: f64,
}

impl Event {
    fn parse(line: &str) -> Result<Self, Failed> {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, submission, dispatches, seconds] = words[..] else { return Err(format!("{line:?}").into()) };
        Ok(Self {
            name: name.into(),
            submission: submission.parse()?,
            dispatches: dispatches.parse()?,
            seconds: seconds.parse()?,
        })
    }
}

/// Both programs, and the kernels for devices with many cores.
fn threads() -> Outcome {
    let desk = Desk::new()?;
    for how in [["--program", "layered"], ["--program", "composed"], ["--kernels", "wide"]] {
        let name = |threads: &str| format!("{}-{threads}", how[1]);
        for threads in ["1", "2"] {
            let steps = [&OFTEN[..], &how, &["--steps", "20"]].concat();
            desk.train(&name(threads), &steps, &[("LP_NUM_THREADS", threads)])?;
        }
        same(&desk.path(&name("1")), &desk.path(&name("2")))?;
    }
    Ok(())
}

/// The largest modulus of the documentation at the default widths: a step and two evaluations on a device with 2 GB.
fn p_401() -> Outcome {
    let desk = Desk::new()?;
    let run = ["train", "--preset", "default", "--p", "401", "--steps", "1", "--eval-every", "1", "--out", "large"];
    let output = desk.run(&run, &[("GROKSCOPE_LAYER_BYTES", "2000000000")])?;
    require!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    let metrics = std::fs::read_to_string(desk.path("large/metrics.jsonl"))?;
    require!(metrics.lines().count() == 2, "{metrics}");
    Ok(())
}
