//! Models trained side by side: which of them go together, the engine that is made for them, and the loop over their files.

use super::board::Board;
use super::keeper::Keeper;
use super::many::{Nobody, Watch};
use super::stopping::{Cause, models_in_words, stopped};
use super::{Ended, Options};
use crate::cpu::vector;
use crate::devices::{self, Choice, Chosen};
use crate::gpu::device::Failure;
use crate::method::Method;
use crate::plan::{Plan, Shape, one_line};
use crate::program;
use crate::program::batch::Layout;
use crate::program::engine::Engine;
use crate::progress::{Progress, Style, note};
use crate::run::RunDir;
use crate::task::{Op, Pairs};
use crate::train::{Evaluation, Member, Outcome, Trainer};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// A model that is about to be trained, from a checkpoint that its run has.
pub(super) struct Start {
    pub run: RunDir,
    /// Its number among all that the command trains.
    pub index: usize,
    pub train: Pairs,
    pub step: u64,
    pub history: Vec<Evaluation>,
    /// Whether its directory is a run already.
    pub begun: bool,
}

/// What a model needs beside others.
pub(super) trait Seat {
    /// Updates done.
    fn step(&self) -> u64;
    /// What is trained; its program is resolved.
    fn plan(&self) -> &Plan;
    /// Train pairs.
    fn rows(&self) -> usize;
    /// These pairs.
    fn pairs(&self) -> Result<Pairs>;
}

impl Seat for Start {
    fn step(&self) -> u64 {
        self.step
    }
    fn plan(&self) -> &Plan {
        &self.run.plan
    }
    fn rows(&self) -> usize {
        self.train.len()
    }
    fn pairs(&self) -> Result<Pairs> {
        Ok(self.train.clone())
    }
}

/// What models must have in common to be trained side by side: one list of kernels of one size, and one clock.
fn kind(seat: &impl Seat) -> (u64, Shape, Method, &str) {
    let plan = seat.plan();
    (seat.step(), plan.shape(), plan.method(), &plan.program)
}

/// Puts models together that can be trained side by side, as many as fit (or as the options say) a wave, those that have least steps
/// behind them first.
pub(super) fn waves<S: Seat>(mut seats: Vec<S>, chosen: &Chosen, options: &Options) -> Result<Vec<Vec<S>>> {
    seats.sort_by_key(Seat::step);
    let mut groups: Vec<Vec<S>> = Vec::new();
    for seat in seats {
        match groups.iter_mut().find(|group| kind(&group[0]) == kind(&seat)) {
            Some(group) => group.push(seat),
            None => groups.push(vec![seat]),
        }
    }
    let mut waves = Vec::new();
    for group in groups {
        let Some(largest) = group.iter().max_by_key(|seat| seat.rows()) else { continue };
        let (plan, rows) = (largest.plan(), largest.rows());
        let room = devices::fitting(&program::of_plan(plan)?, plan, rows, chosen, options.threads)?;
        let at_once = options.at_once.of(plan, &|| largest.pairs(), group.len(), &room, chosen, options)?;
        waves.extend(cut(group, at_once));
    }
    Ok(waves)
}

/// Opens the machine of the first wave, before anything is written. While the device has too little memory for it, cuts all waves to at most
/// half the size of the first.
pub(super) fn open_first(waves: &mut Vec<Vec<Start>>, choice: &Choice, options: &Options) -> Result<Machine> {
    loop {
        let models = waves[0].len();
        match Machine::open(&waves[0], choice, options) {
            Err(error) if models > 1 && Failure::is_out_of_memory(&error) => {
                let most = models.div_ceil(2);
                note(&one_line(format!("{error:#}: going on with {} at once", models_in_words(most))));
                *waves = std::mem::take(waves).into_iter().flat_map(|wave| cut(wave, most)).collect();
            }
            opened => return opened,
        }
    }
}

/// Cuts a wave into waves of so many models at most.
fn cut<S>(mut wave: Vec<S>, most: usize) -> Vec<Vec<S>> {
    let mut waves = Vec::new();
    while wave.len() > most {
        let rest = wave.split_off(most);
        waves.push(std::mem::replace(&mut wave, rest));
    }
    waves.push(wave);
    waves
}

/// Trains one wave after the other, the first on a machine that may be there already. Directories are as they are.
pub(super) fn train_waves(
    mut first: Option<Machine>,
    waves: Vec<Vec<Start>>,
    directory: &Path,
    options: &Options,
) -> Result<Ended> {
    let paths: Vec<PathBuf> = waves.iter().flatten().map(|start| start.run.path.clone()).collect();
    let mut ended = Ended::nothing(directory);
    let count = waves.len();
    for (number, starts) in waves.into_iter().enumerate() {
        if count > 1 && options.style == Style::Human {
            note(&format!("wave {} of {count}: {}", number + 1, models_in_words(starts.len())));
        }
        let machine = match first.take() {
            Some(machine) => Ok(machine),
            None => options.machine().and_then(|choice| Machine::open(&starts, &choice, options)),
        };
        let machine = machine.map_err(|error| {
            let cause = Cause::of(&error, starts.len(), false);
            stopped(error, &paths, directory, cause)
        })?;
        ended.absorb(machine.train(starts, &paths, directory, options, &mut Nobody)?);
        if ended.outcome != Outcome::Done {
            break;
        }
    }
    Ok(ended)
}

/// An engine that is ready for some models.
pub(super) struct Machine {
    engine: Engine,
    device: String,
    /// Why it was chosen.
    why: String,
}

impl Machine {
    /// For a wave.
    pub fn open(starts: &[Start], choice: &Choice, options: &Options) -> Result<Self> {
        let program = program::of_plan(&starts[0].run.plan)?;
        let (mut trains, mut grids) = (Vec::new(), Vec::new());
        for Start { run: RunDir { plan, .. }, train, .. } in starts {
            trains.push(train.clone());
            grids.push(Pairs::grid(plan.op.parse()?, plan.p));
        }
        let layout = Layout::new(starts[0].run.plan.shape(), &trains, &grids);
        let (engine, device) = (options.open)(&choice.chosen, &program, layout, options.threads)?;
        Ok(Self { engine, device, why: choice.why.clone() })
    }

    /// Trains a wave; `paths` are those of all waves.
    pub fn train(
        mut self,
        starts: Vec<Start>,
        paths: &[PathBuf],
        directory: &Path,
        options: &Options,
        watch: &mut dyn Watch,
    ) -> Result<Ended> {
        if options.style == Style::Human {
            self.introduce(&starts, directory)?;
        }
        let models = starts.len();
        self.train_to_the_end(starts, directory, options, watch).map_err(|error| {
            let cause = Cause::of(&error, models, self.engine.is_lost());
            stopped(error, paths, directory, cause)
        })
    }

    fn introduce(&self, starts: &[Start], directory: &Path) -> Result<()> {
        let plan = &starts[0].run.plan;
        let op: Op = plan.op.parse()?;
        let models = if starts.len() > 1 { format!("{} models, ", starts.len()) } else { String::new() };
        note(&format!(
            "{models}{}, {} of {} pairs, program {} on {} ({}) -> {}{}",
            op.formula(plan.p),
            starts[0].train.len(),
            op.count(plan.p),
            plan.program,
            self.device,
            self.why,
            directory.display(),
            self.bits_differ()
        ));
        Ok(())
    }

    /// A warning on processors where the CPU engine rounds differently from all others; else empty.
    fn bits_differ(&self) -> &'static str {
        match self.engine {
            Engine::Cpu(_) if !vector::is_fused() => {
                ". This processor has no fused multiply-add, so metrics and weights differ in their last bits from those of other processors"
            }
            _ => "",
        }
    }

    fn train_to_the_end(
        &mut self,
        starts: Vec<Start>,
        directory: &Path,
        options: &Options,
        watch: &mut dyn Watch,
    ) -> Result<Ended> {
        let step = starts[0].step;
        let steps = starts.iter().map(|start| start.run.plan.steps).max().unwrap_or(step);
        let (mut members, mut runs, mut boards) = (Vec::new(), Vec::new(), Vec::new());
        for (k, start) in starts.into_iter().enumerate() {
            let state = start.run.state(step)?;
            self.engine.write_state(k, &state)?;
            let plan = start.run.plan.clone();
            let trained_on = start.train.among(&Pairs::grid(plan.op.parse()?, plan.p), plan.p);
            members.push(Member { plan, trained_on, history: start.history, stopped: false });
            if options.tensorboard {
                boards.push(Board::open(&start.run, step, &state.weights)?);
            }
            runs.push((start.index, start.run));
        }
        // A model of several has a directory of its own, also where it is trained alone.
        let several = runs.iter().any(|(_, run)| run.path != directory);
        let progress = Progress::new(options.style, step, steps, several, options.stop);
        let mut keeper = Keeper::new(runs, progress, options, steps, self.device.clone(), boards, watch);
        let outcome = pollster::block_on(Trainer::new(&mut self.engine, members, step).run(&mut keeper));
        keeper.progress.finish();
        let Keeper { summaries, diverged, findings, .. } = keeper;
        Ok(Ended { outcome: outcome?, directory: directory.into(), summaries, diverged, findings })
    }
}
