//! What a user sees of a sweep under way, and what is kept up to date meanwhile: the table, and the store.

use super::shard::Shard;
use super::{Sweep, id_of};
use crate::plan::{Plan, one_line};
use crate::progress::{Bar, Style};
use crate::session::many::{End, Job, Left, Watch};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Time between two tables.
const BETWEEN_MERGES: Duration = Duration::from_secs(20);

/// A table takes no more than one part in so many of the time.
const MERGE_SHARE: u32 = 20;

pub(super) struct Follow<'a> {
    sweep: &'a Sweep,
    jobs: &'a [Job],
    /// Runs of the shard, and how many of them are at their end.
    count: usize,
    ended: usize,
    /// Over updates.
    bar: Bar,
    tells: bool,
    merges: bool,
    next_merge: Instant,
    /// Whether the store did not answer.
    is_away: bool,
}

impl<'a> Follow<'a> {
    /// Of the jobs that are not only in the store, in which `stored` others are.
    pub fn new(sweep: &'a Sweep, shard: Shard, jobs: &'a [Job], left: &Left, stored: usize, style: Style) -> Self {
        let (count, ended) = (jobs.len() + stored, left.ended + stored);
        let bar = Bar::new(style, left.updates, "");
        let (tells, merges) = (style == Style::Human, shard == Shard::WHOLE);
        let follow = Self {
            sweep,
            jobs,
            count,
            ended,
            bar,
            tells,
            merges,
            next_merge: Instant::now() + BETWEEN_MERGES,
            is_away: false,
        };
        follow.show();
        follow
    }

    fn show(&self) {
        self.bar.message(&format!("{} of {} runs", self.ended, self.count));
    }

    pub fn finish(&self) {
        self.bar.finish();
    }

    /// The fields of a run that vary.
    fn title(&self, plan: &Plan) -> String {
        let table = toml::Table::try_from(plan).unwrap_or_default();
        let field = |name: &String| format!("{name} = {}", table.get(name).map_or("-".into(), toml::Value::to_string));
        self.sweep.plan.varied.iter().map(field).collect::<Vec<_>>().join("  ")
    }

    fn merge_where_due(&mut self) {
        let began = Instant::now();
        if !self.merges || began < self.next_merge {
            return;
        }
        if let Err(error) = super::merged::Merged::write(self.sweep, &HashSet::new()) {
            self.bar.say(&one_line(format!("the table is not up to date: {error:#}")));
        }
        self.next_merge = Instant::now() + BETWEEN_MERGES.max(began.elapsed() * MERGE_SHARE);
    }
}

impl Watch for Follow<'_> {
    fn stepped(&mut self, updates: u64) {
        self.bar.advance(updates);
        self.merge_where_due();
    }

    fn ended(&mut self, number: usize, end: &End, here: bool) {
        let job = &self.jobs[number];
        self.ended += 1;
        let step = match end {
            End::Done(summary) => summary.steps,
            End::Diverged(divergence) => divergence.step,
        };
        self.bar.shorten(job.plan.steps.saturating_sub(step));
        self.show();
        if self.tells {
            let by_others = if here { "" } else { "  (trained by another process)" };
            let (title, end) = (self.title(&job.plan), ending(end));
            self.bar.say(&format!("{}/{}  {title}  {end}{by_others}", self.ended, self.count));
        }
        if let Some(store) = self.sweep.store.as_ref().filter(|_| !self.is_away)
            && let Err(error) = store.push(&id_of(job), &job.directory)
        {
            // Once is enough to wait for: at the end all of them are tried again.
            self.is_away = true;
            self.bar.say(&one_line(format!("{}: not in the store yet: {error:#}", job.directory.display())));
        }
        self.merge_where_due();
    }
}

fn ending(end: &End) -> String {
    match end {
        End::Diverged(divergence) => format!("diverged at step {}", divergence.step),
        End::Done(summary) if summary.grok_step.is_some() => summary.grokking(),
        End::Done(summary) if summary.test_loss.is_none() => {
            format!("has no pair left to test on, after {} steps", summary.steps)
        }
        End::Done(summary) => format!("{} in {} steps", summary.grokking(), summary.steps),
    }
}
