//! Runs a program at one shape and takes its times.

use super::{Kernel, Run, Spread};
use crate::devices::{self, Chosen};
use crate::model::initial_weights;
use crate::plan::{Plan, Update};
use crate::program::batch::{Batch, Layout};
use crate::program::engine::Engine;
use crate::program::{self, Call, Program, State, cost};
use crate::task::Pairs;
use anyhow::Result;
use std::time::{Duration, Instant};

/// A program with the plan it is run on.
pub struct Work {
    pub plan: Plan,
    pub program: Program,
    /// How long whole steps and single kernels are each measured, at least.
    pub time: Duration,
}

/// Fewest and most repetitions of anything that is timed.
const REPEATS: std::ops::RangeInclusive<usize> = 5..=200;
/// Steps before anything is timed: caches, clocks and the weights settle.
const WARM_UP: usize = 3;

pub fn measure(work: &Work, chosen: &Chosen, threads: usize) -> Result<Run> {
    let Work { plan, program, time } = work;
    let train = Pairs::train(&plan.split.parse()?, plan.train_fraction, plan.op.parse()?, plan.p, None)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let rows = train.len();
    let bytes = devices::check_fits(program, plan, rows, plan.models, chosen)?;
    let layout = Layout::new(plan.shape(), &vec![train; plan.models], &vec![grid; plan.models]);
    let sizes = layout.sizes(Batch::Train);
    let began = Instant::now();
    let (mut engine, _) = devices::open_engine(chosen, program, layout, threads)?;
    for k in 0..plan.models {
        engine.write_state(k, &State::fresh(initial_weights(&plan.init, plan.seed + k as u64, &plan.shape())))?;
    }
    let mut step = 0;
    let mut steps = |engine: &mut Engine, n: usize| -> Result<f64> {
        let updates: Vec<Update> = (0..n as u64).map(|i| plan.update(step + i)).collect();
        step += n as u64;
        let began = Instant::now();
        pollster::block_on(engine.steps(&vec![updates; plan.models]))?;
        Ok(began.elapsed().as_secs_f64())
    };
    steps(&mut engine, 1)?;
    let first_step_s = began.elapsed().as_secs_f64();
    let one = (0..WARM_UP).map(|_| steps(&mut engine, 1)).last().expect("some steps")?;

    // Stretches as training has them, ten of them in the time there is.
    let stretch = ((time.as_secs_f64() / 10.0 / one) as usize).clamp(1, engine.longest_stretch());
    let mut times = Vec::new();
    let until = Instant::now() + *time;
    while times.len() < *REPEATS.start() || (Instant::now() < until && times.len() < *REPEATS.end()) {
        times.push(1e3 * steps(&mut engine, stretch)? / stretch as f64);
    }
    let kernels = kernels(&mut engine, work, rows)?;
    Ok(Run {
        program: program.name.into(),
        p: plan.p,
        d_model: plan.d_model,
        n_heads: plan.n_heads,
        d_mlp: plan.d_mlp,
        models: plan.models,
        rows,
        first_step_s,
        step_ms: Spread::of(&times),
        kernels_ms: kernels.iter().map(|kernel| kernel.ms.median).sum(),
        flops: (program::flops(program, &sizes) * plan.models as u64) as f64,
        memory_mib: bytes as f64 / (1 << 20) as f64,
        kernels,
    })
}

/// Every line of the training step, in its place between the others.
fn kernels(engine: &mut Engine, work: &Work, rows: usize) -> Result<Vec<Kernel>> {
    let calls: Vec<&Call> = work.program.step().collect();
    let update = work.plan.update(100);
    let updates = vec![vec![update]; work.plan.models];
    let mut times = vec![Vec::new(); calls.len()];
    let until = Instant::now() + work.time;
    while times[0].len() < *REPEATS.start() || (Instant::now() < until && times[0].len() < *REPEATS.end()) {
        for (times, seconds) in times.iter_mut().zip(pollster::block_on(one_by_one(engine, calls.len(), &updates))?) {
            times.push(1e3 * seconds);
        }
    }
    let sizes = crate::model::Sizes { shape: work.plan.shape(), rows };
    let kernel = |(call, times): (&Call, Vec<f64>)| {
        let (cost, models) = (cost(call, &sizes), work.plan.models as f64);
        let (flops, bytes) = (cost.flops as f64 * models, cost.bytes as f64 * models);
        Kernel { name: call.title(), ms: Spread::of(&times), flops, bytes }
    };
    Ok(calls.into_iter().zip(times).map(kernel).collect())
}

/// Seconds of each call of a step.
async fn one_by_one(engine: &mut Engine, calls: usize, updates: &[Vec<Update>]) -> Result<Vec<f64>> {
    if let Engine::Gpu(machine) = engine
        && let Some(seconds) = machine.time_step(updates).await?
    {
        return Ok(seconds);
    }
    let mut seconds = Vec::new();
    for index in 0..calls {
        // The counter starts anew with every call of run_some, and the optimizer wants it ticked: both together, twice.
        let began = Instant::now();
        let indices = if index + 1 == calls { vec![index - 1, index] } else { vec![index] };
        match engine {
            Engine::Cpu(machine) => machine.run_some(Batch::Train, &indices, updates),
            Engine::Gpu(machine) => machine.run_some(Batch::Train, &indices, updates).await?,
        }
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
