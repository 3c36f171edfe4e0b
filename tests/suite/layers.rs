//! What reaches the Vulkan driver, seen by a layer between it and the program (`tests/layers/layer.c`).

use crate::support::{self, Outcome, require, test, wanted_adapter};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::Command;

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("a_training_step_is_at_most_twenty_dispatches", dispatches).with_kind("vulkan")]
}

/// Builds the layer into a directory.
fn build(directory: &Path) -> Outcome {
    let library = directory.join("liblayer.so");
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg("tests/layers/layer.c")
        .status()?;
    require!(built.success(), "the layer cannot be built: is libvulkan-dev installed?");
    std::fs::copy("tests/layers/layer.json", directory.join("layer.json"))?;
    Ok(())
}

/// Dispatches of a run with some steps on the test adapter.
fn count(directory: &Path, kernels: &str, steps: &str) -> Result<u64, Failed> {
    let (counts, out) = (directory.join("counts"), directory.join("run"));
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let run =
        ["train", "--preset", "demo", "--p", "23", "--quiet", "--eval-every", "1000", "--checkpoint-every", "1000"];
    let output = support::program()
        .args(run)
        .args(["--steps", steps, "--kernels", kernels, "--device", &wanted_adapter(), "--out"])
        .arg(&out)
        .env("VK_LAYER_PATH", directory)
        .env("VK_INSTANCE_LAYERS", "VK_LAYER_GROKSCOPE_test")
        .env("GROKSCOPE_LAYER_COUNTS", &counts)
        .output()?;
    require!(output.status.success(), "{}", support::text(&output.stderr));
    let text = std::fs::read_to_string(&counts).map_err(|e| format!("the layer was not loaded: {e}"))?;
    let number = text.trim().strip_prefix("dispatches ").and_then(|number| number.parse().ok());
    Ok(number.ok_or(format!("{text:?}"))?)
}

/// Between runs of 1 step and of 11 lie ten steps; evaluations and the self-check are the same. The first run leaves the self-check's result.
fn dispatches() -> Outcome {
    let directory = tempfile::tempdir()?;
    build(directory.path())?;
    for (kernels, most) in [("wide", 20), ("auto", 43)] {
        count(directory.path(), kernels, "1")?;
        let [one, eleven] = ["1", "11"].map(|steps| count(directory.path(), kernels, steps));
        let (one, eleven) = (one?, eleven?);
        let of_ten = eleven.checked_sub(one).ok_or(format!("{one} dispatches, then {eleven}"))?;
        println!("{kernels}: {} dispatches a step", of_ten as f64 / 10.0);
        require!(of_ten > 0 && of_ten % 10 == 0 && of_ten <= 10 * most, "{kernels}: {of_ten} dispatches in ten steps");
    }
    Ok(())
}
