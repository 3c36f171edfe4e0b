//! The few columns of a product that are left after whole vectors.

use super::Real;
use super::matmul::{Block, Into, Mat};
use super::wide::{AddLines, LINES, dot_lines};

/// The columns of out = a b, or out += a b, from `first` on. Panics where neither rows nor columns of a are neighbours.
pub fn product<T: Real>(out: &mut Block<T>, first: usize, a: Mat<T>, b: Mat<T>, into: Into) {
    let ((rows, cols), terms) = (out.size(), a.size().1);
    let few = cols - first;
    if rows == 0 {
        return;
    }
    T::with_scratch(few * (terms + rows), |scratch| {
        // Of each column: its part of b, and its sums.
        let (of_b, sums) = scratch.split_at_mut(few * terms);
        sums.fill(T::zero());
        if terms > 0 {
            b.t().copy_to(first, 0, terms, of_b, terms);
            match a.has_rows() {
                true => dots_with_rows(a, of_b, sums),
                false => add_rows(a.t(), of_b, sums),
            }
        }
        for row in 0..rows {
            for (out, sums) in out.part(row, first, few).iter_mut().zip(sums.chunks_exact(rows)) {
                *out = if into == Into::Add { *out + sums[row] } else { sums[row] };
            }
        }
    });
}

/// `sums[n, row]` = `a[row]` . `of_b[n]`
fn dots_with_rows<T: Real>(a: Mat<T>, of_b: &[T], sums: &mut [T]) {
    const SIDE: usize = 8;
    let ((rows, terms), (table, stride)) = (a.size(), a.lines());
    for first in (0..rows).step_by(SIDE) {
        let lines: [usize; SIDE] = std::array::from_fn(|n| (first + n) * stride);
        let count = SIDE.min(rows - first);
        for (sums, of_b) in sums.chunks_exact_mut(rows).zip(of_b.chunks_exact(terms)) {
            dot_lines(&[of_b], &lines[..count], table, &mut sums[first..]);
        }
    }
}

/// `sums[n]` += sum over k of `of_b[n, k]` times row k of a
fn add_rows<T: Real>(a: Mat<T>, of_b: &[T], sums: &mut [T]) {
    let ((terms, width), (table, stride)) = (a.size(), a.lines());
    let mut lines = vec![[(T::zero(), 0); LINES]; sums.len() / width];
    for first in (0..terms).step_by(LINES) {
        let count = LINES.min(terms - first);
        for (lines, of_b) in lines.iter_mut().zip(of_b.chunks_exact(terms)) {
            for (k, line) in (first..).zip(&mut lines[..count]) {
                *line = (of_b[k], k * stride);
            }
        }
        AddLines { lines: &lines, count, table, base: None, relu: false, width, out: sums }.run();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::MatMut;

    #[test]
    fn the_last_columns_are_the_definition_and_the_others_stay() {
        for (m, n, k, first) in [(1, 3, 1, 1), (9, 4, 7, 0), (20, 21, 16, 17), (8, 6, 33, 5), (3, 2, 0, 1)] {
            let number = |i: usize, of: usize| (i * 7 % of) as f64 - of as f64 / 2.0;
            let a: Vec<f64> = (0..m * k).map(|i| number(i, 13)).collect();
            let b: Vec<f64> = (0..k * n).map(|i| number(i, 11)).collect();
            for case in 0..4 {
                let (of_rows, into) = (case % 2 == 0, if case < 2 { Into::Overwrite } else { Into::Add });
                let mut out = vec![0.5; m * n];
                let of_a = if of_rows { Mat::strided(&a, m, k, k) } else { Mat::strided(&a, k, m, m).t() };
                product(&mut Block::of(MatMut::new(&mut out, n)), first, of_a, Mat::strided(&b, k, n, n), into);
                for (i, &got) in out.iter().enumerate() {
                    let (row, col) = (i / n, i % n);
                    let at = |l: usize| if of_rows { a[row * k + l] } else { a[l * m + row] };
                    let sum: f64 = (0..k).map(|l| at(l) * b[l * n + col]).sum();
                    let start = if into == Into::Add { 0.5 } else { 0.0 };
                    let expected = if col < first { 0.5 } else { start + sum };
                    assert_eq!(got, expected, "{m}x{n}x{k} from {first}, case {case}: {row}, {col}");
                }
            }
        }
    }
}
