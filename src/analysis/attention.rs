//! Attention from "=": where each head looks, and what simpler patterns in its place cost.

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::{Activations, Network, mean_row};
use super::neurons::{Planes, neurons};
use super::scores::{Judge, Scores};
use serde::{Deserialize, Serialize};

/// What the attention pattern can be replaced by, and what that costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// In their order.
    pub heads: Vec<Head>,
    /// The weight on "=" set to zero, the others left as they are.
    pub equals_zeroed: Scores,
    /// A_x = sigma(score_x - score_y), A_y = 1 - A_x, nothing on "=".
    pub sigmoid: Scores,
    /// A_x replaced by its line in score_x - score_y, A_y = 1 - A_x, nothing on "=".
    pub linear: Scores,
    /// Each head's pattern replaced by its mean over the grid.
    pub mean_pattern: Scores,
}

/// A head's pattern on all pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Mean weight on x, y and "=" over the grid.
    pub mean: [f64; 3],
    /// Least squares over the grid: A_x = intercept + slope (score_x - score_y).
    pub intercept: f64,
    /// Per unit of score_x - score_y.
    pub slope: f64,
    /// Share of the variance of A_x that the line explains; 1 where A_x does not vary.
    pub r2: f64,
    /// Standard deviation of score_x - score_y over the grid.
    pub difference_std: f64,
    /// The frequency whose eight 2D terms explain most of the variance of A_x; 0 where A_x does not vary.
    pub frequency: usize,
    /// The share that they explain.
    pub explained: f64,
}

/// Measures the pattern and scores its replacements through the composed equations.
pub fn attention(
    network: &Network,
    activations: &Activations,
    composed: &Composed,
    fourier: &Fourier,
    judge: &Judge,
) -> Attention {
    let (n, heads) = (network.order(), network.shape.n_heads);
    let pattern = &activations.pattern;
    let difference = |row: usize, head: usize| {
        activations.scores[row / n * heads + head] - activations.scores[(n + row % n) * heads + head]
    };
    let means = mean_row(pattern, 3 * heads);
    // The weights on x as if they were neurons: [row, head]
    let on_x: Vec<f64> = pattern.iter().step_by(3).copied().collect();
    let as_neurons = neurons(fourier, &Planes::of(fourier, &on_x, heads), &on_x);
    let of_head = |head: usize| {
        let mean: [f64; 3] = std::array::from_fn(|pos| means[head * 3 + pos]);
        let rows = || (0..n * n).map(|row| (difference(row, head), pattern[(row * heads + head) * 3]));
        let count = (n * n) as f64;
        let centre = rows().map(|(x, _)| x).sum::<f64>() / count;
        let covariance = rows().map(|(x, a)| (x - centre) * (a - mean[0])).sum::<f64>() / count;
        let variance = rows().map(|(x, _)| (x - centre).powi(2)).sum::<f64>() / count;
        let spread = rows().map(|(_, a)| (a - mean[0]).powi(2)).sum::<f64>() / count;
        let slope = if variance > 0.0 { covariance / variance } else { 0.0 };
        let r2 = if spread > 0.0 { slope * covariance / spread } else { 1.0 };
        Head {
            mean,
            intercept: mean[0] - slope * centre,
            slope,
            r2,
            difference_std: variance.sqrt(),
            frequency: as_neurons.frequency[head],
            explained: as_neurons.fve[head],
        }
    };
    let of_heads: Vec<Head> = (0..heads).map(of_head).collect();
    let with = |weights: &(dyn Fn(usize, usize) -> [f64; 3] + Sync)| judge.scores(network, &composed.logits(weights));
    let two = |a: f64| [a, 1.0 - a, 0.0];
    Attention {
        equals_zeroed: with(&|row, head| {
            let at = (row * heads + head) * 3;
            [pattern[at], pattern[at + 1], 0.0]
        }),
        sigmoid: with(&|row, head| two(1.0 / (1.0 + (-difference(row, head)).exp()))),
        linear: with(&|row, head| two(of_heads[head].intercept + of_heads[head].slope * difference(row, head))),
        mean_pattern: with(&|_, head| of_heads[head].mean),
        heads: of_heads,
    }
}
