//! Many runs: the same bytes as each alone, at any division among processes, after kills, and beside damage.

use crate::runs::{self, files, same};
use crate::support::{self, Outcome, require, succeed, test};
use grokscope::random::Philox;
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_run_of_a_sweep_is_that_run_alone", as_alone),
        test("a_sweep_that_is_done_is_left_as_it_is", done_is_done),
        test("shards_make_the_table_of_one_process", shards),
        test("a_sweep_killed_twenty_times_has_the_same_table", kills),
        test("a_signal_leaves_checkpoints_and_code_75", signals),
        test("damaged_runs_are_reported_and_done_again", damage),
        test("a_run_that_diverges_ends_alone", diverged),
        test("a_run_that_another_process_trains_is_left_to_it", elsewhere),
        test("processes_that_share_a_sweep_divide_it", overlapping),
        test("a_dry_run_of_a_sweep_writes_nothing", dry_run),
        test("the_script_for_slurm_is_one", slurm_script),
        #[cfg(unix)]
        test("a_run_that_cannot_be_read_is_left_out", unreadable),
        test("a_plan_that_this_machine_cannot_train_is_refused_before_it_begins", refused_at_once),
        test("models_say_what_each_has_of_its_own", each),
        test("bad_sweeps_end_in_one_line", bad_input),
        test("polars_reads_the_table", polars),
        test("the_page_of_a_sweep_opens_and_its_links_lead_somewhere", page),
    ]
}

pub const BASE: &str =
    "preset = 'demo'\np = 13\nd_model = 16\nd_mlp = 24\nsteps = 60\neval_every = 10\ncheckpoint_every = 20\n";
pub const SMALL: &str = "[grid]\nweight_decay = [0.5, 2]\ntrain_fraction = [0.5, 0.7]\nseed = { from = 0, to = 2 }\n";

/// A sweep's plan in a directory of its own.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new(plan: &str) -> Result<Self, Failed> {
        let desk = Self(tempfile::tempdir()?);
        std::fs::write(desk.path("sweep.toml"), plan)?;
        Ok(desk)
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `grokscope sweep run` into a directory, with no scheduler in the environment.
    pub fn command(&self, out: &str, more: &[&str]) -> Command {
        let mut command = grokscope(&["sweep", "run"]);
        command.arg(self.path("sweep.toml")).arg("--out").arg(self.path(out)).args([
            "--device",
            "cpu",
            "--threads",
            "2",
        ]);
        command.args(more);
        command
    }

    pub fn run(&self, out: &str, more: &[&str]) -> Result<String, Failed> {
        ended(self.command(out, more).output()?, 0)
    }

    /// Begins a sweep, waits until one of its runs has a checkpoint of a step, and tells it to stop.
    pub fn stop(&self, mut command: Command, out: &str, step: u64, signal: &str) -> Result<String, Failed> {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (until, name) = (Instant::now() + Duration::from_secs(60), format!("step-{step:06}/"));
        while !files(&self.path(out)).is_ok_and(|files| files.keys().any(|file| file.contains(&name))) {
            require!(Instant::now() < until, "no checkpoint within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        require!(status.success(), "no signal was sent");
        ended(child.wait_with_output()?, 75)
    }

    pub fn table(&self, out: &str) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(self.path(out).join("sweep.csv"))?)
    }

    pub fn same_tables(&self, a: &str, b: &str) -> Outcome {
        for name in ["sweep.csv", "sweep.parquet"] {
            let read = |out: &str| std::fs::read(self.path(out).join(name));
            require!(read(a)? == read(b)?, "{name} of {a} and {b} differ");
        }
        Ok(())
    }
}

pub fn grokscope(arguments: &[&str]) -> Command {
    let mut command = support::program();
    for name in grokscope::sweep::shard::indices() {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Both streams of a program that ended with a code.
pub fn ended(output: Output, code: i32) -> Result<String, Failed> {
    let text = [&output.stdout[..], &output.stderr].map(support::text).concat();
    if output.status.code() == Some(code) { Ok(text) } else { Err(format!("{}: {text}", output.status).into()) }
}

fn as_alone() -> Outcome {
    // Networks of two programs and two optimizers, with operations, fractions and rates of their own.
    let desk = Desk::new(&format!(
        "{BASE}stop_at_test_loss = 2.6\n[grid]\noptimizer = ['adamw', 'muon']\nop = ['add', 'mul']\nlr = [1e-3, 4e-3]\n\
         [random]\ndraws = 2\ntrain_fraction = {{ from = 0.4, to = 0.9 }}\nweight_decay = {{ from = 0.1, to = 3.0, scale = 'log' }}\nseed = {{ from = 0, to = 99 }}\n"
    ))?;
    desk.run("all", &["--pages", "--quiet"])?;
    desk.run("few", &["--pages", "--quiet", "--at-once", "3"])?;
    let runs: Vec<_> = std::fs::read_dir(desk.path("all/runs"))?.collect::<Result<_, _>>()?;
    require!(runs.len() == 16, "{} runs", runs.len());
    for run in runs {
        let alone = desk.path("alone").join(run.file_name());
        let plan = run.path().join("plan.toml").display().to_string();
        succeed(&[
            "train",
            "--plan",
            &plan,
            "--device",
            "cpu",
            "--threads",
            "2",
            "--quiet",
            "--out",
            &alone.display().to_string(),
        ])?;
        same(&run.path(), &alone)?;
        same(&desk.path("few/runs").join(run.file_name()), &alone)?;
    }
    desk.same_tables("all", "few")
}

fn done_is_done() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    let said = desk.run("out", &[])?;
    require!(said.contains("12 runs: 12 done"), "{said}");
    let stamps = |name: &str| -> Result<Vec<_>, Failed> {
        let mut all = Vec::new();
        for run in std::fs::read_dir(desk.path("out/runs"))? {
            all.push(run?.path().join(name).metadata()?.modified()?);
        }
        Ok(all)
    };
    let (before, table) = (stamps("summary.json")?, desk.table("out")?);
    let said = desk.run("out", &[])?;
    require!(stamps("summary.json")? == before && desk.table("out")? == table, "runs were done again");
    require!(said.contains("12 were done before"), "{said}");
    require!(
        !files(&desk.path("out"))?.keys().any(|name| name.ends_with("report.html")),
        "pages that nobody asked for"
    );
    // Those that are asked for later are made.
    desk.run("out", &["--quiet", "--pages"])?;
    let pages = files(&desk.path("out"))?.keys().filter(|name| name.ends_with("report.html")).count();
    require!(pages == 12, "{pages} pages");
    // What was lost of the table comes back.
    std::fs::remove_file(desk.path("out/sweep.csv"))?;
    ended(grokscope(&["sweep", "merge"]).arg(desk.path("out")).output()?, 0)?;
    require!(desk.table("out")? == table, "merge makes another table");
    Ok(())
}

fn shards() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    desk.run("whole", &["--quiet"])?;
    let mut children = Vec::new();
    for index in 0..5 {
        let mut command = match index {
            // As a scheduler's task.
            4 => {
                let mut command = desk.command("parts", &["--quiet"]);
                command.envs([
                    ("SLURM_ARRAY_TASK_ID", "4"),
                    ("SLURM_ARRAY_TASK_MIN", "0"),
                    ("SLURM_ARRAY_TASK_MAX", "4"),
                ]);
                command
            }
            3 => {
                let mut command = desk.command("parts", &["--quiet", "--shards", "5"]);
                command.env("JOB_COMPLETION_INDEX", "3");
                command
            }
            index => desk.command("parts", &["--quiet", "--shard", &format!("{index}/5")]),
        };
        children.push(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    }
    for child in children {
        ended(child.wait_with_output()?, 0)?;
    }
    require!(!desk.path("parts/sweep.csv").exists(), "a shard wrote what all share");
    for _ in 0..2 {
        ended(grokscope(&["sweep", "merge"]).arg(desk.path("parts")).output()?, 0)?;
        desk.same_tables("whole", "parts")?;
    }
    same(&desk.path("whole/runs"), &desk.path("parts/runs"))
}

/// Kills at random moments; `GROKSCOPE_KILLS` says how many, else 20.
fn kills() -> Outcome {
    let wanted = std::env::var("GROKSCOPE_KILLS").map_or(Ok(20), |text| text.parse::<u32>())?;
    let desk = Desk::new(&format!("{BASE}{SMALL}").replace("steps = 60", "steps = 400"))?;
    let began = Instant::now();
    desk.run("whole", &["--quiet"])?;
    let whole = began.elapsed();
    let (draws, mut killed, mut round) = (Philox::new(23), 0, 0);
    while killed < wanted {
        let out = format!("killed-{round}");
        for _ in 0..30 {
            let mut child = desk.command(&out, &["--quiet"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
            let place = f64::from(draws.block([killed, round, 0, 0])[0]) / 2f64.powi(32);
            std::thread::sleep(whole.mul_f64(0.25 * place));
            if child.try_wait()?.is_some() {
                break;
            }
            child.kill()?;
            child.wait()?;
            killed += 1;
            if killed == wanted {
                break;
            }
        }
        desk.run(&out, &["--quiet"])?;
        desk.same_tables("whole", &out)?;
        same(&desk.path("whole/runs"), &desk.path(&out).join("runs"))?;
        round += 1;
    }
    println!("{killed} kills of {round} sweeps: the same runs and tables");
    Ok(())
}

fn signals() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}").replace("steps = 60", "steps = 4000"))?;
    for signal in ["TERM", "USR1"] {
        let out = signal.to_lowercase();
        let said = desk.stop(desk.command(&out, &["--quiet"]), &out, 40, signal)?;
        require!(said.contains("the same command goes on") && said.contains("begun"), "{said}");
        let first_checkpoints = || -> Result<Vec<_>, Failed> {
            let mut stamps = Vec::new();
            for run in std::fs::read_dir(desk.path(&out).join("runs"))? {
                let first = run?.path().join("checkpoints/step-000020/model.safetensors");
                stamps.extend(first.metadata().ok().map(|data| data.modified()).transpose()?.map(|time| (first, time)));
            }
            stamps.sort();
            Ok(stamps)
        };
        let before = first_checkpoints()?;
        let said = desk.run(&out, &[])?;
        require!(!before.is_empty() && said.contains("go on from their checkpoints"), "{said}");
        let after = first_checkpoints()?;
        require!(before.iter().all(|stamp| after.contains(stamp)), "a run that was begun began anew");
    }
    desk.same_tables("term", "usr1")?;
    same(&desk.path("term/runs"), &desk.path("usr1/runs"))
}

fn damage() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    desk.run("whole", &["--quiet"])?;
    desk.run("hurt", &["--quiet"])?;
    let mut runs: Vec<_> =
        std::fs::read_dir(desk.path("hurt/runs"))?.map(|run| run.map(|run| run.path())).collect::<Result<_, _>>()?;
    runs.sort();
    std::fs::write(runs[0].join("plan.toml"), "nonsense")?;
    // A row less than there were.
    let rows = std::fs::read_to_string(runs[1].join("metrics.jsonl"))?;
    let less: String = rows.split_inclusive('\n').take(rows.lines().count() - 1).collect();
    std::fs::write(runs[1].join("metrics.jsonl"), less)?;
    std::fs::write(runs[2].join("summary.json"), "{}")?;
    std::fs::write(runs[3].join("checkpoints/step-000060/model.safetensors"), "short")?;
    std::fs::copy(runs[5].join("plan.toml"), runs[4].join("plan.toml"))?;
    std::fs::write(runs[6].join("findings.json"), [0xff, 0xfe, b'['])?;
    std::fs::write(runs[8].join("model.safetensors"), "junk")?;
    std::fs::remove_file(runs[9].join("plan.toml"))?;
    // One that was cut off before its end, and whose checkpoints are gone.
    std::fs::remove_file(runs[7].join("summary.json"))?;
    std::fs::remove_dir_all(runs[7].join("checkpoints"))?;
    // One whose directory says that it never began, and one in whose place there is a file.
    std::fs::write(runs[10].join(".begun"), "")?;
    std::fs::remove_dir_all(&runs[11])?;
    std::fs::write(&runs[11], "a file")?;
    let before = files(&desk.path("hurt/runs"))?;
    let merged = ended(grokscope(&["sweep", "merge"]).arg(desk.path("hurt")).output()?, 0)?;
    require!(merged.contains("1 done") && merged.contains("11 damaged"), "{merged}");
    let said = desk.run("hurt", &["--quiet"])?;
    require!(said.matches("done again").count() == 10 && said.contains("is a file: moved to"), "{said}");
    desk.same_tables("whole", "hurt")?;
    for run in &runs {
        require!(grokscope::run::disk::Lock::take(run).is_ok(), "{}: cannot be locked", run.display());
    }
    let after = files(&desk.path("hurt/runs"))?;
    for (number, run) in runs.iter().enumerate() {
        let id = run.file_name().and_then(|name| name.to_str()).ok_or("a name")?;
        let place = if number == 5 { id.to_string() } else { format!("{id}.damaged-1") };
        for (name, bytes) in before.iter().filter(|(name, _)| name.starts_with(id)) {
            require!(after.get(&name.replace(id, &place)) == Some(bytes), "{name} is not in {place}");
        }
    }
    Ok(())
}

fn diverged() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nlr = [1e-3, 1e30]\nseed = [0, 1]\n"))?;
    let said = desk.run("out", &[])?;
    require!(said.contains("2 done, 2 diverged") && said.contains("diverged at step"), "{said}");
    let table = desk.table("out")?;
    require!(table.matches(",diverged,").count() == 2 && table.matches(",done,").count() == 2, "{table}");
    // A run that diverged has a step, and neither a loss nor a phase.
    let bad = table.lines().find(|line| line.contains(",diverged,")).ok_or("no row")?;
    let head: Vec<&str> = table.lines().next().ok_or("no head")?.split(',').collect();
    let field =
        |name: &str| bad.split(',').nth(head.iter().position(|field| *field == name).unwrap_or(999)).unwrap_or("?");
    require!(field("ended_at_step").parse::<u64>().is_ok(), "{bad}");
    require!(field("phase").is_empty() && field("grokked").is_empty() && field("train_loss").is_empty(), "{bad}");
    let again = desk.run("out", &[])?;
    require!(again.contains("4 were done before") && desk.table("out")? == table, "{again}");
    Ok(())
}

fn elsewhere() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1, 2]\n"))?;
    desk.run("whole", &["--quiet"])?;
    let name = std::fs::read_dir(desk.path("whole/runs"))?.next().ok_or("no run")??.file_name();
    let held = desk.path("out/runs").join(&name);
    std::fs::create_dir_all(&held)?;
    std::fs::copy(desk.path("sweep.toml"), desk.path("out/sweep.toml"))?;
    let lock = grokscope::run::disk::Lock::take(&held)?;
    let said = ended(desk.command("out", &["--quiet"]).output()?, 75)?;
    require!(said.contains("1 run is being trained by another process") && said.contains("2 done"), "{said}");
    drop(lock);
    desk.run("out", &["--quiet"])?;
    desk.same_tables("whole", "out")?;
    // Whose other process comes to its end meanwhile is not left.
    let longer = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1, 2]\n").replace("steps = 60", "steps = 3000"))?;
    longer.run("whole", &["--quiet"])?;
    let done = longer
        .path("whole/runs")
        .join(std::fs::read_dir(longer.path("whole/runs"))?.next().ok_or("no run")??.file_name());
    let held = longer.path("out/runs").join(done.file_name().ok_or("a name")?);
    std::fs::create_dir_all(&held)?;
    std::fs::copy(longer.path("sweep.toml"), longer.path("out/sweep.toml"))?;
    let lock = grokscope::run::disk::Lock::take(&held)?;
    let child = longer.command("out", &["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    while std::fs::read_dir(longer.path("out/runs"))?.count() < 3 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let copied = Command::new("cp").arg("-r").arg(done.join(".")).arg(&held).status()?;
    require!(copied.success(), "the run could not be copied");
    drop(lock);
    ended(child.wait_with_output()?, 0)?;
    longer.same_tables("whole", "out")
}

/// Both at once, in one directory: each run is trained by one of them.
fn overlapping() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}").replace("steps = 60", "steps = 400"))?;
    desk.run("whole", &["--quiet"])?;
    let begin = || desk.command("out", &["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    for child in [begin()?, begin()?] {
        let output = child.wait_with_output()?;
        let code = output.status.code();
        require!(code == Some(0) || code == Some(75), "{code:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let said = desk.run("out", &[])?;
    require!(!said.contains("damaged"), "{said}");
    desk.same_tables("whole", "out")?;
    same(&desk.path("whole/runs"), &desk.path("out/runs"))
}

fn dry_run() -> Outcome {
    let desk = Desk::new(
        &format!("{BASE}[grid]\nseed = [0, 1, 2, 3, 4]\nd_mlp = [24, 32]\n").replace("d_mlp = 24\nsteps", "steps"),
    )?;
    let said = desk.run("out", &["--dry-run", "--at-once", "2"])?;
    require!(!desk.path("out").exists(), "something was written");
    require!(said.contains("out: 10 runs, 0 done, 0 begun, 0 damaged"), "{said}");
    require!(
        said.matches("3 waves of at most 2 models on cpu (2 threads)").count() == 2 && said.contains("d_mlp = 32"),
        "{said}"
    );
    require!(said.contains("minutes at most for 600 updates"), "{said}");
    desk.run("out", &["--quiet", "--shard", "0/2"])?;
    let said = desk.run("out", &["--dry-run"])?;
    require!(said.contains("5 done") && said.contains("for 300 updates"), "{said}");
    Ok(())
}

/// By bash's own reading of it, with what its words are.
fn slurm_script() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    let plan = desk.path("it's a sweep.toml");
    std::fs::rename(desk.path("sweep.toml"), &plan)?;
    let arguments = ["--shards", "7", "--cpus", "3", "--time", "1-12:00:00", "--store", "s3://bucket/a b"];
    let mut command = grokscope(&["sweep", "emit", "slurm", &plan.display().to_string(), "--out", "/shared/o"]);
    let script = ended(command.args(arguments).output()?, 0)?;
    for line in [
        "--array=0-6",
        "--cpus-per-task=3",
        "--time=1-12:00:00",
        "--signal=USR1@60",
        "--requeue",
        "--job-name=grokscope-it-s-a-sweep",
    ] {
        require!(script.lines().any(|have| have == format!("#SBATCH {line}")), "{line} is not in {script}");
    }
    // srun says its words, and ends as it is told to; scontrol says that it was called.
    let stand_ins = "srun() { printf '%s\\n' \"$@\"; return $CODE; }\nscontrol() { printf 'again %s\\n' \"$*\"; }\n";
    for (code, restarts, again) in [("75", "3", true), ("75", "100", false), ("1", "0", false), ("0", "0", false)] {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{stand_ins}{script}")]).envs([("CODE", code), ("SLURM_RESTART_COUNT", restarts)]);
        let output = command.envs([("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_JOB_ID", "99")]).output()?;
        let said = ended(output, code.parse()?)?;
        let words: Vec<&str> = said.lines().collect();
        let plan = plan.display().to_string();
        let wanted = [
            "--ntasks=1",
            "grokscope",
            "sweep",
            "run",
            &plan,
            "--out",
            "/shared/o",
            "--store",
            "s3://bucket/a b",
            "--shard",
            "5/7",
        ];
        let wanted = [&wanted[..], &["--threads", "3", "--quiet"]].concat();
        require!(words[..wanted.len()] == wanted && words.len() == wanted.len() + usize::from(again), "{words:?}");
        require!(words.contains(&"again requeue 99_5") == again, "code {code}, {restarts} restarts: {words:?}");
    }
    let mut command = grokscope(&["sweep", "emit", "slurm", "x.toml", "--out", "x", "--time", "4 hours"]);
    let said = ended(command.output()?, 1)?;
    require!(said.contains("--time 4 hours") && said.lines().count() == 1, "{said}");
    Ok(())
}

#[cfg(unix)]
fn unreadable() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1, 2]\n"))?;
    desk.run("whole", &["--quiet"])?;
    let name = std::fs::read_dir(desk.path("whole/runs"))?.next().ok_or("no run")??.file_name();
    // A link that leads to itself: the system's error is another one than that nothing is there.
    let place = desk.path("out/runs").join(&name);
    std::fs::create_dir_all(desk.path("out/runs"))?;
    std::fs::copy(desk.path("sweep.toml"), desk.path("out/sweep.toml"))?;
    std::os::unix::fs::symlink(&place, &place)?;
    let said = ended(desk.command("out", &["--quiet"]).output()?, 75)?;
    require!(said.contains("left out: ") && said.contains("2 done, 1 unreadable"), "{said}");
    std::fs::remove_file(&place)?;
    desk.run("out", &["--quiet"])?;
    desk.same_tables("whole", "out")
}

fn refused_at_once() -> Outcome {
    for (grid, part) in [
        ("p = [13, 100003]", "too large"),
        ("init = ['paper', 'wrong.safetensors']", "wrong.safetensors"),
        ("split = ['philox:0', 'wrong.csv']", "wrong.csv"),
    ] {
        let desk = Desk::new(&format!("{}[grid]\n{grid}\n", BASE.replace("p = 13\n", "")))?;
        for name in ["wrong.safetensors", "wrong.csv"] {
            std::fs::write(desk.path(name), "nonsense")?;
        }
        let said = ended(desk.command("out", &[]).output()?, 1)?;
        require!(said.contains(part) && said.lines().count() == 1, "{said}");
        require!(!desk.path("out").exists(), "something was written");
    }
    Ok(())
}

/// Models side by side say what each has of its own.
fn each() -> Outcome {
    let directory = tempfile::tempdir()?;
    let train = |each: &[&str], code: i32| {
        let out = directory.path().join("out").display().to_string();
        ended(
            grokscope(&[runs::SMALL, &["--steps", "20", "--device", "cpu", "--quiet", "--out", &out], each].concat())
                .output()?,
            code,
        )
    };
    let said = train(&["--each", "op=add,add"], 1)?;
    require!(said.contains("models 0 and 1 are the same") && said.lines().count() == 1, "{said}");
    let said = train(&["--each", "op=add,mul", "--each", "lr=1e-3,1e30"], 42)?;
    require!(said.contains("model 0 (op = add, lr = 1e-3): did not grok"), "{said}");
    require!(said.contains("model 1 (op = mul, lr = 1e30): diverged") && said.contains("out/model-1"), "{said}");
    Ok(())
}

fn bad_input() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    let plan = desk.path("sweep.toml").display().to_string();
    let empty = desk.path("empty.toml");
    std::fs::write(&empty, "")?;
    let (empty, none) = (empty.display().to_string(), desk.path("none.toml").display().to_string());
    let cases: &[(&[&str], &[&str])] = &[
        (&["run", &plan, "--shard", "5/5"], &["--shard 5/5", "0 <= i < n"]),
        (&["run", &plan, "--shards", "4"], &["--shards 4", "which of them"]),
        (&["run", &plan, "--shards", "0"], &["--shards"]),
        (&["run", &none], &["none.toml", "could not be read"]),
        (&["run", &empty], &["empty.toml", "no [grid] and no [random]"]),
        (&["run", &plan, "--device", "nonsense"], &["nonsense"]),
        (&["run", &plan, "--store", "nonsense"], &["--store nonsense", "file:///PATH or s3://"]),
        (&["run", &plan, "--store", "file://relative"], &["--store file://relative", "absolute"]),
        (&["run", &plan, "--at-once", "many"], &["--at-once many"]),
        (&["run", &plan, "--at-once", "100000000"], &["100000000 models at once", "fit"]),
        (&["run", &plan, "--out", &plan], &["sweep.toml"]),
        (&["merge", "nowhere"], &["nowhere: not a sweep"]),
        (&["emit", "lsf", &plan, "--out", "x"], &["lsf", "slurm or kubernetes"]),
        (&["emit", "kubernetes", "sweep.toml", "--out", "/data/x"], &["outside of the volume"]),
    ];
    for (arguments, parts) in cases {
        let output = grokscope(&["sweep"]).args(*arguments).current_dir(desk.0.path()).output()?;
        let said = ended(output, 1).map_err(|e| format!("{arguments:?}: {}", e.message().unwrap_or("?")))?;
        require!(said.lines().count() == 1 && parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
    }
    require!(std::fs::read_dir(desk.0.path())?.count() == 2, "something was written");
    Ok(())
}

fn python(script: &str, arguments: &[&Path]) -> Result<String, Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output =
        Command::new(root.join("target/test-venv/bin/python")).arg(root.join(script)).args(arguments).output()?;
    ended(output, 0)
}

fn polars() -> Outcome {
    let desk = Desk::new(
        &format!("{BASE}stop_at_test_loss = 2.7\n[grid]\nlr = [1e-3, 1e30]\nop = ['add', 's5']\nseed = [0, 1]\n")
            .replace("p = 13", "p = 120")
            .replace("steps = 60", "steps = 20"),
    )?;
    desk.run("out", &["--quiet"])?;
    let said = python("tests/numpy/tables.py", &[&desk.path("out")])?;
    require!(said.contains("8 rows"), "{said}");
    // Every phase, and runs with no pair to test on; another delay is another phase, and no other run.
    let phases = "preset = 'demo'\np = 31\nsteps = 400\neval_every = 20\ncheckpoint_every = 400\nweight_decay = 3\ndelay = 170\n\
                  [grid]\nlr = [1e-5, 1e-3]\ntrain_fraction = [0.5, 0.8, 1.0]\n";
    let desk = Desk::new(phases)?;
    let said = desk.run("out", &["--quiet"])? + &python("tests/numpy/tables.py", &[&desk.path("out")])?;
    let counts = "2 confusion, 1 grokking, 1 memorisation, 2 without";
    require!(said.contains("6 runs: 6 done") && said.contains(counts), "{said}");
    std::fs::write(desk.path("sweep.toml"), phases.replace("170", "190"))?;
    let said = desk.run("out", &["--extend"])? + &python("tests/numpy/tables.py", &[&desk.path("out")])?;
    require!(
        said.contains("6 were done before") && said.contains("1 comprehension, 2 confusion, 1 memorisation"),
        "{said}"
    );
    let said = python("tests/page/sweep.py", &[&desk.path("out")])?;
    require!(said.contains("6 runs are linked"), "{said}");
    // The figures of the page as files.
    let figures = desk.path("figures").display().to_string();
    ended(grokscope(&["sweep", "merge", "--figures", &figures]).arg(desk.path("out")).output()?, 0)?;
    for name in ["phases-train_fraction-lr", "shares-lr", "shares-train_fraction"] {
        let text = std::fs::read_to_string(desk.path("figures").join(format!("{name}.svg")))?;
        require!(text.contains("<svg") && text.contains(name.rsplit('-').next().unwrap_or_default()), "{name}: {text}");
    }
    Ok(())
}

fn page() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}lr = [1e-3, 2e-3]\n"))?;
    desk.run("out", &["--quiet"])?;
    // A page of a sweep that is under way, with a run that has a report.
    let runs: Vec<_> =
        std::fs::read_dir(desk.path("out/runs"))?.map(|run| run.map(|run| run.path())).collect::<Result<_, _>>()?;
    succeed(&["report", &runs[0].display().to_string()])?;
    std::fs::remove_dir_all(&runs[1])?;
    std::fs::remove_file(runs[2].join("summary.json"))?;
    let merged = ended(grokscope(&["sweep", "merge"]).arg(desk.path("out")).output()?, 0)?;
    require!(merged.contains("22 done, 1 begun, 1 waiting"), "{merged}");
    let said = python("tests/page/sweep.py", &[&desk.path("out")])?;
    require!(said.contains("23 runs are linked"), "{said}");
    Ok(())
}
