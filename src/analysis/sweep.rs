//! What many runs say together: phases of learning, shares with their intervals, medians with theirs.

use serde::{Deserialize, Serialize};

/// Accuracy from which a network counts as having fitted its train pairs, or as generalising (Liu et al. 2022, "Towards Understanding
/// Grokking", table 1).
pub const LEARNED: f64 = 0.9;

/// How a network learned (Liu et al. 2022): by whether and when it reached [`LEARNED`] on train and test pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It generalised about when it fitted.
    Comprehension,
    /// It generalised long after it had fitted.
    Grokking,
    /// It fitted, and never generalised.
    Memorisation,
    /// It did not even fit.
    Confusion,
}

impl Phase {
    /// All of them, in the order of their colours.
    pub const ALL: [Self; 4] = [Self::Comprehension, Self::Grokking, Self::Memorisation, Self::Confusion];

    /// Of the steps at which train and test accuracy reached [`LEARNED`]. What takes `delay` steps longer on test pairs is grokking.
    pub fn of(fitted: Option<u64>, generalised: Option<u64>, delay: u64) -> Self {
        match (fitted, generalised) {
            (None, _) => Self::Confusion,
            (_, None) => Self::Memorisation,
            (Some(fitted), Some(generalised)) if generalised.saturating_sub(fitted) < delay => Self::Comprehension,
            _ => Self::Grokking,
        }
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Comprehension => "comprehension",
            Self::Grokking => "grokking",
            Self::Memorisation => "memorisation",
            Self::Confusion => "confusion",
        }
    }
}

/// Bounds of a share of `n` in which `hits` had something, at 95 % (Wilson's score interval); none of nothing.
pub fn share_interval(hits: usize, n: usize) -> Option<(f64, f64)> {
    if n == 0 {
        return None;
    }
    let (n, share, z) = (n as f64, hits as f64 / n as f64, 1.959_963_984_540_054_f64);
    let middle = share + z * z / (2.0 * n);
    let reach = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    let (lo, hi) = ((middle - reach) / scale, (middle + reach) / scale);
    // Exactly, where rounding would leave a trace.
    Some((if share == 0.0 { 0.0 } else { lo }, if share == 1.0 { 1.0 } else { hi }))
}

/// A median with bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle value, or the mean of the two middle ones.
    pub value: f64,
    /// The values that the median of what they were drawn from lies between, with at least 95 % (order statistics); the least and the
    /// largest value where there are fewer than six.
    pub interval: (f64, f64),
}

/// The median of some values; none of no values.
pub fn median(values: &[f64]) -> Option<Median> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let value = (sorted.get(n.checked_sub(1)? / 2)? + sorted.get(n / 2)?) / 2.0;
    // P(at most k of n lie below the median) = sum of binomials / 2^n, each tail to be at most 2.5 %.
    let (mut term, mut tail, mut outside) = (0.5f64.powi(n.min(1000) as i32), 0.0, 0);
    if n <= 1000 {
        for k in 0..n {
            tail += term;
            if tail > 0.025 {
                break;
            }
            outside = k + 1;
            term *= (n - k) as f64 / (k + 1) as f64;
        }
    } else {
        outside = (n as f64 / 2.0 - 0.98 * (n as f64).sqrt()) as usize;
    }
    let rank = outside.saturating_sub(1);
    Some(Median { value, interval: (sorted[rank], sorted[n - 1 - rank]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_by_who_came_when() {
        let phase = |fitted, generalised| Phase::of(fitted, generalised, 1000);
        assert_eq!(phase(Some(100), Some(1099)), Phase::Comprehension);
        assert_eq!(phase(Some(100), Some(1100)), Phase::Grokking);
        assert_eq!(phase(Some(100), Some(50)), Phase::Comprehension);
        assert_eq!(phase(Some(100), None), Phase::Memorisation);
        assert_eq!(phase(None, None), Phase::Confusion);
        assert_eq!(phase(None, Some(3)), Phase::Confusion);
    }

    /// Values of R's binom.confint(method = "wilson").
    #[test]
    fn shares_have_wilson_intervals() {
        let close = |found: Option<(f64, f64)>, lo: f64, hi: f64| {
            let found = found.unwrap();
            assert!((found.0 - lo).abs() < 5e-5 && (found.1 - hi).abs() < 5e-5, "{found:?}");
        };
        close(share_interval(5, 10), 0.2366, 0.7634);
        close(share_interval(0, 8), 0.0, 0.3244);
        close(share_interval(8, 8), 0.6756, 1.0);
        assert_eq!(share_interval(0, 0), None);
    }

    #[test]
    fn medians_have_the_intervals_of_their_order() {
        let values = |n: usize| (1..=n).rev().map(|x| x as f64).collect::<Vec<_>>();
        assert_eq!(median(&[]), None);
        assert_eq!(median(&values(1)), Some(Median { value: 1.0, interval: (1.0, 1.0) }));
        assert_eq!(median(&values(4)), Some(Median { value: 2.5, interval: (1.0, 4.0) }));
        // 2 * 2^-6 = 3.1 %, 2 * (1 + 9) / 2^9 = 3.9 %, and 20 values: the 6th and the 15th (Conover 1999, table A3).
        assert_eq!(median(&values(6)).unwrap().interval, (1.0, 6.0));
        assert_eq!(median(&values(9)).unwrap().interval, (2.0, 8.0));
        assert_eq!(median(&values(20)).unwrap().interval, (6.0, 15.0));
        let many = median(&values(2001)).unwrap().interval;
        assert!((many.0 - 957.0).abs() <= 2.0 && (many.1 - 1045.0).abs() <= 2.0, "{many:?}");
    }
}
