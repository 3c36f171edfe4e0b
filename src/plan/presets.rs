//! The plans that a draft can begin with. This is the only place where defaults live.

use super::{Plan, SCHEMA};
use anyhow::{Result, bail};

/// Names of the plans that a draft can begin with.
pub const PRESETS: &[&str] = &["default", "demo", "paper", "transformer-lens", "seed"];

/// The plan of a preset. `demo` and `default` are ours. `paper` is Nanda et al. 2023, appendix A, with what its released code has besides:
/// pairs shuffled by Python's generator under seed 0, a first update with learning rate 0, "=" as a 114th class. `transformer-lens` is
/// the demo `Grokking_Demo` of TransformerLens: pairs by PyTorch's generator under seed 598, no warm-up, biases that stay zero.
/// `seed` is the modulus of the article "Grokking modular arithmetic" whose network has the key frequencies {1, 6, 37}.
pub fn preset(name: &str) -> Result<Plan> {
    let default = Plan {
        schema: SCHEMA,
        op: "add".into(),
        p: 113,
        // On philox:0 seed 1 stays just above a test loss of 1e-5; on this one most seeds pass below it, which ones depends on the rounding.
        split: "philox:2".into(),
        train_fraction: 0.3,
        d_model: 128,
        n_heads: 4,
        d_mlp: 512,
        equals_class: false,
        train_biases: true,
        init: "paper".into(),
        init_scale: 1.0,
        seed: 0,
        models: 1,
        loss: "cross-entropy".into(),
        optimizer: "adamw".into(),
        lr: 2e-3,
        weight_decay: 2.0,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        momentum: 0.9,
        nesterov: false,
        muon_lr: 0.02,
        grokfast: "none".into(),
        grokfast_alpha: 0.98,
        grokfast_lamb: 2.0,
        grokfast_window: 100,
        orthogonal_grad: false,
        warmup: 10,
        warmup_from_zero: false,
        steps: 8_000,
        stop_at_test_loss: 0.0,
        stop_after_cleanup: true,
        eval_every: 100,
        checkpoint_every: 100,
        program: "auto".into(),
    };
    Ok(match name {
        "default" => default,
        "demo" => Plan {
            p: 59,
            // Of philox:0 to 4 the split on which seeds 0 to 4 all end early; on others some stay above 1e-5.
            split: "philox:3".into(),
            train_fraction: 0.6,
            d_model: 64,
            d_mlp: 256,
            steps: 3_000,
            stop_at_test_loss: 1e-5,
            stop_after_cleanup: false,
            ..default
        },
        "paper" => Plan {
            split: "python:0".into(),
            lr: 1e-3,
            weight_decay: 1.0,
            equals_class: true,
            warmup_from_zero: true,
            steps: 40_000,
            stop_after_cleanup: false,
            checkpoint_every: 400,
            ..default
        },
        "transformer-lens" => Plan {
            split: "torch:598".into(),
            init: "transformer-lens".into(),
            train_biases: false,
            seed: 999,
            lr: 1e-3,
            weight_decay: 1.0,
            warmup: 0,
            steps: 25_000,
            stop_after_cleanup: false,
            checkpoint_every: 250,
            ..default
        },
        "seed" => Plan { p: 97, ..default },
        other => bail!("unknown preset '{other}': there are {}", PRESETS.join(", ")),
    })
}
