//! Which frequency each neuron computes: its activations over the grid in the 2D Fourier basis.

use super::fourier::Fourier;
use crate::cpu;
use serde::{Deserialize, Serialize};

/// Share of its variance that a neuron's frequency must explain for it to belong to that frequency's cluster.
pub const EXPLAINED: f64 = 0.85;

/// A value for each neuron, and the clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neurons {
    /// The frequency that explains most of the neuron's variance; 0 for a neuron that does not vary.
    pub frequency: Vec<usize>,
    /// FVE: that share, 0 for a neuron that does not vary.
    pub fve: Vec<f64>,
    /// Share of the inputs on which the neuron is positive.
    pub fires: Vec<f64>,
    /// Mean FVE of all neurons.
    pub mean_fve: f64,
    /// Neurons with an FVE above 0.85.
    pub explained: usize,
    /// Neurons that do not vary over the grid.
    pub dead: usize,
    /// By falling number of neurons.
    pub clusters: Vec<Cluster>,
}

/// The neurons above 0.85 at one frequency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The frequency k.
    pub frequency: usize,
    /// How many there are.
    pub neurons: usize,
    /// Mean FVE of these.
    pub mean_fve: f64,
    /// Mean share of the inputs on which these are positive.
    pub mean_fires: f64,
}

/// The neurons' 2D Fourier coefficients, each neuron centred over the grid: [neuron, n, n], G of the constant being 0.
pub struct Planes {
    n: usize,
    values: Vec<f64>,
    /// What the centring took away: each neuron's mean over the grid.
    pub means: Vec<f64>,
}

impl Planes {
    /// Of `post` [row, d_mlp] over the grid.
    pub fn of(fourier: &Fourier, post: &[f64], d_mlp: usize) -> Self {
        let n = fourier.n();
        let means = super::network::mean_row(post, d_mlp);
        let mut values = vec![0.0; d_mlp * n * n];
        cpu::rows(&mut values, n * n, |neuron, plane| {
            for (row, x) in plane.iter_mut().enumerate() {
                *x = post[row * d_mlp + neuron] - means[neuron];
            }
            fourier.transform_2d(plane, &mut fourier.scratch());
            plane[0] = 0.0;
        });
        Self { n, values, means }
    }

    /// One neuron's coefficients: [n, n].
    pub fn plane(&self, neuron: usize) -> &[f64] {
        &self.values[neuron * self.n * self.n..][..self.n * self.n]
    }

    /// Mean over the neurons of |G|: [n, n].
    pub fn mean_magnitude(&self) -> Vec<f64> {
        self.mean(f64::abs)
    }

    /// Mean over the neurons of G^2: [n, n]. A neuron twice as large counts four times.
    pub fn mean_power(&self) -> Vec<f64> {
        self.mean(|g| g * g)
    }

    fn mean(&self, of: impl Fn(f64) -> f64) -> Vec<f64> {
        let neurons = self.means.len();
        let mut mean = vec![0.0; self.n * self.n];
        for neuron in 0..neurons {
            for (mean, &g) in mean.iter_mut().zip(self.plane(neuron)) {
                *mean += of(g) / neurons as f64;
            }
        }
        mean
    }
}

/// FVE_k = (sum of G^2 over {0, cos_k, sin_k}^2 - G_00^2) / (sum of G^2 - G_00^2), for the best k.
pub fn neurons(fourier: &Fourier, planes: &Planes, post: &[f64]) -> Neurons {
    let (n, m) = (fourier.n(), planes.means.len());
    let terms: Vec<_> = fourier.frequencies().map(|k| (k, fourier.terms_of(k))).collect();
    // Frequency and share of each neuron.
    let mut found = vec![0.0; 2 * m];
    cpu::rows(&mut found, 2, |neuron, out| {
        let squares: Vec<f64> = planes.plane(neuron).iter().map(|g| g * g).collect();
        let total: f64 = squares.iter().sum();
        // Rounding leaves something of a constant neuron; nothing of it is a wave.
        let scale = planes.means[neuron].powi(2) * (n * n) as f64;
        if total <= 1e-24 * scale {
            return;
        }
        let explained = terms.iter().map(|(k, terms)| (*k, terms.iter().map(|(i, j)| squares[i * n + j]).sum::<f64>()));
        // A neuron that fires on one pair has the same share at every frequency: the lowest one, not what rounding picks.
        let better = |best: (usize, f64), this: (usize, f64)| if this.1 > best.1 * (1.0 + 1e-12) { this } else { best };
        let (k, most) = explained.fold((0, 0.0), better);
        out.copy_from_slice(&[k as f64, most / total]);
    });
    let mut fires = vec![0.0; m];
    for row in post.chunks_exact(m) {
        for (fires, &x) in fires.iter_mut().zip(row) {
            *fires += if x > 0.0 { 1.0 / (n * n) as f64 } else { 0.0 };
        }
    }
    let frequency: Vec<usize> = found.iter().step_by(2).map(|&k| k as usize).collect();
    let fve: Vec<f64> = found.iter().skip(1).step_by(2).copied().collect();
    let mut clusters: Vec<Cluster> = fourier
        .frequencies()
        .filter_map(|k| {
            let of: Vec<usize> = (0..m).filter(|&i| frequency[i] == k && fve[i] > EXPLAINED).collect();
            let mean = |values: &[f64]| of.iter().map(|&i| values[i]).sum::<f64>() / of.len() as f64;
            let cluster = Cluster { frequency: k, neurons: of.len(), mean_fve: mean(&fve), mean_fires: mean(&fires) };
            (!of.is_empty()).then_some(cluster)
        })
        .collect();
    clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.neurons));
    Neurons {
        mean_fve: fve.iter().sum::<f64>() / m as f64,
        explained: fve.iter().filter(|&&share| share > EXPLAINED).count(),
        dead: frequency.iter().filter(|&&k| k == 0).count(),
        frequency,
        fve,
        fires,
        clusters,
    }
}
