//! Activations alone: `transform` has the numbers of `analyze`, and says what is wrong with arrays that it refuses.

use crate::support::{Outcome, grokscope, require, succeed, test, text};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

pub fn tests() -> Vec<Trial> {
    vec![
        test("transform_has_the_numbers_of_analyze", as_analyzed),
        test("transform_reads_what_numpy_writes", reads),
        test("transform_refuses_malformed_arrays_in_one_line", refuses),
    ]
}

fn json(path: &Path) -> Result<Value, Failed> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn as_analyzed() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let run = scratch.path().join("run").display().to_string();
    let small = ["--set", "d_model=16", "--set", "d_mlp=24", "--set", "steps=300", "--p", "13"];
    succeed(&[&["train", "--quiet", "--device", "cpu", "--preset", "demo", "--out", &run], &small[..]].concat())?;
    succeed(&["export", &run, "--format", "npz", "--activations"])?;
    let (file, out) = (format!("{run}/activations.npz"), scratch.path().join("out"));
    let post = "blocks.0.mlp.hook_post";
    succeed(&["transform", &file, "--array", post, "--out", &out.display().to_string(), "--quiet"])?;
    let (found, findings) = (json(&out.join("transform.json"))?, json(&Path::new(&run).join("findings.json"))?);
    let (ours, theirs) = (&found["arrays"][0]["neurons"], &findings["neurons"]);
    for name in ["frequency", "explained", "dead"] {
        require!(ours[name] == theirs[name], "{name}: {} and {}", ours[name], theirs[name]);
    }
    for name in ["fve", "fires"] {
        let numbers =
            |of: &Value| of[name].as_array().map(|all| all.iter().filter_map(Value::as_f64).collect::<Vec<_>>());
        let (a, b) = (numbers(ours).ok_or("no list")?, numbers(theirs).ok_or("no list")?);
        require!(a.len() == 24 && b.len() == 24, "{name}: {} and {} numbers", a.len(), b.len());
        // Activations are exported as float32.
        require!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {a:?} and {b:?}");
    }
    let files: Vec<String> = std::fs::read_dir(&out)?
        .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, Failed>>()?;
    for wanted in ["magnitude.svg", "power.svg", "fve.svg", "phases.svg", "coefficients.npz", "transform.html"] {
        require!(files.iter().any(|file| file.ends_with(wanted)), "no {wanted} among {files:?}");
    }
    let again = grokscope(&["transform", &file, "--out", &out.display().to_string()]);
    require!(text(&again.stderr).contains("exists already"), "{}", text(&again.stderr));
    Ok(())
}

/// The arrays of tests/numpy/malformed.py.
fn arrays(directory: &Path) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/test-venv/bin/python");
    let made = Command::new(python).arg(root.join("tests/numpy/malformed.py")).arg(directory).output()?;
    require!(made.status.success(), "{}", text(&made.stderr));
    Ok(())
}

fn reads() -> Outcome {
    let scratch = tempfile::tempdir()?;
    arrays(scratch.path())?;
    let transformed = |name: &str| -> Result<Value, Failed> {
        let (file, out) = (scratch.path().join(name), scratch.path().join(format!("{name}-out")));
        succeed(&["transform", &file.display().to_string(), "--out", &out.display().to_string(), "--quiet"])?;
        Ok(json(&out.join("transform.json"))?["arrays"].clone())
    };
    for name in ["good.npy", "deflated.npz", "integers.npy", "big-endian.npy"] {
        let found = transformed(name)?;
        let neurons = &found[0]["neurons"];
        require!(found.as_array().is_some_and(|all| all.len() == 1), "{name}: {found}");
        require!(neurons["frequency"][0] == 3 && neurons["fve"][0].as_f64() > Some(0.99), "{name}: {neurons}");
    }
    // cos w (x + y) has no wave of x or y alone, so a unit of frequency 3 with phases needs one.
    let (fortran, plain) = (transformed("fortran.npy")?, transformed("plain.npy")?);
    require!(fortran[0]["neurons"] == plain[0]["neurons"], "{fortran} {plain}");
    require!(fortran[0]["phase_x"] == plain[0]["phase_x"] && fortran[0]["units"] == 2, "{fortran}");
    let listed = transformed("listed.npz")?;
    require!(listed.as_array().is_some_and(|all| all.len() == 1), "{listed}");
    require!(listed[0]["order"] == 8 && listed[0]["units"] == 64, "{listed}");
    // Names that are alike as file names each have their own figures.
    require!(transformed("alike.npz")?.as_array().is_some_and(|all| all.len() == 4), "four arrays");
    let figures = std::fs::read_dir(scratch.path().join("alike.npz-out"))?.filter_map(Result::ok);
    let maps = figures.filter(|file| file.file_name().to_string_lossy().ends_with("-power.svg")).count();
    require!(maps == 4, "{maps} maps of four arrays");
    Ok(())
}

fn refuses() -> Outcome {
    let scratch = tempfile::tempdir()?;
    arrays(scratch.path())?;
    for (name, why) in [
        ("shape.npy", "shape [7, 6]"),
        ("empty.npy", "shape [0, 0]"),
        ("flat.npy", "shape [49]"),
        ("two.npy", "shape [2, 2]"),
        ("none.npy", "shape [7, 7, 0]"),
        ("nan.npy", "is NaN"),
        ("infinite.npy", "is inf"),
        ("object.npy", "dtype '|O'"),
        ("text.npy", "unsupported dtype"),
        ("complex.npy", "dtype '<c16'"),
        ("structured.npy", "unsupported dtype"),
        ("cut-off.npy", "truncated"),
        ("cut-header.npy", "truncated"),
        ("cut-archive.npz", "truncated"),
        ("nothing.npz", "neither"),
        ("words.npz", "neither"),
        ("unsuitable.npz", "There are a, b"),
        ("3gb.npy", "truncated"),
        ("large.npy", "Scale the array"),
        ("tiny.npy", "Scale the array"),
        ("wrapping.npy", "too large for this machine"),
        ("wrapping-units.npy", "too large for this machine"),
        ("huge.npy", "too large for this machine"),
        ("absent.npz", "could not be opened"),
        ("transposed.npz", "row 1: expected (0, 1), got (1, 0)"),
        ("twice.npz", "row 5: expected (0, 5), got (0, 6)"),
        ("from-one.npz", "row 0: expected (0, 0), got (1, 1)"),
        ("pairs-of-text.npz", "array 'pairs': unsupported dtype"),
    ] {
        let out = scratch.path().join("out");
        let file = scratch.path().join(name).display().to_string();
        let output = grokscope(&["transform", &file, "--out", &out.display().to_string()]);
        let said = text(&output.stderr);
        require!(output.status.code() == Some(1), "{name}: {:?} {said}", output.status);
        require!(said.contains(why) && said.contains(name) && said.trim().lines().count() == 1, "{name}: {said}");
        require!(!out.exists(), "{name}: something was written");
    }
    if cfg!(unix) {
        let pipe = scratch.path().join("pipe");
        require!(Command::new("mkfifo").arg(&pipe).status()?.success(), "no pipe");
        let output = grokscope(&["transform", "/dev/null", "--out", "nowhere"]);
        require!(text(&output.stderr).contains("not a regular file"), "{}", text(&output.stderr));
        let output = grokscope(&["transform", &pipe.display().to_string(), "--out", "nowhere"]);
        require!(text(&output.stderr).contains("not a regular file"), "{}", text(&output.stderr));
    }
    let file = scratch.path().join("one-object.npz").display().to_string();
    let output = grokscope(&["transform", &file, "--array", "b", "--out", "nowhere"]);
    require!(text(&output.stderr).contains("array 'b'"), "{}", text(&output.stderr));
    let output = grokscope(&["transform", &file, "--array", "c", "--out", "nowhere"]);
    require!(text(&output.stderr).contains("Available arrays: a, b"), "{}", text(&output.stderr));
    Ok(())
}
