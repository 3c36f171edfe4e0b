//! Twin of `attention.wgsl`: causal attention read at "=", with keys and values made once for each slot.

use super::matmul::{Into, Mat, MatMut, matmul};
use super::{Context, Real, Twin, add, add_scaled, dot, rows, rows2, sum_rows, twin};
use rayon::prelude::*;

/// The twin of an entry point of `attention.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward_qkv" => twin!(forward_qkv, read [resid_pre, W_Q, W_K, W_V], write [q, k, v]),
        "forward_pattern" => twin!(forward_pattern, index [slots], read [q, k], write [pattern]),
        "forward_z" => twin!(forward_z, index [slots], read [pattern, v], write [z]),
        "forward_out" => twin!(forward_out, read [resid_pre, z, W_O], write [resid_mid]),
        "backward_out_inputs" => twin!(backward_out_inputs, read [d_resid_mid, W_O], write [d_z]),
        "backward_out_weights" => {
            twin!(backward_out_weights, read [d_resid_mid, z], write [d_W_O, d_resid_equals])
        }
        "backward_pattern" => twin!(backward_pattern, index [slots], read [d_z, v, pattern], write [d_score]),
        "backward_slots" => {
            twin!(backward_slots, index [slot_edges, slot_rows], read [d_z, pattern, d_score], write [d_v, d_slot_score])
        }
        "backward_qk" => twin!(backward_qk, read [d_slot_score, q, k], write [d_q, d_k]),
        "backward_qkv_inputs" => {
            twin!(backward_qkv_inputs, read [d_q, d_k, d_v, W_Q, W_K, W_V, d_resid_equals], write [d_resid_pre])
        }
        "backward_qkv_weights" => {
            twin!(backward_qkv_weights, read [resid_pre, d_q, d_k, d_v], write [d_W_Q, d_W_K, d_W_V])
        }
        _ => return None,
    })
}

/// 1 / sqrt(d_head)
fn scale<T: Real>(cx: &Context) -> T {
    T::one() / T::of(cx.shape.d_head() as f64).sqrt()
}

/// q = resid_pre[=] W_Q;  k = resid_pre W_K;  v = resid_pre W_V
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
pub fn forward_qkv<T: Real>(
    cx: &Context,
    resid_pre: &[T],
    w_q: &[T],
    w_k: &[T],
    w_v: &[T],
    q: &mut [T],
    k: &mut [T],
    v: &mut [T],
) {
    let (d, e) = (cx.shape.d_model, cx.shape.d_head());
    let equals = &resid_pre[2 * cx.shape.p * d..];
    let project = |x: &[T], w: &[T], out: &mut [T]| {
        for (head, w) in w.chunks_exact(d * e).enumerate() {
            let out = MatMut::strided(&mut out[head * e..], x.len() / d, e, d);
            matmul(out, Mat::new(x, d), Mat::new(w, e), Into::Overwrite);
        }
    };
    project(equals, w_q, q);
    project(resid_pre, w_k, k);
    project(resid_pre, w_v, v);
}

/// pattern[row, head] = softmax over pos of q . k[slot of (row, pos)] / sqrt(d_head)
pub fn forward_pattern<T: Real>(cx: &Context, slots: &[u32], q: &[T], k: &[T], pattern: &mut [T]) {
    let (d, e, heads) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads);
    let scale = scale::<T>(cx);
    let score = |slot: usize, head: usize| scale * dot(&q[head * e..][..e], &k[slot * d + head * e..][..e]);
    let n_slots = cx.shape.n_slots();
    let scores: Vec<T> = (0..n_slots * heads).map(|i| score(i / heads, i % heads)).collect();
    rows(&mut pattern[..cx.rows * heads * 3], heads * 3, |row, out| {
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            for (pos, out) in out.iter_mut().enumerate() {
                *out = scores[slots[row * 3 + pos] as usize * heads + head];
            }
            let top = out[0].max(out[1]).max(out[2]);
            out.iter_mut().for_each(|x| *x = (*x - top).portable_exp());
            let total = out[0] + out[1] + out[2];
            out.iter_mut().for_each(|x| *x /= total);
        }
    });
}

/// z[row, head] = sum over pos of pattern[row, head, pos] v[slot, head]
pub fn forward_z<T: Real>(cx: &Context, slots: &[u32], pattern: &[T], v: &[T], z: &mut [T]) {
    let (d, e, heads) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads);
    rows(&mut z[..cx.rows * d], d, |row, out| {
        out.fill(T::zero());
        for (head, out) in out.chunks_exact_mut(e).enumerate() {
            for pos in 0..3 {
                let slot = slots[row * 3 + pos] as usize;
                add_scaled(out, pattern[(row * heads + head) * 3 + pos], &v[slot * d + head * e..][..e]);
            }
        }
    });
}

/// resid_mid = resid_pre[=] + z W_O
pub fn forward_out<T: Real>(cx: &Context, resid_pre: &[T], z: &[T], w_o: &[T], resid_mid: &mut [T]) {
    let d = cx.shape.d_model;
    let resid_mid = &mut resid_mid[..cx.rows * d];
    let equals = &resid_pre[2 * cx.shape.p * d..][..d];
    rows(resid_mid, d, |_, out| out.copy_from_slice(equals));
    matmul(MatMut::new(resid_mid, d), Mat::new(&z[..cx.rows * d], d), Mat::new(w_o, d), Into::Add);
}

/// d_z = d_resid_mid W_O^T
fn backward_out_inputs<T: Real>(cx: &Context, d_resid_mid: &[T], w_o: &[T], d_z: &mut [T]) {
    let d = cx.shape.d_model;
    let n = cx.rows * d;
    matmul(MatMut::new(&mut d_z[..n], d), Mat::new(&d_resid_mid[..n], d), Mat::new(w_o, d).t(), Into::Overwrite);
}

/// d_W_O = z^T d_resid_mid;  d_resid_equals = sum over the rows of d_resid_mid, for the residual that all rows share
fn backward_out_weights<T: Real>(cx: &Context, d_resid_mid: &[T], z: &[T], d_w_o: &mut [T], d_resid_equals: &mut [T]) {
    let d = cx.shape.d_model;
    let n = cx.rows * d;
    matmul(MatMut::new(d_w_o, d), Mat::new(&z[..n], d).t(), Mat::new(&d_resid_mid[..n], d), Into::Overwrite);
    sum_rows(&d_resid_mid[..n], d, d_resid_equals);
}

/// d_score[pos] = pattern[pos] (d_pattern[pos] - sum of pattern d_pattern), with d_pattern[pos] = d_z . v[slot]
fn backward_pattern<T: Real>(cx: &Context, slots: &[u32], d_z: &[T], v: &[T], pattern: &[T], d_score: &mut [T]) {
    let (d, e, heads) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads);
    rows(&mut d_score[..cx.rows * heads * 3], heads * 3, |row, out| {
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            let pattern = &pattern[(row * heads + head) * 3..][..3];
            for (pos, out) in out.iter_mut().enumerate() {
                let slot = slots[row * 3 + pos] as usize;
                *out = dot(&d_z[row * d + head * e..][..e], &v[slot * d + head * e..][..e]);
            }
            let mean = dot(pattern, out);
            for (out, &a) in out.iter_mut().zip(pattern) {
                *out = a * (*out - mean);
            }
        }
    });
}

/// Over the rows of the slot: d_v[slot] = sum of pattern d_z;  d_slot_score[slot] = sum of d_score
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_slots<T: Real>(
    cx: &Context,
    slot_edges: &[u32],
    slot_rows: &[u32],
    d_z: &[T],
    pattern: &[T],
    d_score: &[T],
    d_v: &mut [T],
    d_slot_score: &mut [T],
) {
    let (d, e, heads, p) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads, cx.shape.p);
    let gather = |pos: usize, of_slot: &[u32], d_v: &mut [T], d_slot_score: &mut [T]| {
        d_v.fill(T::zero());
        d_slot_score.fill(T::zero());
        for &row in of_slot {
            for (head, score) in d_slot_score.iter_mut().enumerate() {
                let (block, at) = (head * e..(head + 1) * e, (row as usize * heads + head) * 3 + pos);
                add_scaled(&mut d_v[block.clone()], pattern[at], &d_z[row as usize * d..][block]);
                *score += d_score[at];
            }
        }
    };
    let rows_of = |slot: usize| &slot_rows[slot_edges[slot] as usize..slot_edges[slot + 1] as usize];
    let (d_v_xy, d_v_equals) = d_v.split_at_mut(2 * p * d);
    let (score_xy, score_equals) = d_slot_score.split_at_mut(2 * p * heads);
    rows2(d_v_xy, d, score_xy, heads, |slot, d_v, score| gather(slot / p, rows_of(slot), d_v, score));

    // Every row is in the slot "=": one core would do a third of the work, so its rows are summed in chunks.
    const CHUNK: usize = 256;
    let of_equals = rows_of(2 * p);
    let width = d + heads;
    let mut sums = vec![T::zero(); of_equals.len().div_ceil(CHUNK) * width];
    sums.par_chunks_mut(width).zip(of_equals.par_chunks(CHUNK)).for_each(|(sum, rows)| {
        let (d_v, score) = sum.split_at_mut(d);
        gather(2, rows, d_v, score);
    });
    d_v_equals.fill(T::zero());
    score_equals.fill(T::zero());
    for sum in sums.chunks_exact(width) {
        add(d_v_equals, &sum[..d]);
        add(score_equals, &sum[d..]);
    }
}

/// d_k[slot] = d_slot_score q / sqrt(d_head);  d_q = sum over slots of d_slot_score k / sqrt(d_head)
fn backward_qk<T: Real>(cx: &Context, d_slot_score: &[T], q: &[T], k: &[T], d_q: &mut [T], d_k: &mut [T]) {
    let (d, e, heads) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads);
    let scale = scale::<T>(cx);
    d_q.fill(T::zero());
    d_k.fill(T::zero());
    for (slot, scores) in d_slot_score.chunks_exact(heads).enumerate() {
        for (head, &score) in scores.iter().enumerate() {
            let (of_query, of_slot) = (head * e..(head + 1) * e, slot * d + head * e..slot * d + (head + 1) * e);
            add_scaled(&mut d_k[of_slot.clone()], score * scale, &q[of_query.clone()]);
            add_scaled(&mut d_q[of_query], score * scale, &k[of_slot]);
        }
    }
}

/// d_resid_pre = d_k W_K^T + d_v W_V^T, and at "=" + d_q W_Q^T + d_resid_equals
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_qkv_inputs<T: Real>(
    cx: &Context,
    d_q: &[T],
    d_k: &[T],
    d_v: &[T],
    w_q: &[T],
    w_k: &[T],
    w_v: &[T],
    d_resid_equals: &[T],
    d_resid_pre: &mut [T],
) {
    let (d, e, p) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.p);
    let back = |d_out: &[T], w: &[T], d_in: &mut [T]| {
        for (head, w) in w.chunks_exact(d * e).enumerate() {
            let d_out = Mat::strided(&d_out[head * e..], d_out.len() / d, e, d);
            matmul(MatMut::new(d_in, d), d_out, Mat::new(w, e).t(), Into::Add);
        }
    };
    d_resid_pre.fill(T::zero());
    d_resid_pre[2 * p * d..].copy_from_slice(d_resid_equals);
    back(d_q, w_q, &mut d_resid_pre[2 * p * d..]);
    back(d_k, w_k, d_resid_pre);
    back(d_v, w_v, d_resid_pre);
}

/// d_W_Q = resid_pre[=]^T d_q;  d_W_K = resid_pre^T d_k;  d_W_V = resid_pre^T d_v
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_qkv_weights<T: Real>(
    cx: &Context,
    resid_pre: &[T],
    d_q: &[T],
    d_k: &[T],
    d_v: &[T],
    d_w_q: &mut [T],
    d_w_k: &mut [T],
    d_w_v: &mut [T],
) {
    let (d, e) = (cx.shape.d_model, cx.shape.d_head());
    let weights = |x: &[T], d_out: &[T], d_w: &mut [T]| {
        for (head, d_w) in d_w.chunks_exact_mut(d * e).enumerate() {
            let d_out = Mat::strided(&d_out[head * e..], d_out.len() / d, e, d);
            matmul(MatMut::new(d_w, e), Mat::new(x, d).t(), d_out, Into::Overwrite);
        }
    };
    weights(&resid_pre[2 * cx.shape.p * d..], d_q, d_w_q);
    weights(resid_pre, d_k, d_w_k);
    weights(resid_pre, d_v, d_w_v);
}
