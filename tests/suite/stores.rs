//! Sweeps whose tasks share an object store and no directory. The store is one of files here; `scripts/cluster.sh` has the same of S3.

use crate::runs::{files, same};
use crate::support::{Outcome, require, test};
use crate::sweeps::{BASE, Desk, SMALL, ended, grokscope};
use grokscope::random::Philox;
use libtest_mimic::{Failed, Trial};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub fn tests() -> Vec<Trial> {
    vec![
        test("shards_meet_in_a_store", shards),
        test("a_marker_is_written_last_whenever_a_task_is_killed", killed),
        test("a_run_that_was_stopped_goes_on_from_the_store", moved),
        test("what_is_damaged_in_a_store_is_done_again", damage),
        test("a_store_that_fails_keeps_what_is_there", failing),
        test("a_store_of_another_plan_is_refused_or_extended", other_plan),
    ]
}

impl Desk {
    fn store(&self) -> String {
        format!("file://{}", self.path("store").display())
    }

    /// `grokscope sweep run` with the store.
    fn task(&self, out: &str, more: &[&str]) -> Command {
        let mut command = self.command(out, &["--store", &self.store()]);
        command.args(more);
        command
    }

    fn merge(&self, out: &str) -> Result<String, Failed> {
        ended(grokscope(&["sweep", "merge", "--store", &self.store()]).arg(self.path(out)).output()?, 0)
    }
}

/// Names of the runs that have a marker, each of which must say what is there.
fn marked(store: &Path) -> Result<Vec<String>, Failed> {
    let mut ids = Vec::new();
    let Ok(entries) = std::fs::read_dir(store.join("done")) else { return Ok(ids) };
    for entry in entries {
        let name = entry?.file_name().into_string().map_err(|_| "a name")?;
        // One that is being written has a name of its own.
        let Some(id) = name.strip_suffix(".json") else { continue };
        let marker: serde_json::Value = serde_json::from_slice(&std::fs::read(store.join("done").join(&name))?)?;
        let listed = marker["files"].as_object().ok_or("no files")?;
        for must in ["plan.toml", "metrics.jsonl", "summary.json", "model.safetensors", "findings.json"] {
            require!(listed.contains_key(must), "{id}: {must} is not in its marker");
        }
        for (file, stored) in listed {
            let bytes = std::fs::read(store.join("runs").join(id).join(file))?;
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            require!(
                stored["bytes"] == bytes.len() && stored["sha256"] == digest,
                "{id}: {file} is not what is marked"
            );
        }
        ids.push(id.to_string());
    }
    Ok(ids)
}

fn shards() -> Outcome {
    let desk = Desk::new(&format!("plan = 'base.toml'\n{SMALL}"))?;
    std::fs::write(desk.path("base.toml"), BASE.replace("preset = 'demo'\n", ""))?;
    desk.run("whole", &["--quiet"])?;
    for index in 0..3 {
        // Each on a disk of its own, which is gone when it has ended.
        let (out, shard) = (format!("task-{index}"), format!("{index}/3"));
        ended(desk.task(&out, &["--quiet", "--shard", &shard]).output()?, 0)?;
        require!(std::fs::read_dir(desk.path(&out).join("runs"))?.count() == 4, "a third of twelve");
        std::fs::remove_dir_all(desk.path(&out))?;
        require!(marked(&desk.path("store"))?.len() == 4 * (index + 1), "markers");
    }
    // What the store has is not done again, and not fetched.
    let said = ended(desk.task("task-1", &["--shard", "1/3"]).output()?, 0)?;
    require!(said.contains("4 were done before"), "{said}");
    require!(std::fs::read_dir(desk.path("task-1/runs"))?.count() == 0, "runs were fetched");
    // Plan, files and runs come from the store, and the table goes there.
    for _ in 0..2 {
        desk.merge("merged")?;
        desk.same_tables("whole", "merged")?;
        desk.same_tables("whole", "store")?;
    }
    require!(desk.path("merged/base.toml").is_file() && desk.path("store/index.html").is_file(), "files are missing");
    same(&desk.path("whole/runs"), &desk.path("merged/runs"))?;
    same(&desk.path("whole/runs"), &desk.path("store/runs"))
}

fn killed() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    let began = Instant::now();
    desk.run("whole", &["--quiet"])?;
    let (whole, draws) = (began.elapsed(), Philox::new(5));
    let mut between = 0;
    for round in 0..12 {
        let mut child =
            desk.task("task", &["--quiet", "--at-once", "4"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(whole.mul_f64(0.7 * f64::from(draws.block([round, 0, 0, 0])[0]) / 2f64.powi(32)));
        child.kill()?;
        child.wait()?;
        let marked = marked(&desk.path("store"))?.len();
        between += usize::from(0 < marked && marked < 12);
        if marked == 12 {
            std::fs::remove_dir_all(desk.path("store"))?;
        }
        // Some go on where they were, others on another disk.
        if round % 3 == 0 {
            std::fs::remove_dir_all(desk.path("task")).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    require!(between > 0, "no kill came between the first marker and the last");
    ended(desk.task("task", &["--quiet"]).output()?, 0)?;
    require!(marked(&desk.path("store"))?.len() == 12, "markers are missing");
    desk.same_tables("whole", "store")?;
    desk.merge("merged")?;
    same(&desk.path("whole/runs"), &desk.path("merged/runs"))
}

fn moved() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}").replace("steps = 60", "steps = 4000"))?;
    // Runs that were stopped, with the step at which each was.
    let parts = || -> Result<BTreeMap<String, u64>, Failed> {
        let mut found = BTreeMap::new();
        for name in files(&desk.path("store/parts"))?.keys() {
            let (id, step) = name.strip_suffix(".zip").and_then(|name| name.split_once('-')).ok_or("a name")?;
            require!(found.insert(id.to_string(), step.parse()?).is_none(), "{id} is there twice");
        }
        Ok(found)
    };
    // Trains until some run comes to a step, and is told to stop then.
    let stop_at = |out: &str, step: u64| -> Result<BTreeMap<String, u64>, Failed> {
        desk.stop(desk.task(out, &["--quiet"]), out, step, "TERM")?;
        parts()
    };
    let first = stop_at("first", 40)?;
    let second = stop_at("second", 1000)?;
    let furthest = |parts: &BTreeMap<String, u64>| parts.values().max().copied().unwrap_or(0);
    require!(!first.is_empty() && furthest(&second) >= 1000, "{first:?}, {second:?}");
    require!(first.iter().all(|(id, step)| second[id] >= *step), "a run fell back: {first:?}, {second:?}");
    // The first disk has less than the store: it goes on from there, and takes nothing back.
    let third = stop_at("first", furthest(&second).next_multiple_of(20) + 20)?;
    require!(second.iter().all(|(id, step)| third.get(id).is_none_or(|now| now >= step)), "{second:?}, {third:?}");
    let merged = desk.merge("merged")?;
    require!(merged.contains(&format!("{} begun", third.len())), "{third:?}: {merged}");
    std::fs::remove_dir_all(desk.path("first"))?;
    let said = ended(desk.task("third", &[]).output()?, 0)?;
    require!(said.contains(&format!("{} go on from their checkpoints", third.len())), "{third:?}: {said}");
    require!(parts()?.is_empty(), "parts are left of runs that have ended");
    // A disk that holds less than what is done: nothing is trained, and the table is the same.
    let said = ended(desk.task("second", &[]).output()?, 0)?;
    require!(said.contains("12 were done before") && !said.contains("go on"), "{said}");
    desk.run("whole", &["--quiet"])?;
    for out in ["store", "second", "third"] {
        desk.same_tables("whole", out)?;
        same(&desk.path("whole/runs"), &desk.path(out).join("runs"))?;
    }
    Ok(())
}

fn damage() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    desk.run("whole", &["--quiet"])?;
    ended(desk.task("task", &["--quiet"]).output()?, 0)?;
    let store = desk.path("store");
    let mut ids = marked(&store)?;
    ids.sort();
    std::fs::write(store.join("runs").join(&ids[0]).join("metrics.jsonl"), "")?;
    std::fs::remove_file(store.join("runs").join(&ids[1]).join("plan.toml"))?;
    std::fs::write(store.join("done").join(format!("{}.json", ids[2])), "{")?;
    // A marker whose file lies outside of the run, where there is one that is as it says.
    std::fs::write(desk.path("thesis.txt"), "mine")?;
    let (out, digest) = ("../".repeat(3) + "thesis.txt", Sha256::digest("mine"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let write_marker = |id: &str, marker: serde_json::Value| {
        std::fs::write(store.join("done").join(format!("{id}.json")), marker.to_string())
    };
    write_marker(&ids[3], serde_json::json!({ "schema": 1, "files": { out: { "bytes": 4, "sha256": digest } } }))?;
    // One that names nothing, and a run of which one bit is another.
    write_marker(&ids[5], serde_json::json!({ "schema": 1, "files": {} }))?;
    let model = store.join("runs").join(&ids[6]).join("model.safetensors");
    let mut bytes = std::fs::read(&model)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&model, bytes)?;
    // A run that is to go on from something that is no run.
    std::fs::remove_file(store.join("done").join(format!("{}.json", ids[4])))?;
    std::fs::create_dir_all(store.join("parts"))?;
    std::fs::write(store.join("parts").join(format!("{}-40.zip", ids[4])), "nonsense")?;
    // And one that would write beside its directory.
    std::fs::remove_file(store.join("done").join(format!("{}.json", ids[7])))?;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("../../evil.txt", zip::write::SimpleFileOptions::default())?;
    zip.write_all(b"evil")?;
    std::fs::write(store.join("parts").join(format!("{}-40.zip", ids[7])), zip.finish()?.into_inner())?;
    // Who asks for the sweep is told that it is not whole, and asks again.
    let said = ended(desk.task("first", &["--quiet"]).output()?, 75)?;
    require!(said.matches("expected grokscope sweep run to do it again").count() == 6, "{said}");
    require!(said.contains("not a part of a run") && said.contains("leads out of the run"), "{said}");
    require!(
        said.contains("6 done") && said.contains("6 of the runs are not there: expected this command again"),
        "{said}"
    );
    let said = ended(desk.task("again", &[]).output()?, 0)?;
    require!(said.contains("6 were done before"), "{said}");
    require!(
        !desk.path("evil.txt").exists() && !desk.path("first/evil.txt").exists(),
        "a part wrote beside its directory"
    );
    require!(std::fs::read(desk.path("thesis.txt"))? == b"mine", "another file is another one");
    // What a later program has marked is not this one's to judge.
    let marker = std::fs::read(store.join("done").join(format!("{}.json", ids[8])))?;
    write_marker(&ids[8], serde_json::json!({ "schema": 2, "files": {} }))?;
    let output = grokscope(&["sweep", "merge", "--store", &desk.store()]).arg(desk.path("later")).output()?;
    let said = ended(output, 1)?;
    require!(said.contains("has the schema 2: expected 1") && said.lines().count() == 1, "{said}");
    std::fs::write(store.join("done").join(format!("{}.json", ids[8])), marker)?;
    desk.merge("merged")?;
    desk.same_tables("whole", "merged")?;
    same(&desk.path("whole/runs"), &desk.path("merged/runs"))
}

/// A store that takes no runs for some time: they stay where they were trained, and get there later.
fn failing() -> Outcome {
    let desk = Desk::new(&format!("{BASE}{SMALL}"))?;
    std::fs::create_dir(desk.path("store"))?;
    std::fs::write(desk.path("store/runs"), "in the way")?;
    let said = ended(desk.task("task", &["--quiet"]).output()?, 75)?;
    require!(said.contains("not in the store yet") && said.contains("the same command goes on"), "{said}");
    let before = files(&desk.path("task/runs"))?;
    std::fs::remove_file(desk.path("store/runs"))?;
    let said = ended(desk.task("task", &[]).output()?, 0)?;
    require!(said.contains("12 were done before"), "{said}");
    require!(files(&desk.path("task/runs"))? == before && marked(&desk.path("store"))?.len() == 12, "runs are missing");
    same(&desk.path("task/runs"), &desk.path("store/runs"))
}

fn other_plan() -> Outcome {
    let desk = Desk::new(&format!("{BASE}[grid]\nseed = [0, 1]\n"))?;
    ended(desk.task("first", &["--quiet"]).output()?, 0)?;
    std::fs::write(desk.path("sweep.toml"), format!("{BASE}[grid]\nseed = [1, 2]\n"))?;
    let said = ended(desk.task("second", &[]).output()?, 1)?;
    require!(
        said.contains("store/sweep.toml: is another one") && said.contains("--extend") && said.lines().count() == 1,
        "{said}"
    );
    let said = ended(desk.task("second", &["--extend"]).output()?, 0)?;
    require!(said.contains("1 were done before") && said.contains("2 runs: 2 done"), "{said}");
    require!(marked(&desk.path("store"))?.len() == 3, "a run is gone");
    // A directory of the earlier plan makes no table for the store of the new one.
    let table = std::fs::read(desk.path("store/sweep.csv"))?;
    let merge = |out: &str, store: &str| {
        let store = desk.store().replace("store", store);
        grokscope(&["sweep", "merge", "--store", &store]).arg(desk.path(out)).output()
    };
    let said = ended(merge("first", "store")?, 1)?;
    require!(said.contains("of another plan than") && said.lines().count() == 1, "{said}");
    require!(std::fs::read(desk.path("store/sweep.csv"))? == table, "the table is another one");
    // A place that is no sweep's is named, and nothing is made there.
    for out in ["second", "new"] {
        let said = ended(merge(out, "nowhere")?, 1)?;
        require!(said.contains("nowhere: not a sweep") && said.lines().count() == 1, "{said}");
    }
    std::fs::create_dir(desk.path("mine"))?;
    std::fs::write(desk.path("mine/thesis.txt"), "")?;
    let said = ended(merge("mine", "store")?, 1)?;
    require!(said.contains("it holds thesis.txt"), "{said}");
    require!(!desk.path("nowhere").exists() && !desk.path("new").exists(), "something was made");
    Ok(())
}
