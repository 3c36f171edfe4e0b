//! Runs with directories of their own that are trained side by side: those that are done are left alone, those that were begun go on.

use super::machine::{Machine, Start, waves};
use super::{Losses, Options, analyze, first_state, planned_rows, resolved};
use crate::analysis::Analysis;
use crate::devices;
use crate::plan::{Plan, one_line};
use crate::program;
use crate::progress::note;
use crate::run::disk::{self, Lock, kind_of};
use crate::run::inputs::train_pairs;
use crate::run::{self, Newest, RunDir, Summary};
use crate::train::{Divergence, Evaluation, Outcome};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A run that is to be there in the end.
pub struct Job {
    /// Its directory.
    pub directory: PathBuf,
    /// What is trained, one model.
    pub plan: Plan,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum End {
    /// By a rule of its plan.
    Done(Box<Summary>),
    /// Its numbers went bad.
    Diverged(Divergence),
}

/// What a directory holds of a run.
pub enum Found {
    /// Nothing yet.
    Nothing,
    /// A checkpoint to go on from, with its step and the rows before it.
    Begun(RunDir, u64, Vec<Evaluation>),
    /// All of it, with the analysis of a run that has one.
    Ended(RunDir, End, Option<Box<Analysis>>),
    /// Something that is no run of this plan; and what is wrong.
    Damaged(String),
}

/// How far the runs came.
pub struct Progress {
    /// Whether it was asked to stop.
    pub interrupted: bool,
    /// Runs that another process is training, or has begun to.
    pub elsewhere: usize,
}

/// Looks at a run's directory without changing it. An error is one of the system's.
pub fn find(job: &Job) -> Result<Found> {
    if run::refuse_begun(&job.directory).is_err() {
        return Ok(Found::Nothing);
    }
    if !job.directory.join("plan.toml").exists() {
        return Ok(match run::refuse_held(&job.directory) {
            Ok(()) => Found::Nothing,
            Err(problem) if kind_of(&problem).is_some() => return Err(problem),
            Err(_) => Found::Damaged(format!("{}: holds something that is no run", job.directory.display())),
        });
    }
    match look(job) {
        // A file that is gone is damage; one that cannot be read for now is not.
        Err(problem) if kind_of(&problem).is_none_or(|kind| kind == std::io::ErrorKind::NotFound) => {
            Ok(Found::Damaged(one_line(format!("{problem:#}"))))
        }
        found => found,
    }
}

fn look(job: &Job) -> Result<Found> {
    let run = RunDir::open(&job.directory)?;
    ensure!(
        plans_agree(&run.plan, &job.plan),
        "{}: of another plan than this directory is for",
        job.directory.join("plan.toml").display()
    );
    if let Some(divergence) = run.divergence()? {
        return Ok(Found::Ended(run, End::Diverged(divergence), None));
    }
    let Some(summary) = run.summary()? else {
        let Newest { step, .. } = run.newest_state()?;
        let history = run.history(step)?;
        run.timing()?;
        return Ok(Found::Begun(run, step, history));
    };
    let rows = run.metrics()?;
    let last = rows.last().map(|row| row.step);
    ensure!(
        last == Some(summary.steps),
        "{}: its last row is of step {last:?}, and the run ended at {}",
        run.path.join("metrics.jsonl").display(),
        summary.steps
    );
    run.checkpoint_weights(summary.steps)?;
    let (model, last) = (run.path.join("model.safetensors"), run.checkpoint_path(summary.steps));
    ensure!(
        disk::read(&model)? == disk::read(&last.join("model.safetensors"))?,
        "{}: is not the model of the last checkpoint",
        model.display()
    );
    // Without keys it could not be analysed.
    let analysis = match summary.key_frequencies {
        Some(_) => Some(Box::new(analyze::findings(&run.path.join("findings.json"))?)),
        None => None,
    };
    Ok(Found::Ended(run, End::Done(summary.into()), analysis))
}

/// Whether a run's plan is the one asked for; it keeps copies of files, and knows which program `auto` was.
fn plans_agree(has: &Plan, wanted: &Plan) -> bool {
    let program = if wanted.program == "auto" { has.program.clone() } else { wanted.program.clone() };
    let of_file = |has: &str, wanted: &str, kind| has.ends_with(kind) && wanted.ends_with(kind);
    let split = if of_file(&has.split, &wanted.split, ".csv") { &has.split } else { &wanted.split };
    let init = if of_file(&has.init, &wanted.init, ".safetensors") { &has.init } else { &wanted.init };
    *has == Plan { program, split: split.clone(), init: init.clone(), ..wanted.clone() }
}

/// Refuses a device that is not there, or too many models at once for it, before anything is written.
pub fn check(job: &Job, options: &Options) -> Result<()> {
    let (plan, choice) = (resolved(&job.plan)?, devices::choose(&options.device)?);
    let room = devices::fitting(&program::of_plan(&plan)?, &plan, planned_rows(&plan)?, &choice.chosen)?;
    room.at_once(options.at_once).map(|_| ())
}

/// Trains what is left of some runs, side by side where they can be, and tells each end. `root` holds all of them.
pub fn train_all(jobs: &[Job], root: &Path, options: &Options, told: &mut dyn FnMut(usize, &End)) -> Result<Progress> {
    let mut progress = Progress { interrupted: false, elsewhere: 0 };
    let mut starts = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        match find(job)? {
            Found::Ended(_, end, _) => told(index, &end),
            found => starts.push(start(index, job, found)?),
        }
    }
    if starts.is_empty() {
        return Ok(progress);
    }
    for wave in waves(starts, &devices::choose(&options.device)?.chosen, options)? {
        if options.stop.load(Ordering::SeqCst) {
            progress.interrupted = true;
            break;
        }
        let indices: Vec<usize> = wave.into_iter().map(|start| start.index).collect();
        if train_wave(jobs, &indices, root, options, told, &mut progress)? != Outcome::Done {
            progress.interrupted = true;
            break;
        }
    }
    Ok(progress)
}

/// Trains the runs of a wave, on a fresh device where one goes away, as long as it comes further.
fn train_wave(
    jobs: &[Job],
    indices: &[usize],
    root: &Path,
    options: &Options,
    told: &mut dyn FnMut(usize, &End),
    progress: &mut Progress,
) -> Result<Outcome> {
    let mut locks = Vec::new();
    let mut left: Vec<usize> = Vec::new();
    for &index in indices {
        match take(&jobs[index].directory)? {
            Some(lock) => {
                locks.push(lock);
                left.push(index);
            }
            None => progress.elsewhere += 1,
        }
    }
    let mut losses = Losses::default();
    loop {
        match train_once(jobs, &left, root, options, told) {
            Err(error) if losses.survived(&error).is_some() => {}
            ended => return ended,
        }
    }
}

/// The lock of a run's directory, which is made; none where another process has it.
fn take(directory: &Path) -> Result<Option<Lock>> {
    disk::make_directory(directory)?;
    match Lock::take(directory) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if kind_of(&error).is_some() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Goes on with runs whose directories are locked, from wherever they stand now.
fn train_once(
    jobs: &[Job],
    indices: &[usize],
    root: &Path,
    options: &Options,
    told: &mut dyn FnMut(usize, &End),
) -> Result<Outcome> {
    let mut starts = Vec::new();
    for &index in indices {
        match find(&jobs[index])? {
            Found::Ended(_, end, _) => told(index, &end),
            Found::Damaged(problem) => {
                let moved = move_away(&jobs[index].directory)?;
                note(&format!("{problem}: moved to {}, and done again", moved.display()));
                starts.push(start(index, &jobs[index], Found::Nothing)?);
            }
            found => starts.push(start(index, &jobs[index], found)?),
        }
    }
    if starts.is_empty() {
        return Ok(Outcome::Done);
    }
    let choice = devices::choose(&options.device)?;
    for mut starts in waves(starts, &choice.chosen, options)? {
        let machine = Machine::open(&starts, &choice, options)?;
        for start in &mut starts {
            if start.begun {
                start.run.rewind(start.step, &start.history)?;
            } else {
                run::clear(&start.run.path)?;
                let state = first_state(&start.run)?;
                start.run.create(&start.train, &state)?;
                run::begun(&start.run.path)?;
            }
        }
        let paths: Vec<PathBuf> = starts.iter().map(|start| start.run.path.clone()).collect();
        let ended = machine.train(starts, &paths, root, options)?;
        for (index, summary) in ended.summaries {
            told(index, &End::Done(summary.into()));
        }
        for (index, divergence) in ended.diverged {
            told(index, &End::Diverged(divergence));
        }
        if ended.outcome != Outcome::Done {
            return Ok(ended.outcome);
        }
    }
    Ok(Outcome::Done)
}

/// A run from where it was found to stand. What is damaged begins anew.
fn start(index: usize, job: &Job, found: Found) -> Result<Start> {
    if let Found::Begun(run, step, history) = found {
        let train = train_pairs(&run.plan, run.split_text()?)?;
        return Ok(Start { run, index, train, step, history, begun: true });
    }
    let plan = resolved(&job.plan)?;
    let train = train_pairs(&plan, None)?;
    let run = RunDir { path: job.directory.clone(), plan };
    Ok(Start { run, index, train, step: 0, history: Vec::new(), begun: false })
}

/// Gives a directory another name, so that nothing of it is lost, and makes an empty one in its place that is locked like it.
fn move_away(directory: &Path) -> Result<PathBuf> {
    let name = directory.file_name().context("a run's directory has a name")?.to_string_lossy().into_owned();
    let free = (1..1000).map(|n| directory.with_file_name(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
    let Some(free) = free else { bail!("{}: damaged for the thousandth time", directory.display()) };
    disk::move_contents(directory, &free)?;
    Ok(free)
}
