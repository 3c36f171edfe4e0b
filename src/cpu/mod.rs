//! The twins: every kernel of `shaders/` once more in plain Rust, in a file of the same stem.
//!
//! In f64 they are the oracle of the tests and the analysis's forward pass; in f32, on all cores, they are the engine of
//! machines without a GPU. A twin sees one model: the leading axis is the business of whoever calls it. It meets the
//! machine only through [`matmul`] and [`rows()`], whose tasks follow from the shapes alone, so that the number of
//! threads changes no bit; loops that need more call rayon in the same way.

pub mod adamw;
pub mod attention;
pub mod compose;
pub mod copy;
pub mod dots;
pub mod embed;
pub mod grokfast;
pub mod loss;
pub mod matmul;
pub mod mlp;
pub mod muon;
pub mod narrow;
pub mod orthogonal;
pub mod orthonormal;
pub mod product;
pub mod rows;
pub mod sgd;
pub mod slots;
pub mod stablemax;
pub mod tiles;
pub mod unembed;
pub mod vector;
pub mod wide;

use crate::matrices::{Copies, Geometry};
use crate::plan::{Shape, Update};
use rayon::prelude::*;
use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::{Deref, DerefMut};

/// f32 or f64.
pub trait Real:
    vector::Vectors + num_traits::Float + num_traits::NumAssign + std::iter::Sum + Default + Send + Sync + Debug
{
    /// Logit differences below this have a probability that no sum notices; taken as 0 they keep the backward pass
    /// clear of subnormal numbers, each of which costs a processor some hundred cycles.
    const NEGLIGIBLE_LOGIT: Self;
    /// Square root of the smallest normal number: what is smaller has a subnormal square.
    const TINY: Self;
    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// The same number in f64.
    fn wide(self) -> f64;
    /// e^x for x in [[`Self::NEGLIGIBLE_LOGIT`], 0], in a form that a loop over many of them is vectorised with.
    fn exp_in_lanes(self) -> Self;
    /// e^x by the crate `libm`: the same bits on every platform, unlike the platforms' C libraries.
    fn portable_exp(self) -> Self;
    /// The natural logarithm of x, by `libm`.
    fn portable_ln(self) -> Self;
    /// The natural logarithm of 1 + x, by `libm`.
    fn portable_ln_1p(self) -> Self;
    /// Calls `f` with `len` elements, whatever they are, that the thread keeps for the next call.
    fn with_scratch(len: usize, f: impl FnOnce(&mut [Self]));

    /// x, or 0 where its square would be subnormal.
    #[inline(always)]
    fn flushed(self) -> Self {
        if self.abs() < Self::TINY { Self::zero() } else { self }
    }
}

impl Real for f32 {
    const NEGLIGIBLE_LOGIT: Self = -60.0;
    const TINY: Self = 1.1e-19;
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self as f64
    }
    fn with_scratch(len: usize, f: impl FnOnce(&mut [Self])) {
        thread_local!(static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
        SCRATCH.with_borrow_mut(|scratch| f(at_least(scratch, len)))
    }
    /// 2^n e^r with |r| <= ln(2) / 2, e^r as Cephes has it; within 2 units in the last place.
    #[inline(always)]
    fn exp_in_lanes(self) -> Self {
        // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = self * std::f32::consts::LOG2_E + SHIFT;
        let n = shifted - SHIFT;
        let r = self - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let e = p * r * r + r + 1.0;
        f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23))
    }
    fn portable_exp(self) -> Self {
        libm::expf(self)
    }
    fn portable_ln(self) -> Self {
        libm::logf(self)
    }
    fn portable_ln_1p(self) -> Self {
        libm::log1pf(self)
    }
}

impl Real for f64 {
    const NEGLIGIBLE_LOGIT: Self = -650.0;
    const TINY: Self = 1.5e-154;
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
    fn with_scratch(len: usize, f: impl FnOnce(&mut [Self])) {
        thread_local!(static SCRATCH: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) });
        SCRATCH.with_borrow_mut(|scratch| f(at_least(scratch, len)))
    }
    #[inline(always)]
    fn exp_in_lanes(self) -> Self {
        libm::exp(self)
    }
    fn portable_exp(self) -> Self {
        libm::exp(self)
    }
    fn portable_ln(self) -> Self {
        libm::log(self)
    }
    fn portable_ln_1p(self) -> Self {
        libm::log1p(self)
    }
}

/// The first `len` elements, of which there are that many afterwards.
fn at_least<T: Real>(scratch: &mut Vec<T>, len: usize) -> &mut [T] {
    if scratch.len() < len {
        scratch.resize(len, T::zero());
    }
    &mut scratch[..len]
}

/// What a twin knows besides its tensors.
pub struct Context<'a> {
    /// The network's sizes.
    pub shape: Shape,
    /// Rows that are here: of this model's batch, or a part of them.
    pub rows: usize,
    /// Rows of the whole batch, over which a mean is taken.
    pub batch_rows: usize,
    /// Whether a product is to be spread over the cores: not where other cores have the other rows meanwhile.
    pub spread: bool,
    /// The updates that the host has prepared.
    pub updates: &'a [Update],
    /// Where a product finds its matrices; of no meaning to other kernels.
    pub product: Geometry,
    /// Where a copy finds its matrices; of no meaning to other kernels.
    pub copies: Copies,
    /// The parameter, by its rank, whose part of the arenas this is; of no meaning to other kernels than the optimizer.
    pub parameter: usize,
}

/// A tensor that is written.
pub enum Taken<'a, T> {
    /// The tensor itself.
    Owned(Vec<T>),
    /// What a line may write of it while others run: all, or a chunk's rows.
    Lent(&'a mut [T]),
}

impl<'a, T> Taken<'a, T> {
    /// The tensor itself. Panics on one that is lent.
    pub fn owned(self) -> Vec<T> {
        match self {
            Self::Owned(tensor) => tensor,
            Self::Lent(_) => panic!("what is lent is nobody's to keep"),
        }
    }

    /// What is lent. Panics on a tensor itself.
    pub fn lent(self) -> &'a mut [T] {
        match self {
            Self::Owned(_) => panic!("a tensor that was not lent"),
            Self::Lent(rows) => rows,
        }
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(tensor) => tensor,
            Self::Lent(rows) => rows,
        }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Self::Owned(tensor) => tensor,
            Self::Lent(rows) => rows,
        }
    }
}

/// One model's tensors under the names that a kernel uses, or, for a twin that goes by rows, some rows of them.
///
/// Tensors that are written are moved out while the twin runs, so that the others can be borrowed.
pub trait Arguments<'a, T> {
    /// What the twin knows besides.
    fn context(&self) -> Context<'_>;
    /// A tensor of unsigned integers: an index, or a counter.
    fn index(&self, name: &str) -> &[u32];
    /// A tensor that is read only.
    fn read(&self, name: &str) -> &[T];
    /// A tensor that is written, as it is; [`Arguments::put`] brings it back.
    fn take(&mut self, name: &str) -> Taken<'a, T>;
    /// Brings a tensor back.
    fn put(&mut self, name: &str, tensor: Taken<'a, T>);
    /// A counter that is written, as it is; [`Arguments::put_counter`] brings it back.
    fn take_counter(&mut self, name: &str) -> Vec<u32>;
    /// Brings a counter back.
    fn put_counter(&mut self, name: &str, tensor: Vec<u32>);
}

/// The update in progress, and the parameter whose part of the arenas is there.
pub fn in_progress<T: Real>(arguments: &dyn Arguments<'_, T>) -> (Update, usize) {
    let step = arguments.index("step")[0] as usize;
    let context = arguments.context();
    (context.updates[step - 1], context.parameter)
}

/// A kernel's twin, with the names of the tensors it reads and writes.
pub struct Twin<T> {
    /// Tensors that are read only.
    pub reads: &'static [&'static str],
    /// Tensors that are written, or read and written.
    pub writes: &'static [&'static str],
    /// Does what the kernel does.
    pub run: fn(&mut dyn Arguments<'_, T>),
    /// Whether it does each row by itself, so that it can be given a chunk of them: it counts rows from the chunk's first on, knows of
    /// the others by [`Context::batch_rows`] alone, and writes tensors over rows or chunks only.
    pub by_rows: bool,
}

impl<T> Twin<T> {
    /// Of a function that does each row by itself.
    pub fn by_rows(self) -> Self {
        Self { by_rows: true, ..self }
    }
}

/// Binds a function's parameters to tensors by name:
/// `twin!(forward, index [slots], read [q, k], write [pattern])` calls
/// `forward(context, slots, q, k, &mut pattern)`.
macro_rules! twin {
    ($run:path
     $(, index [$($index:ident),*])?
     $(, read [$($read:ident),*])?
     $(, write [$($write:ident),*])?
     $(, count [$($count:ident),*])?) => {
        $crate::cpu::Twin {
            reads: &[$($(stringify!($index),)*)? $($(stringify!($read),)*)?],
            writes: &[$($(stringify!($write),)*)? $($(stringify!($count),)*)?],
            #[allow(non_snake_case, reason = "tensors keep their names")]
            run: |arguments| {
                $($(let mut $write = arguments.take(stringify!($write));)*)?
                $($(let mut $count = arguments.take_counter(stringify!($count));)*)?
                $run(
                    &arguments.context(),
                    $($(arguments.index(stringify!($index)),)*)?
                    $($(arguments.read(stringify!($read)),)*)?
                    $($(&mut $write,)*)?
                    $($(&mut $count,)*)?
                );
                $($(arguments.put(stringify!($write), $write);)*)?
                $($(arguments.put_counter(stringify!($count), $count);)*)?
            },
            by_rows: false,
        }
    };
}
pub(crate) use twin;

/// The twin of an entry point.
pub fn twin_of<T: Real>(kernel: &str, entry: &str) -> Option<Twin<T>> {
    match kernel {
        "embed" => embed::twin(entry),
        "attention" => attention::twin(entry),
        "mlp" => mlp::twin(entry),
        "compose" => compose::twin(entry),
        "copy" => copy::twin(entry),
        "dots" => dots::twin(entry),
        "product" => product::twin(entry),
        "rows" => rows::twin(entry),
        "slots" => slots::twin(entry),
        "unembed" => unembed::twin(entry),
        "loss" => loss::twin(entry),
        "stablemax" => stablemax::twin(entry),
        "grokfast" => grokfast::twin(entry),
        "orthogonal" => orthogonal::twin(entry),
        "sgd" => sgd::twin(entry),
        "muon" => muon::twin(entry),
        "orthonormal" => orthonormal::twin(entry),
        "adamw" => adamw::twin(entry),
        _ => None,
    }
}

/// Rows that a task takes at a time.
const TASK: usize = 64;

/// Calls `f(row, its elements)` for every row of `out`, spread over the cores.
pub fn rows<T: Real>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    out.par_chunks_mut(TASK * width).enumerate().for_each(|(chunk, block)| {
        for (i, row) in block.chunks_exact_mut(width).enumerate() {
            f(chunk * TASK + i, row);
        }
    });
}

/// The same for two tensors that share their rows.
pub fn rows2<T: Real>(
    a: &mut [T],
    a_width: usize,
    b: &mut [T],
    b_width: usize,
    f: impl Fn(usize, &mut [T], &mut [T]) + Sync,
) {
    let blocks = a.par_chunks_mut(TASK * a_width).zip(b.par_chunks_mut(TASK * b_width));
    blocks.enumerate().for_each(|(chunk, (a, b))| {
        let pairs = a.chunks_exact_mut(a_width).zip(b.chunks_exact_mut(b_width));
        for (i, (a, b)) in pairs.enumerate() {
            f(chunk * TASK + i, a, b);
        }
    });
}

/// `out[j]` = sum over the rows of `x[row, j]`, in the order of the rows, chunk by chunk.
pub fn sum_rows<T: Real>(x: &[T], width: usize, out: &mut [T]) {
    let partial = |block: &[T]| {
        let mut sum = vec![T::zero(); width];
        for row in block.chunks_exact(width) {
            add(&mut sum, row);
        }
        sum
    };
    let sums: Vec<Vec<T>> = x.par_chunks(TASK * width).map(partial).collect();
    out.fill(T::zero());
    for sum in &sums {
        add(out, sum);
    }
}

/// sum += x
pub fn add<T: Real>(sum: &mut [T], x: &[T]) {
    for (sum, &x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

/// sum += factor * x
pub fn add_scaled<T: Real>(sum: &mut [T], factor: T, x: &[T]) {
    for (sum, &x) in sum.iter_mut().zip(x) {
        *sum += factor * x;
    }
}

/// The sum of products, in order.
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// Numbers to try the innermost loops on.
#[cfg(test)]
fn numbers(n: usize, seed: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * 0.37 + seed).sin()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_in_lanes_is_exp() {
        for i in 0..=600_000 {
            let x = -60.0 * i as f32 / 600_000.0;
            let (got, want) = (x.exp_in_lanes().wide(), x.wide().exp());
            assert!((got - want).abs() <= 2.0 * f64::from(f32::EPSILON) * want, "exp({x}): {got:e}, f64 {want:e}");
        }
    }
}
