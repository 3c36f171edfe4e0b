//! The product of matrices in tiles that stay in registers.
//!
//! A tile of C has six rows and a few vectors of columns. For each term of its sums it takes a row of B's *panel* (those columns,
//! copied so that they follow each other) and an element of A for each of its rows. A is read where it is, whichever way it
//! lies: packing it, as libraries do, costs a tenth of a product whose other side is as narrow as the classes.
//!
//! An element of C is one chain of fused multiply-adds in the order of k; those of the last few columns ([`super::narrow`]) are put together
//! in another order. Which columns these are follows from the number of columns alone, as C is cut at multiples of [`CUT`]. So C has the same
//! bits with vectors of sixteen, eight and four, and however it is cut.

#![allow(clippy::needless_range_loop, reason = "given to an iterator, sums are put into memory term by term")]

use super::matmul::{Block, CUT, Into, Mat};
use super::{Real, narrow, vector};
use pulp::{Arch, Simd, WithSimd};
use std::hint::black_box;

/// Rows of a tile.
const ROWS: usize = 6;
/// Terms of the sums that are done before the next: a panel of as many rows stays in a core's own caches.
const TERMS: usize = 128;
/// Elements of a panel's row at most.
const WIDEST: usize = 64;
/// Columns after whole vectors, of the widest, that are made by themselves.
const FEW: usize = 4;
/// Bytes of a cache line, at which panels begin: loads across two of them take twice as long.
const LINE: usize = 64;

/// Whether [`product`] is there for such matrices. It does not depend on how a product is cut, and so the bits do not.
pub fn fits<T: Real>(out: &Block<T>, a: Mat<T>) -> bool {
    // f64, and processors without vectors, use the library.
    let has_tiles = size_of::<T>() == size_of::<f32>() && vector::lanes_of_f32() >= 4;
    has_tiles && out.has_rows() && (a.has_rows() || a.t().has_rows())
}

/// out = a b, or out += a b
pub fn product<T: Real>(out: &mut Block<T>, a: Mat<T>, b: Mat<T>, into: Into) {
    let (cols, few) = (out.size().1, out.size().1 % CUT);
    // Classes are a prime number in whole vec4s: what is left of them after whole vectors is not worth another.
    let of_tiles = if few <= FEW { cols - few } else { cols };
    // The panel is taken out here: what a closure does is not compiled for the widest vectors.
    T::with_scratch(TERMS * WIDEST + LINE, |scratch| {
        let aligned = scratch.as_ptr().align_offset(LINE).min(LINE);
        Arch::new().dispatch(Product { out, cols: of_tiles, a, b, into, panel: &mut scratch[aligned..] });
    });
    if of_tiles < cols {
        narrow::product(out, of_tiles, a, b, into);
    }
}

struct Product<'a, 'b, T> {
    out: &'a mut Block<'b, T>,
    /// Columns that are made.
    cols: usize,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    into: Into,
    panel: &'a mut [T],
}

/// The terms of the sums that are being done, and the columns of the panel.
#[derive(Clone, Copy)]
struct Part {
    first_term: usize,
    first_col: usize,
    cols: usize,
}

impl<T: Real> WithSimd for Product<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (lanes, cols, terms) = (vector::lanes::<T, S>(), self.cols, self.a.size().1);
        let widest = if S::REGISTER_COUNT >= 32 { 4 } else { 2 };
        // An empty sum is a sum too.
        for first_term in (0..terms.max(1)).step_by(TERMS) {
            for first_col in (0..cols).step_by(widest * lanes) {
                let part = Part { first_term, first_col, cols: (widest * lanes).min(cols - first_col) };
                match part.cols.div_ceil(lanes) {
                    1 => self.panel::<S, 1>(simd, part),
                    2 => self.panel::<S, 2>(simd, part),
                    3 => self.panel::<S, 3>(simd, part),
                    _ => self.panel::<S, 4>(simd, part),
                }
            }
        }
    }
}

impl<T: Real> Product<'_, '_, T> {
    /// All rows of `N` vectors of columns.
    #[inline(always)]
    fn panel<S: Simd, const N: usize>(&mut self, simd: S, part: Part) {
        let width = N * vector::lanes::<T, S>();
        let terms = TERMS.min(self.a.size().1 - part.first_term);
        self.b.copy_to(part.first_term, part.first_col, part.cols, &mut self.panel[..terms * width], width);
        let rows = self.out.size().0;
        let whole = rows - rows % ROWS;
        (0..whole).step_by(ROWS).for_each(|row| self.tile::<S, ROWS, N>(simd, row, part, terms));
        (whole..rows).for_each(|row| self.tile::<S, 1, N>(simd, row, part, terms));
    }

    /// `R` rows from `row` on.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const N: usize>(&mut self, simd: S, row: usize, part: Part, terms: usize) {
        let panel = &T::split::<S>(self.panel).0.as_chunks::<N>().0[..terms];
        let mut sums = [[T::splat(simd, T::zero()); N]; R];
        if self.into == Into::Add || part.first_term > 0 {
            for r in 0..R {
                sums[r] = load(simd, self.out.part(row + r, part.first_col, part.cols));
            }
        }
        if self.a.has_rows() {
            let mut a: [&[T]; R] = [&[]; R];
            for r in 0..R {
                // Six addresses to start from. A compiler that knows how far apart they are adds that six times a term, on the
                // ports of the multiply-adds.
                a[r] = &black_box(self.a.row(row + r, part.first_term, terms))[..terms];
            }
            sums = add_terms(simd, panel, |k| move |r: usize| a[r][k], sums);
        } else {
            let (a, stride) = self.a.t().lines();
            let a = &a[(part.first_term * stride + row).min(a.len())..];
            let of_term = |k: usize| {
                let a = &a[k * stride..][..R];
                move |r: usize| a[r]
            };
            sums = add_terms(simd, panel, of_term, sums);
        }
        for r in 0..R {
            store(simd, self.out.part(row + r, part.first_col, part.cols), sums[r]);
        }
    }
}

/// sums[r] += a(k)(r) panel[k] for every k
#[inline(always)]
fn add_terms<T: Real, S: Simd, const R: usize, const N: usize, F: Fn(usize) -> T>(
    simd: S,
    panel: &[[T::V<S>; N]],
    a: impl Fn(usize) -> F,
    mut sums: [[T::V<S>; N]; R],
) -> [[T::V<S>; N]; R] {
    for k in 0..panel.len() {
        let (a, b) = (a(k), panel[k]);
        for r in 0..R {
            let a = T::splat(simd, a(r));
            for n in 0..N {
                sums[r][n] = T::multiply_add(simd, a, b[n], sums[r][n]);
            }
        }
    }
    sums
}

/// Vectors of x, the last of which may have less; zeros after the end.
#[inline(always)]
fn load<T: Real, S: Simd, const N: usize>(simd: S, x: &[T]) -> [T::V<S>; N] {
    match T::split::<S>(x).0.try_into() {
        Ok(vectors) => vectors,
        Err(_) => {
            let lanes = vector::lanes::<T, S>();
            std::array::from_fn(|n| T::load_part(simd, &x[(n * lanes).min(x.len())..x.len().min((n + 1) * lanes)]))
        }
    }
}

/// The same back.
#[inline(always)]
fn store<T: Real, S: Simd, const N: usize>(simd: S, x: &mut [T], sums: [T::V<S>; N]) {
    let lanes = vector::lanes::<T, S>();
    if x.len() == N * lanes {
        T::split_mut::<S>(x).0.copy_from_slice(&sums);
    } else {
        x.chunks_mut(lanes).zip(sums).for_each(|(x, sum)| T::store_part(simd, x, sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::matmul::MatMut;
    use crate::cpu::numbers;

    /// Rows, columns, terms: less than a tile, a vector and a panel of terms, more, and just as much; and none.
    const SIZES: [(usize, usize, usize); 8] = [
        (6, 16, 1),
        (1, 3, 2),
        (7, 33, TERMS + 1),
        (20, 116, 2 * TERMS),
        (13, 65, 5),
        (6, 24, 5),
        (8, 40, 0),
        (0, 20, 3),
    ];

    struct Case {
        size: (usize, usize, usize),
        a_has_rows: bool,
        b_has_rows: bool,
        into: Into,
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for size in SIZES {
            for n in 0..8 {
                let into = if n & 4 == 0 { Into::Overwrite } else { Into::Add };
                cases.push(Case { size, a_has_rows: n & 1 == 0, b_has_rows: n & 2 == 0, into });
            }
        }
        cases
    }

    /// The product of a case as `run` makes it, and as it is defined.
    fn both(case: &Case, run: impl FnOnce(Product<f32>), fused: bool) -> (Vec<f32>, Vec<f32>) {
        let (m, n, k) = case.size;
        // Lines with gaps, whose numbers must not count.
        let with_gaps = |lines: usize, width: usize, stride: usize, seed| {
            let mut x = numbers(lines * stride, seed);
            x.chunks_exact_mut(stride).for_each(|line| line[width..].fill(f32::NAN));
            x.truncate(if lines == 0 { 0 } else { (lines - 1) * stride + width });
            x
        };
        let (a_lines, a_width) = if case.a_has_rows { (m, k) } else { (k, m) };
        let (b_lines, b_width) = if case.b_has_rows { (k, n) } else { (n, k) };
        let (a_stride, b_stride, stride) = (a_width + 2, b_width + 1, n + 3);
        let a = with_gaps(a_lines, a_width, a_stride, 1.0);
        let b = with_gaps(b_lines, b_width, b_stride, 2.0);
        let before = numbers(m * stride, 4.0);
        let mut expected = before.clone();
        for i in 0..m {
            for j in 0..n {
                let out = &mut expected[i * stride + j];
                let start = if case.into == Into::Add { *out } else { 0.0 };
                *out = (0..k).fold(start, |sum, l| {
                    let a = if case.a_has_rows { a[i * a_stride + l] } else { a[l * a_stride + i] };
                    let b = if case.b_has_rows { b[l * b_stride + j] } else { b[j * b_stride + l] };
                    // MinGW's fmaf rounds twice.
                    if fused { libm::fmaf(a, b, sum) } else { a * b + sum }
                });
            }
        }
        let mut out = before;
        let a = Mat::strided(&a, a_lines, a_width, a_stride);
        let b = Mat::strided(&b, b_lines, b_width, b_stride);
        let (a, b) = (if case.a_has_rows { a } else { a.t() }, if case.b_has_rows { b } else { b.t() });
        let mut block = Block::of(MatMut::strided(&mut out, m, n, stride));
        let mut panel = vec![f32::NAN; TERMS * WIDEST];
        run(Product { out: &mut block, cols: n, a, b, into: case.into, panel: &mut panel });
        (out, expected)
    }

    #[test]
    fn a_product_is_a_chain_of_multiply_adds_to_the_bit() {
        let fused = vector::is_fused();
        for (index, case) in cases().iter().enumerate() {
            let (out, expected) = both(case, |product| Arch::new().dispatch(product), fused);
            assert!(out == expected, "case {index}, {:?}", case.size);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn narrow_vectors_make_the_same_bits() {
        let Some(narrow) = pulp::x86::V3::try_new() else { return };
        for (index, case) in cases().iter().enumerate() {
            let (out, expected) = both(case, |product| pulp::Simd::vectorize(narrow, product), true);
            assert!(out == expected, "case {index}, {:?}", case.size);
        }
    }
}
