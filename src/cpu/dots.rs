//! Twin of `dots.wgsl`. The kernel goes by slots, the twin by rows.

use super::compose::Wide;
use super::wide::{SIDE, dot_lines};
use super::{Context, Real, Twin, rows, twin};

/// The twin of an entry point of `dots.wgsl`.
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
        for first in (0..heads).step_by(SIDE) {
            let group = SIDE.min(heads - first);
            for pos in 0..2 {
                let slot = slots[row * 3 + pos] as usize;
                let lines: [usize; SIDE] = std::array::from_fn(|n| ((first + n) * n_slots + slot) * wide.reader);
                let mut sums = [T::zero(); SIDE];
                dot_lines(d_pre, &lines[..group], head_read, &mut sums[..group]);
                dot_lines(d_logits, &lines[..group], &head_read[m..], &mut sums[..group]);
                for (n, &sum) in sums[..group].iter().enumerate() {
                    out[(first + n) * 3 + pos] = sum;
                }
            }
        }
    });
}
