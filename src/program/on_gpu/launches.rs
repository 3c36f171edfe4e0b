//! The dispatches of a step or an evaluation, and how they are submitted: how many steps at a time, and which dispatches in parts.

use super::parts;
use crate::gpu::pass::Dispatch;

/// Seconds that a submission should take at most,
const SUBMISSION_S: f64 = 30e-3;
/// and steps that it has at most.
const MOST_STEPS: usize = 16;
/// A step, or an evaluation of one block, that takes more seconds is submitted in pieces.
const SLOW_S: f64 = 0.2;

/// Recorded dispatches with what is known about their times.
#[derive(Default)]
pub struct Launches {
    /// The parts of each dispatch; most dispatches have one.
    pub dispatches: Vec<Vec<Dispatch>>,
    /// For each dispatch, the number of parts into which it is split at most.
    pub counts: Vec<u32>,
    /// Where `counts` comes from.
    pub source: Counted,
    /// Seconds that all of them take, once they are known.
    pub seconds: Option<f64>,
}

/// Where the numbers of parts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Counted {
    /// From costs.
    #[default]
    Estimated,
    /// From costs, and every part has been launched, so that the driver has compiled its kernel.
    Launched,
    /// From times, or from a caller.
    Known,
}

impl Launches {
    /// Not recorded yet.
    pub fn estimated(counts: Vec<u32>) -> Self {
        Self { counts, ..Self::default() }
    }

    /// Steps of the next submission.
    pub fn steps(&self) -> usize {
        self.seconds.map_or(1, |seconds| ((SUBMISSION_S / seconds) as usize).clamp(1, MOST_STEPS))
    }

    fn is_slow(&self) -> bool {
        self.seconds.is_some_and(|seconds| seconds > SLOW_S)
    }

    /// Whether all of them in one submission might take too long.
    pub fn may_be_slow(&self) -> bool {
        self.seconds.is_none() || self.is_slow()
    }

    /// Whether a single dispatch might take so long that it needs a submission of its own.
    pub fn may_have_slow_ones(&self) -> bool {
        self.may_be_slow() || self.have_parts()
    }

    /// Whether the dispatches have to be timed, where a display driver watches them.
    pub fn have_to_be_timed(&self) -> bool {
        self.source != Counted::Known && (self.is_slow() || self.have_parts())
    }

    fn have_parts(&self) -> bool {
        self.counts.iter().any(|&count| count > 1)
    }

    /// Takes note of the seconds that each dispatch took, and returns the numbers of parts from now on.
    ///
    /// The first launch does not count, because many drivers compile then; nor does a clock that stands still.
    pub fn take_times(&mut self, seconds: &[f64]) -> Vec<u32> {
        let total: f64 = seconds.iter().sum();
        let clock_runs = total > 0.0;
        self.seconds = clock_runs.then_some(total);
        if clock_runs && self.source == Counted::Estimated {
            self.source = Counted::Launched;
            return self.counts.clone();
        }
        self.source = Counted::Known;
        if clock_runs { seconds.iter().map(|&seconds| parts::count(seconds)).collect() } else { self.counts.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_times_count() {
        let mut launches = Launches::estimated(vec![1, 9, 1]);
        assert!(launches.have_to_be_timed());
        // The first launch compiles.
        assert_eq!(launches.take_times(&[2.0, 3.0, 0.1]), [1, 9, 1]);
        assert!(launches.have_to_be_timed());
        assert_eq!(launches.take_times(&[0.01, 0.5, 0.1]), [1, 5, 1]);
        assert!(!launches.have_to_be_timed());
        assert!(launches.may_be_slow());
    }

    #[test]
    fn a_fast_step_of_small_dispatches_is_never_timed() {
        let mut launches = Launches::estimated(vec![1, 1]);
        assert!(!launches.have_to_be_timed());
        launches.seconds = Some(0.01);
        assert!(!launches.have_to_be_timed() && !launches.may_have_slow_ones());
        assert_eq!(launches.steps(), 3);
        launches.seconds = Some(0.3);
        assert!(launches.have_to_be_timed() && launches.may_have_slow_ones());
        assert_eq!(launches.steps(), 1);
    }

    #[test]
    fn a_clock_that_stands_still_leaves_the_estimates() {
        let mut launches = Launches::estimated(vec![1, 9]);
        assert_eq!(launches.take_times(&[0.0, 0.0]), [1, 9]);
        assert!(!launches.have_to_be_timed());
        assert!(launches.may_have_slow_ones());
        assert_eq!(launches.steps(), 1);
    }
}
