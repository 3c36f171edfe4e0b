//! Twin of `grokfast.wgsl`.

use super::{Arguments, Real, Twin, in_progress};
use crate::plan::Update;
use rayon::prelude::*;

/// The twin of an entry point of `grokfast.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "ema" => Twin {
            reads: &["updates", "step"],
            writes: &["grads", "grad_memory"],
            run: |arguments: &mut dyn Arguments<'_, T>| filtered(arguments, ema),
            by_rows: false,
        },
        "ma" => Twin {
            reads: &["updates", "step"],
            writes: &["grads", "grad_memory"],
            run: |arguments: &mut dyn Arguments<'_, T>| filtered(arguments, ma),
            by_rows: false,
        },
        _ => return None,
    })
}

fn filtered<T: Real>(arguments: &mut dyn Arguments<'_, T>, filter: impl Fn(&Update, &mut [T], &mut [T])) {
    let (of_step, _) = in_progress(arguments);
    let (mut grads, mut memory) = (arguments.take("grads"), arguments.take("grad_memory"));
    filter(&of_step, &mut grads, &mut memory);
    arguments.put("grads", grads);
    arguments.put("grad_memory", memory);
}

const BLOCK: usize = 4096;

/// h = keep h + take g;  g += amplify h
fn ema<T: Real>(u: &Update, grads: &mut [T], memory: &mut [T]) {
    let [keep, take, amplify] = [u.keep, u.take, u.amplify].map(T::of);
    grads.par_chunks_mut(BLOCK).zip(memory.par_chunks_mut(BLOCK)).for_each(|(grads, memory)| {
        for (g, slow) in grads.iter_mut().zip(memory) {
            *slow = (keep * *slow + take * *g).flushed();
            *g += amplify * *slow;
        }
    });
}

/// The copy at `place` becomes g;  g += amplify * the mean of all copies
fn ma<T: Real>(u: &Update, grads: &mut [T], memory: &mut [T]) {
    let (len, amplify) = (grads.len(), T::of(u.amplify));
    let copies = memory.len() / len;
    memory[u.place as usize * len..][..len].copy_from_slice(grads);
    if u.amplify == 0.0 {
        return;
    }
    let memory = &*memory;
    grads.par_chunks_mut(BLOCK).enumerate().for_each(|(block, grads)| {
        let mut sums = [T::zero(); BLOCK];
        for copy in memory.chunks_exact(len) {
            super::add(&mut sums[..grads.len()], &copy[block * BLOCK..]);
        }
        for (g, &sum) in grads.iter_mut().zip(&sums) {
            *g += amplify * (sum / T::of(copies as f64));
        }
    });
}
