//! Many runs: the same bytes as each alone, at any division among processes, after kills, and beside damage.

use crate::runs::{files, same};
use crate::support::{Outcome, require, succeed, test};
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
        test("a_directory_of_another_plan_is_refused_or_extended", other_plan),
        test("files_that_a_sweep_names_go_with_it", files_go_along),
        test("bad_sweeps_end_in_one_line", bad_input),
        test("polars_reads_the_table", polars),
        test("the_page_of_a_sweep_opens_and_its_links_lead_somewhere", page),
    ]
}

const BASE: &str =
    "preset = 'demo'\np = 13\nd_model = 16\nd_mlp = 24\nsteps = 60\neval_every = 10\ncheckpoint_every = 20\n";
const SMALL: &str = "[grid]\nweight_decay = [0.5, 2]\ntrain_fraction = [0.5, 0.7]\nseed = { from = 0, to = 2 }\n";

/// A sweep's plan in a directory of its own.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new(plan: &str) -> Result<Self, Failed> {
        let desk = Self(tempfile::tempdir()?);
        std::fs::write(desk.path("sweep.toml"), plan)?;
        Ok(desk)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `grokscope sweep run` into a directory, with no scheduler in the environment.
    fn command(&self, out: &str, more: &[&str]) -> Command {
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

    fn run(&self, out: &str, more: &[&str]) -> Result<String, Failed> {
        ended(self.command(out, more).output()?, 0)
    }

    fn table(&self, out: &str) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(self.path(out).join("sweep.csv"))?)
    }

    fn same_tables(&self, a: &str, b: &str) -> Outcome {
        for name in ["sweep.csv", "sweep.parquet"] {
            let read = |out: &str| std::fs::read(self.path(out).join(name));
            require!(read(a)? == read(b)?, "{name} of {a} and {b} differ");
        }
        Ok(())
    }
}

fn grokscope(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grokscope"));
    for name in
        ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "SGE_TASK_ID", "AWS_BATCH_JOB_ARRAY_INDEX", "PBS_ARRAY_INDEX"]
    {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Both streams of a program that ended with a code.
fn ended(output: Output, code: i32) -> Result<String, Failed> {
    let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
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
        let child = desk.command(&out, &["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let until = Instant::now() + Duration::from_secs(60);
        let under_way =
            || files(&desk.path(&out)).is_ok_and(|files| files.keys().any(|name| name.contains("step-000040/")));
        while !under_way() {
            require!(Instant::now() < until, "no checkpoint within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status()?;
        require!(status.success(), "no signal was sent");
        let said = ended(child.wait_with_output()?, 75)?;
        require!(said.contains("the same command goes on") && said.contains("begun"), "{said}");
        desk.run(&out, &["--quiet"])?;
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
    std::fs::write(runs[1].join("metrics.jsonl"), "")?;
    std::fs::write(runs[2].join("summary.json"), "{}")?;
    std::fs::write(runs[3].join("checkpoints/step-000060/model.safetensors"), "short")?;
    std::fs::copy(runs[5].join("plan.toml"), runs[4].join("plan.toml"))?;
    std::fs::write(runs[6].join("findings.json"), "[")?;
    std::fs::write(runs[8].join("model.safetensors"), "junk")?;
    std::fs::remove_file(runs[9].join("plan.toml"))?;
    // One that was cut off before its end, and whose checkpoints are gone.
    std::fs::remove_file(runs[7].join("summary.json"))?;
    std::fs::remove_dir_all(runs[7].join("checkpoints"))?;
    let merged = ended(grokscope(&["sweep", "merge"]).arg(desk.path("hurt")).output()?, 0)?;
    require!(merged.contains("3 done") && merged.contains("9 damaged"), "{merged}");
    let said = desk.run("hurt", &["--quiet"])?;
    require!(said.matches("done again").count() == 9, "{said}");
    desk.same_tables("whole", "hurt")?;
    let moved = files(&desk.path("hurt/runs"))?;
    require!(moved.keys().any(|name| name.contains(".damaged-1/plan.toml")), "what was damaged is lost");
    Ok(())
}

fn diverged() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nlr = [1e-3, 1e30]\nseed = [0, 1]\n"))?;
    let said = desk.run("out", &[])?;
    require!(said.contains("2 done, 2 diverged") && said.contains("diverged at step"), "{said}");
    let table = desk.table("out")?;
    require!(table.matches(",diverged,").count() == 2 && table.matches(",done,").count() == 2, "{table}");
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
    let lock = grokscope::run::disk::Lock::take(&held)?;
    let said = ended(desk.command("out", &["--quiet"]).output()?, 75)?;
    require!(said.contains("1 runs are being trained by another process") && said.contains("2 done"), "{said}");
    drop(lock);
    desk.run("out", &["--quiet"])?;
    desk.same_tables("whole", "out")
}

fn other_plan() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1]\n"))?;
    desk.run("out", &["--quiet"])?;
    std::fs::write(desk.path("sweep.toml"), format!("{BASE}[grid]\nseed = [1, 2]\n"))?;
    let said = ended(desk.command("out", &[]).output()?, 1)?;
    require!(said.contains("of another plan") && said.contains("--extend") && said.lines().count() == 1, "{said}");
    let said = desk.run("out", &["--extend"])?;
    require!(said.contains("1 were done before") && said.contains("2 runs: 2 done"), "{said}");
    require!(std::fs::read_dir(desk.path("out/runs"))?.count() == 3, "a run is gone");
    std::fs::create_dir(desk.path("other"))?;
    std::fs::write(desk.path("other/thesis.txt"), "mine")?;
    let said = ended(desk.command("other", &[]).output()?, 1)?;
    require!(said.contains("no sweep") && said.lines().count() == 1, "{said}");
    Ok(())
}

fn files_go_along() -> Outcome {
    let desk = Desk::new("plan = 'base.toml'\n[grid]\nsplit = ['pairs.csv', 'philox:0']\nseed = [0]\n")?;
    std::fs::write(desk.path("base.toml"), BASE.replace("preset = 'demo'\n", ""))?;
    std::fs::write(desk.path("pairs.csv"), (0..60).map(|i| format!("{},{}\n", i % 13, i / 13)).collect::<String>())?;
    desk.run("out", &["--quiet"])?;
    let table = desk.table("out")?;
    // A file that was changed is another plan.
    let base = std::fs::read_to_string(desk.path("base.toml"))?;
    std::fs::write(desk.path("base.toml"), base.replace("steps = 60\n", "steps = 70\n"))?;
    let said = ended(desk.command("out", &[]).output()?, 1)?;
    require!(said.contains("base.toml: is not what it was") && said.contains("--extend"), "{said}");
    // One that the sweep would write over.
    std::fs::write(desk.path("sweep.csv"), "0,1\n")?;
    std::fs::write(desk.path("taken.toml"), "[grid]\nsplit = ['sweep.csv']\n")?;
    let taken = desk.path("taken.toml").display().to_string();
    let said = ended(grokscope(&["sweep", "run", &taken, "--out"]).arg(desk.path("taken")).output()?, 1)?;
    require!(said.contains("has a name that the sweep's directory has itself"), "{said}");
    for name in ["base.toml", "pairs.csv"] {
        std::fs::remove_file(desk.path(name))?;
    }
    ended(grokscope(&["sweep", "merge"]).arg(desk.path("out")).output()?, 0)?;
    require!(table.matches(",done,").count() == 2, "{table}");
    let merged = desk.table("out")?;
    require!(merged.matches(",done,").count() == 2, "{merged}");
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
