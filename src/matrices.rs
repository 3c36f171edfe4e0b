//! Where a call finds its matrices in its tensors: numbers that programs make, and that twins and tables of kernels take.

/// How a matrix lies in its tensor, in elements. Of a view it is the tensor that the view is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Operand {
    /// Where the first matrix begins.
    pub at: usize,
    /// Of a model's part of the tensor.
    pub len: usize,
    /// Rows of a matrix.
    pub rows: usize,
    /// Columns of a matrix.
    pub columns: usize,
    /// From one row to the next.
    pub row: usize,
    /// From one head's matrix to the next.
    pub head: usize,
    /// Matrices that together are a sum. A factor that has several is their sum; a product into several writes one for each chunk of k.
    pub parts: usize,
    /// From one of those to the next.
    pub part: usize,
    /// Terms of a part; 0 where there is one matrix.
    pub terms: usize,
    /// Whether its rows count rows of the batch, of which a model may have fewer.
    pub of_rows: bool,
}

/// The matrices of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Geometry {
    /// Products with the same sizes: one, or one for each head.
    pub heads: usize,
    /// C is [i, j], and k is summed over.
    pub i: usize,
    /// Columns of C.
    pub j: usize,
    /// Terms of each sum.
    pub k: usize,
    /// Terms that one part of C sums over; k or more where C has one part.
    pub chunk: usize,
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

/// The matrices of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Copies {
    /// Copies with the same sizes: one, or one for each head.
    pub heads: usize,
    /// What they are multiplied by.
    pub factor: Factor,
    /// A source; none where the call does not name it, as with the others.
    pub from: Option<Operand>,
    /// A second source.
    pub also: Option<Operand>,
    /// The left factor of an outer product, a number for each row.
    pub x: Option<Operand>,
    /// The right factor, a number for each column.
    pub y: Option<Operand>,
    /// What is written, all of it.
    pub into: Operand,
}

/// What numbers are multiplied by on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Factor {
    /// 1
    #[default]
    One,
    /// 1 / sqrt(d_head)
    Attention,
}

impl Factor {
    /// As a number.
    pub fn number(self, d_head: usize) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Attention => 1.0 / (d_head as f64).sqrt(),
        }
    }
}
