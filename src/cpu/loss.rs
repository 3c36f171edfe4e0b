//! Twin of `loss.wgsl`: cross-entropy that keeps its gradient at losses near 1e-7 and below.

use super::wide::exp_below;
use super::{Context, Real, Twin, rows, rows2, twin};

/// The twin of an entry point of `loss.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, index [labels], read [logits], write [row_loss, row_correct]).by_rows(),
        "backward" => twin!(backward, index[labels], read[logits], write[d_logits]).by_rows(),
        _ => return None,
    })
}

/// exp(x), or 0 where nothing would notice the difference
fn weight<T: Real>(x: T) -> T {
    if x < T::NEGLIGIBLE_LOGIT { T::zero() } else { x.portable_exp() }
}

/// The largest logit, and the sum over c != y of exp(l_c - that)
fn rest<T: Real>(logits: &[T], label: usize) -> (T, T) {
    let top = logits.iter().fold(logits[0], |top, &l| top.max(l));
    let others = logits.iter().enumerate().filter(|(c, _)| *c != label);
    (top, others.map(|(_, &l)| weight(l - top)).sum())
}

/// Whether the label's logit is the first of the largest.
fn is_first_largest<T: Real>(logits: &[T], label: usize) -> bool {
    let beaten = |(class, &l): (usize, &T)| if class < label { l < logits[label] } else { l <= logits[label] };
    logits.iter().enumerate().all(beaten)
}

/// row_loss = log1p(sum over c != y of exp(l_c - l_y)) where y has the largest logit, else
/// l_max - l_y + log(sum of exp(l_c - l_max)); row_correct = 1 where y is the first of the largest logits
pub fn forward<T: Real>(cx: &Context, labels: &[u32], logits: &[T], row_loss: &mut [T], row_correct: &mut [T]) {
    let (classes, width) = (cx.shape.d_vocab_out, logits.len() / cx.rows);
    rows2(&mut row_loss[..cx.rows], 1, &mut row_correct[..cx.rows], 1, |row, loss, correct| {
        let (logits, label) = (&logits[row * width..][..classes], labels[row] as usize);
        let (top, sum) = rest(logits, label);
        let behind = top - logits[label];
        loss[0] = if behind == T::zero() {
            sum.portable_ln_1p()
        } else {
            behind + ((-behind).portable_exp() + sum).portable_ln()
        };
        correct[0] = if is_first_largest(logits, label) { T::one() } else { T::zero() };
    });
}

/// d_logits = (softmax - one-hot) / rows, the label's entry as minus the sum of the others
fn backward<T: Real>(cx: &Context, labels: &[u32], logits: &[T], d_logits: &mut [T]) {
    let (classes, width) = (cx.shape.d_vocab_out, logits.len() / cx.rows);
    let mean = T::one() / T::of(cx.batch_rows as f64);
    rows(&mut d_logits[..cx.rows * width], width, |row, d_logits| {
        let (logits, label) = (&logits[row * width..][..classes], labels[row] as usize);
        let (d_logits, rest_of_row) = d_logits.split_at_mut(classes);
        rest_of_row.fill(T::zero());
        let top = logits.iter().fold(logits[0], |top, &l| top.max(l));
        exp_below(logits, top, d_logits);
        let of_label = std::mem::replace(&mut d_logits[label], T::zero());
        let sum: T = d_logits.iter().copied().sum();
        let factor = mean / (of_label + sum);
        d_logits.iter_mut().for_each(|d| *d *= factor);
        d_logits[label] = -sum * factor;
    });
}
