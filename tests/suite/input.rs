//! Bad input: one clear line, exit code 1, and nothing touched.

use crate::support::{self, Outcome, grokscope_in, require, test, wanted_adapter};
use grokscope::model::initial_weights;
use grokscope::plan::Shape;
use grokscope::run::lens::model_bytes;
use libtest_mimic::{Failed, Trial};
use safetensors::tensor::{SafeTensors, TensorView};
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    vec![
        test("bad_flags_end_in_one_line", bad_flags),
        test("bad_init_files_end_in_one_line", bad_inits),
        test("bad_split_files_end_in_one_line", bad_splits),
        test("bad_plan_files_end_in_one_line", bad_plans),
        test("a_directory_that_holds_another_run_stays_as_it_is", held_directory),
        test("bad_resumes_end_in_one_line", bad_resumes),
        test("bad_analyses_end_in_one_line_and_touch_nothing", bad_analyses),
        test("unusual_moduli_are_analysed_or_refused", unusual_moduli),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("a_plan_too_large_for_the_adapter_ends_in_one_line", || {
        let directory = tempfile::tempdir()?;
        let arguments = ["train", "--out", "run", "--device", &wanted_adapter(), "--p", "10007"];
        refused(directory.path(), &arguments, &["p = 10007: too large for", "MiB in one buffer"])
    })]
}

/// Runs in a directory and expects exit code 1, one line on stderr that has all of `parts`, and no new file.
fn refused(directory: &Path, arguments: &[&str], parts: &[&str]) -> Outcome {
    let listing = || -> Result<Vec<_>, Failed> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    };
    let before = listing()?;
    let output = grokscope_in(directory, arguments);
    let stderr = support::text(&output.stderr);
    require!(output.status.code() == Some(1), "{arguments:?} ended with {:?}: {stderr}", output.status);
    require!(stderr.trim_end().lines().count() == 1, "{arguments:?} says more than a line: {stderr}");
    for part in parts {
        require!(stderr.contains(part), "{arguments:?}: expected '{part}' in: {stderr}");
    }
    require!(listing()? == before, "{arguments:?} left something: {:?}", listing()?);
    Ok(())
}

fn bad_flags() -> Outcome {
    let directory = tempfile::tempdir()?;
    let cases: &[(&[&str], &[&str])] = &[
        (&["--p", "2"], &["p = 2", "integer >= 3"]),
        (&["--p", "eleven"], &["p", "eleven", "integer >= 3"]),
        (&["--p", "7.5"], &["7.5", "integer >= 3"]),
        (&["--p", "-7"], &["p = -7", "integer >= 3"]),
        (&["--p", "29989"], &["p = 29989: too large", "MiB"]),
        (&["--p", "4000000000"], &["p = 4000000000: too large"]),
        (&["--d-model", "130"], &["d_model = 130", "n_heads = 4"]),
        (&["--n-heads", "0"], &["n_heads = 0", "integer >= 1"]),
        (&["--train-fraction", "0"], &["train_fraction = 0", "(0, 1]"]),
        (&["--train-fraction", "1.5"], &["train_fraction = 1.5", "(0, 1]"]),
        (&["--train-fraction", "-0.3"], &["train_fraction", "(0, 1]"]),
        (&["--train-fraction", "0.00001"], &["nothing to train on"]),
        (&["--lr", "-0.1"], &["lr = -0.1", ">= 0"]),
        (&["--lr", "NaN"], &["lr", "finite number"]),
        (&["--lr", "inf"], &["lr", "finite number"]),
        (&["--beta2", "1"], &["beta2 = 1", "[0, 1)"]),
        (&["--preset", "defualt"], &["'defualt'", "default, demo, paper, transformer-lens, seed"]),
        (&["--op", "minus"], &["'minus'", "add"]),
        (&["--op", "s5"], &["op = s5", "expected p = 120"]),
        (&["--device", ""], &["--device is empty", "auto, cpu"]),
        (&["--seed", "9223372036854775807", "--models", "2"], &["seed = 9223372036854775807", "2^63"]),
        (&["--seed", "18446744073709551615"], &["seed", "2^63"]),
        (&["--models", "3", "--each", "lr=1e-3,2e-3"], &["--each lr: 2 values for 3 models"]),
        (&["--each", "lr=1e-3,x"], &["lr = \"x\"", "finite number"]),
        (&["--each", "lr"], &["--each lr", "FIELD=VALUE"]),
        (&["--models", "60000", "--at-once", "60000"], &["60000 models at once: too many", "MiB each"]),
        (&["--threads", "-1"], &["--threads -1", "integer"]),
        (&["--stpes", "9"], &["--stpes", "--steps", "--help"]),
        (&["--p", "30000", "--d-mlp", "65536", "--device", "cpu", "--dry-run"], &["p = 30000: too large"]),
        (&["--models", "2", "--init", "some.safetensors"], &["models = 2", "the same network"]),
        (&["--warmup", "5000000000"], &["warmup = 5000000000"]),
        (&["--device", "no-such-gpu"], &["'no-such-gpu'", "auto, cpu"]),
        (&["--split", "numpy:3"], &["numpy:3", "philox:SEED", "torch:SEED", "python:SEED", ".csv"]),
        (&["--split", "philox:-1"], &["philox:-1"]),
        (&["--init", "zeros"], &["'zeros'", "paper", "transformer-lens", ".safetensors"]),
        (&["--program", "fast"], &["'fast'", "auto, layered, composed"]),
        (&["--threads", "many"], &["--threads many", "integer"]),
        (&["--set", "heads=4"], &["'heads'", "n_heads"]),
        (&["--set", "d_mlp"], &["--set d_mlp", "FIELD=VALUE"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--split", "absent.csv"], &["absent.csv", "could not be read"]),
        (&["--init", "absent.safetensors"], &["absent.safetensors", "could not be read"]),
        (&["--plan", "absent.toml"], &["absent.toml", "could not be read"]),
    ];
    for (arguments, parts) in cases {
        refused(directory.path(), &[&["train", "--out", "run"], *arguments].concat(), parts)?;
    }
    refused(directory.path(), &["trian"], &["trian"])
}

/// The flags of the small network of the files below.
const SMALL: &[&str] = &[
    "train",
    "--out",
    "run",
    "--device",
    "cpu",
    "--p",
    "5",
    "--d-model",
    "4",
    "--n-heads",
    "2",
    "--d-mlp",
    "6",
    "--steps",
    "1",
];

fn bad_inits() -> Outcome {
    let directory = tempfile::tempdir()?;
    let shape = Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 6, d_vocab_out: 5 };
    let good = model_bytes(&initial_weights("paper", 0, &shape), &shape)?;
    let file = directory.path().join("init.safetensors");
    let run = [SMALL, &["--init", "init.safetensors"]].concat();
    let refuse = |bytes: &[u8], parts: &[&str]| -> Outcome {
        std::fs::write(&file, bytes)?;
        refused(directory.path(), &run, parts)
    };
    let tensors = SafeTensors::deserialize(&good)?;
    let missing =
        safetensors::serialize(tensors.tensors().into_iter().filter(|(name, _)| name != "unembed.W_U"), None)?;
    refuse(&missing, &["init.safetensors", "no tensor 'unembed.W_U'", "[4, 5]"])?;
    static ZEROS: [u8; 4096] = [0; 4096];
    let replace = |of: &str, dtype, dims: &[usize], bytes: usize| -> Result<Vec<u8>, Failed> {
        let others = tensors.tensors().into_iter().filter(|(name, _)| name != of);
        let instead = (of.to_string(), TensorView::new(dtype, dims.to_vec(), &ZEROS[..bytes])?);
        Ok(safetensors::serialize(others.chain([instead]), None)?)
    };
    refuse(&replace("embed.W_E", safetensors::Dtype::F32, &[5, 4], 80)?, &["'embed.W_E' is [5, 4]", "[6, 4]"])?;
    refuse(&replace("embed.W_E", safetensors::Dtype::F64, &[6, 4], 192)?, &["'embed.W_E' is F64", "expected F32"])?;
    refuse(&good[..good.len() / 2], &["init.safetensors", "not a whole safetensors file"])?;
    refuse(b"", &["init.safetensors", "not a whole safetensors file"])
}

fn bad_splits() -> Outcome {
    let directory = tempfile::tempdir()?;
    let cases = [
        ("1,2\n3,5\n", &["split.csv:2", "'5' is outside the grid", "0..5"][..]),
        ("x,y\n1,2\n0,0\n1,2\n", &["split.csv:4", "1,2 stands on line 2 already"]),
        ("1,2,3\n", &["split.csv:1", "two numbers"]),
        ("one,two\n", &["split.csv:1", "'one' is no number", "x,y"]),
        ("1;2\n", &["split.csv:1", "comma"]),
        ("", &["split.csv", "holds no pair"]),
    ];
    for (text, parts) in cases {
        std::fs::write(directory.path().join("split.csv"), text)?;
        refused(directory.path(), &[SMALL, &["--split", "split.csv"]].concat(), parts)?;
    }
    Ok(())
}

fn bad_plans() -> Outcome {
    let directory = tempfile::tempdir()?;
    let cases = [
        ("d_mpl = 256\n", &["plan.toml", "'d_mpl'", "d_mlp"][..]),
        ("d_mlp = 4\np = \n", &["plan.toml:2", "not TOML"]),
        ("train_fraction = 5\n", &["plan.toml", "train_fraction = 5", "(0, 1]"]),
        ("p = \"seven\"\n", &["plan.toml", "p = \"seven\"", "integer >= 3"]),
        ("schema = 99\n", &["schema = 99"]),
        ("[shape]\np = 7\n", &["plan.toml", "'shape'"]),
    ];
    for (text, parts) in cases {
        std::fs::write(directory.path().join("plan.toml"), text)?;
        refused(directory.path(), &["train", "--out", "run", "--plan", "plan.toml"], parts)?;
    }
    Ok(())
}

fn held_directory() -> Outcome {
    let directory = tempfile::tempdir()?;
    let output = grokscope_in(directory.path(), &[SMALL, &["--quiet"]].concat());
    require!(output.status.success(), "{output:?}");
    let plan = std::fs::read(directory.path().join("run/plan.toml"))?;
    refused(directory.path(), &[SMALL, &["--seed", "9"]].concat(), &["run: holds something already", "--resume"])?;
    require!(std::fs::read(directory.path().join("run/plan.toml"))? == plan, "plan.toml was touched");
    Ok(())
}

fn bad_resumes() -> Outcome {
    let directory = tempfile::tempdir()?;
    refused(directory.path(), &["train", "--resume", "nowhere"], &["nowhere: not a run"])?;
    let output = grokscope_in(directory.path(), &[SMALL, &["--quiet"]].concat());
    require!(output.status.success(), "{output:?}");
    refused(directory.path(), &["train", "--resume", "run", "--lr", "1"], &["lr cannot be changed", "steps"])?;
    refused(directory.path(), &["train", "--resume", "run", "--preset", "demo"], &["--resume", "--preset"])?;
    refused(directory.path(), &["train", "--resume", "run", "--steps", "2", "--out", "run"], &["run: exists already"])?;
    refused(
        directory.path(),
        &["train", "--resume", "run", "--steps", "2", "--out", "run/sub"],
        &["run/sub: lies inside run"],
    )?;
    refused(directory.path(), &["train", "--resume", "run", "--out", "copy", "--lr", "1"], &["lr cannot be changed"])?;
    refused(
        directory.path(),
        &["train", "--resume", "run", "--steps", "0"],
        &["steps = 0", "stands at step 1 already"],
    )?;
    refused(
        directory.path(),
        &["train", "--resume", "run", "--steps", "2", "--out", "copy", "--device", "nosuch"],
        &["'nosuch'"],
    )?;
    let lock = std::fs::File::create(directory.path().join("run/.lock"))?;
    lock.lock()?;
    refused(
        directory.path(),
        &["train", "--resume", "run", "--steps", "2", "--device", "cpu"],
        &["another grokscope is training"],
    )?;
    drop(lock);
    std::fs::write(directory.path().join("run/metrics.jsonl"), "{\"step\": }\n")?;
    refused(directory.path(), &["train", "--resume", "run", "--steps", "3"], &["metrics.jsonl:1", "not a row"])
}

/// A run of two checkpoints and the model beside it, made anew.
fn analysed_run(directory: &Path) -> Outcome {
    let output = grokscope_in(
        directory,
        &without_repeats(&[SMALL, &["--quiet", "--steps", "2", "--checkpoint-every", "1"]].concat()),
    );
    require!(output.status.success(), "{output:?}");
    let model = directory.join("model");
    std::fs::create_dir(&model)?;
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(directory.join("run").join(name), model.join(name))?;
    }
    Ok(())
}

fn bad_analyses() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    std::fs::create_dir(at.join("empty"))?;
    analysed_run(at)?;
    let before = (std::fs::read(at.join("run/findings.json"))?, std::fs::read(at.join("run/report.html"))?);
    refused(at, &["analyze", "nowhere"], &["nowhere: no such directory", "plan.toml", "config.json"])?;
    refused(at, &["analyze", "empty"], &["empty: not a run and not a model", "plan.toml", "config.json"])?;
    std::fs::create_dir_all(at.join("several/model-0"))?;
    std::fs::copy(at.join("run/plan.toml"), at.join("several/model-0/plan.toml"))?;
    refused(at, &["analyze", "several"], &["several: holds the runs of several models", "several/model-0"])?;
    refused(at, &["analyze", "run", "--step", "7"], &["run: no checkpoint of step 7", "3 from 0 to 2"])?;
    refused(at, &["analyze", "run", "--split", "split.csv"], &["--split", "knows its train pairs"])?;
    refused(at, &["analyze", "model", "--step", "1"], &["--step", "model has no checkpoints"])?;
    refused(at, &["analyze", "model", "--split", "absent.csv"], &["absent.csv", "could not be read"])?;
    refused(at, &["report", "model"], &["model/findings.json: not there", "grokscope analyze"])?;
    refused(at, &["analyze", "run", "--threads", "x"], &["--threads x", "integer"])?;
    refused(at, &["analyze", "model", "--step", "-1"], &["-1"])?;
    std::fs::write(at.join("split.csv"), "1,2\n9,9\n")?;
    refused(at, &["analyze", "model", "--split", "split.csv"], &["split.csv:2", "'9' is outside the grid"])?;

    // A model that is not what its config says.
    let config = std::fs::read_to_string(at.join("model/config.json"))?;
    let with = |field: &str, value: &str| -> Result<(), Failed> {
        let mut json: serde_json::Value = serde_json::from_str(&config)?;
        json[field] = serde_json::from_str(value)?;
        Ok(std::fs::write(at.join("model/config.json"), json.to_string())?)
    };
    let cases: &[(&str, &str, &[&str])] = &[
        ("d_mlp", "7", &["model.safetensors", "'blocks.0.mlp.W_in' is [4, 6]", "[4, 7]"]),
        ("d_vocab", "9", &["config.json", "d_vocab_out is 5"]),
        ("d_head", "3", &["config.json", "n_heads * d_head = 6", "d_model = 4"]),
        ("d_mlp", "null", &["config.json: d_mlp is null", "integer"]),
        ("d_mlp", "-3", &["config.json: d_mlp is -3", "integer"]),
        ("d_vocab", "100000", &["config.json: d_vocab is 100000"]),
        ("n_layers", "2", &["config.json: n_layers is 2", "expected 1"]),
        ("n_ctx", "4", &["config.json: n_ctx is 4", "expected 3"]),
        ("act_fn", "\"gelu\"", &["config.json: act_fn is \"gelu\"", "relu"]),
        ("normalization_type", "\"LN\"", &["normalization_type is \"LN\"", "null"]),
        ("grokscope", "{\"op\": \"pow\"}", &["'pow'", "add"]),
        ("grokscope", "{\"split\": \"philox:1\", \"train_fraction\": 1.5}", &["train_fraction is 1.5", "(0, 1]"]),
        ("grokscope", "{\"split\": \"philox:1\", \"train_fraction\": 1e30}", &["train_fraction", "(0, 1]"]),
        ("grokscope", "{\"split\": \"dice:1\", \"train_fraction\": 0.5}", &["dice:1", "philox"]),
    ];
    for (field, value, parts) in cases {
        with(field, value)?;
        refused(at, &["analyze", "model"], parts)?;
    }
    std::fs::write(at.join("model/config.json"), "{")?;
    refused(at, &["analyze", "model"], &["model/config.json: not JSON"])?;
    std::fs::write(at.join("model/config.json"), &config)?;

    // Weights that are not finite, in a model and in a checkpoint on the way.
    let good = std::fs::read(at.join("model/model.safetensors"))?;
    let mut nan = good.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(at.join("model/model.safetensors"), &nan)?;
    refused(at, &["analyze", "model"], &["model/model.safetensors", "holds NaN at element"])?;
    // Finite numbers whose products are not.
    let shape = Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 6, d_vocab_out: 5 };
    let huge = initial_weights("paper", 0, &shape).map(|&w| w * 1e37);
    std::fs::write(at.join("model/model.safetensors"), model_bytes(&huge, &shape)?)?;
    refused(at, &["analyze", "model"], &["model: a number of the analysis is not finite"])?;
    require!(!at.join("model/findings.json").exists(), "findings that are not finite were written");
    std::fs::write(at.join("model/model.safetensors"), &good[..100])?;
    refused(at, &["analyze", "model"], &["model/model.safetensors", "not a whole safetensors file"])?;
    let checkpoint = at.join("run/checkpoints/step-000001/model.safetensors");
    std::fs::write(&checkpoint, &nan)?;
    refused(at, &["analyze", "run"], &["step-000001/model.safetensors", "damaged"])?;
    std::fs::remove_file(at.join("run/checkpoints/step-000001/state.json"))?;
    refused(at, &["analyze", "run"], &["step-000001/model.safetensors", "holds NaN"])?;
    std::fs::remove_file(&checkpoint)?;
    refused(at, &["analyze", "run"], &["step-000001/model.safetensors", "could not be read"])?;
    let after = (std::fs::read(at.join("run/findings.json"))?, std::fs::read(at.join("run/report.html"))?);
    require!(before == after, "findings or page of the run were touched");

    // Findings that are not this network's.
    std::fs::write(&checkpoint, &good)?;
    std::fs::write(at.join("run/findings.json"), "{}")?;
    refused(at, &["report", "run"], &["run/findings.json: not the findings of an analysis"])?;
    let other = String::from_utf8_lossy(&before.0).replace("\"d_mlp\": 6", "\"d_mlp\": 8");
    std::fs::write(at.join("run/findings.json"), other)?;
    refused(at, &["report", "run"], &["run/findings.json: of another network"])
}

/// Even and composite p, where everything but what does not apply is there; operations that are no cyclic group, which have a page of
/// their own.
fn unusual_moduli() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    for (p, op) in [("6", "add"), ("9", "sub"), ("3", "add"), ("5", "mul"), ("4", "add")] {
        let out = format!("run-{p}-{op}");
        let arguments = [SMALL, &["--quiet", "--p", p, "--op", op, "--train-fraction", "0.6", "--out", &out]].concat();
        // The flags of SMALL come first; a second --out or --p is an error of clap's.
        let arguments: Vec<&str> = without_repeats(&arguments);
        let output = grokscope_in(at, &arguments);
        require!(output.status.success(), "{arguments:?}: {output:?}");
        let findings: serde_json::Value = serde_json::from_slice(&std::fs::read(at.join(&out).join("findings.json"))?)?;
        let irrelevance = &findings["clock_or_pizza"]["distance_irrelevance"];
        let order = findings["model"]["order"].as_u64().ok_or("no order")?;
        require!(irrelevance.is_null() == (order % 2 == 0), "p = {p}: distance irrelevance is {irrelevance}");
        require!(at.join(&out).join("report.html").is_file(), "p = {p} has no page");
    }
    for (p, op) in [("9", "mul"), ("3", "mul"), ("8", "div"), ("7", "squares")] {
        let out = format!("run-{p}-{op}");
        let arguments = [SMALL, &["--quiet", "--p", p, "--op", op, "--train-fraction", "0.6", "--out", &out]].concat();
        let output = grokscope_in(at, &without_repeats(&arguments));
        require!(output.status.success(), "{arguments:?}: {output:?}");
        require!(String::from_utf8_lossy(&output.stdout).contains("certificate  none"), "{output:?}");
        let findings: serde_json::Value = serde_json::from_slice(&std::fs::read(at.join(&out).join("findings.json"))?)?;
        require!(findings["key_frequencies"] == serde_json::json!([]), "{op} mod {p} has keys");
        require!(findings["representations"]["group"] == format!("Z_{p}"), "{op} mod {p}: {findings}");
        let output = grokscope_in(at, &["report", &out, "--figures", "figures", "--tables", "tables"]);
        require!(output.status.success(), "{output:?}");
        require!(
            at.join("tables/representations.csv").is_file() && at.join("figures/representations.svg").is_file(),
            ""
        );
    }
    // Of 8 * 8 pairs 8 * 4 have a quotient, and six tenths of them are trained on.
    let findings: serde_json::Value = serde_json::from_slice(&std::fs::read(at.join("run-8-div/findings.json"))?)?;
    require!(findings["model"]["train_pairs"] == 19, "{}", findings["model"]);
    Ok(())
}

/// The arguments with only the last of each flag that stands there twice.
fn without_repeats<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = arguments.iter().copied().peekable();
    while let Some(flag) = rest.next() {
        let value = rest.next_if(|next| flag.starts_with("--") && !next.starts_with("--"));
        if let Some(at) = kept.iter().position(|other| *other == flag && flag.starts_with("--")) {
            kept.drain(at..at + 1 + usize::from(value.is_some()));
        }
        kept.push(flag);
        kept.extend(value);
    }
    kept
}
