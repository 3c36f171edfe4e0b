//! The twins' gradients against four-point differences of their loss, in f64.

use crate::support::{Outcome, layout, pairs, require, shape, test};
use grokscope::model::{PARAMETERS, Weights, initial_weights};
use grokscope::plan::preset;
use grokscope::program::batch::Batch;
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::{Program, State, composed, layered};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![
        test("gradients_of_the_layered_program_are_the_slopes_of_the_loss", || {
            gradients_are_slopes(layered::program(), "pre")
        }),
        test("gradients_of_the_composed_program_are_the_slopes_of_the_loss", || {
            gradients_are_slopes(composed::program(), "post4")
        }),
        test("adamw_in_float32_keeps_small_gradients", small_gradients_count),
    ]
}

/// Late in training gradients are tiny, and AdamW divides by their size: the f32 engine moves weights as f64 does.
fn small_gradients_count() -> Outcome {
    let (shape, program) = (shape(5, 4, 2, 9), composed::program());
    let weights = initial_weights("paper", 1, &shape);
    let mut narrow = OnCpu::<f32>::new(&program, layout(shape, &[11]), 1)?;
    let mut wide = OnCpu::<f64>::new(&program, layout(shape, &[11]), 1)?;
    narrow.write_state(0, &State::fresh(weights.clone()));
    wide.write_state(0, &State::fresh(weights.map(|&x| f64::from(x))));
    let calls: Vec<usize> = program
        .step()
        .enumerate()
        .filter(|(_, call)| call.kernel == "adamw" || call.entry == "tick")
        .map(|(i, _)| i)
        .collect();
    for step in 0..5 {
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            let n = weights.tensors[rank].len();
            // From 1e-15 to 1e-6, around AdamW's eps of 1e-8.
            let gradient: Vec<f32> =
                (0..n).map(|i| 10f32.powi(-6 - (i % 10) as i32) * if i % 3 == 0 { -1.0 } else { 1.0 }).collect();
            *wide.tensor_mut(0, parameter.gradient, Batch::Train) = gradient.iter().map(|&g| f64::from(g)).collect();
            *narrow.tensor_mut(0, parameter.gradient, Batch::Train) = gradient;
        }
        let update = vec![vec![preset("default")?.update(20 + step).rounded()]];
        narrow.run_some(Batch::Train, &calls, &update);
        wide.run_some(Batch::Train, &calls, &update);
    }
    let (narrow, wide) = (narrow.read_state(0), wide.read_state(0));
    let pairs = [(&narrow.exp_avg, &wide.exp_avg), (&narrow.exp_avg_sq, &wide.exp_avg_sq)];
    for (rank, parameter) in PARAMETERS.iter().enumerate() {
        for (got, want) in pairs.map(|(got, want)| (&got.tensors[rank], &want.tensors[rank])) {
            for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
                // Five sums of a few roundings each; below float32's normal numbers nothing is asked.
                let tolerance = 1e-5 * w.abs() + 5.0 * f64::from(f32::MIN_POSITIVE);
                require!((f64::from(g) - w).abs() <= tolerance, "a moment of {} at {i}: {g:e}, {w:e}", parameter.name);
            }
        }
        let moved = narrow.weights.tensors[rank].iter().zip(&wide.weights.tensors[rank]);
        for (i, (&g, &w)) in moved.enumerate() {
            require!((f64::from(g) - w).abs() <= 1e-6 * (w.abs() + 1e-2), "{} at {i}: {g:e}, {w:e}", parameter.name);
        }
    }
    Ok(())
}

/// `neurons` is the tensor that is positive where a neuron is on.
fn gradients_are_slopes(program: Program, neurons: &'static str) -> Outcome {
    for (p, d_model, n_heads, d_mlp, rows) in
        [(5, 6, 2, 7, 11), (7, 9, 3, 12, 20), (4, 4, 1, 5, 16), (23, 4, 1, 5, 529)]
    {
        let shape = shape(p, d_model, n_heads, d_mlp);
        let mut machine = OnCpu::<f64>::new(&program, layout(shape, &[rows]), 1)?;
        let mut weights = initial_weights("paper", p as u64, &shape).map(|&x| x as f64);
        for (name, shift) in [("b_in", 0.05), ("b_out", -0.03)] {
            let rank = PARAMETERS.iter().position(|parameter| parameter.name == name).unwrap();
            weights.tensors[rank].iter_mut().for_each(|x| *x += shift);
        }
        machine.write_state(0, &State::fresh(weights.clone()));
        // The first update of the paper's preset has learning rate 0: gradients, and no change.
        machine.steps(&[vec![preset("paper")?.update(0)]]);
        let gradients: Vec<Vec<f64>> =
            PARAMETERS.iter().map(|p| machine.tensor(0, p.gradient, Batch::Train).to_vec()).collect();
        let trained: Vec<usize> = pairs(p, rows, 0).pairs.iter().map(|&[x, y]| x as usize * p + y as usize).collect();
        let mut checked = 0;
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            for (i, &gradient) in gradients[rank].iter().enumerate() {
                let Some(slope) = slope(&mut machine, &weights, (rank, i), &trained, neurons) else { continue };
                // Truncation is of order h^4 = 1e-16, rounding of eps / h = 2e-12.
                require!(
                    (slope - gradient).abs() <= 1e-9 * (1.0 + gradient.abs()),
                    "d_{} at {i}: {gradient:e}, four-point difference {slope:e}",
                    parameter.name
                );
                checked += 1;
            }
        }
        let all: usize = weights.tensors.iter().map(Vec::len).sum();
        require!(checked * 10 >= all * 9, "only {checked} of {all} elements are clear of relu's kink");
    }
    Ok(())
}

const H: f64 = 1e-4;

/// (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12h, or nothing where a neuron turns on or off in between.
fn slope(
    machine: &mut OnCpu<f64>,
    weights: &Weights<f64>,
    (rank, i): (usize, usize),
    trained: &[usize],
    neurons: &'static str,
) -> Option<f64> {
    let mut losses = [0.0; 4];
    let mut signs: Option<Vec<bool>> = None;
    for (loss, factor) in losses.iter_mut().zip([-2.0, -1.0, 1.0, 2.0]) {
        let mut moved = weights.clone();
        moved.tensors[rank][i] += factor * H;
        machine.write_state(0, &State::fresh(moved));
        machine.evaluate();
        let on: Vec<bool> = machine.tensor(0, neurons, Batch::Grid).iter().map(|&x| x > 0.0).collect();
        if *signs.get_or_insert_with(|| on.clone()) != on {
            return None;
        }
        let losses = machine.of_grid(0, "row_loss");
        *loss = trained.iter().map(|&row| losses[row]).sum::<f64>() / trained.len() as f64;
    }
    Some((8.0 * (losses[2] - losses[1]) - (losses[3] - losses[0])) / (12.0 * H))
}
