//! Finds the key frequencies: those whose waves make the correct logit the largest.
//!
//! For each pair, the logits along the class axis are a sum of waves of the class. The value of frequency k's wave at the
//! correct class is its contribution to the correct logit; C_k is the mean over all pairs. In descending order, the C_k drop
//! after the last key: the largest ratio between neighbours is the cut.
//!
//! Two conditions test whether the other frequencies could give the answers. Without the keys the accuracy is at most 5 / n,
//! five times chance. And the next frequency cannot overturn their margin: one frequency alone tells neighbouring classes apart by
//! only 2 pi^2 / n^2 of its contribution, so that a second one that contributes 1 % as much can change the answer. Where the
//! largest ratio is clear but the keys before it fail a condition, the next frequencies are added until they pass.
//!
//! The other rules are reported beside it, since each errs by itself. W_E often holds the doubles of keys too (Nanda et
//! al. 2023, section 4), W_L holds frequencies that no pair needs, and a key may have no neuron of its own.

use super::fourier::Fourier;
use super::network::Network;
use super::neurons::Neurons;
use super::ranking::Ranking;
use super::scores::{Judge, Scores};
use super::spectrum::Spectrum;
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Share of the largest component from which a component stands out.
const STANDS_OUT: f64 = 0.25;
/// Ratio at the cut from which it is clear.
const CLEAR_RATIO: f64 = 8.0;
/// Accuracy up to which a network has no answers to take apart, and that a clear cut may leave without its keys: five times
/// chance, which is 1 / n, and at most a half.
pub fn no_answers(n: usize) -> f64 {
    (5.0 / n as f64).min(0.5)
}

/// Share of the largest contribution from which a frequency is kept out of random control sets.
pub const CONTRIBUTES: f64 = 0.01;

/// The headline: the frequencies before the cut, and how clear the cut is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyFrequencies {
    /// C_k for k = 1..=n/2: mean over all pairs of the correct class's entry of the logits' component of frequency k.
    pub contributions: Vec<f64>,
    /// The cut of the headline, then the best other one: that with the largest ratio between neighbours of the sorted
    /// contributions, or where it is the headline's, with the second largest. Fewer where there are too few frequencies,
    /// none where no frequency contributes or the accuracy is at most [`no_answers`].
    pub cuts: Vec<Cut>,
    /// Whether the headline's ratio is at least 8, the accuracy on all pairs without the keys at most [`no_answers`], and the
    /// keys' margin too large for the next frequency.
    pub clear: bool,
    /// The logits with the keys' components alone, along the class axis.
    pub kept: Scores,
    /// The logits without these.
    pub removed: Scores,
    /// Share of the pairs on which the keys decide whatever the rest does: the smallest margin of the keys' part K of the
    /// logits, min over c of K_y - K_c, exceeds max over c of |R_c - R_y| of the rest R, y being the correct class.
    pub decided: f64,
}

/// A place in the sorted contributions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The frequencies before it, sorted by frequency.
    pub frequencies: Vec<usize>,
    /// The last contribution before it over the first after it.
    pub ratio: f64,
    /// Whether the next frequency can overturn the margin of those before the cut.
    pub overturned: bool,
}

/// How clear the key frequencies are, for a summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyCut {
    /// Whether the contributions fall off after the keys, and the keys carry the answers.
    pub clear: bool,
    /// The last key's contribution over the next frequency's.
    pub ratio: f64,
    /// Where the cut is not clear, frequencies that may be keys or not.
    pub in_question: Vec<usize>,
}

impl KeyCut {
    /// Of an analysis; none where no frequency contributes.
    pub fn of(keys: &KeyFrequencies) -> Option<Self> {
        let ratio = keys.cuts.first()?.ratio;
        let in_question = if keys.clear { Vec::new() } else { keys.in_question() };
        Some(Self { clear: keys.clear, ratio, in_question })
    }
}

impl KeyFrequencies {
    /// The frequencies before the best cut, sorted.
    pub fn keys(&self) -> &[usize] {
        self.cuts.first().map_or(&[], |cut| &cut.frequencies)
    }

    /// The frequencies between the two best cuts, sorted: where the cut is not clear, these may be keys or not.
    pub fn in_question(&self) -> Vec<usize> {
        let [first, second] = &self.cuts[..] else { return Vec::new() };
        let (few, many) = match first.frequencies.len() < second.frequencies.len() {
            true => (first, second),
            false => (second, first),
        };
        many.frequencies.iter().copied().filter(|k| !few.frequencies.contains(k)).collect()
    }

    /// How many frequencies, the largest contributions first, make `share` of the sum of positive contributions.
    pub fn making(&self, share: f64) -> usize {
        let mut positive: Vec<f64> = self.contributions.iter().copied().filter(|&c| c > 0.0).collect();
        positive.sort_by(|a, b| b.total_cmp(a));
        let wanted = share * positive.iter().sum::<f64>();
        let sums = positive.iter().scan(0.0, |sum, c| Some(std::mem::replace(sum, *sum + c)));
        sums.take_while(|before| *before < wanted).count()
    }

    /// Frequencies that contribute more than 1 % of the largest contribution. No control set holds one.
    pub fn contributing(&self) -> Vec<usize> {
        let largest = self.contributions.iter().copied().fold(0.0, f64::max);
        let above = self.contributions.iter().enumerate().filter(|(_, c)| **c > CONTRIBUTES * largest);
        above.map(|(i, _)| i + 1).collect()
    }
}

/// Measures the contributions in logits [row, class], and cuts them.
pub fn key_frequencies(network: &Network, fourier: &Fourier, judge: &Judge, logits: &[f64]) -> KeyFrequencies {
    let n = network.order();
    let contributions = contributions(fourier, judge, logits);
    let ranking = Ranking::new(n, &contributions);
    let answers = judge.scores(network, logits).all.accuracy > no_answers(n);
    let by_ratio = if answers { ranking.by_ratio() } else { Vec::new() };
    let carries = |cut: &Cut, removed: &Scores| !cut.overturned && removed.all.accuracy <= no_answers(n);

    // How many frequencies come before the headline's cut.
    let mut count = by_ratio.first().copied().unwrap_or(0);
    let parts_of =
        |cut: Option<&Cut>| Parts::of(network, fourier, judge, logits, cut.map_or(&[], |cut| &cut.frequencies));
    let mut cut = (count > 0).then(|| ranking.cut(count));
    let mut parts = parts_of(cut.as_ref());
    // Adds the next frequency until the keys carry the answers, up to half of all frequencies.
    let has_gap = count > 0 && ranking.ratio(count) >= CLEAR_RATIO;
    while has_gap && count < ranking.count() / 2 && !cut.as_ref().is_some_and(|cut| carries(cut, &parts.removed)) {
        count += 1;
        cut = Some(ranking.cut(count));
        parts = parts_of(cut.as_ref());
    }
    let clear = cut.as_ref().is_some_and(|cut| cut.ratio >= CLEAR_RATIO && carries(cut, &parts.removed));
    let other = by_ratio.into_iter().find(|&other| other != count).map(|other| ranking.cut(other));
    let cuts = cut.into_iter().chain(other).collect();
    let Parts { kept, removed, decided } = parts;
    KeyFrequencies { contributions, cuts, clear, kept, removed, decided }
}

/// What the keys' part of the logits does alone, and what the rest does.
struct Parts {
    kept: Scores,
    removed: Scores,
    decided: f64,
}

impl Parts {
    fn of(network: &Network, fourier: &Fourier, judge: &Judge, logits: &[f64], keys: &[usize]) -> Self {
        let of_keys = components(fourier, logits, keys);
        let mut rest = logits.to_vec();
        cpu::add_scaled(&mut rest, -1.0, &of_keys);
        Self {
            kept: judge.scores(network, &of_keys),
            removed: judge.scores(network, &rest),
            decided: decided(judge, &of_keys, &rest, network.order()),
        }
    }
}

/// Share of the pairs on which the margin of `keys` [row, class] exceeds what `rest` can add to any class.
fn decided(judge: &Judge, keys: &[f64], rest: &[f64], n: usize) -> f64 {
    let is_decided = |((keys, rest), &label): ((&[f64], &[f64]), &u32)| {
        let label = label as usize;
        let others = || (0..n).filter(|&c| c != label);
        let margin = others().map(|c| keys[label] - keys[c]).fold(f64::INFINITY, f64::min);
        margin > others().map(|c| (rest[c] - rest[label]).abs()).fold(0.0, f64::max)
    };
    let pairs = keys.chunks_exact(n).zip(rest.chunks_exact(n)).zip(judge.labels());
    pairs.filter(|&pair| is_decided(pair)).count() as f64 / (n * n) as f64
}

/// C_k for k = 1..=n/2.
fn contributions(fourier: &Fourier, judge: &Judge, logits: &[f64]) -> Vec<f64> {
    let n = fourier.n();
    // [row of the grid, frequency]
    let count = fourier.frequencies().count();
    let mut of_pairs = vec![0.0; n * n * count];
    cpu::rows(&mut of_pairs, count, |row, out| {
        let (coefficients, label) = (fourier.transform(&logits[row * n..][..n]), judge.labels()[row] as usize);
        for (k, out) in fourier.frequencies().zip(out) {
            *out = fourier.at(&coefficients, k, label);
        }
    });
    super::network::mean_row(&of_pairs, count)
}

/// The components of some frequencies along the class axis of logits [row, class].
pub fn components(fourier: &Fourier, logits: &[f64], frequencies: &[usize]) -> Vec<f64> {
    let n = fourier.n();
    let mut out = vec![0.0; logits.len()];
    cpu::rows(&mut out, n, |row, out| {
        for i in frequencies.iter().flat_map(|&k| fourier.rows_of(k)) {
            cpu::add_scaled(out, cpu::dot(&logits[row * n..][..n], fourier.row(i)), fourier.row(i));
        }
    });
    out
}

/// What each other rule says, sorted by frequency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct KeyRules {
    /// Larger of cosine and sine in W_E above a quarter of the largest component.
    pub W_E: Vec<usize>,
    /// The same in W_L over the classes.
    pub W_L: Vec<usize>,
    /// Frequencies by the neurons they explain best, whatever the share.
    pub neurons: Vec<Count>,
    /// Above the largest ratio between neighbours in the sorted first half of W_E's merged components.
    pub gap: Vec<usize>,
}

/// Neurons of a frequency, whatever their FVE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// The frequency k.
    pub frequency: usize,
    /// Neurons that it explains best.
    pub neurons: usize,
}

/// What each rule says of these spectra and neurons.
pub fn key_rules(fourier: &Fourier, w_e: &Spectrum, w_l: &Spectrum, neurons: &Neurons) -> KeyRules {
    let count = |k: usize| Count { frequency: k, neurons: neurons.frequency.iter().filter(|&&of| of == k).count() };
    KeyRules {
        W_E: stand_out(fourier, w_e),
        W_L: stand_out(fourier, w_l),
        neurons: fourier.frequencies().map(count).filter(|count| count.neurons > 0).collect(),
        gap: above_the_gap(fourier, w_e),
    }
}

fn stand_out(fourier: &Fourier, spectrum: &Spectrum) -> Vec<usize> {
    let largest = spectrum.components[1..].iter().copied().fold(0.0, f64::max);
    fourier.frequencies().filter(|&k| spectrum.largest(k) > STANDS_OUT * largest).collect()
}

fn above_the_gap(fourier: &Fourier, spectrum: &Spectrum) -> Vec<usize> {
    let mut sorted: Vec<(usize, f64)> = fourier.frequencies().map(|k| (k, spectrum.merged(k))).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let half = sorted.len().div_ceil(2);
    let ratio = |i: &usize| if sorted[i + 1].1 > 0.0 { sorted[*i].1 / sorted[i + 1].1 } else { f64::INFINITY };
    let gaps = (0..half.min(sorted.len().saturating_sub(1))).filter(|&i| sorted[i].1 > 0.0);
    let Some(last) = gaps.max_by(|a, b| ratio(a).total_cmp(&ratio(b)).then(b.cmp(a))) else { return Vec::new() };
    let mut keys: Vec<usize> = sorted[..=last].iter().map(|(k, _)| *k).collect();
    keys.sort();
    keys
}
