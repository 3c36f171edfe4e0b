//! Which tiles of products are fastest on an adapter.

use crate::gpu::device::{Failure, Family, Gpu, TILES};
use crate::plan::Plan;
use crate::program::batch::Layout;
use crate::program::on_gpu::OnGpu;
use crate::program::{State, composed};
use crate::run::inputs::{first_weights, train_pairs};
use crate::shaders::kernels;
use crate::task::Pairs;
use anyhow::Result;
use std::time::Instant;

/// Timed rounds; in each, every size of tiles takes its turn.
const ROUNDS: usize = 5;
/// Seconds after which no further round begins.
const MOST_S: f64 = 2.0;
/// Training steps of a turn.
const STEPS: u64 = 8;
/// One size for all products is taken only if its time is below this share of the time with a size chosen for each product.
const WORTH: f64 = 0.98;

/// Returns the tiles with which a training step of `plan` is fastest; none if choosing them for each product, by the workgroups that they
/// leave, is about as fast, or if memory runs out. All tiles make the same bits.
///
/// # Errors
/// The device reports an error other than too little memory.
pub fn fastest(gpu: &Gpu, plan: &Plan) -> Result<Option<&'static str>> {
    match times(gpu, plan) {
        Ok(times) => Ok(choose(&times)),
        Err(error) if Failure::is_out_of_memory(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the seconds of the fastest turn, first with tiles chosen for each product, then with each size in the order of [`TILES`].
fn times(gpu: &Gpu, plan: &Plan) -> Result<Vec<f64>> {
    let layout = || {
        let grid = Pairs::grid(plan.op.parse()?, plan.p);
        Ok::<_, anyhow::Error>(Layout::new(plan.shape(), &[train_pairs(plan, None)?], &[grid]))
    };
    let mut machines = Vec::new();
    for tiles in [None].into_iter().chain(TILES.iter().map(|tiles| Some(*tiles))) {
        let gpu = gpu.with_family(Family::Wide(tiles));
        let mut machine = pollster::block_on(OnGpu::new(gpu, kernels()?, &composed::program(), layout()?))?;
        machine.write_state(0, &State::fresh(first_weights(plan)?))?;
        // Many drivers compile at the first launch.
        pollster::block_on(machine.steps(&[vec![plan.update(0)]]))?;
        machines.push(machine);
    }
    let mut least = vec![f64::INFINITY; machines.len()];
    let first = Instant::now();
    for round in 0..ROUNDS {
        if round > 0 && first.elapsed().as_secs_f64() > MOST_S {
            break;
        }
        for (machine, least) in machines.iter_mut().zip(&mut least) {
            let began = Instant::now();
            pollster::block_on(machine.steps(&[(0..STEPS).map(|step| plan.update(step)).collect()]))?;
            *least = least.min(began.elapsed().as_secs_f64());
        }
    }
    Ok(least)
}

/// Returns the tiles to take, given what `times` returned.
fn choose(times: &[f64]) -> Option<&'static str> {
    let (least, tiles) = times[1..].iter().zip(TILES).min_by(|a, b| a.0.total_cmp(b.0))?;
    (*least < WORTH * times[0]).then_some(*tiles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_one_size_are_taken_where_they_are_faster() {
        assert_eq!(choose(&[1.0, 1.0, 1.0]), None);
        assert_eq!(choose(&[1.0, 0.99, 1.2]), None);
        assert_eq!(choose(&[1.0, 0.9, 1.2]), Some(TILES[0]));
        assert_eq!(choose(&[1.0, 0.9, 0.8]), Some(TILES[1]));
        assert_eq!(choose(&[0.5, 0.9, 0.8]), None);
    }
}
