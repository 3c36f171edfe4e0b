//! The innermost loops, compiled for the widest vectors that the processor has; the crate itself is built for any.
//!
//! A closure is compiled for them only where the compiler chooses to inline it, so each loop is a struct whose method is
//! always inlined.

use super::{Real, vector};
use pulp::{Arch, Simd, WithSimd};

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

/// `K` vectors, which is what x has.
#[inline(always)]
fn vectors<T: Real, S: Simd, const K: usize>(x: &[T]) -> &[T::V<S>; K] {
    T::split::<S>(x).0.try_into().expect("whole vectors")
}

/// Lines that are added to a row at most.
pub const LINES: usize = 2 * SIDE;

/// For every row of elements: out = base + sum over its first `count` lines of weight * table[line..], where the base is a line for all
/// of them or, without one, what is there; and 0 where that is less and `relu` holds.
///
/// A row is done before the next: its lines are then read from one end to the other, as caches fetch ahead, and those that the next
/// row uses too stay in the innermost one.
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
    /// `K` vectors of a row, from `at` on.
    #[inline(always)]
    fn block<S: Simd, const K: usize>(&mut self, simd: S, row: usize, at: usize) {
        let to = at + K * vector::lanes::<T, S>();
        let out = &mut self.out[row * self.width..][..self.width];
        let mut sum = *vectors::<T, S, K>(&self.base.unwrap_or(out)[at..to]);
        for &(weight, line) in &self.lines[row][..self.count] {
            let (weight, x) = (T::splat(simd, weight), vectors::<T, S, K>(&self.table[line + at..line + to]));
            for k in 0..K {
                sum[k] = T::multiply_add(simd, weight, x[k], sum[k]);
            }
        }
        for (out, sum) in T::split_mut::<S>(&mut out[at..to]).0.iter_mut().zip(sum) {
            *out = if self.relu { T::relu(simd, sum) } else { sum };
        }
    }

    /// Less than a vector, up to the width.
    #[inline(always)]
    fn rest<S: Simd>(&mut self, simd: S, row: usize, at: usize) {
        let out = &mut self.out[row * self.width..][..self.width];
        let mut sum = T::load_part(simd, &self.base.unwrap_or(out)[at..]);
        for &(weight, line) in &self.lines[row][..self.count] {
            let x = T::load_part(simd, &self.table[line + at..line + self.width]);
            sum = T::multiply_add(simd, T::splat(simd, weight), x, sum);
        }
        T::store_part(simd, &mut out[at..], if self.relu { T::relu(simd, sum) } else { sum });
    }
}

impl<T: Real> WithSimd for AddLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        const VECTORS: usize = 4;
        let (width, lanes) = (self.width, vector::lanes::<T, S>());
        let (blocks, whole) = (width - width % (VECTORS * lanes), width - width % lanes);
        for row in 0..self.lines.len() {
            (0..blocks).step_by(VECTORS * lanes).for_each(|at| self.block::<S, VECTORS>(simd, row, at));
            (blocks..whole).step_by(lanes).for_each(|at| self.block::<S, 1>(simd, row, at));
            if whole < width {
                self.rest(simd, row, whole);
            }
        }
    }
}

/// out = x . table[line..] for each of the lines, where x is given in parts that follow each other.
///
/// Each sum is sixteen sums of every sixteenth product, halves of which are added at the end: the same on processors with
/// wide and with narrow vectors.
pub fn dot_lines<T: Real>(x: &[&[T]], lines: &[usize], table: &[T], out: &mut [T]) {
    Arch::new().dispatch(DotLines { x, lines, table, out })
}

/// Neighbouring elements whose products are summed apart from each other.
const LANES: usize = 16;

struct DotLines<'a, T> {
    x: &'a [&'a [T]],
    lines: &'a [usize],
    table: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> DotLines<'_, T> {
    /// The products of `L` lines side by side, so that a part of x is loaded once for them; `K` vectors have [`LANES`] elements.
    #[inline(always)]
    fn lines<S: Simd, const L: usize, const K: usize>(&mut self, simd: S, first: usize) {
        let mut sums = [[T::splat(simd, T::zero()); K]; L];
        let mut begin = 0;
        for x in self.x {
            let tables: [&[T]; L] = std::array::from_fn(|n| &self.table[self.lines[first + n] + begin..][..x.len()]);
            begin += x.len();
            let (blocks, rest) = x.split_at(x.len() / LANES * LANES);
            let (blocks, _) = T::split::<S>(blocks).0.as_chunks::<K>();
            let of_tables: [&[[T::V<S>; K]]; L] =
                std::array::from_fn(|n| &T::split::<S>(tables[n]).0.as_chunks::<K>().0[..blocks.len()]);
            for (at, x) in blocks.iter().enumerate() {
                for n in 0..L {
                    for k in 0..K {
                        sums[n][k] = T::multiply_add(simd, x[k], of_tables[n][at][k], sums[n][k]);
                    }
                }
            }
            let lanes = vector::lanes::<T, S>();
            for (k, (at, x)) in (x.len() - rest.len()..).step_by(lanes).zip(rest.chunks(lanes)).enumerate() {
                for n in 0..L {
                    let y = T::load_part(simd, &tables[n][at..][..x.len()]);
                    sums[n][k] = T::multiply_add(simd, T::load_part(simd, x), y, sums[n][k]);
                }
            }
        }
        for (out, mut sums) in self.out[first..].iter_mut().zip(sums) {
            let mut half = K;
            while half > 1 {
                half /= 2;
                for k in 0..half {
                    sums[k] = T::plus(simd, sums[k], sums[k + half]);
                }
            }
            *out = T::total(simd, sums[0]);
        }
    }

    /// All of them, `L` at a time as far as that goes.
    #[inline(always)]
    fn all<S: Simd, const L: usize, const K: usize>(&mut self, simd: S) {
        let whole = self.lines.len() / L * L;
        (0..whole).step_by(L).for_each(|first| self.lines::<S, L, K>(simd, first));
        (whole..self.lines.len()).for_each(|first| self.lines::<S, 1, K>(simd, first));
    }
}

impl<T: Real> WithSimd for DotLines<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Eight sums stay in registers.
        match vector::lanes::<T, S>() {
            16 => self.all::<S, 8, 1>(simd),
            8 => self.all::<S, 4, 2>(simd),
            4 => self.all::<S, 2, 4>(simd),
            2 => self.all::<S, 1, 8>(simd),
            _ => self.all::<S, 1, LANES>(simd),
        }
    }
}

/// Lines that are summed side by side.
pub const SIDE: usize = 4;

/// `sums[n]` = sum over the rows of `weights[row, n] * x[row]`, and `all` = sum of `x[row]`; x has rows of `all.len()` elements,
/// weights of [`SIDE`] for each entry of `rows`.
pub fn sum_rows<T: Real>(x: &[T], rows: &[u32], weights: &[[T; SIDE]], sums: &mut [&mut [T]], all: &mut [T]) {
    Arch::new().dispatch(SumRows { x, rows, weights, sums, all })
}

/// Elements of each of the sums that are done together where there are registers for them.
const MORE: usize = 4 * LANES;

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
        // Five sums stay in registers: sixteen elements of each, and more where registers hold them, as a row is then fetched in longer
        // pieces.
        let (len, whole) = (self.all.len(), self.all.len() / LANES * LANES);
        let fit = (SIDE + 1) * MORE / vector::lanes::<T, S>() < S::REGISTER_COUNT;
        let more = if fit { len / MORE * MORE } else { 0 };
        blocks(0, more, MORE).for_each(|at| self.block::<S, MORE>(at));
        blocks(more, whole, LANES).for_each(|at| self.block::<S, LANES>(at));
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::cpu::numbers;

    #[test]
    fn what_is_not_a_number_is_shut_by_relu() {
        let (table, lines) = ([f32::NAN, -1.0, 2.0, f32::NAN, f32::INFINITY], [[(1.0, 0); LINES]]);
        let mut out = [0.0; 5];
        AddLines { lines: &lines, count: 1, table: &table, base: None, relu: true, width: 5, out: &mut out }.run();
        assert_eq!(out, [0.0, 0.0, 2.0, 0.0, f32::INFINITY]);
    }

    #[test]
    fn narrow_vectors_make_the_same_bits() {
        let Some(narrow) = pulp::x86::V3::try_new() else { return };
        let (table, lines) = (numbers(2000, 1.0), [0, 5, 130, 131, 400, 777, 900, 1200, 1300, 1333]);
        // Parts with and without a rest after sixteen, and after eight.
        for (first, second) in [(512, 116), (16, 4), (4, 0), (28, 13), (0, 3)] {
            let (x, y) = (numbers(first, 2.0), numbers(second, 3.0));
            let dots = |out: &mut [f32], run: fn(pulp::x86::V3, DotLines<f32>)| {
                run(narrow, DotLines { x: &[&x, &y], lines: &lines, table: &table, out });
            };
            let (mut wide, mut same) = ([0.0; 10], [0.0; 10]);
            dots(&mut wide, |_, dots| Arch::new().dispatch(dots));
            dots(&mut same, |narrow, dots| Simd::vectorize(narrow, dots));
            assert_eq!(wide, same, "dots of {first} and {second}");
            for (&line, &got) in lines.iter().zip(&wide) {
                let pairs = x.iter().chain(&y).zip(&table[line..]);
                let sum: f64 = pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                assert!(
                    (f64::from(got) - sum).abs() <= f64::from(f32::EPSILON) * (first + second) as f64,
                    "{got} {sum}"
                );
            }
        }
    }

    #[test]
    fn sums_of_lines_are_chains_to_the_bit_with_wide_and_narrow_vectors() {
        let Some(narrow) = pulp::x86::V3::try_new() else { return };
        let table = numbers(2000, 1.0);
        for (width, case) in [628, 180, 41, 20, 3].into_iter().flat_map(|width| (0..4).map(move |case| (width, case))) {
            let (of_base, relu) = (case % 2 == 0, case < 2);
            let base = of_base.then_some(&table[..width]);
            let lines: Vec<_> =
                (0..3).map(|row| std::array::from_fn(|k| (0.1 * k as f32 - 0.3, row * 7 + k))).collect();
            let sums = |out: &mut [f32], run: fn(pulp::x86::V3, AddLines<f32>)| {
                run(narrow, AddLines { lines: &lines, count: 5, table: &table, base, relu, width, out });
            };
            let before = numbers(3 * width, 4.0);
            let (mut wide, mut same) = (before.clone(), before.clone());
            sums(&mut wide, |_, sums| sums.run());
            sums(&mut same, |narrow, sums| Simd::vectorize(narrow, sums));
            assert_eq!(wide, same, "sums of {width}, case {case}");
            let of_row = |row: usize, i: usize| {
                let start = if of_base { table[i] } else { before[row * width + i] };
                let lines = lines[row][..5].iter();
                let sum = lines.fold(start, |sum, &(weight, line)| libm::fmaf(weight, table[line + i], sum));
                if relu { sum.max(0.0) } else { sum }
            };
            let expected: Vec<_> = (0..3 * width).map(|at| of_row(at / width, at % width)).collect();
            assert_eq!(wide, expected, "sums of {width}, case {case}");
        }
    }

    /// Blocks of [`MORE`] alone, which narrow vectors do not take by themselves.
    struct LongBlocks<'a, 'b>(SumRows<'a, 'b, f32>);
    impl WithSimd for LongBlocks<'_, '_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) {
            blocks(0, self.0.all.len(), MORE).for_each(|at| self.0.block::<S, MORE>(at));
        }
    }

    #[test]
    fn sums_of_rows_are_chains_to_the_bit_with_wide_and_narrow_vectors() {
        let Some(narrow) = pulp::x86::V3::try_new() else { return };
        for (width, rows) in
            [4, 16, 60, 2 * MORE, 180].into_iter().flat_map(|width| [(width, &[2, 0, 2, 5][..]), (width, &[])])
        {
            let x = numbers(6 * width, 1.0);
            let weights: Vec<[f32; SIDE]> =
                (0..rows.len()).map(|k| std::array::from_fn(|n| 0.3 * k as f32 - 0.2 * n as f32)).collect();
            let run = |run: fn(pulp::x86::V3, SumRows<f32>)| {
                let (mut first, mut second, mut all) =
                    (vec![f32::NAN; width], vec![f32::NAN; width], vec![f32::NAN; width]);
                let sums = &mut [&mut first[..], &mut second[..]];
                run(narrow, SumRows { x: &x, rows, weights: &weights, sums, all: &mut all });
                [first, second, all]
            };
            let sum = |n: usize, i: usize| {
                let terms = rows.iter().zip(&weights);
                terms.fold(0.0, |sum, (&row, weights)| libm::fmaf(weights[n], x[row as usize * width + i], sum))
            };
            let plain = |i: usize| rows.iter().fold(0.0, |sum, &row| sum + x[row as usize * width + i]);
            let expected: [Vec<f32>; 3] = [
                (0..width).map(|i| sum(0, i)).collect(),
                (0..width).map(|i| sum(1, i)).collect(),
                (0..width).map(plain).collect(),
            ];
            assert_eq!(run(|_, sums| Arch::new().dispatch(sums)), expected, "{width}, rows {rows:?}");
            assert_eq!(run(|narrow, sums| Simd::vectorize(narrow, sums)), expected, "narrow, {width}, rows {rows:?}");
            if width % MORE == 0 {
                assert_eq!(
                    run(|narrow, sums| Simd::vectorize(narrow, LongBlocks(sums))),
                    expected,
                    "long, rows {rows:?}"
                );
            }
        }
    }
}
