//! The end of a training step, and the loss: what of a program depends on how the network is taught.

use super::{Call, Over, Program, run};
use crate::method::{Filter, Method, Optimizer};
use crate::model::Axis::{self, *};

/// From the gradients to the new parameters: what is done to gradients, as their authors order it, and the optimizer.
pub fn update(method: &Method) -> Vec<Call> {
    let mut calls = vec![run("adamw", "tick", Over::Models)];
    match method.filter {
        Filter::None => {}
        Filter::Ema => calls.push(run("grokfast", "ema", Over::Arena)),
        Filter::Ma { .. } => calls.push(run("grokfast", "ma", Over::Arena)),
    }
    if method.orthogonal {
        calls.push(run("orthogonal", "project", Over::Tensors));
    }
    match method.optimizer {
        Optimizer::AdamW | Optimizer::Adam => calls.push(run("adamw", "update", Over::Arena)),
        Optimizer::Sgd => calls.push(run("sgd", "update", Over::Arena)),
        Optimizer::Muon => {
            calls.push(run("muon", "momentum", Over::Arena));
            calls.extend(orthonormal());
            calls.push(run("muon", "update", Over::Arena));
            calls.push(run("adamw", "update", Over::Arena));
        }
    }
    calls
}

/// Steps of Newton and Schulz; an odd number ends where the last one wrote.
const STEPS: usize = 5;

/// The gradients of the matrices, made orthogonal.
fn orthonormal() -> Vec<Call> {
    let mut calls = vec![run("orthonormal", "gather", Over::Elements(&[MatrixShort, Long]))];
    calls.push(run("orthonormal", "normalize", Over::Groups(Matrix)).work(&[&[MatrixShort, Long]]));
    let [mut x, mut y] = ["muon_x", "muon_y"];
    for _ in 0..STEPS {
        let gram = run("orthonormal", "gram", Over::Elements(&[MatrixShort, Short]));
        calls.push(gram.with(&[("muon_x", x)]).work(GRAM));
        calls.push(run("orthonormal", "poly", Over::Elements(&[MatrixShort, Short])).work(POLY));
        let apply = run("orthonormal", "apply", Over::Elements(&[MatrixShort, Long]));
        calls.push(apply.with(&[("muon_x", x), ("muon_y", y)]).work(GRAM));
        (x, y) = (y, x);
    }
    calls.push(run("orthonormal", "scatter", Over::Elements(&[MatrixShort, Long])).with(&[("muon_x", x)]));
    calls
}

/// Four matrices a head, and two of the MLP.
const GRAM: &[&[Axis]] = &[
    &[Head, DHead, DHead, DModel],
    &[Head, DHead, DHead, DModel],
    &[Head, DHead, DHead, DModel],
    &[Head, DHead, DHead, DModel],
    &[Short, Short, Long],
    &[Short, Short, Long],
];
const POLY: &[&[Axis]] = &[
    &[Head, DHead, DHead, DHead],
    &[Head, DHead, DHead, DHead],
    &[Head, DHead, DHead, DHead],
    &[Head, DHead, DHead, DHead],
    &[Short, Short, Short],
    &[Short, Short, Short],
];

impl Program {
    /// The same program for another way to teach.
    pub fn taught(mut self, method: &Method) -> Self {
        for call in self.backward.iter_mut().filter(|call| call.kernel == "loss") {
            call.kernel = method.loss.kernel();
        }
        self.update = update(method);
        self.grad_copies = method.filter.copies();
        self
    }
}
