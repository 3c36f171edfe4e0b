//! Twin of `muon.wgsl`.

use super::adamw::note_bad;
use super::{Arguments, Real, Twin, in_progress};
use crate::model::PARAMETERS;
use crate::not_finite::Part;
use crate::plan::Update;

/// The twin of an entry point of `muon.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "momentum" => Twin {
            reads: &["updates", "step", "params"],
            writes: &["grads", "exp_avg", "first_bad"],
            run: |arguments: &mut dyn Arguments<'_, T>| {
                let (of_step, parameter) = in_progress(arguments);
                if !PARAMETERS[parameter].is_hidden_matrix() {
                    return;
                }
                let [mut grads, mut exp_avg] = ["grads", "exp_avg"].map(|name| arguments.take(name));
                let seen =
                    [(Part::Weight, arguments.read("params")), (Part::ExpAvg, &exp_avg), (Part::Gradient, &grads)];
                let is_bad = |tensor: &[T]| tensor.iter().any(|x| !x.is_finite());
                let bad = seen.into_iter().find(|(_, tensor)| is_bad(tensor)).map(|(part, _)| part);
                note_bad(arguments, bad, parameter);
                momentum(&of_step, &mut grads, &mut exp_avg);
                arguments.put("grads", grads);
                arguments.put("exp_avg", exp_avg);
            },
            by_rows: false,
        },
        "update" => Twin {
            reads: &["updates", "step", "grads"],
            writes: &["params"],
            run: |arguments: &mut dyn Arguments<'_, T>| {
                let (of_step, parameter) = in_progress(arguments);
                if PARAMETERS[parameter].is_hidden_matrix() {
                    let mut params = arguments.take("params");
                    let [decay, lr] = [of_step.matrix_decay, of_step.lr].map(T::of);
                    let moved = params.iter_mut().zip(arguments.read("grads"));
                    moved.for_each(|(x, &g)| *x = *x * decay - lr * g);
                    arguments.put("params", params);
                }
            },
            by_rows: false,
        },
        _ => return None,
    })
}

/// m += (1 - momentum) (g - m);  g = m, or with Nesterov's momentum g + momentum (m - g)
fn momentum<T: Real>(u: &Update, grads: &mut [T], exp_avg: &mut [T]) {
    let [momentum, rest] = [u.momentum, u.rest_momentum].map(T::of);
    for (g, m) in grads.iter_mut().zip(exp_avg) {
        *m = (*m + rest * (*g - *m)).flushed();
        *g = if u.nesterov != 0.0 { *g + momentum * (*m - *g) } else { *m };
    }
}
