//! Twin of `orthonormal.wgsl`: the steps of Newton and Schulz, matrix by matrix.

use super::matmul::{Into, Mat, MatMut, matmul};
use super::{Context, Real, Twin, dot, twin};
use crate::model::{Axis, Sizes};

/// The twin of an entry point of `orthonormal.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "gather" => twin!(gather, read [d_W_Q, d_W_K, d_W_V, d_W_O, d_W_in, d_W_out], write [muon_x]),
        "normalize" => twin!(normalize, write[muon_x]),
        "gram" => twin!(gram, read[muon_x], write[muon_gram]),
        "poly" => twin!(poly, read[muon_gram], write[muon_poly]),
        "apply" => twin!(apply, read [muon_x, muon_poly], write [muon_y]),
        "scatter" => twin!(scatter, read [muon_x], write [d_W_Q, d_W_K, d_W_V, d_W_O, d_W_in, d_W_out]),
        _ => return None,
    })
}

const A: f64 = 3.4445;
const B: f64 = -4.775;
const C: f64 = 2.0315;

/// A matrix and where it stands.
struct Matrix {
    /// Its parameter: 0 to 5 for W_Q, W_K, W_V, W_O, W_in, W_out.
    which: usize,
    /// Its first element there.
    start: usize,
    rows: usize,
    cols: usize,
}

impl Matrix {
    fn short(&self) -> usize {
        self.rows.min(self.cols)
    }
    fn long(&self) -> usize {
        self.rows.max(self.cols)
    }
    /// Element (i, j) of the matrix with its shorter side first.
    fn place(&self, i: usize, j: usize) -> usize {
        self.start + if self.rows <= self.cols { i * self.cols + j } else { j * self.cols + i }
    }
}

fn matrices(cx: &Context) -> Vec<Matrix> {
    let (d, e, m, heads) = (cx.shape.d_model, cx.shape.d_head(), cx.shape.d_mlp, cx.shape.n_heads);
    let of_head = |which: usize, head: usize| {
        let (rows, cols) = if which == 3 { (e, d) } else { (d, e) };
        Matrix { which, start: head * d * e, rows, cols }
    };
    let of_heads = (0..4).flat_map(|which| (0..heads).map(move |head| of_head(which, head)));
    let of_mlp = [Matrix { which: 4, start: 0, rows: d, cols: m }, Matrix { which: 5, start: 0, rows: m, cols: d }];
    of_heads.chain(of_mlp).collect()
}

/// Sides of the room that each matrix has.
fn room(cx: &Context) -> (usize, usize) {
    let sizes = Sizes { shape: cx.shape, rows: cx.rows };
    (Axis::Short.size(&sizes), Axis::Long.size(&sizes))
}

/// X = the matrices
#[allow(clippy::too_many_arguments, non_snake_case, reason = "the tensors of the kernel, each by its name")]
fn gather<T: Real>(
    cx: &Context,
    d_W_Q: &[T],
    d_W_K: &[T],
    d_W_V: &[T],
    d_W_O: &[T],
    d_W_in: &[T],
    d_W_out: &[T],
    muon_x: &mut [T],
) {
    let (short, long) = room(cx);
    let parameters = [d_W_Q, d_W_K, d_W_V, d_W_O, d_W_in, d_W_out];
    for (m, x) in matrices(cx).iter().zip(muon_x.chunks_exact_mut(short * long)) {
        for (i, row) in x.chunks_exact_mut(long).take(m.short()).enumerate() {
            row[..m.long()].iter_mut().enumerate().for_each(|(j, x)| *x = parameters[m.which][m.place(i, j)]);
        }
    }
}

/// X = X / (|X| + 1e-7)
fn normalize<T: Real>(cx: &Context, muon_x: &mut [T]) {
    let (short, long) = room(cx);
    for (m, x) in matrices(cx).iter().zip(muon_x.chunks_exact_mut(short * long)) {
        let own = |row: &[T]| dot(&row[..m.long()], &row[..m.long()]);
        let norm = x.chunks_exact(long).take(m.short()).map(own).sum::<T>().sqrt() + T::of(1e-7);
        for row in x.chunks_exact_mut(long).take(m.short()) {
            row[..m.long()].iter_mut().for_each(|x| *x /= norm);
        }
    }
}

/// G = X X^T
fn gram<T: Real>(cx: &Context, muon_x: &[T], muon_gram: &mut [T]) {
    let (short, long) = room(cx);
    let each = muon_x.chunks_exact(short * long).zip(muon_gram.chunks_exact_mut(short * short));
    for (m, (x, gram)) in matrices(cx).iter().zip(each) {
        let (x, n) = (Mat::strided(x, m.short(), m.long(), long), m.short());
        matmul(MatMut::strided(gram, n, n, short), x, x.t(), Into::Overwrite);
    }
}

/// P = B G + C G G
fn poly<T: Real>(cx: &Context, muon_gram: &[T], muon_poly: &mut [T]) {
    let (short, _) = room(cx);
    let each = muon_gram.chunks_exact(short * short).zip(muon_poly.chunks_exact_mut(short * short));
    for (m, (gram, poly)) in matrices(cx).iter().zip(each) {
        let n = m.short();
        let g = Mat::strided(gram, n, n, short);
        matmul(MatMut::strided(poly, n, n, short), g, g, Into::Overwrite);
        for (poly, gram) in poly.chunks_exact_mut(short).zip(gram.chunks_exact(short)).take(n) {
            poly[..n].iter_mut().zip(gram).for_each(|(p, &g)| *p = T::of(B) * g + T::of(C) * *p);
        }
    }
}

/// Y = A X + P X
fn apply<T: Real>(cx: &Context, muon_x: &[T], muon_poly: &[T], muon_y: &mut [T]) {
    let (short, long) = room(cx);
    let factors = muon_x.chunks_exact(short * long).zip(muon_poly.chunks_exact(short * short));
    for (m, ((x, poly), y)) in matrices(cx).iter().zip(factors.zip(muon_y.chunks_exact_mut(short * long))) {
        let (n, width) = (m.short(), m.long());
        for (y, x) in y.chunks_exact_mut(long).zip(x.chunks_exact(long)).take(n) {
            y[..width].iter_mut().zip(x).for_each(|(y, &x)| *y = T::of(A) * x);
        }
        let (p, x) = (Mat::strided(poly, n, n, short), Mat::strided(x, n, width, long));
        matmul(MatMut::strided(y, n, width, long), p, x, Into::Add);
    }
}

/// The matrices = sqrt(max(1, columns / rows)) X
#[allow(clippy::too_many_arguments, non_snake_case, reason = "the tensors of the kernel, each by its name")]
fn scatter<T: Real>(
    cx: &Context,
    muon_x: &[T],
    d_W_Q: &mut [T],
    d_W_K: &mut [T],
    d_W_V: &mut [T],
    d_W_O: &mut [T],
    d_W_in: &mut [T],
    d_W_out: &mut [T],
) {
    let (short, long) = room(cx);
    let parameters = [d_W_Q, d_W_K, d_W_V, d_W_O, d_W_in, d_W_out];
    for (m, x) in matrices(cx).iter().zip(muon_x.chunks_exact(short * long)) {
        let scale = T::of((m.cols as f64 / m.rows as f64).max(1.0).sqrt());
        for (i, row) in x.chunks_exact(long).take(m.short()).enumerate() {
            row[..m.long()].iter().enumerate().for_each(|(j, &x)| parameters[m.which][m.place(i, j)] = scale * x);
        }
    }
}
