//! Every loader of files that come from elsewhere, as the fuzzer and the replay of its seeds call it: whatever the bytes are, the
//! answer is a value or an error that names the file, and a value that was read is sound.

#![allow(dead_code, reason = "each fuzz target uses one")]

use grokscope::plan::{Plan, Shape};
use grokscope::run::lens::{Config, read_checkpoint, read_init, sha256};
use grokscope::run::rows_of;
use grokscope::task::{Op, Pairs, Split};
use grokscope::train::Evaluation;

/// The file's name in errors.
const NAME: &str = "the-file";

fn told(error: anyhow::Error) {
    let text = format!("{error:#}");
    assert!(text.contains(NAME), "an error that does not name the file: {text}");
}

const SHAPE: Shape = Shape { p: 3, d_model: 2, n_heads: 1, d_mlp: 2, d_vocab_out: 3 };

pub fn safetensors(bytes: &[u8]) {
    match read_init(bytes, &SHAPE, NAME) {
        Ok(weights) => assert!(weights.tensors.iter().flatten().all(|x| x.is_finite())),
        Err(error) => told(error),
    }
    // The same bytes as a checkpoint whose sums are right.
    let sum = sha256(bytes);
    let sums = format!("{{\"model.safetensors\": \"{sum}\", \"optimizer.safetensors\": \"{sum}\"}}");
    let state = format!("{{\"schema\": 1, \"step\": 7, \"sha256\": {sums}}}");
    if let Err(error) = read_checkpoint(7, state.as_bytes(), bytes, bytes, &SHAPE, 1, NAME) {
        told(error);
    }
    if let Err(error) = read_checkpoint(7, bytes, bytes, bytes, &SHAPE, 1, NAME) {
        told(error);
    }
}

pub fn plan(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Plan::from_toml(text, NAME) {
        Ok(plan) => assert_eq!(Plan::from_toml(&plan.to_toml(), NAME).expect("a plan reads what it wrote"), plan),
        Err(error) => told(error),
    }
}

pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::read(text, NAME) {
        Ok(config) => assert!(config.shape.n_heads * config.shape.d_head() == config.shape.d_model),
        Err(error) => told(error),
    }
}

pub fn metrics(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match rows_of::<Evaluation>(text, NAME) {
        Ok(rows) => assert!(rows.iter().all(|row| row.train_loss.is_finite() && row.weight_norm.is_finite())),
        Err(error) => told(error),
    }
}

pub fn csv(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for p in [3, 113] {
        match Pairs::train(&Split::File(NAME.into()), 0.3, Op::Add, p, Some(text)) {
            Ok(pairs) => {
                assert!(pairs.len() <= p * p && pairs.pairs.iter().flatten().all(|&n| (n as usize) < p));
                let again = Pairs::train(&Split::File(NAME.into()), 0.3, Op::Add, p, Some(&pairs.to_csv()));
                assert_eq!(again.expect("a split reads what it wrote").pairs, pairs.pairs);
            }
            Err(error) => told(error),
        }
    }
}
