//! Going on with a run that was begun before.

use super::{Ended, Options, Start, go, persist};
use crate::devices;
use crate::plan::{CHANGEABLE, Draft, Plan};
use crate::program;
use crate::progress::note;
use crate::run::inputs::train_pairs;
use crate::run::{RunDir, Summary, refuse_begun};
use crate::train::{Member, Outcome};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Goes on with the run in `directory` where its newest checkpoint stands, or with a copy of it in `out`.
///
/// `changes` are assignments to fields of the plan. Everything is read and checked before anything is written.
pub fn resume(directory: &Path, out: Option<&Path>, changes: &[(String, String)], options: &Options) -> Result<Ended> {
    persist(resume_once(directory, out, changes, options), out.unwrap_or(directory), options)
}

pub(super) fn resume_once(
    directory: &Path,
    out: Option<&Path>,
    changes: &[(String, String)],
    options: &Options,
) -> Result<Ended> {
    refuse_begun(directory)?;
    let (mut ended, mut rules) = (Vec::new(), Vec::new());
    // Models of an ensemble that stopped at different steps go on in groups.
    let mut groups: BTreeMap<u64, Vec<Start>> = BTreeMap::new();
    for path in member_directories(directory)? {
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
                rules.push(rule);
                ended.push(summary);
                continue;
            }
        }
        let train = train_pairs(&run.plan, run.split_text()?)?;
        let (step, state) = run.newest_state()?;
        reaches(step)?;
        let history = run.history(step)?;
        groups.entry(step).or_default().push(Start { run, new: false, train, state, step, history });
    }
    for starts in groups.values() {
        let first = &starts[0];
        let (choice, program) = (devices::choose(&options.device)?, program::by_name(&first.run.plan.program)?);
        devices::check_fits(&program, &first.run.plan, first.train.len(), starts.len(), &choice.chosen)?;
    }
    let directory = match out {
        Some(out) => {
            copy_run(directory, out)?;
            for start in groups.values_mut().flatten() {
                start.run.path = out.join(start.run.path.strip_prefix(directory).context("a member lies in its run")?);
            }
            out
        }
        None => directory,
    };
    if groups.is_empty() {
        note(&format!(
            "{}: has ended already, by {}: expected another stop rule (--steps, --stop-at-test-loss, --set stop_after_cleanup=false)",
            directory.display(),
            rules.join(", ")
        ));
    }
    let mut result =
        Ended { outcome: Outcome::Done, directory: directory.into(), summaries: ended, findings: Vec::new() };
    for starts in groups.into_values() {
        let group = go(starts, directory, devices::choose(&options.device)?, options)?;
        result.summaries.extend(group.summaries);
        result.findings.extend(group.findings);
        result.outcome = group.outcome;
        if result.outcome != Outcome::Done {
            break;
        }
    }
    Ok(result)
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
    let of_member = |k: usize| directory.join(format!("model-{k}"));
    let members: Vec<_> = (0..).map(of_member).take_while(|path| path.join("plan.toml").exists()).collect();
    ensure!(
        directory.join("plan.toml").exists() || !members.is_empty(),
        "{}: not a run: it has no plan.toml and no model-0",
        directory.display()
    );
    Ok(if members.is_empty() { vec![directory.into()] } else { members })
}

/// Copies a run, so that it can go on elsewhere and the first one stays as it is. The copy appears whole or not at all.
fn copy_run(from: &Path, to: &Path) -> Result<()> {
    ensure!(!to.exists(), "{}: exists already: expected a new directory", to.display());
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("{}: could not be made", parent.display()))?;
    let real = |path: &Path| path.canonicalize().with_context(|| format!("{}: could not be found", path.display()));
    ensure!(
        !real(parent)?.starts_with(real(from)?),
        "{}: lies inside {}: expected a directory outside",
        to.display(),
        from.display()
    );
    // A name of this process's own, beside the final one.
    let temporary = parent.join(format!(".copy-{}", std::process::id()));
    fs::create_dir(&temporary).with_context(|| format!("{}: could not be made", temporary.display()))?;
    let mut pending = vec![(from.to_path_buf(), temporary.clone())];
    while let Some((from, to)) = pending.pop() {
        let failed = || format!("{}: could not be copied to {}", from.display(), to.display());
        if from.is_dir() {
            fs::create_dir_all(&to).with_context(failed)?;
            for entry in fs::read_dir(&from).with_context(failed)? {
                let name = entry.with_context(failed)?.file_name();
                pending.push((from.join(&name), to.join(&name)));
            }
        } else {
            fs::copy(&from, &to).with_context(failed)?;
        }
    }
    fs::rename(&temporary, to).with_context(|| format!("{}: could not be made", to.display()))
}
