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

macro_rules! kind {
    (f64) => {
        Kind::Number
    };
    (bool) => {
        Kind::Bool
    };
    (String) => {
        Kind::Text
    };
    ($integer:ident >= $least:literal) => {
        Kind::Integer { least: $least }
    };
}

macro_rules! fields {
    ($($(#[$more:meta])* $name:ident: $type:ident $(>= $least:literal)?, $meaning:literal;)*) => {
        /// Everything needed to repeat a run. Fields stand in `plan.toml` under these names.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Plan {
            $(#[doc = $meaning] #[doc = ""] $(#[$more])* pub $name: $type,)*
        }

        /// Every field of a plan: name, kind, meaning. The order is that of the struct.
        pub(super) const FIELDS: &[(&str, Kind, &str)] =
            &[$((stringify!($name), kind!($type $(>= $least)?), $meaning)),*];
    };
}

fields! {
    schema: u32 >= 1, "version of these fields";
    /// A name of [`crate::task::Op`].
    op: String, "the operation that makes the label: add, sub, mul, div, squares, quadratic, cubic, random or s5";
    p: usize >= 3, "the modulus";
    split: String, "train pairs: philox:S, torch:S, python:S or a CSV of x,y";
    train_fraction: f64, "share of the pairs to train on, in (0, 1]; a CSV replaces it";
    d_model: usize >= 1, "width of the residual stream";
    n_heads: usize >= 1, "attention heads; divides d_model";
    d_mlp: usize >= 1, "neurons";
    equals_class: bool, "whether \"=\" is an output class too (p + 1 classes)";
    /// b_in and b_out; they begin at zero, unless `init` is a file.
    train_biases: bool, "whether the biases of the MLP are trained; they begin at zero";
    /// One of [`super::INITS`], or the path of a file.
    init: String, "initial weights: paper, transformer-lens or a .safetensors file";
    /// Also of weights and biases that come from a file.
    init_scale: f64, "factor on all initial weights";
    /// Model k of an ensemble has seed + k.
    seed: u64 >= 0, "seed of the initial weights";
    models: usize >= 1, "networks trained side by side";
    /// A name of [`crate::method::Loss`].
    loss: String, "what trains: cross-entropy, or stablemax for that of StableMax; what is told is cross-entropy";
    /// A name of [`crate::method::Optimizer`].
    optimizer: String, "adamw, adam, sgd or muon";
    /// After the warm-up.
    lr: f64, "learning rate";
    /// Decoupled, and per unit of learning rate.
    weight_decay: f64, "on every parameter: decoupled, or of adam and sgd added to the gradient (1e-3 is much there)";
    beta1: f64, "decay of the first moment of adamw and adam, in [0, 1)";
    beta2: f64, "decay of their second moment, in [0, 1)";
    eps: f64, "added to the root of the second moment";
    momentum: f64, "of sgd and muon, in [0, 1)";
    nesterov: bool, "whether theirs is Nesterov's";
    muon_lr: f64, "learning rate of the matrices that muon updates; the others have lr";
    /// A name of [`crate::method::Filter`].
    grokfast: String, "slow gradients made stronger: none, ema or ma (Grokfast)";
    grokfast_alpha: f64, "decay of ema, in [0, 1)";
    grokfast_lamb: f64, "factor of the slow gradients";
    grokfast_window: usize >= 1, "steps that ma takes the mean of";
    orthogonal_grad: bool, "whether gradients lose what points along their weights";
    /// It rises linearly.
    warmup: u64 >= 0, "steps over which the learning rate rises";
    /// Else it has lr / warmup.
    warmup_from_zero: bool, "whether the first update has learning rate 0, as the paper's code has it";
    steps: u64 >= 0, "updates at most";
    /// In nats.
    stop_at_test_loss: f64, "stop once the test loss is below this; 0 never does";
    stop_after_cleanup: bool, "stop once the network has grokked and its weight norm has levelled off";
    eval_every: u64 >= 1, "steps between evaluations";
    checkpoint_every: u64 >= 1, "steps between checkpoints";
    /// One of [`super::PROGRAMS`].
    program: String, "the list of kernels: layered, composed, or auto for the one with less to do";
}

/// Fields that plans of earlier versions do not have. Those runs did what the preset `default` says.
pub(super) const LATER: &[&str] = &[
    "train_biases",
    "init_scale",
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

/// Fields that came after sweeps had begun to name runs by their plans. A run's name leaves them out where they are those of the
/// preset `default`, so that existing runs keep their names.
pub const UNNAMED: &[&str] = &["init_scale"];

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
