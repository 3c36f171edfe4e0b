//! Twin of `product.wgsl`: the products of the composed program, each a list of matrices of one shape.

use super::matmul::{Into, Mat, MatMut, matmuls, piece, serial};
use super::{Context, Real, Twin, twin, wide};
use rayon::prelude::*;

/// Where a product's matrices stand in their tensors, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Geometry {
    /// Matrices one after the other: one, or one for each head or chunk of rows.
    pub batches: usize,
    /// C is [i, j], and k is summed over.
    pub i: usize,
    /// Columns of C.
    pub j: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Which of the sizes counts rows of the batch, of which a model may have fewer.
    pub rows_are: RowsAre,
    /// Whether the product is added to what is in C.
    pub adds: bool,
    /// The left factor.
    pub a: Operand,
    /// The right factor.
    pub b: Operand,
    /// What the product goes into.
    pub c: Operand,
}

/// The size that is a model's number of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RowsAre {
    /// None: all models' are equal.
    #[default]
    Neither,
    /// Rows of C.
    I,
    /// Terms of each sum.
    K,
}

/// How a factor or the product lies in its tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operand {
    /// Elements of a model's part of the tensor.
    pub len: usize,
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one batch to the next.
    pub batch: usize,
}

/// The twin of an entry point of `product.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "nn" => twin!(nn, read [A, B], write [C]).by_rows(),
        "nt" => twin!(nt, read [A, B], write [C]),
        "nt_gated" => twin!(nt_gated, read [A, B, gate], write [C]).by_rows(),
        "tn" => twin!(tn, read [A, B], write [C]).by_rows(),
        _ => return None,
    })
}

/// C = A B, or C += A B
fn nn<T: Real>(cx: &Context, a: &[T], b: &[T], c: &mut [T]) {
    batched(cx, Form::NN, a, b, c, if cx.product.adds { Into::Add } else { Into::Overwrite });
}

/// C = A B^T
fn nt<T: Real>(cx: &Context, a: &[T], b: &[T], c: &mut [T]) {
    batched(cx, Form::NT, a, b, c, Into::Overwrite);
}

/// C = A B^T where gate > 0, else 0. A piece of C is gated while the cache has it.
fn nt_gated<T: Real>(cx: &Context, a: &[T], b: &[T], gate: &[T], c: &mut [T]) {
    let (width, (a, b)) = (cx.product.j, matrices(cx, Form::NT, a, b, 0));
    let i = rows_of_c(cx);
    let piece = if cx.spread { piece(i, 1) } else { i };
    let (c, gate) = (&mut c[..i * width], &gate[..i * width]);
    let pieces = c.par_chunks_mut(piece * width).zip(gate.par_chunks(piece * width));
    pieces.enumerate().for_each(|(index, (out, gate))| {
        let rows = out.len() / width;
        serial(MatMut::new(out, width), a.rows(index * piece, rows), b, Into::Overwrite);
        wide::gate(gate, out);
    });
}

/// C = A^T B
fn tn<T: Real>(cx: &Context, a: &[T], b: &[T], c: &mut [T]) {
    batched(cx, Form::TN, a, b, c, Into::Overwrite);
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    NN,
    NT,
    TN,
}

fn batched<T: Real>(cx: &Context, form: Form, a: &[T], b: &[T], c: &mut [T], into: Into) {
    let g = cx.product;
    let i = rows_of_c(cx);
    let of_batch = |batch| matrices(cx, form, a, b, batch);
    if !cx.spread {
        let (a, b) = of_batch(0);
        return serial(MatMut::strided(c, i, g.j, g.c.row), a, b, into);
    }
    matmuls(MatMut::strided(c, i, g.j, g.c.row), g.batches, g.c.batch, of_batch, into);
}

/// Rows of C: those of the batch if its rows are the product's `i`, else all.
fn rows_of_c(cx: &Context) -> usize {
    if cx.product.rows_are == RowsAre::I { cx.rows } else { cx.product.i }
}

/// The factors of one of the products, transposed as it takes them.
fn matrices<'a, T: Real>(cx: &Context, form: Form, a: &'a [T], b: &'a [T], batch: usize) -> (Mat<'a, T>, Mat<'a, T>) {
    let g = cx.product;
    let i = rows_of_c(cx);
    let k = if g.rows_are == RowsAre::K { g.k.min(cx.rows - batch * g.k) } else { g.k };
    let (a, b) = (&a[batch * g.a.batch..], &b[batch * g.b.batch..]);
    let a = match form {
        Form::TN => Mat::strided(a, k, i, g.a.row).t(),
        _ => Mat::strided(a, i, k, g.a.row),
    };
    let b = match form {
        Form::NT => Mat::strided(b, g.j, k, g.b.row).t(),
        _ => Mat::strided(b, k, g.j, g.b.row),
    };
    (a, b)
}
