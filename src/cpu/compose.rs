//! Twin of `compose.wgsl`: sums over the parts of a gradient, and over the slots.

use super::{Context, Real, Twin, add, twin};
use crate::model::whole4;
use crate::plan::Shape;
use rayon::prelude::*;

/// The twin of an entry point of `compose.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "backward_logit" => twin!(backward_logit, read[d_W_logit_parts], write[d_W_logit]),
        "backward_equals" => twin!(backward_equals, read [d_slot_read], write [d_equals_read, d_head_read]),
        "backward_scores" => {
            twin!(backward_scores, index [slot_edges, slot_rows], read [pattern, d_pattern], write [d_slot_score4])
        }
        _ => return None,
    })
}

/// Widths of the tensors in whole vec4s.
#[derive(Clone, Copy)]
pub struct Wide {
    /// The residual stream.
    pub d_model: usize,
    /// Neurons.
    pub d_mlp: usize,
    /// Classes.
    pub d_vocab_out: usize,
    /// All heads' d_head.
    pub z: usize,
    /// Heads.
    pub heads: usize,
    /// Neurons and classes.
    pub reader: usize,
}

impl Wide {
    /// Each size rounded up.
    pub fn of(shape: &Shape) -> Self {
        let [d_model, d_mlp, d_vocab_out, d_head, heads] =
            [shape.d_model, shape.d_mlp, shape.d_vocab_out, shape.d_head(), shape.n_heads].map(whole4);
        Self { d_model, d_mlp, d_vocab_out, z: shape.n_heads * d_head, heads, reader: d_mlp + d_vocab_out }
    }
}

/// d_W_logit = the sum of its chunks' parts
fn backward_logit<T: Real>(_: &Context, d_w_logit_parts: &[T], d_w_logit: &mut [T]) {
    const BLOCK: usize = 1024;
    let len = d_w_logit.len();
    d_w_logit.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
        out.fill(T::zero());
        for part in d_w_logit_parts.chunks_exact(len) {
            add(out, &part[block * BLOCK..]);
        }
    });
}

/// d_equals_read = sum over the rows of [d_pre | d_logits], and its classes alone; every head's head_read[=] gets the first
fn backward_equals<T: Real>(cx: &Context, d_slot_read: &[T], d_equals_read: &mut [T], d_head_read: &mut [T]) {
    let wide = Wide::of(&cx.shape);
    let (all, of_classes) = d_equals_read.split_at_mut(wide.reader);
    all.fill(T::zero());
    for of_slot in d_slot_read.chunks_exact(wide.reader).take(cx.shape.p) {
        add(all, of_slot);
    }
    for of_head in d_head_read.chunks_exact_mut(cx.shape.n_slots() * wide.reader) {
        of_head[2 * cx.shape.p * wide.reader..].copy_from_slice(all);
    }
    of_classes[..wide.d_mlp].fill(T::zero());
    of_classes[wide.d_mlp..].copy_from_slice(&all[wide.d_mlp..]);
}

/// d_slot_score4 = sum over the rows of the slot of pattern (d_pattern - sum of pattern d_pattern); that of "=" is told relative to itself
fn backward_scores<T: Real>(
    cx: &Context,
    slot_edges: &[u32],
    slot_rows: &[u32],
    pattern: &[T],
    d_pattern: &[T],
    d_slot_score4: &mut [T],
) {
    let (heads, p) = (cx.shape.n_heads, cx.shape.p);
    d_slot_score4.fill(T::zero());
    for (slot, sums) in d_slot_score4.chunks_exact_mut(Wide::of(&cx.shape).heads).take(2 * p).enumerate() {
        for &row in &slot_rows[slot_edges[slot] as usize..slot_edges[slot + 1] as usize] {
            let at = row as usize * heads * 3;
            let of_heads = pattern[at..].chunks_exact(3).zip(d_pattern[at..].chunks_exact(3));
            for (sum, (weights, d)) in sums[..heads].iter_mut().zip(of_heads) {
                let mean = weights[0] * d[0] + weights[1] * d[1] + weights[2] * d[2];
                *sum += weights[slot / p] * (d[slot / p] - mean);
            }
        }
    }
}
