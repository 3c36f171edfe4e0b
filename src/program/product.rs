//! The lines of a program that are matrix products, and where they find their matrices.

use super::{Call, Over, find, run};
use crate::cpu::product::{Geometry, Operand, RowsAre};
use crate::model::{Axis, CHUNK, Sizes, Tensor, whole4};
use anyhow::{Result, bail, ensure};

/// What a product is done once for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Per {
    /// The tensors are its matrices.
    Model,
    /// Every head has a product of its own: of a tensor [head, ..] its part, of the axis z its d_head columns or rows; what has
    /// neither is shared.
    Head,
    /// Every [`CHUNK`] rows of the batch, C having a part for each.
    Chunk,
}

/// Whether a product is added to what is in C.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Adds {
    /// It is added.
    Yes,
    /// It takes its place.
    No,
}

/// `product.entry` of A and B into C.
pub fn product(entry: &'static str, [a, b, c]: [&'static str; 3], per: Per) -> Call {
    run("product", entry, Over::Product(per, Adds::No)).with(&[("A", a), ("B", b), ("C", c)])
}

/// C += A B.
pub fn adding([a, b, c]: [&'static str; 3]) -> Call {
    Call { over: Over::Product(Per::Model, Adds::Yes), ..product("nn", [a, b, c], Per::Model) }
}

/// The same as `product`, C being 0 where the tensor `gate` is not positive.
pub fn gated(entry: &'static str, [a, b, c]: [&'static str; 3], gate: &'static str) -> Call {
    let call = product(entry, [a, b, c], Per::Model);
    let roles = [call.roles, vec![("gate", gate)]].concat();
    Call { roles, ..call }
}

/// A tensor as a matrix for each batch.
struct View {
    rows: usize,
    cols: usize,
    /// Whether its rows count rows of the batch.
    of_rows: bool,
    operand: Operand,
}

impl View {
    fn new(tensor: &Tensor, per: Per, sizes: &Sizes) -> Result<Self> {
        let d_head4 = whole4(sizes.shape.d_head());
        let size = |axis: Axis| axis.size(sizes);
        let len = tensor.len(sizes);
        Ok(match (per, tensor.axes) {
            (Per::Head, &[Axis::Head, rows, cols]) | (Per::Chunk, &[Axis::Chunk, rows, cols]) => Self {
                rows: size(rows),
                cols: size(cols),
                of_rows: false,
                operand: Operand { len, row: size(cols), batch: size(rows) * size(cols) },
            },
            (Per::Head, &[Axis::Z4, cols]) => Self {
                rows: d_head4,
                cols: size(cols),
                of_rows: false,
                operand: Operand { len, row: size(cols), batch: d_head4 * size(cols) },
            },
            (Per::Head, &[rows, Axis::Z4]) => Self {
                rows: size(rows),
                cols: d_head4,
                of_rows: false,
                operand: Operand { len, row: size(Axis::Z4), batch: d_head4 },
            },
            (Per::Chunk, &[Axis::Row, cols]) => Self {
                rows: CHUNK,
                cols: size(cols),
                of_rows: true,
                operand: Operand { len, row: size(cols), batch: CHUNK * size(cols) },
            },
            (_, &[rows, cols]) => Self {
                rows: size(rows),
                cols: size(cols),
                of_rows: rows == Axis::Row,
                operand: Operand { len, row: size(cols), batch: 0 },
            },
            (per, axes) => bail!("{} with axes {axes:?} is no matrix per {per:?}", tensor.name),
        })
    }
}

/// Where the matrices of a product stand; nothing for other kernels.
pub fn geometry(call: &Call, sizes: &Sizes) -> Result<Option<Geometry>> {
    let Over::Product(per, adds) = call.over else { return Ok(None) };
    let batches = match per {
        Per::Model => 1,
        Per::Head => sizes.shape.n_heads,
        // Reflection asks without rows.
        Per::Chunk => Axis::Chunk.size(sizes).max(1),
    };
    let view = |role: &str| View::new(find(call.tensor(role))?, per, sizes);
    let (a, b, c) = (view("A")?, view("B")?, view("C")?);
    let ((i, k), (k_of_b, j)) = match call.entry {
        "nn" => ((a.rows, a.cols), (b.rows, b.cols)),
        "nt" | "nt_gated" => ((a.rows, a.cols), (b.cols, b.rows)),
        "tn" => ((a.cols, a.rows), (b.rows, b.cols)),
        other => bail!("product.{other} has no geometry"),
    };
    ensure!(
        k == k_of_b && i == c.rows && j == c.cols,
        "product.{} of {:?}: {i} x {k} times {k_of_b} x {j} is not {} x {}",
        call.entry,
        call.roles,
        c.rows,
        c.cols
    );
    let rows_are = match (call.entry, a.of_rows) {
        (_, false) => RowsAre::Neither,
        ("tn", true) => RowsAre::K,
        (_, true) => RowsAre::I,
    };
    let adds = adds == Adds::Yes;
    Ok(Some(Geometry { batches, i, j, k, rows_are, adds, a: a.operand, b: b.operand, c: c.operand }))
}
