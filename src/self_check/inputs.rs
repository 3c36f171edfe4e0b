//! Inputs of the self-check, drawn from seeds: the same on every machine.

use crate::plan::Shape;
use crate::program::batch::Layout;
use crate::random::Philox;
use crate::task::{Op, Pairs, philox_permutation};

/// Sizes of a network with as many classes as numbers.
pub const fn shape(p: usize, d_model: usize, n_heads: usize, d_mlp: usize) -> Shape {
    Shape { p, d_model, n_heads, d_mlp, d_vocab_out: p }
}

/// The first `rows` pairs of a shuffled grid.
pub fn pairs(p: usize, rows: usize, seed: u64) -> Pairs {
    let order = philox_permutation(seed, p * p);
    Pairs::new(order[..rows].iter().map(|&i| [i / p as u32, i % p as u32]).collect(), Op::Add, p)
}

/// A layout whose model k trains on `rows[k]` rows of its own.
pub fn layout(shape: Shape, rows: &[usize]) -> Layout {
    let train: Vec<Pairs> = rows.iter().zip(0..).map(|(&rows, seed)| pairs(shape.p, rows, seed)).collect();
    Layout::new(shape, &train, &vec![Pairs::grid(Op::Add, shape.p); rows.len()])
}

/// Standard normal numbers in float32.
pub fn normals(seed: u64, stream: u32, n: usize) -> Vec<f32> {
    let philox = Philox::new(seed);
    (0..n).map(|i| philox.normal(stream, i) as f32).collect()
}

/// A NaN whose payload identifies a tensor: a sum that reads it becomes NaN, and a write over it is detected even if it writes a NaN.
pub fn sentinel(tensor: usize) -> u32 {
    0x7fc0_dead ^ ((tensor as u32 + 1) << 16 & 0x3f_0000)
}

/// Random values for a tensor, with hard cases for the kernels that read it.
pub fn values(tensor: &str, model: usize, stream: u32, n: usize) -> Vec<f32> {
    let mut values = normals(model as u64, stream, n);
    match tensor {
        "pattern" => values.chunks_exact_mut(3).for_each(normalize),
        // Zeros: the kink of relu, where the gradient is 0.
        "pre" | "post4" => values.iter_mut().step_by(7).for_each(|x| *x = 0.0),
        _ => {}
    }
    match (model, tensor) {
        // Scores and logits that are hundreds apart: exp overflows if it is not shifted by the maximum.
        (1, "q" | "slot_score4" | "logits" | "logits4") => values.iter_mut().for_each(|x| *x *= 100.0),
        // Ties between the largest logits.
        (2, "logits" | "logits4") => values.iter_mut().for_each(|x| *x = x.round()),
        _ => {}
    }
    values
}

/// Makes three numbers positive weights that sum to 1.
fn normalize(weights: &mut [f32]) {
    let total: f32 = weights.iter().map(|w| w.abs()).sum();
    weights.iter_mut().for_each(|w| *w = w.abs() / total);
}
