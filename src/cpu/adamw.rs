//! Twin of `adamw.wgsl`.

use super::{Arguments, Real, Twin, in_progress, wide};
use crate::model::PARAMETERS;
use crate::not_finite::{NotFinite, PARTS, Part};
use crate::plan::Update;
use rayon::prelude::*;

/// The twin of an entry point of `adamw.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        // The update is chosen from the context, which the macro does not know of.
        "update" => Twin {
            reads: &["updates", "step", "grads"],
            writes: &["params", "exp_avg", "exp_avg_sq", "first_bad"],
            run: |arguments: &mut dyn Arguments<'_, T>| {
                let [mut params, mut exp_avg, mut exp_avg_sq] =
                    ["params", "exp_avg", "exp_avg_sq"].map(|name| arguments.take(name));
                let (of_step, parameter) = in_progress(arguments);
                let moves = is_trained(&of_step, parameter)
                    && (of_step.matrices != 0.0 || !PARAMETERS[parameter].is_hidden_matrix());
                let bad = moves
                    .then(|| update(&of_step, arguments.read("grads"), &mut params, &mut exp_avg, &mut exp_avg_sq));
                note_bad(arguments, bad.flatten(), parameter);
                arguments.put("params", params);
                arguments.put("exp_avg", exp_avg);
                arguments.put("exp_avg_sq", exp_avg_sq);
            },
            by_rows: false,
        },
        _ => return None,
    })
}

/// Whether a parameter changes at all.
pub fn is_trained(u: &Update, parameter: usize) -> bool {
    u.biases != 0.0 || !PARAMETERS[parameter].is_bias()
}

/// Keeps the first number that was not finite.
pub fn note_bad<T: Real>(arguments: &mut dyn Arguments<'_, T>, what: Option<Part>, parameter: usize) {
    let Some(what) = what else { return };
    let found = NotFinite { update: arguments.index("step")[0] as usize - 1, what, parameter };
    let mut first_bad = arguments.take_counter("first_bad");
    first_bad[0] = first_bad[0].min(found.to_code());
    arguments.put_counter("first_bad", first_bad);
}

/// g += l2 x;  x *= decay;  m += (g - m) (1 - beta1);  v = beta2 v + (1 - beta2) g g;
/// x -= step_size m / (sqrt(v) / root_correction2 + eps)
///
/// Says what of the numbers before the update was not finite, the first in the order of [`PARTS`].
pub fn update<T: Real>(
    u: &Update,
    grads: &[T],
    params: &mut [T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
) -> Option<Part> {
    const BLOCK: usize = 4096;
    let moments = exp_avg.par_chunks_mut(BLOCK).zip(exp_avg_sq.par_chunks_mut(BLOCK));
    let blocks = grads.par_chunks(BLOCK).zip(params.par_chunks_mut(BLOCK)).zip(moments);
    let bad = blocks.map(|((grads, params), (exp_avg, exp_avg_sq))| wide::adamw(u, grads, params, exp_avg, exp_avg_sq));
    let bad = bad.reduce(|| [false; 4], |a, b| std::array::from_fn(|i| a[i] || b[i]));
    PARTS.into_iter().zip(bad).find(|(_, bad)| *bad).map(|(part, _)| part)
}
