//! What each path through the network is worth: losses with it zeroed, and replaced by its mean over the grid.

use super::network::{Activations, Network, mean_row};
use super::scores::{Judge, Scores};
use crate::cpu;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    pub path: String,
    pub zeroed: Scores,
    /// Null where the path carries the same to every pair, so that its mean is the path itself.
    pub mean: Option<Scores>,
}

/// The skip connection round the MLP, the MLP, all heads, each head, and the skip connection round the attention.
pub fn ablations(network: &Network, activations: &Activations, judge: &Judge) -> Vec<Ablation> {
    let (d, e) = (network.shape.d_model, network.shape.d_head());
    let Activations { resid_pre, resid_mid, post, attn_out, .. } = activations;
    let repeated = |row: Vec<f64>, of: &[f64]| {
        let mut out = vec![0.0; of.len()];
        cpu::rows(&mut out, row.len(), |_, out| out.copy_from_slice(&row));
        out
    };
    let round_mlp = |skip: &[f64]| judge.scores(network, &network.logits(skip, post));
    let through_mlp = |post: &[f64]| judge.scores(network, &network.logits(resid_mid, post));
    let from_mid = |resid_mid: &[f64]| judge.scores(network, &network.logits(resid_mid, &network.post(resid_mid)));
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
        // What the other heads write, by a pattern without this one.
        let mut pattern = activations.pattern.clone();
        cpu::rows(&mut pattern, 3 * network.shape.n_heads, |_, row| row[head * 3..][..3].fill(0.0));
        let others = network.attn_out(&activations.v, &pattern);
        let own: Vec<f64> = attn_out.iter().zip(&others).map(|(all, others)| all - others).collect();
        let own_mean = mean_row(&own, d);
        let mut with_mean = others.clone();
        cpu::rows(&mut with_mean, d, |_, row| cpu::add(row, &own_mean));
        debug_assert!(e * network.shape.n_heads == d);
        all.push(Ablation { path: format!("head {head}"), zeroed: heads(&others), mean: Some(heads(&with_mean)) });
    }
    // resid_pre at "=" is one vector for all pairs.
    all.push(Ablation { path: "skip round the attention".into(), zeroed: from_mid(attn_out), mean: None });
    all
}
