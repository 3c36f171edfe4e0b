//! Twin of `dots.wgsl`. The kernel goes by slots, the twin by rows.

use super::compose::Wide;
use super::wide::dot_lines;
use super::{Context, Real, Twin, rows, twin};

pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "backward" => twin!(backward, index [slots], read [d_pre4, d_logits4, head_read], write [d_pattern]),
        _ => return None,
    })
}

/// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
fn backward<T: Real>(cx: &Context, slots: &[u32], d_pre4: &[T], d_logits4: &[T], head_read: &[T], d_pattern: &mut [T]) {
    let (wide, heads, n_slots) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.n_slots());
    let (m, c) = (wide.d_mlp, wide.d_vocab_out);
    rows(&mut d_pattern[..cx.rows * heads * 3], heads * 3, |row, out| {
        let (d_pre, d_logits) = (&d_pre4[row * m..][..m], &d_logits4[row * c..][..c]);
        out.fill(T::zero());
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            let line = |pos: usize| (head * n_slots + slots[row * 3 + pos] as usize) * wide.reader;
            dot_lines(d_pre, &[line(0), line(1)], head_read, &mut out[..2]);
            dot_lines(d_logits, &[line(0), line(1)], &head_read[m..], &mut out[..2]);
        }
    });
}
