//! The Fourier basis of Z_n, n odd or even.
//!
//! Row 0 is 1/sqrt(n); rows 2k-1 and 2k are cos and sin of 2 pi k t / n, each over its own norm, for
//! k = 1..=n/2; an even n has one cosine and no sine at n/2, so that there are n rows.

use rustfft::{Fft, FftPlanner, num_complex::Complex};
use std::sync::Arc;

/// The transform of length n.
pub struct Fourier {
    n: usize,
    fft: Arc<dyn Fft<f64>>,
    /// `basis[row * n + t]`
    basis: Vec<f64>,
}

/// What a transform works in; one a thread.
pub struct Scratch {
    buffer: Vec<Complex<f64>>,
    work: Vec<Complex<f64>>,
    turned: Vec<f64>,
}

impl Fourier {
    /// The orthonormal real basis of functions on Z_n: constant, then cosine and sine of each frequency.
    pub fn new(n: usize) -> Self {
        Self { n, fft: FftPlanner::new().plan_fft_forward(n), basis: basis(n) }
    }

    /// Points of the group, and functions of the basis.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Frequencies besides the constant.
    pub fn frequencies(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.n / 2
    }

    /// Rows of the cosine and, but for k = n/2, of the sine of frequency k.
    pub fn rows_of(&self, k: usize) -> std::ops::Range<usize> {
        2 * k - 1..if 2 * k == self.n { 2 * k } else { 2 * k + 1 }
    }

    /// Entries (i, j) of a 2D transform that belong to frequency k: {0, cos_k, sin_k} squared, the constant left out.
    pub fn terms_of(&self, k: usize) -> Vec<(usize, usize)> {
        let rows: Vec<usize> = std::iter::once(0).chain(self.rows_of(k)).collect();
        let all = rows.iter().flat_map(|&i| rows.iter().map(move |&j| (i, j)));
        all.filter(|&term| term != (0, 0)).collect()
    }

    /// The frequency in 0..=n/2 whose waves are those of any integer: k and -k are the same.
    pub fn folded(&self, k: usize) -> usize {
        let k = k % self.n;
        k.min(self.n - k)
    }

    /// Row i of the basis, a function of t of norm 1.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.basis[i * self.n..][..self.n]
    }

    /// Room to work in, to be used again.
    pub fn scratch(&self) -> Scratch {
        let zero = Complex::new(0.0, 0.0);
        let work = vec![zero; self.fft.get_inplace_scratch_len()];
        Scratch { buffer: vec![zero; self.n], work, turned: Vec::new() }
    }

    /// Coefficients of a function of t = 0..n in the basis, in the order of its rows.
    ///
    /// ```
    /// use grokscope::analysis::fourier::Fourier;
    ///
    /// let wave: Vec<f64> = (0..7).map(|t| (std::f64::consts::TAU * 3.0 * t as f64 / 7.0).cos()).collect();
    /// let coefficients = Fourier::new(7).transform(&wave); // 1, cos 1, sin 1, cos 2, sin 2, cos 3, sin 3
    /// assert!((coefficients[5] - 3.5f64.sqrt()).abs() < 1e-12);
    /// assert!(coefficients.iter().enumerate().all(|(i, c)| i == 5 || c.abs() < 1e-12));
    /// ```
    pub fn transform(&self, values: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.n];
        self.transform_into(values, &mut out, &mut self.scratch());
        out
    }

    fn transform_into(&self, values: &[f64], out: &mut [f64], scratch: &mut Scratch) {
        let n = self.n;
        for (z, &value) in scratch.buffer.iter_mut().zip(values) {
            *z = Complex::new(value, 0.0);
        }
        self.fft.process_with_scratch(&mut scratch.buffer, &mut scratch.work);
        let (whole, half) = (1.0 / (n as f64).sqrt(), (2.0 / n as f64).sqrt());
        out[0] = scratch.buffer[0].re * whole;
        for k in self.frequencies() {
            let z = scratch.buffer[k];
            if 2 * k == n {
                out[2 * k - 1] = z.re * whole;
            } else {
                (out[2 * k - 1], out[2 * k]) = (z.re * half, -z.im * half);
            }
        }
    }

    /// Returns the frequency-k component at t, from coefficients in basis order.
    pub fn at(&self, coefficients: &[f64], k: usize, t: usize) -> f64 {
        self.rows_of(k).map(|i| coefficients[i] * self.row(i)[t]).sum()
    }

    /// Coefficients along the first axis of a [n, columns] array: row i is that of basis row i.
    pub fn transform_rows(&self, values: &[f64], columns: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.n * columns];
        let (mut along, mut coefficients, mut scratch) = (vec![0.0; self.n], vec![0.0; self.n], self.scratch());
        for column in 0..columns {
            for (t, value) in along.iter_mut().enumerate() {
                *value = values[t * columns + column];
            }
            self.transform_into(&along, &mut coefficients, &mut scratch);
            for (i, &coefficient) in coefficients.iter().enumerate() {
                out[i * columns + column] = coefficient;
            }
        }
        out
    }

    /// F X F^T of a [n, n] array, in place.
    pub fn transform_2d(&self, values: &mut [f64], scratch: &mut Scratch) {
        let n = self.n;
        let mut turned = std::mem::take(&mut scratch.turned);
        turned.resize(n * n, 0.0);
        let mut row = vec![0.0; n];
        for _ in 0..2 {
            for a in 0..n {
                self.transform_into(&values[a * n..][..n], &mut row, scratch);
                for (b, &x) in row.iter().enumerate() {
                    turned[b * n + a] = x;
                }
            }
            values.copy_from_slice(&turned);
        }
        scratch.turned = turned;
    }
}

/// The basis as its definition has it, row by row.
fn basis(n: usize) -> Vec<f64> {
    let mut rows = vec![1.0 / (n as f64).sqrt(); n];
    for k in 1..=n / 2 {
        let norm = if 2 * k == n { 1.0 / (n as f64).sqrt() } else { (2.0 / n as f64).sqrt() };
        let angle = |t: usize| 2.0 * std::f64::consts::PI * (k * t % n) as f64 / n as f64;
        rows.extend((0..n).map(|t| angle(t).cos() * norm));
        if 2 * k != n {
            rows.extend((0..n).map(|t| angle(t).sin() * norm));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basis_is_orthonormal() {
        for n in [3, 4, 10, 59, 97] {
            let fourier = Fourier::new(n);
            for i in 0..n {
                for j in 0..n {
                    let product: f64 = fourier.row(i).iter().zip(fourier.row(j)).map(|(a, b)| a * b).sum();
                    assert!((product - f64::from(u8::from(i == j))).abs() < 1e-13 * n as f64, "{n}: {i} {j} {product}");
                }
            }
        }
    }

    #[test]
    fn transforms_are_products_with_the_basis() {
        for n in [3, 4, 10, 59, 97] {
            let fourier = Fourier::new(n);
            let values: Vec<f64> = (0..n * n).map(|t| ((t * t * 7 + 3 * t) % 11) as f64 - 4.5).collect();
            let direct = |values: &[f64], i: usize| fourier.row(i).iter().zip(values).map(|(a, b)| a * b).sum::<f64>();
            let one = fourier.transform(&values[..n]);
            assert_eq!(one.len(), n);
            for (i, &coefficient) in one.iter().enumerate() {
                assert!((direct(&values[..n], i) - coefficient).abs() < 1e-11 * n as f64);
            }
            let mut both = values.clone();
            fourier.transform_2d(&mut both, &mut fourier.scratch());
            let along = fourier.transform_rows(&values, n);
            for i in 0..n {
                for j in 0..n {
                    let product: f64 = (0..n).map(|t| fourier.row(i)[t] * direct(&values[t * n..][..n], j)).sum();
                    assert!(
                        (product - both[i * n + j]).abs() < 1e-11 * (n * n) as f64,
                        "{product} {}",
                        both[i * n + j]
                    );
                    let column: Vec<f64> = (0..n).map(|t| values[t * n + j]).collect();
                    assert!((direct(&column, i) - along[i * n + j]).abs() < 1e-11 * n as f64);
                }
            }
        }
    }

    #[test]
    fn frequencies_fold_and_know_their_rows() {
        let (odd, even) = (Fourier::new(59), Fourier::new(10));
        assert_eq!((odd.folded(36), odd.folded(59), odd.folded(29)), (23, 0, 29));
        assert_eq!((odd.rows_of(29), even.rows_of(5), even.rows_of(1)), (57..59, 9..10, 1..3));
        assert_eq!(even.frequencies(), 1..=5);
    }
}
