//! Twin of `compose.wgsl`: parameters in whole vec4s, and the way back to them.

use super::wide::dot_lines;
use super::{Context, Real, Twin, add, add_scaled, twin};
use crate::plan::Shape;
use rayon::prelude::*;

/// The twin of an entry point of `compose.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward_read" => twin!(forward_read, read [W_in, W_U], write [W_read, W_U4]),
        "forward_out" => twin!(forward_out, read[W_out], write[W_out4]),
        "forward_heads" => twin!(forward_heads, read [W_O, W_V], write [W_O4, W_V4]),
        "forward_base" => twin!(forward_base, read [resid4, W_read, head_read, b_in, b_out], write [base_read]),
        "backward_logit" => twin!(backward_logit, read[d_W_logit_parts], write[d_W_logit]),
        "backward_base" => twin!(backward_base, read [d_slot_read], write [d_base_read, d_head_read, d_b_in]),
        "backward_equals" => twin!(backward_equals, read [d_base_read, W_read], write [d_b_out, d_resid_equals]),
        "backward_read" => {
            twin!(backward_read, read [d_W_read, d_W_U4, d_base_read, resid4, b_out], write [d_W_in, d_W_U])
        }
        "backward_out" => twin!(backward_out, read[d_W_out4], write[d_W_out]),
        "backward_heads" => twin!(backward_heads, read [d_W_O4, d_W_V4], write [d_W_O, d_W_V]),
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
    /// A head.
    pub d_head: usize,
    /// All heads' d_head.
    pub z: usize,
    /// Neurons and classes.
    pub reader: usize,
}

impl Wide {
    /// Each size rounded up.
    pub fn of(shape: &Shape) -> Self {
        let [d_model, d_mlp, d_vocab_out, d_head] =
            [shape.d_model, shape.d_mlp, shape.d_vocab_out, shape.d_head()].map(|n| n.next_multiple_of(4));
        Self { d_model, d_mlp, d_vocab_out, d_head, z: shape.n_heads * d_head, reader: d_mlp + d_vocab_out }
    }
}

/// Copies rows of `width` elements into the first columns of wider ones; the rest of `out` becomes zero.
fn widen<T: Real>(from: &[T], width: usize, out: &mut [T], wide: usize) {
    out.fill(T::zero());
    for (out, from) in out.chunks_exact_mut(wide).zip(from.chunks_exact(width)) {
        out[..width].copy_from_slice(from);
    }
}

/// The first `width` columns of every row; the last row may end after them.
fn narrow<T: Real>(from: &[T], wide: usize, out: &mut [T], width: usize) {
    for (out, from) in out.chunks_exact_mut(width).zip(from.chunks(wide)) {
        out.copy_from_slice(&from[..width]);
    }
}

/// W_read = [W_in | W_U], and W_U by itself
fn forward_read<T: Real>(cx: &Context, w_in: &[T], w_u: &[T], w_read: &mut [T], w_u4: &mut [T]) {
    let (wide, shape) = (Wide::of(&cx.shape), cx.shape);
    widen(w_in, shape.d_mlp, w_read, wide.reader);
    widen(w_u, shape.d_vocab_out, w_u4, wide.d_vocab_out);
    for (out, w_u) in w_read.chunks_exact_mut(wide.reader).zip(w_u4.chunks_exact(wide.d_vocab_out)) {
        out[wide.d_mlp..].copy_from_slice(w_u);
    }
}

fn forward_out<T: Real>(cx: &Context, w_out: &[T], w_out4: &mut [T]) {
    widen(w_out, cx.shape.d_model, w_out4, Wide::of(&cx.shape).d_model);
}

/// W_O4[z, i] = W_O[head, e, i];  W_V4[i, z] = W_V[head, i, e]
fn forward_heads<T: Real>(cx: &Context, w_o: &[T], w_v: &[T], w_o4: &mut [T], w_v4: &mut [T]) {
    let (wide, d, e) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head());
    w_v4.fill(T::zero());
    for head in 0..cx.shape.n_heads {
        let of_head = head * d * e..(head + 1) * d * e;
        let rows = &mut w_o4[head * wide.d_head * wide.d_model..][..wide.d_head * wide.d_model];
        widen(&w_o[of_head.clone()], d, rows, wide.d_model);
        for (out, from) in w_v4.chunks_exact_mut(wide.z).zip(w_v[of_head].chunks_exact(e)) {
            out[head * wide.d_head..][..e].copy_from_slice(from);
        }
    }
}

/// base_read = resid_pre[=] W_read + sum over the heads of head_read[=] + [b_in | b_out W_U]
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn forward_base<T: Real>(
    cx: &Context,
    resid4: &[T],
    w_read: &[T],
    head_read: &[T],
    b_in: &[T],
    b_out: &[T],
    base_read: &mut [T],
) {
    let wide = Wide::of(&cx.shape);
    let slots = cx.shape.n_slots();
    let equals = &resid4[2 * cx.shape.p * wide.d_model..];
    base_read.fill(T::zero());
    for ((&x, &b), weights) in equals.iter().zip(b_out).zip(w_read.chunks_exact(wide.reader)) {
        let (neurons, classes) = base_read.split_at_mut(wide.d_mlp);
        add_scaled(neurons, x, &weights[..wide.d_mlp]);
        add_scaled(classes, x + b, &weights[wide.d_mlp..]);
    }
    for of_head in head_read.chunks_exact(slots * wide.reader) {
        add(base_read, &of_head[2 * cx.shape.p * wide.reader..]);
    }
    add(base_read, b_in);
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

/// d_base_read = sum over the rows of [d_pre | d_logits], which every head's head_read[=] gets too;  d_b_in = its neurons
fn backward_base<T: Real>(
    cx: &Context,
    d_slot_read: &[T],
    d_base_read: &mut [T],
    d_head_read: &mut [T],
    d_b_in: &mut [T],
) {
    let wide = Wide::of(&cx.shape);
    d_base_read.fill(T::zero());
    for of_slot in d_slot_read.chunks_exact(wide.reader).take(cx.shape.p) {
        add(d_base_read, of_slot);
    }
    for of_head in d_head_read.chunks_exact_mut(cx.shape.n_slots() * wide.reader) {
        of_head[2 * cx.shape.p * wide.reader..].copy_from_slice(d_base_read);
    }
    d_b_in.copy_from_slice(&d_base_read[..cx.shape.d_mlp]);
}

/// d_b_out = the classes of d_base_read W_read^T;  d_resid_equals = d_base_read W_read^T
fn backward_equals<T: Real>(
    cx: &Context,
    d_base_read: &[T],
    w_read: &[T],
    d_b_out: &mut [T],
    d_resid_equals: &mut [T],
) {
    let wide = Wide::of(&cx.shape);
    let (of_neurons, of_classes) = d_base_read.split_at(wide.d_mlp);
    let mut sums = [T::zero(); 2];
    for (i, (b, x)) in d_b_out.iter_mut().zip(d_resid_equals).enumerate() {
        dot_lines(&[of_neurons], &[i * wide.reader], w_read, &mut sums[..1]);
        dot_lines(&[of_classes], &[i * wide.reader + wide.d_mlp], w_read, &mut sums[1..]);
        *b = sums[1];
        *x = sums[0] + sums[1];
    }
}

/// d_W_in = d_W_read + resid_pre[=]^T d_base_read;  d_W_U the same + d_W_U4, with resid_pre[=] + b_out
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_read<T: Real>(
    cx: &Context,
    d_w_read: &[T],
    d_w_u4: &[T],
    d_base_read: &[T],
    resid4: &[T],
    b_out: &[T],
    d_w_in: &mut [T],
    d_w_u: &mut [T],
) {
    let (wide, m, c) = (Wide::of(&cx.shape), cx.shape.d_mlp, cx.shape.d_vocab_out);
    let equals = &resid4[2 * cx.shape.p * wide.d_model..];
    let (of_neurons, of_classes) = d_base_read.split_at(wide.d_mlp);
    for (i, (d_w_in, d_w_u)) in d_w_in.chunks_exact_mut(m).zip(d_w_u.chunks_exact_mut(c)).enumerate() {
        let (neurons, classes) = d_w_read[i * wide.reader..][..wide.reader].split_at(wide.d_mlp);
        d_w_in.copy_from_slice(&neurons[..m]);
        add_scaled(d_w_in, equals[i], of_neurons);
        d_w_u.copy_from_slice(&classes[..c]);
        add(d_w_u, &d_w_u4[i * wide.d_vocab_out..]);
        add_scaled(d_w_u, equals[i] + b_out[i], of_classes);
    }
}

fn backward_out<T: Real>(cx: &Context, d_w_out4: &[T], d_w_out: &mut [T]) {
    narrow(d_w_out4, Wide::of(&cx.shape).d_model, d_w_out, cx.shape.d_model);
}

/// The way back from W_O4 and W_V4
fn backward_heads<T: Real>(cx: &Context, d_w_o4: &[T], d_w_v4: &[T], d_w_o: &mut [T], d_w_v: &mut [T]) {
    let (wide, d, e) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head());
    for head in 0..cx.shape.n_heads {
        let of_head = head * d * e..(head + 1) * d * e;
        narrow(&d_w_o4[head * wide.d_head * wide.d_model..], wide.d_model, &mut d_w_o[of_head.clone()], d);
        narrow(&d_w_v4[head * wide.d_head..], wide.z, &mut d_w_v[of_head], e);
    }
}
