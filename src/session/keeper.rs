//! The observer that writes run directories, shows progress and keeps the time.

use super::board::Board;
use super::many::{End, Watch};
use super::{Options, analyze};
use crate::analysis::Analysis;
use crate::learning::Learning;
use crate::program::State;
use crate::progress::{Progress, Style, note};
use crate::report;
use crate::run::disk::kind_of;
use crate::run::{RunDir, Summary, Timing};
use crate::train::{self, Divergence, Evaluation, Member, Observer};
use anyhow::{Context, Result};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Seconds that a stretch of steps should take: short enough for a display driver's watchdog and for Ctrl-C.
const STRETCH_SECONDS: f64 = 0.25;

/// Keeps what training brings: rows, checkpoints, findings, summaries.
pub struct Keeper<'a> {
    /// A directory for each model.
    pub runs: Vec<RunDir>,
    /// Their numbers among all that the command trains.
    numbers: Vec<usize>,
    /// What the user sees.
    pub progress: Progress,
    options: &'a Options,
    began: Instant,
    /// When the stretch in progress began.
    mark: Instant,
    /// Milliseconds a step of the stretches since the last evaluation, and of all.
    recent: Times,
    /// Whether `recent` has been told.
    evaluated: bool,
    all: Times,
    /// Of the members that are done, by their numbers.
    pub summaries: Vec<(usize, Summary)>,
    /// Of the members whose numbers went bad, by their numbers.
    pub diverged: Vec<(usize, Divergence)>,
    /// Analyses of the members that are done.
    pub findings: Vec<Analysis>,
    /// Updates at most.
    pub steps: u64,
    /// The device's name, for the summaries.
    pub device: String,
    /// One for each run, or none.
    boards: Vec<Board>,
    watch: &'a mut dyn Watch,
}

/// Times, of which every n-th is kept, so that a run of any length holds no more than some of them.
struct Times {
    kept: Vec<f64>,
    every: usize,
    seen: usize,
    last: Option<f64>,
}

impl Times {
    const MOST: usize = 1 << 12;

    fn new() -> Self {
        Self { kept: Vec::new(), every: 1, seen: 0, last: None }
    }

    fn push(&mut self, time: f64) {
        self.last = Some(time);
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(time);
        }
        self.seen += 1;
        if self.kept.len() == Self::MOST {
            self.kept = self.kept.iter().step_by(2).copied().collect();
            self.every *= 2;
        }
    }

    fn median(&self) -> Option<f64> {
        median(&self.kept)
    }
}

/// The middle value, the upper one of two; none of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl<'a> Keeper<'a> {
    /// For runs, with their numbers, that go on towards `steps` updates.
    pub fn new(
        runs: Vec<(usize, RunDir)>,
        progress: Progress,
        options: &'a Options,
        steps: u64,
        device: String,
        boards: Vec<Board>,
        watch: &'a mut dyn Watch,
    ) -> Self {
        let (numbers, runs) = runs.into_iter().unzip();
        let now = Instant::now();
        let (recent, all, summaries) = (Times::new(), Times::new(), Vec::new());
        Self {
            runs,
            numbers,
            progress,
            options,
            began: now,
            mark: now,
            recent,
            evaluated: false,
            all,
            summaries,
            diverged: Vec::new(),
            findings: Vec::new(),
            steps,
            device,
            boards,
            watch,
        }
    }

    /// Models that are still trained.
    fn live(&self) -> usize {
        self.runs.len() - self.summaries.len() - self.diverged.len()
    }
}

impl Observer for Keeper<'_> {
    fn evaluated(&mut self, member: usize, row: &Evaluation) -> Result<()> {
        let ms_per_step = self.recent.median();
        let seconds = self.began.elapsed().as_secs_f64();
        // In this order: a row that is there has its time.
        self.runs[member].append_timing(&Timing { step: row.step, seconds, ms_per_step })?;
        self.runs[member].append_metrics(row)?;
        if let Some(board) = self.boards.get(member) {
            board.evaluated(row, ms_per_step)?;
        }
        self.evaluated = true;
        let left = ms_per_step.map(|ms| ms / 1e3 * self.steps.saturating_sub(row.step) as f64);
        self.progress.evaluated(self.numbers[member], row, ms_per_step, left);
        Ok(())
    }

    fn snapshot(&mut self, member: usize, step: u64, state: &State<f32>) -> Result<()> {
        let is_new = !self.runs[member].checkpoint_path(step).exists();
        self.runs[member].write_checkpoint(step, state)?;
        match self.boards.get(member) {
            Some(board) if is_new => board.snapshot(&self.runs[member].plan, step, &state.weights),
            _ => Ok(()),
        }
    }

    fn finished(&mut self, member: &Member, index: usize, state: &State<f32>) -> Result<()> {
        let run = &self.runs[index];
        run.write_model(state)?;
        let last = member.history.last().context("a run ends with an evaluation")?;
        let grokked = train::grokked(&member.history);
        // Among others a model is analysed under the bar of their training.
        let style = match self.runs.len() {
            1 => {
                self.progress.finish();
                self.options.style
            }
            _ => Style::Quiet,
        };
        let analysed = analyze::finished_run(run, &Options { style, ..self.options.clone() }, |subject| {
            match self.boards.get(index) {
                Some(board) => board.figures(last.step, &report::figure_files(subject)),
                None => Ok(()),
            }
        });
        let (key_frequencies, key_cut) = match analysed {
            Ok(findings) => {
                let (keys, cut) = (findings.key_frequencies().to_vec(), findings.key_cut());
                self.findings.push(findings);
                (Some(keys), cut)
            }
            // Where files cannot be written the run is not done.
            Err(problem) if kind_of(&problem).is_some() => return Err(problem),
            Err(problem) => {
                note(&format!("{}: trained, but not analysed: {problem:#}", run.path.display()));
                (None, None)
            }
        };
        let summary = Summary {
            schema: 1,
            grokked,
            grok_step: train::grok_step(&member.history),
            steps: last.step,
            train_loss: last.train_loss,
            test_loss: last.test_loss,
            train_accuracy: last.train_accuracy,
            test_accuracy: last.test_accuracy,
            key_frequencies,
            key_cut,
            ms_per_step: self.all.median(),
            device: self.device.clone(),
            program: run.plan.program.clone(),
            learning: Some(Learning::of(&member.history)),
            stopped_by: member.stop_rule(last.step).map(String::from),
        };
        run.write_summary(&summary)?;
        let number = self.numbers[index];
        self.watch.ended(number, &End::Done(summary.clone().into()), true);
        self.summaries.push((number, summary));
        Ok(())
    }

    fn diverged(&mut self, member: usize, divergence: &Divergence) -> Result<()> {
        self.runs[member].write_divergence(divergence)?;
        let number = self.numbers[member];
        self.watch.ended(number, &End::Diverged(divergence.clone()), true);
        self.diverged.push((number, divergence.clone()));
        Ok(())
    }

    fn stepped(&mut self, step: u64, steps: usize) -> Result<()> {
        if std::mem::take(&mut self.evaluated) {
            self.recent = Times::new();
        }
        let ms = self.mark.elapsed().as_secs_f64() * 1e3 / steps as f64;
        self.recent.push(ms);
        self.all.push(ms);
        self.progress.stepped(step);
        self.watch.stepped((self.live() * steps) as u64);
        Ok(())
    }

    fn stretch(&mut self, most: usize) -> usize {
        self.mark = Instant::now();
        let paced = self.all.last.map_or(1.0, |ms| STRETCH_SECONDS * 1e3 / ms);
        (paced as usize).clamp(1, most)
    }

    fn interrupted(&self) -> bool {
        self.options.stop.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_few_and_evenly_spaced() {
        let mut times = Times::new();
        for i in 0..100_000 {
            times.push(i as f64);
        }
        let gaps: Vec<f64> = times.kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(times.kept.len() < Times::MOST && gaps.iter().all(|&gap| gap == gaps[0]));
        assert_eq!(times.last, Some(99_999.0));
        assert!((times.median().unwrap() - 50_000.0).abs() < 100.0, "{:?}", times.median());
    }
}
