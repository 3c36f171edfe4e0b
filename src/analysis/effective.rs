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
//! "=". The exact composed model drops nothing (all slots, all skips) and is the network again.

use super::fourier::Fourier;
use super::network::{Activations, Network, mean_row, product, restore_means};
use super::scores::{Judge, Scores};
use super::spectrum::Spectrum;
use crate::cpu::{self, dot};
use serde::{Deserialize, Serialize};

/// The three products.
pub struct Effective {
    /// u_h: [head, d_model]
    u: Vec<f64>,
    /// W_V^h W_O^h for each head: [head, d_model, d_model]
    ov: Vec<f64>,
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
    pub largest: f64,
    pub scores: Scores,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct EffectiveWeights {
    /// A spectrum a head.
    pub W_attn: Vec<Spectrum>,
    /// A spectrum a head.
    pub W_neur: Vec<Spectrum>,
    pub exact: Deviation,
    /// The simplified model with b_out W_U as its bias.
    pub simplified: Deviation,
    /// The simplified model with the network's mean of each class restored.
    pub simplified_mean_restored: Deviation,
}

impl Effective {
    pub fn new(network: &Network, activations: &Activations) -> Self {
        let (n, d, e, heads) = (network.order(), network.shape.d_model, network.shape.d_head(), network.shape.n_heads);
        let tokens = &network.get("W_E")[..n * d];
        let part = |name: &str, head: usize| network.get(name)[head * d * e..][..d * e].to_vec();
        let (mut u, mut ov, mut w_attn, mut w_neur) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for head in 0..heads {
            let q = &activations.q[head * e..][..e];
            let of_head: Vec<f64> =
                part("W_K", head).chunks_exact(e).map(|row| dot(row, q) / (e as f64).sqrt()).collect();
            w_attn.extend(product(tokens, &of_head, d));
            u.extend(of_head);
            let of_head = product(&part("W_V", head), &part("W_O", head), e);
            w_neur.extend(product(&product(tokens, &of_head, d), network.get("W_in"), d));
            ov.extend(of_head);
        }
        Self { u, ov, w_attn, w_neur, w_logit: network.w_logit() }
    }

    /// The composed model, exact: scores and tables of every slot, the residual and its skips in closed form.
    fn exact_logits(&self, network: &Network, activations: &Activations) -> Vec<f64> {
        let (n, d, m, heads) = (network.order(), network.shape.d_model, network.shape.d_mlp, network.shape.n_heads);
        let resid_pre = &activations.resid_pre;
        let equals = &resid_pre[2 * n * d..];
        let slots = network.shape.n_slots();
        let (mut scores, mut neur, mut skip) = (Vec::new(), Vec::new(), Vec::new());
        for head in 0..heads {
            scores.push(product(resid_pre, &self.u[head * d..][..d], d));
            let written = product(resid_pre, &self.ov[head * d * d..][..d * d], d);
            neur.push(product(&written, network.get("W_in"), d));
            skip.push(product(&written, network.get("W_U"), d));
        }
        let mut pre_bias = product(equals, network.get("W_in"), d);
        cpu::add(&mut pre_bias, network.get("b_in"));
        let mut round: Vec<f64> = equals.to_vec();
        cpu::add(&mut round, network.get("b_out"));
        let bias = product(&round, network.get("W_U"), d);
        debug_assert_eq!(scores[0].len(), slots);
        // pre and the skip's logits of a row side by side.
        let mut both = vec![0.0; n * n * (m + n)];
        cpu::rows(&mut both, m + n, |row, out| {
            let (pre, logits) = out.split_at_mut(m);
            pre.copy_from_slice(&pre_bias);
            logits.copy_from_slice(&bias);
            let of_row = [row / n, n + row % n, 2 * n];
            for head in 0..heads {
                let score = of_row.map(|slot| scores[head][slot]);
                let top = score.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights = score.map(|score| (score - top).exp());
                let total: f64 = weights.iter().sum();
                for (slot, weight) in of_row.into_iter().zip(weights) {
                    cpu::add_scaled(pre, weight / total, &neur[head][slot * m..][..m]);
                    cpu::add_scaled(logits, weight / total, &skip[head][slot * n..][..n]);
                }
            }
            pre.iter_mut().for_each(|x| *x = x.max(0.0));
        });
        let mut post = Vec::with_capacity(n * n * m);
        let mut logits = Vec::with_capacity(n * n * n);
        for row in both.chunks_exact(m + n) {
            post.extend_from_slice(&row[..m]);
            logits.extend_from_slice(&row[m..]);
        }
        cpu::add(&mut logits, &product(&post, &self.w_logit, m));
        logits
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

    pub fn weights(
        &self,
        network: &Network,
        activations: &Activations,
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
            exact: deviation(&self.exact_logits(network, activations)),
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
