//! Twin of `product.wgsl`: the products of the composed program, each a list of matrices of one shape.

use super::matmul::{Into, Mat, MatMut, matmuls, piece, serial};
use super::{Context, Real, Twin, add, twin, wide};
use crate::matrices::{Operand, RowsAre};
use rayon::prelude::*;
use std::borrow::Cow;

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
    let (width, (a, b)) = (cx.product.j, matrices(cx, Form::NT, a, b, 0, 0));
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

/// The products of all heads, each in parts that sum over a chunk of k.
fn batched<T: Real>(cx: &Context, form: Form, a: &[T], b: &[T], c: &mut [T], into: Into) {
    let g = cx.product;
    let (i, chunks) = (rows_of_c(cx), terms(cx).div_ceil(g.chunk).max(1));
    let (a, b) = (summed(a, &g.a), summed(b, &g.b));
    let c = &mut c[g.c.at..];
    if !cx.spread {
        assert!((g.heads, chunks) == (1, 1), "a chunk of rows has one product");
        let (a, b) = matrices(cx, form, &a, &b, 0, 0);
        return serial(MatMut::strided(c, i, g.j, g.c.row), a, b, into);
    }
    if g.heads == 1 {
        let of_chunk = |chunk| matrices(cx, form, &a, &b, 0, chunk);
        matmuls(MatMut::strided(c, i, g.j, g.c.row), chunks, g.c.part, of_chunk, into);
    } else {
        for chunk in 0..chunks {
            let of_head = |head| matrices(cx, form, &a, &b, head, chunk);
            let part = &mut c[chunk * g.c.part..];
            matmuls(MatMut::strided(part, i, g.j, g.c.row), g.heads, g.c.head, of_head, into);
        }
    }
    // C has whole vec4s where the factor has a row for each head.
    if g.j < g.c.columns {
        c.chunks_mut(g.c.row).for_each(|row| row[g.j..].fill(T::zero()));
    }
}

/// A factor, or the sum of its parts.
fn summed<'a, T: Real>(tensor: &'a [T], operand: &Operand) -> Cow<'a, [T]> {
    if operand.parts == 1 {
        return Cow::Borrowed(tensor);
    }
    let mut parts = tensor.chunks_exact(operand.part);
    let mut sum = parts.next().map(<[T]>::to_vec).unwrap_or_default();
    parts.for_each(|part| add(&mut sum, part));
    Cow::Owned(sum)
}

/// Rows of C: those of the batch if its rows are the product's `i`, else all.
fn rows_of_c(cx: &Context) -> usize {
    if cx.product.rows_are == RowsAre::I { cx.rows } else { cx.product.i }
}

/// Terms of each sum: rows of the batch if those are the product's `k`.
fn terms(cx: &Context) -> usize {
    if cx.product.rows_are == RowsAre::K { cx.rows } else { cx.product.k }
}

/// The factors of one of the products, transposed as it takes them.
fn matrices<'a, T: Real>(
    cx: &Context,
    form: Form,
    a: &'a [T],
    b: &'a [T],
    head: usize,
    chunk: usize,
) -> (Mat<'a, T>, Mat<'a, T>) {
    let g = cx.product;
    let (i, first) = (rows_of_c(cx), chunk * g.chunk);
    let k = g.chunk.min(terms(cx) - first);
    let (a, b) = (&a[g.a.at + head * g.a.head..], &b[g.b.at + head * g.b.head..]);
    let a = match form {
        Form::TN => Mat::strided(&a[first * g.a.row..], k, i, g.a.row).t(),
        _ => Mat::strided(&a[first..], i, k, g.a.row),
    };
    let b = match form {
        Form::NT => Mat::strided(&b[first..], g.j, k, g.b.row).t(),
        _ => Mat::strided(&b[first * g.b.row..], k, g.j, g.b.row),
    };
    (a, b)
}
