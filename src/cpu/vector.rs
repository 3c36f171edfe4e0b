//! Vectors as wide as the processor's, of either float type.
//!
//! Sums that stay in registers are written with them: arrays of floats are vectorised where the compiler chooses to, and where it does
//! not they wait for memory element by element.

use pulp::{Arch, Simd, WithSimd};
use std::hint::black_box;

/// A float and its vectors.
pub trait Vectors: Copy + 'static {
    /// As many as a register holds.
    type V<S: Simd>: Copy;
    /// x in every lane.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// a b + c, in one rounding where the processor can.
    fn multiply_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// a + b
    fn plus<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// a where it is positive, else 0, also of what is not a number.
    fn relu<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S>;
    /// The sum of the lanes, halves added to halves.
    fn total<S: Simd>(simd: S, a: Self::V<S>) -> Self;
    /// Whole vectors, and what is left.
    fn split<S: Simd>(x: &[Self]) -> (&[Self::V<S>], &[Self]);
    /// The same for writing.
    fn split_mut<S: Simd>(x: &mut [Self]) -> (&mut [Self::V<S>], &mut [Self]);
    /// The first lanes from less than a vector, zeros in the others.
    fn load_part<S: Simd>(simd: S, x: &[Self]) -> Self::V<S>;
    /// The first lanes into less than a vector.
    fn store_part<S: Simd>(simd: S, x: &mut [Self], a: Self::V<S>);
}

/// Elements of a vector.
#[inline(always)]
pub const fn lanes<T: Vectors, S: Simd>() -> usize {
    size_of::<T::V<S>>() / size_of::<T>()
}

/// Whether the widest vectors of f32 multiply and add in one rounding. Where they do not, sums differ in their last bits from
/// those of other processors.
pub fn is_fused() -> bool {
    struct Probe;
    impl WithSimd for Probe {
        type Output = bool;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> bool {
            // x x = 1 + 2^-11 + 2^-24. A product that is rounded before the addition loses the last term.
            let x = black_box(1.0 + 2f32.powi(-12));
            let rounded = black_box(1.0 + 2f32.powi(-11));
            let splat = |x| f32::splat(simd, x);
            let rest = f32::multiply_add(simd, splat(x), splat(x), splat(-rounded));
            f32::total(simd, rest) != 0.0
        }
    }
    lanes_of_f32() > 1 && Arch::new().dispatch(Probe)
}

/// Elements of the widest vector of f32 that this processor has.
pub fn lanes_of_f32() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            lanes::<f32, S>()
        }
    }
    Arch::new().dispatch(Lanes)
}

macro_rules! vectors {
    ($float:ty, $vector:ident, $splat:ident, $mul_add:ident, $add:ident, $less:ident, $select:ident, $sum:ident, $split:ident,
     $split_mut:ident, $load:ident, $store:ident) => {
        impl Vectors for $float {
            type V<S: Simd> = S::$vector;
            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }
            #[inline(always)]
            fn multiply_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn relu<S: Simd>(simd: S, a: S::$vector) -> S::$vector {
                let zero = simd.$splat(0.0);
                simd.$select(simd.$less(zero, a), a, zero)
            }
            #[inline(always)]
            fn total<S: Simd>(simd: S, a: S::$vector) -> Self {
                simd.$sum(a)
            }
            #[inline(always)]
            fn split<S: Simd>(x: &[Self]) -> (&[S::$vector], &[Self]) {
                S::$split(x)
            }
            #[inline(always)]
            fn split_mut<S: Simd>(x: &mut [Self]) -> (&mut [S::$vector], &mut [Self]) {
                S::$split_mut(x)
            }
            #[inline(always)]
            fn load_part<S: Simd>(simd: S, x: &[Self]) -> S::$vector {
                simd.$load(x)
            }
            #[inline(always)]
            fn store_part<S: Simd>(simd: S, x: &mut [Self], a: S::$vector) {
                simd.$store(x, a)
            }
        }
    };
}

vectors!(
    f32,
    f32s,
    splat_f32s,
    mul_add_e_f32s,
    add_f32s,
    less_than_f32s,
    select_f32s,
    reduce_sum_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s
);
vectors!(
    f64,
    f64s,
    splat_f64s,
    mul_add_e_f64s,
    add_f64s,
    less_than_f64s,
    select_f64s,
    reduce_sum_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s
);
