//! Twin of `embed.wgsl`: the residual stream of every slot.

use super::{Context, Real, Twin, add, twin};

/// The twin of an entry point of `embed.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, read [W_E, W_pos], write [resid_pre]),
        "backward" => twin!(backward, read [d_resid_pre], write [d_W_E, d_W_pos]),
        _ => return None,
    })
}

/// The (token, position) of a slot.
pub fn slot_input(slot: usize, p: usize) -> (usize, usize) {
    match slot / p {
        0 => (slot, 0),
        1 => (slot - p, 1),
        _ => (p, 2),
    }
}

/// `resid_pre[slot] = W_E[token] + W_pos[pos]`
pub fn forward<T: Real>(cx: &Context, w_e: &[T], w_pos: &[T], resid_pre: &mut [T]) {
    let d = cx.shape.d_model;
    for (slot, out) in resid_pre.chunks_exact_mut(d).enumerate() {
        let (token, pos) = slot_input(slot, cx.shape.p);
        out.copy_from_slice(&w_e[token * d..][..d]);
        add(out, &w_pos[pos * d..][..d]);
    }
}

/// d_W_E[token] = sum of d_resid_pre over the slots of the token; d_W_pos[pos] over the slots of the position
fn backward<T: Real>(cx: &Context, d_resid_pre: &[T], d_w_e: &mut [T], d_w_pos: &mut [T]) {
    let d = cx.shape.d_model;
    d_w_e.fill(T::zero());
    d_w_pos.fill(T::zero());
    for (slot, d_out) in d_resid_pre.chunks_exact(d).enumerate() {
        let (token, pos) = slot_input(slot, cx.shape.p);
        add(&mut d_w_e[token * d..][..d], d_out);
        add(&mut d_w_pos[pos * d..][..d], d_out);
    }
}
