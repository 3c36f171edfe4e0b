//! The table: every tensor of the network, with its name, axes and role.
//!
//! The names are the field's (TransformerLens, Nanda et al. 2023) and are the same in the shaders, the twins, the
//! programs and the files. Every tensor has a leading axis `model` besides the axes listed here. The gradient of `x` is
//! `d_x`, with the axes of `x`.

use crate::plan::Shape;

/// What an index of a tensor counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Pairs of the batch; an ensemble's models may have different numbers of them.
    Row,
    /// Three entries a row, one for each position, grouped by slot.
    RowPos,
    /// (token, position) pairs that occur: x at 0, y at 1, "=" at 2.
    Slot,
    /// Bounds between slots: one more than there are slots.
    SlotEdge,
    /// 0, 1, 2
    Pos,
    /// Attention heads.
    Head,
    /// Places of the residual stream.
    DModel,
    /// Places of a head.
    DHead,
    /// Neurons.
    DMlp,
    /// Input tokens, p + 1.
    DVocab,
    /// Output classes.
    DVocabOut,
    /// Widths rounded up to whole vec4s; what is added is zero.
    DModel4,
    /// Neurons, rounded up.
    DMlp4,
    /// Classes, rounded up.
    DVocabOut4,
    /// What the heads put out, end to end: (head, d_head rounded up to whole vec4s).
    Z4,
    /// What reads from the residual stream: the neurons, then the classes, each rounded up to whole vec4s.
    Reader,
    /// [`Sizes::chunk`] rows of the batch, over which a sum is begun.
    Chunk,
    /// [`SPLIT`] neurons, over which a sum is begun.
    MlpChunk,
    /// [`SPLIT`] readers, over which a sum is begun.
    ReaderChunk,
    /// A single place, of what is a matrix of one row.
    One,
    /// What the neurons get, and what the classes get.
    Two,
    /// Attention heads, rounded up.
    Head4,
    /// Updates that the host has prepared at a time.
    Window,
    /// Matrices that Muon makes orthogonal: one for each head of W_Q, W_K, W_V and W_O, then W_in and W_out.
    Matrix,
    /// The shorter side of the largest of them.
    Short,
    /// The longer side of the largest of them.
    Long,
    /// (matrix, place along its shorter side)
    MatrixShort,
}

/// Updates prepared at a time: the longest stretch of steps between two writes of the host.
pub const WINDOW: usize = 256;

/// Rows over which one workgroup sums a gradient, for p up to 327; the chunks' sums are added in their order. The CPU engine takes as many
/// through all lines that go by rows: they are whole tiles, and 3,830 rows are an even number of chunks.
pub const CHUNK: usize = 240;

/// Chunks of a grid of p * p rows, at most: each has a sum of its own in memory.
const MOST_CHUNKS: usize = 448;

/// Terms over which one workgroup sums an element of a small product, where there are more; the parts are added in their order. A multiple
/// of every tile's depth, and independent of the device and the number of models, so that neither changes a bit.
pub const SPLIT: usize = 128;

/// n rounded up to whole vec4s.
pub fn whole4(n: usize) -> usize {
    n.next_multiple_of(4)
}

/// The sizes that turn axes into numbers: the network's and the batch's.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// The network's sizes.
    pub shape: Shape,
    /// Rows of the batch; the largest number where an ensemble's models differ.
    pub rows: usize,
}

impl Sizes {
    /// Rows over which one workgroup sums a gradient: [`CHUNK`], or a multiple of it where p is large. It follows from p alone, because a model
    /// must have the same bits alone and beside models with more rows.
    pub fn chunk(&self) -> usize {
        CHUNK * (self.shape.p * self.shape.p).div_ceil(CHUNK * MOST_CHUNKS)
    }
}

impl Axis {
    /// How many places the axis has.
    pub fn size(self, sizes: &Sizes) -> usize {
        let shape = &sizes.shape;
        match self {
            Self::Row => sizes.rows,
            Self::RowPos => 3 * sizes.rows,
            Self::Slot => shape.n_slots(),
            Self::SlotEdge => shape.n_slots() + 1,
            Self::Pos => 3,
            Self::Head => shape.n_heads,
            Self::DModel => shape.d_model,
            Self::DHead => shape.d_head(),
            Self::DMlp => shape.d_mlp,
            Self::DVocab => shape.d_vocab(),
            Self::DVocabOut => shape.d_vocab_out,
            Self::DModel4 => whole4(shape.d_model),
            Self::DMlp4 => whole4(shape.d_mlp),
            Self::DVocabOut4 => whole4(shape.d_vocab_out),
            Self::Z4 => shape.n_heads * whole4(shape.d_head()),
            Self::Reader => whole4(shape.d_mlp) + whole4(shape.d_vocab_out),
            Self::Chunk => sizes.rows.div_ceil(sizes.chunk()),
            Self::MlpChunk => Self::DMlp4.size(sizes).div_ceil(SPLIT),
            Self::ReaderChunk => Self::Reader.size(sizes).div_ceil(SPLIT),
            Self::One => 1,
            Self::Two => 2,
            Self::Head4 => whole4(shape.n_heads),
            Self::Window => WINDOW,
            Self::Matrix => 4 * shape.n_heads + 2,
            Self::Short => shape.d_model.min(shape.d_mlp).max(shape.d_head()),
            Self::Long => shape.d_model.max(shape.d_mlp),
            Self::MatrixShort => Self::Matrix.size(sizes) * Self::Short.size(sizes),
        }
    }
}

/// Who owns a tensor and what its elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Trained; lives in the arena `params`.
    Parameter,
    /// Of a parameter; lives in the arena `grads`.
    Gradient,
    /// Float, made anew every step.
    Activation,
    /// Some rows and columns of an activation. Products and copies alone take it by its name.
    View,
    /// Unsigned integers that the host writes: the batch.
    Index,
    /// Unsigned integer that the device counts.
    Counter,
    /// Structs that the host writes.
    Record,
    /// Where the engine put things: the model that a block of an arena belongs to, the matrices of a product.
    Layout,
    /// All tensors of a kind end to end: `params`, `grads`, AdamW's moments, and what a gradient filter remembers.
    Arena,
}

/// A line of the table of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    /// The name that kernels and twins know it by.
    pub name: &'static str,
    /// Its axes for one model, the slowest first.
    pub axes: &'static [Axis],
    /// Where it lives and what it holds.
    pub role: Role,
    /// The tensor of which it is a part.
    pub within: Option<Within>,
}

/// The place of a view: some rows and columns of another tensor, from a first row and column on.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// The other tensor. It is no view itself.
    pub tensor: &'static str,
    /// The first row.
    pub row: Start,
    /// The first column.
    pub column: Start,
}

/// Where a view begins along an axis.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// At the beginning.
    First,
    /// At the last place of the axis.
    Last(Axis),
    /// After as many places as the axis has.
    After(Axis),
}

impl Start {
    /// As a number of places.
    pub fn place(self, sizes: &Sizes) -> usize {
        match self {
            Self::First => 0,
            Self::Last(axis) => axis.size(sizes) - 1,
            Self::After(axis) => axis.size(sizes),
        }
    }
}

/// A parameter's names and its rank in the arenas.
pub struct Parameter {
    /// The tensor's name, one of TransformerLens's short ones.
    pub name: &'static str,
    /// The name of its gradient's tensor.
    pub gradient: &'static str,
    /// The name in TransformerLens's state dict.
    pub lens: &'static str,
}

use Axis::*;
use Start::*;

/// The parameters, in the order of the arenas.
pub const PARAMETERS: [Parameter; 11] = [
    Parameter { name: "W_E", gradient: "d_W_E", lens: "embed.W_E" },
    Parameter { name: "W_pos", gradient: "d_W_pos", lens: "pos_embed.W_pos" },
    Parameter { name: "W_Q", gradient: "d_W_Q", lens: "blocks.0.attn.W_Q" },
    Parameter { name: "W_K", gradient: "d_W_K", lens: "blocks.0.attn.W_K" },
    Parameter { name: "W_V", gradient: "d_W_V", lens: "blocks.0.attn.W_V" },
    Parameter { name: "W_O", gradient: "d_W_O", lens: "blocks.0.attn.W_O" },
    Parameter { name: "W_in", gradient: "d_W_in", lens: "blocks.0.mlp.W_in" },
    Parameter { name: "b_in", gradient: "d_b_in", lens: "blocks.0.mlp.b_in" },
    Parameter { name: "W_out", gradient: "d_W_out", lens: "blocks.0.mlp.W_out" },
    Parameter { name: "b_out", gradient: "d_b_out", lens: "blocks.0.mlp.b_out" },
    Parameter { name: "W_U", gradient: "d_W_U", lens: "unembed.W_U" },
];

/// Biases that TransformerLens has and this model has not; files hold them as zeros.
pub const ABSENT_BIASES: &[(&str, &[Axis])] = &[
    ("blocks.0.attn.b_Q", &[Head, DHead]),
    ("blocks.0.attn.b_K", &[Head, DHead]),
    ("blocks.0.attn.b_V", &[Head, DHead]),
    ("blocks.0.attn.b_O", &[DModel]),
    ("unembed.b_U", &[DVocabOut]),
];

const fn row(name: &'static str, role: Role, axes: &'static [Axis]) -> Tensor {
    Tensor { name, axes, role, within: None }
}

const fn view(name: &'static str, axes: &'static [Axis], tensor: &'static str, row: Start, column: Start) -> Tensor {
    Tensor { name, axes, role: Role::View, within: Some(Within { tensor, row, column }) }
}

/// Every tensor of the programs. What ends in 4 has rows of whole vec4s.
pub const TENSORS: &[Tensor] = &[
    // The batch.
    row("n_rows", Role::Index, &[]),
    row("labels", Role::Index, &[Row]),
    // Slots that a row attends to; slot_rows lists the rows of each slot, slot s between slot_edges[s] and [s + 1].
    row("slots", Role::Index, &[Row, Pos]),
    row("slot_edges", Role::Index, &[SlotEdge]),
    row("slot_rows", Role::Index, &[RowPos]),
    // Parameters.
    row("W_E", Role::Parameter, &[DVocab, DModel]),
    row("W_pos", Role::Parameter, &[Pos, DModel]),
    row("W_Q", Role::Parameter, &[Head, DModel, DHead]),
    row("W_K", Role::Parameter, &[Head, DModel, DHead]),
    row("W_V", Role::Parameter, &[Head, DModel, DHead]),
    row("W_O", Role::Parameter, &[Head, DHead, DModel]),
    row("W_in", Role::Parameter, &[DModel, DMlp]),
    row("b_in", Role::Parameter, &[DMlp]),
    row("W_out", Role::Parameter, &[DMlp, DModel]),
    row("b_out", Role::Parameter, &[DModel]),
    row("W_U", Role::Parameter, &[DModel, DVocabOut]),
    // Forward. The query is that of "=", at position 2.
    row("resid_pre", Role::Activation, &[Slot, DModel]),
    row("q", Role::Activation, &[Head, DHead]),
    row("k", Role::Activation, &[Slot, Head, DHead]),
    row("v", Role::Activation, &[Slot, Head, DHead]),
    row("pattern", Role::Activation, &[Row, Head, Pos]),
    row("z", Role::Activation, &[Row, Head, DHead]),
    row("resid_mid", Role::Activation, &[Row, DModel]),
    row("pre", Role::Activation, &[Row, DMlp]),
    row("post", Role::Activation, &[Row, DMlp]),
    row("resid_post", Role::Activation, &[Row, DModel]),
    row("logits", Role::Activation, &[Row, DVocabOut]),
    row("row_loss", Role::Activation, &[Row]),
    row("row_correct", Role::Activation, &[Row]),
    // Backward.
    row("d_logits", Role::Activation, &[Row, DVocabOut]),
    row("d_resid_post", Role::Activation, &[Row, DModel]),
    row("d_pre", Role::Activation, &[Row, DMlp]),
    row("d_resid_mid", Role::Activation, &[Row, DModel]),
    row("d_z", Role::Activation, &[Row, Head, DHead]),
    row("d_score", Role::Activation, &[Row, Head, Pos]),
    row("d_slot_score", Role::Activation, &[Slot, Head]),
    // The gradient of resid_pre at "=" that comes down the residual stream.
    row("d_resid_equals", Role::Activation, &[DModel]),
    row("d_k", Role::Activation, &[Slot, Head, DHead]),
    row("d_v", Role::Activation, &[Slot, Head, DHead]),
    row("d_q", Role::Activation, &[Head, DHead]),
    row("d_resid_pre", Role::Activation, &[Slot, DModel]),
    row("d_W_E", Role::Gradient, &[DVocab, DModel]),
    row("d_W_pos", Role::Gradient, &[Pos, DModel]),
    row("d_W_Q", Role::Gradient, &[Head, DModel, DHead]),
    row("d_W_K", Role::Gradient, &[Head, DModel, DHead]),
    row("d_W_V", Role::Gradient, &[Head, DModel, DHead]),
    row("d_W_O", Role::Gradient, &[Head, DHead, DModel]),
    row("d_W_in", Role::Gradient, &[DModel, DMlp]),
    row("d_b_in", Role::Gradient, &[DMlp]),
    row("d_W_out", Role::Gradient, &[DMlp, DModel]),
    row("d_b_out", Role::Gradient, &[DModel]),
    row("d_W_U", Role::Gradient, &[DModel, DVocabOut]),
    // The composed program: parameters in whole vec4s, those that read from the residual stream side by side,
    row("W_read", Role::Activation, &[DModel4, Reader]),
    view("W_in4", &[DModel4, DMlp4], "W_read", First, First),
    view("W_U4", &[DModel4, DVocabOut4], "W_read", First, After(DMlp4)),
    row("W_out4", Role::Activation, &[DMlp4, DModel4]),
    row("W_O4", Role::Activation, &[Z4, DModel4]),
    row("W_V4", Role::Activation, &[DModel4, Z4]),
    row("W_Q4", Role::Activation, &[DModel4, Z4]),
    // W_K / sqrt(d_head)
    row("W_K4", Role::Activation, &[DModel4, Z4]),
    // products of them, and what stands in them at every slot. A slot is told relative to "=", and "=" itself in full:
    // resid4[s] = resid_pre[s] - resid_pre[=].
    row("W_O_read", Role::Activation, &[Z4, Reader]),
    row("W_logit", Role::Activation, &[DMlp4, DVocabOut4]),
    row("resid4", Role::Activation, &[Slot, DModel4]),
    // resid_pre[=], which the neurons get, and resid_pre[=] + b_out, which the classes get.
    row("equals4", Role::Activation, &[Two, DModel4]),
    view("resid_at_equals", &[One, DModel4], "equals4", First, First),
    view("resid_at_equals_b_out", &[One, DModel4], "equals4", Last(Two), First),
    row("v4", Role::Activation, &[Slot, Z4]),
    view("v_equals", &[One, Z4], "v4", Last(Slot), First),
    row("q4", Role::Activation, &[One, Z4]),
    // W_K q / sqrt(d_head)
    row("u", Role::Activation, &[Head, DModel4]),
    row("slot_score4", Role::Activation, &[Slot, Head4]),
    // What a reader gets from a head that looks at a slot, and what it gets where every head looks at "=": from the residual
    // stream, and from the heads and b_in.
    row("head_read", Role::Activation, &[Head, Slot, Reader]),
    row("equals_read", Role::Activation, &[Two, Reader]),
    row("heads_read", Role::Activation, &[One, Reader]),
    row("post4", Role::Activation, &[Row, DMlp4]),
    row("logits4", Role::Activation, &[Row, DVocabOut4]),
    row("d_logits4", Role::Activation, &[Row, DVocabOut4]),
    row("d_pre4", Role::Activation, &[Row, DMlp4]),
    row("d_pattern", Role::Activation, &[Row, Head, Pos]),
    row("d_W_logit_parts", Role::Activation, &[Chunk, DMlp4, DVocabOut4]),
    row("d_W_logit", Role::Activation, &[DMlp4, DVocabOut4]),
    row("d_head_read", Role::Activation, &[Head, Slot, Reader]),
    // Over the rows of a slot, whatever their heads look at.
    row("d_slot_read", Role::Activation, &[Slot, Reader]),
    // Over all rows: of all readers, which resid_pre[=] gets, and of the classes alone, which b_out gets.
    row("d_equals_read", Role::Activation, &[Two, Reader]),
    view("d_equals_neurons", &[One, DMlp4], "d_equals_read", First, First),
    view("d_equals_classes", &[One, DVocabOut4], "d_equals_read", First, After(DMlp4)),
    row("d_slot_score4", Role::Activation, &[Slot, Head4]),
    row("d_W_O_read", Role::Activation, &[Z4, Reader]),
    row("d_v4_parts", Role::Activation, &[ReaderChunk, Slot, Z4]),
    row("d_u", Role::Activation, &[Head, DModel4]),
    row("d_q4", Role::Activation, &[One, Z4]),
    row("d_equals4_parts", Role::Activation, &[ReaderChunk, Two, DModel4]),
    view("d_b_out_parts", &[ReaderChunk, One, DModel4], "d_equals4_parts", Last(Two), First),
    row("d_resid4", Role::Activation, &[Slot, DModel4]),
    row("d_W_read", Role::Activation, &[DModel4, Reader]),
    view("d_W_in4", &[DModel4, DMlp4], "d_W_read", First, First),
    // W_U is used twice: it reads from the heads, and from the neurons by W_out.
    view("d_W_U_heads", &[DModel4, DVocabOut4], "d_W_read", First, After(DMlp4)),
    row("d_W_U_parts", Role::Activation, &[MlpChunk, DModel4, DVocabOut4]),
    row("d_W_out4", Role::Activation, &[DMlp4, DModel4]),
    row("d_W_O_parts", Role::Activation, &[ReaderChunk, Z4, DModel4]),
    row("d_W_V4", Role::Activation, &[DModel4, Z4]),
    // The optimizer.
    row("params", Role::Arena, &[]),
    row("grads", Role::Arena, &[]),
    row("exp_avg", Role::Arena, &[]),
    row("exp_avg_sq", Role::Arena, &[]),
    // Gradients of earlier steps, or their average.
    row("grad_memory", Role::Arena, &[]),
    // Muon: matrices with their shorter sides first, products with their own transposes, and a polynomial of those.
    row("muon_x", Role::Activation, &[MatrixShort, Long]),
    row("muon_y", Role::Activation, &[MatrixShort, Long]),
    row("muon_gram", Role::Activation, &[MatrixShort, Short]),
    row("muon_poly", Role::Activation, &[MatrixShort, Short]),
    row("block_owner", Role::Layout, &[]),
    row("tensor_edges", Role::Layout, &[]),
    row("row_capacity", Role::Layout, &[]),
    row("launch_first", Role::Layout, &[]),
    row("updates", Role::Record, &[Window]),
    row("step", Role::Counter, &[]),
    row("first_bad", Role::Counter, &[]),
];

impl Tensor {
    /// The tensor of that name, or none.
    pub fn find(name: &str) -> Option<&'static Tensor> {
        TENSORS.iter().find(|tensor| tensor.name == name)
    }

    /// The dimensions of one model's part.
    pub fn dims(&self, sizes: &Sizes) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.size(sizes)).collect()
    }

    /// Elements of one model's part. Arenas and their map have a layout of the engine's own.
    pub fn len(&self, sizes: &Sizes) -> usize {
        self.dims(sizes).iter().product()
    }

    /// Whether its rows are whole vec4s.
    pub fn in_fours(&self) -> bool {
        matches!(self.axes.last(), Some(DModel4 | DMlp4 | DVocabOut4 | Z4 | Reader | Head4))
    }

    /// The tensor that holds its elements: itself, or the one of which it is a view.
    pub fn whole(&'static self) -> &'static Tensor {
        match self.within {
            Some(within) => Tensor::find(within.tensor).expect("a view is part of a tensor in the table"),
            None => self,
        }
    }

    /// The axes of what it is, or of each of the partial sums that it consists of.
    pub fn summed_axes(&self) -> &'static [Axis] {
        match self.axes {
            [Chunk | MlpChunk | ReaderChunk, axes @ ..] => axes,
            axes => axes,
        }
    }

    /// The terms of each of the partial sums that it consists of; none where it does not.
    pub fn terms(&self, sizes: &Sizes) -> Option<usize> {
        match self.axes.first() {
            Some(Chunk) => Some(sizes.chunk()),
            Some(MlpChunk | ReaderChunk) => Some(SPLIT),
            _ => None,
        }
    }

    /// Whether it has a part for each row, or for each chunk of rows.
    pub fn is_over_rows(&self) -> bool {
        matches!(self.axes.first(), Some(Row | Chunk))
    }

    /// Whether the tensor exists once for each batch of rows.
    pub fn per_batch(&self) -> bool {
        self.role == Role::Index || self.is_over_rows()
    }
}

/// The weights of one network, in the order of [`PARAMETERS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<T> {
    /// Each tensor's elements in row-major order.
    pub tensors: Vec<Vec<T>>,
}

impl<T> Weights<T> {
    /// The elements of a tensor. Panics for a name that is no parameter's.
    pub fn get(&self, name: &str) -> &[T] {
        let rank = PARAMETERS.iter().position(|parameter| parameter.name == name);
        &self.tensors[rank.unwrap_or_else(|| panic!("{name} is not a parameter"))]
    }

    /// The same with another number in the place of each.
    pub fn map<U>(&self, f: impl Fn(&T) -> U) -> Weights<U> {
        Weights { tensors: self.tensors.iter().map(|tensor| tensor.iter().map(&f).collect()).collect() }
    }
}

impl Parameter {
    /// Whether it is one of the biases.
    pub fn is_bias(&self) -> bool {
        self.name.starts_with("b_")
    }

    /// Whether it is a matrix, or one for each head, between the embedding and the unembedding.
    pub fn is_hidden_matrix(&self) -> bool {
        ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"].contains(&self.name)
    }

    /// Its dimensions for one model.
    pub fn dims(&self, shape: &Shape) -> Vec<usize> {
        let tensor = Tensor::find(self.name).expect("every parameter stands in the table");
        tensor.dims(&Sizes { shape: *shape, rows: 0 })
    }
}

/// Initial weights of a network: standard normal numbers of [`crate::random::Philox`] (stream = rank of the tensor)
/// times a scale, the MLP's biases zero.
///
/// `paper`: 1/sqrt(d_model), and W_U 1/sqrt(d_vocab_out). `transformer-lens`: 0.8/sqrt(d_model) for all.
pub fn initial_weights(init: &str, seed: u64, shape: &Shape) -> Weights<f32> {
    let philox = crate::random::Philox::new(seed);
    let root = |n: usize| 1.0 / (n as f64).sqrt();
    let tensor = |(rank, parameter): (usize, &Parameter)| {
        let scale = match (init, parameter.name) {
            (_, "b_in" | "b_out") => 0.0,
            ("transformer-lens", _) => 0.8 * root(shape.d_model),
            (_, "W_U") => root(shape.d_vocab_out),
            _ => root(shape.d_model),
        };
        let len = parameter.dims(shape).iter().product();
        (0..len).map(|i| (philox.normal(rank as u32, i) * scale) as f32).collect()
    };
    Weights { tensors: PARAMETERS.iter().enumerate().map(tensor).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gradients of what no tensor holds.
    const NOT_STORED: &[&str] =
        &["score", "resid_equals", "pre4", "slot_read", "slot_score", "equals_neurons", "equals_classes", "W_U_heads"];

    #[test]
    fn gradients_have_the_axes_of_what_they_are_gradients_of() {
        for tensor in TENSORS {
            let Some(of) = tensor.name.strip_prefix("d_").filter(|name| !NOT_STORED.contains(name)) else { continue };
            if of.ends_with("_parts") {
                continue;
            }
            assert_eq!(tensor.axes, Tensor::find(of).unwrap_or_else(|| panic!("no {of}")).axes, "{}", tensor.name);
        }
    }

    #[test]
    fn the_arenas_hold_every_parameter_once() {
        let ranked: Vec<_> = PARAMETERS.iter().map(|p| p.name).collect();
        let listed: Vec<_> = TENSORS.iter().filter(|t| t.role == Role::Parameter).map(|t| t.name).collect();
        assert_eq!(ranked, listed);
        assert!(PARAMETERS.iter().all(|p| p.gradient.strip_prefix("d_") == Some(p.name)));
    }

    #[test]
    fn initial_scales_are_those_of_the_plan() {
        let shape = crate::plan::preset("default").unwrap().shape();
        let weights = initial_weights("paper", 0, &shape);
        let rms = |name| {
            let x = weights.get(name);
            (x.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
        };
        assert!((rms("W_in") * 128f64.sqrt() - 1.0).abs() < 0.02);
        assert!((rms("W_U") * 113f64.sqrt() - 1.0).abs() < 0.03);
        assert_eq!(rms("b_in"), 0.0);
        assert_ne!(weights.get("W_Q"), weights.get("W_K"));
    }
}
