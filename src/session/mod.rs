//! A training run from a plan to its files: builds the engine, runs the loop, keeps what comes.

pub mod analyze;
mod keeper;
mod resume;

pub use analyze::{analyze, report};
pub use resume::resume;

use crate::analysis::Findings;
use crate::devices;
use crate::model::Sizes;
use crate::plan::Plan;
use crate::program::batch::Layout;
use crate::program::{self, State};
use crate::progress::{Progress, Style, note};
use crate::run::inputs::{first_weights, member_plan, train_pairs};
use crate::run::{self, RunDir, Summary, disk};
use crate::task::{Pairs, Split};
use crate::train::{Evaluation, Member, Outcome, Trainer};
use anyhow::Result;
use keeper::{Keeper, median};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How to run a plan: nothing here changes its numbers on a given device.
#[derive(Clone)]
pub struct Options {
    pub device: String,
    /// 0: one for each core.
    pub threads: usize,
    pub style: Style,
    /// Set when the user asks to stop.
    pub stop: &'static AtomicBool,
}

/// How a session ended.
pub struct Ended {
    pub outcome: Outcome,
    pub directory: PathBuf,
    pub summaries: Vec<Summary>,
    /// Of the models that were analysed here.
    pub findings: Vec<Findings>,
}

/// One member's beginnings.
struct Start {
    run: RunDir,
    /// Whether its directory is still to be made.
    new: bool,
    train: Pairs,
    state: State<f32>,
    step: u64,
    history: Vec<Evaluation>,
}

/// The train rows that a plan speaks of, without making those of a rule: a plan may ask for more than there is room for.
fn planned_rows(plan: &Plan) -> Result<usize> {
    match plan.split.parse()? {
        Split::File(_) => Ok(train_pairs(plan, None)?.len()),
        _ => Ok((plan.train_fraction * (plan.p * plan.p) as f64) as usize),
    }
}

/// A plan with the program that `auto` stands for, so that the run says which one it was.
pub fn resolved(plan: &Plan) -> Result<Plan> {
    let sizes = Sizes { shape: plan.shape(), rows: planned_rows(plan)? };
    Ok(Plan { program: program::resolve(&plan.program, &sizes), ..plan.clone() })
}

/// Trains a new run in `directory`.
pub fn train(plan: &Plan, directory: &Path, options: &Options) -> Result<Ended> {
    let plan = &resolved(plan)?;
    let choice = devices::choose(&options.device)?;
    let program = program::by_name(&plan.program)?;
    devices::check_fits(&program, plan, planned_rows(plan)?, plan.models, &choice.chosen)?;
    let train = train_pairs(plan, None)?;
    run::refuse_held(directory)?;
    let mut members = Vec::new();
    for k in 0..plan.models {
        let own = member_plan(plan, k);
        members.push((first_weights(&own)?, own));
    }
    let mut starts = Vec::new();
    for (k, (weights, own)) in members.into_iter().enumerate() {
        let path = if plan.models == 1 { directory.into() } else { directory.join(format!("model-{k}")) };
        let (run, state) = (RunDir { path, plan: own }, State::fresh(weights));
        starts.push(Start { run, new: true, train: train.clone(), state, step: 0, history: Vec::new() });
    }
    go(starts, directory, choice, options)
}

/// Trains members that all stand at the same step. Nothing is written before the engine is there.
fn go(starts: Vec<Start>, directory: &Path, choice: devices::Choice, options: &Options) -> Result<Ended> {
    let first = &starts[0].run.plan;
    let (plan, step, shape) = (first.clone(), starts[0].step, first.shape());
    let program = program::by_name(&plan.program)?;
    devices::check_fits(&program, &plan, starts[0].train.len(), starts.len(), &choice.chosen)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let trains: Vec<Pairs> = starts.iter().map(|start| start.train.clone()).collect();
    let layout = Layout::new(shape, &trains, &vec![grid.clone(); starts.len()]);
    let (mut engine, device) = devices::open_engine(&choice.chosen, &program, layout, options.threads)?;
    let rows = starts[0].train.len();
    let mut members = Vec::new();
    let mut runs = Vec::new();
    let mut locks = Vec::new();
    for (k, mut start) in starts.into_iter().enumerate() {
        if start.new {
            start.run.create(&start.train)?;
        }
        locks.push(disk::Lock::take(&start.run.path)?);
        start.run.rewind(step, &start.history)?;
        engine.write_state(k, &start.state)?;
        let trained_on = start.train.membership(plan.p);
        members.push(Member { plan: start.run.plan.clone(), trained_on, history: start.history, stopped: false });
        runs.push(start.run);
    }
    if options.style == Style::Human {
        let models = if runs.len() > 1 { format!("{} models, ", runs.len()) } else { String::new() };
        note(&format!(
            "{models}{} mod {}, {} of {} pairs, program {} on {device} ({}) -> {}",
            plan.op,
            plan.p,
            rows,
            plan.p * plan.p,
            plan.program,
            choice.why,
            directory.display()
        ));
    }
    let progress = Progress::new(options.style, step, plan.steps, runs.len(), options.stop);
    let mut keeper = Keeper::new(runs, progress, options, plan.steps, device);
    let mut trainer = Trainer { engine, members, step };
    let outcome = pollster::block_on(trainer.run(&mut keeper));
    keeper.progress.finish();
    Ok(Ended { outcome: outcome?, directory: directory.into(), summaries: keeper.summaries, findings: keeper.findings })
}

/// What a plan would take: the device's name, bytes, and milliseconds of a step, measured on a few.
pub fn estimate(plan: &Plan, options: &Options) -> Result<(String, u64, f64)> {
    let plan = &resolved(plan)?;
    const TRIED: u64 = 5;
    let choice = devices::choose(&options.device)?;
    let program = program::by_name(&plan.program)?;
    let bytes = devices::check_fits(&program, plan, planned_rows(plan)?, plan.models, &choice.chosen)?;
    let train = train_pairs(plan, None)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let layout = Layout::new(plan.shape(), &vec![train; plan.models], &vec![grid; plan.models]);
    let (mut engine, device) = devices::open_engine(&choice.chosen, &program, layout, options.threads)?;
    for k in 0..plan.models {
        engine.write_state(k, &State::fresh(first_weights(&member_plan(plan, k))?))?;
    }
    let mut times = Vec::new();
    for step in 0..TRIED {
        let began = Instant::now();
        pollster::block_on(engine.steps(&vec![vec![plan.update(step)]; plan.models]))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((device, bytes, median(&times).unwrap_or(0.0)))
}
