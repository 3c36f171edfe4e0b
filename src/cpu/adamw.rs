//! Twin of `adamw.wgsl`.

use super::{Arguments, Real, Twin, twin};
use crate::plan::Update;
use rayon::prelude::*;

pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "tick" => twin!(tick, count[step]),
        // The update is chosen from the context, which the macro does not know of.
        "update" => Twin {
            reads: &["updates", "step", "grads"],
            writes: &["params", "exp_avg", "exp_avg_sq"],
            run: |arguments: &mut dyn Arguments<T>| {
                let [mut params, mut exp_avg, mut exp_avg_sq] =
                    ["params", "exp_avg", "exp_avg_sq"].map(|name| arguments.take(name));
                let step = arguments.index("step")[0] as usize;
                let of_step = arguments.context().updates[step - 1];
                update(&of_step, arguments.read("grads"), &mut params, &mut exp_avg, &mut exp_avg_sq);
                arguments.put("params", params);
                arguments.put("exp_avg", exp_avg);
                arguments.put("exp_avg_sq", exp_avg_sq);
            },
        },
        _ => return None,
    })
}

/// step += 1: the update in progress, counted within the window
fn tick(_: &super::Context, step: &mut [u32]) {
    step[0] += 1;
}

/// x *= decay;  m += (g - m) (1 - beta1);  v = beta2 v + (1 - beta2) g g;
/// x -= step_size m / (sqrt(v) / root_correction2 + eps)
pub fn update<T: Real>(u: &Update, grads: &[T], params: &mut [T], exp_avg: &mut [T], exp_avg_sq: &mut [T]) {
    let [decay, rest1, beta2, rest2] = [u.decay, u.rest1, u.beta2, u.rest2].map(T::of);
    let [step_size, root_correction2, eps] = [u.step_size, u.root_correction2, u.eps].map(T::of);
    let tensors = grads.par_iter().zip(params).zip(exp_avg.par_iter_mut().zip(exp_avg_sq));
    tensors.with_min_len(4096).for_each(|((&g, x), (m, v))| {
        let g = g.flushed();
        *m = (*m + (g - *m) * rest1).flushed();
        let second = beta2 * *v + rest2 * (g * g);
        *v = if second < T::min_positive_value() { T::zero() } else { second };
        *x = *x * decay - step_size * *m / (v.sqrt() / root_correction2 + eps);
    });
}
