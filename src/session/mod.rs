//! A training run from a plan to its files: builds the engine, runs the loop, keeps what comes.

pub mod analyze;
mod at_once;
mod board;
pub mod exchange;
mod keeper;
mod machine;
pub mod many;
mod resume;
mod stopping;
pub mod transform;

pub use analyze::{analyze, report};
pub use at_once::{AtOnce, estimate};
pub use resume::resume;
pub use stopping::{Cause, Stopped, causes, models_in_words};

use crate::analysis::Analysis;
use crate::devices;
use crate::gpu::device::KernelChoice;
use crate::model::Sizes;
use crate::plan::Plan;
use crate::program::batch::Layout;
use crate::program::engine::Engine;
use crate::program::{self, Program, State};
use crate::progress::Style;
use crate::run::inputs::{first_weights, member_plan, train_pairs};
use crate::run::{self, RunDir, Summary, disk};
use crate::task::{Op, Split};
use crate::train::{Divergence, Outcome};
use anyhow::Result;
use machine::{Start, open_first, train_waves, waves};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use stopping::persist;

/// How to run a plan: nothing here changes its numbers on a given device.
#[derive(Clone)]
pub struct Options {
    /// What `--device` says.
    pub device: String,
    /// What `--kernels` says.
    pub kernels: KernelChoice,
    /// 0: one for each core.
    pub threads: usize,
    /// Models that are trained side by side.
    pub at_once: AtOnce,
    /// What the user sees.
    pub style: Style,
    /// Whether every run has a page.
    pub page: bool,
    /// Whether files for TensorBoard are written.
    pub tensorboard: bool,
    /// Set when the user asks to stop.
    pub stop: &'static AtomicBool,
    /// Chooses the machine: [`devices::choose_checked`].
    pub choose: &'static Choose,
    /// Makes the engine: [`devices::open_engine`].
    pub open: &'static Open,
}

/// Chooses the machine that `--device` asks for.
pub type Choose = dyn Fn(&str, Style) -> Result<devices::Choice> + Sync;

impl Options {
    /// The machine to train on.
    fn machine(&self) -> Result<devices::Choice> {
        let choice = (self.choose)(&self.device, self.style)?;
        Ok(devices::Choice { chosen: choice.chosen.with_kernels(self.kernels, self.style)?, ..choice })
    }
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
    /// Of the models whose numbers went bad, with their numbers.
    pub diverged: Vec<(usize, Divergence)>,
    /// Of the models that were analysed here.
    pub findings: Vec<Analysis>,
}

impl Ended {
    fn nothing(directory: &Path) -> Self {
        let directory = directory.into();
        let (summaries, diverged, findings) = (Vec::new(), Vec::new(), Vec::new());
        Self { outcome: Outcome::Done, directory, summaries, diverged, findings }
    }

    fn absorb(&mut self, other: Self) {
        self.outcome = other.outcome;
        self.summaries.extend(other.summaries);
        self.diverged.extend(other.diverged);
        self.findings.extend(other.findings);
        self.summaries.sort_by_key(|(index, _)| *index);
        self.diverged.sort_by_key(|(index, _)| *index);
    }
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

/// Trains a new run in `directory`, or an ensemble whose models have the next seeds.
pub fn train(plan: &Plan, directory: &Path, options: &Options) -> Result<Ended> {
    let plans: Vec<Plan> = (0..plan.models).map(|index| member_plan(plan, index)).collect();
    train_members(&plans, directory, options)
}

/// The same for models that differ in more than their seeds. `plans` are of one model each.
pub fn train_members(plans: &[Plan], directory: &Path, options: &Options) -> Result<Ended> {
    let mut locks = Vec::new();
    persist(train_once(plans, directory, options, &mut locks), directory, &[], options)
}

/// What a new run begins with.
fn first_state(run: &RunDir) -> Result<State<f32>> {
    Ok(State::remembering(first_weights(&run.plan)?, run.plan.method().filter.copies()))
}

/// Nothing is written before the engine of the first wave is there. `locks` then keep others out of the directory, and of those of
/// the models.
fn train_once(plans: &[Plan], directory: &Path, options: &Options, locks: &mut Vec<disk::Lock>) -> Result<Ended> {
    let choice = options.machine()?;
    let mut starts: Vec<Start> = Vec::with_capacity(plans.len());
    for (index, plan) in plans.iter().enumerate() {
        let plan = resolved(plan)?;
        let alike = starts.last().filter(|before| Plan { seed: plan.seed, ..before.run.plan.clone() } == plan);
        let train = match alike {
            Some(before) => before.train.clone(),
            None => {
                // Before the pairs of a rule are made: there may be no room for them.
                devices::fitting(
                    &program::of_plan(&plan)?,
                    &plan,
                    planned_rows(&plan)?,
                    &choice.chosen,
                    options.threads,
                )?;
                train_pairs(&plan, None)?
            }
        };
        let path = if plans.len() == 1 { directory.into() } else { directory.join(format!("model-{index}")) };
        starts.push(Start { run: RunDir { path, plan }, index, train, step: 0, history: Vec::new(), begun: false });
    }
    run::refuse_held(directory)?;
    let mut waves = waves(starts, &choice.chosen, options)?;
    first_state(&waves[0][0].run)?;
    let machine = open_first(&mut waves, &choice, options)?;
    locks.push(run::begin(directory)?);
    for Start { run, train, .. } in waves.iter_mut().flatten() {
        if run.path != directory {
            disk::make_directory(&run.path)?;
            locks.push(disk::Lock::take(&run.path)?);
        }
        let state = first_state(run)?;
        run.create(train, &state)?;
    }
    run::begun(directory)?;
    train_waves(Some(machine), waves, directory, options)
}

/// What a plan would take.
pub struct Estimate {
    /// The machine's name.
    pub device: String,
    /// Models that are trained side by side.
    pub at_once: usize,
    /// What these take.
    pub bytes: u64,
    /// A step of these, measured on a few, in milliseconds.
    pub ms_per_step: f64,
}
