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
mod remote;
pub mod shard;
pub mod store;
pub mod table;

use crate::plan::Plan;
use crate::progress::{Bar, Style, note};
use crate::run::disk;
use crate::session::analyze::Request;
use crate::session::many::{Job, Kind, Left, Progress};
use crate::session::{self, Cause, Estimate, Options, Stopped};
use anyhow::{Context, Result, bail, ensure};
use follow::Follow;
use merged::Merged;
use plan::SweepPlan;
use remote::Remote;
use shard::Shard;
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use store::Store;

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
        let copies = copies(path, files, &directory, extends)?;
        if !is_sweep {
            // Another process may be at the same beginning.
            let begins = |name: &str| {
                name.ends_with(".tmp") || copies.iter().any(|(_, own)| own.split('/').next() == Some(name))
            };
            // By now it may have come to its end with that.
            refuse_other(&directory, &begins)
                .or_else(|error| if self::is_sweep(&directory)? { Ok(()) } else { Err(error) })?;
        }
        Ok(Self { directory, plan, store, extends, copies })
    }

    /// The sweep in a directory; what the directory lacks is fetched from the store, where there is one.
    pub fn open(directory: &Path, store: Option<Store>) -> Result<Self> {
        let there = directory.join(PLAN);
        if let Some(store) = &store {
            let plan = store.get(PLAN)?;
            let plan = plan.with_context(|| format!("{}: not a sweep: it has no {PLAN}", store.url()))?;
            if there.is_file() {
                ensure!(
                    disk::read(&there)? == plan,
                    "{}: of another plan than {}/{PLAN}: expected another DIR",
                    there.display(),
                    store.url()
                );
            } else {
                refuse_other(directory, &|name| name.ends_with(".tmp"))?;
                disk::make_directory(directory)?;
                disk::write_shared(&there, &plan)?;
            }
        }
        ensure!(there.is_file(), "{}: not a sweep: it has no {PLAN}", directory.display());
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
            disk::make_directory(to.parent().unwrap_or(&self.directory))?;
            if disk::write_new(&to, bytes)? || disk::read(&to)? == *bytes {
                continue;
            }
            ensure!(
                self.extends,
                "{}: became another one meanwhile: expected another --out, or --extend",
                to.display()
            );
            disk::write_shared(&to, bytes)?;
        }
        let Some(store) = &self.store else { return Ok(()) };
        for (name, bytes) in files {
            match store.get(name)? {
                Some(there) if there == bytes => continue,
                None if store.put_new(name, bytes.clone())? => continue,
                _ => ensure!(
                    self.extends,
                    "{}/{name}: is another one: expected another --store, or --extend to go on with the new one",
                    store.url()
                ),
            }
            store.put(name, bytes)?;
        }
        Ok(())
    }

    /// Trains what is left of a shard. Whoever does all of it keeps table and page up to date meanwhile.
    pub fn run(&self, shard: Shard, options: &Options) -> Result<Progress> {
        let remote = self.store.as_ref().map(Remote::look).transpose()?;
        let (mut jobs, stored) = self.jobs(shard, remote.as_ref());
        let mut left = Left::of(&jobs, options)?;
        self.settle()?;
        jobs.iter_mut().for_each(|job| self.use_copies(&mut job.plan));
        if let Some(remote) = &remote
            && remote.pull_parts(&jobs)?
        {
            left = Left::of(&jobs, options)?;
        }
        if options.style == Style::Human {
            self.introduce(shard, jobs.len() + stored, &left, stored);
        }
        let quiet = Options { style: Style::Quiet, ..options.clone() };
        let mut follow = Follow::new(self, shard, &jobs, &left, stored, options.style);
        let progress = left.train(&jobs, &self.directory, &quiet, &mut follow);
        follow.finish();
        let paged = if options.page && progress.is_ok() { make_pages(&jobs, &quiet) } else { Ok(()) };
        let pushed = remote.map_or(Ok(()), |remote| remote.push(&jobs));
        // All that was asked for has been looked at: whatever went wrong may be gone another time.
        let stopped = || Stopped { directory: self.directory.clone(), step: 0, progress: 0, cause: Cause::Other };
        let progress =
            progress.map_err(|error| if error.is::<Stopped>() { error } else { error.context(stopped()) })?;
        paged.and(pushed).map(|()| progress)
    }

    /// What is left of a shard and would be done, in a few lines; nothing is written.
    pub fn dry_run(&self, shard: Shard, options: &Options) -> Result<String> {
        let remote = self.store.as_ref().map(Remote::look).transpose()?;
        let (jobs, stored) = self.jobs(shard, remote.as_ref());
        let left = Left::of(&jobs, options)?;
        let all = self.plan.runs.len();
        let part = if shard == Shard::WHOLE { String::new() } else { format!(" of {all} in this shard") };
        let mut text = format!(
            "{}: {} runs{part}, {} done, {} begun, {} damaged\n",
            self.directory.display(),
            jobs.len() + stored,
            left.ended + stored,
            left.begun,
            left.damaged
        );
        let estimates = left.estimates(&jobs, options)?;
        let mut seconds = 0.0;
        for (Kind { plan, models, waves }, Estimate { device, bytes, ms_per_step, .. }) in &estimates {
            let Plan { p, d_model, d_mlp, program, .. } = plan;
            text += &format!(
                "p = {p}, d_model = {d_model}, d_mlp = {d_mlp}, {program}: {waves} {} of at most {} on {device}, {} MiB, {ms_per_step:.1} ms a step of all\n",
                if *waves == 1 { "wave" } else { "waves" },
                session::models_in_words(*models),
                bytes.div_ceil(1 << 20)
            );
            seconds = f64::max(seconds, ms_per_step / 1e3 / *models as f64);
        }
        if !estimates.is_empty() {
            let minutes = seconds * left.updates as f64 / 60.0;
            text += &format!("{minutes:.1} minutes at most for {} updates, besides the analyses\n", left.updates);
        }
        Ok(text)
    }

    /// The runs of a shard that have not ended in the store alone, and how many others there are.
    fn jobs(&self, shard: Shard, remote: Option<&Remote>) -> (Vec<Job>, usize) {
        let own = self.plan.runs.iter().enumerate().filter(|(number, _)| shard.has(*number));
        let (stored, here): (Vec<Job>, Vec<Job>) =
            own.map(|(_, run)| self.job(run)).partition(|job| remote.is_some_and(|remote| remote.is_ahead(job)));
        (here, stored.len())
    }

    /// Says what is about to be done: of `count` runs, `stored` of which have ended in the store alone.
    fn introduce(&self, shard: Shard, count: usize, left: &Left, stored: usize) {
        let (all, before) = (self.plan.runs.len(), left.ended + stored);
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

    /// Writes the table and the page of what has come of the runs so far. The same runs give the same files.
    pub fn merge(&self) -> Result<Merged> {
        let remote = self.store.as_ref().map(Remote::look).transpose()?;
        if let Some(remote) = &remote {
            let jobs: Vec<Job> = self.plan.runs.iter().map(|run| self.job(run)).collect();
            remote.pull_ended(&jobs)?;
        }
        let merged = Merged::write(self, &remote.as_ref().map_or(HashSet::new(), Remote::begun))?;
        if let Some(store) = &self.store {
            for name in merged::FILES {
                store.put(name, disk::read(&self.directory.join(name))?)?;
            }
        }
        Ok(merged)
    }
}

/// Files that a plan names and that lie beside it, with their names there. Those that were copied before must be what they were, but
/// for a plan that takes the place of the one before.
fn copies(plan: &Path, files: Vec<PathBuf>, directory: &Path, extends: bool) -> Result<Vec<(PathBuf, String)>> {
    let mut copies = Vec::new();
    for file in files.into_iter().filter(|file| file.is_relative() || plan.is_absolute()) {
        let above = plan.parent().unwrap_or(Path::new(""));
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
                    "{}: is not what {} is, from which the runs there were trained: expected another --out, or --extend to go on with the new one",
                    file.display(),
                    to.display()
                );
                copies.push((file.clone(), inside.to_string_lossy().replace('\\', "/")));
            }
            _ if file.is_absolute() => {}
            _ => {
                bail!("{}: named by {}: expected a file beside it, or an absolute path", file.display(), plan.display())
            }
        }
    }
    Ok(copies)
}

/// The pages of runs that are done and have none.
fn make_pages(jobs: &[Job], options: &Options) -> Result<()> {
    let lacks =
        |job: &&Job| job.directory.join("findings.json").is_file() && !job.directory.join("report.html").is_file();
    let lacking: Vec<&Job> = jobs.iter().filter(lacks).collect();
    let bar = Bar::new(Style::Human, lacking.len() as u64, "pages");
    for job in lacking.into_iter().take_while(|_| !options.stop.load(Ordering::SeqCst)) {
        let request = Request { directory: &job.directory, step: None, split: None };
        session::report(&request, None, None, options)?;
        bar.step();
    }
    bar.finish();
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
    error.is::<Stopped>() || disk::passes(error) || store::passes(error)
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

fn is_id(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a directory is a sweep's: it has a plan, and runs with the names of such, or none.
fn is_sweep(directory: &Path) -> Result<bool> {
    let runs = directory.join("runs");
    let names = if runs.is_dir() { entries(&runs)? } else { return Ok(false) };
    let others = || names.iter().any(|name| !name.ends_with(".tmp") && runs.join(name).is_dir());
    Ok(directory.join(PLAN).is_file() && (names.iter().any(|name| is_id(name)) || !others()))
}

/// Refuses a directory for a new sweep that holds anything but what `begins` names.
fn refuse_other(directory: &Path, begins: &dyn Fn(&str) -> bool) -> Result<()> {
    let runs = directory.join("runs");
    let is_lost = runs.is_dir() && entries(&runs)?.iter().any(|name| is_id(name));
    ensure!(
        !is_lost || directory.join(PLAN).is_file(),
        "{}: has runs of a sweep and no {PLAN}: expected the plan that they were begun with there, or another --out",
        directory.display()
    );
    for name in entries(directory)? {
        let is_empty = || name == "runs" && entries(&runs).is_ok_and(|names| names.is_empty());
        ensure!(
            begins(&name) || is_empty(),
            "{}: no sweep, and it holds {name}: expected a new or an empty directory",
            directory.display()
        );
    }
    Ok(())
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
