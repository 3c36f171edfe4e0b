//! The 2D Fourier picture of activations over pairs of Z_n, whatever network they come from.

use super::fourier::Fourier;
use super::neurons::{Neurons, Planes, neurons};
use serde::{Deserialize, Serialize};

/// Version of the fields of `transform.json`.
pub const SCHEMA: u32 = 1;

/// What is found in activations alone: no labels, no weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// The array's name.
    pub name: String,
    /// Elements of the group, n.
    pub order: usize,
    /// Units: neurons, classes or heads.
    pub units: usize,
    /// Frequency, FVE and firing of each unit, and the clusters, as `analyze` has them for neurons.
    pub neurons: Neurons,
    /// For each unit the phase of its wave of x at its frequency, in radians: the unit holds cos(2 pi k x / n - phase). 0 for a
    /// unit that does not vary.
    pub phase_x: Vec<f64>,
    /// The same of y.
    pub phase_y: Vec<f64>,
}

/// A [`Transform`] with its coefficients, which are too large for JSON.
pub struct Transformed {
    /// Every number.
    pub transform: Transform,
    /// 2D Fourier coefficients of the centred units.
    pub planes: Planes,
}

/// Transforms values [row, unit] over the pairs of Z_n, row x * n + y.
pub fn transform(name: &str, n: usize, values: &[f64], units: usize) -> Transformed {
    let fourier = Fourier::new(n);
    let planes = Planes::of(&fourier, values, units);
    let neurons = neurons(&fourier, &planes, values);
    let phase = |along_x: bool| -> Vec<f64> {
        let of = |(unit, &k): (usize, &usize)| {
            let rows = if k == 0 { return 0.0 } else { fourier.rows_of(k) };
            let at = |row: usize| planes.plane(unit)[if along_x { row * n } else { row }];
            // At n/2 there is no sine.
            let sine = if rows.len() == 2 { at(rows.start + 1) } else { 0.0 };
            sine.atan2(at(rows.start))
        };
        neurons.frequency.iter().enumerate().map(of).collect()
    };
    let (phase_x, phase_y) = (phase(true), phase(false));
    let transform = Transform { name: name.into(), order: n, units, neurons, phase_x, phase_y };
    Transformed { transform, planes }
}
