//! A training run from a plan to its files: builds the engine, runs the loop, keeps what comes.

pub mod analyze;
mod board;
pub mod exchange;
mod keeper;
mod resume;

pub use analyze::{analyze, report};
pub use resume::resume;

use crate::analysis::Analysis;
use crate::devices;
use crate::model::Sizes;
use crate::plan::{Plan, one_line};
use crate::program::batch::Layout;
use crate::program::engine::Engine;
use crate::program::{self, Program, State};
use crate::progress::{Progress, Style, note};
use crate::run::inputs::{first_weights, member_plan, train_pairs};
use crate::run::{self, RunDir, Summary, disk};
use crate::task::{Op, Pairs, Split};
use crate::train::{Evaluation, Member, Outcome, Trainer};
use anyhow::Result;
use board::Board;
use keeper::{Keeper, median};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How to run a plan: nothing here changes its numbers on a given device.
#[derive(Clone)]
pub struct Options {
    /// What `--device` says.
    pub device: String,
    /// 0: one for each core.
    pub threads: usize,
    /// What the user sees.
    pub style: Style,
    /// Whether files for TensorBoard are written.
    pub tensorboard: bool,
    /// Set when the user asks to stop.
    pub stop: &'static AtomicBool,
    /// Makes the engine: [`devices::open_engine`].
    pub open: &'static Open,
}

/// Makes the engine of a machine, with a number of threads, and says the machine's name.
pub type Open = dyn Fn(&devices::Chosen, &Program, Layout, usize) -> Result<(Engine, String)> + Sync;

/// How a session ended.
pub struct Ended {
    /// How the loop ended.
    pub outcome: Outcome,
    /// The run's, or the ensemble's.
    pub directory: PathBuf,
    /// Of the models that have ended, with their numbers.
    pub summaries: Vec<(usize, Summary)>,
    /// Of the models that were analysed here.
    pub findings: Vec<Analysis>,
}

/// One member's beginnings.
struct Start {
    run: RunDir,
    /// Which of the ensemble's models it is.
    index: usize,
    train: Pairs,
    state: State<f32>,
    step: u64,
    history: Vec<Evaluation>,
}

/// The train rows that a plan speaks of, without making those of a rule: a plan may ask for more than there is room for.
fn planned_rows(plan: &Plan) -> Result<usize> {
    match plan.split.parse()? {
        Split::File(_) => Ok(train_pairs(plan, None)?.len()),
        _ => Ok((plan.train_fraction * plan.op.parse::<Op>()?.count(plan.p) as f64) as usize),
    }
}

/// A plan with the program that `auto` stands for, so that the run says which one it was.
pub fn resolved(plan: &Plan) -> Result<Plan> {
    let sizes = Sizes { shape: plan.shape(), rows: planned_rows(plan)? };
    Ok(Plan { program: program::resolve(&plan.program, &sizes), ..plan.clone() })
}

/// Why training ended before its time, where its checkpoints let it go on: the outermost context of the error that ended it.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The run's, or the ensemble's.
    pub directory: PathBuf,
    /// Of the newest checkpoint.
    pub step: u64,
    /// Whether it was the device that went away.
    pub lost: bool,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: stopped, with a checkpoint of step {}", self.directory.display(), self.step)
    }
}

/// Devices that may go away one after the other without a checkpoint in between.
const LOSSES: usize = 3;

/// Trains a new run in `directory`.
pub fn train(plan: &Plan, directory: &Path, options: &Options) -> Result<Ended> {
    let mut locks = Vec::new();
    persist(train_once(plan, directory, options, &mut locks), directory, &[], options)
}

/// Goes on from the last checkpoint on a fresh device, as often as the device goes away. The directory is locked all the while.
fn persist(
    mut ended: Result<Ended>,
    directory: &Path,
    changes: &[(String, String)],
    options: &Options,
) -> Result<Ended> {
    let (mut last, mut losses) = (None, 0);
    loop {
        let stopped = ended.as_ref().err().and_then(|error| error.downcast_ref::<Stopped>()).cloned();
        let (Some(stopped), Err(error)) = (stopped.filter(|stopped| stopped.lost), &ended) else { return ended };
        losses = if last == Some(stopped.step) { losses + 1 } else { 1 };
        if losses == LOSSES {
            return ended;
        }
        note(&one_line(format!("{}: going on from step {} on a fresh device", causes(error), stopped.step)));
        last = Some(stopped.step);
        let again = resume::prepare(directory, changes, options).and_then(|prepared| prepared.go(directory, options));
        ended = again.map_err(|error| match error.is::<Stopped>() {
            true => error,
            false => error.context(Stopped { lost: false, ..stopped }),
        });
    }
}

/// What led to an error that [`Stopped`] stands before.
pub fn causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ")
}

/// Nothing is written before the engine is there. `locks` then keep others out of the directory, and of those of the models.
fn train_once(plan: &Plan, directory: &Path, options: &Options, locks: &mut Vec<disk::Lock>) -> Result<Ended> {
    let plan = &resolved(plan)?;
    let choice = devices::choose(&options.device)?;
    let program = program::of_plan(plan)?;
    devices::check_fits(&program, plan, planned_rows(plan)?, plan.models, &choice.chosen)?;
    let train = train_pairs(plan, None)?;
    run::refuse_held(directory)?;
    let mut starts = Vec::new();
    for index in 0..plan.models {
        let own = member_plan(plan, index);
        let state = State::remembering(first_weights(&own)?, own.method().filter.copies());
        let path = if plan.models == 1 { directory.into() } else { directory.join(format!("model-{index}")) };
        let run = RunDir { path, plan: own };
        starts.push(Start { run, index, train: train.clone(), state, step: 0, history: Vec::new() });
    }
    let machine = Machine::open(&starts, choice, options)?;
    locks.push(run::begin(directory)?);
    for start in &mut starts {
        if start.run.path != directory {
            disk::make_directory(&start.run.path)?;
            locks.push(disk::Lock::take(&start.run.path)?);
        }
        start.run.create(&start.train, &start.state)?;
    }
    run::begun(directory)?;
    machine.train(starts, directory, options)
}

/// An engine that is ready for some members.
struct Machine {
    engine: Engine,
    device: String,
    /// Why it was chosen.
    why: String,
}

impl Machine {
    /// For members that all stand at the same step.
    fn open(starts: &[Start], choice: devices::Choice, options: &Options) -> Result<Self> {
        let plan = &starts[0].run.plan;
        let program = program::of_plan(plan)?;
        devices::check_fits(&program, plan, starts[0].train.len(), starts.len(), &choice.chosen)?;
        let grid = Pairs::grid(plan.op.parse()?, plan.p);
        let trains: Vec<Pairs> = starts.iter().map(|start| start.train.clone()).collect();
        let layout = Layout::new(plan.shape(), &trains, &vec![grid; starts.len()]);
        let (engine, device) = (options.open)(&choice.chosen, &program, layout, options.threads)?;
        Ok(Self { engine, device, why: choice.why })
    }

    /// Trains the members, whose directories are as they are.
    fn train(mut self, starts: Vec<Start>, directory: &Path, options: &Options) -> Result<Ended> {
        if options.style == Style::Human {
            self.introduce(&starts, directory)?;
        }
        let paths: Vec<PathBuf> = starts.iter().map(|start| start.run.path.clone()).collect();
        run_members(starts, &mut self.engine, self.device, directory, options)
            .map_err(|error| stopped(error, &paths, directory, self.engine.is_lost()))
    }

    fn introduce(&self, starts: &[Start], directory: &Path) -> Result<()> {
        let plan = &starts[0].run.plan;
        let op: Op = plan.op.parse()?;
        let models = if starts.len() > 1 { format!("{} models, ", starts.len()) } else { String::new() };
        note(&format!(
            "{models}{}, {} of {} pairs, program {} on {} ({}) -> {}",
            op.formula(plan.p),
            starts[0].train.len(),
            op.count(plan.p),
            plan.program,
            self.device,
            self.why,
            directory.display()
        ));
        Ok(())
    }
}

fn run_members(
    starts: Vec<Start>,
    engine: &mut Engine,
    device: String,
    directory: &Path,
    options: &Options,
) -> Result<Ended> {
    let (step, steps) = (starts[0].step, starts[0].run.plan.steps);
    let grid = Pairs::grid(starts[0].run.plan.op.parse()?, starts[0].run.plan.p);
    let (mut members, mut runs, mut indices, mut boards) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (k, start) in starts.into_iter().enumerate() {
        engine.write_state(k, &start.state)?;
        let trained_on = start.train.among(&grid, start.run.plan.p);
        members.push(Member { plan: start.run.plan.clone(), trained_on, history: start.history, stopped: false });
        if options.tensorboard {
            boards.push(Board::open(&start.run, step, &start.state.weights)?);
        }
        runs.push(start.run);
        indices.push(start.index);
    }
    let progress = Progress::new(options.style, step, steps, runs.len(), options.stop);
    let mut keeper = Keeper::new(runs, progress, options, steps, device, boards);
    let mut trainer = Trainer { engine, members, step };
    let outcome = pollster::block_on(trainer.run(&mut keeper));
    keeper.progress.finish();
    let outcome = match outcome? {
        // Members of a group by their numbers in the ensemble.
        Outcome::Diverged { member, step, what } => Outcome::Diverged { member: indices[member], step, what },
        outcome => outcome,
    };
    let summaries = keeper.summaries.into_iter().map(|(member, summary)| (indices[member], summary)).collect();
    Ok(Ended { outcome, directory: directory.into(), summaries, findings: keeper.findings })
}

/// An error that ended training, with what it left behind: the oldest of the newest checkpoints of the members that are not done, or
/// of all where all are.
fn stopped(error: anyhow::Error, paths: &[PathBuf], directory: &Path, lost: bool) -> anyhow::Error {
    let newest = |path: &PathBuf| -> Result<(bool, u64)> {
        let run = RunDir::open(path)?;
        Ok((run.summary()?.is_some(), run.newest_state()?.step))
    };
    let steps: Result<Vec<(bool, u64)>> = paths.iter().map(newest).collect();
    match steps.ok().and_then(|steps| steps.into_iter().min()).map(|(_, step)| step) {
        Some(step) => error.context(Stopped { directory: directory.into(), step, lost }),
        // The directory is gone, say: there is nothing to go on from.
        None => error,
    }
}

/// What a plan would take: the device's name, bytes, and milliseconds of a step, measured on a few.
pub fn estimate(plan: &Plan, options: &Options) -> Result<(String, u64, f64)> {
    let plan = &resolved(plan)?;
    const TRIED: u64 = 5;
    let choice = devices::choose(&options.device)?;
    let program = program::of_plan(plan)?;
    let bytes = devices::check_fits(&program, plan, planned_rows(plan)?, plan.models, &choice.chosen)?;
    let train = train_pairs(plan, None)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let layout = Layout::new(plan.shape(), &vec![train; plan.models], &vec![grid; plan.models]);
    let (mut engine, device) = (options.open)(&choice.chosen, &program, layout, options.threads)?;
    for k in 0..plan.models {
        engine.write_state(
            k,
            &State::remembering(first_weights(&member_plan(plan, k))?, plan.method().filter.copies()),
        )?;
    }
    let mut times = Vec::new();
    for step in 0..TRIED {
        let began = Instant::now();
        // From where the mean over a window of gradients counts.
        let update = plan.update(plan.grokfast_window as u64 + step);
        pollster::block_on(engine.steps(&vec![vec![update]; plan.models]))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((device, bytes, median(&times).unwrap_or(0.0)))
}
