//! Views of matrices with strides, and their product spread over the cores: in tiles of our own, or by a library.

use super::{Real, tiles};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A view of a matrix: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// All of `data`, row by row.
    pub fn new(data: &'a [T], cols: usize) -> Self {
        Self::strided(data, data.len() / cols, cols, cols)
    }

    /// `rows` rows of `cols` elements, each row `row_stride` after the one before.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// `count` rows from `first` on.
    pub fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows {first} to {} of {}", first + count, self.rows);
        Self { data: &self.data[(first * self.row_stride).min(self.data.len())..], rows: count, ..self }
    }

    /// Rows and columns.
    pub fn size(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Whether the elements of a row are neighbours.
    pub fn has_rows(self) -> bool {
        self.col_stride == 1
    }

    /// The elements, and how far apart rows begin in them. Panics where the elements of a row are no neighbours.
    pub fn lines(self) -> (&'a [T], usize) {
        assert!(self.col_stride == 1, "rows of neighbours");
        (self.data, self.row_stride)
    }

    /// `count` elements of a row, from `col` on. Panics where they are no neighbours.
    #[inline(always)]
    pub fn row(self, row: usize, col: usize, count: usize) -> &'a [T] {
        assert!(self.col_stride == 1 && row < self.rows && col + count <= self.cols, "a part of a row");
        &self.data[row * self.row_stride + col..][..count]
    }

    /// Copies `cols` columns from `col` on of the rows from `row` on into rows of `width` elements, the rest of which become zero.
    pub fn copy_to(self, row: usize, col: usize, cols: usize, out: &mut [T], width: usize)
    where
        T: Real,
    {
        if self.col_stride == 1 {
            for (row, out) in (row..).zip(out.chunks_exact_mut(width)) {
                out[..cols].copy_from_slice(self.row(row, col, cols));
                out[cols..].fill(T::zero());
            }
        } else {
            // Eight rows of out at a time, whose columns are read as neighbours.
            const SIDE: usize = 8;
            for (block, out) in out.chunks_mut(SIDE * width).enumerate() {
                let (first, count) = (row + block * SIDE, out.len() / width);
                let columns = self.t().rows_of(col, cols, first, count);
                let mut rows = out.chunks_exact_mut(width);
                if count == SIDE {
                    let rows: [&mut [T]; SIDE] = std::array::from_fn(|_| rows.next().expect("as many rows"));
                    for (j, column) in columns.enumerate() {
                        (0..SIDE).for_each(|r| rows[r][j] = column[r]);
                    }
                } else {
                    for (j, column) in columns.enumerate() {
                        out.chunks_exact_mut(width).zip(column).for_each(|(row, &x)| row[j] = x);
                    }
                }
            }
            out.chunks_exact_mut(width).for_each(|out| out[cols..].fill(T::zero()));
        }
    }

    /// `count` elements from `col` on of each of the `rows` rows from `row` on. Panics where they are no neighbours.
    #[inline(always)]
    fn rows_of(self, row: usize, rows: usize, col: usize, count: usize) -> impl Iterator<Item = &'a [T]> {
        assert!(self.col_stride == 1 && row + rows <= self.rows && col + count <= self.cols, "parts of rows");
        let first = (row * self.row_stride + col).min(self.data.len());
        self.data[first..].chunks(self.row_stride.max(1)).take(rows).map_while(move |row| row.get(..count))
    }

    /// `count` columns from `first` on.
    fn cols(self, first: usize, count: usize) -> Self {
        self.t().rows(first, count).t()
    }
}

/// The matrix that a product is written to: rows of `cols` elements, `row_stride` apart.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows of `cols` elements without gaps.
    pub fn new(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len() / cols;
        Self::strided(data, rows, cols, cols)
    }

    /// Rows that begin `row_stride` elements apart. Panics where they overlap, or `data` is too short.
    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check(data.len(), rows, cols, row_stride);
        Self { data, rows, cols, row_stride }
    }
}

fn check(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(cols <= row_stride, "rows of a matrix overlap");
    assert!(
        rows == 0 || (rows - 1) * row_stride + cols <= len,
        "a view of {rows}x{cols} does not fit into {len} elements"
    );
}

/// What the product does to what is there.
#[derive(Clone, Copy, PartialEq)]
pub enum Into {
    /// Puts itself in its place.
    Overwrite,
    /// Is added to it.
    Add,
}

/// Pointer to the output, shared by tasks that write disjoint blocks of it.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: every task of `matmuls` writes the rows or columns of its own piece only.
unsafe impl<T> Send for Shared<T> {}
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// out = a b, or out += a b.
pub fn matmul<T: Real>(out: MatMut<T>, a: Mat<T>, b: Mat<T>, into: Into) {
    matmuls(out, 1, 0, |_| (a, b), into);
}

/// The same for every one of `batches`, whose outputs begin `batch_stride` elements apart, the first at `out`.
///
/// The longer side of an output is cut into pieces whose size follows from the shapes alone and each piece is one serial
/// product, so the result has the same bits whatever the number of threads.
pub fn matmuls<'a, T: Real>(
    out: MatMut<T>,
    batches: usize,
    batch_stride: usize,
    of_batch: impl Fn(usize) -> (Mat<'a, T>, Mat<'a, T>) + Sync,
    into: Into,
) {
    let (m, n) = (out.rows, out.cols);
    // Outputs are columns beside each other, or follow each other.
    let beside = batch_stride >= n && batches * batch_stride <= out.row_stride;
    let after = batch_stride >= (m.max(1) - 1) * out.row_stride + n;
    assert!(batches == 1 || beside || after, "outputs of a product overlap");
    let last = out.data.len().checked_sub((batches - 1) * batch_stride);
    check(last.expect("every output of a product begins inside its tensor"), m, n, out.row_stride);
    let by_rows = m >= n;
    let length = m.max(n);
    let piece = piece(length, batches);
    let pieces = length.div_ceil(piece);
    let target = Shared(out.data.as_mut_ptr());
    (0..batches * pieces).into_par_iter().for_each(|task| {
        let (batch, start) = (task / pieces, task % pieces * piece);
        let size = piece.min(length - start);
        let (a, b) = of_batch(batch);
        assert!(a.rows == m && b.cols == n, "{m}x{n} = {}x{} times {}x{}", a.rows, a.cols, b.rows, b.cols);
        let (a, b, out_at) = match by_rows {
            true => (a.rows(start, size), b, start * out.row_stride),
            false => (a, b.cols(start, size), start),
        };
        let first = target.at(batch * batch_stride + out_at);
        // SAFETY: `check` held the outputs inside their slice, the piece lies inside its output, and pieces and batches of
        // it are disjoint.
        product(unsafe { Block::new(first, (a.rows, b.cols), (out.row_stride, 1)) }, a, b, into);
    });
}

/// Outputs are cut at multiples of it: the widest vector's elements, so that those of a row are in the same vector however it is cut.
pub const CUT: usize = 16;

/// Rows or columns of an output that one task makes: some sixteen pieces in all, so that a dozen cores have work.
pub fn piece(length: usize, batches: usize) -> usize {
    let piece = (length * batches).div_ceil(16).next_multiple_of(CUT).max(3 * CUT);
    // Of one size as far as that goes.
    length.div_ceil(length.div_ceil(piece).max(1)).next_multiple_of(CUT)
}

/// out = a b, or out += a b, in one piece on one core.
pub fn serial<T: Real>(out: MatMut<T>, a: Mat<T>, b: Mat<T>, into: Into) {
    product(Block::of(out), a, b, into);
}

/// Elements that nothing else uses meanwhile, with strides: what one task writes.
pub struct Block<'a, T> {
    first: *mut T,
    size: (usize, usize),
    strides: (usize, usize),
    borrowed: PhantomData<&'a mut T>,
}

impl<'a, T> Block<'a, T> {
    // SAFETY: the caller sees to it that `first` leads to so many rows and columns at these strides, and that nothing else uses
    // them for as long.
    unsafe fn new(first: *mut T, size: (usize, usize), strides: (usize, usize)) -> Self {
        Self { first, size, strides, borrowed: PhantomData }
    }

    /// All of a view.
    pub fn of(view: MatMut<'a, T>) -> Self {
        // SAFETY: the view was checked against its slice, which is borrowed for writing.
        unsafe { Self::new(view.data.as_mut_ptr(), (view.rows, view.cols), (view.row_stride, 1)) }
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Whether the elements of a row are neighbours.
    pub fn has_rows(&self) -> bool {
        self.strides.1 == 1
    }

    fn t(self) -> Self {
        let ((rows, cols), (row, col)) = (self.size, self.strides);
        Self { size: (cols, rows), strides: (col, row), ..self }
    }

    /// `count` elements of a row whose elements are neighbours.
    #[inline(always)]
    pub fn part(&mut self, row: usize, col: usize, count: usize) -> &mut [T] {
        assert!(self.strides.1 == 1 && row < self.size.0 && col + count <= self.size.1, "a part lies inside its block");
        // SAFETY: these elements are the block's, and it is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.strides.0 + col), count) }
    }
}

/// Elements of a sum from which turning a product pays.
const LONG: usize = 64;

fn product<T: Real>(mut out: Block<T>, a: Mat<T>, b: Mat<T>, into: Into) {
    let fits = a.cols == b.rows && out.size == (a.rows, b.cols);
    assert!(fits, "{:?} = {}x{} times {}x{}", out.size, a.rows, a.cols, b.rows, b.cols);
    if tiles::fits(&out, a) {
        return tiles::product(&mut out, a, b, into);
    }
    // The library is slow at A^T B. It makes the transpose of the output as fast as any, which is then turned while the cache has it.
    let turns = a.row_stride == 1 && a.col_stride > 1 && b.col_stride == 1 && a.rows >= b.cols;
    if !turns || a.cols < LONG || into == Into::Add {
        return library(out, a, b, into);
    }
    let (m, n) = (a.rows, b.cols);
    T::with_scratch(m * n, |turned| {
        library(Block::of(MatMut::new(turned, m)).t(), a, b, Into::Overwrite);
        // Some columns at a time, whose lines then stay in the innermost cache.
        const COLUMNS: usize = 16;
        for first in (0..n).step_by(COLUMNS) {
            let columns = &turned[first * m..];
            for row in 0..m {
                let part = out.part(row, first, COLUMNS.min(n - first));
                part.iter_mut().zip(columns[row..].iter().step_by(m)).for_each(|(out, &x)| *out = x);
            }
        }
    });
}

/// The library's product.
fn library<T: Real>(out: Block<T>, a: Mat<T>, b: Mat<T>, into: Into) {
    // SAFETY: the views are inside their slices, `product` held their sizes, and the block is its owner's.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.first,
            out.strides.1 as isize,
            out.strides.0 as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes_are_the_definition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (130, 50, 9), (50, 200, 64), (7, 3, 0)] {
            let a: Vec<f64> = (0..m * k).map(|i| (i % 13) as f64 - 6.0).collect();
            let b: Vec<f64> = (0..k * n).map(|i| (i % 11) as f64 - 5.0).collect();
            let mut expected = vec![0.0; m * n];
            for (i, out) in expected.iter_mut().enumerate() {
                *out = (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum();
            }
            let (a, b) = (Mat::strided(&a, m, k, k), Mat::strided(&b, k, n, n));
            let mut out = vec![1.0; m * n];
            matmul(MatMut::new(&mut out, n), a, b, Into::Overwrite);
            assert_eq!(out, expected);
            let mut transposed = vec![1.0; m * n];
            matmul(MatMut::new(&mut transposed, m), b.t(), a.t(), Into::Add);
            assert!((0..m * n).all(|i| transposed[i % n * m + i / n] == expected[i] + 1.0));
        }
    }

    #[test]
    fn a_long_product_of_a_transpose_is_turned_and_turned_back() {
        let (m, n, k) = (70, 37, LONG + 9);
        let a: Vec<f64> = (0..k * m).map(|i| (i % 13) as f64 - 6.0).collect();
        let b: Vec<f64> = (0..k * n).map(|i| (i % 11) as f64 - 5.0).collect();
        let stride = n + 2;
        let mut out = vec![7.0; m * stride];
        let view = MatMut::strided(&mut out, m, n, stride);
        matmul(view, Mat::new(&a, m).t(), Mat::new(&b, n), Into::Overwrite);
        for (i, row) in out.chunks(stride).enumerate() {
            let expected = |j| (0..k).map(|l| a[l * m + i] * b[l * n + j]).sum::<f64>();
            assert!((0..n).all(|j| row[j] == expected(j)) && row[n..] == [7.0; 2], "row {i}");
        }
    }

    #[test]
    fn how_a_product_is_cut_does_not_change_a_bit() {
        // Cut by columns and by rows; columns after whole vectors, few and more; more terms than a panel has.
        for (m, n, k) in
            [(20, 100, 300), (20, 99, 300), (20, 105, 7), (100, 20, 300), (130, 113, 300), (100, 9, 20), (3, 200, 5)]
        {
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.71).cos()).collect();
            for case in 0..4 {
                let a = if case % 2 == 0 { Mat::strided(&a, m, k, k) } else { Mat::strided(&a, k, m, m).t() };
                let b = if case < 2 { Mat::strided(&b, k, n, n) } else { Mat::strided(&b, n, k, k).t() };
                let (mut cut, mut whole) = (vec![0.0; m * n], vec![0.0; m * n]);
                matmul(MatMut::new(&mut cut, n), a, b, Into::Overwrite);
                serial(MatMut::new(&mut whole, n), a, b, Into::Overwrite);
                assert!(cut == whole, "{m}x{n}x{k}, case {case}");
            }
        }
    }

    #[test]
    fn products_in_f32_are_those_in_f64() {
        for (m, n, k) in [(1, 1, 1), (7, 4, 9), (9, 37, 300), (64, 113, 20), (6, 16, 0), (50, 23, 257)] {
            // Rows with gaps.
            let number = |i: usize, by: f32| (i as f32 * by).sin();
            let a: Vec<f32> = (0..m * (k + 2)).map(|i| number(i, 0.37)).collect();
            let b: Vec<f32> = (0..k * (n + 1)).map(|i| number(i, 0.71)).collect();
            let [wide_a, wide_b] = [&a, &b].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
            for into in [Into::Overwrite, Into::Add] {
                let (mut out, mut wide) = (vec![0.25f32; m * n], vec![0.25f64; m * n]);
                let (of_a, of_b) = (Mat::strided(&a, m, k, k + 2), Mat::strided(&b, k, n, n + 1));
                matmul(MatMut::new(&mut out, n), of_a, of_b, into);
                let (of_a, of_b) = (Mat::strided(&wide_a, m, k, k + 2), Mat::strided(&wide_b, k, n, n + 1));
                matmul(MatMut::new(&mut wide, n), of_a, of_b, into);
                let bound = f64::from(f32::EPSILON) * (k + 1) as f64;
                assert!(out.iter().zip(&wide).all(|(&x, &y)| (f64::from(x) - y).abs() <= bound), "{m}x{n}x{k}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "times")]
    fn matrices_that_do_not_fit_are_refused() {
        let (mut out, a, b) = ([0f32; 4], [1f32; 6], [1f32; 8]);
        serial(MatMut::new(&mut out, 2), Mat::new(&a, 3), Mat::new(&b, 2), Into::Overwrite);
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (m, n, k) = (300, 70, 513);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.71).cos()).collect();
        let product = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; m * n];
            pool.install(|| matmul(MatMut::new(&mut out, n), Mat::new(&a, k), Mat::new(&b, n), Into::Overwrite));
            out
        };
        assert!(product(1) == product(2) && product(2) == product(5));
    }
}
