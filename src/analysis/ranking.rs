//! Ranks contributions in descending order, and says whether the next frequency can overturn the margin of those before a cut.

use super::keys::Cut;
use std::f64::consts::TAU;

/// Contributions below this share of the largest count as this share.
const FLOOR: f64 = 1e-3;

/// Frequencies by their mean contribution to the correct logit, the largest first.
pub struct Ranking {
    /// n, the order of the group.
    n: usize,
    /// (k, C_k)
    sorted: Vec<(usize, f64)>,
}

impl Ranking {
    /// Ranks contributions C_k, k = 1..=n/2.
    pub fn new(n: usize, contributions: &[f64]) -> Self {
        let mut sorted: Vec<(usize, f64)> = contributions.iter().enumerate().map(|(i, &c)| (i + 1, c)).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self { n, sorted }
    }

    /// Returns how many frequencies there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Returns the cut after the first `count` frequencies.
    pub fn cut(&self, count: usize) -> Cut {
        let mut frequencies: Vec<usize> = self.sorted[..count].iter().map(|(k, _)| *k).collect();
        frequencies.sort();
        Cut { frequencies, ratio: self.ratio(count), overturned: !self.holds_its_margin(count) }
    }

    /// Returns C_count / C_(count+1), both at least the floor.
    pub fn ratio(&self, count: usize) -> f64 {
        let value = |i: usize| self.sorted[i].1.max(FLOOR * self.sorted[0].1);
        value(count - 1) / value(count)
    }

    /// Returns counts of frequencies, the largest ratio after them first, of equal ones the smallest count; none where no
    /// frequency contributes.
    pub fn by_ratio(&self) -> Vec<usize> {
        if self.sorted.first().is_none_or(|first| first.1 <= 0.0) {
            return Vec::new();
        }
        let mut counts: Vec<usize> = (1..self.sorted.len()).collect();
        counts.sort_by(|&a, &b| self.ratio(b).total_cmp(&self.ratio(a)));
        counts
    }

    /// Reports whether the next frequency cannot overturn the margin of the first `count`: C_k cos w_k d has the margin
    /// min over d != 0 of sum C_k (1 - cos w_k d), and a further wave of amplitude C changes it by at most 2 C.
    ///
    /// One frequency alone has a margin of 2 pi^2 C / n^2 at best, so that a neighbour of a hundredth of it decides.
    fn holds_its_margin(&self, count: usize) -> bool {
        let lost = |&(k, c): &(usize, f64), d: usize| c * (1.0 - (TAU * (k * d % self.n) as f64 / self.n as f64).cos());
        let margin_at = |d: usize| self.sorted[..count].iter().map(|wave| lost(wave, d)).sum::<f64>();
        let margin = (1..self.n).map(margin_at).fold(f64::INFINITY, f64::min);
        margin > 2.0 * self.sorted.get(count).map_or(0.0, |next| next.1.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Ranking;

    fn ranking(n: usize, waves: &[(usize, f64)]) -> Ranking {
        let mut contributions = vec![0.0; n / 2];
        waves.iter().for_each(|&(k, c)| contributions[k - 1] = c);
        Ranking::new(n, &contributions)
    }

    #[test]
    fn one_wave_is_overturned_by_a_twentieth_and_three_are_not() {
        let ranking = ranking(59, &[(27, 1.0), (18, 0.048), (5, 0.031), (22, 0.006)]);
        assert_eq!(ranking.by_ratio()[..2], [1, 4]);
        let overturned: Vec<bool> = (1..=4).map(|count| ranking.cut(count).overturned).collect();
        assert_eq!(overturned, [true, true, false, false]);
        assert_eq!(ranking.cut(3).frequencies, [5, 18, 27]);
    }

    #[test]
    fn a_margin_is_the_smallest_over_all_distances() {
        // Waves of frequency 2 and 4 of 8 are the same at distance 4, so any other wave overturns them.
        assert!(ranking(8, &[(2, 1.0), (4, 1.0), (1, 1e-9)]).cut(2).overturned);
        // 2 (1 - cos(2 pi / 5)) = 1.382 against twice 0.69 and 0.70.
        assert!(!ranking(5, &[(1, 2.0), (2, 0.69)]).cut(1).overturned);
        assert!(ranking(5, &[(1, 2.0), (2, 0.70)]).cut(1).overturned);
    }

    #[test]
    fn nothing_contributes_nothing_is_cut() {
        assert!(ranking(7, &[]).by_ratio().is_empty());
        assert!(Ranking::new(7, &[-1.0, -2.0, -0.5]).by_ratio().is_empty());
    }
}
