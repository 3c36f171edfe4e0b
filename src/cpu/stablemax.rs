//! Twin of `stablemax.wgsl`: the gradient of StableMax's cross-entropy.

use super::{Context, Real, Twin, rows, twin};

/// The twin of an entry point of `stablemax.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "backward" => twin!(backward, index[labels], read[logits], write[d_logits]).by_rows(),
        _ => return None,
    })
}

/// s(x) = x + 1 for x >= 0, else 1 / (1 - x), and its slope
fn s<T: Real>(x: T) -> (T, T) {
    let below = T::one() / (T::one() + (-x).max(T::zero()));
    (x.max(T::zero()) + below, below * below)
}

/// s of the label, and the sum of the others
fn shares<T: Real>(logits: &[T], label: usize) -> (T, T) {
    let others = logits.iter().enumerate().filter(|(c, _)| *c != label);
    (s(logits[label]).0, others.map(|(_, &l)| s(l).0).sum())
}

/// d_logits = s'(l_c) (1 / sum of s - [c = y] / s(l_y)) / rows, the label's entry as -s'(l_y) rest / (s(l_y) sum)
fn backward<T: Real>(cx: &Context, labels: &[u32], logits: &[T], d_logits: &mut [T]) {
    let (classes, width) = (cx.shape.d_vocab_out, logits.len() / cx.rows);
    let mean = T::one() / T::of(cx.batch_rows as f64);
    rows(&mut d_logits[..cx.rows * width], width, |row, d_logits| {
        let (logits, label) = (&logits[row * width..][..classes], labels[row] as usize);
        let (d_logits, rest_of_row) = d_logits.split_at_mut(classes);
        rest_of_row.fill(T::zero());
        let (own, rest) = shares(logits, label);
        let factor = mean / (own + rest);
        for (d, &l) in d_logits.iter_mut().zip(logits) {
            *d = s(l).1 * factor;
        }
        d_logits[label] = -s(logits[label]).1 * (rest / own) * factor;
    });
}
