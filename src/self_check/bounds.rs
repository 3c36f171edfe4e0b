//! Error bounds of float32 for each element.
//!
//! A sum of n products errs by at most (n + 4) eps of the sum of its terms' absolute values: in any order, with multiply and
//! add fused or not, so the bounds hold under Metal's fast math. A linear kernel applied to the absolute inputs gives
//! exactly those sums. Kernels that are not linear have a bound of their own. `eps` is twice float32's unit roundoff, which leaves room for
//! WGSL's division (2.5 units in the last place) and square root.

use crate::model::{Role, Tensor, whole4};
use crate::plan::Shape;
use crate::program::Call;
use crate::program::batch::{Batch, Layout};
use crate::program::on_cpu::OnCpu;
use anyhow::Result;

/// The distance from 1 to the next float32.
pub const EPS: f64 = f32::EPSILON as f64;

/// One launch with its twins' results.
pub struct Twins<'a> {
    /// The launch.
    pub call: &'a Call,
    /// The rows it runs over.
    pub batch: Batch,
    /// Sizes and rows.
    pub layout: &'a Layout,
    /// The twin after the launch.
    pub exact: &'a OnCpu<f64>,
    /// The twin after a launch on absolute values, negated where the kernel subtracts, so that each sum is a sum of absolute terms.
    pub absolute: &'a OnCpu<f64>,
}

/// The sign that turns a subtraction of absolute values into an addition.
pub fn sign(call: &Call, shape: &Shape, tensor: &str, index: usize) -> f64 {
    let subtracted = match (call.kernel, call.entry, tensor) {
        ("slots", "forward", "W_E") => index >= shape.p * shape.d_model,
        ("slots", "forward", "W_pos") => index >= 2 * shape.d_model,
        ("slots", "forward", "b_out") => true,
        ("slots", "backward_embed", "d_resid4") => index < 2 * shape.p * whole4(shape.d_model),
        ("slots", "backward_embed", "d_slot_score4") => true,
        _ => false,
    };
    if subtracted { -1.0 } else { 1.0 }
}

/// Whether [`sign`] is -1 anywhere in a tensor.
pub fn has_signs(call: &Call, tensor: &str) -> bool {
    matches!(
        (call.kernel, call.entry, tensor),
        ("slots", "forward", "W_E" | "W_pos" | "b_out") | ("slots", "backward_embed", "d_resid4" | "d_slot_score4")
    )
}

impl Twins<'_> {
    /// The bound of every element of a tensor that the launch writes.
    pub fn bounds(&self, name: &'static str, model: usize) -> Vec<f64> {
        let shape = self.layout.shape;
        let rows = &self.layout.of(self.batch)[model];
        let value = |name: &'static str| self.exact.tensor(model, name, self.batch);
        let sums = |name: &'static str| self.absolute.tensor(model, name, self.batch);
        let least = f64::from(f32::MIN_POSITIVE);
        match (self.call.kernel, self.call.entry) {
            // exp has an error of (3 + 2 |x|) eps, and its argument has that of the scores. The quotient doubles both.
            ("attention", "forward_pattern") => {
                let top = self.score_sizes(model);
                let relative = |row_head: usize| EPS * (16.0 + 4.0 * (shape.d_head() as f64 + 4.0) * top[row_head]);
                value(name).iter().enumerate().map(|(i, a)| a * relative(i / 3) + least).collect()
            }
            // pattern (d_pattern - mean): both terms err by (d_head + 4) eps of their absolute sums.
            ("attention", "backward_pattern") => {
                let (d, e, heads) = (shape.d_model, shape.d_head(), shape.n_heads);
                let size = |row: usize, head: usize, pos: usize| {
                    let slot = rows.slots[row * 3 + pos] as usize;
                    let (dz, v) = (&sums("d_z")[row * d + head * e..], &sums("v")[slot * d + head * e..]);
                    (0..e).map(|i| dz[i] * v[i]).sum::<f64>()
                };
                let bound = |(i, a): (usize, &f64)| {
                    let (row, head) = (i / 3 / heads, i / 3 % heads);
                    let largest = (0..3).map(|pos| size(row, head, pos)).fold(0.0, f64::max);
                    2.0 * a * largest * EPS * (e as f64 + 8.0)
                };
                value("pattern").iter().enumerate().map(bound).collect()
            }
            // The same with given scores, which have no error.
            ("rows", "forward_pattern") => {
                let top = value("slot_score4").iter().fold(0.0f64, |top, score| top.max(score.abs()));
                let relative = EPS * (16.0 + 4.0 * top);
                value(name).iter().map(|a| a * relative + least).collect()
            }
            // Sums over the rows of a slot of pattern (d_pattern - mean), both of which are given.
            ("compose", "backward_scores") => {
                let (heads, wide) = (shape.n_heads, whole4(shape.n_heads));
                let (pattern, d) = (value("pattern"), value("d_pattern"));
                let mut bounds = vec![0.0; shape.n_slots() * wide];
                for (slot, bounds) in bounds.chunks_exact_mut(wide).take(2 * shape.p).enumerate() {
                    let of_slot = &rows.slot_rows[rows.slot_edges[slot] as usize..rows.slot_edges[slot + 1] as usize];
                    for (head, bound) in bounds[..heads].iter_mut().enumerate() {
                        let size = |row: &u32| {
                            let at = (*row as usize * heads + head) * 3;
                            let largest = d[at..at + 3].iter().fold(0.0f64, |most, d| most.max(d.abs()));
                            pattern[at + slot / shape.p] * largest
                        };
                        *bound = (of_slot.len() as f64 + 16.0) * 2.0 * EPS * of_slot.iter().map(size).sum::<f64>();
                    }
                }
                bounds
            }
            // Training needs a relative accuracy of 1e-5. Values below 1e-15 come from exp of large |x|, which may err by (3 + 2 |x|) eps.
            ("loss" | "stablemax", _) => {
                let relative = |x: f64| if x >= 1e-15 { 1e-5 } else { 1e-4 };
                // log1p halves its argument, and devices may flush a subnormal number to 0.
                value(name).iter().map(|x| relative(x.abs()) * x.abs() + 2.0 * least).collect()
            }
            // B G + C G G, where B is negative; and a quotient.
            ("orthonormal", "poly") => {
                let n = shape.d_model.max(shape.d_mlp) as f64;
                let gram = sums("muon_gram");
                sums(name).iter().zip(gram).map(|(sum, g)| (n + 4.0) * EPS * (sum.abs() + 10.0 * g)).collect()
            }
            ("orthonormal", "normalize") => {
                let n = (shape.d_model * shape.d_mlp) as f64;
                value(name).iter().map(|x| (n + 4.0) * EPS * x.abs()).collect()
            }
            _ => {
                let longest = [
                    shape.d_model,
                    shape.d_mlp,
                    shape.d_vocab_out,
                    // Neurons and classes, rounded up.
                    shape.d_mlp + shape.d_vocab_out + 6,
                    shape.n_slots(),
                    shape.n_heads * whole4(shape.d_head()),
                    rows.len(),
                ];
                let n = longest.into_iter().max().unwrap_or(0) as f64;
                sums(name).iter().map(|sum| (n + 4.0) * EPS * sum.abs()).collect()
            }
        }
    }

    /// For each row and head, the largest sum of |q k| / sqrt(d_head) over its positions.
    fn score_sizes(&self, model: usize) -> Vec<f64> {
        let shape = self.layout.shape;
        let (d, e, heads) = (shape.d_model, shape.d_head(), shape.n_heads);
        let (q, k) = (self.exact.tensor(model, "q", self.batch), self.exact.tensor(model, "k", self.batch));
        let of_slot = |slot: usize, head: usize| {
            (0..e).map(|i| (q[head * e + i] * k[slot * d + head * e + i]).abs()).sum::<f64>() / (e as f64).sqrt()
        };
        let rows = self.layout.of(self.batch)[model].slots.chunks_exact(3);
        rows.flat_map(|slots| {
            (0..heads).map(move |head| slots.iter().map(|&slot| of_slot(slot as usize, head)).fold(0.0, f64::max))
        })
        .collect()
    }
}

/// The bound of a parameter's gradient after `orthogonal.project`, from what it was before and the weights:
/// o = g - (w . g / w . w) w, scaled to the length of g.
pub fn projected(before: &[f64], weights: &[f64]) -> Vec<f64> {
    let n = before.len() as f64;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let absolute = before.iter().zip(weights).map(|(g, w)| (g * w).abs()).sum::<f64>();
    let ww = dot(weights, weights);
    if ww == 0.0 {
        return before.iter().map(|g| (n + 16.0) * EPS * g.abs()).collect();
    }
    // The error of w . g / w . w, and then that of o.
    let (along, error) = (dot(before, weights) / ww, (n + 4.0) * EPS * absolute / ww);
    let o: Vec<f64> = before.iter().zip(weights).map(|(g, w)| g - along * w).collect();
    let o_error = |g: f64, w: f64| error * w.abs() + 2.0 * EPS * (g.abs() + (along * w).abs());
    let errors: Vec<f64> = before.iter().zip(weights).map(|(&g, &w)| o_error(g, w)).collect();
    let (length, length_error) = (dot(&o, &o).sqrt(), dot(&errors, &errors).sqrt());
    let scale = dot(before, before).sqrt() / length;
    let relative = (n + 16.0) * EPS + length_error / length;
    o.iter().zip(&errors).map(|(o, error)| scale * (error + 2.0 * relative * o.abs())).collect()
}

/// The float tensors with a window of their own, by name.
pub fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.role, Role::Parameter | Role::Gradient | Role::Activation)
}

/// Returns an error if a reference is not finite, because the check itself would be wrong.
pub fn finite(x: f64, what: &str) -> Result<f64> {
    anyhow::ensure!(x.is_finite(), "{what}: the reference is {x}");
    Ok(x)
}
