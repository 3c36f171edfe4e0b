//! The runs that lie in some directories, side by side: which fields of their plans differ, and what came of them.

use super::table::{self, Column, Row};
use crate::run::{RunDir, disk};
use crate::session::many::Job;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Directories below a named one in which runs are looked for: those of a sweep lie two below it.
const DEPTH: usize = 3;

/// Columns of the results that are shown; those of the plan that differ stand before them.
const SHOWN: [&str; 7] =
    ["phase", "grok_step", "ended_at_step", "test_loss", "test_accuracy", "key_frequencies", "key_cut"];

/// Runs, and the fields in which their plans differ.
pub struct Listed {
    columns: Vec<Column>,
    varied: Vec<String>,
    count: usize,
    /// What is wrong with some of them, a line each.
    pub problems: Vec<String>,
}

impl Listed {
    /// Of all runs in some directories. `delay` is of the phases, as in a sweep's plan.
    pub fn of(directories: &[PathBuf], delay: u64) -> Result<Self> {
        let mut paths = Vec::new();
        for directory in directories {
            ensure!(directory.is_dir(), "{}: not a directory: expected one with runs in it", directory.display());
            let before = paths.len();
            gather(directory, DEPTH, &mut paths)?;
            ensure!(
                paths.len() > before,
                "{}: holds no run: expected a plan.toml in it or below it",
                directory.display()
            );
        }
        paths.dedup();
        let (mut rows, mut problems): (Vec<Row>, Vec<String>) = (Vec::new(), Vec::new());
        for path in paths {
            match RunDir::open(&path) {
                Ok(run) => {
                    rows.push(table::row(path.display().to_string(), &Job { directory: path, plan: run.plan }, delay)?)
                }
                Err(problem) => problems.push(format!("{problem:#}")),
            }
        }
        problems.extend(rows.iter().filter_map(|row| row.problem.clone()));
        let plans =
            rows.iter().map(|row| toml::Table::try_from(&row.plan)).collect::<Result<Vec<_>, _>>().context("a plan")?;
        let differs = |name: &&String| plans.iter().any(|plan| plan.get(*name) != plans[0].get(*name));
        let varied: Vec<String> =
            plans.first().map_or(Vec::new(), |plan| plan.keys().filter(differs).cloned().collect());
        Ok(Self { columns: table::columns(&rows, &varied)?, varied, count: rows.len(), problems })
    }

    /// Every column, as CSV.
    pub fn csv(&self) -> Result<String> {
        String::from_utf8(table::csv(&self.columns)?).context("the table")
    }

    /// For a terminal: what differs, and what came of it.
    pub fn text(&self) -> String {
        let names = ["run", "status"].into_iter().chain(self.varied.iter().map(String::as_str)).chain(SHOWN);
        let columns: Vec<&Column> =
            names.filter_map(|name| self.columns.iter().find(|column| column.name == name)).collect();
        let cell = |column: &Column, row: usize| {
            let is_result = SHOWN.contains(&column.name.as_str());
            let text = if is_result { column.values.short(row) } else { column.values.text(row) };
            text.filter(|text| !text.is_empty()).unwrap_or("-".into())
        };
        let texts: Vec<Vec<String>> = columns
            .iter()
            .map(|column| {
                std::iter::once(column.name.clone()).chain((0..self.count).map(|row| cell(column, row))).collect()
            })
            .collect();
        let widths: Vec<usize> =
            texts.iter().map(|column| column.iter().map(|text| text.chars().count()).max().unwrap_or(0)).collect();
        let line = |row: usize| {
            let cells = texts.iter().zip(&widths).map(|(column, width)| format!("{:width$}", column[row]));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        (0..=self.count).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Directories with a plan in them, in the order of their names; those of numbers in the order of these.
fn gather(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if directory.join("plan.toml").is_file() {
        found.push(directory.into());
        return Ok(());
    }
    if depth == 0 {
        return Ok(());
    }
    let entries = disk::entries(directory).with_context(|| format!("{}: could not be listed", directory.display()))?;
    let mut below: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    let number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (name[..digits].to_string(), name[digits..].parse::<u64>().unwrap_or(0), name)
    };
    below.sort_by_key(number);
    below.iter().try_for_each(|path| gather(path, depth - 1, found))
}
