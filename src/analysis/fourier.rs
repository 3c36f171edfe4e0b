//! The Fourier basis of Z_p, p odd or even.
//!
//! Row 0 is 1/sqrt(p); rows 2k-1 and 2k are cos and sin of 2 pi k t / p, each over its own norm, for
//! k = 1..=p/2; an even p has one cosine and no sine at p/2, so that there are p rows.

use rustfft::{FftPlanner, num_complex::Complex};

/// The transform of length p.
pub struct Fourier {
    p: usize,
    fft: std::sync::Arc<dyn rustfft::Fft<f64>>,
}

impl Fourier {
    pub fn new(p: usize) -> Self {
        Self { p, fft: FftPlanner::new().plan_fft_forward(p) }
    }

    /// Frequencies besides the constant.
    pub fn frequencies(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.p / 2
    }

    /// Coefficients of a function of t = 0..p in the basis, in the order of its rows.
    pub fn transform(&self, values: &[f64]) -> Vec<f64> {
        let p = self.p;
        let mut buffer: Vec<_> = values.iter().map(|&value| Complex::new(value, 0.0)).collect();
        self.fft.process(&mut buffer);
        let mut out = vec![buffer[0].re / (p as f64).sqrt()];
        for k in self.frequencies() {
            if 2 * k == p {
                out.push(buffer[k].re / (p as f64).sqrt());
            } else {
                let norm = (p as f64 / 2.0).sqrt();
                out.extend([buffer[k].re / norm, -buffer[k].im / norm]);
            }
        }
        out
    }

    /// Coefficients along the first axis of a [p, columns] array: row i is that of basis row i.
    pub fn transform_rows(&self, values: &[f64], columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.p * columns];
        for column in 0..columns {
            let along: Vec<f64> = (0..self.p).map(|t| values[t * columns + column]).collect();
            for (i, coefficient) in self.transform(&along).into_iter().enumerate() {
                out[i * columns + column] = coefficient;
            }
        }
        out
    }

    /// F X F^T of a [p, p] array.
    pub fn transform_2d(&self, values: &[f64]) -> Vec<f64> {
        let p = self.p;
        let rows = self.transform_rows(values, p);
        (0..p).flat_map(|i| self.transform(&rows[i * p..(i + 1) * p])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The basis as its definition has it.
    fn basis(p: usize) -> Vec<Vec<f64>> {
        let mut rows = vec![vec![1.0; p]];
        for k in 1..=p / 2 {
            let angle = |t: usize| 2.0 * std::f64::consts::PI * (k * t % p) as f64 / p as f64;
            rows.push((0..p).map(|t| angle(t).cos()).collect());
            if 2 * k != p {
                rows.push((0..p).map(|t| angle(t).sin()).collect());
            }
        }
        for row in &mut rows {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        rows
    }

    #[test]
    fn the_transform_is_the_product_with_the_basis() {
        for p in [3, 4, 10, 59, 97] {
            let values: Vec<f64> = (0..p).map(|t| ((t * t * 7 + 3) % 11) as f64 - 4.5).collect();
            let transformed = Fourier::new(p).transform(&values);
            let basis = basis(p);
            assert_eq!((basis.len(), transformed.len()), (p, p));
            for (row, coefficient) in basis.iter().zip(transformed) {
                let direct: f64 = row.iter().zip(&values).map(|(a, b)| a * b).sum();
                assert!((direct - coefficient).abs() < 1e-11 * p as f64, "{direct} {coefficient}");
            }
        }
    }
}
