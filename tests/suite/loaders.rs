//! Files from elsewhere: the fuzzer's seeds are replayed, and what is wrong in them is told with its place.

#[path = "../../fuzz/loaders.rs"]
mod fuzzed;

use crate::support::{Outcome, require, test};
use base64::Engine;
use grokscope::plan::{Plan, Shape};
use grokscope::run::lens::{Config, read_init};
use grokscope::run::rows_of;
use grokscope::task::{Op, Pairs, Split};
use grokscope::train::Evaluation;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_seeds_of_the_fuzzer_are_read_or_refused", replay),
        test("bad_files_are_refused_with_the_place", places),
        test("the_memory_of_a_loader_is_bounded_by_its_input", bounded),
    ]
}

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds")
}

type Loader = fn(&[u8]);

fn replay() -> Outcome {
    let targets: [(&str, Loader); 5] = [
        ("safetensors", fuzzed::safetensors),
        ("plan", fuzzed::plan),
        ("config", fuzzed::config),
        ("metrics", fuzzed::metrics),
        ("csv", fuzzed::csv),
    ];
    for (name, load) in targets {
        let mut count = 0;
        for entry in std::fs::read_dir(seeds().join(name))? {
            let path = entry?.path();
            let bytes = std::fs::read(&path)?;
            let read = std::panic::catch_unwind(|| load(&bytes));
            require!(read.is_ok(), "{} is neither read nor refused", path.display());
            count += 1;
        }
        require!(count >= 8, "only {count} seeds of {name}");
        // What a campaign found to take a new way through the loader, a line each.
        let found = std::fs::read_to_string(seeds().with_file_name("found").join(format!("{name}.base64")))?;
        for (number, line) in found.lines().enumerate() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(line)?;
            let read = std::panic::catch_unwind(|| load(&bytes));
            require!(read.is_ok(), "found/{name}.base64:{}: neither read nor refused", number + 1);
        }
        require!(found.lines().count() >= 50, "only {} inputs were found for {name}", found.lines().count());
    }
    Ok(())
}

/// What the loader of a seed says.
fn said(target: &str, seed: &str) -> Result<String, Failed> {
    let path = seeds().join(target).join(seed);
    let (bytes, name) = (std::fs::read(&path)?, "the-file");
    let text = String::from_utf8_lossy(&bytes);
    let shape = Shape { p: 3, d_model: 2, n_heads: 1, d_mlp: 2, d_vocab_out: 3 };
    let result = match target {
        "safetensors" => read_init(&bytes, &shape, name).map(|_| ()),
        "plan" => Plan::from_toml(&text, name).map(|_| ()),
        "config" => Config::read(&text, name).map(|_| ()),
        "metrics" => rows_of::<Evaluation>(&text, name).map(|_| ()),
        _ => Pairs::train(&Split::File(name.into()), 0.3, Op::Add, 113, Some(&text)).map(|_| ()),
    };
    Ok(result.map_or_else(|error| format!("{error:#}"), |()| "read".into()))
}

fn places() -> Outcome {
    for (target, seed, expected) in [
        ("safetensors", "model", "read"),
        ("safetensors", "metadata", "read"),
        ("safetensors", "name-twice", "stands there twice"),
        ("safetensors", "offsets-overlap", "not a whole safetensors file"),
        ("safetensors", "offsets-overflow", "not a whole safetensors file"),
        ("safetensors", "shape-overflow", "not a whole safetensors file"),
        ("safetensors", "wrong-dtype", "not a whole safetensors file"),
        ("safetensors", "header-huge", "not a whole safetensors file"),
        ("safetensors", "header-beyond-the-end", "not a whole safetensors file"),
        ("safetensors", "nesting", "not a whole safetensors file"),
        ("safetensors", "nan", "NaN at element 0"),
        ("safetensors", "infinity", "inf at element"),
        ("safetensors", "bias", "is not zero"),
        ("safetensors", "unused-tail", "not a whole safetensors file"),
        ("plan", "plan", "read"),
        ("plan", "name-twice", "duplicate key"),
        ("plan", "nesting", "the-file:1"),
        ("plan", "nan", "lr"),
        ("plan", "infinity", "lr"),
        ("plan", "negative", "steps"),
        ("plan", "unknown", "colour"),
        ("config", "config", "read"),
        ("config", "name-twice", "'d_model' stands there twice"),
        ("config", "nesting", "recursion limit"),
        ("config", "huge", "d_mlp"),
        ("config", "zero-heads", "n_heads is 0"),
        ("config", "fraction", "train_fraction is -1"),
        ("metrics", "metrics", "read"),
        ("metrics", "torn", "read"),
        ("metrics", "name-twice", "duplicate field"),
        ("metrics", "null", "the-file:1"),
        ("metrics", "nesting", "the-file:1"),
        ("metrics", "unknown", "colour"),
        ("csv", "split", "read"),
        ("csv", "crlf", "read"),
        ("csv", "pair-twice", "the-file:2: the pair 0,1 stands on line 1 already"),
        ("csv", "outside", "the-file:1: '113' is outside the grid"),
        ("csv", "negative", "the-file:1: '-1' is no number"),
        ("csv", "overflow", "the-file:1: '4294967296' is no number"),
        ("csv", "semicolons", "the-file:1: expected two numbers"),
        ("csv", "header", "the-file: holds no pair"),
    ] {
        let said = said(target, seed)?;
        require!(said.contains(expected), "{target}/{seed}: expected '{expected}' in: {said}");
        require!(said == "read" || said.contains("the-file"), "{target}/{seed}: the file is not named: {said}");
    }
    Ok(())
}

/// Headers and sizes that ask for much, in files of a few bytes: the program refuses them within 400 MB of address space, which
/// it needs for its code and threads anyhow.
fn bounded() -> Outcome {
    let directory = tempfile::tempdir()?;
    let model = directory.path().join("model");
    std::fs::create_dir(&model)?;
    let config = std::fs::read_to_string(seeds().join("config/config"))?;
    std::fs::write(model.join("config.json"), config.replace("\"d_mlp\": 2", "\"d_mlp\": 65536"))?;
    std::fs::copy(seeds().join("safetensors/model"), model.join("model.safetensors"))?;
    let program = env!("CARGO_BIN_EXE_grokscope");
    let tiny = "train --p 3 --d-model 2 --n-heads 1 --d-mlp 2 --device cpu --threads 1 --dry-run";
    let from = |seed: &str| format!("{program} {tiny} --init {}", seeds().join("safetensors").join(seed).display());
    let mut lines: Vec<String> = Vec::new();
    for seed in ["header-huge", "offsets-overflow", "shape-overflow", "nesting"] {
        let file = directory.path().join(format!("{seed}.safetensors"));
        std::fs::copy(seeds().join("safetensors").join(seed), &file)?;
        lines.push(from(&file.display().to_string()));
    }
    lines.push(format!("{program} analyze --threads 1 {}", model.display()));
    for line in lines {
        let output = Command::new("sh").args(["-c", &format!("ulimit -v 400000; {line}")]).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        require!(output.status.code() == Some(1), "{line}: {:?}: {told}", output.status);
        require!(told.starts_with("error: ") && !told.contains("panicked"), "{line}: {told}");
    }
    Ok(())
}
