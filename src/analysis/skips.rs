//! What each path through the network is worth: losses with it zeroed, and replaced by its mean over the grid.

use super::composed::Composed;
use super::network::{Activations, Network, mean_row, product};
use super::scores::{Judge, Scores};
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Scores with a path of the residual stream taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// Its name, such as "head 0" or "skip round the MLP".
    pub path: String,
    /// Zeros in its place.
    pub zeroed: Scores,
    /// Null where the path carries the same to every pair, so that its mean is the path itself.
    pub mean: Option<Scores>,
}

/// The skip connection round the MLP, the MLP, all heads, each head, and the skip connection round the attention.
pub fn ablations(network: &Network, activations: &Activations, composed: &Composed, judge: &Judge) -> Vec<Ablation> {
    let d = network.shape.d_model;
    let Activations { resid_pre, resid_mid, post, attn_out, .. } = activations;
    let repeated = |row: Vec<f64>, of: &[f64]| {
        let mut out = vec![0.0; of.len()];
        cpu::rows(&mut out, row.len(), |_, out| out.copy_from_slice(&row));
        out
    };
    let round_mlp = |skip: &[f64]| judge.scores(network, &network.logits(skip, post));
    let through_mlp = |post: &[f64]| judge.scores(network, &network.logits(resid_mid, post));
    let from_mid = |resid_mid: &[f64]| judge.scores(network, &network.logits_from_mid(resid_mid));
    let heads = |attn_out: &[f64]| from_mid(&network.resid_mid(resid_pre, attn_out));
    let zeros = |of: &[f64]| vec![0.0; of.len()];
    let mean = |of: &[f64], width: usize| repeated(mean_row(of, width), of);
    let mut all = vec![
        Ablation {
            path: "skip round the MLP".into(),
            zeroed: round_mlp(&zeros(resid_mid)),
            mean: Some(round_mlp(&mean(resid_mid, d))),
        },
        Ablation {
            path: "MLP".into(),
            zeroed: through_mlp(&zeros(post)),
            mean: Some(through_mlp(&mean(post, network.shape.d_mlp))),
        },
        Ablation { path: "all heads".into(), zeroed: heads(&zeros(attn_out)), mean: Some(heads(&mean(attn_out, d))) },
    ];
    for head in 0..network.shape.n_heads {
        let others = |row: usize, other: usize| {
            let at = (row * network.shape.n_heads + other) * 3;
            let pattern = &activations.pattern[at..at + 3];
            if other == head { [0.0; 3] } else { [pattern[0], pattern[1], pattern[2]] }
        };
        let own = own_mean(network, activations, composed, head);
        let (pre, logits) = (product(&own, network.get("W_in"), d), product(&own, network.get("W_U"), d));
        all.push(Ablation {
            path: format!("head {head}"),
            zeroed: judge.scores(network, &composed.logits(&others)),
            mean: Some(judge.scores(network, &composed.logits_shifted(&others, &pre, &logits))),
        });
    }
    // resid_pre at "=" is one vector for all pairs.
    all.push(Ablation { path: "skip round the attention".into(), zeroed: from_mid(attn_out), mean: None });
    all
}

/// Mean over the grid of what a head writes: [d_model].
fn own_mean(network: &Network, activations: &Activations, composed: &Composed, head: usize) -> Vec<f64> {
    let (d, heads, slots) = (network.shape.d_model, network.shape.n_heads, network.shape.n_slots());
    let rows = network.order().pow(2);
    let mut weights = vec![0.0; slots];
    for row in 0..rows {
        for (pos, slot) in composed.slots(row).into_iter().enumerate() {
            weights[slot] += activations.pattern[(row * heads + head) * 3 + pos] / rows as f64;
        }
    }
    product(&weights, &composed.written[head * slots * d..][..slots * d], slots)
}
