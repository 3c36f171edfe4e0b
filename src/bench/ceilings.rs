//! What a device does at most: the measures that kernels are held against.

use super::Ceilings;
use crate::gpu::device::{Gpu, is_real};
use crate::gpu::kernel::{Binding, Kernel};
use crate::gpu::pass::{Compiled, Dispatch, submit, timed};
use crate::gpu::tensors::{self, largest_buffer};
use anyhow::{Context, Result};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Instant;

/// Times that each measure is taken; the best counts, because it is a ceiling.
const TRIES: usize = 5;

fn best(mut seconds: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        least = least.min(seconds()?);
    }
    Ok(least)
}

fn seconds(f: impl FnOnce()) -> f64 {
    let began = Instant::now();
    f();
    began.elapsed().as_secs_f64()
}

/// Multiply-adds of one core, in ten chains that do not wait for each other.
struct MultiplyAdd {
    rounds: usize,
}

impl WithSimd for MultiplyAdd {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.splat_f32s(1.0); 10];
        let (a, b) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(1e-3)));
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, a, b);
            }
        }
        sums.into_iter().map(|sum| simd.reduce_sum_f32s(sum)).sum()
    }
}

struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Those of the CPU engine on so many threads.
pub fn of_cpu(threads: usize) -> Result<Ceilings> {
    const ELEMENTS: usize = 32 << 20;
    const ROUNDS: usize = 2_000_000;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("no threads to run on")?;
    let threads = pool.current_num_threads();
    let source = vec![1.0f32; ELEMENTS];
    let mut target = vec![0.0f32; ELEMENTS];
    let piece = ELEMENTS.div_ceil(threads);
    let copy = best(|| {
        Ok(pool.install(|| {
            seconds(|| {
                let pieces = target.par_chunks_mut(piece).zip(source.par_chunks(piece));
                pieces.for_each(|(to, from)| to.copy_from_slice(from));
            })
        }))
    })?;
    let arch = pulp::Arch::new();
    let flops = (2 * 10 * arch.dispatch(Width) * ROUNDS * threads) as f64;
    let multiply_add = best(|| {
        let work = || {
            (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
                black_box(arch.dispatch(MultiplyAdd { rounds: ROUNDS }));
            });
        };
        Ok(pool.install(|| seconds(work)))
    })?;
    let empty = best(|| {
        const TIMES: usize = 1000;
        let one = || {
            (0..threads).into_par_iter().with_max_len(1).for_each(|i| {
                black_box(i);
            });
        };
        let work = || (0..TIMES).for_each(|_| one());
        Ok(pool.install(|| seconds(work)) / TIMES as f64)
    })?;
    Ok(Ceilings {
        copy_gb_s: (8 * ELEMENTS) as f64 / copy / 1e9,
        multiply_add_gflop_s: flops / multiply_add / 1e9,
        empty_dispatch_us: 1e6 * empty,
    })
}

/// Those of an adapter.
pub async fn of_gpu(gpu: &Gpu) -> Result<Ceilings> {
    let kernel = Kernel::new("bench/ceilings", include_str!("../../shaders/bench/ceilings.wgsl"), "")?;
    let compiled = Compiled::start(gpu, &kernel).ready().await?;
    let limits = gpu.device.limits();
    let real = is_real(&gpu.info);
    let room = largest_buffer(&limits) as usize;
    let bytes = (if real { 256 << 20 } else { 32 << 20 }).min(room / 2) / 4096 * 4096;
    // A workgroup of 64 lanes copies 1024 bytes.
    let groups = (bytes / 1024) as u32;
    let rows = groups.div_ceil(limits.max_compute_workgroups_per_dimension);
    let lanes: u32 = if real { 1 << 20 } else { 1 << 12 };
    let source = tensors::allocate(gpu, "source", &[bytes / 4], 1)?.remove(0);
    let target = tensors::allocate(gpu, "target", &[bytes / 4], 1)?.remove(0);
    let copy = dispatch(gpu, &compiled, "copy", [groups.div_ceil(rows), rows, 1], &source, &target).await?;
    let multiply_add = dispatch(gpu, &compiled, "multiply_add", [lanes / 64, 1, 1], &source, &target).await?;
    let empty = dispatch(gpu, &compiled, "empty", [1, 1, 1], &source, &target).await?;
    let rounds = kernel.constant("ROUNDS").context("no constant ROUNDS")?;
    const EMPTY: usize = 1000;
    let copy = fastest(gpu, &copy, 1).await?;
    let multiply_add = fastest(gpu, &multiply_add, 1).await?;
    // Between dispatches, so by the wall clock.
    let empty = least(gpu, &empty, EMPTY).await?;
    Ok(Ceilings {
        copy_gb_s: 2.0 * bytes as f64 / copy / 1e9,
        multiply_add_gflop_s: f64::from(lanes) * f64::from(rounds) * 64.0 / multiply_add / 1e9,
        empty_dispatch_us: 1e6 * empty,
    })
}

async fn dispatch(
    gpu: &Gpu,
    compiled: &Compiled<'_>,
    name: &str,
    workgroups: [u32; 3],
    source: &tensors::Window,
    target: &tensors::Window,
) -> Result<Dispatch> {
    let entry = compiled.kernel.entry(name, &Vec::new())?;
    let window = |binding: &Binding| if binding.writable { target.clone() } else { source.clone() };
    let windows: Vec<_> = entry.bindings.iter().map(window).collect();
    compiled
        .start_pipeline(gpu, name, &entry, &Vec::new())?
        .ready()
        .await?
        .dispatch(gpu, &entry, workgroups, &windows)
        .await
}

/// Seconds of a dispatch by the device's clock, else by the wall's.
async fn fastest(gpu: &Gpu, dispatch: &Dispatch, times: usize) -> Result<f64> {
    let mut least_seconds = f64::INFINITY;
    for _ in 0..TRIES {
        match timed(gpu, &[dispatch]).await? {
            Some(seconds) => least_seconds = least_seconds.min(seconds[0]),
            None => return least(gpu, dispatch, 10 * times).await,
        }
    }
    Ok(least_seconds)
}

/// Seconds of one of many dispatches in a submission, by the wall clock.
async fn least(gpu: &Gpu, dispatch: &Dispatch, times: usize) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        let began = Instant::now();
        submit(gpu, std::iter::once(dispatch), times);
        gpu.wait().await?;
        least = least.min(began.elapsed().as_secs_f64() / times as f64);
    }
    Ok(least)
}
