//! Twin of `slots.wgsl`: the slots told relative to "=", and their scores.

use super::compose::Wide;
use super::embed::slot_input;
use super::wide::dot_lines;
use super::{Context, Real, Twin, add, add_scaled, dot, twin};

/// The twin of an entry point of `slots.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, read [W_E, W_pos], write [resid4]),
        "forward_query" => twin!(forward_query, read [resid4, W_Q], write [q]),
        "forward_key" => twin!(forward_key, read [q, W_K], write [u]),
        "forward_scores" => twin!(forward_scores, read [resid4, u], write [slot_score]),
        "backward_scores" => {
            twin!(backward_scores, index [slot_edges, slot_rows], read [d_score], write [d_slot_score])
        }
        "backward_key" => twin!(backward_key, read [d_slot_score, resid4], write [d_u]),
        "backward_query" => twin!(backward_query, read [d_u, W_K], write [d_q]),
        "backward_weights" => twin!(backward_weights, read [d_u, q, d_q, resid4], write [d_W_Q, d_W_K]),
        "backward" => twin!(backward, read [d_slot_score, u, d_q, W_Q, d_resid_equals], write [d_resid4]),
        "backward_embed" => twin!(backward_embed, read [d_resid4], write [d_W_E, d_W_pos]),
        _ => return None,
    })
}

/// 1 / sqrt(d_head)
fn scale<T: Real>(cx: &Context) -> T {
    T::one() / T::of(cx.shape.d_head() as f64).sqrt()
}

/// resid4[s] = resid_pre[s] - resid_pre[=], and resid_pre[=] itself
fn forward<T: Real>(cx: &Context, w_e: &[T], w_pos: &[T], resid4: &mut [T]) {
    let (wide, d, p) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.p);
    resid4.fill(T::zero());
    for (slot, out) in resid4.chunks_exact_mut(wide.d_model).enumerate() {
        let (token, pos) = slot_input(slot, p);
        for (i, out) in out[..d].iter_mut().enumerate() {
            *out = w_e[token * d + i] + w_pos[pos * d + i];
            if slot < 2 * p {
                *out -= w_e[p * d + i] + w_pos[2 * d + i];
            }
        }
    }
}

/// The row of "="
fn equals<'a, T: Real>(cx: &Context, resid4: &'a [T]) -> &'a [T] {
    &resid4[2 * cx.shape.p * Wide::of(&cx.shape).d_model..]
}

/// q = resid_pre[=] W_Q
fn forward_query<T: Real>(cx: &Context, resid4: &[T], w_q: &[T], q: &mut [T]) {
    let (d, e) = (cx.shape.d_model, cx.shape.d_head());
    for (q, w_q) in q.chunks_exact_mut(e).zip(w_q.chunks_exact(d * e)) {
        q.fill(T::zero());
        for (&x, w_q) in equals(cx, resid4).iter().zip(w_q.chunks_exact(e)) {
            add_scaled(q, x, w_q);
        }
    }
}

/// u = W_K q / sqrt(d_head)
fn forward_key<T: Real>(cx: &Context, q: &[T], w_k: &[T], u: &mut [T]) {
    let (wide, d, e) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head());
    u.fill(T::zero());
    for (head, u) in u.chunks_exact_mut(wide.d_model).enumerate() {
        for (u, w_k) in u.iter_mut().zip(w_k[head * d * e..][..d * e].chunks_exact(e)) {
            *u = dot(w_k, &q[head * e..][..e]) * scale(cx);
        }
    }
}

/// slot_score[s] = resid4[s] . u, 0 at "="
fn forward_scores<T: Real>(cx: &Context, resid4: &[T], u: &[T], slot_score: &mut [T]) {
    let (wide, heads) = (Wide::of(&cx.shape), cx.shape.n_heads);
    slot_score.fill(T::zero());
    let lines: Vec<usize> = (0..heads).map(|head| head * wide.d_model).collect();
    for (slot, out) in slot_score.chunks_exact_mut(heads).take(2 * cx.shape.p).enumerate() {
        dot_lines(&[&resid4[slot * wide.d_model..][..wide.d_model]], &lines, u, out);
    }
}

/// d_slot_score = sum of d_score over the rows of the slot; that of "=" is told relative to itself
fn backward_scores<T: Real>(
    cx: &Context,
    slot_edges: &[u32],
    slot_rows: &[u32],
    d_score: &[T],
    d_slot_score: &mut [T],
) {
    let (heads, p) = (cx.shape.n_heads, cx.shape.p);
    d_slot_score.fill(T::zero());
    for (slot, sums) in d_slot_score.chunks_exact_mut(heads).take(2 * p).enumerate() {
        for &row in &slot_rows[slot_edges[slot] as usize..slot_edges[slot + 1] as usize] {
            for (head, sum) in sums.iter_mut().enumerate() {
                *sum += d_score[(row as usize * heads + head) * 3 + slot / p];
            }
        }
    }
}

/// d_u = sum over the slots of d_slot_score resid4
fn backward_key<T: Real>(cx: &Context, d_slot_score: &[T], resid4: &[T], d_u: &mut [T]) {
    let (wide, heads) = (Wide::of(&cx.shape), cx.shape.n_heads);
    d_u.fill(T::zero());
    for (slot, x) in resid4.chunks_exact(wide.d_model).take(2 * cx.shape.p).enumerate() {
        for (d_u, &score) in d_u.chunks_exact_mut(wide.d_model).zip(&d_slot_score[slot * heads..]) {
            add_scaled(d_u, score, x);
        }
    }
}

/// d_q = W_K^T d_u / sqrt(d_head)
fn backward_query<T: Real>(cx: &Context, d_u: &[T], w_k: &[T], d_q: &mut [T]) {
    let (wide, d, e) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head());
    for (head, d_q) in d_q.chunks_exact_mut(e).enumerate() {
        d_q.fill(T::zero());
        for (&d_u, w_k) in d_u[head * wide.d_model..].iter().zip(w_k[head * d * e..][..d * e].chunks_exact(e)) {
            add_scaled(d_q, d_u * scale(cx), w_k);
        }
    }
}

/// d_W_Q = resid_pre[=]^T d_q;  d_W_K = d_u^T q / sqrt(d_head)
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_weights<T: Real>(
    cx: &Context,
    d_u: &[T],
    q: &[T],
    d_q: &[T],
    resid4: &[T],
    d_w_q: &mut [T],
    d_w_k: &mut [T],
) {
    let (wide, d, e) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head());
    d_w_q.fill(T::zero());
    d_w_k.fill(T::zero());
    for (n, (d_w_q, d_w_k)) in d_w_q.chunks_exact_mut(e).zip(d_w_k.chunks_exact_mut(e)).enumerate() {
        let (head, i) = (n / d, n % d);
        add_scaled(d_w_q, equals(cx, resid4)[i], &d_q[head * e..]);
        add_scaled(d_w_k, d_u[head * wide.d_model + i] * scale(cx), &q[head * e..]);
    }
}

/// d_resid4[s] += sum over the heads of d_slot_score u;  at "=" += d_resid_equals + d_q W_Q^T
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward<T: Real>(
    cx: &Context,
    d_slot_score: &[T],
    u: &[T],
    d_q: &[T],
    w_q: &[T],
    d_resid_equals: &[T],
    d_resid4: &mut [T],
) {
    let (wide, d, e, heads) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.d_head(), cx.shape.n_heads);
    let (of_slots, of_equals) = d_resid4.split_at_mut(2 * cx.shape.p * wide.d_model);
    for (out, scores) in of_slots.chunks_exact_mut(wide.d_model).zip(d_slot_score.chunks_exact(heads)) {
        for (&score, u) in scores.iter().zip(u.chunks_exact(wide.d_model)) {
            add_scaled(out, score, u);
        }
    }
    add(of_equals, d_resid_equals);
    for (d_q, w_q) in d_q.chunks_exact(e).zip(w_q.chunks_exact(d * e)) {
        for (out, w_q) in of_equals.iter_mut().zip(w_q.chunks_exact(e)) {
            *out += dot(d_q, w_q);
        }
    }
}

/// d_W_E[token] and d_W_pos[pos] = sums of d_resid4 over their slots; "=" loses what the others have relative to it
fn backward_embed<T: Real>(cx: &Context, d_resid4: &[T], d_w_e: &mut [T], d_w_pos: &mut [T]) {
    let (wide, d, p) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.p);
    d_w_e.fill(T::zero());
    d_w_pos.fill(T::zero());
    for (slot, from) in d_resid4.chunks_exact(wide.d_model).enumerate() {
        let (token, pos) = slot_input(slot, p);
        add(&mut d_w_e[token * d..][..d], from);
        add(&mut d_w_pos[pos * d..][..d], from);
    }
    let (of_xy, of_equals) = d_w_pos.split_at_mut(2 * d);
    for (i, equals) in of_equals.iter_mut().enumerate() {
        *equals -= of_xy[i] + of_xy[d + i];
    }
    d_w_e[p * d..].copy_from_slice(of_equals);
}
