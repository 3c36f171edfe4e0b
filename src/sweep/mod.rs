//! Many runs by one plan: which they are, whose part of them this process does, and what they say together.
//!
//! ```text
//! DIR/sweep.toml      the plan
//! DIR/runs/ID/        a run's directory, called after the hash of its plan
//! DIR/sweep.csv  sweep.parquet  index.html     what `merge` makes of them
//! ```
//!
//! Processes share no file that changes: each writes into the directories of its own runs alone.

pub mod emit;
pub mod plan;
pub mod shard;
pub mod table;

use crate::plan::one_line;
use crate::progress::{Bar, Style, note};
use crate::report::sweep::{self as report, Place, Shown};
use crate::run::disk;
use crate::session::Options;
use crate::session::many::{self, End, Found, Job, Progress, find, train_all};
use anyhow::{Context, Result, bail, ensure};
use plan::SweepPlan;
use shard::Shard;
use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};
use table::{Row, Status};

/// Time between two tables of a sweep that is under way.
const BETWEEN_MERGES: Duration = Duration::from_secs(20);

/// The plan's name in a sweep's directory.
const PLAN: &str = "sweep.toml";

/// A sweep with its directory.
pub struct Sweep {
    /// Where its runs are.
    pub directory: PathBuf,
    /// What they are.
    pub plan: SweepPlan,
    /// Files that lie beside the plan, and where they will lie beside its copy.
    copies: Vec<(PathBuf, PathBuf)>,
}

impl Sweep {
    /// Reads a plan that is to be run in a directory, which may hold a part of it already. `extends`: the plan takes the place of the
    /// one that is there.
    pub fn new(path: &Path, directory: PathBuf, extends: bool) -> Result<Self> {
        let (plan, files) = read_plan(path)?;
        let there = directory.join(PLAN);
        if there.is_file() && !extends {
            ensure!(
                disk::read_text(&there)? == plan.text,
                "{}: of another plan than {}: expected another --out, or --extend to go on with the new plan, which keeps the runs that both have",
                there.display(),
                path.display()
            );
        }
        let empty = || disk::entries(&directory).map_or(true, |entries| entries.is_empty());
        ensure!(
            there.is_file() || directory.join("runs").is_dir() || empty(),
            "{}: holds something that is no sweep: expected a new or an empty directory",
            directory.display()
        );
        let own = |file: &Path| {
            let first = file.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
            first.is_some_and(|name| [PLAN, "sweep.csv", "sweep.parquet", "index.html", "runs"].contains(&&*name))
        };
        let mut copies = Vec::new();
        for file in files.into_iter().filter(|file| file.is_relative() || path.is_absolute()) {
            let above = path.parent().unwrap_or(Path::new(""));
            match file.strip_prefix(above) {
                Ok(inside) if inside.components().all(|part| matches!(part, Component::Normal(_))) => {
                    ensure!(
                        !own(inside),
                        "{}: has a name that the sweep's directory has itself: expected another",
                        file.display()
                    );
                    let to = directory.join(inside);
                    ensure!(
                        extends || !to.is_file() || disk::read(&to)? == disk::read(&file)?,
                        "{}: is not what it was when {} was begun: expected another --out, or --extend to go on with the new one",
                        file.display(),
                        directory.display()
                    );
                    copies.push((file.clone(), to));
                }
                _ if file.is_absolute() => {}
                _ => bail!(
                    "{}: named by {}: expected a file beside it, or an absolute path",
                    file.display(),
                    path.display()
                ),
            }
        }
        Ok(Self { directory, plan, copies })
    }

    /// The sweep in a directory.
    pub fn open(directory: &Path) -> Result<Self> {
        let there = directory.join(PLAN);
        ensure!(there.is_file(), "{}: not a sweep: it has no {PLAN}", directory.display());
        Ok(Self { directory: directory.into(), plan: read_plan(&there)?.0, copies: Vec::new() })
    }

    fn runs(&self) -> PathBuf {
        self.directory.join("runs")
    }

    /// Puts the plan into the directory, where other processes may be doing the same. Files that it names lie beside it there.
    fn settle(&self) -> Result<()> {
        disk::make_directory(&self.runs())?;
        for (from, to) in &self.copies {
            let bytes = disk::read(from)?;
            if !to.is_file() || disk::read(to)? != bytes {
                disk::make_directory(to.parent().unwrap_or(&self.directory))?;
                disk::write_shared(to, &bytes)?;
            }
        }
        let there = self.directory.join(PLAN);
        if there.is_file() && disk::read_text(&there)? == self.plan.text {
            return Ok(());
        }
        disk::write_shared(&there, self.plan.text.as_bytes())
    }

    /// Trains what is left of a shard. Whoever does all of it keeps table and page up to date meanwhile.
    pub fn run(&self, shard: Shard, options: &Options) -> Result<Progress> {
        let own = |(number, _): &(usize, &plan::Planned)| shard.has(*number);
        let jobs = self.plan.runs.iter().enumerate().filter(own).map(|(_, run)| self.job(run));
        let (mut left, mut before, mut begun) = (Vec::new(), 0, 0);
        for job in jobs {
            match find(&job)? {
                Found::Ended(..) => before += 1,
                found => {
                    begun += usize::from(matches!(found, Found::Begun(..)));
                    left.push(job);
                }
            }
        }
        if let Some(first) = left.first() {
            many::check(first, options)?;
        }
        self.settle()?;
        let (count, all) = (left.len() + before, self.plan.runs.len());
        let bar = Bar::new(options.style, count as u64, "runs");
        if options.style == Style::Human {
            let part =
                if count < all { format!(" of {all} (shard {}/{})", shard.index, shard.count) } else { String::new() };
            let going_on = if begun > 0 { format!(", {begun} go on from their checkpoints") } else { String::new() };
            bar.say(&format!(
                "{count} runs{part}, {before} were done before{going_on} -> {}",
                self.directory.display()
            ));
        }
        (0..before).for_each(|_| bar.step());
        let quiet = Options { style: Style::Quiet, ..options.clone() };
        let (mut ended, mut merged) = (before, Instant::now());
        let mut told = |index: usize, end: &End| {
            ended += 1;
            bar.step();
            if options.style == Style::Human {
                bar.say(&format!("{ended}/{count}  {}  {}", self.title(&left[index].plan), ending(end)));
            }
            if shard == Shard::WHOLE && merged.elapsed() > BETWEEN_MERGES {
                if let Err(error) = self.merge() {
                    bar.say(&one_line(format!("the table is not up to date: {error:#}")));
                }
                merged = Instant::now();
            }
        };
        let progress = train_all(&left, &self.directory, &quiet, &mut told);
        bar.finish();
        progress
    }

    fn job(&self, run: &plan::Planned) -> Job {
        Job { directory: self.runs().join(&run.id), plan: run.plan.clone() }
    }

    /// The fields of a run that vary.
    fn title(&self, plan: &crate::plan::Plan) -> String {
        let table = toml::Table::try_from(plan).unwrap_or_default();
        let field = |name: &String| format!("{name} = {}", table.get(name).map_or("-".into(), toml::Value::to_string));
        self.plan.varied.iter().map(field).collect::<Vec<_>>().join("  ")
    }

    /// Writes the table and the page of what has come of the runs so far. The same runs give the same files.
    pub fn merge(&self) -> Result<Merged> {
        let rows = table::rows(&self.plan, &self.runs())?;
        for row in &rows {
            if let Some(problem) = &row.problem {
                note(&format!("{problem}: expected grokscope sweep run to do it again"));
            }
        }
        let columns = table::columns(&rows, &self.plan.varied)?;
        let write = |name: &str, bytes: &[u8]| disk::write_shared(&self.directory.join(name), bytes);
        write("sweep.csv", &table::csv(&columns)?)?;
        write("sweep.parquet", &table::parquet(&columns)?)?;
        let shown = self.shown(&rows, &columns);
        write("index.html", report::page(&shown).as_bytes())?;
        Ok(Merged { directory: self.directory.clone(), rows, shown })
    }

    /// What the page shows.
    fn shown(&self, rows: &[Row], columns: &[table::Column]) -> Shown {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        let place = |(number, row): (usize, &Row)| {
            let directory = format!("runs/{}", row.id);
            let page = format!("{directory}/report.html");
            let link = match (self.directory.join(&page).is_file(), row.status) {
                (_, Status::Waiting) => None,
                (true, _) => Some(page),
                (false, _) => Some(format!("{directory}/")),
            };
            let outcome = row.outcome.as_ref();
            Place {
                link,
                status: row.status.name(),
                cells: columns.iter().map(|column| column.values.text(number)).collect(),
                phase: outcome.map(|outcome| outcome.phase),
                grokked: outcome.map(|outcome| outcome.grokked),
                grok_step: outcome.and_then(|outcome| outcome.grok_step),
                keys: outcome.and_then(|outcome| outcome.key_frequencies.clone()),
                p: row.plan.p,
                symmetricity: outcome.and_then(|outcome| outcome.gradient_symmetricity),
                irrelevance: outcome.and_then(|outcome| outcome.distance_irrelevance),
            }
        };
        Shown {
            title: self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            delay: self.plan.delay,
            varied: self.plan.varied.clone(),
            columns: names,
            runs: rows.iter().enumerate().map(place).collect(),
        }
    }
}

/// What `merge` found.
pub struct Merged {
    /// The sweep's.
    pub directory: PathBuf,
    /// A row a run.
    pub rows: Vec<Row>,
    shown: Shown,
}

impl Merged {
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

    /// A few lines for a terminal.
    pub fn summary(&self) -> String {
        let of = |status: Status| (self.count(status), status.name());
        let all = [Status::Done, Status::Diverged, Status::Begun, Status::Waiting, Status::Damaged].map(of);
        let counts: Vec<_> =
            all.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
        let grokked =
            self.rows.iter().filter(|row| row.outcome.as_ref().is_some_and(|outcome| outcome.grokked)).count();
        format!(
            "{} runs: {}; {grokked} grokked\nthe table is {} (and .parquet), the page is {}",
            self.rows.len(),
            counts.join(", "),
            self.directory.join("sweep.csv").display(),
            self.directory.join("index.html").display()
        )
    }
}

/// A plan, and the files that it names.
fn read_plan(path: &Path) -> Result<(SweepPlan, Vec<PathBuf>)> {
    let files = RefCell::new(Vec::new());
    let file = |path: &Path| {
        files.borrow_mut().push(path.to_path_buf());
        disk::read(path)
    };
    let plan = SweepPlan::new(&disk::read_text(path)?, &path.display().to_string(), &file)?;
    Ok((plan, files.into_inner()))
}

fn ending(end: &End) -> String {
    match end {
        End::Diverged(divergence) => format!("diverged at step {}", divergence.step),
        End::Done(summary) => match (summary.grokked, summary.grok_step) {
            (true, Some(step)) => format!("grokked at step {step}"),
            _ => format!("did not grok in {} steps", summary.steps),
        },
    }
}

/// A sweep's directory where none is named: runs/ and the plan's name.
pub fn default_directory(plan: &Path) -> Result<PathBuf> {
    let name = plan.file_stem().with_context(|| format!("{}: has no name: expected --out DIR", plan.display()))?;
    Ok(Path::new("runs").join(name))
}
