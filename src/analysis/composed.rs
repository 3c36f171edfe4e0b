//! The network with its products of weights formed first: the same logits from a fraction of the work.
//!
//! With one layer and no LayerNorm everything but the attention is linear in the slots, (position, token) pairs, up to the
//! neurons. With r_s the residual stream at slot s, and r_= that at "=":
//!
//! ```text
//! score^h[s] = r_s W_K^h q_h / sqrt(d_head)
//! neur^h[s] = r_s W_V^h W_O^h W_in          skip^h[s] = r_s W_V^h W_O^h W_U
//! pre = r_= W_in + b_in + sum over h, pos of A^h_pos neur^h[slot];  post = relu(pre)
//! logits = (r_= + b_out) W_U + sum over h, pos of A^h_pos skip^h[slot] + post W_logit
//! ```
//!
//! Nothing is dropped. Simplified patterns A are scored through it; the analysis tells how far it is from the plain pass.

use super::network::{Network, ROWS, product};
use crate::cpu::matmul::{Into, Mat, MatMut, matmul};
use crate::cpu::{self, add, add_scaled, dot, embed};

/// The tables of the composed equations, for any pattern.
pub struct Composed {
    n: usize,
    m: usize,
    heads: usize,
    /// resid_pre[=] W_Q: [head, d_head]
    pub q: Vec<f64>,
    /// [slot, head]
    pub scores: Vec<f64>,
    /// What a head writes to the residual stream from each slot, r_s W_V W_O: [head, slot, d_model]
    pub written: Vec<f64>,
    /// [head, slot, d_mlp] and [head, slot, class]
    neur: Vec<f64>,
    skip: Vec<f64>,
    /// resid_pre[=] W_in + b_in: `[d_mlp]`
    pub pre_bias: Vec<f64>,
    /// [class]
    bias: Vec<f64>,
    /// W_out W_U: [d_mlp, class]
    w_logit: Vec<f64>,
}

impl Composed {
    /// Composes a network's matrices.
    pub fn new(network: &Network) -> Self {
        let (n, d, e, heads) = (network.order(), network.shape.d_model, network.shape.d_head(), network.shape.n_heads);
        let slots = network.shape.n_slots();
        let (w_e, w_pos) = (network.get("W_E"), network.get("W_pos"));
        let mut resid_pre = Vec::with_capacity(slots * d);
        for slot in 0..slots {
            let (token, pos) = embed::slot_input(slot, n);
            resid_pre.extend((0..d).map(|i| w_e[token * d + i] + w_pos[pos * d + i]));
        }
        let equals = &resid_pre[2 * n * d..];
        let mut scores = vec![0.0; slots * heads];
        let mut queries = Vec::with_capacity(d);
        let mut written = Vec::with_capacity(heads * slots * d);
        for head in 0..heads {
            let part = |name: &str| &network.get(name)[head * d * e..][..d * e];
            let q = product(equals, part("W_Q"), d);
            for (slot, k) in product(&resid_pre, part("W_K"), d).chunks_exact(e).enumerate() {
                scores[slot * heads + head] = dot(k, &q) / (e as f64).sqrt();
            }
            queries.extend(q);
            written.extend(product(&product(&resid_pre, part("W_V"), d), part("W_O"), e));
        }
        let mut pre_bias = product(equals, network.get("W_in"), d);
        add(&mut pre_bias, network.get("b_in"));
        let mut round = equals.to_vec();
        add(&mut round, network.get("b_out"));
        Self {
            n,
            m: network.shape.d_mlp,
            heads,
            neur: product(&written, network.get("W_in"), d),
            skip: product(&written, network.get("W_U"), d),
            pre_bias,
            bias: product(&round, network.get("W_U"), d),
            w_logit: network.w_logit(),
            q: queries,
            scores,
            written,
        }
    }

    /// The slots of a row of the grid.
    pub fn slots(&self, row: usize) -> [usize; 3] {
        [row / self.n, self.n + row % self.n, 2 * self.n]
    }

    /// What a unit of a head's attention to a slot gives to pre: `[d_mlp]`
    pub fn neurons_of(&self, head: usize, slot: usize) -> &[f64] {
        &self.neur[(head * (2 * self.n + 1) + slot) * self.m..][..self.m]
    }

    /// (resid_pre[=] + b_out) W_U: `[class]`
    pub fn bias(&self) -> &[f64] {
        &self.bias
    }

    /// What a unit of a head's attention to a slot gives to the logits past the MLP: `[class]`
    pub fn logits_of(&self, head: usize, slot: usize) -> &[f64] {
        &self.skip[(head * (2 * self.n + 1) + slot) * self.n..][..self.n]
    }

    /// A head's attention from "=" for a row: softmax of its slots' scores.
    pub fn pattern(&self, row: usize, head: usize) -> [f64; 3] {
        self.pattern_shifted(row, head, [0.0; 3])
    }

    /// The same with something added to the scores of the row's slots.
    pub fn pattern_shifted(&self, row: usize, head: usize, shift: [f64; 3]) -> [f64; 3] {
        let mut scores = self.slots(row).map(|slot| self.scores[slot * self.heads + head]);
        scores.iter_mut().zip(shift).for_each(|(score, shift)| *score += shift);
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = scores.map(|score| (score - top).exp());
        let total: f64 = weights.iter().sum();
        weights.map(|weight| weight / total)
    }

    /// Logits [row, class] under a pattern of (row, head).
    pub fn logits(&self, pattern: &(dyn Fn(usize, usize) -> [f64; 3] + Sync)) -> Vec<f64> {
        self.logits_shifted(pattern, &vec![0.0; self.m], &vec![0.0; self.n])
    }

    /// The same with something added to every row's pre and to its logits.
    pub fn logits_shifted(
        &self,
        pattern: &(dyn Fn(usize, usize) -> [f64; 3] + Sync),
        pre_shift: &[f64],
        logit_shift: &[f64],
    ) -> Vec<f64> {
        let Self { n, m, heads, neur, skip, .. } = self;
        let (n, m, heads, slots) = (*n, *m, *heads, 2 * *n + 1);
        let mut pre_bias = self.pre_bias.clone();
        add(&mut pre_bias, pre_shift);
        let mut bias = self.bias.clone();
        add(&mut bias, logit_shift);
        let mut logits = vec![0.0; n * n * n];
        let mut post = vec![0.0; ROWS.min(n * n) * m];
        for (block, logits) in logits.chunks_mut(ROWS * n).enumerate() {
            let post = &mut post[..logits.len() / n * m];
            cpu::rows2(post, m, logits, n, |i, post, logits| {
                let row = block * ROWS + i;
                post.copy_from_slice(&pre_bias);
                logits.copy_from_slice(&bias);
                for head in 0..heads {
                    for (slot, weight) in self.slots(row).into_iter().zip(pattern(row, head)) {
                        let at = head * slots + slot;
                        add_scaled(post, weight, &neur[at * m..][..m]);
                        add_scaled(logits, weight, &skip[at * n..][..n]);
                    }
                }
                post.iter_mut().for_each(|x| *x = x.max(0.0));
            });
            matmul(MatMut::new(logits, n), Mat::new(post, m), Mat::new(&self.w_logit, n), Into::Add);
        }
        logits
    }
}
