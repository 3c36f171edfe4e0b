//! The table and the page of a sweep, of what has come of its runs so far.

use super::table::{self, Row, Status};
use super::{OWN, Sweep};
use crate::report::sweep::{self as report, Place, Shown};
use crate::run::disk;
use anyhow::Result;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The files that are made.
pub(super) const FILES: [&str; 3] = [OWN[1], OWN[2], OWN[3]];

/// What was found.
pub struct Merged {
    /// The sweep's.
    directory: PathBuf,
    /// A row a run.
    pub rows: Vec<Row>,
    shown: Shown,
}

impl Merged {
    /// Looks at the runs in a sweep's directory, and writes. Those that are not there may be begun elsewhere.
    pub(super) fn write(sweep: &Sweep, begun: &HashSet<&str>) -> Result<Self> {
        let mut rows = table::rows(&sweep.plan, &sweep.runs())?;
        for row in rows.iter_mut().filter(|row| row.status == Status::Waiting && begun.contains(row.id.as_str())) {
            row.status = Status::Begun;
        }
        let columns = table::columns(&rows, &sweep.plan.varied)?;
        let shown = shown(sweep, &rows, &columns);
        let texts = [table::csv(&columns)?, table::parquet(&columns)?, report::page(&shown).into_bytes()];
        for (name, text) in FILES.iter().zip(&texts) {
            disk::write_shared(&sweep.directory.join(name), text)?;
        }
        Ok(Self { directory: sweep.directory.clone(), rows, shown })
    }

    /// Writes every figure of the page as a file.
    pub fn write_figures(&self, directory: &Path) -> Result<()> {
        disk::make_directory(directory)?;
        let mut files = report::figure_files(&self.shown).into_iter();
        files.try_for_each(|(name, text)| disk::write_whole(&directory.join(name), text.as_bytes()))
    }

    /// Runs of a status.
    pub fn count(&self, status: Status) -> usize {
        self.rows.iter().filter(|row| row.status == status).count()
    }

    /// Runs that are not at their end.
    pub fn missing(&self) -> usize {
        self.rows.len() - self.count(Status::Done) - self.count(Status::Diverged)
    }

    /// What is wrong with runs, a line each.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter_map(|row| row.problem.as_deref())
    }

    /// A few lines for a terminal.
    pub fn summary(&self) -> String {
        let of = |status: Status| (self.count(status), status.name());
        let counts: Vec<_> = Status::ALL
            .map(of)
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        let outcomes = || self.rows.iter().filter_map(|row| row.outcome.as_ref());
        let grokked = outcomes().filter(|outcome| outcome.grokked == Some(true)).count();
        let lost = outcomes().filter(|outcome| outcome.grokked == Some(false) && outcome.grok_step.is_some()).count();
        let lost = if lost > 0 { format!(" ({lost} more had, and lost it again)") } else { String::new() };
        format!(
            "{} runs: {}; {grokked} grokked{lost}\nthe table is {} (and .parquet), the page is {}",
            self.rows.len(),
            counts.join(", "),
            self.directory.join("sweep.csv").display(),
            self.directory.join("index.html").display()
        )
    }
}

/// What the page shows.
fn shown(sweep: &Sweep, rows: &[Row], columns: &[table::Column]) -> Shown {
    let names = columns.iter().map(|column| column.name.clone()).collect();
    let place = |(number, row): (usize, &Row)| {
        let directory = format!("runs/{}", row.id);
        let page = format!("{directory}/report.html");
        let is_there = |name: &str| sweep.directory.join(name).exists();
        let link = match (is_there(&page), is_there(&directory)) {
            (true, _) => Some(page),
            (_, true) if row.status != Status::Waiting => Some(format!("{directory}/")),
            _ => None,
        };
        let outcome = row.outcome.as_ref();
        Place {
            link,
            status: row.status.name(),
            cells: columns.iter().map(|column| column.values.text(number)).collect(),
            phase: outcome.and_then(|outcome| outcome.phase),
            grokked: outcome.and_then(|outcome| outcome.grokked),
            grok_step: outcome.and_then(|outcome| outcome.grok_step),
            keys: outcome.and_then(|outcome| outcome.key_frequencies.clone()),
            op: row.plan.op.clone(),
            p: row.plan.p,
            symmetricity: outcome.and_then(|outcome| outcome.gradient_symmetricity),
            irrelevance: outcome.and_then(|outcome| outcome.distance_irrelevance),
        }
    };
    Shown {
        title: std::path::absolute(&sweep.directory)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default(),
        delay: sweep.plan.delay,
        varied: sweep.plan.varied.clone(),
        columns: names,
        runs: rows.iter().enumerate().map(place).collect(),
    }
}
