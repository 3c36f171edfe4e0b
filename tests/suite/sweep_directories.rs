//! Directories of sweeps: the plan and the files that a directory belongs to, and processes that begin in one together.

use crate::runs::{files, same};
use crate::support::{Outcome, require, test};
use crate::sweeps::{BASE, Desk, SMALL, ended, grokscope};
use libtest_mimic::Trial;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_directory_of_another_plan_is_refused_or_extended", other_plan),
        test("files_that_a_sweep_names_go_with_it", files_go_along),
        test("a_sweep_with_files_goes_on_where_it_was", files_go_on),
        test("shards_that_begin_together_share_a_directory", begin_together),
        test("of_two_plans_in_one_directory_one_is_refused", two_plans),
        test("a_process_that_may_open_few_files_says_so", few_files),
    ]
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
    require!(said.contains("1 runs of an earlier plan stay"), "{said}");
    // Directories that are somebody's own: one with a text, one with runs, one with a plan, one with both.
    for (name, file) in [
        ("other", "thesis.txt"),
        ("runs", "runs/default/plan.toml"),
        ("plan", "sweep.toml"),
        ("lost", &format!("runs/{}/plan.toml", "0".repeat(16))),
    ] {
        let file = desk.path(name).join(file);
        std::fs::create_dir_all(file.parent().ok_or("a directory")?)?;
        std::fs::copy(desk.path("sweep.toml"), file)?;
        let before = files(&desk.path(name))?;
        let said = ended(desk.command(name, &[]).output()?, 1)?;
        require!(
            said.contains(if name == "lost" {
                "has runs of a sweep and no sweep.toml"
            } else {
                ": no sweep, and it holds"
            }) && said.lines().count() == 1,
            "{said}"
        );
        require!(files(&desk.path(name))? == before, "{name}: something was written");
    }
    let said = ended(desk.command("", &[]).output()?, 1)?;
    require!(said.contains("no sweep"), "{said}");
    // What a file manager or a user leaves beside the runs is no reason.
    std::fs::write(desk.path("out/runs/.DS_Store"), "")?;
    std::fs::create_dir(desk.path("out/runs/notes"))?;
    // Without --out the plan in a sweep's directory means that directory.
    let plan = desk.path("out/sweep.toml").display().to_string();
    let said = ended(grokscope(&["sweep", "run", &plan]).output()?, 0)?;
    require!(said.contains("2 were done before"), "{said}");
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
    require!(said.contains("base.toml: is not what ") && said.contains("--extend"), "{said}");
    std::fs::write(desk.path("base.toml"), base)?;
    // One with other pairs is another run, where its name is the same: it and no other is trained.
    let pairs = std::fs::read_to_string(desk.path("pairs.csv"))?;
    std::fs::write(desk.path("pairs.csv"), format!("{pairs}12,12\n"))?;
    let said = ended(desk.command("out", &[]).output()?, 1)?;
    require!(said.contains("pairs.csv: is not what "), "{said}");
    let said = desk.run("extended", &["--quiet"])? + &desk.run("out", &["--extend"])?;
    require!(said.contains("1 were done before") && said.contains("1 runs of an earlier plan stay"), "{said}");
    desk.same_tables("extended", "out")?;
    require!(desk.table("out")? != table, "other pairs make no other table");
    let table = desk.table("out")?;
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

/// A sweep whose plan names a file of train pairs and one of weights goes on after both files were deleted.
fn files_go_on() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0]\n"))?;
    desk.run("first", &["--quiet"])?;
    let first = std::fs::read_dir(desk.path("first/runs"))?.next().ok_or("no run")??.path();
    std::fs::copy(first.join("model.safetensors"), desk.path("weights.safetensors"))?;
    std::fs::write(desk.path("pairs.csv"), (0..60).map(|i| format!("{},{}\n", i % 13, i / 13)).collect::<String>())?;
    let grid = "[grid]\ntrain_fraction = [0.5]\nsplit = ['pairs.csv']\ninit = ['weights.safetensors', 'paper']\nseed = [0, 1]\n";
    std::fs::write(desk.path("sweep.toml"), format!("{BASE}{grid}").replace("steps = 60", "steps = 4000"))?;
    desk.run("whole", &["--quiet"])?;
    desk.stop(desk.command("out", &["--quiet"]), "out", 40, "TERM")?;
    // Where the runs are begun their own copies count: those of the sweep's plan are of no more use to them.
    let said = desk.run("out", &[])?;
    require!(said.contains("go on from their checkpoints") && said.contains("4 runs: 4 done"), "{said}");
    desk.same_tables("whole", "out")?;
    same(&desk.path("whole/runs"), &desk.path("out/runs"))?;
    // Files are called as the plan calls them, whoever makes the table, from wherever.
    let table = desk.table("out")?;
    require!(table.contains(",pairs.csv,") && table.contains(",weights.safetensors,"), "{table}");
    ended(grokscope(&["sweep", "merge", "out"]).current_dir(desk.path("")).output()?, 0)?;
    require!(desk.table("out")? == table, "merge calls files otherwise: {}", desk.table("out")?);
    Ok(())
}

/// Each may find the directory at any moment of another's beginning.
fn begin_together() -> Outcome {
    let desk = Desk::new(&format!("plan = 'base.toml'\n{SMALL}"))?;
    std::fs::write(desk.path("base.toml"), BASE.replace("preset = 'demo'\n", ""))?;
    for round in 0..20 {
        let shard =
            |index: usize| desk.command(&format!("out-{round}"), &["--quiet", "--shard", &format!("{index}/6")]);
        let children: Result<Vec<_>, _> =
            (0..6).map(|index| shard(index).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()).collect();
        for child in children? {
            ended(child.wait_with_output()?, 0)?;
        }
    }
    Ok(())
}

fn two_plans() -> Outcome {
    let desk = Desk::new("")?;
    for (name, seeds) in [("one", "[0, 1]"), ("two", "[0, 1, 2]")] {
        std::fs::write(desk.path(&format!("{name}.toml")), format!("{BASE}[grid]\nseed = {seeds}\n"))?;
    }
    for round in 0..5 {
        let out = desk.path(&format!("out-{round}"));
        let begin = |name: &str| {
            let plan = desk.path(&format!("{name}.toml")).display().to_string();
            let mut command =
                grokscope(&["sweep", "run", &plan, "--device", "cpu", "--threads", "1", "--quiet", "--out"]);
            command.arg(&out).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let (one, two) = (begin("one")?, begin("two")?);
        let outputs = [("one", one.wait_with_output()?), ("two", two.wait_with_output()?)];
        let plan = std::fs::read_to_string(out.join("sweep.toml"))?;
        for (name, output) in outputs {
            let own = plan == std::fs::read_to_string(desk.path(&format!("{name}.toml")))?;
            let said = ended(output, if own { 0 } else { 1 })?;
            require!(own || (said.contains("another") && said.lines().count() == 1), "{said}");
        }
        let rows = std::fs::read_to_string(out.join("sweep.csv"))?.lines().count() - 1;
        require!(rows == if plan.contains("2]") { 3 } else { 2 }, "{rows} rows");
    }
    Ok(())
}

fn few_files() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = {{ from = 0, to = 39 }}\n"))?;
    desk.run("whole", &["--quiet"])?;
    let program = desk.command("out", &["--quiet", "--at-once", "40"]);
    let words = program.get_args().map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let limited = format!("ulimit -n 40; exec timeout 60 '{}' {words}", program.get_program().to_string_lossy());
    let said = ended(Command::new("bash").args(["-c", &limited]).output()?, 75)?;
    require!(said.contains("left out: ") && said.contains("Too many open files"), "{said}");
    desk.run("out", &["--quiet"])?;
    desk.same_tables("whole", "out")
}
