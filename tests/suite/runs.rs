//! Whole runs of the program: they grok, they repeat, they say how they ended.

use crate::support::{Outcome, grokscope, require, succeed, test, unix_test, wanted_adapter};
use grokscope::run::{RunDir, Timing, rows_of};
use grokscope::train::Evaluation;
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeMap;
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    vec![
        test("demo_groks_on_the_cpu_engine", demo_groks),
        test("a_reader_that_goes_away_is_an_interruption", reader_gone),
        test("an_ensemble_holds_the_runs_of_its_models", ensemble),
        test("at_once_auto_changes_no_byte_of_a_run_with_files_of_its_own", fastest),
        test("rows_of_several_waves_name_their_models", labels),
        test("ctrl_c_leaves_a_checkpoint_and_code_75", interrupted),
        test("numbers_gone_bad_end_with_code_42", diverged),
        test("a_split_of_all_pairs_leaves_the_test_fields_null", all_pairs),
        test("a_dry_run_prints_the_plan_and_writes_nothing", dry_run),
        test("auto_takes_the_program_with_less_to_do", auto),
        test("json_is_lines_of_metrics_and_the_summary", json),
        test("findings_and_page_repeat_to_the_byte", findings_repeat),
        test("figures_and_tables_are_the_findings", figures_and_tables),
        test("the_summary_fits_a_terminal", terminal),
        // Windows has no such names.
        unix_test("the_page_escapes_names_that_come_from_files", escapes),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("fifty_losses_agree_with_the_cpu_engine", fifty_losses),
        test("devices_lists_the_adapter_and_what_auto_takes", devices),
        test("a_grid_of_more_rows_than_a_dimension_has_workgroups", large_grid),
    ]
}

/// A directory and a split whose names are markup, and findings whose texts are.
fn escapes() -> Outcome {
    let directory = tempfile::tempdir()?;
    let bad = "</script><img src=x onerror=alert(1)>&\"'";
    let plain = bad.replace('/', "");
    let (run, split) = (directory.path().join(&plain), directory.path().join(format!("{plain}.csv")));
    std::fs::write(&split, crate::support::pairs(13, 60, 1).to_csv())?;
    train("cpu", &run, &["--steps", "40", "--split", &split.display().to_string()])?;
    let (page, file) = (run.join("report.html"), run.join("findings.json"));
    require!(!std::fs::read_to_string(&page)?.contains("<img"), "the page holds markup of a name");
    let mut findings: serde_json::Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let mut spoilt = 0;
    spoil(&mut findings, bad, &mut spoilt);
    require!(spoilt > 10, "only {spoilt} texts of the findings could be spoilt");
    std::fs::write(&file, findings.to_string())?;
    succeed(&["report", "--quiet", &run.display().to_string()])?;
    let text = std::fs::read_to_string(&page)?;
    require!(!text.contains("<img"), "the page holds markup of a text in findings.json");
    require!(text.contains("&lt;img src=x"), "the page shows no text of findings.json: this test sees nothing");
    Ok(())
}

/// Appends to every text that the findings may have of their own.
fn spoil(value: &mut serde_json::Value, bad: &str, count: &mut usize) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                match value {
                    serde_json::Value::String(text) if ["claim", "measure", "what", "path"].contains(&&name[..]) => {
                        text.push_str(bad);
                        *count += 1;
                    }
                    other => spoil(other, bad, count),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| spoil(value, bad, count)),
        _ => {}
    }
}

/// p = 257: 66,049 pairs.
fn large_grid() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run");
    let path = out.display().to_string();
    let sizes = ["--p", "257", "--d-model", "4", "--n-heads", "1", "--d-mlp", "4", "--train-fraction", "0.01"];
    let device = ["--program", "composed", "--device", &wanted_adapter(), "--steps", "1", "--quiet", "--out", &path];
    succeed(&[&["train"][..], &sizes, &device].concat())?;
    let rows = RunDir::open(&out)?.metrics()?;
    // Before training every class is about as likely as another: ln 257 = 5.5.
    require!(rows[0].test_loss.is_some_and(|loss| (5.0..7.0).contains(&loss)), "{:?}", rows[0]);
    Ok(())
}

fn auto() -> Outcome {
    let directory = tempfile::tempdir()?;
    let split = directory.path().join("few.csv");
    std::fs::write(&split, "x,y\n1,2\n3,4\n5,6\n7,8\n9,10\n")?;
    let split = split.display().to_string();
    let few = ["--split", &split[..]];
    for (name, program, more) in [("many", "composed", &[][..]), ("few", "layered", &few)] {
        let out = directory.path().join(name);
        let path = out.display().to_string();
        let arguments = ["train", "--device", "cpu", "--p", "31", "--steps", "1", "--quiet", "--out", &path];
        succeed(&[&arguments[..], more].concat())?;
        let plan = RunDir::open(&out)?.plan;
        require!(plan.program == program, "{name}: trained by {}, expected {program}", plan.program);
        let summary = RunDir::open(&out)?.summary()?.ok_or("no summary")?;
        require!(summary.program == program, "{name}: the summary says {}", summary.program);
        require!(summary.stopped_by.as_deref() == Some("steps"), "stopped by {:?}", summary.stopped_by);
    }
    Ok(())
}

/// p = 13, a network of a second, with a checkpoint now and then.
pub const SMALL: &[&str] = &[
    "train",
    "--preset",
    "demo",
    "--p",
    "13",
    "--d-model",
    "16",
    "--d-mlp",
    "24",
    "--eval-every",
    "10",
    "--checkpoint-every",
    "20",
];

pub fn train(device: &str, directory: &Path, more: &[&str]) -> Outcome {
    let out = directory.display().to_string();
    succeed(&[SMALL, &["--quiet", "--device", device, "--out", &out], more].concat())
}

/// Every file of a run, clock values left out.
pub fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                pending.push(entry?.path());
            }
            continue;
        }
        let name = path.strip_prefix(directory)?.display().to_string();
        let mut bytes = std::fs::read(&path)?;
        // What a program that was killed at its very end leaves behind: it holds nothing and keeps nobody out.
        if name.ends_with(".lock") {
            continue;
        }
        if name.ends_with("timing.jsonl") {
            let rows: Vec<Timing> = rows_of(&String::from_utf8(bytes)?, &name)?;
            bytes = rows.iter().flat_map(|row| format!("{} ", row.step).into_bytes()).collect();
        }
        if name.ends_with("summary.json") {
            let mut summary: serde_json::Value = serde_json::from_slice(&bytes)?;
            summary.as_object_mut().ok_or("summary.json is no object")?.remove("ms_per_step");
            bytes = serde_json::to_vec(&summary)?;
        }
        files.insert(name, bytes);
    }
    Ok(files)
}

pub fn same(a: &Path, b: &Path) -> Outcome {
    let (a, b) = (files(a)?, files(b)?);
    let only = |a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
    };
    require!(a.keys().eq(b.keys()), "only the first has {:?}, only the second {:?}", only(&a, &b), only(&b, &a));
    for (name, bytes) in &a {
        require!(b[name] == *bytes, "{name} differs");
    }
    Ok(())
}

fn ensemble() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    // Each ends by itself, at a step of its own.
    let each = ["--models", "3", "--seed", "5", "--each", "steps=30,90,60"];
    train("cpu", &path("all"), &each)?;
    train("cpu", &path("waves"), &[&each[..], &["--at-once", "2"]].concat())?;
    for (k, steps) in ["30", "90", "60"].into_iter().enumerate() {
        let (alone, seed) = (path(&format!("alone-{k}")), (5 + k).to_string());
        train("cpu", &alone, &["--steps", steps, "--seed", &seed])?;
        same(&path("all").join(format!("model-{k}")), &alone)?;
        same(&path("waves").join(format!("model-{k}")), &alone)?;
    }
    let each = [
        "--each",
        "op=add,mul,sub",
        "--each",
        "train_fraction=0.5,0.7,0.9",
        "--each",
        "lr=1e-3,2e-3,3e-3",
        "--each",
        "split=philox:1,philox:2,torch:3",
    ];
    train("cpu", &path("each"), &[&each[..], &["--steps", "60"]].concat())?;
    let own = [["mul", "0.7", "2e-3", "philox:2"], ["sub", "0.9", "3e-3", "torch:3"]];
    for (k, [op, fraction, lr, split]) in (1..).zip(own) {
        let (alone, seed) = (path(&format!("own-{k}")), "0");
        let fields = ["--op", op, "--train-fraction", fraction, "--lr", lr, "--split", split, "--seed", seed];
        train("cpu", &alone, &[&fields[..], &["--steps", "60"]].concat())?;
        same(&path("each").join(format!("model-{k}")), &alone)?;
    }
    Ok(())
}

fn reader_gone() -> Outcome {
    use std::io::BufRead;
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run").display().to_string();
    let arguments =
        [SMALL, &["--json", "--device", "cpu", "--steps", "100000", "--stop-at-test-loss", "0", "--out", &out]]
            .concat();
    let mut child = crate::support::program()
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    let output = child.wait_with_output()?;
    require!(line.contains("\"step\":0"), "{line}");
    require!(output.status.code() == Some(75), "ended with {:?}", output.status);
    require!(!RunDir::open(Path::new(&out))?.checkpoints()?.is_empty(), "no checkpoint was left");
    Ok(())
}

fn demo_groks() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run");
    succeed(&["train", "--preset", "demo", "--device", "cpu", "--quiet", "--out", &out.display().to_string()])?;
    let run = RunDir::open(&out)?;
    let summary = run.summary()?.ok_or("no summary.json")?;
    require!(summary.grokked && summary.grok_step.is_some_and(|step| step <= 1000), "{summary:?}");
    require!(summary.test_loss.is_some_and(|loss| loss < 1e-5), "{summary:?}");
    require!(summary.key_frequencies.as_ref().is_some_and(|keys| (1..=8).contains(&keys.len())), "{summary:?}");
    for name in ["plan.toml", "config.json", "model.safetensors", "metrics.jsonl", "timing.jsonl"] {
        require!(out.join(name).is_file(), "no {name}");
    }
    let moments =
        run.checkpoints()?.into_iter().filter(|&step| run.checkpoint_path(step).join("optimizer.safetensors").exists());
    require!(moments.count() == 2, "moments are kept for the newest two checkpoints");
    Ok(())
}

pub fn metrics(directory: &Path) -> Result<Vec<Evaluation>, Failed> {
    Ok(RunDir::open(directory)?.metrics()?)
}

fn fifty_losses() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    for (name, device) in [("cpu", "cpu"), ("adapter", &wanted_adapter()[..])] {
        let out = path(name).display().to_string();
        succeed(&[
            "train",
            "--preset",
            "demo",
            "--device",
            device,
            "--quiet",
            "--steps",
            "50",
            "--eval-every",
            "1",
            "--out",
            &out,
        ])?;
    }
    let (cpu, adapter) = (metrics(&path("cpu"))?, metrics(&path("adapter"))?);
    require!(cpu.len() == 51 && adapter.len() == 51, "{} and {} rows", cpu.len(), adapter.len());
    for (a, b) in cpu.iter().zip(&adapter) {
        let error = (a.train_loss - b.train_loss).abs() / a.train_loss;
        let tolerance = if a.step < 10 { 1e-5 } else { 2e-3 };
        require!(
            error <= tolerance,
            "step {}: {:e} on the CPU, {:e} on the adapter: off by {error:e}",
            a.step,
            a.train_loss,
            b.train_loss
        );
    }
    Ok(())
}

fn interrupted() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (whole, out) = (directory.path().join("whole"), directory.path().join("run"));
    let arguments = |out: &Path| {
        let out = out.display().to_string();
        [SMALL, &["--quiet", "--device", "cpu", "--steps", "2000", "--stop-at-test-loss", "0", "--out", &out]]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let mut child = crate::support::program().args(arguments(&out)).stderr(std::process::Stdio::piped()).spawn()?;
    // Once the first rows are there, the run is under way.
    let rows = || std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while rows() < 3 {
        require!(child.try_wait()?.is_none(), "the run ended before it could be interrupted");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    require!(killed.success(), "kill failed");
    let output = child.wait_with_output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    require!(output.status.code() == Some(75), "ended with {:?}: {stderr}", output.status);
    require!(stderr.contains("grokscope train --resume"), "{stderr}");
    succeed(&["train", "--quiet", "--device", "cpu", "--resume", &out.display().to_string()])?;
    succeed(&arguments(&whole).iter().map(String::as_str).collect::<Vec<_>>())?;
    same(&whole, &out)
}

fn diverged() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run").display().to_string();
    let output = grokscope(
        &[SMALL, &["--quiet", "--device", "cpu", "--lr", "1e30", "--weight-decay", "0", "--out", &out]].concat(),
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    require!(output.status.code() == Some(42), "ended with {:?}: {stderr}", output.status);
    require!(stderr.contains("not finite") && stderr.contains("--lr"), "{stderr}");
    Ok(())
}

fn all_pairs() -> Outcome {
    let directory = tempfile::tempdir()?;
    train("cpu", &directory.path().join("run"), &["--steps", "10", "--train-fraction", "1"])?;
    let rows = metrics(&directory.path().join("run"))?;
    require!(rows.iter().all(|row| row.test_loss.is_none() && row.test_accuracy.is_none()), "{rows:?}");
    Ok(())
}

fn dry_run() -> Outcome {
    let directory = tempfile::tempdir()?;
    let output = crate::support::grokscope_in(
        directory.path(),
        &["train", "--preset", "paper", "--dry-run", "--set", "d_mlp=256"],
    );
    let stdout = String::from_utf8_lossy(&output.stdout);
    require!(output.status.success(), "{:?}", output.status);
    require!(
        stdout.contains("d_mlp = 256") && stdout.contains("equals_class = true") && stdout.contains(" ms a step"),
        "{stdout}"
    );
    require!(std::fs::read_dir(directory.path())?.next().is_none(), "a dry run wrote something");
    // What it prints is a plan.
    std::fs::write(directory.path().join("plan.toml"), &output.stdout)?;
    let again = crate::support::grokscope_in(directory.path(), &["train", "--plan", "plan.toml", "--dry-run"]);
    let plan = |output: &std::process::Output| {
        // The last line is an estimate of time.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim_end().rsplit_once('\n').map(|(plan, _)| plan.to_string())
    };
    require!(plan(&again) == plan(&output), "the printed plan is not the plan");
    Ok(())
}

fn json() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run").display().to_string();
    let output = grokscope(&[SMALL, &["--json", "--device", "cpu", "--steps", "20", "--out", &out]].concat());
    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    require!(lines.len() == 4, "{} lines for three evaluations and a summary", lines.len());
    require!(lines[2]["step"] == 20 && lines[3]["steps"] == 20 && lines[3]["grokked"].is_boolean(), "{lines:?}");
    Ok(())
}

/// A split from a file, of which a run keeps a copy under another name: the measurement must not look for it elsewhere.
fn fastest() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (split, path) = (directory.path().join("pairs.csv"), |name: &str| directory.path().join(name));
    std::fs::write(&split, crate::support::pairs(13, 60, 1).to_csv())?;
    let of_split = ["--models", "3", "--split", crate::support::utf8(&split)?];
    train("cpu", &path("whole"), &[&of_split[..], &["--steps", "40"]].concat())?;
    train("cpu", &path("auto"), &[&of_split[..], &["--steps", "20", "--at-once", "auto"]].concat())?;
    std::fs::remove_file(&split)?;
    let run = path("auto").display().to_string();
    let resume = ["train", "--resume", &run, "--steps", "40", "--at-once", "auto", "--device", "cpu"];
    let output = grokscope(&resume);
    let told = String::from_utf8_lossy(&output.stderr);
    require!(output.status.success() && told.contains("fastest. Milliseconds a step and model: 1: "), "{told}");
    same(&path("whole"), &path("auto"))
}

/// Two at once, then two others, then one: each row says which of the five it is of.
fn labels() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run").display().to_string();
    let several = ["--json", "--device", "cpu", "--steps", "10", "--models", "5", "--at-once", "2", "--out", &out];
    let output = grokscope(&[SMALL, &several].concat());
    let text = String::from_utf8(output.stdout)?;
    let lines: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let models: Vec<u64> = lines.iter().filter_map(|line| line["model"].as_u64()).collect();
    for model in 0..5 {
        let rows = models.iter().filter(|other| **other == model).count();
        require!(rows == 2, "model {model} has {rows} rows, those of steps 0 and 10 are expected: {text}");
    }
    Ok(())
}

fn devices() -> Outcome {
    let output = grokscope(&["devices"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    for part in [&wanted_adapter()[..], "driver", "subgroups", "cpu", "auto takes"] {
        require!(stdout.contains(part), "no '{part}' in {stdout}");
    }
    Ok(())
}

/// Findings and page do not depend on the threads, `report` makes the page of `analyze` again, and a checkpoint's findings
/// are those of the run that ended there.
fn findings_repeat() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (long, short) = (directory.path().join("long"), directory.path().join("short"));
    train("cpu", &long, &["--steps", "60"])?;
    train("cpu", &short, &["--steps", "40"])?;
    let (run, read) = (long.display().to_string(), |path: &Path| std::fs::read(path));
    let (findings, page) = (read(&long.join("findings.json"))?, read(&long.join("report.html"))?);
    for threads in ["1", "3"] {
        succeed(&["analyze", "--quiet", "--threads", threads, &run])?;
        require!(read(&long.join("findings.json"))? == findings, "findings differ with {threads} threads");
        require!(read(&long.join("report.html"))? == page, "the page differs with {threads} threads");
    }
    std::fs::remove_file(long.join("report.html"))?;
    succeed(&["report", "--quiet", &run])?;
    require!(read(&long.join("report.html"))? == page, "report makes another page than analyze");
    succeed(&["analyze", "--quiet", &run, "--step", "40"])?;
    require!(
        read(&long.join("findings-000040.json"))? == read(&short.join("findings.json"))?,
        "the findings of checkpoint 40 are not those of a run of 40 steps"
    );
    require!(read(&long.join("findings.json"))? == findings, "--step touched the findings of the end");
    // A run that goes on has no findings until it has ended again.
    let resumed = RunDir::open(&short)?;
    resumed.rewind(20, &resumed.history(20)?)?;
    require!(!short.join("findings.json").exists() && !short.join("report.html").exists(), "old findings stay behind");
    // Weights put in by another hand are noticed.
    std::fs::copy(
        long.join("checkpoints/step-000020/model.safetensors"),
        long.join("checkpoints/step-000060/model.safetensors"),
    )?;
    let output = grokscope(&["report", "--quiet", &run]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    require!(output.status.code() == Some(1) && said.contains("step-000060/model.safetensors: damaged"), "{said}");
    let (findings, page) = (read(&long.join("findings.json"))?, read(&long.join("report.html"))?);
    let output = grokscope(&["analyze", "--quiet", &run]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    require!(output.status.code() == Some(1) && said.contains("step-000060/model.safetensors: damaged"), "{said}");
    require!(
        read(&long.join("findings.json"))? == findings && read(&long.join("report.html"))? == page,
        "written over"
    );
    Ok(())
}

/// Figures are whole SVG files, and every cell of the tables is a number of the findings.
fn figures_and_tables() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    train("cpu", &directory.path().join("run"), &["--steps", "60"])?;
    succeed(&["report", "--quiet", &path("run"), "--figures", &path("svg"), "--tables", &path("csv")])?;
    let mut figures = 0;
    for entry in std::fs::read_dir(path("svg"))? {
        let text = std::fs::read_to_string(entry?.path())?;
        let whole = text.starts_with("<svg") && text.trim_end().ends_with("</svg>") && text.contains("<style>");
        require!(whole && !text.contains("NaN") && !text.contains("inf"), "not a whole figure: {}", &text[..200]);
        figures += 1;
    }
    require!(figures > 25, "only {figures} figures were written");
    let findings: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("run/findings.json"))?)?;
    let table = |name: &str| -> Result<Vec<Vec<String>>, Failed> {
        let mut reader = csv::Reader::from_path(directory.path().join("csv").join(name))?;
        let mut rows = vec![reader.headers()?.iter().map(String::from).collect::<Vec<_>>()];
        for record in reader.records() {
            rows.push(record?.iter().map(String::from).collect());
        }
        Ok(rows)
    };
    let number = |place: String| findings.pointer(&place).and_then(|value| value.as_f64()).map(|x| x.to_string());
    let cases: &[(&str, usize, usize, &str)] = &[
        ("neurons.csv", 4, 2, "/neurons/fve/3"),
        ("neurons.csv", 4, 3, "/neurons/fires/3"),
        ("ablations.csv", 1, 1, "/scores/train/loss"),
        ("ablations.csv", 1, 4, "/scores/test/accuracy"),
        ("ablations.csv", 2, 3, "/ablations/0/zeroed/test/loss"),
        ("ablations.csv", 3, 5, "/ablations/0/mean/all/loss"),
        ("restricted.csv", 1, 6, "/restricted/logits/all/restricted/test/loss"),
        ("restricted.csv", 2, 4, "/restricted/logits/all/excluded/train/loss"),
        ("spectra.csv", 3, 2, "/spectra/W_E/components/2"),
        ("spectra.csv", 3, 3, "/spectra/W_L/components/2"),
        ("spectra.csv", 3, 5, "/effective_weights/W_attn/1/components/2"),
        ("spectra.csv", 3, 8, "/effective_weights/W_neur/0/components/2"),
        ("certificate.csv", 3, 3, "/certificate/claims/2/value"),
        ("progress.csv", 2, 3, "/progress/checkpoints/1/W_E/gini"),
        ("progress.csv", 2, 7, "/progress/checkpoints/1/scores/test/loss"),
        ("progress.csv", 2, 11, "/progress/checkpoints/1/squares/tensors/W_E"),
    ];
    for (name, row, column, place) in cases {
        let rows = table(name)?;
        let cell = rows.get(*row).and_then(|row| row.get(*column)).ok_or(format!("{name} has no {row}, {column}"))?;
        let expected = number(place.to_string()).ok_or(format!("{place} is no number"))?;
        require!(*cell == expected, "{name} {row}, {column} ({}) is {cell}, not {expected}", rows[0][*column]);
    }
    Ok(())
}

/// The summary for a terminal fits 80 columns and 24 lines, and says what the findings say.
fn terminal() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run").display().to_string();
    let output = grokscope(&[SMALL, &["--device", "cpu", "--steps", "60", "--out", &out]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    require!(output.status.success(), "{output:?}");
    let summary: Vec<&str> = text.lines().skip_while(|line| !line.contains('│')).collect();
    require!(summary.len() <= 24, "{} lines: {text}", summary.len());
    // Paths are as long as they are.
    let is_narrow = |line: &&str| line.chars().count() <= 80 || line.starts_with("results are in ");
    require!(summary.iter().all(is_narrow), "a line is wider than 80 columns: {summary:#?}");
    let findings: serde_json::Value =
        serde_json::from_slice(&std::fs::read(directory.path().join("run/findings.json"))?)?;
    let explained = &findings["neurons"]["explained"];
    for part in
        ["W_E │", "W_L │", "keys      none", "certificate  failed: ", &format!("clusters  {explained} of 24 neurons")]
    {
        require!(text.contains(part), "'{part}' is not in: {text}");
    }
    // The largest component of W_L has the tallest bar: at its own frequency, one column each.
    let components: Vec<f64> = findings["spectra"]["W_L"]["components"]
        .as_array()
        .ok_or("no components")?
        .iter()
        .filter_map(|x| x.as_f64())
        .collect();
    let merged: Vec<f64> = components[1..].chunks(2).map(|pair| pair.iter().map(|x| x * x).sum::<f64>()).collect();
    let tallest = (0..merged.len()).max_by(|&a, &b| merged[a].total_cmp(&merged[b])).ok_or("no frequency")?;
    let bars = summary.iter().find_map(|line| line.split("W_L │").nth(1)).ok_or("no bars")?;
    require!(bars.chars().nth(tallest) == Some('█'), "frequency {} has no full bar: {bars}", tallest + 1);
    Ok(())
}
