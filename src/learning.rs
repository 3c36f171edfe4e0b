//! When a network memorised and when it generalised, and the delay between the two.
//!
//! One definition everywhere: memorised at the first evaluation with a train accuracy of at least 99 % that holds for three
//! evaluations, generalised at the first with such a test accuracy. What holds until the run ends counts, even if fewer than
//! three evaluations are left. Accuracy is known at evaluations only, so the delay is an interval.

use crate::train::Evaluation;
use serde::{Deserialize, Serialize};

/// Accuracy that counts as having learned some pairs.
const LEARNED: f64 = 0.99;
/// Evaluations over which it has to hold.
const HOLDS: usize = 3;
/// Test accuracy at the end of a run that has grokked.
const GROKKED: f64 = 0.999;
/// Minimum delay of a grokked run, as a multiple of the memorisation step.
const LATE: u64 = 5;

/// How a network learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learning {
    /// The step of the first evaluation of a lasting train accuracy of at least 99 %.
    pub memorised_step: Option<u64>,
    /// The same for test accuracy.
    pub generalised_step: Option<u64>,
    /// From the one to the other; null where the train pairs were not memorised or there are no test pairs.
    pub delay: Option<Delay>,
    /// The result; null where there are no test pairs.
    pub outcome: Option<Outcome>,
}

/// Steps between memorisation and generalisation; below 0 where test pairs came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// More than this.
    pub more_than: i64,
    /// Less than this; null where the run ended before it generalised.
    pub less_than: Option<i64>,
}

/// The result of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Generalised, with at least 99.9 % of the test pairs at the end, and at least five times as long after it memorised
    /// as memorisation took.
    Grokked,
    /// Generalised without such a delay, or not to 99.9 %.
    Generalised,
    /// Memorised only.
    Memorised,
    /// Neither.
    Neither,
}

impl Outcome {
    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grokked => "grokked",
            Self::Generalised => "generalised",
            Self::Memorised => "memorised",
            Self::Neither => "neither",
        }
    }
}

impl Learning {
    /// Of a run's evaluations in the order of their steps.
    pub fn of(history: &[Evaluation]) -> Self {
        let memorised = first_that_holds(history, |row| Some(row.train_accuracy));
        let generalised = first_that_holds(history, |row| row.test_accuracy);
        let step = |i: usize| history[i].step as i64;
        // It happened after the evaluation before; at the first evaluation it may always have been so.
        let before = |i: usize| if i == 0 { step(0) - 1 } else { step(i - 1) };
        let is_tested = history.last().is_some_and(|row| row.test_accuracy.is_some());
        let delay = memorised.filter(|_| is_tested).map(|memorised| match generalised {
            Some(generalised) => Delay {
                more_than: before(generalised) - step(memorised),
                less_than: Some(step(generalised) - before(memorised)),
            },
            None => Delay { more_than: step(history.len() - 1) - step(memorised), less_than: None },
        });
        let at_the_end = history.last().and_then(|row| row.test_accuracy).unwrap_or(0.0);
        let outcome = is_tested.then(|| match (memorised, generalised) {
            (Some(memorised), Some(generalised)) => {
                let (memorised, generalised) = (history[memorised].step, history[generalised].step);
                let is_late = memorised > 0 && generalised >= memorised + LATE * memorised;
                if is_late && at_the_end >= GROKKED { Outcome::Grokked } else { Outcome::Generalised }
            }
            (None, Some(_)) => Outcome::Generalised,
            (Some(_), None) => Outcome::Memorised,
            (None, None) => Outcome::Neither,
        });
        Self {
            memorised_step: memorised.map(|i| history[i].step),
            generalised_step: generalised.map(|i| history[i].step),
            delay,
            outcome,
        }
    }
}

fn first_that_holds(history: &[Evaluation], accuracy: impl Fn(&Evaluation) -> Option<f64>) -> Option<usize> {
    let has_learned = |row: &Evaluation| accuracy(row).is_some_and(|accuracy| accuracy >= LEARNED);
    (0..history.len()).find(|&i| history[i..].iter().take(HOLDS).all(has_learned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(accuracies: &[(f64, Option<f64>)]) -> Vec<Evaluation> {
        let row = |(i, &(train, test)): (usize, &(f64, Option<f64>))| Evaluation {
            step: 100 * i as u64,
            train_loss: 1.0,
            test_loss: test,
            train_accuracy: train,
            test_accuracy: test,
            weight_norm: 1.0,
        };
        accuracies.iter().enumerate().map(row).collect()
    }

    fn learned(train_from: usize, test_from: usize, count: usize) -> Learning {
        let accuracy = |i: usize, from: usize| if i >= from { 1.0 } else { 0.1 };
        Learning::of(&rows(
            &(0..count).map(|i| (accuracy(i, train_from), Some(accuracy(i, test_from)))).collect::<Vec<_>>(),
        ))
    }

    #[test]
    fn the_delay_is_an_interval_of_evaluations() {
        let found = learned(2, 12, 20);
        assert_eq!((found.memorised_step, found.generalised_step), (Some(200), Some(1200)));
        assert_eq!(found.delay, Some(Delay { more_than: 900, less_than: Some(1100) }));
        assert_eq!(found.outcome, Some(Outcome::Grokked));
        assert_eq!(learned(2, 11, 20).outcome, Some(Outcome::Generalised));
        let never = learned(2, 99, 20);
        assert_eq!(never.delay, Some(Delay { more_than: 1700, less_than: None }));
        assert_eq!(never.outcome, Some(Outcome::Memorised));
        assert_eq!(learned(99, 99, 20).outcome, Some(Outcome::Neither));
    }

    #[test]
    fn a_network_that_begins_grokked_has_not_grokked_here() {
        let found = learned(0, 0, 4);
        assert_eq!((found.memorised_step, found.outcome), (Some(0), Some(Outcome::Generalised)));
        assert_eq!(found.delay, Some(Delay { more_than: -1, less_than: Some(1) }));
    }

    #[test]
    fn an_accuracy_that_does_not_hold_does_not_count() {
        let mut accuracies = vec![(1.0, Some(0.0)); 12];
        accuracies[2].0 = 0.5;
        accuracies[4].1 = Some(1.0);
        accuracies[11].1 = Some(1.0);
        let found = Learning::of(&rows(&accuracies));
        // Evaluation 0 and 1 are followed by a fall; the last one holds until the end.
        assert_eq!((found.memorised_step, found.generalised_step), (Some(300), Some(1100)));
        // Without test pairs there is no delay and nothing to generalise to.
        let all = Learning::of(&rows(&[(1.0, None); 4]));
        assert_eq!((all.memorised_step, all.delay, all.outcome), (Some(0), None, None));
        assert_eq!(Learning::of(&[]).memorised_step, None);
    }
}
