//! Splits the correct logit by frequency and by path through the network.
//!
//! The logits are a sum over paths: each head straight to the unembedding, the MLP, and what does not depend on the pair (the
//! embedding of "=" and the output bias). Along the classes each path is a sum of waves, and the value of frequency k's
//! wave at the correct class is the path's contribution to the correct logit at k. Summed over the paths it is that of the
//! logits ([`super::keys`]).

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::{Activations, Network, mean_row};
use super::scores::Judge;
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Mean contributions over all pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paths {
    /// Names of the paths: "head 0" and so on, "MLP", "constant".
    pub paths: Vec<String>,
    /// For k = 1..=n/2, a number for each path: `[k - 1][path]`
    pub contributions: Vec<Vec<f64>>,
}

/// Measures every path.
pub fn paths(
    network: &Network,
    activations: &Activations,
    composed: &Composed,
    fourier: &Fourier,
    judge: &Judge,
) -> Paths {
    let (n, m, heads) = (network.order(), network.shape.d_mlp, network.shape.n_heads);
    let count = heads + 2;
    // The mean over the pairs of a label, of each path's logits: a contribution is linear in them.
    // [label, path, class]
    let mut by_label = vec![0.0; n * count * n];
    let mut neurons = vec![0.0; n * m];
    for row in 0..n * n {
        let label = judge.labels()[row] as usize;
        for head in 0..heads {
            let out = &mut by_label[(label * count + head) * n..][..n];
            for (pos, slot) in composed.slots(row).into_iter().enumerate() {
                let weight = activations.pattern[(row * heads + head) * 3 + pos];
                cpu::add_scaled(out, weight / n as f64, composed.logits_of(head, slot));
            }
        }
        cpu::add_scaled(&mut neurons[label * m..][..m], 1.0 / n as f64, &activations.post[row * m..][..m]);
    }
    let through = super::network::product(&neurons, &network.w_logit(), m);
    for (label, out) in by_label.chunks_exact_mut(count * n).enumerate() {
        out[heads * n..][..n].copy_from_slice(&through[label * n..][..n]);
        out[(heads + 1) * n..].copy_from_slice(composed.bias());
    }
    // [label, path, frequency]
    let frequencies = fourier.frequencies().count();
    let mut of_labels = vec![0.0; n * count * frequencies];
    cpu::rows(&mut of_labels, frequencies, |i, out| {
        let (waves, label) = (fourier.transform(&by_label[i * n..][..n]), i / count);
        for (k, out) in fourier.frequencies().zip(out) {
            *out = fourier.at(&waves, k, label);
        }
    });
    let means = mean_row(&of_labels, count * frequencies);
    let names = (0..heads).map(|head| format!("head {head}")).chain(["MLP".into(), "constant".into()]);
    let of_frequency = |k: usize| (0..count).map(|path| means[path * frequencies + k - 1]).collect();
    Paths { paths: names.collect(), contributions: fourier.frequencies().map(of_frequency).collect() }
}
