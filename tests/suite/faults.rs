//! What a run survives: a kill at any moment, a disk that fails at any call, a directory that is taken away.
//!
//! Nothing here stands in for the real thing: the program is killed by SIGKILL, its calls fail inside the C library (`tests/faults/faults.c`
//! is preloaded), and file systems are mounted. `GROKSCOPE_KILLS=1000` turns the kill test into the long campaign of docs/reliability.md;
//! `GROKSCOPE_KILL_STEPS=60` shortens its runs for emulators.

use crate::runs::{files, same};
use crate::support::{self, Outcome, require, test, unix_test};
use crate::sweeps::{BASE, Desk};
use grokscope::random::Philox;
use grokscope::run::RunDir;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_run_survives_kills_at_random_moments", kills),
        unix_test("a_run_killed_at_any_call_goes_on", killed_at_calls),
        unix_test("a_resume_that_fails_or_is_killed_at_any_call_goes_on", resume_faults),
        unix_test("an_ensemble_killed_while_it_begins_is_not_taken_for_a_smaller_one", killed_beginning),
        unix_test("a_disk_that_fails_at_any_call_leaves_a_whole_run", disk_faults),
        unix_test("an_interrupted_call_is_made_again", interrupted_calls),
        unix_test("a_full_file_system_is_an_error_and_loses_nothing", full_file_system),
        unix_test("a_sweep_on_a_full_file_system_can_go_on", full_under_a_sweep),
        unix_test("a_read_only_file_system_is_an_error", read_only),
        // Windows keeps files that are open.
        unix_test("a_directory_that_is_taken_away_is_an_error", taken_away),
        #[cfg(unix)]
        test("files_have_ordinary_permissions", permissions),
    ]
}

/// A number from the environment, for the long form of a test.
pub fn times(name: &str, otherwise: usize) -> Result<usize, Failed> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text}: expected a number").into()),
        Err(_) => Ok(otherwise),
    }
}

/// A run of half a second with a checkpoint every five steps.
const KILLED: &[&str] = &[
    "train",
    "--preset",
    "demo",
    "--p",
    "13",
    "--d-model",
    "16",
    "--d-mlp",
    "24",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--quiet",
    "--eval-every",
    "5",
    "--checkpoint-every",
    "5",
    "--steps",
];
const INTERVAL: u64 = 5;

fn program() -> Command {
    let mut command = support::program();
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into()
}

fn kills() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let whole = path("whole");
    let (began, steps) = (Instant::now(), times("GROKSCOPE_KILL_STEPS", 400)?.to_string());
    let output = program().args(KILLED).arg(&steps).arg("--out").arg(&whole).output()?;
    require!(output.status.success(), "{}", text(&output));
    // Emulators take longer to start and to train.
    let whole_us = began.elapsed().as_micros() as u64;
    let (wanted, draws) = (times("GROKSCOPE_KILLS", 15)?, Philox::new(11));
    let (mut killed, mut runs, mut early) = (0, 0, 0);
    while killed < wanted {
        let run = path(&format!("run-{runs}"));
        runs += 1;
        loop {
            let begun = run.join("plan.toml").exists() && !run.join(".begun").exists();
            let mut command = program();
            match begun {
                true => command.args(["train", "--quiet", "--device", "cpu", "--threads", "1", "--resume"]).arg(&run),
                false => command.args(KILLED).arg(&steps).arg("--out").arg(&run),
            };
            let mut child = command.spawn()?;
            let draw = draws.block([killed as u32, runs as u32, 0, 0])[0];
            // Some of them while the run begins.
            let most = if draw.is_multiple_of(4) { whole_us / 20 } else { whole_us };
            sleep(Duration::from_micros(u64::from(draw / 4) % most));
            if child.try_wait()?.is_some() {
                let output = child.wait_with_output()?;
                require!(output.status.success(), "after {killed} kills: {}", text(&output));
                break;
            }
            child.kill()?;
            child.wait()?;
            killed += 1;
            if !run.join("plan.toml").exists() || run.join(".begun").exists() {
                early += 1;
                continue;
            }
            let state = RunDir::open(&run)?;
            let newest = state.newest_state()?.step;
            let last = state.checkpoints()?.last().copied();
            require!(last == Some(newest), "kill {killed}: the checkpoint of step {last:?} is not whole");
            let rows = state.metrics()?;
            let reached = rows.last().map_or(0, |row| row.step);
            require!(
                reached <= newest + INTERVAL,
                "kill {killed}: evaluated at step {reached}, and the newest checkpoint is of step {newest}"
            );
            let expected: Vec<u64> = (0..=reached).step_by(INTERVAL as usize).collect();
            let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
            require!(steps == expected || (rows.is_empty() && newest == 0), "kill {killed}: rows of steps {steps:?}");
        }
        same(&whole, &run)?;
        std::fs::remove_dir_all(&run)?;
    }
    println!(
        "{killed} kills of {runs} runs, {early} of them before the first checkpoint: every run ended with the bytes of an uninterrupted one"
    );
    Ok(())
}

/// Goes on with what is left of a run, as its user would: begins it again where it never began.
fn go_on(run: &Path, fresh: impl Fn(&Path) -> Command) -> Result<bool, Failed> {
    let begun = run.join("plan.toml").exists() || run.join("model-0/plan.toml").exists();
    let begun = begun && !run.join(".begun").exists();
    for never in [run, &run.join("model-0")].into_iter().filter(|path| !begun && path.exists()) {
        let output = resume(never)?;
        require!(output.status.code() == Some(1), "what never began goes on: {}", text(&output));
    }
    let output = if begun { resume(run)? } else { fresh(run).output()? };
    require!(output.status.success(), "goes on with {}", text(&output));
    Ok(begun)
}

/// Killed at each call that touches its files, and half-way through each write, a run goes on to the same bytes.
fn killed_at_calls() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (faults, whole) = (Faults::new(directory.path())?, directory.path().join("whole"));
    require!(tiny(&whole).output()?.status.success(), "the run does not train");
    let calls = sweep(&faults, &whole, tiny, usize::MAX)?;
    require!(calls > 100, "only {calls} calls were seen: the library is not in the way");
    println!("killed at each of {calls} calls, a run goes on to the same bytes");
    Ok(())
}

/// An ensemble that is killed while it begins is begun again, and never goes on with fewer models.
fn killed_beginning() -> Outcome {
    let directory = tempfile::tempdir()?;
    let faults = Faults::new(directory.path())?;
    let arguments = |out: &Path| {
        let mut command = program();
        command.args(["train", "--preset", "demo", "--p", "7", "--d-model", "8", "--d-mlp", "8", "--device", "cpu"]);
        command.args(["--threads", "1", "--quiet", "--steps", "2", "--models", "3", "--out"]).arg(out);
        command
    };
    let whole = directory.path().join("whole");
    require!(arguments(&whole).output()?.status.success(), "the ensemble does not train");
    // Some calls more than the beginning has.
    let calls = sweep(&faults, &whole, arguments, 5)?;
    require!(calls > 60, "the beginning had {calls} calls");
    Ok(())
}

/// An ensemble whose models ended apart, and what it is when it has gone on to step 9.
fn ended_apart(directory: &Path) -> Result<(PathBuf, PathBuf), Failed> {
    let (start, whole) = (directory.join("start"), directory.join("whole"));
    let member = |of: &Path, k: usize, steps: &str| {
        let mut command = trained_to(steps, &of.join(format!("model-{k}")));
        command.args(["--seed", &k.to_string()]);
        command
    };
    for (of, steps) in [(&start, ["3", "6"]), (&whole, ["9", "9"])] {
        for (k, steps) in steps.into_iter().enumerate() {
            let output = member(of, k, steps).output()?;
            require!(output.status.success(), "{}", text(&output));
        }
    }
    Ok((start, whole))
}

/// Every call of a resume that changes the plan fails, and is the last one: what the program says leads to the bytes of a run that nothing
/// befell.
fn resume_faults() -> Outcome {
    let directory = tempfile::tempdir()?;
    let faults = Faults::new(directory.path())?;
    let (start, whole) = ended_apart(directory.path())?;
    let (run, mut codes) = (directory.path().join("run"), [0; 2]);
    for kill in [false, true] {
        for at in 1.. {
            copy(&start, &run)?;
            let mut command = longer(&run);
            if kill {
                command.env("FAULT_KILL", "1").env("FAULT_SHORT", "1");
            }
            let output = faults.fail(&mut command, at, libc_errno::EIO, &run).output()?;
            let place = format!("call {at}, killed {kill}: {:?}: {}", output.status, text(&output));
            if output.status.success() {
                require!(at > 80, "{place}: only so many calls were seen");
                std::fs::remove_dir_all(&run)?;
                break;
            }
            let again = match output.status.code() {
                // As the program says.
                Some(75) => resume(&run)?,
                Some(1) => longer(&run).output()?,
                None if kill => longer(&run).output()?,
                _ => return Err(place.into()),
            };
            codes[usize::from(output.status.code() == Some(75))] += 1;
            require!(again.status.success(), "{place}: and then {}", text(&again));
            same(&whole, &run).map_err(|e| Failed::from(format!("{place}: {}", e.message().unwrap_or("?"))))?;
            std::fs::remove_dir_all(&run)?;
        }
    }
    require!(codes[1] > 40, "{} calls ended with code 75, {} otherwise", codes[1], codes[0]);
    Ok(())
}

fn longer(run: &Path) -> Command {
    let mut command = program();
    command.args(["train", "--quiet", "--device", "cpu", "--threads", "1", "--steps", "9", "--resume"]).arg(run);
    command
}

fn copy(from: &Path, to: &Path) -> Outcome {
    let output = Command::new("cp").arg("-r").arg(from).arg(to).output()?;
    require!(output.status.success(), "cp: {}", text(&output));
    Ok(())
}

/// Kills a run at its first call, the second, and so on, until it has begun `most` times; how many that were.
fn sweep(faults: &Faults, whole: &Path, fresh: impl Fn(&Path) -> Command, most: usize) -> Result<u32, Failed> {
    let mut begun = 0;
    for at in 1.. {
        let out = whole.with_file_name(format!("run-{at}"));
        let mut command = fresh(&out);
        command.env("FAULT_KILL", "1").env("FAULT_SHORT", "1");
        let output = faults.fail(&mut command, at, libc_errno::EIO, &out).output()?;
        if output.status.success() || begun >= most {
            return Ok(at);
        }
        let place = |e: Failed| Failed::from(format!("call {at}: {}", e.message().unwrap_or("?")));
        require!(output.status.code().is_none(), "call {at}: not killed: {}", text(&output));
        begun += usize::from(go_on(&out, &fresh).map_err(place)?);
        same(whole, &out).map_err(place)?;
        std::fs::remove_dir_all(&out)?;
    }
    unreachable!("calls are countless")
}

/// Numbers of errors as Linux has them.
mod libc_errno {
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const ENOSPC: i32 = 28;
}

/// The library that makes calls fail.
struct Faults {
    library: PathBuf,
    count: PathBuf,
}

impl Faults {
    fn new(directory: &Path) -> Result<Self, Failed> {
        let (library, count) = (directory.join("faults.so"), directory.join("count"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/faults.c");
        let mut compiler = Command::new("cc");
        let output = compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").output()?;
        require!(output.status.success(), "cc: {}", text(&output));
        Ok(Self { library, count })
    }

    /// Makes the `at`-th call under a path fail.
    fn fail<'a>(&self, command: &'a mut Command, at: u32, errno: i32, under: &Path) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.library).env("FAULT_UNDER", under).env("FAULT_COUNT", &self.count);
        command.env("FAULT_AT", at.to_string()).env("FAULT_ERRNO", errno.to_string())
    }

    /// Calls that the last program made.
    fn calls(&self) -> Result<u32, Failed> {
        Ok(std::fs::read_to_string(&self.count)?.trim().parse()?)
    }
}

fn tiny(out: &Path) -> Command {
    trained_to("6", out)
}

fn trained_to(steps: &str, out: &Path) -> Command {
    let mut command = program();
    command.args(["train", "--preset", "demo", "--p", "7", "--d-model", "8", "--n-heads", "2", "--d-mlp", "8"]);
    command.args(["--device", "cpu", "--threads", "1", "--quiet", "--steps", steps, "--eval-every", "2"]);
    command.args(["--checkpoint-every", "2", "--out"]).arg(out);
    command
}

fn resume(run: &Path) -> Result<Output, Failed> {
    Ok(program().args(["train", "--quiet", "--device", "cpu", "--threads", "1", "--resume"]).arg(run).output()?)
}

/// Every call of a run that writes fails in turn.
fn disk_faults() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let (faults, whole) = (Faults::new(directory.path())?, path("whole"));
    require!(faults.fail(&mut tiny(&whole), 0, 0, &whole).output()?.status.success(), "the run does not train");
    let calls = faults.calls()?;
    require!(calls > 100, "only {calls} calls were seen: the library is not in the way");
    let reference = files(&whole)?;
    let mut codes = [0; 2];
    for (errno, says, short) in [
        (libc_errno::ENOSPC, "No space left", "1"),
        (libc_errno::ENOSPC, "No space left", ""),
        (libc_errno::EIO, "Input/output error", ""),
    ] {
        for at in 1..=calls {
            let run = path("run");
            let mut command = tiny(&run);
            if !short.is_empty() {
                command.env("FAULT_SHORT", short);
            }
            let output = faults.fail(&mut command, at, errno, &run).output()?;
            let (code, told) = (output.status.code(), text(&output));
            let place = format!("call {at} with errno {errno}: {code:?}: {told}");
            require!(code == Some(1) || code == Some(75), "{place}");
            codes[usize::from(code == Some(75))] += 1;
            require!(told.contains(says) && told.contains(&run.display().to_string()), "{place}");
            require!(!told.contains("panicked") && told.lines().count() <= 2, "{place}");
            require!((code == Some(75)) == told.contains("go on with  grokscope train --resume"), "{place}");
            // Whatever stands under a final name is whole: it has the bytes of the run that nothing befell, or, in files that grow,
            // their beginning.
            for (name, bytes) in if run.exists() { files(&run)? } else { Default::default() } {
                let hidden = name.ends_with(".tmp") || name.contains(".tmp/") || name.starts_with('.');
                let expected = reference.get(&name);
                let whole = match (&name[..], expected) {
                    _ if hidden => true,
                    ("metrics.jsonl", Some(all)) => all.starts_with(&bytes) && bytes.last().is_none_or(|&b| b == b'\n'),
                    ("timing.jsonl", Some(all)) => all.starts_with(&bytes),
                    // Moments that a later checkpoint makes superfluous.
                    (name, None) => name.ends_with("optimizer.safetensors"),
                    (_, Some(all)) => *all == bytes,
                };
                require!(whole, "{place}: {name} is not whole");
            }
            let begun =
                go_on(&run, tiny).map_err(|e| Failed::from(format!("{place}: {}", e.message().unwrap_or("?"))))?;
            require!(begun || code == Some(1), "{place}: says that it can be resumed");
            same(&whole, &run).map_err(|e| Failed::from(format!("{place}: {}", e.message().unwrap_or("?"))))?;
            std::fs::remove_dir_all(&run)?;
        }
    }
    println!(
        "{calls} calls failed in three ways each: {} runs ended with code 1, {} with 75, and all went on",
        codes[0], codes[1]
    );
    Ok(())
}

fn interrupted_calls() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let (faults, whole, run) = (Faults::new(directory.path())?, path("whole"), path("run"));
    require!(faults.fail(&mut tiny(&whole), 0, 0, &whole).output()?.status.success(), "the run does not train");
    for at in 1..=faults.calls()? {
        let output = faults.fail(&mut tiny(&run), at, libc_errno::EINTR, &run).output()?;
        require!(output.status.success(), "call {at}: {}", text(&output));
        same(&whole, &run)?;
        std::fs::remove_dir_all(&run)?;
    }
    Ok(())
}

/// A file system of its own, unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Result<Self, Failed> {
        std::fs::create_dir_all(at)?;
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output()?;
        require!(
            output.status.success(),
            "mount: {}: this test mounts a tmpfs, which takes root: run it as root, or with `unshare --map-root-user --mount`",
            text(&output).trim()
        );
        Ok(Self(at.into()))
    }

    fn remount(&self, how: &str) -> Outcome {
        let output = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).output()?;
        require!(output.status.success(), "mount: {}", text(&output));
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A tmpfs of each of some sizes fills up while a run trains; with more room the run goes on.
fn full_file_system() -> Outcome {
    let directory = tempfile::tempdir()?;
    let whole = directory.path().join("whole");
    require!(tiny(&whole).output()?.status.success(), "the run does not train");
    let mut stopped = 0;
    for size in ["8k", "24k", "64k", "128k", "192k", "256k", "320k"] {
        let mounted = Mounted::tmpfs(&directory.path().join("mounted"), size)?;
        let run = mounted.0.join("run");
        let output = tiny(&run).output()?;
        let told = text(&output);
        if output.status.success() {
            continue;
        }
        stopped += 1;
        require!(matches!(output.status.code(), Some(1 | 75)), "{size}: {:?}: {told}", output.status.code());
        require!(told.contains("No space left"), "{size}: {told}");
        mounted.remount("size=8m")?;
        go_on(&run, tiny)?;
        same(&whole, &run)?;
    }
    require!(stopped >= 4, "only {stopped} of the sizes were too small");
    Ok(())
}

/// Whatever there is no room for, it may be there another time: 75, and with room the table of a sweep that had it.
fn full_under_a_sweep() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1, 2, 3]\n"))?;
    desk.run("whole", &["--quiet"])?;
    let mut stopped = 0;
    for size in ["8k", "24k", "64k", "192k", "400k", "640k"] {
        let mounted = Mounted::tmpfs(&desk.path("mounted"), size)?;
        let output = desk.command("mounted/out", &["--quiet"]).output()?;
        let told = text(&output);
        if output.status.success() {
            continue;
        }
        stopped += 1;
        require!(
            output.status.code() == Some(75) && told.contains("No space left"),
            "{size}: {:?}: {told}",
            output.status
        );
        mounted.remount("size=16m")?;
        desk.run("mounted/out", &["--quiet"])?;
        desk.same_tables("whole", "mounted/out")?;
        same(&desk.path("whole/runs"), &desk.path("mounted/out/runs"))?;
    }
    require!(stopped >= 4, "only {stopped} of the sizes were too small");
    Ok(())
}

fn read_only() -> Outcome {
    let directory = tempfile::tempdir()?;
    let mounted = Mounted::tmpfs(&directory.path().join("mounted"), "8m")?;
    let run = mounted.0.join("run");
    require!(tiny(&run).output()?.status.success(), "the run does not train");
    mounted.remount("ro")?;
    let output = tiny(&mounted.0.join("another")).output()?;
    require!(output.status.code() == Some(1) && text(&output).contains("Read-only file system"), "{}", text(&output));
    let mut longer = program();
    let output = longer.args(["train", "--quiet", "--device", "cpu", "--steps", "9", "--resume"]).arg(&run).output()?;
    require!(matches!(output.status.code(), Some(1 | 75)), "{:?}", output.status.code());
    require!(text(&output).contains("Read-only file system"), "{}", text(&output));
    mounted.remount("rw")?;
    let mut again = program();
    let output = again.args(["train", "--quiet", "--device", "cpu", "--steps", "9", "--resume"]).arg(&run).output()?;
    require!(output.status.success(), "{}", text(&output));
    Ok(())
}

fn taken_away() -> Outcome {
    let directory = tempfile::tempdir()?;
    for moment in [60, 150, 300] {
        let run = directory.path().join("run");
        let child = program().args(KILLED).arg("100000").arg("--out").arg(&run).spawn()?;
        sleep(Duration::from_millis(moment));
        while run.exists() {
            // A checkpoint that is written meanwhile makes a directory that is not empty.
            let _ = std::fs::remove_dir_all(&run);
        }
        let output = child.wait_with_output()?;
        let told = text(&output);
        require!(matches!(output.status.code(), Some(1 | 75)), "{:?}: {told}", output.status.code());
        require!(told.contains(&run.display().to_string()) && !told.contains("panicked"), "{told}");
    }
    Ok(())
}

#[cfg(unix)]
fn permissions() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    let mut shell = Command::new("sh");
    let command = tiny(&run);
    let line = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = line.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let output = shell.args(["-c", &format!("umask 022; {}", line.join(" "))]).output()?;
    require!(output.status.success(), "{}", text(&output));
    let mut pending = vec![run];
    while let Some(path) = pending.pop() {
        let metadata = std::fs::metadata(&path)?;
        let (mode, expected) = (metadata.permissions().mode() & 0o7777, if metadata.is_dir() { 0o755 } else { 0o644 });
        require!(mode == expected, "{} has mode {mode:o}: expected {expected:o}", path.display());
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
        }
    }
    Ok(())
}
