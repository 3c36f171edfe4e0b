//! Waiting for a device, and telling a slow one from one that hangs.

use super::device::{Gpu, is_real, title};
use anyhow::{Context, Result, bail};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wgpu::{PollError, PollType, SubmissionIndex};

/// The time, for which the core has no clock of its own.
#[derive(Clone, Copy)]
pub struct Clock {
    /// Seconds since some moment.
    pub now: fn() -> f64,
    /// Seconds of processor time that this process has used.
    pub busy: fn() -> f64,
}

impl Clock {
    /// A clock that stands still: no device ever seems to hang, or to be slow.
    pub const STOPPED: Self = Self { now: || 0.0, busy: || 0.0 };
}

/// How long a wait lasts until progress is looked for.
const SLICE: Duration = Duration::from_secs(1);
/// Seconds without progress after which a device hangs. A submission of ours takes a fraction of a second even on a slow GPU.
const HANG_S: f64 = 30.0;
/// The share of a core that a renderer on the CPU uses at least while it does something.
const BUSY: f64 = 0.1;

/// A device that does nothing any more.
#[derive(Debug)]
pub struct Hung {
    device: String,
    seconds: f64,
}

impl fmt::Display for Hung {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} hangs: it has finished nothing for {:.0} s", self.device, self.seconds)
    }
}

impl std::error::Error for Hung {}

/// The last moment at which something was seen to happen.
struct Progress {
    at: f64,
    busy: f64,
    finished: u64,
}

impl Gpu {
    /// Submits commands.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> SubmissionIndex {
        let index = self.queue.submit([encoder.finish()]);
        let finished: Arc<AtomicU64> = self.finished.clone();
        self.queue.on_submitted_work_done(move || {
            finished.fetch_add(1, Ordering::SeqCst);
        });
        index
    }

    /// Waits until a submission is done, or all that there are, and lets callbacks run. In a browser they run by themselves.
    ///
    /// # Errors
    /// The device reported an error, or it hangs ([`Hung`]). Then nothing that belongs to it is ever freed, because that waits for it.
    pub fn wait_for(&self, submission: Option<SubmissionIndex>) -> Result<()> {
        let mut progress: Option<Progress> = None;
        let mut is_probed = false;
        loop {
            let waited = PollType::Wait { submission_index: submission.clone(), timeout: Some(SLICE) };
            match self.device.poll(waited) {
                Ok(_) => return self.check(),
                Err(PollError::Timeout) => self.check()?,
                Err(error) => {
                    self.check()?;
                    return Err(error).with_context(|| title(&self.info));
                }
            }
            let now = self.progress();
            let last = progress.get_or_insert_with(|| self.progress());
            let seconds = now.at - last.at;
            let is_working = !is_real(&self.info) && now.busy - last.busy > BUSY * seconds;
            if now.finished > last.finished || is_working {
                (progress, is_probed) = (Some(now), false);
            } else if seconds > HANG_S && !is_probed {
                // A driver that has lost its device says so when it is given something to do.
                self.queue.submit([]);
                is_probed = true;
            } else if seconds > HANG_S {
                std::mem::forget(self.clone());
                bail!(Hung { device: title(&self.info), seconds });
            }
        }
    }

    fn progress(&self) -> Progress {
        let Clock { now, busy } = self.clock;
        Progress { at: now(), busy: busy(), finished: self.finished.load(Ordering::SeqCst) }
    }
}
