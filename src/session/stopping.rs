//! Training that ends before its time, and how it goes on from its checkpoints.

use super::{AtOnce, Ended, Options, resume};
use crate::gpu::device::{Failure, FailureKind};
use crate::plan::one_line;
use crate::progress::note;
use crate::run::RunDir;
use anyhow::Result;
use std::fmt;
use std::path::{Path, PathBuf};

/// What ended training before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The device went away.
    DeviceLost,
    /// The device had too little memory for so many models side by side.
    OutOfMemory {
        /// Of the wave that was trained.
        models: usize,
    },
    /// Something else, which a fresh device would not fix.
    Other,
}

impl Cause {
    /// Of an error while a wave was trained, or its machine was made.
    pub(super) fn of(error: &anyhow::Error, models: usize, device_is_lost: bool) -> Self {
        match Failure::kind_of(error) {
            Some(FailureKind::OutOfMemory) => Self::OutOfMemory { models },
            Some(FailureKind::Lost) => Self::DeviceLost,
            _ if device_is_lost => Self::DeviceLost,
            _ => Self::Other,
        }
    }
}

/// Why training ended before its time, where its checkpoints let it go on: the outermost context of the error that ended it.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The run's, or the ensemble's.
    pub directory: PathBuf,
    /// Of the newest checkpoint.
    pub step: u64,
    /// Steps of all models' newest checkpoints together: grows where any of them comes further.
    pub progress: u64,
    /// What ended it.
    pub cause: Cause,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: stopped, with a checkpoint of step {}", self.directory.display(), self.step)
    }
}

/// What led to an error that [`Stopped`] stands before.
pub fn causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ")
}

/// Adds a [`Stopped`] to an error that ended training. Its step is the oldest of the newest checkpoints of the members that have not ended,
/// or of all members if all have.
pub(super) fn stopped(error: anyhow::Error, paths: &[PathBuf], directory: &Path, cause: Cause) -> anyhow::Error {
    let newest = |path: &PathBuf| -> Result<(bool, u64)> {
        let run = RunDir::open(path)?;
        Ok((run.summary()?.is_some() || run.divergence()?.is_some(), run.newest_state()?.step))
    };
    let steps: Result<Vec<(bool, u64)>> = paths.iter().map(newest).collect();
    // Where the directory is gone, say, there is nothing to go on from.
    let Ok(steps) = steps else { return error };
    let progress = steps.iter().map(|(_, step)| step).sum();
    match steps.into_iter().min() {
        Some((_, step)) => error.context(Stopped { directory: directory.into(), step, progress, cause }),
        None => error,
    }
}

/// Losses of a device without a checkpoint in between at which training gives up.
const LOSSES: usize = 3;

/// How often a device went away since training last came further.
#[derive(Default)]
pub(super) struct Losses {
    /// How far all models had come at the last loss.
    progress: Option<u64>,
    count: usize,
}

impl Losses {
    /// Returns where to go on from, and tells the user; none if the device was lost once too often, if memory ran out for a single model, or if
    /// the cause is another one. If memory ran out for several models, halves the models at once in `options`.
    pub fn survived(&mut self, error: &anyhow::Error, options: &mut Options) -> Option<Stopped> {
        let stopped = error.downcast_ref::<Stopped>()?.clone();
        let with = match stopped.cause {
            Cause::DeviceLost => {
                self.count = if self.progress == Some(stopped.progress) { self.count + 1 } else { 1 };
                if self.count == LOSSES {
                    return None;
                }
                self.progress = Some(stopped.progress);
                "on a fresh device".into()
            }
            Cause::OutOfMemory { models } if models > 1 => {
                let most = models.div_ceil(2);
                options.at_once = AtOnce::Most(most);
                format!("with {} at once", models_in_words(most))
            }
            Cause::OutOfMemory { .. } | Cause::Other => return None,
        };
        note(&one_line(format!("{}: going on from step {} {with}", causes(error), stopped.step)));
        Some(stopped)
    }
}

/// "1 model", "2 models".
pub fn models_in_words(count: usize) -> String {
    format!("{count} model{}", if count == 1 { "" } else { "s" })
}

/// Goes on from the last checkpoint when the device is lost or runs out of memory, as long as [`Losses::survived`] allows. The directory stays
/// locked.
pub(super) fn persist(
    mut ended: Result<Ended>,
    directory: &Path,
    changes: &[(String, String)],
    options: &Options,
) -> Result<Ended> {
    let (mut losses, mut options) = (Losses::default(), options.clone());
    loop {
        let Some(stopped) = ended.as_ref().err().and_then(|error| losses.survived(error, &mut options)) else {
            return ended;
        };
        let again = resume::prepare(directory, changes, &options).and_then(|prepared| prepared.go(directory, &options));
        ended = again.map_err(|error| match error.is::<Stopped>() {
            true => error,
            false => error.context(Stopped { cause: Cause::Other, ..stopped }),
        });
    }
}
