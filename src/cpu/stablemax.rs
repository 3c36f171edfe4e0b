//! Twin of `stablemax.wgsl`: the cross-entropy of StableMax.

use super::loss::is_first_largest;
use super::{Context, Real, Twin, rows, rows2, twin};

pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, index [labels], read [logits], write [row_loss, row_correct]),
        "backward" => twin!(backward, index[labels], read[logits], write[d_logits]),
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

/// row_loss = log1p(sum over c != y of s(l_c) / s(l_y)); row_correct = 1 where y is the first of the largest logits
fn forward<T: Real>(cx: &Context, labels: &[u32], logits: &[T], row_loss: &mut [T], row_correct: &mut [T]) {
    let (classes, width) = (cx.shape.d_vocab_out, logits.len() / cx.rows);
    rows2(&mut row_loss[..cx.rows], 1, &mut row_correct[..cx.rows], 1, |row, loss, correct| {
        let (logits, label) = (&logits[row * width..][..classes], labels[row] as usize);
        let (own, rest) = shares(logits, label);
        loss[0] = (rest / own).ln_1p();
        correct[0] = if is_first_largest(logits, label) { T::one() } else { T::zero() };
    });
}

/// d_logits = s'(l_c) (1 / sum of s - [c = y] / s(l_y)) / rows, the label's entry as -s'(l_y) rest / (s(l_y) sum)
fn backward<T: Real>(cx: &Context, labels: &[u32], logits: &[T], d_logits: &mut [T]) {
    let (classes, width) = (cx.shape.d_vocab_out, logits.len() / cx.rows);
    let mean = T::one() / T::of(cx.rows as f64);
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
