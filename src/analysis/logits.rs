//! The logits as a sum of waves, and the directions in neuron space that carry them.

use super::fourier::Fourier;
use super::keys::KeyFrequencies;
use super::network::{Activations, Network, product, restore_means};
use super::neurons::{EXPLAINED, Neurons, Planes};
use super::restricted::mean_by_label;
use super::scores::{Judge, Scores};
use super::spectrum::norm;
use super::terms::{self, Terms};
use crate::cpu;
use serde::{Deserialize, Serialize};

/// The logits as a sum over frequencies of alpha_k cos w_k (label - c).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitFormula {
    /// alpha_k = 2 <L, cos w_k (label - c)> / n^3 for every frequency; half of that at n/2.
    pub alpha: Vec<f64>,
    /// Share of the logits' variance about their grand mean that sum over the keys of alpha_k cos explains.
    pub explained: f64,
    /// The same share for each random set of as many frequencies.
    pub controls: Vec<f64>,
    /// Root of the mean square of what that sum leaves, over the standard deviation of the logits.
    pub residual: f64,
    /// Scores of sum over the keys of alpha_k cos w_k (a + b - c).
    pub formula: Scores,
    /// Scores of the logits' 2D Fourier terms of the keys alone: for each key the eight of {0, cos_k, sin_k} squared but
    /// the constant, each class's mean kept.
    pub key_terms: Scores,
    /// One for each key frequency.
    pub directions: Vec<Direction>,
}

/// The directions of neuron space that W_L reads cos w_k c and sin w_k c from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    /// The frequency k.
    pub frequency: usize,
    /// Norm of u_k = W_L cos_k over the classes.
    pub u_norm: f64,
    /// Norm of v_k = W_L sin_k; 0 where there is no sine.
    pub v_norm: f64,
    /// Share of the variance of u_k^T post over the grid that cos w_k (a + b) explains.
    pub u_explained: f64,
    /// Share of the variance of v_k^T post that sin w_k (a + b) explains; null where there is no sine.
    pub v_explained: Option<f64>,
}

/// Neurons reduced to the nine terms of their cluster's frequency, without the skip round the MLP, each class's mean
/// restored; then one cluster at a time left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// With all clusters there.
    pub none: Scores,
    /// Without one cluster, for each key.
    pub each: Vec<DroppedKey>,
}

/// Scores without a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedKey {
    /// The cluster's frequency.
    pub frequency: usize,
    /// What remains.
    pub scores: Scores,
}

/// Formula, terms and directions of the keys. alpha_k is what frequency k contributes to the correct logit; `planes` are
/// those of the logits, a plane for each class.
pub fn logit_formula(
    network: &Network,
    activations: &Activations,
    fourier: &Fourier,
    judge: &Judge,
    found: &KeyFrequencies,
    controls: &[Vec<usize>],
    planes: &Planes,
) -> LogitFormula {
    let (n, logits) = (network.order(), &activations.logits);
    let (keys, alpha) = (found.keys(), found.contributions.clone());
    let wave = |k: usize, t: usize| (2.0 * std::f64::consts::PI * (k * t % n) as f64 / n as f64).cos();
    let table = |set: &[usize]| -> Vec<f64> {
        let sum_of_waves: Vec<f64> = (0..n).map(|t| set.iter().map(|&k| alpha[k - 1] * wave(k, t)).sum()).collect();
        (0..n * n).map(|i| sum_of_waves[(i / n + n - i % n) % n]).collect()
    };
    let grand = logits.iter().sum::<f64>() / logits.len() as f64;
    let total: f64 = logits.iter().map(|logit| (logit - grand).powi(2)).sum();
    let left = |set: &[usize]| {
        let table = table(set);
        let mut left = 0.0;
        for (row, logits) in logits.chunks_exact(n).enumerate() {
            let formula = &table[judge.labels()[row] as usize * n..][..n];
            left += logits.iter().zip(formula).map(|(logit, formula)| (logit - grand - formula).powi(2)).sum::<f64>();
        }
        left
    };
    let explained = |left: f64| if total > 0.0 { 1.0 - left / total } else { 0.0 };
    let of_keys = left(keys);
    LogitFormula {
        explained: explained(of_keys),
        controls: controls.iter().map(|set| explained(left(set))).collect(),
        residual: if total > 0.0 { (of_keys / total).sqrt() } else { 0.0 },
        formula: judge.scores_by_label(network, &table(keys)),
        key_terms: judge.scores(network, &{
            let terms = Terms::All.of(fourier, keys);
            terms::sum(fourier, &planes.means, &terms, &terms::coefficients(planes, n, &terms))
        }),
        directions: directions(network, activations, fourier, keys),
        alpha,
    }
}

/// For each key the projections of the neurons on u_k and v_k, beside the waves they should be.
fn directions(network: &Network, activations: &Activations, fourier: &Fourier, keys: &[usize]) -> Vec<Direction> {
    let (n, m) = (network.order(), network.shape.d_mlp);
    let w_logit = network.w_logit();
    let along = |basis_row: usize| -> Vec<f64> {
        w_logit.chunks_exact(n).map(|neuron| cpu::dot(neuron, fourier.row(basis_row))).collect()
    };
    let explained = |direction: &[f64], basis_row: usize| {
        let values = product(&activations.post, direction, m);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let total: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let by_label = mean_by_label(network, &values, 1);
        let along = cpu::dot(&by_label, fourier.row(basis_row)) * (n as f64).sqrt();
        if total > 0.0 { along * along / total } else { 0.0 }
    };
    let direction = |&k: &usize| {
        let rows = fourier.rows_of(k);
        let (u, sine) = (along(rows.start), (rows.len() == 2).then(|| along(rows.start + 1)));
        Direction {
            frequency: k,
            u_norm: norm(&u),
            v_norm: sine.as_deref().map_or(0.0, norm),
            u_explained: explained(&u, rows.start),
            v_explained: sine.map(|v| explained(&v, rows.start + 1)),
        }
    };
    keys.iter().map(direction).collect()
}

/// The loss when each cluster is reduced to its frequency, and when one of them is left out.
pub fn dropped(
    network: &Network,
    activations: &Activations,
    fourier: &Fourier,
    planes: &Planes,
    neurons: &Neurons,
    judge: &Judge,
    keys: &[usize],
) -> Dropped {
    let (n, m) = (network.order(), network.shape.d_mlp);
    let w_logit = network.w_logit();
    let in_cluster = |neuron: usize, k: usize| neurons.frequency[neuron] == k && neurons.fve[neuron] > EXPLAINED;
    // Neurons outside every cluster, as they are.
    let mut rest = activations.post.clone();
    let clustered: Vec<bool> = neurons.fve.iter().map(|&share| share > EXPLAINED).collect();
    cpu::rows(&mut rest, m, |_, row| {
        for (x, &clustered) in row.iter_mut().zip(&clustered) {
            *x = if clustered { 0.0 } else { *x };
        }
    });
    let mut whole = product(&rest, &w_logit, m);
    drop(rest);
    // What a cluster's nine terms give to the logits.
    let of_cluster = |k: usize| {
        let terms = fourier.terms_of(k);
        let mut coefficients = vec![0.0; terms.len() * n];
        let mut constant = vec![0.0; n];
        for neuron in (0..m).filter(|&neuron| in_cluster(neuron, k)) {
            let to_logits = &w_logit[neuron * n..][..n];
            cpu::add_scaled(&mut constant, planes.means[neuron], to_logits);
            for (&(i, j), out) in terms.iter().zip(coefficients.chunks_exact_mut(n)) {
                cpu::add_scaled(out, planes.plane(neuron)[i * n + j], to_logits);
            }
        }
        terms::sum(fourier, &constant, &terms, &coefficients)
    };
    for cluster in &neurons.clusters {
        cpu::add(&mut whole, &of_cluster(cluster.frequency));
    }
    let restored = |mut logits: Vec<f64>| {
        restore_means(&mut logits, &activations.logits, n);
        judge.scores(network, &logits)
    };
    let without = |&k: &usize| {
        let mut logits = whole.clone();
        cpu::add_scaled(&mut logits, -1.0, &of_cluster(k));
        DroppedKey { frequency: k, scores: restored(logits) }
    };
    Dropped { each: keys.iter().map(without).collect(), none: restored(whole.clone()) }
}
