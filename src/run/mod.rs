//! The run directory: plan, metrics, checkpoints, the final model and how it ended.

pub mod arrays;
mod card;
pub mod disk;
pub mod events;
pub mod formats;
pub mod inputs;
pub mod json;
pub mod lens;

use crate::analysis::keys::KeyCut;
use crate::learning::{Learning, Outcome};
use crate::model::Weights;
use crate::plan::Plan;
use crate::program::State;
use crate::task::Pairs;
use crate::train::{Divergence, Evaluation};
use anyhow::{Context, Result, bail, ensure};
use disk::{Lock, append, make_directory, read, read_text, retried, sync, write_directory, write_whole};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Checkpoints that keep the optimizer's moments: training can go on from these.
const RESUMABLE: usize = 2;

/// The directory of a run, with the plan that stands in it.
pub struct RunDir {
    /// Where it is.
    pub path: PathBuf,
    /// What `plan.toml` says.
    pub plan: Plan,
}

/// A line of `timing.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// Updates done.
    pub step: u64,
    /// Since training began, in this session.
    pub seconds: f64,
    /// Median of a training step since the last line, evaluations left out.
    pub ms_per_step: Option<f64>,
}

/// `summary.json`: how a run ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Version of these fields.
    pub schema: u32,
    /// Whether the network counts as grokked at the end.
    pub grokked: bool,
    /// The first evaluation at which it had; null where there was none.
    pub grok_step: Option<u64>,
    /// Updates done.
    pub steps: u64,
    /// Mean cross-entropy in nats at the end.
    pub train_loss: f64,
    /// The same over the pairs not trained on; null where there are none.
    pub test_loss: Option<f64>,
    /// Share of the train pairs whose label has the largest logit.
    pub train_accuracy: f64,
    /// Share of the pairs not trained on.
    pub test_accuracy: Option<f64>,
    /// Null where the network could not be analysed.
    pub key_frequencies: Option<Vec<usize>>,
    /// How clear these are; null where there are none to tell, and in runs of earlier versions, whose rule was another.
    #[serde(default)]
    pub key_cut: Option<KeyCut>,
    /// Median of a training step in milliseconds, of the session that ended the run.
    pub ms_per_step: Option<f64>,
    /// The adapter's name, or the CPU engine.
    pub device: String,
    /// The program that trained.
    pub program: String,
    /// When it memorised and generalised, and what that amounts to; runs of earlier versions do not say.
    #[serde(default)]
    pub learning: Option<Learning>,
    /// The field of the plan by which it ended; runs of earlier versions do not say.
    #[serde(default)]
    pub stopped_by: Option<String>,
}

impl Summary {
    /// "clear", "not clear", "not clear: 18 20" or "earlier rule"; none where there are no key frequencies.
    pub fn key_cut(&self) -> Option<String> {
        if self.key_frequencies.as_ref().is_none_or(Vec::is_empty) {
            return None;
        }
        Some(match &self.key_cut {
            None => "earlier rule".into(),
            Some(KeyCut { clear: true, .. }) => "clear".into(),
            Some(KeyCut { in_question, .. }) if in_question.is_empty() => "not clear".into(),
            Some(KeyCut { in_question, .. }) => {
                format!("not clear: {}", in_question.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
            }
        })
    }

    /// Returns when it learned, in a line: "grokked at step 1900 (memorised at 200, generalised at 1800)".
    ///
    /// A network that generalises soon after it memorises has not grokked, whatever its accuracy.
    pub fn grokking(&self) -> String {
        let generalised = self.learning.as_ref().and_then(|learning| learning.generalised_step);
        let memorised = self.learning.as_ref().and_then(|learning| learning.memorised_step);
        let outcome = self.learning.as_ref().and_then(|learning| learning.outcome);
        match (self.grokked, self.grok_step, outcome) {
            (true, Some(0), _) => "already generalised at step 0".into(),
            (true, Some(step), Some(Outcome::Generalised)) => {
                let after = memorised.map_or("without memorising first".into(), |m| format!("memorised at {m}"));
                let at = generalised.unwrap_or(step);
                format!("generalised at step {at} without a grokking delay ({after}, 99.9 % at {step})")
            }
            (true, Some(step), _) => {
                let steps = memorised.zip(generalised);
                let steps = steps.map_or(String::new(), |(m, g)| format!(" (memorised at {m}, generalised at {g})"));
                format!("grokked at step {step}{steps}")
            }
            (false, Some(step), _) => format!("reached 99.9 % test accuracy at step {step}, then fell below it"),
            (_, None, Some(Outcome::Generalised)) => {
                format!("generalised at step {}, but not to 99.9 %", generalised.unwrap_or(self.steps))
            }
            (_, None, _) => "did not grok".into(),
        }
    }
}

/// The checkpoint that a run goes on from.
pub struct Newest {
    /// Updates done.
    pub step: u64,
    /// Weights, moments and remembered gradients.
    pub state: State<f32>,
    /// What is wrong with the newer ones.
    pub passed_over: Vec<String>,
}

impl RunDir {
    /// Makes the directory of a new run: its first checkpoint, and last its plan, which makes it one. What came from files the
    /// run keeps itself, and its plan names its own copies. [`begin`] has been called for it, or for the ensemble that it belongs to.
    pub fn create(&mut self, train: &Pairs, state: &State<f32>) -> Result<()> {
        let path = &self.path;
        make_directory(&path.join("checkpoints"))?;
        if self.plan.split.ends_with(".csv") {
            write_whole(&path.join("split.csv"), train.to_csv().as_bytes())?;
            self.plan.split = "split.csv".into();
        }
        if self.plan.init.ends_with(".safetensors") {
            self.plan.init = "checkpoints/step-000000/model.safetensors".into();
        }
        write_whole(&path.join("metrics.jsonl"), b"")?;
        write_whole(&path.join("timing.jsonl"), b"")?;
        self.write_checkpoint(0, state)?;
        self.write_plan()
    }

    /// Opens the directory of a run that was begun before.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("plan.toml");
        refuse_begun(path)?;
        ensure!(file.is_file(), "{}: not a run: it has no plan.toml", path.display());
        let plan = Plan::from_toml(&read_text(&file)?, &file.display().to_string())?;
        Ok(Self { path: path.into(), plan })
    }

    /// Writes `plan.toml` as it stands here.
    pub fn write_plan(&self) -> Result<()> {
        write_whole(&self.path.join("plan.toml"), self.plan.to_toml().as_bytes())
    }

    /// The text of the split file that the run keeps, where its split is a file.
    pub fn split_text(&self) -> Result<Option<String>> {
        // Not the file of that name where the program happens to be.
        if self.plan.split.ends_with(".csv") { read_text(&self.path.join("split.csv")).map(Some) } else { Ok(None) }
    }

    /// Steps of the checkpoints, in rising order.
    pub fn checkpoints(&self) -> Result<Vec<u64>> {
        steps_in(&self.path.join("checkpoints"))
    }

    /// Where the checkpoint of a step is or would be.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("checkpoints/step-{step:06}"))
    }

    /// Writes a checkpoint that is not there yet.
    pub fn write_checkpoint(&self, step: u64, state: &State<f32>) -> Result<()> {
        let path = self.checkpoint_path(step);
        if !path.exists() {
            let shape = self.plan.shape();
            let mut files = vec![
                ("model.safetensors", lens::model_bytes(&state.weights, &shape)?),
                ("optimizer.safetensors", lens::optimizer_bytes(state, &shape)?),
            ];
            files.push(("state.json", pretty(&lens::state_json(step, &files))?));
            // A checkpoint that is on disk has its rows there too.
            sync(&self.path.join("metrics.jsonl"))?;
            sync(&self.path.join("timing.jsonl"))?;
            write_directory(&path, &files)?;
        }
        self.tidy(step)
    }

    /// What training has passed by: a checkpoint that an interruption left off the plan's schedule, and the moments of all but the
    /// newest two.
    fn tidy(&self, step: u64) -> Result<()> {
        let earlier: Vec<u64> = self.checkpoints()?.into_iter().filter(|&other| other < step).collect();
        for &other in earlier.iter().filter(|other| !other.is_multiple_of(self.plan.checkpoint_every)) {
            remove(&self.checkpoint_path(other), |path| fs::remove_dir_all(path))?;
        }
        let scheduled = earlier.iter().filter(|other| other.is_multiple_of(self.plan.checkpoint_every));
        for &other in scheduled.rev().skip(RESUMABLE - 1) {
            remove(&self.checkpoint_path(other).join("optimizer.safetensors"), |path| fs::remove_file(path))?;
        }
        Ok(())
    }

    /// The newest checkpoint that is whole. One that is damaged, or of which a file is gone, is passed over; one that cannot be
    /// read for another reason may be whole, and is an error.
    pub fn newest_state(&self) -> Result<Newest> {
        let mut passed_over = Vec::new();
        for step in self.checkpoints()?.into_iter().rev() {
            let problem = match self.state(step) {
                Ok(state) => return Ok(Newest { step, state, passed_over }),
                Err(problem) => problem,
            };
            if disk::kind_of(&problem).is_some_and(|kind| kind != std::io::ErrorKind::NotFound) {
                let path = self.checkpoint_path(step);
                return Err(problem.context(format!(
                    "{}: may be whole: expected to be readable, or to be moved away to go on from the checkpoint before",
                    path.display()
                )));
            }
            passed_over.push(format!("{problem:#}"));
        }
        let none = format!("{}: no checkpoint is whole: expected the run to be started again", self.path.display());
        // Those before the newest ones have no moments, by design.
        passed_over.truncate(RESUMABLE);
        if passed_over.is_empty() { bail!("{none}") } else { bail!("{none}: {}", passed_over.join("; ")) }
    }

    /// The weights of a checkpoint.
    pub fn checkpoint_weights(&self, step: u64) -> Result<Weights<f32>> {
        let path = self.checkpoint_path(step);
        let state = path.join("state.json");
        let state = if state.exists() { Some(read(&state)?) } else { None };
        let model = read(&path.join("model.safetensors"))?;
        lens::read_checkpoint_weights(state.as_deref(), &model, &self.plan.shape(), &path.display().to_string())
    }

    /// The state of a checkpoint that keeps its moments.
    pub fn state(&self, step: u64) -> Result<State<f32>> {
        let path = self.checkpoint_path(step);
        let file = |name: &str| read(&path.join(name));
        let (state, model, optimizer) =
            (file("state.json")?, file("model.safetensors")?, file("optimizer.safetensors")?);
        let (shape, copies) = (self.plan.shape(), self.plan.method().filter.copies());
        lens::read_checkpoint(step, &state, &model, &optimizer, &shape, copies, &path.display().to_string())
    }

    /// The rows up to a step that an uninterrupted run would have too. All of them must be there, but for that of the step itself,
    /// which is evaluated again where it is missing.
    pub fn history(&self, step: u64) -> Result<Vec<Evaluation>> {
        let rows: Vec<_> = self.metrics()?.into_iter().filter(|row| self.on_schedule(row.step, step)).collect();
        let every = self.plan.eval_every;
        let last = (self.plan.steps == step && !step.is_multiple_of(every)).then_some(step);
        let expected: Vec<u64> = (0..=step).step_by(every as usize).chain(last).collect();
        for (i, &at) in expected.iter().enumerate() {
            let found = rows.get(i).map(|row| row.step);
            let problem = match found {
                Some(found) if found == at => continue,
                Some(found) => format!("a row of step {found} where that of step {at} belongs"),
                None if at == step => continue,
                None => format!("no row of step {at}, and a checkpoint of step {step}"),
            };
            let file = self.path.join("metrics.jsonl");
            bail!("{}: {problem}: expected a row for every {every} steps", file.display());
        }
        ensure!(
            rows.len() <= expected.len(),
            "{}: a row stands twice: expected a row for every {every} steps",
            self.path.join("metrics.jsonl").display()
        );
        Ok(rows)
    }

    fn on_schedule(&self, at: u64, until: u64) -> bool {
        at <= until && (at.is_multiple_of(self.plan.eval_every) || at == self.plan.steps)
    }

    /// Rewinds the directory to a step: its rows are as given, and what came later goes, with the files of an earlier end.
    pub fn rewind(&self, step: u64, history: &[Evaluation]) -> Result<()> {
        let kept = |row: &Timing| history.iter().any(|evaluation| evaluation.step == row.step);
        let timing = self.timing()?.into_iter().filter(kept);
        let timing = lines(&timing.collect::<Vec<_>>())?;
        if self.card_is_own()? {
            remove(&self.path.join("README.md"), |path| fs::remove_file(path))?;
        }
        for name in ["summary.json", "model.safetensors", "config.json", "findings.json", "report.html", DIVERGED] {
            remove(&self.path.join(name), |path| fs::remove_file(path))?;
        }
        for other in self.checkpoints()?.into_iter().filter(|&other| other > step) {
            remove(&self.checkpoint_path(other), |path| fs::remove_dir_all(path))?;
        }
        self.tidy(step)?;
        write_whole(&self.path.join("timing.jsonl"), timing.as_bytes())?;
        write_whole(&self.path.join("metrics.jsonl"), lines(history)?.as_bytes())
    }

    /// The rows of `metrics.jsonl`; a last line that was torn off is left out.
    pub fn metrics(&self) -> Result<Vec<Evaluation>> {
        read_lines(&self.path.join("metrics.jsonl"))
    }

    /// The rows of `timing.jsonl`, of which nothing depends: none where there is no such file.
    pub fn timing(&self) -> Result<Vec<Timing>> {
        let file = self.path.join("timing.jsonl");
        if !file.exists() {
            return Ok(Vec::new());
        }
        read_lines(&file).context("it holds nothing but clock values: expected rows, or no such file")
    }

    /// Adds a row to `metrics.jsonl`; where that fails, the file is as it was. A row that a crash tears off is left out when it is read.
    pub fn append_metrics(&self, row: &Evaluation) -> Result<()> {
        append(&self.path.join("metrics.jsonl"), lines(std::slice::from_ref(row))?.as_bytes())
    }

    /// The same for `timing.jsonl`.
    pub fn append_timing(&self, row: &Timing) -> Result<()> {
        append(&self.path.join("timing.jsonl"), lines(std::slice::from_ref(row))?.as_bytes())
    }

    /// The final model and its config.
    pub fn write_model(&self, state: &State<f32>) -> Result<()> {
        write_whole(&self.path.join("model.safetensors"), &lens::model_bytes(&state.weights, &self.plan.shape())?)?;
        write_whole(&self.path.join("config.json"), &pretty(&lens::config(&self.plan))?)
    }

    /// Whether nobody has written a README.md of their own.
    fn card_is_own(&self) -> Result<bool> {
        let path = self.path.join("README.md");
        Ok(!path.exists() || card::is_own(&String::from_utf8_lossy(&read(&path)?)))
    }

    /// How the run ended, and a card for people who come upon its model. The summary is the last: it says that all is there.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        if self.card_is_own()? {
            write_whole(&self.path.join("README.md"), card::card(&self.plan, summary)?.as_bytes())?;
        }
        write_whole(&self.path.join("summary.json"), &pretty(summary)?)
    }

    /// Says that the run's numbers went bad, and where: trying again would give the same.
    pub fn write_divergence(&self, divergence: &Divergence) -> Result<()> {
        write_whole(&self.path.join(DIVERGED), &pretty(divergence)?)
    }

    /// What `diverged.json` says; none where the numbers are sound.
    pub fn divergence(&self) -> Result<Option<Divergence>> {
        let path = self.path.join(DIVERGED);
        if !path.exists() {
            return Ok(None);
        }
        let json = json::parse(&read(&path)?, &path.display().to_string())?;
        Ok(Some(serde_json::from_value(json).with_context(|| format!("{}: not a divergence", path.display()))?))
    }

    /// What `summary.json` says; none where the run has not ended.
    pub fn summary(&self) -> Result<Option<Summary>> {
        let path = self.path.join("summary.json");
        if !path.exists() {
            return Ok(None);
        }
        let json = json::parse(&read(&path)?, &path.display().to_string())?;
        Ok(Some(serde_json::from_value(json).with_context(|| format!("{}: not a summary", path.display()))?))
    }
}

/// The file that says where a run's numbers went bad.
const DIVERGED: &str = "diverged.json";

/// The file that stands in a directory while a run (or an ensemble) begins in it: what else is there is of no worth yet.
const BEGUN: &str = ".begun";

/// Refuses a directory that holds anything but a beginning that was cut off.
pub fn refuse_held(path: &Path) -> Result<()> {
    ensure!(!path.is_file(), "{}: is a file: expected a directory", path.display());
    let marked = path.join(BEGUN).exists();
    let failed = || format!("{}: could not be listed", path.display());
    let entries = match disk::entries(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(failed)?,
    };
    for entry in entries {
        let (entry, name) = (entry.path(), entry.file_name());
        ensure!(
            marked || name == disk::LOCK,
            "{}: holds something already: expected a new or an empty directory, or --resume",
            path.display()
        );
        // The mark is not believed where it stands over a run that went on.
        for run in [path, &entry] {
            let later = steps_in(&run.join("checkpoints"))?.into_iter().find(|&step| step > 0);
            if let Some(step) = later {
                bail!(
                    "{}: says that its run never began, and {} has a checkpoint of step {step}: expected one of the two to be moved away",
                    path.join(BEGUN).display(),
                    run.display()
                );
            }
        }
    }
    Ok(())
}

/// Makes a directory that is going to be a run, empty but for the mark that it is not one yet, and keeps others out.
pub fn begin(path: &Path) -> Result<Lock> {
    make_directory(path)?;
    let lock = Lock::take(path)?;
    clear(path)?;
    Ok(lock)
}

/// Makes a locked directory that holds nothing but a beginning that was cut off empty, but for the mark.
pub fn clear(path: &Path) -> Result<()> {
    refuse_held(path)?;
    empty(path)
}

/// Makes a locked directory that of a run which lies, whole, in another one beside it. Should this be cut off, the directory says that its
/// run never began.
pub fn replace(path: &Path, by: &Path) -> Result<()> {
    empty(path)?;
    disk::move_contents(by, path)?;
    fs::remove_dir_all(by).with_context(|| format!("{}: could not be removed", by.display()))?;
    begun(path)
}

/// Whether a directory says that its run has ended.
pub fn has_ended(path: &Path) -> bool {
    path.join("summary.json").is_file() || path.join(DIVERGED).is_file()
}

/// Takes everything out of a directory, once it has the mark.
fn empty(path: &Path) -> Result<()> {
    let mark = path.join(BEGUN);
    let clear = || -> std::io::Result<()> {
        retried(|| fs::File::create(&mark))?;
        disk::sync_entry(&mark)?;
        for entry in disk::entries(path)? {
            let name = entry.file_name();
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false if name == BEGUN || name == disk::LOCK => {}
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    };
    clear().with_context(|| format!("{}: could not be written", mark.display()))
}

/// The run (or every run of the ensemble) is there.
pub fn begun(path: &Path) -> Result<()> {
    remove(&path.join(BEGUN), |path| fs::remove_file(path))?;
    // Else the mark could come back over a run that has long gone on.
    disk::sync_directory(path).with_context(|| format!("{}: could not be written", path.display()))
}

/// Refuses a directory whose run, or whose ensemble, is not there yet.
pub fn refuse_begun(path: &Path) -> Result<()> {
    let is_member = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("model-"));
    let above = path.parent().filter(|_| is_member);
    if let Some(begins) = std::iter::once(path).chain(above).find(|path| path.join(BEGUN).exists()) {
        bail!(
            "{}: a run begins here, or was cut off before it began: expected the command that began it, with --out {}, again",
            begins.display(),
            begins.display()
        );
    }
    Ok(())
}

/// Steps of the checkpoints in a directory, in rising order; none where there is no directory.
fn steps_in(directory: &Path) -> Result<Vec<u64>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = disk::entries(directory).with_context(|| format!("{}: could not be listed", directory.display()))?;
    let step = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = entries.iter().filter_map(|entry| step(&entry.file_name())).collect();
    steps.sort();
    Ok(steps)
}

/// JSON for people: indented, with a line's end.
pub fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn lines(rows: &[impl Serialize]) -> Result<String> {
    rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect()
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match retried(|| how(path)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("{}: could not be removed", path.display()))
        }
        _ => Ok(()),
    }
}

fn read_lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    rows_of(&read_text(path)?, &path.display().to_string())
}

/// The rows of a text of lines; a last one that was torn off is left out.
pub fn rows_of<T: for<'a> Deserialize<'a>>(text: &str, origin: &str) -> Result<Vec<T>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let row = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{origin}:{}: not a row of this file", number + 1))
    };
    whole.lines().enumerate().map(row).collect()
}

/// The next name under `runs/` that is free: `NAME`, `NAME-2`, `NAME-3` ..
pub fn free_name(name: &str) -> PathBuf {
    let candidates = (1u32..).map(|n| Path::new("runs").join(if n == 1 { name.into() } else { format!("{name}-{n}") }));
    candidates.into_iter().find(|path| !path.exists()).expect("there are more numbers than runs")
}
