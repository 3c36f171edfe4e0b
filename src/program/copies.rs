//! The lines of a program that bring parameters into whole vec4s, and their gradients back.

use super::geometry::{Per, operand};
use super::{Call, Over, run};
use crate::matrices::{Copies, Factor};
use crate::model::Sizes;
use anyhow::Result;

/// `to` gets `from` in its first rows and columns, and 0 in the others, times a factor.
pub fn pad(from: &'static str, to: &'static str, per: Per, factor: Factor) -> Call {
    let call = run("copy", "pad", Over::Copy(per, factor));
    call.with(&[("from", from), ("into", to)]).reads(&[from]).writes(&[to])
}

/// `to` gets the first rows and columns of `from`.
pub fn narrow(from: &'static str, to: &'static str, per: Per) -> Call {
    let call = run("copy", "narrow", Over::Copy(per, Factor::One));
    call.with(&[("from", from), ("into", to)]).reads(&[from]).writes(&[to])
}

/// The same, and x^T y is added: element `[i, j]` gains `x[i] y[j]`.
pub fn narrow_outer(from: &'static str, [x, y]: [&'static str; 2], to: &'static str) -> Call {
    let call = run("copy", "narrow_outer", Over::Copy(Per::Model, Factor::One));
    call.with(&[("from", from), ("x", x), ("y", y), ("into", to)]).reads(&[from, x, y]).writes(&[to])
}

/// The same for the sum of two tensors.
pub fn narrow_both([from, also]: [&'static str; 2], [x, y]: [&'static str; 2], to: &'static str) -> Call {
    let call = run("copy", "narrow_both", Over::Copy(Per::Model, Factor::One));
    let roles = [("from", from), ("also", also), ("x", x), ("y", y), ("into", to)];
    call.with(&roles).reads(&[from, also, x, y]).writes(&[to])
}

/// `to` gets x^T y times a factor, for each head.
pub fn outer([x, y]: [&'static str; 2], to: &'static str, factor: Factor) -> Call {
    let call = run("copy", "outer", Over::Copy(Per::Head, factor));
    call.with(&[("x", x), ("y", y), ("into", to)]).reads(&[x, y]).writes(&[to])
}

/// Where the matrices of a copy stand; nothing for other kernels.
pub fn copies(call: &Call, sizes: &Sizes) -> Result<Option<Copies>> {
    let Over::Copy(per, factor) = call.over else { return Ok(None) };
    let of_role = |role: &str| {
        let found = call.roles.iter().find(|(other, _)| *other == role);
        found.map(|(_, tensor)| operand(tensor, per, sizes)).transpose()
    };
    Ok(Some(Copies {
        heads: if per == Per::Head { sizes.shape.n_heads } else { 1 },
        factor,
        from: of_role("from")?,
        also: of_role("also")?,
        x: of_role("x")?,
        y: of_role("y")?,
        into: operand(call.tensor("into"), per, sizes)?,
    }))
}
