//! Many runs by one plan: which they are, whose part of them this process does, and what they say together.
//!
//! ```text
//! DIR/sweep.toml      the plan
//! DIR/runs/ID/        a run's directory, called after the hash of its plan
//! DIR/sweep.csv  sweep.parquet  index.html     what `merge` makes of them
//! ```
//!
//! Processes share no file that changes: each writes into the directories of its own runs alone.

pub mod emit;
mod follow;
pub mod list;
pub mod merged;
pub mod plan;
pub mod shard;
pub mod store;
pub mod table;

use crate::plan::Plan;
use crate::progress::{Style, note};
use crate::run::disk;
use crate::session::many::{Found, Job, Left, Progress, find};
use crate::session::{Estimate, Options};
use anyhow::{Context, Result, bail, ensure};
use follow::Follow;
use merged::Merged;
use plan::SweepPlan;
use shard::Shard;
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use store::{Pulled, Store};

/// The plan's name in a sweep's directory.
const PLAN: &str = "sweep.toml";

/// What stands in a sweep's directory besides files that its plan names.
const OWN: &[&str] = &[PLAN, "sweep.csv", "sweep.parquet", "index.html", "runs"];

/// A sweep with its directory.
pub struct Sweep {
    /// Where its runs are.
    pub directory: PathBuf,
    /// What they are.
    pub plan: SweepPlan,
    /// Where they are put besides, for others who do not see the directory.
    pub store: Option<Store>,
    /// Whether the plan takes the place of an earlier one.
    extends: bool,
    /// Files that lie beside the plan, and where they lie beside its copy: their names there.
    copies: Vec<(PathBuf, String)>,
}

impl Sweep {
    /// Reads a plan that is to be run in a directory, which may hold a part of it already. `extends`: the plan takes the place of the
    /// one that is there.
    pub fn new(path: &Path, directory: PathBuf, extends: bool, store: Option<Store>) -> Result<Self> {
        let (plan, files) = read_plan(path, &disk::read)?;
        let there = directory.join(PLAN);
        let is_sweep = is_sweep(&directory)?;
        if is_sweep && !extends {
            ensure!(
                disk::read_text(&there)? == plan.text,
                "{}: of another plan than {}: expected another --out, or --extend to go on with the new plan, which keeps the runs that both have",
                there.display(),
                path.display()
            );
        }
        let mut copies = Vec::new();
        for file in files.into_iter().filter(|file| file.is_relative() || path.is_absolute()) {
            let above = path.parent().unwrap_or(Path::new(""));
            match file.strip_prefix(above) {
                Ok(inside) if disk::is_inside(inside) => {
                    let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
                    ensure!(
                        first.is_none_or(|name| !OWN.contains(&&*name)),
                        "{}: has a name that the sweep's directory has itself: expected another",
                        file.display()
                    );
                    let to = directory.join(inside);
                    ensure!(
                        extends || !to.is_file() || disk::read(&to)? == disk::read(&file)?,
                        "{}: is not what it was when {} was begun: expected another --out, or --extend to go on with the new one",
                        file.display(),
                        directory.display()
                    );
                    copies.push((file.clone(), inside.to_string_lossy().replace('\\', "/")));
                }
                _ if file.is_absolute() => {}
                _ => bail!(
                    "{}: named by {}: expected a file beside it, or an absolute path",
                    file.display(),
                    path.display()
                ),
            }
        }
        // Another process may be at the same beginning.
        let begins = |name: &str| {
            name.ends_with(".tmp")
                || name == "runs"
                || copies.iter().any(|(_, own)| own.split('/').next() == Some(name))
        };
        ensure!(
            is_sweep || (is_empty(&directory.join("runs"))? && entries(&directory)?.iter().all(|name| begins(name))),
            "{}: holds something that is no sweep: expected a new or an empty directory",
            directory.display()
        );
        Ok(Self { directory, plan, store, extends, copies })
    }

    /// The sweep in a directory; what the directory lacks is fetched from the store, where there is one.
    pub fn open(directory: &Path, store: Option<Store>) -> Result<Self> {
        let there = directory.join(PLAN);
        let fetch = |path: &Path| -> Result<Vec<u8>> {
            if let (Some(store), Ok(name)) = (&store, path.strip_prefix(directory))
                && !path.is_file()
                && let Some(bytes) = store.get(&name.to_string_lossy())?
            {
                disk::make_directory(path.parent().unwrap_or(directory))?;
                disk::write_shared(path, &bytes)?;
            }
            disk::read(path)
        };
        let is_there = there.is_file() || (store.is_some() && fetch(&there).is_ok());
        ensure!(is_there, "{}: not a sweep: it has no {PLAN}", directory.display());
        let (plan, _) = read_plan(&there, &fetch)?;
        Ok(Self { directory: directory.into(), plan, store, extends: false, copies: Vec::new() })
    }

    fn runs(&self) -> PathBuf {
        self.directory.join("runs")
    }

    /// Puts the plan into directory and store, where other processes may be doing the same. Files that it names lie beside it there.
    fn settle(&self) -> Result<()> {
        disk::make_directory(&self.runs())?;
        let mut files = Vec::new();
        for (from, name) in &self.copies {
            files.push((name.as_str(), disk::read(from)?));
        }
        files.push((PLAN, self.plan.text.clone().into_bytes()));
        for (name, bytes) in &files {
            let to = self.directory.join(name);
            if !to.is_file() || disk::read(&to)? != *bytes {
                disk::make_directory(to.parent().unwrap_or(&self.directory))?;
                disk::write_shared(&to, bytes)?;
            }
        }
        let Some(store) = &self.store else { return Ok(()) };
        for (name, bytes) in files {
            match store.get(name)? {
                Some(there) if there == bytes => {}
                Some(_) if !self.extends => bail!(
                    "{name} in the store is another one: expected another --store, or --extend to go on with the new one"
                ),
                _ => store.put(name, bytes)?,
            }
        }
        Ok(())
    }

    /// Trains what is left of a shard. Whoever does all of it keeps table and page up to date meanwhile.
    pub fn run(&self, shard: Shard, options: &Options) -> Result<Progress> {
        let done = self.store.as_ref().map_or(Ok(HashSet::new()), Store::done)?;
        // A run that only the store has is left there.
        let (mut jobs, stored) = self.jobs(shard, &done);
        let mut left = Left::of(&jobs, options)?;
        self.settle()?;
        jobs.iter_mut().for_each(|job| self.use_copies(&mut job.plan));
        if self.pull_parts(&jobs)? {
            left = Left::of(&jobs, options)?;
        }
        self.introduce(shard, &left, stored, options);
        let quiet = Options { style: Style::Quiet, ..options.clone() };
        let mut follow = Follow::new(self, shard, &jobs, &left, stored, options.style);
        let progress = left.train(&jobs, &self.directory, &quiet, &mut follow);
        follow.finish();
        if let Some(store) = &self.store {
            push_all(store, &jobs)?;
        }
        progress
    }

    /// What is left of a shard and would be done, in a few lines; nothing is written.
    pub fn dry_run(&self, shard: Shard, options: &Options) -> Result<String> {
        let done = self.store.as_ref().map_or(Ok(HashSet::new()), Store::done)?;
        let (jobs, stored) = self.jobs(shard, &done);
        let left = Left::of(&jobs, options)?;
        let mut text = format!(
            "{}: {} of {} runs in this shard, {} done, {} begun\n",
            self.directory.display(),
            jobs.len() + stored,
            self.plan.runs.len(),
            left.ended + stored,
            left.begun
        );
        let estimates = left.estimates(&jobs, options)?;
        let mut seconds = 0.0;
        for (Estimate { device, at_once, bytes, ms_per_step }, waves) in &estimates {
            text += &format!(
                "{waves} waves of at most {at_once} models on {device}: {} MiB; {ms_per_step:.1} ms a step of all\n",
                bytes.div_ceil(1 << 20)
            );
            seconds = f64::max(seconds, ms_per_step / 1e3 / *at_once as f64);
        }
        if !estimates.is_empty() {
            let minutes = seconds * left.updates as f64 / 60.0;
            text += &format!("{minutes:.1} minutes at most for {} updates, besides the analyses\n", left.updates);
        }
        Ok(text)
    }

    /// The runs of a shard that are not only in the store, and how many others there are.
    fn jobs(&self, shard: Shard, done: &HashSet<String>) -> (Vec<Job>, usize) {
        let own = self.plan.runs.iter().enumerate().filter(|(number, _)| shard.has(*number));
        let (stored, here): (Vec<Job>, Vec<Job>) =
            own.map(|(_, run)| self.job(run)).partition(|job| done.contains(&id_of(job)) && !job.directory.exists());
        (here, stored.len())
    }

    fn introduce(&self, shard: Shard, left: &Left, stored: usize, options: &Options) {
        if options.style != Style::Human {
            return;
        }
        let all = self.plan.runs.len();
        let (count, before) = (shard.count_of(all), left.ended + stored);
        let part = match count < all {
            true => format!(" of {all} (shard {}/{})", shard.index, shard.count),
            false => String::new(),
        };
        let going_on = match left.begun {
            0 => String::new(),
            begun => format!(", {begun} go on from their checkpoints"),
        };
        note(&format!("{count} runs{part}, {before} were done before{going_on} -> {}", self.directory.display()));
        if self.extends {
            let ids: HashSet<&str> = self.plan.runs.iter().map(|run| run.id.as_str()).collect();
            let others = entries(&self.runs()).unwrap_or_default();
            let others = others.iter().filter(|name| is_id(name) && !ids.contains(name.as_str())).count();
            if others > 0 {
                note(&format!(
                    "{others} runs of an earlier plan stay in {}, and are not in the table",
                    self.runs().display()
                ));
            }
        }
    }

    fn job(&self, run: &plan::Planned) -> Job {
        Job { directory: self.runs().join(&run.id), plan: run.plan.clone() }
    }

    /// Lets a plan name the copies of files: what lies beside the sweep's plan may change.
    fn use_copies(&self, plan: &mut Plan) {
        for named in [&mut plan.split, &mut plan.init] {
            if let Some((_, name)) = self.copies.iter().find(|(from, _)| from == Path::new(named.as_str())) {
                *named = self.directory.join(name).display().to_string();
            }
        }
    }

    /// Fetches runs that were stopped on another machine; whether there were any.
    fn pull_parts(&self, jobs: &[Job]) -> Result<bool> {
        let Some(store) = &self.store else { return Ok(false) };
        let parts = store.parts()?;
        let mut any = false;
        for job in jobs.iter().filter(|job| !job.directory.exists()) {
            let id = id_of(job);
            if parts.contains(&id) {
                match store.pull_part(&id, &job.directory) {
                    Err(error) if disk::passes(&error) || store::passes(&error) => return Err(error),
                    Err(error) => note(&format!("{error:#}: the run begins anew")),
                    Ok(()) => any = true,
                }
            }
        }
        Ok(any)
    }

    /// Writes the table and the page of what has come of the runs so far. The same runs give the same files.
    pub fn merge(&self) -> Result<Merged> {
        if let Some(store) = &self.store {
            let done = store.done()?;
            for job in self.plan.runs.iter().map(|run| self.job(run)) {
                let id = id_of(&job);
                if done.contains(&id)
                    && !job.directory.exists()
                    && let Pulled::Damaged(problem) = store.pull(&id, &job.directory)?
                {
                    note(&format!("{problem}: expected grokscope sweep run to do it again"));
                }
            }
        }
        let merged = Merged::write(self)?;
        if let Some(store) = &self.store {
            for name in merged::FILES {
                store.put(name, disk::read(&self.directory.join(name))?)?;
            }
        }
        Ok(merged)
    }
}

/// Puts into the store what has ended here and what has been begun.
fn push_all(store: &Store, jobs: &[Job]) -> Result<()> {
    let done = store.done()?;
    for job in jobs.iter().filter(|job| !done.contains(&id_of(job))) {
        let id = id_of(job);
        match find(job) {
            Found::Ended(..) => store.push(&id, &job.directory)?,
            Found::Begun(_, step, _) if step > 0 => store.push_part(&id, &job.directory)?,
            _ => {}
        }
    }
    Ok(())
}

fn id_of(job: &Job) -> String {
    job.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A plan, and the files that it names, which are read by `read`.
fn read_plan(path: &Path, read: &dyn Fn(&Path) -> Result<Vec<u8>>) -> Result<(SweepPlan, Vec<PathBuf>)> {
    let files = RefCell::new(Vec::new());
    let file = |path: &Path| {
        files.borrow_mut().push(path.to_path_buf());
        read(path)
    };
    let plan = SweepPlan::new(&disk::read_text(path)?, &path.display().to_string(), &file)?;
    Ok((plan, files.into_inner()))
}

/// A plan, which must be fit to be run, and the files that it names: their names beside it, and what they hold.
pub fn files_of(plan: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let above = plan.parent().unwrap_or(Path::new(""));
    let (_, files) = read_plan(plan, &disk::read)?;
    let file = |path: &Path| -> Result<(String, Vec<u8>)> {
        let name = path.strip_prefix(above).unwrap_or(path).to_string_lossy().into_owned();
        Ok((name, disk::read(path)?))
    };
    std::iter::once(plan).chain(files.iter().map(PathBuf::as_path)).map(file).collect()
}

/// Whether an error may be gone another time, with nothing changed in what was asked for.
pub fn passes(error: &anyhow::Error) -> bool {
    error.is::<crate::session::Stopped>() || disk::passes(error) || store::passes(error)
}

/// Names in a directory; none where it is not there.
fn entries(directory: &Path) -> Result<Vec<String>> {
    match disk::entries(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries = entries.with_context(|| format!("{}: could not be listed", directory.display()))?;
            Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        }
    }
}

fn is_empty(directory: &Path) -> Result<bool> {
    Ok(entries(directory)?.is_empty())
}

fn is_id(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a directory is a sweep's: it has a plan, and runs with the names of such.
fn is_sweep(directory: &Path) -> Result<bool> {
    let runs = directory.join("runs");
    let own = |name: &String| is_id(name.split('.').next().unwrap_or_default());
    Ok(directory.join(PLAN).is_file() && runs.is_dir() && entries(&runs)?.iter().all(own))
}

/// A sweep's directory where none is named: the one that its plan lies in, or runs/ and the plan's name.
pub fn default_directory(plan: &Path) -> Result<PathBuf> {
    let above = plan.parent().unwrap_or(Path::new(""));
    if plan.file_name().is_some_and(|name| name == PLAN) && is_sweep(above)? {
        return Ok(above.into());
    }
    let name = plan.file_stem().with_context(|| format!("{}: has no name: expected --out DIR", plan.display()))?;
    Ok(Path::new("runs").join(name))
}
