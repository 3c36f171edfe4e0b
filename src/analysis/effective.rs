//! Effective weights: products of weights that are formed before any data is touched, and the article's three equations.
//!
//! ```text
//! u_h = W_K^h q_h / sqrt(d_head)          W_attn^h = W_E u_h                    [n]
//! W_neur^h = W_E W_V^h W_O^h W_in         [n, d_mlp]
//! W_logit = W_out W_U                     [d_mlp, n]
//!
//! A^h = sigma(W_attn^h[x] - W_attn^h[y])
//! post = relu(sum over h of A^h W_neur^h[x] + (1 - A^h) W_neur^h[y])
//! logits = post W_logit + bias
//! ```
//!
//! The simplified model drops W_pos of x and y, the residual into the MLP, the skip round it, b_in and the attention to
//! "=". The exact composition ([`super::composed`]) drops nothing and is the network again.

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::{Activations, Network, mean_row, product, restore_means};
use super::scores::{Judge, Scores};
use super::spectrum::Spectrum;
use crate::cpu::{self, dot};
use serde::{Deserialize, Serialize};

/// The three products.
pub struct Effective {
    /// W_attn: [head, n]
    pub w_attn: Vec<f64>,
    /// W_neur: [head, n, d_mlp]
    pub w_neur: Vec<f64>,
    /// W_logit: [d_mlp, n]
    pub w_logit: Vec<f64>,
}

/// How far a model's logits are from the network's, and how it scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// Root of the mean square of the difference of the logits.
    pub rms: f64,
    /// The same over the standard deviation of the network's logits about their mean for each class.
    pub relative: f64,
    /// The largest absolute difference.
    pub largest: f64,
    /// Losses and accuracies of those logits.
    pub scores: Scores,
}

/// What the effective weights are like, and how far they carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct EffectiveWeights {
    /// A spectrum a head.
    pub W_attn: Vec<Spectrum>,
    /// A spectrum a head.
    pub W_neur: Vec<Spectrum>,
    /// The composed equations, nothing left out.
    pub exact: Deviation,
    /// The simplified model with b_out W_U as its bias.
    pub simplified: Deviation,
    /// The simplified model with the network's mean of each class restored.
    pub simplified_mean_restored: Deviation,
}

impl Effective {
    /// Computes W_attn, W_neur and W_logit.
    pub fn new(network: &Network, activations: &Activations) -> Self {
        let (n, d, e, heads) = (network.order(), network.shape.d_model, network.shape.d_head(), network.shape.n_heads);
        let tokens = &network.get("W_E")[..n * d];
        let part = |name: &str, head: usize| &network.get(name)[head * d * e..][..d * e];
        let (mut w_attn, mut w_neur) = (Vec::new(), Vec::new());
        for head in 0..heads {
            let q = &activations.q[head * e..][..e];
            let u: Vec<f64> = part("W_K", head).chunks_exact(e).map(|row| dot(row, q) / (e as f64).sqrt()).collect();
            w_attn.extend(product(tokens, &u, d));
            let ov = product(part("W_V", head), part("W_O", head), e);
            w_neur.extend(product(&product(tokens, &ov, d), network.get("W_in"), d));
        }
        Self { w_attn, w_neur, w_logit: network.w_logit() }
    }

    /// The simplified model's logits without a bias: [row, class].
    fn simplified_logits(&self, network: &Network) -> Vec<f64> {
        let (n, m, heads) = (network.order(), network.shape.d_mlp, network.shape.n_heads);
        let mut post = vec![0.0; n * n * m];
        cpu::rows(&mut post, m, |row, post| {
            let (x, y) = (row / n, row % n);
            for head in 0..heads {
                let score = |token: usize| self.w_attn[head * n + token];
                let a = 1.0 / (1.0 + (score(y) - score(x)).exp());
                cpu::add_scaled(post, a, &self.w_neur[(head * n + x) * m..][..m]);
                cpu::add_scaled(post, 1.0 - a, &self.w_neur[(head * n + y) * m..][..m]);
            }
            post.iter_mut().for_each(|x| *x = x.max(0.0));
        });
        product(&post, &self.w_logit, m)
    }

    /// Their spectra and deviations.
    pub fn weights(
        &self,
        network: &Network,
        activations: &Activations,
        composed: &Composed,
        fourier: &Fourier,
        judge: &Judge,
    ) -> EffectiveWeights {
        let (n, m) = (network.order(), network.shape.d_mlp);
        let deviation = |logits: &[f64]| deviation(network, &activations.logits, logits, judge);
        let mut simplified = self.simplified_logits(network);
        let bias = product(network.get("b_out"), network.get("W_U"), network.shape.d_model);
        cpu::rows(&mut simplified, n, |_, row| cpu::add(row, &bias));
        let with_b_out = deviation(&simplified);
        restore_means(&mut simplified, &activations.logits, n);
        EffectiveWeights {
            W_attn: self.w_attn.chunks_exact(n).map(|w| Spectrum::of_rows(fourier, w, 1)).collect(),
            W_neur: self.w_neur.chunks_exact(n * m).map(|w| Spectrum::of_rows(fourier, w, m)).collect(),
            exact: deviation(&composed.logits(&|row, head| composed.pattern(row, head))),
            simplified: with_b_out,
            simplified_mean_restored: deviation(&simplified),
        }
    }
}

fn deviation(network: &Network, of: &[f64], logits: &[f64], judge: &Judge) -> Deviation {
    let n = network.order();
    let means = mean_row(of, n);
    let (mut squares, mut spread, mut largest) = (0.0, 0.0, 0.0f64);
    for (row, other) in of.chunks_exact(n).zip(logits.chunks_exact(n)) {
        for (class, (a, b)) in row.iter().zip(other).enumerate() {
            squares += (a - b).powi(2);
            spread += (a - means[class]).powi(2);
            largest = largest.max((a - b).abs());
        }
    }
    Deviation {
        rms: (squares / of.len() as f64).sqrt(),
        relative: if spread > 0.0 { (squares / spread).sqrt() } else { 0.0 },
        largest,
        scores: judge.scores(network, logits),
    }
}
