//! Runs a program at one shape and takes its times.

use super::model::{Prediction, Step};
use super::{Kernel, Run, Spread};
use crate::devices::{self, Chosen};
use crate::model::{Sizes, WINDOW};
use crate::plan::{Plan, Update};
use crate::program::batch::{Batch, Layout};
use crate::program::dispatches::title;
use crate::program::engine::Engine;
use crate::program::{self, Call, Program, State, cost};
use crate::run::inputs::{first_weights, member_plan, train_pairs};
use crate::task::Pairs;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// A program with the plan it is run on.
pub struct Work {
    /// Shapes and method.
    pub plan: Plan,
    /// What is timed.
    pub program: Program,
    train: Pairs,
}

/// Places of the calls that are done together.
type Groups = Vec<Vec<usize>>;

/// The times of one round.
pub struct Times {
    first_step_s: f64,
    /// Milliseconds.
    steps: Vec<f64>,
    groups: Groups,
    /// Milliseconds of each group.
    kernels: Vec<Vec<f64>>,
}

/// Fewest and most repetitions of anything that is timed, in a round.
const REPEATS: std::ops::RangeInclusive<usize> = 2..=200;
/// Steps before anything is timed, where there is time for so many: caches, clocks and the weights settle.
const WARM_UP: usize = 3;

impl Work {
    /// A program by its name, taught as the plan says, with the plan's train pairs.
    pub fn new(plan: Plan, program: &str) -> Result<Self> {
        let train = train_pairs(&plan, None)?;
        let program = program::by_name(program)?.taught(&plan.method());
        Ok(Self { plan, program, train })
    }

    /// The program's name, and how it is taught where that is not the default.
    fn name(&self) -> String {
        format!("{}{}", self.program.name, self.plan.method().suffix())
    }

    /// What two runs must share to be compared.
    pub fn title(&self) -> String {
        let Plan { p, d_model, n_heads, d_mlp, models, .. } = self.plan;
        super::title(&self.name(), [p, self.train.len(), d_model, n_heads, d_mlp, models])
    }

    /// Its step as the step model counts it.
    pub fn counted(&self) -> Result<Step> {
        super::model::of_program(&self.program, &self.plan)
    }

    /// A round: a fresh engine, whole steps for at least `time`, and single kernels for as long.
    pub fn measure(&self, chosen: &Chosen, threads: usize, time: Duration) -> Result<Times> {
        let Self { plan, program, train } = self;
        devices::fitting(program, plan, train.len(), chosen, threads)?.at_once(plan.models)?;
        let grid = Pairs::grid(plan.op.parse()?, plan.p);
        let layout = Layout::new(plan.shape(), &vec![train.clone(); plan.models], &vec![grid; plan.models]);
        let began = Instant::now();
        let (mut engine, _) = devices::open_engine(chosen, program, layout, threads)?;
        for k in 0..plan.models {
            engine.write_state(k, &State::remembering(first_weights(&member_plan(plan, k))?, program.grad_copies))?;
        }
        let mut step = 0;
        let mut steps = |engine: &mut Engine, n: usize| -> Result<f64> {
            // From where the mean over a window of gradients counts.
            let first = plan.grokfast_window as u64 + step;
            let updates: Vec<Update> = (0..n as u64).map(|i| plan.update(first + i)).collect();
            step += n as u64;
            let began = Instant::now();
            pollster::block_on(engine.steps(&vec![updates; plan.models]))?;
            Ok(began.elapsed().as_secs_f64())
        };
        steps(&mut engine, 1)?;
        let first_step_s = began.elapsed().as_secs_f64();
        let (warm, mut one) = (Instant::now(), first_step_s);
        for _ in 0..WARM_UP {
            one = steps(&mut engine, 1)?;
            if warm.elapsed() > time {
                break;
            }
        }

        // Stretches as training has them, ten of them in the time there is.
        let stretch = ((time.as_secs_f64() / 10.0 / one) as usize).clamp(1, WINDOW);
        let mut times = Vec::new();
        let until = Instant::now() + time;
        while times.len() < *REPEATS.start() || (Instant::now() < until && times.len() < *REPEATS.end()) {
            times.push(1e3 * steps(&mut engine, stretch)? / stretch as f64);
        }
        let (groups, kernels) = self.kernels(&mut engine, time)?;
        Ok(Times { first_step_s, steps: times, groups, kernels })
    }

    /// The times of all rounds as one run.
    pub fn run(&self, rounds: &[Times], predicted: Option<&Prediction>) -> Result<Run> {
        let Self { plan, program, train } = self;
        let rows = train.len();
        let sizes = Sizes { shape: plan.shape(), rows };
        let models = plan.models as f64;
        let bytes = program::memory(program, plan.shape(), rows, plan.p * plan.p);
        let calls: Vec<&Call> = program.step().collect();
        let kernel = |(index, group): (usize, &Vec<usize>)| {
            let times: Vec<f64> = rounds.iter().flat_map(|round| &round.kernels[index]).copied().collect();
            let of_group: Vec<&Call> = group.iter().map(|&place| calls[place]).collect();
            let costs = || of_group.iter().map(|call| cost(call, &sizes));
            let flops = costs().map(|cost| cost.flops as f64 * models).sum();
            let bytes = costs().map(|cost| cost.bytes as f64 * models).sum();
            let predicted_ms = predicted.map(|step| step.dispatches[index].us / 1e3);
            Kernel { name: title(&of_group), ms: Spread::of(&times), flops, bytes, predicted_ms }
        };
        let groups = rounds.first().map_or(&[][..], |round| &round.groups);
        let kernels: Vec<Kernel> = groups.iter().enumerate().map(kernel).collect();
        let steps: Vec<f64> = rounds.iter().flat_map(|round| &round.steps).copied().collect();
        Ok(Run {
            program: self.name(),
            p: plan.p,
            d_model: plan.d_model,
            n_heads: plan.n_heads,
            d_mlp: plan.d_mlp,
            models: plan.models,
            rows,
            // Later rounds find their shaders compiled.
            first_step_s: rounds.first().map_or(0.0, |round| round.first_step_s),
            step_ms: Spread::of(&steps),
            kernels_ms: kernels.iter().map(|kernel| kernel.ms.median).sum(),
            predicted_ms: predicted.map(|step| step.step_us / 1e3),
            flops: program::flops(program, &sizes) as f64 * models,
            memory_mib: bytes as f64 * models / (1 << 20) as f64,
            kernels,
        })
    }

    /// The calls that are done together, and the milliseconds that they take in their place between the others.
    fn kernels(&self, engine: &mut Engine, time: Duration) -> Result<(Groups, Vec<Vec<f64>>)> {
        let calls: Vec<&Call> = self.program.step().collect();
        let groups = match engine {
            Engine::Cpu(_) => (0..calls.len()).map(|place| vec![place]).collect(),
            Engine::Gpu(machine) => machine.step_groups().to_vec(),
        };
        let ticks = |group: &Vec<usize>| group.iter().any(|&place| calls[place].entry == "tick");
        let tick = groups.iter().position(ticks).context("a step counts")?;
        let updates = vec![vec![self.plan.update(100 + self.plan.grokfast_window as u64)]; self.plan.models];
        let mut times = vec![Vec::new(); groups.len()];
        let until = Instant::now() + time;
        while times[0].len() < *REPEATS.start() || (Instant::now() < until && times[0].len() < *REPEATS.end()) {
            let seconds = pollster::block_on(one_by_one(engine, groups.len(), tick, &updates))?;
            times.iter_mut().zip(seconds).for_each(|(times, seconds)| times.push(1e3 * seconds));
        }
        Ok((groups, times))
    }
}

/// Seconds of each group of a step.
async fn one_by_one(engine: &mut Engine, groups: usize, tick: usize, updates: &[Vec<Update>]) -> Result<Vec<f64>> {
    if let Engine::Gpu(machine) = engine {
        // The counter's tick is repeated too, and the update reads the scalars that it counted to.
        let window: Vec<Vec<Update>> = updates.iter().map(|updates| vec![updates[0]; WINDOW]).collect();
        if let Some(seconds) = machine.time_step(&window).await? {
            return Ok(seconds);
        }
    }
    let mut seconds = Vec::new();
    for index in 0..groups {
        // The counter starts anew with every call of run_some, and the update wants it ticked: both together.
        let began = Instant::now();
        let indices = if index == tick { vec![index] } else { vec![tick, index] };
        match engine {
            Engine::Cpu(machine) => machine.run_some(Batch::Train, &indices, updates),
            Engine::Gpu(machine) => machine.run_dispatches(Batch::Train, &indices, updates).await?,
        }
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
