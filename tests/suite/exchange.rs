//! Weights to and from other programs, and the tier of tests against TransformerLens and PyTorch (scripts/lens.sh).

use crate::support::{Outcome, grokscope_in, require, succeed, test};
use grokscope::run::lens::sha256;
use grokscope::task::permutation;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_network_goes_to_numpy_and_to_the_paper_and_back", there_and_back),
        test("what_is_no_such_network_is_not_taken", refusals),
    ]
}

/// Against packages of many gigabytes: ignored, and told so, unless scripts/lens.sh has installed them.
pub fn lens_tests() -> Vec<Trial> {
    let wanted = std::env::var("GROKSCOPE_LENS").is_ok_and(|value| value == "1");
    let tier = |trial: Trial| trial.with_kind("lens").with_ignored_flag(!wanted);
    vec![
        tier(test("lens_computes_what_grokscope_computes", forward)),
        tier(test("lens_state_dicts_are_analysed", state_dicts)),
        tier(test("lens_splits_are_pytorchs_and_pythons", splits)),
        tier(test("lens_readers_read_what_a_run_leaves", readers)),
        tier(test("lens_methods_are_pytorchs_and_their_authors", methods)),
        tier(test("lens_experiments_begin_as_in_pytorch", experiments)),
    ]
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a script in one of the virtual environments under target/, and gives what it printed.
fn python(environment: &str, script: &str, arguments: &[&str]) -> Result<String, Failed> {
    let python = root().join("target").join(environment).join("bin/python");
    require_file(&python)?;
    let output = Command::new(python).arg(root().join(script)).args(arguments).output()?;
    succeeded(&output, script)
}

fn require_file(path: &Path) -> Outcome {
    require!(path.is_file(), "{} is not there", path.display());
    Ok(())
}

fn succeeded(output: &Output, what: &str) -> Result<String, Failed> {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    require!(output.status.success(), "{what} ended with {}: {out}{err}", output.status);
    // What scripts say for people is short.
    if out.lines().count() < 10 {
        print!("{out}");
    }
    Ok(out.into_owned())
}

/// A network of a moment, in directory/run.
fn train(directory: &Path, more: &[&str]) -> Result<PathBuf, Failed> {
    let run = directory.join("run");
    let small = ["--set", "d_model=12", "--set", "n_heads=3", "--set", "d_mlp=20", "--set", "steps=40"];
    let fixed = ["train", "--quiet", "--device", "cpu", "--preset", "demo"];
    succeed(&[&fixed[..], &small, &["--out", &path(&run)], more].concat())?;
    Ok(run)
}

fn read_json(path: &Path) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// NumPy finds in the archive what the safetensors have, and the paper's layout comes back to the same bytes and findings.
fn there_and_back() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let run = train(at, &["--p", "11", "--set", "equals_class=true"])?;
    for more in [&["--format", "npz"][..], &["--format", "npz", "--activations"], &["--format", "paper"]] {
        succeed(&[&["export", &path(&run)], more].concat())?;
    }
    python("test-venv", "tests/numpy/archives.py", &[&path(&run)])?;
    let (paper, back) = (run.join("paper.safetensors"), at.join("back"));
    let rule = ["--split", "philox:3", "--train-fraction", "0.6"];
    succeed(&[&["import", &path(&paper), "--out", &path(&back)], &rule[..]].concat())?;
    require!(
        std::fs::read(back.join("model.safetensors"))? == std::fs::read(run.join("model.safetensors"))?,
        "the paper's layout came back with other bytes"
    );
    succeed(&["analyze", "--quiet", &path(&back)])?;
    let (mut there, here) = (read_json(&back.join("findings.json"))?, read_json(&run.join("findings.json"))?);
    there["model"]["step"] = here["model"]["step"].clone();
    there["progress"] = here["progress"].clone();
    require!(there == here, "a network that was away has other findings");
    // An earlier checkpoint has other weights.
    let first = at.join("first.npz");
    succeed(&["export", &path(&run), "--format", "npz", "--step", "0", "--out", &path(&first)])?;
    require!(std::fs::read(first)? != std::fs::read(run.join("model.npz"))?, "step 0 is the end");
    Ok(())
}

fn refusals() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    train(at, &["--p", "11"])?;
    succeed(&["export", &path(&at.join("run")), "--format", "transformer-lens"])?;
    std::fs::write(at.join("broken"), b"not safetensors")?;
    let file = "run/transformer-lens.safetensors";
    let cases: &[(&[&str], &[&str])] = &[
        (&["export", "run", "--format", "pickle"], &["'pickle'", "transformer-lens, paper, npz"]),
        (&["export", "run", "--format", "paper"], &["11 classes", "equals_class = true"]),
        (&["export", "run", "--format", "paper", "--activations"], &["--activations", "expected --format npz"]),
        (&["export", "run", "--format", "npz", "--step", "7"], &["step"]),
        (&["export", "nowhere", "--format", "npz"], &["nowhere"]),
        (&["import", "broken", "--out", "new"], &["broken: not a whole safetensors file"]),
        (&["import", file, "--out", "run"], &["run: is there already"]),
        (&["import", file, "--out", "new", "--op", "s5"], &["p = 11", "expected p = 120"]),
        (&["import", file, "--out", "new", "--n-heads", "5"], &["has 3 heads"]),
        (&["import", file, "--out", "new", "--split", "torch:1"], &["--train-fraction"]),
        (&["import", file, "--out", "new", "--split", "a.csv", "--train-fraction", "0.5"], &["expected a rule"]),
        (&["import", file, "--out", "new", "--split", "torch:1", "--train-fraction", "7"], &["(0, 1]"]),
    ];
    for (arguments, parts) in cases {
        let output = grokscope_in(at, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        require!(output.status.code() == Some(1), "{arguments:?} ended with {}: {said}", output.status);
        require!(said.lines().count() == 1 && said.starts_with("error: "), "{arguments:?}: {said}");
        for part in *parts {
            require!(said.contains(part), "{arguments:?}: no '{part}' in {said}");
        }
        require!(!at.join("new").exists(), "{arguments:?} has left a directory");
    }
    Ok(())
}

/// TransformerLens 4 and 3 load what train wrote, strictly, and compute the same logits and activations on every pair.
fn forward() -> Outcome {
    let cases: &[&[&str]] =
        &[&["--steps", "600"], &["--p", "23", "--set", "equals_class=true"], &["--p", "17", "--op", "div"]];
    for more in cases {
        let directory = tempfile::tempdir()?;
        let run = directory.path().join("run");
        let fixed = ["train", "--quiet", "--device", "cpu", "--preset", "demo", "--set", "steps=200", "--out"];
        succeed(&[&fixed[..], &[&path(&run)], more].concat())?;
        succeed(&["export", &path(&run), "--format", "npz", "--activations"])?;
        for version in ["lens-4", "lens-3"] {
            python(version, "tests/lens/forward.py", &[&path(&run), &path(&run.join("activations.npz"))])?;
        }
    }
    Ok(())
}

/// A network trained in TransformerLens, as safetensors and pickled; and a bridge's state dict.
fn state_dicts() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let (state, unpickled) = (at.join("state.safetensors"), at.join("unpickled.safetensors"));
    python("lens-3", "tests/lens/train_elsewhere.py", &[&path(&state), "31", "400"])?;
    python("lens-3", "scripts/pth_to_safetensors.py", &[&path(&at.join("state.pth")), &path(&unpickled), "model"])?;
    let bridge = at.join("bridge.safetensors");
    let rule = ["--split", "torch:598", "--train-fraction", "0.8"];
    let take = |file: &Path, name: &str, more: &[&str]| -> Result<PathBuf, Failed> {
        let out = at.join(name);
        succeed(&[&["import", &path(file), "--out", &path(&out)], &rule[..], more].concat())?;
        succeed(&["analyze", "--quiet", &path(&out)])?;
        Ok(out)
    };
    let first = take(&state, "first", &[])?;
    let second = take(&unpickled, "second", &[])?;
    python("lens-4", "tests/lens/bridge_state.py", &[&path(&first), &path(&bridge)])?;
    let third = take(&bridge, "third", &["--n-heads", "2"])?;
    let expected: f64 = std::fs::read_to_string(at.join("state.accuracy"))?.parse()?;
    let findings = read_json(&first.join("findings.json"))?;
    let found = findings["scores"]["all"]["accuracy"].as_f64().ok_or("no accuracy")?;
    require!((found - expected).abs() < 1e-9, "accuracy {found} here, {expected} there");
    require!(
        expected > 0.5,
        "what was trained there has an accuracy of {expected} only: too little to tell a network by"
    );
    for other in [second, third] {
        require!(read_json(&other.join("findings.json"))? == findings, "{} has other findings", other.display());
    }
    Ok(())
}

fn readers() -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = path(&directory.path().join("run"));
    let often = ["--steps", "300", "--eval-every", "20"];
    let train = ["train", "--quiet", "--device", "cpu", "--preset", "demo", "--tensorboard", "--out", &run];
    succeed(&[&train, &often[..]].concat())?;
    python("lens-4", "tests/lens/readers.py", &[&run])?;
    let more = ["train", "--quiet", "--device", "cpu", "--tensorboard", "--resume", &run, "--steps", "400"];
    succeed(&more)?;
    python("lens-4", "tests/lens/board.py", &[&run])?;
    Ok(())
}

fn methods() -> Outcome {
    python("lens-4", "tests/lens/methods.py", &["tests/golden/methods.json"]).map(|_| ())
}

fn splits() -> Outcome {
    let told = python("lens-4", "tests/lens/splits.py", &[])?;
    let mut compared = 0;
    for line in told.lines() {
        let case: Value = serde_json::from_str(line)?;
        let (rule, pairs) = (case["split"].as_str().ok_or("no split")?, case["pairs"].as_u64().ok_or("no pairs")?);
        let order = permutation(&rule.parse()?, pairs as usize);
        let bytes: Vec<u8> = order.iter().flat_map(|i| i.to_le_bytes()).collect();
        require!(sha256(&bytes) == case["sha256"], "{rule} of {pairs} pairs is another order here");
        compared += 1;
    }
    require!(compared == 240, "{compared} orders were compared");
    Ok(())
}

/// The set-ups of the two sources at their full size, for their first losses.
fn experiments() -> Outcome {
    for preset in ["paper", "transformer-lens"] {
        let directory = tempfile::tempdir()?;
        let run = path(&directory.path().join(preset));
        let often = ["--steps", "45", "--eval-every", "1", "--checkpoint-every", "45"];
        succeed(&[&["train", "--quiet", "--device", "cpu", "--preset", preset, "--out", &run], &often[..]].concat())?;
        python("lens-4", "tests/lens/experiment.py", &[&run])?;
    }
    Ok(())
}
