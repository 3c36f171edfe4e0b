//! Twin of `copy.wgsl`: parameters in whole vec4s, their gradients back, and the counter of updates.

use super::{Context, Real, Twin, add, twin};
use crate::matrices::Operand;

/// The twin of an entry point of `copy.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "pad" => twin!(pad, read[from], write[into]),
        "narrow" => twin!(narrow, read[from], write[into]),
        "narrow_outer" => twin!(narrow_outer, read [from, x, y], write [into]),
        "narrow_both" => twin!(narrow_both, read [from, also, x, y], write [into]),
        "outer" => twin!(outer, read [x, y], write [into]),
        "tick" => twin!(tick, count[step]),
        _ => return None,
    })
}

/// step += 1
fn tick(_: &Context, step: &mut [u32]) {
    step[0] += 1;
}

fn factor<T: Real>(cx: &Context) -> T {
    T::of(cx.copies.factor.number(cx.shape.d_head()))
}

/// Calls `f` with each head's rows of what is written: the head, the row, and its elements.
fn written<T: Real>(cx: &Context, tensor: &mut [T], mut f: impl FnMut(usize, usize, &mut [T])) {
    let into = cx.copies.into;
    for head in 0..cx.copies.heads {
        let first = into.at + head * into.head;
        for row in 0..into.rows {
            f(head, row, &mut tensor[first + row * into.row..][..into.columns]);
        }
    }
}

/// A row of a source, as long as the source has columns; empty beyond its last row.
fn source<T>(tensor: &[T], operand: Option<Operand>, head: usize, row: usize) -> &[T] {
    match operand.filter(|operand| row < operand.rows) {
        Some(operand) => &tensor[operand.at + head * operand.head + row * operand.row..][..operand.columns],
        None => &[],
    }
}

/// into = factor * from, 0 beyond its edges
fn pad<T: Real>(cx: &Context, from: &[T], into: &mut [T]) {
    let (operand, factor) = (cx.copies.from, factor::<T>(cx));
    written(cx, into, |head, row, out| {
        out.fill(T::zero());
        for (out, &x) in out.iter_mut().zip(source(from, operand, head, row)) {
            *out = x * factor;
        }
    });
}

/// out = the sum of the parts of a source
fn put_parts<T: Real>(tensor: &[T], operand: Option<Operand>, head: usize, row: usize, out: &mut [T]) {
    let Some(operand) = operand else { return };
    for part in 0..operand.parts {
        let of_part = Operand { at: operand.at + part * operand.part, ..operand };
        let line = source(tensor, Some(of_part), head, row);
        match part {
            0 => out.copy_from_slice(&line[..out.len()]),
            _ => add(out, line),
        }
    }
}

/// out += factor x[row] y
fn add_outer<T: Real>(cx: &Context, x: &[T], y: &[T], head: usize, row: usize, out: &mut [T]) {
    let (of_rows, of_columns) = (cx.copies.x.unwrap_or_default(), cx.copies.y.unwrap_or_default());
    let x = factor::<T>(cx) * x[of_rows.at + head * of_rows.head + row];
    super::add_scaled(out, x, &y[of_columns.at + head * of_columns.head..]);
}

/// into = from
fn narrow<T: Real>(cx: &Context, from: &[T], into: &mut [T]) {
    written(cx, into, |head, row, out| put_parts(from, cx.copies.from, head, row, out));
}

/// into = from + x^T y
fn narrow_outer<T: Real>(cx: &Context, from: &[T], x: &[T], y: &[T], into: &mut [T]) {
    written(cx, into, |head, row, out| {
        put_parts(from, cx.copies.from, head, row, out);
        add_outer(cx, x, y, head, row, out);
    });
}

/// into = from + also + x^T y
fn narrow_both<T: Real>(cx: &Context, from: &[T], also: &[T], x: &[T], y: &[T], into: &mut [T]) {
    let mut sum = vec![T::zero(); cx.copies.into.columns];
    written(cx, into, |head, row, out| {
        put_parts(from, cx.copies.from, head, row, out);
        put_parts(also, cx.copies.also, head, row, &mut sum);
        add(out, &sum);
        add_outer(cx, x, y, head, row, out);
    });
}

/// into = factor x^T y
fn outer<T: Real>(cx: &Context, x: &[T], y: &[T], into: &mut [T]) {
    written(cx, into, |head, row, out| {
        out.fill(T::zero());
        add_outer(cx, x, y, head, row, out);
    });
}
