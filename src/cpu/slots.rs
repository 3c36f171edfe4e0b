//! Twin of `slots.wgsl`: the slots told relative to "=", and their scores.

use super::compose::Wide;
use super::embed::slot_input;
use super::{Context, Real, Twin, add, add_scaled, dot, twin};

/// The twin of an entry point of `slots.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, read [W_E, W_pos, b_out], write [resid4, equals4]),
        "backward_embed" => {
            twin!(backward_embed, read [d_resid4, d_slot_score4, u, d_q4, W_Q4, d_equals4_parts], write [d_W_E, d_W_pos])
        }
        _ => return None,
    })
}

/// resid4[s] = resid_pre[s] - resid_pre[=], and resid_pre[=] itself;  equals4 = that, and with b_out
fn forward<T: Real>(cx: &Context, w_e: &[T], w_pos: &[T], b_out: &[T], resid4: &mut [T], equals4: &mut [T]) {
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
    let equals = &resid4[2 * p * wide.d_model..];
    let (alone, with_bias) = equals4.split_at_mut(wide.d_model);
    alone.copy_from_slice(equals);
    with_bias.copy_from_slice(equals);
    add(&mut with_bias[..d], b_out);
}

/// d_W_E[token] and d_W_pos[pos] = sums over their slots of d_resid4 + sum over the heads of d_slot_score u; "=" gets d_equals + d_q W_Q^T, and
/// loses what the others have relative to it
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_embed<T: Real>(
    cx: &Context,
    d_resid4: &[T],
    d_slot_score4: &[T],
    u: &[T],
    d_q4: &[T],
    w_q4: &[T],
    d_equals4_parts: &[T],
    d_w_e: &mut [T],
    d_w_pos: &mut [T],
) {
    let (wide, d, p, heads) = (Wide::of(&cx.shape), cx.shape.d_model, cx.shape.p, cx.shape.n_heads);
    d_w_e.fill(T::zero());
    d_w_pos.fill(T::zero());
    let mut of_slot = vec![T::zero(); wide.d_model];
    for (slot, from) in d_resid4.chunks_exact(wide.d_model).enumerate() {
        of_slot.copy_from_slice(from);
        if slot < 2 * p {
            for (u, &score) in u.chunks_exact(wide.d_model).zip(&d_slot_score4[slot * wide.heads..][..heads]) {
                add_scaled(&mut of_slot, score, u);
            }
        }
        let (token, pos) = slot_input(slot, p);
        add(&mut d_w_e[token * d..][..d], &of_slot);
        add(&mut d_w_pos[pos * d..][..d], &of_slot);
    }
    let (of_xy, of_equals) = d_w_pos.split_at_mut(2 * d);
    for part in d_equals4_parts.chunks_exact(2 * wide.d_model) {
        add(of_equals, part);
    }
    for (i, equals) in of_equals.iter_mut().enumerate() {
        *equals += dot(d_q4, &w_q4[i * wide.z..][..wide.z]) - of_xy[i] - of_xy[d + i];
    }
    d_w_e[p * d..].copy_from_slice(of_equals);
}
