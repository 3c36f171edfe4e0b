//! What frequencies of W_E are worth: the network's scores without them.

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::Network;
use super::restricted::doubles;
use super::scores::{Judge, Scores};
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Scores of the network with frequencies taken out of W_E.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingAblations {
    /// Without all keys.
    pub all_keys: Removed,
    /// Without each of them.
    pub each_key: Vec<Removed>,
    /// All doubles min(2k, n - 2k) of keys that are not keys themselves, together.
    pub all_doubles: Removed,
    /// Without each of the doubles.
    pub each_double: Vec<Removed>,
    /// Random sets of as many frequencies as there are keys.
    pub controls: Vec<Removed>,
}

/// Scores without some frequencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Those taken out, sorted.
    pub frequencies: Vec<usize>,
    /// What remains.
    pub scores: Scores,
}

/// Takes keys, doubles and random sets out of W_E.
pub fn embedding_ablations(
    network: &Network,
    fourier: &Fourier,
    judge: &Judge,
    keys: &[usize],
    controls: &[Vec<usize>],
    whole: Scores,
) -> EmbeddingAblations {
    let without = |frequencies: &[usize]| {
        let scores = match frequencies {
            [] => whole,
            _ => {
                let network = network.with("W_E", removed(network, fourier, frequencies));
                let composed = Composed::new(&network);
                judge.scores(&network, &composed.logits(&|row, head| composed.pattern(row, head)))
            }
        };
        Removed { frequencies: frequencies.to_vec(), scores }
    };
    let each = |frequencies: &[usize]| frequencies.iter().map(|&k| without(&[k])).collect();
    let doubles = doubles(fourier, keys);
    EmbeddingAblations {
        all_keys: without(keys),
        each_key: each(keys),
        all_doubles: without(&doubles),
        each_double: each(&doubles),
        controls: controls.iter().map(|set| without(set)).collect(),
    }
}

/// W_E without the components of some frequencies along the tokens; the row of "=" stays.
fn removed(network: &Network, fourier: &Fourier, frequencies: &[usize]) -> Vec<f64> {
    let (n, d) = (network.order(), network.shape.d_model);
    let mut w_e = network.get("W_E").to_vec();
    let components = fourier.transform_rows(&w_e[..n * d], d);
    for row in frequencies.iter().flat_map(|&k| fourier.rows_of(k)) {
        for (token, &wave) in w_e[..n * d].chunks_exact_mut(d).zip(fourier.row(row)) {
            cpu::add_scaled(token, -wave, &components[row * d..][..d]);
        }
    }
    w_e
}
