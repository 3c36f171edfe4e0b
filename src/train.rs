//! The loop: step, evaluate, snapshot, stop. Knows no files and no clocks; an [`Observer`] does.

use crate::model::{WINDOW, Weights};
use crate::plan::{Plan, Update};
use crate::program::State;
use crate::program::engine::{Engine, Scores};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Test accuracy from which a network counts as having grokked.
pub const GROKKED: f64 = 0.999;

/// A line of `metrics.jsonl`. Test fields are null where every pair is trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Updates done.
    pub step: u64,
    /// Mean cross-entropy in nats.
    pub train_loss: f64,
    /// The same over the pairs not trained on; null where there are none.
    pub test_loss: Option<f64>,
    /// Share of the train pairs whose label has the largest logit.
    pub train_accuracy: f64,
    /// The same over the pairs not trained on; null where there are none.
    pub test_accuracy: Option<f64>,
    /// Root of the sum of all squared weights.
    pub weight_norm: f64,
}

impl Evaluation {
    fn new(step: u64, scores: &Scores, trained_on: &[bool], weights: &Weights<f32>) -> Self {
        let mean = |values: &[f32], part: bool| {
            let (sum, n) = (values.iter().zip(trained_on))
                .filter(|(_, trained)| **trained == part)
                .fold((0.0, 0), |(sum, n), (value, _)| (sum + *value as f64, n + 1));
            (n > 0).then(|| sum / n as f64)
        };
        let squares = weights.tensors.iter().flatten().map(|&w| (w as f64).powi(2)).sum::<f64>();
        Self {
            step,
            train_loss: mean(&scores.losses, true).unwrap_or(f64::NAN),
            test_loss: mean(&scores.losses, false),
            train_accuracy: mean(&scores.correct, true).unwrap_or(f64::NAN),
            test_accuracy: mean(&scores.correct, false),
            weight_norm: squares.sqrt(),
        }
    }

    fn grokked(&self) -> bool {
        self.test_accuracy.is_some_and(|accuracy| accuracy >= GROKKED)
    }

    /// The first of its numbers that is not finite.
    fn not_finite(&self) -> Option<&'static str> {
        let train_loss = ("the train loss", Some(self.train_loss));
        let numbers = [train_loss, ("the test loss", self.test_loss), ("the weight norm", Some(self.weight_norm))];
        numbers.into_iter().find(|(_, number)| number.is_some_and(|x| !x.is_finite())).map(|(what, _)| what)
    }
}

/// The first evaluation from which the network had grokked once.
pub fn grok_step(history: &[Evaluation]) -> Option<u64> {
    history.iter().find(|evaluation| evaluation.grokked()).map(|evaluation| evaluation.step)
}

/// Whether it still holds at the end.
pub fn grokked(history: &[Evaluation]) -> bool {
    history.last().is_some_and(Evaluation::grokked)
}

/// Steps over which the weight norm is looked at to see whether it has levelled off.
const LEVEL_SPAN: u64 = 500;
/// A fall of the weight norm over [`LEVEL_SPAN`] that counts as level.
const LEVEL_FALL: f64 = 0.01;

/// Whether the cleanup has ended: the network has grokked and its weight norm fell by less than 1 % over 500 steps.
fn cleaned_up(history: &[Evaluation]) -> bool {
    let (Some(last), Some(since)) = (history.last(), grok_step(history)) else { return false };
    let Some(start) = last.step.checked_sub(LEVEL_SPAN).filter(|start| *start >= since) else { return false };
    let before = history.iter().rev().find(|evaluation| evaluation.step <= start);
    last.grokked()
        && before.is_some_and(|before| before.weight_norm - last.weight_norm < LEVEL_FALL * before.weight_norm)
}

/// One network of the ensemble and what is known of it.
pub struct Member {
    /// Its own plan, with its own seed.
    pub plan: Plan,
    /// For each pair of the grid, whether it is trained on.
    pub trained_on: Vec<bool>,
    /// Its evaluations so far, in the order of their steps.
    pub history: Vec<Evaluation>,
    /// Set once the member's own stop rule held; it is not looked at any more.
    pub stopped: bool,
}

impl Member {
    /// The rule of the plan by which training ends after `step` updates: the name of its field.
    pub fn stop_rule(&self, step: u64) -> Option<&'static str> {
        let below =
            |evaluation: &Evaluation| evaluation.test_loss.is_some_and(|loss| loss < self.plan.stop_at_test_loss);
        // A row of an earlier step says nothing of the weights as they are now.
        let now = self.history.last().filter(|row| row.step == step);
        if now.is_some_and(below) {
            Some("stop_at_test_loss")
        } else if now.is_some() && self.plan.stop_after_cleanup && cleaned_up(&self.history) {
            Some("stop_after_cleanup")
        } else {
            (step >= self.plan.steps).then_some("steps")
        }
    }

    /// Whether the step is a multiple of the interval, or the last one.
    fn is_due(&self, step: u64, every: u64) -> bool {
        step.is_multiple_of(every) || step == self.plan.steps
    }

    /// Whether it is to be evaluated at the step, and has not been.
    fn lacks_row(&self, step: u64) -> bool {
        self.is_due(step, self.plan.eval_every) && self.history.last().is_none_or(|row| row.step != step)
    }

    fn wants_to_stop(&self, step: u64) -> bool {
        self.stop_rule(step).is_some()
    }
}

/// Keeps, shows and times what the loop does.
pub trait Observer {
    /// A member was evaluated.
    fn evaluated(&mut self, member: usize, evaluation: &Evaluation) -> Result<()>;
    /// The state of a member at a step that the plan wants kept, or at which it was interrupted.
    fn snapshot(&mut self, member: usize, step: u64, state: &State<f32>) -> Result<()>;
    /// The member's stop rule holds: this is its last state.
    fn finished(&mut self, member: &Member, index: usize, state: &State<f32>) -> Result<()>;
    /// A number of the member was not finite: it is not trained any more.
    fn diverged(&mut self, member: usize, divergence: &Divergence) -> Result<()>;
    /// `steps` updates were done since the last call.
    fn stepped(&mut self, step: u64, steps: usize) -> Result<()>;
    /// How many steps the next stretch may have, given the engine's most.
    fn stretch(&mut self, most: usize) -> usize;
    /// Whether to stop here and go on another time.
    fn interrupted(&self) -> bool;
}

/// Where a network's numbers went bad; `diverged.json` of its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// Updates done before.
    pub step: u64,
    /// What was not finite: a tensor, a remembered gradient, a loss or the weight norm.
    pub what: String,
}

/// How the loop ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every member has stopped, or has diverged.
    Done,
    /// The user asked for it, or the reader of the rows has gone away.
    Interrupted {
        /// Updates done.
        step: u64,
    },
}

/// An ensemble in training. Members end one by one, and the engine goes on with the others alone.
pub struct Trainer<'a> {
    /// Where it is trained.
    pub engine: &'a mut Engine,
    /// In the order in which they were given.
    pub members: Vec<Member>,
    /// Updates done.
    pub step: u64,
    /// Which member each of the engine's models is.
    live: Vec<usize>,
}

impl<'a> Trainer<'a> {
    /// For an engine that has the members' states of a step.
    pub fn new(engine: &'a mut Engine, members: Vec<Member>, step: u64) -> Self {
        let live = (0..members.len()).collect();
        Self { engine, members, step, live }
    }

    /// Trains until every member has stopped.
    pub async fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        loop {
            self.evaluate(observer).await?;
            self.stop_members(observer).await?;
            self.leave_stopped().await?;
            let interrupted = observer.interrupted();
            self.snapshot(observer, interrupted).await?;
            self.leave_stopped().await?;
            if self.live.is_empty() {
                return Ok(Outcome::Done);
            }
            if interrupted {
                return Ok(Outcome::Interrupted { step: self.step });
            }
            self.advance(observer).await?;
            self.leave_stopped().await?;
        }
    }

    fn active(&self) -> impl Iterator<Item = &Member> {
        self.live.iter().map(|&index| &self.members[index]).filter(|member| !member.stopped)
    }

    /// Takes those that have stopped from the engine, where they would still cost their steps.
    async fn leave_stopped(&mut self) -> Result<()> {
        let places: Vec<usize> = (0..self.live.len()).filter(|&k| !self.members[self.live[k]].stopped).collect();
        if places.len() < self.live.len() {
            self.live = places.iter().map(|&place| self.live[place]).collect();
            if !places.is_empty() {
                self.engine.keep(&places).await?;
            }
        }
        Ok(())
    }

    fn diverge(&mut self, observer: &mut dyn Observer, index: usize, step: u64, what: String) -> Result<()> {
        self.members[index].stopped = true;
        observer.diverged(index, &Divergence { step, what })
    }

    async fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if !self.active().any(|member| member.lacks_row(self.step)) {
            return Ok(());
        }
        let scores = self.engine.evaluate().await?;
        let weights = self.engine.read_weights().await?;
        for (place, index) in self.live.clone().into_iter().enumerate() {
            let member = &mut self.members[index];
            if !member.lacks_row(self.step) {
                continue;
            }
            let evaluation = Evaluation::new(self.step, &scores[place], &member.trained_on, &weights[place]);
            if let Some(what) = evaluation.not_finite() {
                self.diverge(observer, index, self.step, what.into())?;
                continue;
            }
            observer.evaluated(index, &evaluation)?;
            member.history.push(evaluation);
        }
        Ok(())
    }

    async fn stop_members(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if !self.active().any(|member| member.wants_to_stop(self.step)) {
            return Ok(());
        }
        let states = self.engine.read_states().await?;
        let mut finished = false;
        for (state, index) in states.iter().zip(self.live.clone()) {
            let member = &mut self.members[index];
            if member.stopped || !member.wants_to_stop(self.step) {
                continue;
            }
            // To finish one takes seconds: whoever is asked to stop leaves the others at their last step.
            if finished && observer.interrupted() {
                break;
            }
            finished = true;
            if let Some(what) = state.not_finite() {
                self.diverge(observer, index, self.step, what)?;
                continue;
            }
            member.stopped = true;
            observer.snapshot(index, self.step, state)?;
            observer.finished(member, index, state)?;
        }
        Ok(())
    }

    /// Hands on the state of every member whose plan wants it kept now, or of all, where it is fit for it.
    async fn snapshot(&mut self, observer: &mut dyn Observer, all: bool) -> Result<()> {
        let wanted = |member: &Member, step| all || member.is_due(step, member.plan.checkpoint_every);
        if !self.active().any(|member| wanted(member, self.step)) {
            return Ok(());
        }
        let states = self.engine.read_states().await?;
        for (state, index) in states.iter().zip(self.live.clone()) {
            if !wanted(&self.members[index], self.step) {
                continue;
            }
            match state.not_finite() {
                Some(what) => self.diverge(observer, index, self.step, what)?,
                None => observer.snapshot(index, self.step, state)?,
            }
        }
        Ok(())
    }

    /// Does steps up to the next thing that is due.
    async fn advance(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let to_next = |every: u64| every - self.step % every;
        let ahead = self.active().flat_map(|member| {
            let plan = &member.plan;
            [to_next(plan.eval_every), to_next(plan.checkpoint_every), plan.steps - self.step]
        });
        let most = (ahead.min().unwrap_or(0) as usize).min(WINDOW);
        let steps = observer.stretch(most).clamp(1, most);
        let updates = |member: &Member| (0..steps as u64).map(|i| member.plan.update(self.step + i)).collect();
        let updates: Vec<Vec<Update>> = self.active().map(updates).collect();
        let found = self.engine.steps(&updates).await?;
        for (found, index) in found.into_iter().zip(self.live.clone()) {
            if let Some(found) = found {
                self.diverge(observer, index, self.step + found.update as u64, found.tensor())?;
            }
        }
        self.step += steps as u64;
        observer.stepped(self.step, steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, test_accuracy: f64, weight_norm: f64) -> Evaluation {
        Evaluation {
            step,
            train_loss: 0.0,
            test_loss: Some(1.0),
            train_accuracy: 1.0,
            test_accuracy: Some(test_accuracy),
            weight_norm,
        }
    }

    #[test]
    fn cleanup_ends_when_the_norm_has_been_level_since_grokking() {
        let falling: Vec<_> = (0..20).map(|i| row(i * 100, if i < 5 { 0.5 } else { 1.0 }, 100.0 - i as f64)).collect();
        assert!(!cleaned_up(&falling));
        let mut level = falling.clone();
        level.extend((20..26).map(|i| row(i * 100, 1.0, 80.9)));
        assert!(cleaned_up(&level));
        assert!(!cleaned_up(&level[..level.len() - 4]));
        // Level for long before it grokked, and falling since.
        let late: Vec<_> = (0..20)
            .map(|i| row(i * 100, if i < 17 { 0.998 } else { 0.999 }, if i < 17 { 100.0 } else { 100.0 - i as f64 }))
            .collect();
        assert_eq!(grok_step(&late), Some(1700));
        assert!(!cleaned_up(&late) && !cleaned_up(&level[..9]));
        let lost: Vec<_> = level.iter().cloned().chain([row(2600, 0.9, 80.9)]).collect();
        assert!(!cleaned_up(&lost));
        assert_eq!((grok_step(&lost), grokked(&lost)), (Some(500), false));
    }

    #[test]
    fn losses_are_split_by_what_was_trained_on() {
        let scores = Scores { losses: vec![1.0, 2.0, 4.0], correct: vec![1.0, 0.0, 1.0] };
        let weights = Weights { tensors: vec![vec![3.0, 4.0]] };
        let e = Evaluation::new(7, &scores, &[true, false, false], &weights);
        assert_eq!((e.train_loss, e.test_loss, e.train_accuracy, e.test_accuracy), (1.0, Some(3.0), 1.0, Some(0.5)));
        assert_eq!(e.weight_norm, 5.0);
        let all = Evaluation::new(7, &scores, &[true; 3], &weights);
        assert_eq!((all.test_loss, all.test_accuracy), (None, None));
    }
}
