//! Clock or Pizza (Zhong et al. 2023): three measures that tell the two algorithms apart, and what they say together.

use super::fourier::Fourier;
use super::network::{Activations, Network, mean_row, product};
use super::published;
use super::spectrum::norm;
use crate::cpu::{add, add_scaled, dot, matmul, rows};
use crate::task::{philox_permutation, python_permutation};
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

/// Triples (a, b, c) of the published measure: the head of all of them in order, shuffled by Python's random.Random(42).
const TRIPLES: usize = 100;
/// Inputs of the wider measure, each with all classes: the head of Philox permutation 0 of the grid.
const INPUTS: usize = 256;
/// Principal components of W_E that circularity looks at.
const COMPONENTS: usize = 4;

/// Measures that tell the Clock from the Pizza.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClockOrPizza {
    /// Mean cosine of dL_c/dE_a and dL_c/dE_b over the published 100 triples: near 1 for a Pizza, well below for a Clock.
    /// Null above n = 406, where the shuffle would be of more than 2^26 triples.
    pub gradient_symmetricity: Option<f64>,
    /// Standard error of that mean.
    pub gradient_symmetricity_error: Option<f64>,
    /// The same over 256 inputs and all classes.
    pub gradient_symmetricity_wide: f64,
    /// Standard error of that mean, over the inputs.
    pub gradient_symmetricity_wide_error: f64,
    /// Mean over a - b of the standard deviation over a + b of the correct logit, over its standard deviation at large:
    /// 0.71 to 0.96 for published Clocks, 0.16 to 0.81 for Pizzas. Null for even n, where (a + b, a - b) is no coordinate system.
    pub distance_irrelevance: Option<f64>,
    /// Mean over the first principal components of W_E of the largest share of one frequency: 1 for circles. Null where
    /// W_E has fewer than 4 components. Keys of equal strength mix, so a low value proves nothing.
    pub circularity: Option<f64>,
    /// What symmetricity and irrelevance say together.
    pub algorithm: Algorithm,
}

/// Which of the two algorithms the measures are those of, by the published networks with the least and the most attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Symmetricity at most the 95th percentile, irrelevance at least the 5th, of published networks with full attention.
    Clock,
    /// Symmetricity at least 0.95, irrelevance at most the 95th percentile of published networks with constant attention.
    Pizza,
    /// Symmetricity lies between the two.
    Between,
    /// Symmetricity is that of one algorithm, irrelevance is not.
    Neither,
    /// The network does not answer, so it has no algorithm.
    #[serde(rename = "does-not-apply")]
    DoesNotApply,
}

impl Algorithm {
    /// Of the wide symmetricity with its standard error, and of irrelevance where there is one. A symmetricity within two
    /// standard errors of a bound has not passed it.
    pub fn of(symmetricity: f64, error: f64, irrelevance: Option<f64>) -> Self {
        let (gradients, distances) = (published::gradient_symmetricity(), published::distance_irrelevance());
        let is_clock = symmetricity + 2.0 * error <= gradients.clock.values[4];
        // The published Pizzas are so close together that a percentile of theirs would shut out most others.
        let is_pizza = symmetricity - 2.0 * error >= PIZZA;
        let near_clock = irrelevance.is_none_or(|x| x >= distances.clock.values[0]);
        let near_pizza = irrelevance.is_none_or(|x| x <= distances.pizza.values[4]);
        match (is_clock, is_pizza) {
            (true, _) if near_clock => Self::Clock,
            (_, true) if near_pizza => Self::Pizza,
            (false, false) => Self::Between,
            _ => Self::Neither,
        }
    }
}

/// Symmetricity from which a network is a Pizza.
pub const PIZZA: f64 = 0.95;

/// Measures all of them, by the definitions of Zhong et al. 2023, sections 3 and 4. `answers` says whether the network does.
pub fn clock_or_pizza(network: &Network, activations: &Activations, fourier: &Fourier, answers: bool) -> ClockOrPizza {
    let n = network.order();
    let gradients = Gradients::new(network, activations);
    let triples = (n as u64).pow(3);
    let published = (triples <= 1 << 26).then(|| {
        let order = python_permutation(42, triples as usize);
        let of = |triple: &u32| {
            let triple = *triple as usize;
            gradients.cosines(triple / n / n, triple / n % n, &[triple % n])[0]
        };
        mean_and_error(&order.iter().take(TRIPLES).map(of).collect::<Vec<_>>())
    });
    let classes: Vec<usize> = (0..n).collect();
    let order = philox_permutation(0, n * n);
    let inputs: Vec<usize> = order.iter().take(INPUTS).map(|&row| row as usize).collect();
    let mut means = vec![0.0; inputs.len()];
    rows(&mut means, 1, |i, mean| {
        let cosines = gradients.cosines(inputs[i] / n, inputs[i] % n, &classes);
        mean[0] = cosines.iter().sum::<f64>() / n as f64;
    });
    let (wide, wide_error) = mean_and_error(&means);
    let irrelevance = distance_irrelevance(network, activations);
    ClockOrPizza {
        gradient_symmetricity: published.map(|(mean, _)| mean),
        gradient_symmetricity_error: published.map(|(_, error)| error),
        gradient_symmetricity_wide: wide,
        gradient_symmetricity_wide_error: wide_error,
        distance_irrelevance: irrelevance,
        circularity: circularity(network, fourier),
        algorithm: if answers { Algorithm::of(wide, wide_error, irrelevance) } else { Algorithm::DoesNotApply },
    }
}

/// Mean of a sample and its standard error, s / sqrt(count) with s^2 the sum of squared differences over count - 1.
fn mean_and_error(sample: &[f64]) -> (f64, f64) {
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let squares: f64 = sample.iter().map(|x| (x - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}

/// Gradients of logits with respect to the two embeddings, each taken as an input of its own.
struct Gradients<'a> {
    network: &'a Network,
    activations: &'a Activations,
    /// W_L: [d_mlp, class]
    w_logit: Vec<f64>,
    /// W_K^h q_h / sqrt(d_head): [head, d_model]
    u: Vec<f64>,
}

impl<'a> Gradients<'a> {
    fn new(network: &'a Network, activations: &'a Activations) -> Self {
        let (d, e) = (network.shape.d_model, network.shape.d_head());
        let of_row = |(i, row): (usize, &[f64])| dot(row, &activations.q[i / d * e..][..e]) / (e as f64).sqrt();
        let u = network.get("W_K").chunks_exact(e).enumerate().map(of_row).collect();
        Self { network, activations, w_logit: network.w_logit(), u }
    }

    /// For each class c the cosine of dL_c/dE_a and dL_c/dE_b at input (a, b); 0 where one of them is 0.
    fn cosines(&self, a: usize, b: usize, classes: &[usize]) -> Vec<f64> {
        let Self { network, activations, w_logit, u } = self;
        let (n, d, e, m) = (network.order(), network.shape.d_model, network.shape.d_head(), network.shape.d_mlp);
        let (heads, row, count) = (network.shape.n_heads, a * n + b, classes.len());
        let pick = |table: &[f64]| -> Vec<f64> {
            table.chunks_exact(n).flat_map(|row| classes.iter().map(|&class| row[class])).collect()
        };
        // d_resid_mid = W_U + W_in (post > 0) W_L, transposed: [class, d_model]
        let mut through = pick(w_logit);
        for (neuron, row) in through.chunks_exact_mut(count).zip(&activations.post[row * m..][..m]) {
            if *row <= 0.0 {
                neuron.fill(0.0);
            }
        }
        let mut d_mid = pick(network.get("W_U"));
        let target = matmul::MatMut::new(&mut d_mid, count);
        let (w_in, through) = (matmul::Mat::new(network.get("W_in"), m), matmul::Mat::new(&through, count));
        matmul::matmul(target, w_in, through, matmul::Into::Add);
        let d_z = product(network.get("W_O"), &d_mid, d);
        let slots = [a, n + b, 2 * n];
        let cosine = |class: usize| {
            let mut at = [vec![0.0; d], vec![0.0; d]];
            for head in 0..heads {
                let d_z: Vec<f64> = (0..e).map(|i| d_z[(head * e + i) * count + class]).collect();
                let pattern = &activations.pattern[(row * heads + head) * 3..][..3];
                let d_pattern = slots.map(|slot| dot(&d_z, &activations.v[slot * d + head * e..][..e]));
                let mean = dot(pattern, &d_pattern);
                let w_v = network.get("W_V")[head * d * e..][..d * e].chunks_exact(e);
                let value: Vec<f64> = w_v.map(|row| dot(row, &d_z)).collect();
                for (pos, out) in at.iter_mut().enumerate() {
                    add_scaled(out, pattern[pos], &value);
                    add_scaled(out, pattern[pos] * (d_pattern[pos] - mean), &u[head * d..][..d]);
                }
            }
            let norms = norm(&at[0]) * norm(&at[1]);
            if norms > 0.0 { dot(&at[0], &at[1]) / norms } else { 0.0 }
        };
        (0..count).map(cosine).collect()
    }
}

fn distance_irrelevance(network: &Network, activations: &Activations) -> Option<f64> {
    let n = network.order();
    let labels = network.labels();
    let correct = |row: usize| activations.logits[row * n + labels[row] as usize];
    // [distance, label]
    let mut by_distance = vec![0.0; n * n];
    for (row, &label) in labels.iter().enumerate() {
        by_distance[network.group.distance(row / n, row % n) * n + label as usize] = correct(row);
    }
    let deviation = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let at_large = deviation(&by_distance);
    let within = by_distance.chunks_exact(n).map(deviation).sum::<f64>() / n as f64;
    (n % 2 == 1 && at_large > 0.0).then(|| within / at_large)
}

/// max over k of (2/n) |sum of v_t e^(2 pi i k t / n)|^2, averaged over the first components v, |v| = 1.
fn circularity(network: &Network, fourier: &Fourier) -> Option<f64> {
    let (n, d) = (network.order(), network.shape.d_model);
    if n.min(d) < COMPONENTS + usize::from(n <= d) {
        return None;
    }
    let tokens = &network.get("W_E")[..n * d];
    let mut negative = mean_row(tokens, d);
    negative.iter_mut().for_each(|x| *x = -*x);
    let mut centred = tokens.to_vec();
    centred.chunks_exact_mut(d).for_each(|token| add(token, &negative));
    let gram = DMatrix::from_row_slice(n, d, &centred);
    let decomposed = (&gram * gram.transpose()).symmetric_eigen();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| decomposed.eigenvalues[j].total_cmp(&decomposed.eigenvalues[i]));
    let largest_share = |&component: &usize| {
        let v: Vec<f64> = decomposed.eigenvectors.column(component).iter().copied().collect();
        // In the orthonormal basis (2/n) |sum of v_t e^(2 pi i k t / n)|^2 is the sum of two squares.
        let waves = fourier.transform(&v);
        let power = |k: usize| waves[fourier.rows_of(k)].iter().map(|x| x * x).sum::<f64>();
        fourier.frequencies().map(power).fold(0.0, f64::max)
    };
    Some(order[..COMPONENTS].iter().map(largest_share).sum::<f64>() / COMPONENTS as f64)
}
