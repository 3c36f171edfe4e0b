//! Twin of `sgd.wgsl`.

use super::adamw::{is_trained, note_bad};
use super::{Arguments, Real, Twin, in_progress};
use crate::not_finite::Part;
use crate::plan::Update;
use rayon::prelude::*;

/// The twin of an entry point of `sgd.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "update" => Twin {
            reads: &["updates", "step", "grads"],
            writes: &["params", "exp_avg", "first_bad"],
            run: |arguments: &mut dyn Arguments<'_, T>| {
                let [mut params, mut exp_avg] = ["params", "exp_avg"].map(|name| arguments.take(name));
                let (of_step, parameter) = in_progress(arguments);
                let bad = is_trained(&of_step, parameter)
                    .then(|| update(&of_step, arguments.read("grads"), &mut params, &mut exp_avg));
                note_bad(arguments, bad.flatten(), parameter);
                arguments.put("params", params);
                arguments.put("exp_avg", exp_avg);
            },
            by_rows: false,
        },
        _ => return None,
    })
}

/// d = g + l2 x;  m = momentum m + d;  x -= lr m, or with Nesterov's momentum lr (d + momentum m)
///
/// Says what of the numbers before the update was not finite.
fn update<T: Real>(u: &Update, grads: &[T], params: &mut [T], exp_avg: &mut [T]) -> Option<Part> {
    const BLOCK: usize = 4096;
    let [l2, momentum, lr] = [u.l2, u.momentum, u.lr].map(T::of);
    let blocks = grads.par_chunks(BLOCK).zip(params.par_chunks_mut(BLOCK).zip(exp_avg.par_chunks_mut(BLOCK)));
    let bad = blocks.map(|(grads, (params, exp_avg))| {
        let mut bad = [false; 3];
        for (&g, (x, m)) in grads.iter().zip(params.iter_mut().zip(exp_avg)) {
            for (bad, seen) in bad.iter_mut().zip([*x, *m, g]) {
                *bad |= !seen.is_finite();
            }
            let d = (g + l2 * *x).flushed();
            *m = (momentum * *m + d).flushed();
            *x -= lr * if u.nesterov != 0.0 { d + momentum * *m } else { *m };
        }
        bad
    });
    let bad = bad.reduce(|| [false; 3], |a, b| std::array::from_fn(|i| a[i] || b[i]));
    let parts = [Part::Weight, Part::ExpAvg, Part::Gradient];
    parts.into_iter().zip(bad).find(|(_, bad)| *bad).map(|(part, _)| part)
}
