//! Where calls that work on matrices find them in their tensors: a product's factors, a copy's source and destination.

use super::find;
use crate::matrices::Operand;
use crate::model::{Axis, Sizes, whole4};
use anyhow::{Result, bail};

/// What a call is done once for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Per {
    /// The tensors are its matrices.
    Model,
    /// Every head has matrices of its own: of a tensor [head, ..] its part, of the axis z its d_head columns or rows; what has
    /// neither is shared.
    Head,
}

/// A tensor, or a view of one, as matrices.
///
/// # Errors
/// Its axes are no matrix.
pub fn operand(name: &str, per: Per, sizes: &Sizes) -> Result<Operand> {
    let tensor = find(name)?;
    let (axes, terms) = (tensor.summed_axes(), tensor.terms(sizes));
    let size = |axis: Axis| axis.size(sizes);
    let d_head = |axis: Axis| if axis == Axis::Z4 { whole4(sizes.shape.d_head()) } else { size(axis) };
    let (rows, columns, heads) = match (per, axes) {
        (Per::Head, &[Axis::Head, rows, columns]) => (size(rows), size(columns), Some(Axis::Head)),
        (Per::Head, &[Axis::Head, columns]) => (1, size(columns), Some(Axis::Head)),
        (Per::Head, &[rows @ Axis::Z4, columns]) => (d_head(rows), size(columns), Some(Axis::Z4)),
        (Per::Head, &[rows, columns @ Axis::Z4]) => (size(rows), d_head(columns), Some(Axis::DHead)),
        (_, &[rows, columns]) => (size(rows), size(columns), None),
        (_, &[columns]) => (1, size(columns), None),
        (per, axes) => bail!("{name} with axes {axes:?} is no matrix per {per:?}"),
    };
    let whole = tensor.whole();
    let row = match whole.summed_axes() {
        // The last axis, of which a head may have a part.
        [.., last] => size(*last),
        [] => 1,
    };
    let head = match heads {
        Some(Axis::DHead) => columns,
        Some(_) => rows * row,
        None => 0,
    };
    let at = tensor.within.map_or(0, |within| within.row.place(sizes) * row + within.column.place(sizes));
    let len = whole.len(sizes);
    let parts = if terms.is_some() { size(tensor.axes[0]) } else { 1 };
    Ok(Operand {
        at,
        len,
        rows,
        columns,
        row,
        head,
        parts,
        part: if terms.is_some() { len / parts.max(1) } else { 0 },
        terms: terms.unwrap_or(0),
        of_rows: axes.first() == Some(&Axis::Row),
    })
}
