//! How a network is taught: the loss, what is done to its gradients, the optimizer that takes them, and the scalars of an update.

use anyhow::{Context, Result};

/// What training makes small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// -log softmax(l)_y
    #[default]
    CrossEntropy,
    /// -log of the label's share of s(l), s(x) = x + 1 for x >= 0, else 1 / (1 - x): "Grokking at the Edge of Numerical Stability" (2025).
    StableMax,
}

/// What makes the slow part of the gradients stronger: "Grokfast" (2024). g is what backpropagation gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Gradients as they are.
    #[default]
    None,
    /// h = alpha h + (1 - alpha) g, the first h being g;  g += lamb h
    Ema,
    /// g += lamb * the mean of the last `window` g, once there are so many
    Ma {
        /// Steps.
        window: usize,
    },
}

/// What turns gradients into updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #[default]
    AdamW,
    /// AdamW whose weight decay is added to the gradient instead.
    Adam,
    /// Gradient descent with PyTorch's momentum.
    Sgd,
    /// Momentum made orthogonal, for the matrices between the embedding and the unembedding; AdamW for the others.
    Muon,
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// What is minimised.
    pub loss: Loss,
    /// What makes the slow part of the gradients stronger.
    pub filter: Filter,
    /// Whether gradients lose what points along their weights: "Grokking at the Edge of Numerical Stability".
    pub orthogonal: bool,
    /// What turns gradients into updates.
    pub optimizer: Optimizer,
}

impl Method {
    /// What differs from the default, each word after a space: " muon ema".
    pub fn suffix(&self) -> String {
        let optimizer = match self.optimizer {
            Optimizer::AdamW => "",
            Optimizer::Adam => " adam",
            Optimizer::Sgd => " sgd",
            Optimizer::Muon => " muon",
        };
        let filter = match self.filter {
            Filter::None => String::new(),
            Filter::Ema => " ema".into(),
            Filter::Ma { window } => format!(" ma-{window}"),
        };
        let orthogonal = if self.orthogonal { " orthogonal" } else { "" };
        let loss = if self.loss == Loss::StableMax { " stablemax" } else { "" };
        format!("{optimizer}{filter}{orthogonal}{loss}")
    }
}

/// The choice of a name.
fn named<T: Copy>(what: &str, name: &str, choices: &[(&str, T)]) -> Result<T> {
    let found = choices.iter().find(|(other, _)| *other == name);
    found.map(|(_, choice)| *choice).with_context(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("unknown {what} '{name}': there are {}", names.join(", "))
    })
}

impl Loss {
    /// By its name in plans; an error that lists the names for any other.
    pub fn of(name: &str) -> Result<Self> {
        named("loss", name, &[("cross-entropy", Self::CrossEntropy), ("stablemax", Self::StableMax)])
    }

    /// The kernel's name.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::CrossEntropy => "loss",
            Self::StableMax => "stablemax",
        }
    }
}

impl Filter {
    /// By its name in plans, with the window of `ma`; an error that lists the names for any other.
    pub fn of(name: &str, window: usize) -> Result<Self> {
        named("grokfast", name, &[("none", Self::None), ("ema", Self::Ema), ("ma", Self::Ma { window })])
    }

    /// Sets of gradients that it remembers.
    pub fn copies(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ema => 1,
            Self::Ma { window } => window,
        }
    }
}

impl Optimizer {
    /// By its name in plans; an error that lists the names for any other.
    pub fn of(name: &str) -> Result<Self> {
        let choices = [("adamw", Self::AdamW), ("adam", Self::Adam), ("sgd", Self::Sgd), ("muon", Self::Muon)];
        named("optimizer", name, &choices)
    }
}

/// Declares the scalars of an update, each under the name that shaders/shared/update.wgsl has for it.
macro_rules! update {
    ($($(#[$meaning:meta])* $name:ident,)*) => {
        /// One update of one model: the scalars that the host makes. What they mean stands with the kernels that use them.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Update {
            $($(#[$meaning])* pub $name: f64,)*
        }

        impl Update {
            /// The value of the member `name` of the shaders' struct.
            pub fn member(&self, name: &str) -> Option<f64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// The same numbers as a float32 device sees them.
            pub fn rounded(&self) -> Self {
                Self { $($name: f64::from(self.$name as f32),)* }
            }
        }
    };
}

update! {
    /// 1 - lr * weight_decay where weight decay is decoupled, else 1
    decay,
    /// Weight decay that is added to the gradient, else 0
    l2,
    /// 1 where biases are trained, 0 where they stay as they are
    biases,
    /// 1 where AdamW updates the matrices between embedding and unembedding too, 0 where Muon does
    matrices,
    /// Decay of the first moment
    beta1,
    /// 1 - beta1, not to be rounded twice
    rest1,
    /// Decay of the second moment
    beta2,
    /// 1 - beta2, not to be rounded twice
    rest2,
    /// lr / (1 - beta1^t)
    step_size,
    /// sqrt(1 - beta2^t)
    root_correction2,
    /// Added to the root of the second moment
    eps,
    /// Learning rate of SGD, and of the matrices that Muon updates
    lr,
    /// 1 - lr * weight_decay with the learning rate of Muon's matrices
    matrix_decay,
    /// Decay of SGD's and Muon's momentum
    momentum,
    /// Whether it is Nesterov's: 1 or 0
    nesterov,
    /// 1 - momentum, not to be rounded twice
    rest_momentum,
    /// Share of the old average in the new one
    keep,
    /// Share of the new gradient in it
    take,
    /// Factor of the slow gradients
    amplify,
    /// Where among the remembered gradients the new one goes
    place,
}
