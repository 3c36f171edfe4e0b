//! Twin of `dots.wgsl`. The kernel goes by slots, the twin by rows.

use super::compose::Wide;
use super::wide::dot_lines;
use super::{Context, Real, Twin, rows, twin};

/// The twin of an entry point of `dots.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "backward" => twin!(backward, index [slots], read [d_pre4, d_logits4, head_read], write [d_pattern]).by_rows(),
        _ => return None,
    })
}

/// Heads that are done in one go over a row's elements.
const GROUP: usize = 4;

/// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
fn backward<T: Real>(cx: &Context, slots: &[u32], d_pre4: &[T], d_logits4: &[T], head_read: &[T], d_pattern: &mut [T]) {
    let (wide, heads, n_slots) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.n_slots());
    let (m, c) = (wide.d_mlp, wide.d_vocab_out);
    rows(&mut d_pattern[..cx.rows * heads * 3], heads * 3, |row, out| {
        let (d_pre, d_logits) = (&d_pre4[row * m..][..m], &d_logits4[row * c..][..c]);
        out.fill(T::zero());
        // Those of a head side by side: x, y.
        for (group, out) in out.chunks_mut(GROUP * 3).enumerate() {
            let (mut lines, mut sums) = ([0; 2 * GROUP], [T::zero(); 2 * GROUP]);
            let lines = &mut lines[..out.len() / 3 * 2];
            for (k, line) in lines.iter_mut().enumerate() {
                let (head, slot) = (group * GROUP + k / 2, slots[row * 3 + k % 2] as usize);
                *line = (head * n_slots + slot) * wide.reader;
            }
            dot_lines(&[d_pre, d_logits], lines, head_read, &mut sums);
            for (out, sums) in out.chunks_exact_mut(3).zip(sums.chunks_exact(2)) {
                out[..2].copy_from_slice(sums);
            }
        }
    });
}
