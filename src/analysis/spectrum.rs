//! Spectra of tables with one row (or column) a token, and how sparse they are.

use super::fourier::Fourier;
use serde::{Deserialize, Serialize};

/// Norms of a table's Fourier components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    /// Norm of the component of every basis row: 0 the constant, 2k-1 and 2k cosine and sine of frequency k.
    pub components: Vec<f64>,
    /// Gini coefficient of the norms, the constant left out: 0 all equal, near 1 a single one.
    pub gini: f64,
    /// The same of their squares.
    pub gini_squares: f64,
}

impl Spectrum {
    /// Of a [n, columns] table along its first axis.
    pub fn of_rows(fourier: &Fourier, table: &[f64], columns: usize) -> Self {
        let coefficients = fourier.transform_rows(table, columns);
        Self::of_components(coefficients.chunks_exact(columns).map(norm).collect())
    }

    /// Of a [rows, n] table along its second axis.
    pub fn of_columns(fourier: &Fourier, table: &[f64]) -> Self {
        let n = fourier.n();
        let rows: Vec<Vec<f64>> = table.chunks_exact(n).map(|row| fourier.transform(row)).collect();
        let component = |i: usize| rows.iter().map(|row| row[i] * row[i]).sum::<f64>().sqrt();
        Self::of_components((0..n).map(component).collect())
    }

    fn of_components(components: Vec<f64>) -> Self {
        let squares: Vec<f64> = components.iter().map(|c| c * c).collect();
        Self { gini: gini(&components[1..]), gini_squares: gini(&squares[1..]), components }
    }

    /// Cosine and, but for k = n/2, sine of frequency k.
    pub fn of(&self, k: usize) -> &[f64] {
        &self.components[2 * k - 1..self.components.len().min(2 * k + 1)]
    }

    /// The larger of cosine and sine of frequency k.
    pub fn largest(&self, k: usize) -> f64 {
        self.of(k).iter().copied().fold(0.0, f64::max)
    }

    /// Share of the sum of squares, the constant left out, that lies at some frequencies; 0 of nothing.
    pub fn share(&self, frequencies: &[usize]) -> f64 {
        let total: f64 = self.components[1..].iter().map(|c| c * c).sum();
        let of: f64 = frequencies.iter().map(|&k| self.merged(k).powi(2)).sum();
        if total > 0.0 { of / total } else { 0.0 }
    }

    /// Cosine and sine of frequency k together.
    pub fn merged(&self, k: usize) -> f64 {
        norm(self.of(k))
    }
}

/// Root of the sum of squares.
pub fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// 1 - 2 sum of c_(i) (N - i + 1/2) / (N sum of c), c ascending, i = 1..=N; 0 where all are 0.
pub fn gini(values: &[f64]) -> f64 {
    let mut c = values.to_vec();
    c.sort_by(f64::total_cmp);
    let (n, sum) = (c.len() as f64, c.iter().sum::<f64>());
    let weighted: f64 = c.iter().enumerate().map(|(i, c)| c * (n - i as f64 - 0.5)).sum();
    if sum > 0.0 { 1.0 - 2.0 * weighted / (n * sum) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gini_of_equal_values_is_zero_and_of_a_single_one_nearly_one() {
        assert!(gini(&[3.0; 8]).abs() < 1e-15);
        assert!((gini(&[0.0, 0.0, 0.0, 5.0]) - 0.75).abs() < 1e-15);
        // Lorenz curve of (1, 3): area under it is 0.375, so 1 - 2 * 0.375.
        assert!((gini(&[3.0, 1.0]) - 0.25).abs() < 1e-15);
        assert_eq!(gini(&[0.0; 3]), 0.0);
    }

    #[test]
    fn a_wave_has_one_component_along_either_axis() {
        let fourier = Fourier::new(11);
        let wave: Vec<f64> = (0..11).map(|t| 2.0 * fourier.row(6)[t]).collect();
        let columns = Spectrum::of_columns(&fourier, &[&wave[..], &wave[..]].concat());
        let along: Vec<f64> = wave.iter().flat_map(|&x| [x, x]).collect();
        let rows = Spectrum::of_rows(&fourier, &along, 2);
        for spectrum in [columns, rows] {
            assert!((spectrum.largest(3) - 8f64.sqrt()).abs() < 1e-14);
            assert!((spectrum.merged(3) - 8f64.sqrt()).abs() < 1e-14);
            assert!(spectrum.largest(2) < 1e-14 && spectrum.components[0] < 1e-14);
            assert!((spectrum.gini - 0.9).abs() < 1e-12);
        }
    }
}
