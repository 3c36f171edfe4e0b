//! What a trained network computes: pure functions over f64 arrays.

pub mod fourier;
pub mod keys;
