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
    ]
}

/// `neurons` is the tensor that is positive where a neuron is on.
fn gradients_are_slopes(program: Program, neurons: &'static str) -> Outcome {
    for (p, d_model, n_heads, d_mlp, rows) in [(5, 6, 2, 7, 11), (7, 9, 3, 12, 20), (4, 4, 1, 5, 16)] {
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
