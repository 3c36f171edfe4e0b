//! Twin of `orthogonal.wgsl`.

use super::{Arguments, Real, Twin, dot};
use rayon::prelude::*;

/// The twin of an entry point of `orthogonal.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "project" => Twin {
            reads: &["params"],
            writes: &["grads"],
            run: |arguments: &mut dyn Arguments<'_, T>| {
                let mut grads = arguments.take("grads");
                project(arguments.read("params"), &mut grads);
                arguments.put("grads", grads);
            },
            by_rows: false,
        },
        _ => return None,
    })
}

const BLOCK: usize = 4096;

/// a . b, block by block, in the blocks' order
fn long_dot<T: Real>(a: &[T], b: &[T]) -> T {
    let blocks: Vec<T> = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK)).map(|(a, b)| dot(a, b)).collect();
    blocks.into_iter().sum()
}

/// o = g - (w . g / w . w) w;  g = o |g| / |o|
fn project<T: Real>(params: &[T], grads: &mut [T]) {
    // Added to what is divided by, as the authors do.
    let least = T::of(1e-30);
    let along = long_dot(params, grads) / (long_dot(params, params) + least);
    let before = long_dot(grads, grads).sqrt();
    let blocks = || params.par_chunks(BLOCK);
    grads.par_chunks_mut(BLOCK).zip(blocks()).for_each(|(grads, params)| super::add_scaled(grads, -along, params));
    let scale = before / (long_dot(grads, grads).sqrt() + least);
    grads.par_chunks_mut(BLOCK).for_each(|grads| grads.iter_mut().for_each(|g| *g *= scale));
}
