//! The headline key frequencies: those that carry a cluster of neurons and stand out in W_L = W_out W_U.
//!
//! Each rule by itself errs: W_E often holds the doubles of key frequencies too (Nanda et al. 2023, section 4).

use super::fourier::Fourier;
use crate::cpu::matmul::{Into, Mat, MatMut, matmul};
use crate::model::Weights;
use crate::plan::Shape;

/// Share of a component of the largest from which it stands out.
const STANDS_OUT: f64 = 0.25;
/// Share of its variance that a neuron's frequency must explain.
const EXPLAINED: f64 = 0.85;

/// Frequencies whose cosine or sine component in W_L over the classes 0..p exceeds a quarter of the largest.
pub fn in_logit_weights(weights: &Weights<f64>, shape: &Shape) -> Vec<usize> {
    let (p, m, c) = (shape.p, shape.d_mlp, shape.d_vocab_out);
    let mut w_l = vec![0.0; m * c];
    let (w_out, w_u) = (Mat::new(weights.get("W_out"), shape.d_model), Mat::new(weights.get("W_U"), c));
    matmul(MatMut::new(&mut w_l, c), w_out, w_u, Into::Overwrite);
    let fourier = Fourier::new(p);
    let mut squares = vec![0.0; p];
    for neuron in w_l.chunks_exact(c) {
        for (square, x) in squares.iter_mut().zip(fourier.transform(&neuron[..p])) {
            *square += x * x;
        }
    }
    let component = |k: usize| squares[2 * k - 1].max(squares.get(2 * k).copied().unwrap_or(0.0)).sqrt();
    let largest = fourier.frequencies().map(component).fold(0.0, f64::max);
    fourier.frequencies().filter(|&k| component(k) > STANDS_OUT * largest).collect()
}

/// For each neuron the frequency that explains most of its variance over the grid, and that share; a dead neuron has
/// share 0. `post` is [p * p, d_mlp].
///
/// FVE_k = (sum of G^2 over {0, cos_k, sin_k}^2 - G_00^2) / (sum of G^2 - G_00^2)
pub fn of_neurons(post: &[f64], shape: &Shape) -> Vec<(usize, f64)> {
    let (p, m) = (shape.p, shape.d_mlp);
    let fourier = Fourier::new(p);
    let of_neuron = |neuron: usize| {
        let values: Vec<f64> = (0..p * p).map(|row| post[row * m + neuron]).collect();
        let squares: Vec<f64> = fourier.transform_2d(&values).iter().map(|g| g * g).collect();
        let total = squares.iter().sum::<f64>() - squares[0];
        let explained = |k: usize| {
            let rows = [0, 2 * k - 1, 2 * k];
            let rows = if 2 * k == p { &rows[..2] } else { &rows[..] };
            let sum: f64 =
                rows.iter().flat_map(|i| rows.iter().map(move |j| (i, j))).map(|(i, j)| squares[i * p + j]).sum();
            sum - squares[0]
        };
        let best = fourier.frequencies().map(|k| (k, explained(k))).max_by(|a, b| a.1.total_cmp(&b.1));
        let (k, most) = best.unwrap_or((0, 0.0));
        (k, if total > 0.0 { most / total } else { 0.0 })
    };
    (0..m).map(of_neuron).collect()
}

/// The sorted set of frequencies that are in W_L and have at least one neuron above 0.85.
pub fn headline(weights: &Weights<f64>, post: &[f64], shape: &Shape) -> Vec<usize> {
    let neurons = of_neurons(post, shape);
    let has_cluster = |k: &usize| neurons.iter().any(|(of, share)| of == k && *share > EXPLAINED);
    in_logit_weights(weights, shape).into_iter().filter(has_cluster).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_network_shows_the_frequencies_planted() {
        let (p, m, d) = (13, 4, 13);
        let shape = Shape { p, d_model: d, n_heads: 1, d_mlp: m, d_vocab_out: p };
        let wave = |k: usize, t: usize| (2.0 * std::f64::consts::PI * (k * t) as f64 / p as f64).cos();
        // Neurons 0 and 1 at frequency 2, neuron 2 at frequency 5, neuron 3 dead; frequency 6 in W_L alone.
        let of_neuron = [2, 2, 5];
        let mut post = vec![0.0; p * p * m];
        for row in 0..p * p {
            for (neuron, &k) in of_neuron.iter().enumerate() {
                post[row * m + neuron] = (wave(k, row / p) + wave(k, row % p)).max(0.0);
            }
        }
        let tensors = crate::model::PARAMETERS.iter().map(|parameter| match parameter.name {
            "W_out" => (0..m * d).map(|i| wave([2, 2, 5, 6][i / d], i % d)).collect(),
            "W_U" => (0..d * p).map(|i| f64::from(i / p == i % p)).collect(),
            _ => vec![0.0; parameter.dims(&shape).iter().product()],
        });
        let weights = Weights { tensors: tensors.collect() };
        assert_eq!(in_logit_weights(&weights, &shape), [2, 5, 6]);
        let neurons = of_neurons(&post, &shape);
        assert_eq!(neurons.iter().map(|(k, _)| *k).take(3).collect::<Vec<_>>(), [2, 2, 5]);
        assert_eq!(neurons[3].1, 0.0);
        let clustered: Vec<_> = neurons.iter().filter(|(_, share)| *share > EXPLAINED).map(|(k, _)| *k).collect();
        assert_eq!(
            headline(&weights, &post, &shape),
            [2, 5].into_iter().filter(|k| clustered.contains(k)).collect::<Vec<_>>()
        );
        assert!(clustered.contains(&2));
    }
}
