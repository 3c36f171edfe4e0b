//! The end of a training step, and the loss: what of a program depends on how the network is taught.

use super::{Call, Over, Program, run};
use crate::method::{Filter, Method, Optimizer};
use crate::model::Axis::{self, *};

/// From the gradients to the new parameters: what is done to gradients, as their authors order it, and the optimizer.
pub fn update(method: &Method) -> Vec<Call> {
    let mut calls = vec![tick()];
    let filter =
        |entry| run("grokfast", entry, Over::Arena).reads(&["updates", "step"]).updates(&["grads", "grad_memory"]);
    match method.filter {
        Filter::None => {}
        Filter::Ema => calls.push(filter("ema")),
        Filter::Ma { .. } => calls.push(filter("ma")),
    }
    if method.orthogonal {
        calls.push(run("orthogonal", "project", Over::Tensors).reads(&["params"]).updates(&["grads"]));
    }
    match method.optimizer {
        Optimizer::AdamW | Optimizer::Adam => calls.push(adamw()),
        Optimizer::Sgd => {
            calls.push(run("sgd", "update", Over::Arena).reads(&["updates", "step", "grads"]).updates(&[
                "params",
                "exp_avg",
                "first_bad",
            ]))
        }
        Optimizer::Muon => {
            calls.push(run("muon", "momentum", Over::Arena).reads(&["updates", "step", "params"]).updates(&[
                "grads",
                "exp_avg",
                "first_bad",
            ]));
            calls.extend(orthonormal());
            calls.push(run("muon", "update", Over::Arena).reads(&["updates", "step", "grads"]).updates(&["params"]));
            calls.push(adamw());
        }
    }
    calls
}

/// step += 1: which of the updates that the host prepared is in progress.
pub fn tick() -> Call {
    run("copy", "tick", Over::Models).updates(&["step"])
}

/// AdamW over all parameters.
pub fn adamw() -> Call {
    let call = run("adamw", "update", Over::Arena).reads(&["updates", "step", "grads"]);
    call.updates(&["params", "exp_avg", "exp_avg_sq", "first_bad"])
}

/// The gradients of the matrices that Muon updates.
const MATRIX_GRADIENTS: &[&str] = &["d_W_Q", "d_W_K", "d_W_V", "d_W_O", "d_W_in", "d_W_out"];

/// Steps of Newton and Schulz; an odd number ends where the last one wrote.
const STEPS: usize = 5;

/// The gradients of the matrices, made orthogonal.
fn orthonormal() -> Vec<Call> {
    let elements = |entry| run("orthonormal", entry, Over::Elements(&[MatrixShort, Long]));
    let squares = |entry| run("orthonormal", entry, Over::Elements(&[MatrixShort, Short]));
    let mut calls = vec![elements("gather").reads(MATRIX_GRADIENTS).writes(&["muon_x"])];
    let normalize = run("orthonormal", "normalize", Over::Groups(Matrix)).updates(&["muon_x"]);
    calls.push(normalize.work(&[&[MatrixShort, Long]]));
    let [mut x, mut y] = ["muon_x", "muon_y"];
    for _ in 0..STEPS {
        let gram = squares("gram").with(&[("muon_x", x)]).reads(&[x]).writes(&["muon_gram"]);
        calls.push(gram.work(GRAM));
        calls.push(squares("poly").reads(&["muon_gram"]).writes(&["muon_poly"]).work(POLY));
        let apply = elements("apply").with(&[("muon_x", x), ("muon_y", y)]);
        calls.push(apply.reads(&[x, "muon_poly"]).writes(&[y]).work(GRAM));
        (x, y) = (y, x);
    }
    calls.push(elements("scatter").with(&[("muon_x", x)]).reads(&[x]).writes(MATRIX_GRADIENTS));
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
