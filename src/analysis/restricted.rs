//! Restricted and excluded losses (Nanda et al. 2023, section 5.1): only the key frequencies, and all but them.
//!
//! P_K projects a function over (a, b) on the cosines and sines of w_k c, w_k = 2 pi k / n, k in K, with c = a + b (or
//! a - b) the label's index. Such a projection depends on c alone, so a table [label, class] holds it.
//! Restricted = mean over the grid + P_K L; excluded = L - P_K L.

use super::Subject;
use super::fourier::Fourier;
use super::network::{Network, product};
use super::neurons::Planes;
use super::scores::{Judge, Scores};
use super::terms::{self, Terms};
use crate::cpu;
use crate::task::philox_permutation;
use serde::{Deserialize, Serialize};

/// Random sets of frequencies that the keys are compared with.
pub const CONTROLS: usize = 5;
/// Draws at most, for five that differ.
const DRAWS: u64 = 40;

/// Losses with some frequencies alone, and without them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestrictedLosses {
    /// P_K at the logits.
    pub logits: KeyLosses,
    /// P_K at the neurons, everything else as it is.
    pub neurons: KeyLosses,
    /// The same at the logits for random sets of the same size, harmonics of keys excluded.
    pub controls: Vec<KeyLoss>,
    /// The same with other terms, as published elsewhere.
    pub variants: Vec<Variant>,
}

/// Restricted and excluded loss as published elsewhere: Nanda et al.'s text has the constant and four products for each key
/// ("the constant and 20 terms" for five keys) where their code, and [`KeyLosses`], have two waves of the label; for neurons
/// they take all eight terms. Which pairs are averaged over is in the scores: the paper has restricted loss on all pairs and
/// on test pairs, excluded loss on train pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Terms of each frequency.
    pub terms: Terms,
    /// Whether they are kept or taken out at the logits, or at the neurons.
    pub place: Place,
    /// All keys, or one of them.
    pub loss: KeyLoss,
}

/// Where terms are kept or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The logits of every class.
    Logits,
    /// The neurons, everything else as it is.
    Neurons,
}

/// For all keys together, and for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyLosses {
    /// All keys together.
    pub all: KeyLoss,
    /// Each key by itself.
    pub each: Vec<KeyLoss>,
}

/// Both losses for a set of frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyLoss {
    /// The set, sorted.
    pub frequencies: Vec<usize>,
    /// With these alone.
    pub restricted: Scores,
    /// Without these.
    pub excluded: Scores,
}

/// Projections of logits on the waves of the label's index.
pub struct Waves {
    n: usize,
    /// Coefficient of every basis row for each class: [basis row, class].
    coefficients: Vec<f64>,
}

impl Waves {
    /// Of logits [row, class].
    pub fn of(network: &Network, fourier: &Fourier, logits: &[f64]) -> Self {
        let n = network.order();
        Self { n, coefficients: fourier.transform_rows(&mean_by_label(network, logits, n), n) }
    }

    /// P_K: [label, class].
    pub fn projection(&self, fourier: &Fourier, keys: &[usize]) -> Vec<f64> {
        self.sum_of_rows(fourier, keys.iter().flat_map(|&k| fourier.rows_of(k)))
    }

    /// The mean over the grid of each class, repeated for every label.
    pub fn mean(&self, fourier: &Fourier) -> Vec<f64> {
        self.sum_of_rows(fourier, std::iter::once(0))
    }

    fn sum_of_rows(&self, fourier: &Fourier, rows: impl Iterator<Item = usize>) -> Vec<f64> {
        let mut out = vec![0.0; self.n * self.n];
        for row in rows {
            let coefficients = &self.coefficients[row * self.n..][..self.n];
            for (out, &wave) in out.chunks_exact_mut(self.n).zip(fourier.row(row)) {
                cpu::add_scaled(out, wave, coefficients);
            }
        }
        out
    }
}

/// Mean over the pairs of each label: [label, width] of a [row, width] array.
pub fn mean_by_label(network: &Network, x: &[f64], width: usize) -> Vec<f64> {
    let n = network.order();
    let mut means = vec![0.0; n * width];
    for (row, x) in x.chunks_exact(width).enumerate() {
        let label = network.group.label(row / n, row % n);
        cpu::add_scaled(&mut means[label * width..][..width], 1.0 / n as f64, x);
    }
    means
}

/// `logits` plus `factor` times a table [label, class].
pub fn plus_by_label(judge: &Judge, logits: &[f64], factor: f64, table: &[f64], n: usize) -> Vec<f64> {
    let mut out = logits.to_vec();
    cpu::rows(&mut out, n, |row, out| cpu::add_scaled(out, factor, &table[judge.labels()[row] as usize * n..][..n]));
    out
}

/// The restricted and excluded loss at the logits of one set of frequencies.
pub fn at_logits(
    network: &Network,
    fourier: &Fourier,
    judge: &Judge,
    waves: &Waves,
    logits: &[f64],
    frequencies: &[usize],
) -> KeyLoss {
    let (mut restricted, projection) = (waves.mean(fourier), waves.projection(fourier, frequencies));
    cpu::add(&mut restricted, &projection);
    KeyLoss {
        frequencies: frequencies.to_vec(),
        restricted: judge.scores_by_label(network, &restricted),
        excluded: judge.scores(network, &plus_by_label(judge, logits, -1.0, &projection, network.order())),
    }
}

/// For the keys, and for random sets of as many frequencies.
pub fn restricted_losses(
    subject: &Subject,
    logit_planes: &Planes,
    keys: &[usize],
    controls: &[Vec<usize>],
) -> RestrictedLosses {
    let Subject { network, fourier, judge, activations, planes } = subject;
    let (n, m) = (network.order(), network.shape.d_mlp);
    let logits = &activations.logits;
    let waves = Waves::of(network, fourier, logits);
    let of_logits = |keys: &[usize]| at_logits(network, fourier, judge, &waves, logits, keys);

    // At the neurons W_logit carries a projection of post to the logits; what does not go through post is kept.
    let w_logit = network.w_logit();
    let through = product(&mean_by_label(network, &activations.post, m), &w_logit, m);
    let of_post = Waves { n, coefficients: fourier.transform_rows(&through, n) };
    let round = network.logits(&activations.resid_mid, &vec![0.0; activations.post.len()]);
    let of_neurons = |keys: &[usize]| {
        let (mut kept, projection) = (of_post.mean(fourier), of_post.projection(fourier, keys));
        cpu::add(&mut kept, &projection);
        KeyLoss {
            frequencies: keys.to_vec(),
            restricted: judge.scores(network, &plus_by_label(judge, &round, 1.0, &kept, n)),
            excluded: judge.scores(network, &plus_by_label(judge, logits, -1.0, &projection, n)),
        }
    };
    let with_terms = |terms: Terms, place: Place, keys: &[usize]| {
        let of = terms.of(fourier, keys);
        let zeros = vec![0.0; n];
        let (part, kept) = match place {
            Place::Logits => {
                let part = terms::sum(fourier, &zeros, &of, &terms::coefficients(logit_planes, n, &of));
                let mut kept = part.clone();
                cpu::rows(&mut kept, n, |_, row| cpu::add(row, &logit_planes.means));
                (part, kept)
            }
            Place::Neurons => {
                let part = terms::sum(fourier, &zeros, &of, &terms::through(planes, n, &of, &w_logit));
                let mut kept = round.clone();
                cpu::add(&mut kept, &part);
                let mean = product(&planes.means, &w_logit, m);
                cpu::rows(&mut kept, n, |_, row| cpu::add(row, &mean));
                (part, kept)
            }
        };
        let mut rest = logits.clone();
        cpu::add_scaled(&mut rest, -1.0, &part);
        let loss = KeyLoss {
            frequencies: keys.to_vec(),
            restricted: judge.scores(network, &kept),
            excluded: judge.scores(network, &rest),
        };
        Variant { terms, place, loss }
    };
    let mut variants = Vec::new();
    for terms in [Terms::Products, Terms::All] {
        variants.extend([Place::Logits, Place::Neurons].map(|place| with_terms(terms, place, keys)));
    }
    variants.extend(keys.iter().map(|&k| with_terms(Terms::Products, Place::Logits, &[k])));
    let each =
        |of: &dyn Fn(&[usize]) -> KeyLoss| KeyLosses { all: of(keys), each: keys.iter().map(|&k| of(&[k])).collect() };
    RestrictedLosses {
        logits: each(&of_logits),
        neurons: each(&of_neurons),
        controls: controls.iter().map(|set| of_logits(set)).collect(),
        variants,
    }
}

/// Doubles min(2k, n - 2k) of the keys, but those that are keys themselves.
pub fn doubles(fourier: &Fourier, keys: &[usize]) -> Vec<usize> {
    multiples(fourier, keys, &[2])
}

fn multiples(fourier: &Fourier, keys: &[usize], factors: &[usize]) -> Vec<usize> {
    let all = keys.iter().flat_map(|k| factors.iter().map(move |factor| fourier.folded(k * factor)));
    let mut found: Vec<usize> = all.filter(|k| *k != 0 && !keys.contains(k)).collect();
    found.sort();
    found.dedup();
    found
}

/// Random sets of as many frequencies as there are keys, all different. Keys, their folded multiples by 2, 3 and 4, and
/// what contributes to the correct logit are left out of the draw; a set is the head of a Philox permutation of the rest.
/// Fewer than five, or none, where too few frequencies are left.
pub fn control_sets(fourier: &Fourier, keys: &[usize], contributing: &[usize]) -> Vec<Vec<usize>> {
    let harmonics = multiples(fourier, keys, &[2, 3, 4]);
    let is_left_out = |k: &usize| [keys, &harmonics, contributing].iter().any(|set| set.contains(k));
    let rest: Vec<usize> = fourier.frequencies().filter(|k| !is_left_out(k)).collect();
    if keys.is_empty() || rest.len() < keys.len() {
        return Vec::new();
    }
    let draw = |seed: u64| {
        let order = philox_permutation(seed, rest.len());
        let mut set: Vec<usize> = order[..keys.len()].iter().map(|&i| rest[i as usize]).collect();
        set.sort();
        set
    };
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for set in (0..DRAWS).map(draw) {
        if sets.len() < CONTROLS && !sets.contains(&set) {
            sets.push(set);
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sets_are_distinct_and_hold_no_key_and_no_harmonic() {
        let fourier = Fourier::new(113);
        let keys = [14, 35, 41, 42, 52];
        let sets = control_sets(&fourier, &keys, &[1]);
        assert_eq!(sets, control_sets(&fourier, &keys, &[1]));
        assert_eq!(sets.len(), CONTROLS);
        // 2 * 14 = 28, 2 * 42 = 84 -> 29, 3 * 41 = 123 -> 10, 4 * 52 = 208 -> 18.
        for (i, set) in sets.iter().enumerate() {
            assert!(set.len() == 5 && set.windows(2).all(|w| w[0] < w[1]) && !sets[..i].contains(set), "{sets:?}");
            assert!(set.iter().all(|k| !keys.contains(k) && ![28, 29, 10, 18, 1].contains(k)), "{set:?}");
        }
        // Five random sets are not the first frequencies: their mean is near the middle of 1..=56.
        let mean = sets.iter().flatten().sum::<usize>() as f64 / 25.0;
        assert!((18.0..40.0).contains(&mean), "{sets:?}");
        assert_eq!(doubles(&fourier, &[28, 56, 1]), [2]);
        // Eleven frequencies, of which four are no harmonic: four sets of one at most.
        let few = control_sets(&Fourier::new(23), &[1], &[]);
        assert!(few.len() == CONTROLS && control_sets(&fourier, &[], &[]).is_empty(), "{few:?}");
        assert!(control_sets(&Fourier::new(7), &[1], &[]).is_empty());
    }
}
