//! What goes between an object store and the directories of runs.

use super::store::{Pulled, Store};
use super::{id_of, passes};
use crate::progress::{Bar, Style, note};
use crate::run::disk::{Lock, make_directory, write_files};
use crate::run::{has_ended, replace};
use crate::session::many::{Found, Job, find};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;

/// What a store has of a sweep's runs.
pub(super) struct Remote<'a> {
    store: &'a Store,
    /// Runs that have ended.
    done: HashSet<String>,
    /// Runs that were stopped on their way, with the steps at which they were, rising.
    parts: BTreeMap<String, Vec<u64>>,
}

impl<'a> Remote<'a> {
    pub fn look(store: &'a Store) -> Result<Self> {
        Ok(Self { store, done: store.done()?, parts: store.parts()? })
    }

    /// Whether a run has ended there and not here.
    pub fn is_ahead(&self, job: &Job) -> bool {
        self.done.contains(&id_of(job)) && !has_ended(&job.directory)
    }

    /// Runs that were stopped on their way.
    pub fn begun(&self) -> HashSet<&str> {
        self.parts.keys().map(String::as_str).collect()
    }

    /// Fetches runs that were stopped on another machine, further than they are here; whether there were any.
    pub fn pull_parts(&self, jobs: &[Job]) -> Result<bool> {
        let mut any = false;
        for job in jobs {
            let id = id_of(job);
            let Some(&step) = self.parts.get(&id).and_then(|steps| steps.last()) else { continue };
            let is_further = match find(job) {
                Found::Nothing => true,
                Found::Begun(_, here, _) => here < step,
                _ => false,
            };
            if is_further {
                match self.store.pull_part(&id, step).and_then(|files| receive(job, &files)) {
                    Err(error) if passes(&error) => return Err(error),
                    Err(error) => note(&format!("{error:#}: left where it is")),
                    Ok(received) => any |= received,
                }
            }
        }
        Ok(any)
    }

    /// Fetches the runs that have ended there and not here.
    pub fn pull_ended(&self, jobs: &[Job]) -> Result<()> {
        let ahead: Vec<&Job> = jobs.iter().filter(|job| self.is_ahead(job)).collect();
        let bar = Bar::new(Style::Human, ahead.len() as u64, "runs fetched");
        for job in ahead {
            let id = id_of(job);
            let problem = match self.store.pull(&id)? {
                Pulled::Damaged(problem) => Some(problem),
                Pulled::Whole(files) => match receive(job, &files) {
                    Err(error) if passes(&error) => return Err(error),
                    Err(error) => {
                        self.store.forget(&id)?;
                        Some(format!("{error:#}"))
                    }
                    Ok(_) => None,
                },
            };
            if let Some(problem) = problem {
                bar.say(&format!("{problem}: expected grokscope sweep run to do it again"));
            }
            bar.step();
        }
        bar.finish();
        Ok(())
    }

    /// Puts there what has ended here and what has come further, and takes away what that makes of no use.
    pub fn push(&self, jobs: &[Job]) -> Result<()> {
        // Others may have been at it meanwhile.
        let now = Self::look(self.store)?;
        for job in jobs.iter().filter(|job| job.directory.is_dir()) {
            // Whoever else is training there will put it there.
            let Some(_lock) = Lock::take_free(&job.directory)? else { continue };
            let (id, parts) = (id_of(job), now.parts.get(&id_of(job)).map_or(&[][..], Vec::as_slice));
            let mut useless = parts;
            if !now.done.contains(&id) {
                match find(job) {
                    Found::Ended(..) => self.store.push(&id, &job.directory)?,
                    Found::Begun(_, step, _) if parts.iter().all(|&part| part < step) && step > 0 => {
                        self.store.push_part(&id, step, &job.directory)?;
                    }
                    _ => useless = parts.split_last().map_or(parts, |(_, older)| older),
                }
            }
            useless.iter().try_for_each(|&step| self.store.delete_part(&id, step))?;
        }
        Ok(())
    }
}

/// Makes a run's directory what was fetched, where that is the run and no other process is training it.
fn receive(job: &Job, files: &[(String, Vec<u8>)]) -> Result<bool> {
    make_directory(&job.directory)?;
    let Some(_lock) = Lock::take_free(&job.directory)? else { return Ok(false) };
    let beside = job.directory.with_extension("tmp");
    remove_directory(&beside)?;
    make_directory(&beside)?;
    write_files(&beside, files)?;
    let fetched = Job { directory: beside.clone(), plan: job.plan.clone() };
    match find(&fetched) {
        Found::Ended(..) | Found::Begun(..) => replace(&job.directory, &beside).map(|()| true),
        Found::Unreadable(problem) => bail!("{problem}"),
        Found::Nothing | Found::Damaged(_) => {
            remove_directory(&beside)?;
            bail!("{}: what the store has of it is not this run", job.directory.display())
        }
    }
}

fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("{}: could not be removed", path.display())),
    }
}
