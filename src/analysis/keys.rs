//! The key frequencies by four rules, and the headline set.
//!
//! Each rule by itself errs: W_E often holds the doubles of key frequencies too (Nanda et al. 2023, section 4), so the
//! headline is what stands out in W_L = W_out W_U and has a cluster of neurons.

use super::fourier::Fourier;
use super::neurons::Neurons;
use super::spectrum::Spectrum;
use serde::{Deserialize, Serialize};

/// Share of the largest component from which a component stands out.
const STANDS_OUT: f64 = 0.25;

/// What each rule says, sorted by frequency.
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

/// The sorted set of frequencies that stand out in W_L and have a cluster.
pub fn headline(rules: &KeyRules, neurons: &Neurons) -> Vec<usize> {
    let has_cluster = |k: &usize| neurons.clusters.iter().any(|cluster| cluster.frequency == *k);
    rules.W_L.iter().copied().filter(has_cluster).collect()
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
