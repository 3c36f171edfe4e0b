//! Every field of a plan: name, type, what it takes and what it means, once. The struct, its documentation and the comments of
//! `plan.toml` are made from it.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// What a field takes, checked before serde sees it so that the message can say it.
pub(super) enum Kind {
    Integer { least: i64 },
    Number,
    Bool,
    Text,
}

macro_rules! fields {
    ($($name:ident: $type:ty, $kind:expr, $meaning:literal;)*) => {
        /// Everything needed to repeat a run. Fields stand in `plan.toml` under these names.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Plan {
            $(#[doc = $meaning] pub $name: $type,)*
        }

        /// Every field of a plan: name, kind, meaning. The order is that of the struct.
        pub(super) const FIELDS: &[(&str, Kind, &str)] = &[$((stringify!($name), $kind, $meaning)),*];
    };
}

use Kind::*;

fields! {
    schema: u32, Integer { least: 1 }, "version of these fields";
    op: String, Text, "the operation that makes the label: add, sub, mul, div, squares, quadratic, cubic, random or s5";
    p: usize, Integer { least: 3 }, "the modulus";
    split: String, Text, "train pairs: philox:S, torch:S, python:S or a CSV of x,y";
    train_fraction: f64, Number, "share of the pairs to train on, in (0, 1]; a CSV replaces it";
    d_model: usize, Integer { least: 1 }, "width of the residual stream";
    n_heads: usize, Integer { least: 1 }, "attention heads; divides d_model";
    d_mlp: usize, Integer { least: 1 }, "neurons";
    equals_class: bool, Bool, "whether \"=\" is an output class too (p + 1 classes)";
    train_biases: bool, Bool, "whether the biases of the MLP are trained; they begin at zero";
    init: String, Text, "initial weights: paper, transformer-lens or a .safetensors file";
    seed: u64, Integer { least: 0 }, "seed of the initial weights";
    models: usize, Integer { least: 1 }, "networks trained side by side";
    loss: String, Text, "what trains: cross-entropy, or stablemax for that of StableMax; what is told is cross-entropy";
    optimizer: String, Text, "adamw, adam, sgd or muon";
    lr: f64, Number, "learning rate";
    weight_decay: f64, Number, "on every parameter: decoupled, or of adam and sgd added to the gradient (1e-3 is much there)";
    beta1: f64, Number, "decay of the first moment of adamw and adam, in [0, 1)";
    beta2: f64, Number, "decay of their second moment, in [0, 1)";
    eps: f64, Number, "added to the root of the second moment";
    momentum: f64, Number, "of sgd and muon, in [0, 1)";
    nesterov: bool, Bool, "whether theirs is Nesterov's";
    muon_lr: f64, Number, "learning rate of the matrices that muon updates; the others have lr";
    grokfast: String, Text, "slow gradients made stronger: none, ema or ma (Grokfast)";
    grokfast_alpha: f64, Number, "decay of ema, in [0, 1)";
    grokfast_lamb: f64, Number, "factor of the slow gradients";
    grokfast_window: usize, Integer { least: 1 }, "steps that ma takes the mean of";
    orthogonal_grad: bool, Bool, "whether gradients lose what points along their weights";
    warmup: u64, Integer { least: 0 }, "steps over which the learning rate rises";
    warmup_from_zero: bool, Bool, "whether the first update has learning rate 0, as the paper's code has it";
    steps: u64, Integer { least: 0 }, "updates at most";
    stop_at_test_loss: f64, Number, "stop once the test loss is below this; 0 never does";
    stop_after_cleanup: bool, Bool, "stop once the network has grokked and its weight norm has levelled off";
    eval_every: u64, Integer { least: 1 }, "steps between evaluations";
    checkpoint_every: u64, Integer { least: 1 }, "steps between checkpoints";
    program: String, Text, "the list of kernels: layered, composed, or auto for the one with less to do";
}

/// Fields that plans of earlier versions do not have. Those runs did what the preset `default` says.
pub(super) const LATER: &[&str] = &[
    "train_biases",
    "loss",
    "optimizer",
    "momentum",
    "nesterov",
    "muon_lr",
    "grokfast",
    "grokfast_alpha",
    "grokfast_lamb",
    "grokfast_window",
    "orthogonal_grad",
];

/// The fields that a resumed run may change without becoming another run.
pub const CHANGEABLE: &[&str] = &["steps", "stop_at_test_loss", "stop_after_cleanup"];

/// Whether the plan has a field of that name.
pub fn is_field(name: &str) -> bool {
    kind_of(name).is_ok()
}

/// Whether a field takes numbers that need not be whole; an error for a field that there is not.
pub fn is_number(name: &str) -> Result<bool> {
    Ok(matches!(kind_of(name)?, Kind::Number))
}

pub(super) fn kind_of(name: &str) -> Result<&'static Kind> {
    match FIELDS.iter().find(|(field, ..)| *field == name) {
        Some((_, kind, _)) => Ok(kind),
        None => {
            let names: Vec<_> = FIELDS.iter().map(|(field, ..)| *field).collect();
            bail!("unknown field '{name}': there are {}", names.join(", "))
        }
    }
}
