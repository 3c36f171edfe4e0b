//! Going on with a run that was begun before.

use super::machine::{Start, open_first, train_waves, waves};
use super::stopping::{Cause, persist, stopped};
use super::{Ended, Options};
use crate::plan::{CHANGEABLE, Draft, Plan, one_line};
use crate::progress::note;
use crate::run::disk::{LOCK, Lock, copy_directory, entries, kind_of, make_directory};
use crate::run::inputs::train_pairs;
use crate::run::{Newest, RunDir, Summary, refuse_begun};
use crate::train::Member;
use anyhow::{Context, Result, bail, ensure};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Goes on with the run in `directory` where its newest checkpoint stands, or with a copy of it in `out`.
///
/// `changes` are assignments to fields of the plan. Everything is read and checked before anything is written, and nobody else trains in
/// the directory from before it is read until the end.
pub fn resume(directory: &Path, out: Option<&Path>, changes: &[(String, String)], options: &Options) -> Result<Ended> {
    let mut locks = lock(directory)?;
    let mut prepared = prepare(directory, changes, options)?;
    let mut place = directory;
    if let Some(out) = out {
        copy_run(directory, out)?;
        locks = lock(out)?;
        prepared.move_to(directory, out)?;
        place = out;
    }
    let ended = persist(prepared.go(place, options), place, changes, options);
    drop(locks);
    ended
}

/// Keeps others out of a run, or of an ensemble and its models.
fn lock(directory: &Path) -> Result<Vec<Lock>> {
    // Looked at first, so that a directory that is no run is left as it is.
    member_directories(directory)?;
    let mut locks = Vec::new();
    let take = |path: &Path, locks: &mut Vec<Lock>| -> Result<()> {
        match Lock::take(path) {
            Ok(lock) => locks.push(lock),
            // Nobody can train there.
            Err(error) if kind_of(&error) == Some(ErrorKind::ReadOnlyFilesystem) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    };
    take(directory, &mut locks)?;
    for path in member_directories(directory)?.iter().filter(|path| *path != directory) {
        take(path, &mut locks)?;
    }
    Ok(locks)
}

/// What a run has to go on from.
pub(super) struct Prepared {
    /// The models that have ended, with their numbers, and by these rules.
    ended: Vec<(usize, RunDir, Summary)>,
    rules: Vec<&'static str>,
    /// The other models, as they are trained side by side.
    waves: Vec<Vec<Start>>,
}

/// Reads a run and checks it, and that the device has room for it.
pub(super) fn prepare(directory: &Path, changes: &[(String, String)], options: &Options) -> Result<Prepared> {
    let mut prepared = Prepared { ended: Vec::new(), rules: Vec::new(), waves: Vec::new() };
    let mut starts = Vec::new();
    for (index, path) in member_directories(directory)?.into_iter().enumerate() {
        let mut run = RunDir::open(&path)?;
        run.plan = changed(&run.plan, changes)?;
        let reaches = |step: u64| {
            ensure!(
                run.plan.steps >= step,
                "steps = {}: {} stands at step {step} already: expected at least that many",
                run.plan.steps,
                path.display()
            );
            Ok(())
        };
        if let Some(summary) = run.summary()? {
            reaches(summary.steps)?;
            if let Some(rule) = ended_by(&run, &summary)? {
                prepared.rules.push(rule);
                prepared.ended.push((index, run, summary));
                continue;
            }
        }
        let train = train_pairs(&run.plan, run.split_text()?)?;
        let Newest { step, passed_over, .. } = run.newest_state()?;
        for problem in passed_over {
            note(&one_line(format!("{problem}: going on from the checkpoint of step {step}")));
        }
        reaches(step)?;
        let history = run.history(step)?;
        run.timing()?;
        starts.push(Start { run, index, train, step, history, begun: true });
    }
    if !starts.is_empty() {
        prepared.waves = waves(starts, &options.machine()?.chosen, options)?;
    }
    Ok(prepared)
}

impl Prepared {
    /// The same for a copy of the run.
    fn move_to(&mut self, from: &Path, to: &Path) -> Result<()> {
        let runs = self.waves.iter_mut().flatten().map(|start| &mut start.run);
        for run in runs.chain(self.ended.iter_mut().map(|(_, run, _)| run)) {
            run.path = to.join(run.path.strip_prefix(from).context("a member lies in its run")?);
        }
        Ok(())
    }

    /// Writes the plans first, so that what was changed is not forgotten, and then takes away what is behind the checkpoints.
    fn rewind(&self, directory: &Path) -> Result<()> {
        let starts = || self.waves.iter().flatten();
        let ended = self.ended.iter().map(|(_, run, _)| run);
        starts().map(|start| &start.run).chain(ended).try_for_each(RunDir::write_plan)?;
        starts()
            .try_for_each(|start| start.run.rewind(start.step, &start.history))
            .map_err(|error| stopped(error, &self.paths(), directory, Cause::Other))
    }

    /// Of the models that go on.
    fn paths(&self) -> Vec<PathBuf> {
        self.waves.iter().flatten().map(|start| start.run.path.clone()).collect()
    }

    /// Trains one wave after the other. What was changed holds for all of them from the first one's beginning.
    pub(super) fn go(mut self, directory: &Path, options: &Options) -> Result<Ended> {
        if self.waves.is_empty() {
            let remedy = |rule: &str| match rule {
                "steps" => "more --steps",
                "stop_at_test_loss" => "a lower --stop-at-test-loss (0: never)",
                _ => "--set stop_after_cleanup=false",
            };
            let mut rules = self.rules.clone();
            rules.sort_unstable();
            rules.dedup();
            note(&format!(
                "{}: has ended already, by {}: expected {} to go on",
                directory.display(),
                rules.join(" and "),
                rules.iter().map(|rule| remedy(rule)).collect::<Vec<_>>().join(" and ")
            ));
        }
        let mut machine = None;
        if !self.waves.is_empty() {
            machine = Some(open_first(&mut self.waves, &options.machine()?, options)?);
            self.rewind(directory)?;
        }
        let mut result = Ended::nothing(directory);
        result.summaries = self.ended.into_iter().map(|(index, _, summary)| (index, summary)).collect();
        result.absorb(train_waves(machine, self.waves, directory, options)?);
        Ok(result)
    }
}

/// The rule by which a run that has a summary is at its end under its (changed) plan too.
fn ended_by(run: &RunDir, summary: &Summary) -> Result<Option<&'static str>> {
    let member = Member { plan: run.plan.clone(), trained_on: Vec::new(), history: run.metrics()?, stopped: false };
    Ok(member.stop_rule(summary.steps))
}

fn changed(plan: &Plan, changes: &[(String, String)]) -> Result<Plan> {
    let mut draft = Draft::from_plan(plan)?;
    for (name, value) in changes {
        ensure!(
            CHANGEABLE.contains(&name.as_str()),
            "--resume: {name} cannot be changed: only {} can",
            CHANGEABLE.join(", ")
        );
        draft.set(name, value)?;
    }
    draft.finish()
}

/// The directories of a run's members: itself, or those of an ensemble.
fn member_directories(directory: &Path) -> Result<Vec<PathBuf>> {
    refuse_begun(directory)?;
    directory.join("plan.toml").try_exists().with_context(|| format!("{}: could not be read", directory.display()))?;
    let has_plan = |path: &Path| path.join("plan.toml").exists();
    if has_plan(directory) {
        return Ok(vec![directory.into()]);
    }
    let of_member = |k: usize| directory.join(format!("model-{k}"));
    let members: Vec<_> = (0..).map(of_member).take_while(|path| has_plan(path)).collect();
    let missing = of_member(members.len());
    let number = |name: &str| name.strip_prefix("model-")?.parse::<usize>().ok();
    ensure!(directory.exists(), "{}: not a run: there is no such directory", directory.display());
    let entries = entries(directory).with_context(|| format!("{}: could not be listed", directory.display()))?;
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str().and_then(number));
    let later = numbers.max().filter(|&last| last >= members.len());
    if let Some(last) = later {
        bail!(
            "{}: has no plan.toml: expected a run of every model of the ensemble, of which model-{last} is one",
            missing.display()
        );
    }
    ensure!(!members.is_empty(), "{}: not a run: it has no plan.toml and no model-0", directory.display());
    Ok(members)
}

/// Copies a run, so that it can go on elsewhere and the first one stays as it is.
fn copy_run(from: &Path, to: &Path) -> Result<()> {
    ensure!(
        !to.exists(),
        "{}: exists already: expected a new directory, or, if it is a copy, --resume {} without --out",
        to.display(),
        to.display()
    );
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(parent)?;
    let real = |path: &Path| path.canonicalize().with_context(|| format!("{}: could not be found", path.display()));
    ensure!(
        !real(parent)?.starts_with(real(from)?),
        "{}: lies inside {}: expected a directory outside",
        to.display(),
        from.display()
    );
    copy_directory(from, to, |name| name == LOCK || name.ends_with(".tmp"))
}
