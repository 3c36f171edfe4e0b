//! The seam to the matrix-product library: views with strides, and a product spread over the cores.

use super::Real;
use rayon::prelude::*;

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
}

/// The matrix that a product is written to: rows of `cols` elements, `row_stride` apart.
pub struct MatMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    pub fn new(data: &'a mut [T], cols: usize) -> Self {
        let rows = data.len() / cols;
        Self::strided(data, rows, cols, cols)
    }

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
    Overwrite,
    Add,
}

/// Pointer to the output, shared by tasks that write disjoint blocks of it.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: every task of `matmul` writes the rows or columns of its own chunk only.
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
/// The longer side of an output is cut into chunks whose size follows from the shapes alone and each chunk is one serial
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
    // Some sixteen pieces in all, so that a dozen cores have work.
    let chunk = (length * batches).div_ceil(16).next_multiple_of(16).max(48);
    let chunks = length.div_ceil(chunk);
    let target = Shared(out.data.as_mut_ptr());
    (0..batches * chunks).into_par_iter().for_each(|task| {
        let (batch, start) = (task / chunks, task % chunks * chunk);
        let size = chunk.min(length - start);
        let (a, b) = of_batch(batch);
        let k = a.cols;
        assert!(a.rows == m && b.cols == n && b.rows == k, "{m}x{n} = {}x{k} times {}x{}", a.rows, b.rows, b.cols);
        let (rows, cols, a_at, b_at, out_at) = match by_rows {
            true => (size, n, start * a.row_stride, 0, start * out.row_stride),
            false => (m, size, 0, start * b.col_stride, start),
        };
        // SAFETY: `check` held the views inside their slices, the chunk lies inside the view, and chunks and batches of
        // the output are disjoint.
        unsafe {
            gemm::gemm(
                rows,
                cols,
                k,
                target.at(batch * batch_stride + out_at),
                1,
                out.row_stride as isize,
                into == Into::Add,
                a.data.as_ptr().wrapping_add(a_at),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().wrapping_add(b_at),
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
    });
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
