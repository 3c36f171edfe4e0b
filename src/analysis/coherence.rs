//! Phase coherence: whether each neuron's output phase is the sum of its input phases.
//!
//! A neuron of frequency k that reads cos(w a - phi_x) and cos(w b - phi_y), w = 2 pi k / n, holds cos(w (a + b) - phi_x -
//! phi_y) through its nonlinearity. It helps the correct class if its row of W_L is cos(w c - phi_out) with
//! psi = phi_x + phi_y - phi_out = 0 (Gromov 2023, arXiv 2301.02679). Over the neurons of a frequency, weighted by the norm
//! of their row of W_L, the coherence is |sum of weight e^(i psi)| / sum of weight: 1 if all have the same psi, about
//! 1/sqrt(m) of m neurons that have nothing to do with each other. The control pairs each neuron with the row of W_L of
//! another of its frequency.

use super::fourier::Fourier;
use super::network::Network;
use super::neurons::{Neurons, Planes};
use super::spectrum::norm;
use crate::task::philox_permutation;
use serde::{Deserialize, Serialize};

/// The neurons of a frequency, which is the one that explains most of their variance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coherence {
    /// The frequency k.
    pub frequency: usize,
    /// How many neurons have it, whatever their FVE.
    pub neurons: usize,
    /// |sum of weight e^(i psi)| / sum of weight
    pub coherence: f64,
    /// The angle of that sum, in radians: 0 where neurons write what they read.
    pub angle: f64,
    /// The coherence with the rows of W_L permuted among these neurons.
    pub permuted: f64,
    /// What unrelated phases give: 1/sqrt(neurons).
    pub unrelated: f64,
}

/// Returns the coherence of each key that is some neuron's best frequency.
pub fn coherences(
    network: &Network,
    fourier: &Fourier,
    planes: &Planes,
    neurons: &Neurons,
    keys: &[usize],
) -> Vec<Coherence> {
    let n = network.order();
    let w_logit = network.w_logit();
    // Row 0 of the basis is the constant: G[i, 0] is the wave of a alone, G[0, j] that of b. A difference turns b round.
    let sign = if network.group.difference { -1.0 } else { 1.0 };
    let of_key = |&k: &usize| {
        let rows = fourier.rows_of(k);
        // There is no sine at n/2, so no phase.
        if rows.len() < 2 {
            return None;
        }
        let (cosine, sine) = (rows.start, rows.start + 1);
        let members: Vec<usize> = (0..neurons.frequency.len()).filter(|&i| neurons.frequency[i] == k).collect();
        let read = |&i: &usize| {
            let g = planes.plane(i);
            g[sine * n].atan2(g[cosine * n]) + sign * g[sine].atan2(g[cosine])
        };
        let written = |&i: &usize| {
            let waves = fourier.transform(&w_logit[i * n..][..n]);
            (waves[sine].atan2(waves[cosine]), norm(&w_logit[i * n..][..n]))
        };
        let read: Vec<f64> = members.iter().map(read).collect();
        let written: Vec<(f64, f64)> = members.iter().map(written).collect();
        let resultant = |order: &dyn Fn(usize) -> usize| {
            let (mut re, mut im, mut total) = (0.0, 0.0, 0.0);
            for (i, read) in read.iter().enumerate() {
                let (out, weight) = written[order(i)];
                re += weight * (read - out).cos();
                im += weight * (read - out).sin();
                total += weight;
            }
            (if total > 0.0 { re.hypot(im) / total } else { 0.0 }, im.atan2(re))
        };
        let permutation = philox_permutation(k as u64, members.len());
        let (coherence, angle) = resultant(&|i| i);
        (!members.is_empty()).then(|| Coherence {
            frequency: k,
            neurons: members.len(),
            coherence,
            angle,
            permuted: resultant(&|i| permutation[i] as usize).0,
            unrelated: 1.0 / (members.len() as f64).sqrt(),
        })
    };
    keys.iter().filter_map(of_key).collect()
}
