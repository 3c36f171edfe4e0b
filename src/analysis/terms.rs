//! Sums of 2D Fourier terms: which terms belong to a frequency, and logits made of them alone.

use super::fourier::Fourier;
use super::network::product;
use super::neurons::Planes;
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Which 2D terms (i, j) of the basis over (a, b) belong to frequency k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Terms {
    /// {cos_k, sin_k} x {cos_k, sin_k}: four products of a wave of a and one of b.
    Products,
    /// {1, cos_k, sin_k} squared but the constant: these four, and the four waves of a or b alone.
    All,
}

impl Terms {
    /// The terms of some frequencies, each once.
    pub fn of(self, fourier: &Fourier, frequencies: &[usize]) -> Vec<(usize, usize)> {
        let mut terms: Vec<_> = frequencies.iter().flat_map(|&k| fourier.terms_of(k)).collect();
        if self == Self::Products {
            terms.retain(|&(i, j)| i != 0 && j != 0);
        }
        terms.sort();
        terms.dedup();
        terms
    }
}

/// Coefficients of some terms of every plane: [term, plane].
pub fn coefficients(planes: &Planes, n: usize, terms: &[(usize, usize)]) -> Vec<f64> {
    let count = planes.means.len();
    terms.iter().flat_map(|&(i, j)| (0..count).map(move |plane| planes.plane(plane)[i * n + j])).collect()
}

/// The part of the neurons in some terms as W_L sends it to the logits: coefficients [term, class].
pub fn through(planes: &Planes, n: usize, terms: &[(usize, usize)], w_logit: &[f64]) -> Vec<f64> {
    product(&coefficients(planes, n, terms), w_logit, planes.means.len())
}

/// constant + sum of coefficient times its 2D wave, for every class: [row, class]. `coefficients` are [term, class].
pub fn sum(fourier: &Fourier, constant: &[f64], terms: &[(usize, usize)], coefficients: &[f64]) -> Vec<f64> {
    let n = fourier.n();
    let mut out = vec![0.0; n * n * n];
    cpu::rows(&mut out, n, |row, out| {
        out.copy_from_slice(constant);
        for (&(i, j), coefficients) in terms.iter().zip(coefficients.chunks_exact(n)) {
            cpu::add_scaled(out, fourier.row(i)[row / n] * fourier.row(j)[row % n], coefficients);
        }
    });
    out
}
