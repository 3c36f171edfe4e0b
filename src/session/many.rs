//! Runs with directories of their own that are trained side by side: those that are done are left alone, those that were begun go on.

use super::machine::{Machine, Seat, Start, waves};
use super::stopping::{Cause, Losses, stopped};
use super::{AtOnce, Estimate, Options, analyze, estimate, first_state, planned_rows, resolved};
use crate::analysis::Analysis;
use crate::plan::{Plan, one_line};
use crate::progress::note;
use crate::run::disk::{self, Lock, kind_of};
use crate::run::inputs::{first_weights, train_pairs};
use crate::run::{self, Newest, RunDir, Summary};
use crate::task::Pairs;
use crate::train::{Divergence, Evaluation, Outcome};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
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
    /// It cannot be read for now; and why.
    Unreadable(String),
}

/// Follows runs that are trained side by side.
pub trait Watch {
    /// So many updates were done, those of all models counted together.
    fn stepped(&mut self, updates: u64);
    /// A run has ended: here, or where another process trained it.
    fn ended(&mut self, number: usize, end: &End, here: bool);
}

/// Follows nothing.
pub struct Nobody;

impl Watch for Nobody {
    fn stepped(&mut self, _: u64) {}
    fn ended(&mut self, _: usize, _: &End, _: bool) {}
}

/// Tells each end once: where a device goes away, its wave is looked at again.
struct Once<'a> {
    told: HashSet<usize>,
    watch: &'a mut dyn Watch,
}

impl Watch for Once<'_> {
    fn stepped(&mut self, updates: u64) {
        self.watch.stepped(updates);
    }
    fn ended(&mut self, number: usize, end: &End, here: bool) {
        if self.told.insert(number) {
            self.watch.ended(number, end, here);
        }
    }
}

/// How training came to its end.
pub struct Progress {
    /// Whether it was asked to stop.
    pub interrupted: bool,
    /// Runs that another process is training, or has begun to.
    pub elsewhere: usize,
    /// What became of runs that are left as they are, because something is wrong with their directories.
    pub left_out: BTreeSet<String>,
}

/// Looks at a run's directory without changing it.
pub fn find(job: &Job) -> Found {
    let directory = &job.directory;
    // A file that is gone is damage; one that cannot be read for now is not.
    let told = |problem: anyhow::Error| match kind_of(&problem) {
        None
        | Some(ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory | ErrorKind::InvalidData) => {
            Found::Damaged(one_line(format!("{problem:#}")))
        }
        Some(_) => Found::Unreadable(one_line(format!("{problem:#}"))),
    };
    let is_begun = run::refuse_begun(directory).is_ok();
    if is_begun && directory.join("plan.toml").exists() {
        return look(job).unwrap_or_else(told);
    }
    match run::refuse_held(directory) {
        Ok(()) => Found::Nothing,
        Err(problem) if is_begun && kind_of(&problem).is_none() => {
            Found::Damaged(format!("{}: holds something that is no run", directory.display()))
        }
        Err(problem) => told(problem),
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
        // All that it will be analysed with: where something is missing it could not end as it would have.
        let kept = run.checkpoints()?.into_iter().filter(|&kept| kept <= step);
        kept.map(|kept| run.checkpoint_weights(kept)).try_for_each(|weights| weights.map(drop))?;
        let history = run.history(step)?;
        run.timing()?;
        run.split_text()?;
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
        Some(_) => analyze::findings(&run.path.join("findings.json"))?.map(Box::new),
        None => None,
    };
    Ok(Found::Ended(run, End::Done(summary.into()), analysis))
}

/// Whether a run's plan is the one asked for; it keeps copies of files, and knows which program `auto` was.
fn plans_agree(has: &Plan, wanted: &Plan) -> bool {
    let mut wanted = wanted.clone();
    if wanted.program == "auto" {
        wanted.program = has.program.clone();
    }
    let of_file = |has: &str, wanted: &str, kind| has.ends_with(kind) && wanted.ends_with(kind);
    if of_file(&has.split, &wanted.split, ".csv") {
        // The file says which pairs, and how many.
        wanted.split = has.split.clone();
        wanted.train_fraction = has.train_fraction;
    }
    if of_file(&has.init, &wanted.init, ".safetensors") {
        wanted.init = has.init.clone();
    }
    *has == wanted
}

/// A run that is not at its end.
struct Unfinished {
    /// Its number among the jobs.
    number: usize,
    /// With its program resolved.
    plan: Plan,
    step: u64,
    rows: usize,
    /// Its files, once it has some: they are its own copies.
    begun: Option<RunDir>,
}

impl Seat for Unfinished {
    fn step(&self) -> u64 {
        self.step
    }
    fn plan(&self) -> &Plan {
        &self.plan
    }
    fn rows(&self) -> usize {
        self.rows
    }
    fn pairs(&self) -> Result<Pairs> {
        match &self.begun {
            Some(run) => train_pairs(&run.plan, run.split_text()?),
            None => train_pairs(&self.plan, None),
        }
    }
}

/// Waves of one kind.
pub struct Kind {
    /// Of one of their models.
    pub plan: Plan,
    /// Models of the largest.
    pub models: usize,
    /// How many waves.
    pub waves: usize,
}

/// What is left to do of some runs.
pub struct Left {
    /// Runs that are at their end.
    pub ended: usize,
    /// Runs that go on from a checkpoint.
    pub begun: usize,
    /// Runs that begin anew because of what their directories hold.
    pub damaged: usize,
    /// Updates to do at most.
    pub updates: u64,
    /// What is wrong with runs that cannot be read.
    unreadable: BTreeSet<String>,
    /// Numbers of the others, as they are trained side by side.
    waves: Vec<Vec<usize>>,
}

impl Left {
    /// Looks at all of them, and refuses what this machine cannot train, before anything is written.
    pub fn of(jobs: &[Job], options: &Options) -> Result<Self> {
        let mut left =
            Self { ended: 0, begun: 0, damaged: 0, updates: 0, unreadable: BTreeSet::new(), waves: Vec::new() };
        let choice = options.machine()?;
        let (mut seats, mut files) = (Vec::new(), HashSet::new());
        for (number, job) in jobs.iter().enumerate() {
            let (plan, step, rows, begun) = match find(job) {
                Found::Ended(..) => {
                    left.ended += 1;
                    continue;
                }
                Found::Unreadable(problem) => {
                    left.unreadable.insert(problem);
                    continue;
                }
                Found::Begun(run, step, _) => {
                    left.begun += 1;
                    let rows = train_pairs(&run.plan, run.split_text()?)?.len();
                    (Plan { program: run.plan.program.clone(), ..job.plan.clone() }, step, rows, Some(run))
                }
                found => {
                    left.damaged += usize::from(matches!(found, Found::Damaged(_)));
                    let plan = resolved(&job.plan)?;
                    let rows = planned_rows(&plan)?;
                    (plan, 0, rows, None)
                }
            };
            if step == 0
                && plan.init.ends_with(".safetensors")
                && files.insert((plan.init.clone(), plan.p, plan.d_model, plan.n_heads, plan.d_mlp))
            {
                first_weights(&plan)?;
            }
            left.updates += plan.steps - step.min(plan.steps);
            seats.push(Unfinished { number, rows, plan, step, begun });
        }
        let mut waves = waves(seats, &choice.chosen, options)?;
        // What was begun is brought to its end first: whoever is stopped again and again gets somewhere.
        waves.sort_by_key(|wave| wave[0].step == 0);
        left.waves = waves.into_iter().map(|wave| wave.into_iter().map(|seat| seat.number).collect()).collect();
        Ok(left)
    }

    /// What the largest wave of each kind takes, measured on a few steps: nothing is written.
    pub fn estimates(&self, jobs: &[Job], options: &Options) -> Result<Vec<(Kind, Estimate)>> {
        let mut kinds: Vec<Kind> = Vec::new();
        for wave in &self.waves {
            // The one with most pairs takes the longest.
            let mut plans = wave.iter().map(|&number| resolved(&jobs[number].plan)).collect::<Result<Vec<_>>>()?;
            plans.sort_by_cached_key(|plan| planned_rows(plan).unwrap_or(0));
            let plan = plans.pop().context("a wave has models")?;
            let alike = |kind: &&mut Kind| {
                let other = &kind.plan;
                (other.shape(), other.method(), &other.program) == (plan.shape(), plan.method(), &plan.program)
            };
            match kinds.iter_mut().find(alike) {
                Some(kind) => (kind.models, kind.waves) = (wave.len().max(kind.models), kind.waves + 1),
                None => kinds.push(Kind { plan, models: wave.len(), waves: 1 }),
            }
        }
        let measured = |kind: Kind| {
            let plan = Plan { models: kind.models, ..kind.plan.clone() };
            let options = Options { at_once: AtOnce::Most(kind.models), ..options.clone() };
            Ok((kind, estimate(&plan, &options)?))
        };
        kinds.into_iter().map(measured).collect()
    }

    /// Trains it, side by side where that can be. `root` holds all of the runs.
    pub fn train(self, jobs: &[Job], root: &Path, options: &Options, watch: &mut dyn Watch) -> Result<Progress> {
        let mut watch = Once { told: HashSet::new(), watch };
        let mut interrupted = false;
        let mut work = Work { jobs, root, options: options.clone(), left_out: self.unreadable, elsewhere: Vec::new() };
        for wave in &self.waves {
            if interrupted || options.stop.load(Ordering::SeqCst) {
                interrupted = true;
                break;
            }
            interrupted = work.train(wave, &mut watch)? != Outcome::Done;
        }
        let Work { left_out, mut elsewhere, .. } = work;
        elsewhere.retain(|&number| !matches!(find(&jobs[number]), Found::Ended(..)));
        Ok(Progress { interrupted, elsewhere: elsewhere.len(), left_out })
    }
}

/// Training of one wave after the other.
struct Work<'a> {
    jobs: &'a [Job],
    root: &'a Path,
    /// With fewer models side by side once the device's memory has run out.
    options: Options,
    left_out: BTreeSet<String>,
    elsewhere: Vec<usize>,
}

impl Work<'_> {
    /// Trains a wave. Goes on with a fresh device when one is lost, as long as training makes progress, and with fewer models at once when memory
    /// runs out.
    fn train(&mut self, numbers: &[usize], watch: &mut dyn Watch) -> Result<Outcome> {
        let (mut locks, mut own) = (Vec::new(), Vec::new());
        for &number in numbers {
            match take(&self.jobs[number].directory) {
                Ok(Some(lock)) => {
                    locks.push(lock);
                    own.push(number);
                }
                Ok(None) => self.elsewhere.push(number),
                Err(problem) => self.leave_out(&problem),
            }
        }
        let mut losses = Losses::default();
        loop {
            match self.train_once(&own, watch) {
                Err(error) if losses.survived(&error, &mut self.options).is_some() => {}
                ended => return ended,
            }
        }
    }

    fn leave_out(&mut self, problem: &anyhow::Error) {
        self.left_out.insert(one_line(format!("{problem:#}")));
    }

    /// Goes on with runs whose directories are locked, from wherever they stand now.
    fn train_once(&mut self, numbers: &[usize], watch: &mut dyn Watch) -> Result<Outcome> {
        let (jobs, root, mut options) = (self.jobs, self.root, self.options.clone());
        if options.at_once == AtOnce::Fastest {
            // The wave already has the fastest size: do not measure it again.
            options.at_once = AtOnce::Most(numbers.len());
        }
        let mut starts = Vec::new();
        for &number in numbers {
            match start(number, &jobs[number], watch) {
                Ok(start) => starts.extend(start),
                Err(problem) => self.leave_out(&problem),
            }
        }
        starts.retain_mut(|start| match begin(start) {
            Ok(()) => true,
            Err(problem) => {
                self.leave_out(&problem);
                false
            }
        });
        if starts.is_empty() {
            return Ok(Outcome::Done);
        }
        let choice = options.machine()?;
        for starts in waves(starts, &choice.chosen, &options)? {
            let paths: Vec<PathBuf> = starts.iter().map(|start| start.run.path.clone()).collect();
            let machine = Machine::open(&starts, &choice, &options).map_err(|error| {
                match Cause::of(&error, starts.len(), false) {
                    Cause::Other => error,
                    cause => stopped(error, &paths, root, cause),
                }
            })?;
            let outcome = machine.train(starts, &paths, root, &options, watch)?.outcome;
            if outcome != Outcome::Done {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }
}

/// The lock of a run's directory, which is made; none where another process has it. A file in its place gets another name.
fn take(directory: &Path) -> Result<Option<Lock>> {
    if directory.is_file() {
        let free = free_name(directory)?;
        std::fs::rename(directory, &free)
            .with_context(|| format!("{}: could not be moved to {}", directory.display(), free.display()))?;
        note(&format!("{}: is a file: moved to {}", directory.display(), free.display()));
    }
    disk::make_directory(directory)?;
    Lock::take_free(directory)
}

/// A run from where it stands in its locked directory; what is damaged begins anew. None where it has ended, which is told.
fn start(number: usize, job: &Job, watch: &mut dyn Watch) -> Result<Option<Start>> {
    match find(job) {
        Found::Ended(_, end, _) => {
            watch.ended(number, &end, false);
            return Ok(None);
        }
        Found::Unreadable(problem) => bail!("{problem}"),
        Found::Begun(run, step, history) => {
            let train = train_pairs(&run.plan, run.split_text()?)?;
            return Ok(Some(Start { run, index: number, train, step, history, begun: true }));
        }
        Found::Damaged(problem) => {
            let moved = move_away(&job.directory)?;
            note(&format!("{problem}: moved to {}, and done again", moved.display()));
        }
        Found::Nothing => {}
    }
    let plan = resolved(&job.plan)?;
    let train = train_pairs(&plan, None)?;
    let run = RunDir { path: job.directory.clone(), plan };
    Ok(Some(Start { run, index: number, train, step: 0, history: Vec::new(), begun: false }))
}

/// Brings a run's locked directory to where its training goes on from.
fn begin(start: &mut Start) -> Result<()> {
    if start.begun {
        return start.run.rewind(start.step, &start.history);
    }
    run::clear(&start.run.path)?;
    let state = first_state(&start.run)?;
    start.run.create(&start.train, &state)?;
    run::begun(&start.run.path)
}

/// Gives what is in a directory another place, so that nothing of it is lost, and leaves it empty and locked as it was.
fn move_away(directory: &Path) -> Result<PathBuf> {
    let free = free_name(directory)?;
    disk::move_contents(directory, &free)?;
    Ok(free)
}

/// A name beside a directory's that nothing has.
fn free_name(directory: &Path) -> Result<PathBuf> {
    let name = directory.file_name().context("a run's directory has a name")?.to_string_lossy().into_owned();
    let free = (1..1000).map(|n| directory.with_file_name(format!("{name}.damaged-{n}"))).find(|path| !path.exists());
    free.with_context(|| format!("{}: damaged for the thousandth time", directory.display()))
}
