//! Which kernels the self-check launches, and at which sizes.

use super::compare::Calls;
use crate::method::{Filter, Loss, Method, Optimizer};
use crate::plan::{Plan, Shape};
use crate::program::{Call, Per, Program, composed, layered, method, product};

/// Sizes of the step kernels: more than four heads, widths that no tile divides, an odd number of vec4s of neurons and an even
/// one of classes, a class for "=", and so many readers and neurons that sums over them have two parts. With the extra products the sums of
/// every kind of product have odd and even numbers of stages, with and without a remainder.
pub const STEP: Shape = Shape { p: 21, d_model: 63, n_heads: 7, d_mlp: 130, d_vocab_out: 22 };
/// Rows of each model at these sizes: a chunk and part of one; a multiple of the stages of products; a single row.
pub const STEP_ROWS: &[usize] = &[289, 96, 1];
/// Sizes of the update kernels: parameters with fewer and with more elements than the 256 lanes of a reduction.
pub const UPDATE: Shape = Shape { p: 7, d_model: 21, n_heads: 3, d_mlp: 25, d_vocab_out: 7 };
/// Sizes at which Muon transposes the MLP's matrices: fewer neurons than d_model.
pub const FEW_NEURONS: Shape = Shape { p: 7, d_model: 12, n_heads: 3, d_mlp: 5, d_vocab_out: 7 };
/// Rows of the models at both.
pub const UPDATE_ROWS: &[usize] = &[30, 1, 49];

/// Every method but the default, under its name.
pub fn methods() -> [(&'static str, Method); 7] {
    let with = |change: fn(&mut Method)| {
        let mut method = Method::default();
        change(&mut method);
        method
    };
    [
        ("adam", with(|method| method.optimizer = Optimizer::Adam)),
        ("sgd", with(|method| method.optimizer = Optimizer::Sgd)),
        ("muon", with(|method| method.optimizer = Optimizer::Muon)),
        ("ema", with(|method| method.filter = Filter::Ema)),
        ("ma", with(|method| method.filter = Filter::Ma { window: 2 })),
        ("orthogonal", with(|method| method.orthogonal = true)),
        ("stablemax", with(|method| method.loss = Loss::StableMax)),
    ]
}

/// The method of a name; the default for `adamw` and any other.
pub fn method_of(name: &str) -> Method {
    methods().into_iter().find(|(other, _)| *other == name).map_or(Method::default(), |(_, method)| method)
}

/// Sets a plan's fields to a method.
pub fn with_method(plan: &mut Plan, name: &str) {
    match name {
        "ema" | "ma" => plan.grokfast = name.into(),
        "orthogonal" => plan.orthogonal_grad = true,
        "stablemax" => plan.loss = name.into(),
        optimizer => plan.optimizer = optimizer.into(),
    }
    plan.grokfast_window = 2;
}

/// Whether a call runs over arenas or counts steps: [`super::updates`] checks those.
pub fn of_update(call: &Call) -> bool {
    call.over.is_arena() || call.entry == "tick"
}

/// Whether only methods other than the default make a call that is not [`of_update`]: another loss, Muon's matrices.
pub fn is_of_method(call: &Call) -> bool {
    let same = |other: &Call| (other.kernel, other.entry) == (call.kernel, call.entry);
    !of_update(call) && ![layered::program(), composed::program()].iter().any(|program| program.step().any(same))
}

/// The calls of a step and of an evaluation that `chosen` picks, except those [`of_update`].
pub fn calls_of(program: &Program, chosen: impl Fn(&Call) -> bool) -> Calls {
    let chosen = |call: &&Call| !of_update(call) && chosen(call);
    Calls {
        step: program.step().filter(chosen).cloned().collect(),
        evaluation: program.evaluation().filter(chosen).cloned().collect(),
    }
}

/// Products with numbers of K stages that no product of the programs has at [`STEP`].
fn extra_products() -> Vec<Call> {
    vec![
        product::product("nn", ["v4", "W_O4", "resid4"], Per::Model),
        product::product("nt", ["resid4", "W_O4", "v4"], Per::Model),
        product::gated("nt_gated", ["v4", "W_V4", "resid4"], "d_resid4"),
        product::gated("nt_gated", ["W_read", "d_W_O_read", "W_V4"], "d_W_V4"),
        product::gated("nt_gated", ["W_logit", "W_U4", "W_out4"], "d_W_out4"),
    ]
}

/// Every call of a step of either program, and the losses of an evaluation.
pub fn step_calls() -> Calls {
    let programs = [layered::program(), composed::program()];
    let steps = programs.iter().flat_map(|program| program.forward.iter().chain(&program.backward));
    Calls {
        step: steps.cloned().chain(extra_products()).collect(),
        evaluation: programs.iter().flat_map(|program| program.score.iter()).cloned().collect(),
    }
}

/// The calls [`is_of_method`] of all methods, each once.
pub fn method_calls() -> Calls {
    let mut step: Vec<Call> = Vec::new();
    for (_, method) in methods() {
        for program in [layered::program(), composed::program()] {
            for call in program.taught(&method).step().filter(|call| is_of_method(call)) {
                if !step.iter().any(|other| same_call(other, call)) {
                    step.push(call.clone());
                }
            }
        }
    }
    Calls { step, evaluation: Vec::new() }
}

/// Muon's matrix kernels alone.
pub fn muon_calls() -> Calls {
    let step = method_calls().step.into_iter().filter(|call| call.kernel == "orthonormal").collect();
    Calls { step, evaluation: Vec::new() }
}

/// A program of every update kernel, with two remembered gradients.
pub fn updates() -> Program {
    let mut update: Vec<Call> = Vec::new();
    for (_, taught) in methods() {
        for call in method::update(&taught) {
            if !update.iter().any(|other| same_call(other, &call)) {
                update.push(call);
            }
        }
    }
    Program { update, grad_copies: 2, ..nothing("updates") }
}

/// Whether two calls are the same launch.
pub fn same_call(a: &Call, b: &Call) -> bool {
    (a.kernel, a.entry, &a.roles) == (b.kernel, b.entry, &b.roles)
}

/// A program without calls.
pub fn nothing(name: &'static str) -> Program {
    Program { name, forward: Vec::new(), score: Vec::new(), backward: Vec::new(), update: Vec::new(), grad_copies: 0 }
}

/// The two calls that every engine needs: the step counter and an update.
pub fn least_update() -> Vec<Call> {
    vec![method::tick(), method::adamw()]
}
