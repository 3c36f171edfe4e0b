//! Bit-identical training on every processor: the CPU engine writes the same bytes of metrics.jsonl and model.safetensors on x86-64 with
//! AVX2 or AVX-512 and on ARM64, on Linux and on Windows.
//!
//! Trains within this process, so that emulators need to start nothing else. Compares with the SHA-256 sums of tests/golden/history.json.
//! After an intended change of rounding, write them again, and note it in CHANGELOG.md:
//!
//! ```sh
//! GROKSCOPE_WRITE_HISTORY=1 cargo test --release --test suite -- one_history
//! ```

use crate::support::{Outcome, require};
use grokscope::cpu::vector::is_fused;
use grokscope::devices;
use grokscope::gpu::device::KernelChoice;
use grokscope::plan::Draft;
use grokscope::progress::Style;
use grokscope::session::{self, AtOnce, Options};
use libtest_mimic::{Failed, Trial};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const GOLDEN: &str = include_str!("../golden/history.json");
const FILES: [&str; 2] = ["metrics.jsonl", "model.safetensors"];

/// The fields that each history sets in addition to p and steps.
const HISTORIES: [(&str, (&str, &str)); 6] = [
    ("composed", ("program", "composed")),
    ("layered", ("program", "layered")),
    ("muon", ("optimizer", "muon")),
    ("grokfast", ("grokfast", "ema")),
    ("sgd", ("optimizer", "sgd")),
    ("stablemax", ("loss", "stablemax")),
];

/// Hex sums by history and file.
type Sums = BTreeMap<String, BTreeMap<String, String>>;

pub fn tests() -> Vec<Trial> {
    // Without fused multiply-add products round differently, and train says so.
    let kind = if is_fused() { "" } else { "this processor has no fused multiply-add" };
    vec![
        Trial::test("one_history_of_training_on_every_processor", history)
            .with_kind(kind)
            .with_ignored_flag(!is_fused()),
    ]
}

fn history() -> Outcome {
    let sums: Sums =
        HISTORIES.iter().map(|&(name, field)| Ok((name.into(), sums_of(field)?))).collect::<Result<_, Failed>>()?;
    if std::env::var("GROKSCOPE_WRITE_HISTORY").is_ok_and(|value| value == "1") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/history.json");
        std::fs::write(path, serde_json::to_string_pretty(&sums)? + "\n")?;
        return Ok(());
    }
    let golden: Sums = serde_json::from_str(GOLDEN)?;
    require!(golden.keys().eq(sums.keys()), "tests/golden/history.json has {:?}", golden.keys());
    let mut differing = Vec::new();
    for (name, files) in &sums {
        for (file, sum) in files {
            if golden[name].get(file) != Some(sum) {
                differing.push(format!("{file} of {name}: {sum}"));
            }
        }
    }
    require!(differing.is_empty(), "the files differ from tests/golden/history.json:\n{}", differing.join("\n"));
    Ok(())
}

/// Trains for 20 steps and returns the sums of the files.
fn sums_of((field, value): (&str, &str)) -> Result<BTreeMap<String, String>, Failed> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run");
    let mut draft = Draft::from_preset("demo")?;
    for (field, value) in [("p", "11"), ("steps", "20"), ("eval_every", "1"), (field, value)] {
        draft.set(field, value)?;
    }
    let options = Options {
        device: "cpu".into(),
        threads: 2,
        style: Style::Quiet,
        at_once: AtOnce::Fitting,
        page: false,
        tensorboard: false,
        stop: &STOP,
        kernels: KernelChoice::Auto,
        choose: &devices::choose_checked,
        open: &devices::open_engine,
    };
    session::train(&draft.finish()?, &run, &options)?;
    let sum = |file: &str| -> Result<(String, String), Failed> {
        let bytes = Sha256::digest(std::fs::read(run.join(file))?);
        Ok((file.into(), bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    };
    FILES.into_iter().map(sum).collect()
}
