//! The innermost loops, compiled for the widest vectors that the processor has; the crate itself is built for any.
//!
//! A closure is compiled for them only where the compiler chooses to inline it, so each loop is a struct whose method is
//! always inlined.

use super::Real;
use pulp::{Arch, Simd, WithSimd};

/// Neighbouring elements that stay in registers, of one sum, and of several side by side.
const LANES: usize = 32;
const HALF: usize = LANES / 2;

/// a b + c, in one rounding where the processor can; elsewhere that would be a call for each element.
#[inline(always)]
fn multiply_add<T: Real, S: Simd>(a: T, b: T, c: T) -> T {
    if S::IS_SCALAR { a * b + c } else { a.mul_add(b, c) }
}

#[inline(always)]
fn lanes<T, const N: usize>(x: &[T], at: usize) -> &[T; N] {
    x[at..][..N].try_into().expect("a whole block of lanes")
}

/// Where blocks of `n` elements begin in the part of `0..len` that comes after `from`.
#[inline(always)]
fn blocks(from: usize, len: usize, n: usize) -> impl Iterator<Item = usize> {
    (from..len - (len - from) % n).step_by(n)
}

/// Elements of a vec4: every width is a multiple of it.
const FOUR: usize = 4;

/// Lines that are added to a row at most.
pub const LINES: usize = 2 * SIDE;

/// For every row of elements: out = base + sum over its first `count` lines of weight * table[line..], where the base is a line for all
/// of them or, without one, what is there; and 0 where that is less and `relu` holds.
///
/// Some elements of all rows are done before the next: neighbouring rows use the same lines, whose parts then stay in the
/// innermost cache.
pub struct AddLines<'a, T> {
    /// For each row, weights and the elements at which their lines begin.
    pub lines: &'a [[(T, usize); LINES]],
    /// Lines of a row that count.
    pub count: usize,
    /// What the lines are of.
    pub table: &'a [T],
    /// `[width]`, or what is in `out`.
    pub base: Option<&'a [T]>,
    /// Whether negative results become 0.
    pub relu: bool,
    /// Elements of a row.
    pub width: usize,
    /// [row, width]
    pub out: &'a mut [T],
}

impl<T: Real> AddLines<'_, T> {
    /// Does it, with the widest vectors that the processor has.
    pub fn run(self) {
        Arch::new().dispatch(self)
    }
}

impl<T: Real> AddLines<'_, T> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, at: usize) {
        for (out, lines) in self.out.chunks_exact_mut(self.width).zip(self.lines) {
            let mut sum: [T; N] = *lanes(self.base.unwrap_or(out), at);
            for &(weight, line) in &lines[..self.count] {
                let x: &[T; N] = lanes(self.table, line + at);
                for l in 0..N {
                    sum[l] = multiply_add::<T, S>(weight, x[l], sum[l]);
                }
            }
            if self.relu {
                sum = sum.map(|x| if x > T::zero() { x } else { T::zero() });
            }
            out[at..][..N].copy_from_slice(&sum);
        }
    }
}

impl<T: Real> WithSimd for AddLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let whole = self.width / LANES * LANES;
        blocks(0, whole, LANES).for_each(|at| self.block::<S, LANES>(at));
        blocks(whole, self.width, FOUR).for_each(|at| self.block::<S, FOUR>(at));
    }
}

/// x . table[line..] for each of the lines, added to `out`.
pub fn dot_lines<T: Real>(x: &[T], lines: &[usize], table: &[T], out: &mut [T]) {
    Arch::new().dispatch(DotLines { x, lines, table, out })
}

struct DotLines<'a, T> {
    x: &'a [T],
    lines: &'a [usize],
    table: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> DotLines<'_, T> {
    /// Adds `L` lines' products side by side, so that a part of x is loaded once for them.
    #[inline(always)]
    fn lines<S: Simd, const L: usize>(&mut self, first: usize) {
        let (len, whole) = (self.x.len(), self.x.len() / HALF * HALF);
        let tables: [&[T]; L] = std::array::from_fn(|n| &self.table[self.lines[first + n]..][..len]);
        let sums = self.sums::<S, L, HALF>(&tables, 0, whole);
        let rests = self.sums::<S, L, FOUR>(&tables, whole, len);
        for n in 0..L {
            self.out[first + n] += sums[n].into_iter().sum::<T>() + rests[n].into_iter().sum::<T>();
        }
    }

    #[inline(always)]
    fn sums<S: Simd, const L: usize, const N: usize>(&self, tables: &[&[T]; L], from: usize, to: usize) -> [[T; N]; L] {
        let mut sums = [[T::zero(); N]; L];
        for at in blocks(from, to, N) {
            let x: &[T; N] = lanes(self.x, at);
            for n in 0..L {
                let y: &[T; N] = lanes(tables[n], at);
                for l in 0..N {
                    sums[n][l] = multiply_add::<T, S>(x[l], y[l], sums[n][l]);
                }
            }
        }
        sums
    }
}

impl<T: Real> WithSimd for DotLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let whole = self.lines.len() / SIDE * SIDE;
        (0..whole).step_by(SIDE).for_each(|first| self.lines::<S, SIDE>(first));
        (whole..self.lines.len()).for_each(|first| self.lines::<S, 1>(first));
    }
}

/// Lines that are summed side by side.
pub const SIDE: usize = 4;

/// `sums[n]` = sum over the rows of `weights[row, n] * x[row]`, and `all` = sum of `x[row]`; x has rows of `all.len()` elements,
/// weights of [`SIDE`] for each entry of `rows`.
pub fn sum_rows<T: Real>(x: &[T], rows: &[u32], weights: &[[T; SIDE]], sums: &mut [&mut [T]], all: &mut [T]) {
    Arch::new().dispatch(SumRows { x, rows, weights, sums, all })
}

struct SumRows<'a, 'b, T> {
    x: &'a [T],
    rows: &'a [u32],
    weights: &'a [[T; SIDE]],
    sums: &'a mut [&'b mut [T]],
    all: &'a mut [T],
}

impl<T: Real> SumRows<'_, '_, T> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&mut self, at: usize) {
        let width = self.all.len();
        let (mut side, mut plain) = ([[T::zero(); N]; SIDE], [T::zero(); N]);
        for (&row, weights) in self.rows.iter().zip(self.weights) {
            let x: &[T; N] = lanes(self.x, row as usize * width + at);
            for (side, &weight) in side.iter_mut().zip(weights) {
                for l in 0..N {
                    side[l] = multiply_add::<T, S>(weight, x[l], side[l]);
                }
            }
            for l in 0..N {
                plain[l] += x[l];
            }
        }
        for (out, side) in self.sums.iter_mut().zip(&side) {
            out[at..][..N].copy_from_slice(side);
        }
        self.all[at..][..N].copy_from_slice(&plain);
    }
}

impl<T: Real> WithSimd for SumRows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        // Five sums stay in registers: sixteen elements of each.
        let (len, whole) = (self.all.len(), self.all.len() / HALF * HALF);
        blocks(0, whole, HALF).for_each(|at| self.block::<S, HALF>(at));
        blocks(whole, len, FOUR).for_each(|at| self.block::<S, FOUR>(at));
    }
}

/// out = exp(x - top), 0 where nothing would notice the difference.
pub fn exp_below<T: Real>(x: &[T], top: T, out: &mut [T]) {
    Arch::new().dispatch(ExpBelow { x, top, out })
}

struct ExpBelow<'a, T> {
    x: &'a [T],
    top: T,
    out: &'a mut [T],
}

impl<T: Real> WithSimd for ExpBelow<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            let below = x - self.top;
            let weight = below.max(T::NEGLIGIBLE_LOGIT).exp_in_lanes();
            *out = if below < T::NEGLIGIBLE_LOGIT { T::zero() } else { weight };
        }
    }
}

/// out = out where gate > 0, else 0
pub fn gate<T: Real>(gate: &[T], out: &mut [T]) {
    Arch::new().dispatch(Gate { gate, out })
}

struct Gate<'a, T> {
    gate: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> WithSimd for Gate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, gate) in self.out.chunks_exact_mut(FOUR).zip(self.gate.chunks_exact(FOUR)) {
            let (old, gate): ([T; FOUR], &[T; FOUR]) = (*lanes(out, 0), lanes(gate, 0));
            let new: [T; FOUR] = std::array::from_fn(|l| if gate[l] > T::zero() { old[l] } else { T::zero() });
            out.copy_from_slice(&new);
        }
    }
}

/// One AdamW update of neighbouring parameters; which of parameters, moments and gradients held a number before that is not finite.
pub fn adamw<T: Real>(
    u: &crate::plan::Update,
    grads: &[T],
    params: &mut [T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
) -> [bool; 4] {
    Arch::new().dispatch(AdamW { u, grads, params, exp_avg, exp_avg_sq })
}

struct AdamW<'a, T> {
    u: &'a crate::plan::Update,
    grads: &'a [T],
    params: &'a mut [T],
    exp_avg: &'a mut [T],
    exp_avg_sq: &'a mut [T],
}

impl<T: Real> WithSimd for AdamW<'_, T> {
    /// What is not finite.
    type Output = [bool; 4];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [bool; 4] {
        // 0 x is 0, or NaN where x is not finite, and NaN stays in a sum.
        const LANES: usize = 16;
        let mut nothing = [[T::zero(); LANES]; 4];
        let u = self.u;
        let [decay, l2, rest1, beta2, rest2] = [u.decay, u.l2, u.rest1, u.beta2, u.rest2].map(T::of);
        let [step_size, root_correction2, eps] = [u.step_size, u.root_correction2, u.eps].map(T::of);
        let mut one = |lane: usize, g: T, x: &mut T, m: &mut T, v: &mut T| {
            for (sum, seen) in nothing.iter_mut().zip([*x, *m, *v, g]) {
                sum[lane] += T::zero() * seen;
            }
            let g = (g + l2 * *x).flushed();
            *m = (*m + (g - *m) * rest1).flushed();
            let second = beta2 * *v + rest2 * (g * g);
            *v = if second < T::min_positive_value() { T::zero() } else { second };
            *x = *x * decay - step_size * *m / (v.sqrt() / root_correction2 + eps);
        };
        let (grads, rest_of_grads) = self.grads.as_chunks::<LANES>();
        let (params, rest_of_params) = self.params.as_chunks_mut::<LANES>();
        let (exp_avg, rest_of_exp_avg) = self.exp_avg.as_chunks_mut::<LANES>();
        let (exp_avg_sq, rest_of_exp_avg_sq) = self.exp_avg_sq.as_chunks_mut::<LANES>();
        for (((g, x), m), v) in grads.iter().zip(params).zip(exp_avg).zip(exp_avg_sq) {
            for lane in 0..LANES {
                one(lane, g[lane], &mut x[lane], &mut m[lane], &mut v[lane]);
            }
        }
        let rests = rest_of_grads.iter().zip(rest_of_params).zip(rest_of_exp_avg).zip(rest_of_exp_avg_sq);
        for (((&g, x), m), v) in rests {
            one(0, g, x, m, v);
        }
        nothing.map(|sums| sums.iter().any(|sum| sum.is_nan()))
    }
}
