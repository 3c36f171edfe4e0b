//! What a run shows while it trains: a bar on a terminal, lines elsewhere, JSON on request.

use crate::train::Evaluation;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// How a run tells of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    /// A bar where stderr is a terminal, lines where it is not.
    Human,
    /// Nothing but results.
    Quiet,
    /// Rows as JSON on standard output.
    Json,
}

/// What a user sees of training.
pub struct Progress {
    style: Style,
    bar: Option<ProgressBar>,
    several: bool,
    stop: &'static AtomicBool,
}

/// Writes a line to standard output; whether somebody reads it.
pub fn say(line: &str) -> bool {
    writeln!(std::io::stdout(), "{line}").is_ok()
}

/// Writes a line to standard error, whatever becomes of it.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Progress {
    /// From `step` on towards `steps`. With `several` each row says which model it is of. `stop` is set where the reader of the rows has gone
    /// away.
    pub fn new(style: Style, step: u64, steps: u64, several: bool, stop: &'static AtomicBool) -> Self {
        let terminal = style == Style::Human && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(8));
            let template = "{bar:20} {pos}/{len}  {per_sec:.0}  {eta} left at most  {wide_msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
            bar.set_position(step);
            bar.reset_eta();
            bar
        });
        Self { style, bar, several, stop }
    }

    /// Moves the bar.
    pub fn stepped(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Tells an evaluation of a model, with the median of a step in milliseconds and the seconds left.
    pub fn evaluated(&self, member: usize, row: &Evaluation, ms_per_step: Option<f64>, left: Option<f64>) {
        let or_dash = |value: Option<f64>, f: &dyn Fn(f64) -> String| value.map_or("-".into(), f);
        let loss = |x: f64| format!("{x:.2e}");
        let share = |x: f64| format!("{:.2}%", 100.0 * x);
        let figures = format!(
            "train loss {}  test loss {}  train acc {}  test acc {}  norm {:.2}",
            loss(row.train_loss),
            or_dash(row.test_loss, &loss),
            share(row.train_accuracy),
            or_dash(row.test_accuracy, &share),
            row.weight_norm
        );
        let model = if self.several { format!("model {member}  ") } else { String::new() };
        match (self.style, &self.bar) {
            (Style::Quiet, _) => {}
            (Style::Json, _) => {
                let mut value = serde_json::json!(row);
                if self.several {
                    value["model"] = member.into();
                }
                // A reader that has gone away (`| head`) wants no more: as with Ctrl-C, a checkpoint is left.
                if !say(&value.to_string()) {
                    self.stop.store(true, Ordering::SeqCst);
                }
            }
            (Style::Human, Some(bar)) => bar.set_message(format!("{model}{figures}")),
            (Style::Human, None) => {
                let pace = or_dash(ms_per_step, &|ms| format!("{ms:.1} ms/step"));
                let left = or_dash(left, &|s| format!("{}:{:02} left at most", s as u64 / 60, s as u64 % 60));
                note(&format!("{model}step {:>6}  {figures}  {pace}  {left}", row.step));
            }
        }
    }

    /// Takes the bar away, so that what follows stands on lines of its own.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar for work that is not training; shown on a terminal only.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// From 0 towards `steps`, with a few words on what they are.
    pub fn new(style: Style, steps: u64, what: &str) -> Self {
        let terminal = style == Style::Human && std::io::stderr().is_terminal();
        Self(terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(8));
            let template = "{bar:20} {pos}/{len}  {eta} left at most  {msg}";
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
            bar.set_message(what.to_string());
            bar
        }))
    }

    /// Writes a line to standard error, above the bar where there is one.
    pub fn say(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }

    /// One more is done.
    pub fn step(&self) {
        self.advance(1);
    }

    /// So many more are done.
    pub fn advance(&self, steps: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(steps);
        }
    }

    /// So many need not be done.
    pub fn shorten(&self, steps: u64) {
        if let Some(bar) = &self.0 {
            bar.dec_length(steps);
        }
    }

    /// Changes the words beside the bar.
    pub fn message(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_string());
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
