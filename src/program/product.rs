//! The lines of a program that are matrix products, and where they find their matrices.

use super::geometry::{Per, operand};
use super::{Call, Over, run};
use crate::matrices::{Geometry, RowsAre};
use crate::model::Sizes;
use anyhow::{Result, bail, ensure};

/// Whether a product is added to what is in C.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adds {
    /// It is added.
    Yes,
    /// It takes its place.
    No,
}

/// `product.entry` of A and B into C: `nn` is A B, `nt` A B^T, `tn` A^T B. Where C is parts of a sum, each is summed over a chunk of k; a
/// factor that is parts of a sum is added up first.
pub fn product(entry: &'static str, [a, b, c]: [&'static str; 3], per: Per) -> Call {
    run("product", entry, Over::Product(per, Adds::No))
        .with(&[("A", a), ("B", b), ("C", c)])
        .reads(&[a, b])
        .writes(&[c])
}

/// C += A B.
pub fn adding([a, b, c]: [&'static str; 3]) -> Call {
    let call = product("nn", [a, b, c], Per::Model);
    Call { over: Over::Product(Per::Model, Adds::Yes), writes: Vec::new(), ..call }.updates(&[c])
}

/// The same as `product`, C being 0 where the tensor `gate` is not positive.
pub fn gated(entry: &'static str, [a, b, c]: [&'static str; 3], gate: &'static str) -> Call {
    let call = product(entry, [a, b, c], Per::Model);
    let roles = [call.roles, vec![("gate", gate)]].concat();
    Call { roles, ..call }.reads(&[a, b, gate])
}

/// Where the matrices of a product stand; nothing for other kernels.
pub fn geometry(call: &Call, sizes: &Sizes) -> Result<Option<Geometry>> {
    let Over::Product(per, adds) = call.over else { return Ok(None) };
    let of_role = |role: &str| operand(call.tensor(role), per, sizes);
    let (a, b, c) = (of_role("A")?, of_role("B")?, of_role("C")?);
    let ((i, k), (k_of_b, j)) = match call.entry {
        "nn" => ((a.rows, a.columns), (b.rows, b.columns)),
        "nt" | "nt_gated" => ((a.rows, a.columns), (b.columns, b.rows)),
        "tn" => ((a.columns, a.rows), (b.rows, b.columns)),
        other => bail!("product.{other} has no geometry"),
    };
    // The heads, of which one of the two may be a number of whole vec4s.
    let fits = |of_factor: usize, of_c: usize| of_factor.next_multiple_of(4) == of_c.next_multiple_of(4);
    ensure!(
        k == k_of_b && fits(i, c.rows) && fits(j, c.columns),
        "product.{} of {:?}: {i} x {k} times {k_of_b} x {j} is not {} x {}",
        call.entry,
        call.roles,
        c.rows,
        c.columns
    );
    let rows_are = match (call.entry, a.of_rows) {
        (_, false) => RowsAre::Neither,
        ("tn", true) => RowsAre::K,
        (_, true) => RowsAre::I,
    };
    let heads = if per == Per::Head { sizes.shape.n_heads } else { 1 };
    let chunk = if c.terms > 0 { c.terms } else { k.max(1) };
    let (i, j) = (i.min(c.rows), j.min(c.columns));
    Ok(Some(Geometry { heads, i, j, k, chunk, rows_are, adds: adds == Adds::Yes, a, b, c }))
}
