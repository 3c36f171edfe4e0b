//! A training run from a plan to its files: builds the engine, runs the loop, keeps what comes.

use crate::analysis::keys;
use crate::devices::{self, Chosen};
use crate::gpu::device::{Gpu, title};
use crate::model::{Weights, initial_weights};
use crate::plan::{CHANGEABLE, Draft, INITS, Plan};
use crate::program::batch::{Batch, Layout};
use crate::program::engine::Engine;
use crate::program::on_cpu::OnCpu;
use crate::program::{self, Program, State};
use crate::progress::{Progress, Style, note};
use crate::run::{self, RunDir, Summary, Timing, disk, lens};
use crate::task::{Op, Pairs, Split};
use crate::train::{self, Evaluation, Member, Observer, Outcome, Trainer};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How to run a plan: nothing here changes its numbers on a given device.
pub struct Options {
    pub device: String,
    /// 0: one for each core.
    pub threads: usize,
    pub style: Style,
    /// Set when the user asks to stop.
    pub stop: &'static AtomicBool,
}

/// How a session ended.
pub struct Ended {
    pub outcome: Outcome,
    pub directory: PathBuf,
    pub summaries: Vec<Summary>,
}

/// One member's beginnings.
struct Start {
    run: RunDir,
    train: Pairs,
    state: State<f32>,
    step: u64,
    history: Vec<Evaluation>,
}

/// The train pairs of a plan; `kept` is the split file's text where the run has it already.
fn train_pairs(plan: &Plan, kept: Option<String>) -> Result<Pairs> {
    let (split, op): (Split, Op) = (plan.split.parse()?, plan.op.parse()?);
    let text = match (&split, kept) {
        (_, Some(text)) => Some(text),
        (Split::File(path), None) => Some(disk::read_text(Path::new(path))?),
        _ => None,
    };
    Pairs::train(&split, plan.train_fraction, op, plan.p, text.as_deref())
}

fn first_weights(plan: &Plan) -> Result<Weights<f32>> {
    match INITS.contains(&plan.init.as_str()) {
        true => Ok(initial_weights(&plan.init, plan.seed, &plan.shape())),
        false => lens::read_init(&disk::read(Path::new(&plan.init))?, &plan.shape(), &plan.init),
    }
}

/// The plan of model k of an ensemble: a run of its own with the next seed.
fn member_plan(plan: &Plan, k: usize) -> Plan {
    Plan { models: 1, seed: plan.seed.wrapping_add(k as u64), ..plan.clone() }
}

/// Trains a new run in `directory`.
pub fn train(plan: &Plan, directory: &Path, options: &Options) -> Result<Ended> {
    let choice = devices::choose(&options.device)?;
    let program = program::by_name(&plan.program)?;
    let rows = (plan.train_fraction * (plan.p * plan.p) as f64) as usize;
    devices::check_fits(&program, plan, rows, plan.models, &choice.chosen)?;
    let train = train_pairs(plan, None)?;
    run::refuse_held(directory)?;
    let mut members = Vec::new();
    for k in 0..plan.models {
        let own = member_plan(plan, k);
        members.push((first_weights(&own)?, own));
    }
    let mut starts = Vec::new();
    for (k, (weights, own)) in members.into_iter().enumerate() {
        let path = if plan.models == 1 { directory.into() } else { directory.join(format!("model-{k}")) };
        let run = RunDir::create(&path, &own, &train)?;
        starts.push(Start { run, train: train.clone(), state: State::fresh(weights), step: 0, history: Vec::new() });
    }
    go(starts, directory, choice, options)
}

/// Goes on with a run where its newest checkpoint stands. `changes` are assignments to fields of the plan.
pub fn resume(directory: &Path, changes: &[(String, String)], options: &Options) -> Result<Ended> {
    let mut runs = Vec::new();
    let mut ended = Vec::new();
    for path in member_directories(directory)? {
        let mut run = RunDir::open(&path)?;
        run.plan = changed(&run.plan, changes)?;
        match run.summary()? {
            Some(summary) if !goes_on(&run, &summary)? => ended.push(summary),
            _ => runs.push(run),
        }
    }
    if runs.is_empty() {
        note(&format!("{}: has ended already: there is nothing left to do", directory.display()));
        return Ok(Ended { outcome: Outcome::Done, directory: directory.into(), summaries: ended });
    }
    let choice = devices::choose(&options.device)?;
    let mut starts = Vec::new();
    for run in runs {
        let train = train_pairs(&run.plan, run.split_text()?)?;
        let (step, state) = run.newest_state()?;
        let history = run.rewind(step)?;
        run.write_plan()?;
        starts.push(Start { run, train, state, step, history });
    }
    let mut result = go(starts, directory, choice, options)?;
    result.summaries.extend(ended);
    Ok(result)
}

/// Copies a run, so that it can go on elsewhere and the first one stays as it is.
pub fn copy_run(from: &Path, to: &Path) -> Result<()> {
    member_directories(from)?;
    ensure!(!to.exists(), "{}: exists already: expected a new directory", to.display());
    let mut pending = vec![(from.to_path_buf(), to.to_path_buf())];
    while let Some((from, to)) = pending.pop() {
        if from.is_dir() {
            std::fs::create_dir_all(&to).with_context(|| format!("{}: could not be made", to.display()))?;
            for entry in std::fs::read_dir(&from).with_context(|| format!("{}: could not be listed", from.display()))? {
                let name = entry.with_context(|| format!("{}: could not be listed", from.display()))?.file_name();
                pending.push((from.join(&name), to.join(&name)));
            }
        } else {
            std::fs::copy(&from, &to).with_context(|| format!("{}: could not be copied", from.display()))?;
        }
    }
    Ok(())
}

/// The directories of a run's members: itself, or those of an ensemble.
fn member_directories(directory: &Path) -> Result<Vec<PathBuf>> {
    let of_member = |k: usize| directory.join(format!("model-{k}"));
    let members: Vec<_> = (0..).map(of_member).take_while(|path| path.join("plan.toml").exists()).collect();
    ensure!(
        directory.join("plan.toml").exists() || !members.is_empty(),
        "{}: not a run: it has no plan.toml and no model-0",
        directory.display()
    );
    Ok(if members.is_empty() { vec![directory.into()] } else { members })
}

fn changed(plan: &Plan, changes: &[(String, String)]) -> Result<Plan> {
    let mut draft = Draft::from_plan(plan);
    for (name, value) in changes {
        ensure!(
            CHANGEABLE.contains(&name.as_str()),
            "--resume: {name} cannot be changed: only {} can",
            CHANGEABLE.join(", ")
        );
        draft.set(name, value)?;
    }
    draft.finish()
}

/// Whether a run that has ended would go on under its (changed) plan.
fn goes_on(run: &RunDir, summary: &Summary) -> Result<bool> {
    let member = Member { plan: run.plan.clone(), trained_on: Vec::new(), history: run.metrics()?, stopped: false };
    Ok(!member.wants_to_stop(summary.steps))
}

fn go(starts: Vec<Start>, directory: &Path, choice: devices::Choice, options: &Options) -> Result<Ended> {
    let first = &starts[0].run.plan;
    let (plan, step, shape) = (first.clone(), starts[0].step, first.shape());
    ensure!(
        starts.iter().all(|start| start.step == step),
        "{}: its models stand at different steps: resume them one by one",
        directory.display()
    );
    let program = program::by_name(&plan.program)?;
    devices::check_fits(&program, &plan, starts[0].train.len(), starts.len(), &choice.chosen)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let trains: Vec<Pairs> = starts.iter().map(|start| start.train.clone()).collect();
    let layout = Layout::new(shape, &trains, &vec![grid.clone(); starts.len()]);
    let (mut engine, device) = open_engine(choice.chosen, &program, layout, options.threads)?;
    if options.style == Style::Human {
        let models = if starts.len() > 1 { format!("{} models, ", starts.len()) } else { String::new() };
        note(&format!(
            "{models}{} mod {}, {} of {} pairs, program {} on {device} ({}) -> {}",
            plan.op,
            plan.p,
            starts[0].train.len(),
            plan.p * plan.p,
            plan.program,
            choice.why,
            directory.display()
        ));
    }
    let mut members = Vec::new();
    let mut runs = Vec::new();
    for (k, start) in starts.into_iter().enumerate() {
        engine.write_state(k, &start.state)?;
        let trained_on = start.train.membership(plan.p);
        members.push(Member { plan: start.run.plan.clone(), trained_on, history: start.history, stopped: false });
        runs.push(start.run);
    }
    let now = Instant::now();
    let mut keeper = Keeper {
        progress: Progress::new(options.style, step, plan.steps, runs.len()),
        stop: options.stop,
        began: now,
        mark: now,
        recent: Vec::new(),
        evaluated: false,
        all: Vec::new(),
        summaries: Vec::new(),
        steps: plan.steps,
        grid,
        device,
        runs,
    };
    let mut trainer = Trainer { engine, members, step };
    let outcome = pollster::block_on(trainer.run(&mut keeper));
    keeper.progress.finish();
    Ok(Ended { outcome: outcome?, directory: directory.into(), summaries: keeper.summaries })
}

/// The engine of a machine, and the machine's name.
fn open_engine(chosen: Chosen, program: &Program, layout: Layout, threads: usize) -> Result<(Engine, String)> {
    Ok(match chosen {
        Chosen::Cpu => {
            let machine = OnCpu::new(program, layout, threads)?;
            let name = format!("cpu ({} threads)", machine.threads());
            (Engine::Cpu(machine), name)
        }
        Chosen::Gpu(adapter) => {
            let gpu = pollster::block_on(Gpu::open(&adapter))?;
            let name = title(&gpu.info);
            (pollster::block_on(Engine::on_gpu(gpu, program, layout))?, name)
        }
    })
}

/// What a plan would take: the device's name, bytes, and milliseconds of a step, measured on a few.
pub fn estimate(plan: &Plan, options: &Options) -> Result<(String, u64, f64)> {
    const TRIED: u64 = 5;
    let choice = devices::choose(&options.device)?;
    let program = program::by_name(&plan.program)?;
    let train = train_pairs(plan, None)?;
    let bytes = devices::check_fits(&program, plan, train.len(), plan.models, &choice.chosen)?;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let layout = Layout::new(plan.shape(), &vec![train; plan.models], &vec![grid; plan.models]);
    let (mut engine, device) = open_engine(choice.chosen, &program, layout, options.threads)?;
    for k in 0..plan.models {
        engine.write_state(k, &State::fresh(first_weights(&member_plan(plan, k))?))?;
    }
    let mut times = Vec::new();
    for step in 0..TRIED {
        let began = Instant::now();
        pollster::block_on(engine.steps(&vec![vec![plan.update(step)]; plan.models]))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((device, bytes, median(&times).unwrap_or(0.0)))
}

/// Seconds that a stretch of steps should take: short enough for a display driver's watchdog and for Ctrl-C.
const STRETCH_SECONDS: f64 = 0.25;

/// The observer that writes run directories.
struct Keeper {
    runs: Vec<RunDir>,
    progress: Progress,
    stop: &'static AtomicBool,
    began: Instant,
    /// When the stretch in progress began.
    mark: Instant,
    /// Milliseconds a step of the stretches since the last evaluation, and of all.
    recent: Vec<f64>,
    /// Whether `recent` has been told.
    evaluated: bool,
    all: Vec<f64>,
    summaries: Vec<Summary>,
    steps: u64,
    grid: Pairs,
    device: String,
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

impl Observer for Keeper {
    fn evaluated(&mut self, member: usize, row: &Evaluation) -> Result<()> {
        self.runs[member].append_metrics(row)?;
        let ms_per_step = median(&self.recent);
        let seconds = self.began.elapsed().as_secs_f64();
        self.runs[member].append_timing(&Timing { step: row.step, seconds, ms_per_step })?;
        self.evaluated = true;
        let left = ms_per_step.map(|ms| ms / 1e3 * self.steps.saturating_sub(row.step) as f64);
        self.progress.evaluated(member, row, ms_per_step, left);
        Ok(())
    }

    fn snapshot(&mut self, member: usize, step: u64, state: &State<f32>) -> Result<()> {
        self.runs[member].write_checkpoint(step, state)
    }

    fn finished(&mut self, member: &Member, index: usize, state: &State<f32>) -> Result<()> {
        let run = &self.runs[index];
        run.write_model(state)?;
        let last = member.history.last().context("a run ends with an evaluation")?;
        let grokked = train::grokked(&member.history);
        let summary = Summary {
            schema: 1,
            grokked,
            grok_step: train::grok_step(&member.history),
            steps: last.step,
            train_loss: last.train_loss,
            test_loss: last.test_loss,
            train_accuracy: last.train_accuracy,
            test_accuracy: last.test_accuracy,
            key_frequencies: key_frequencies(&run.plan, &state.weights, &self.grid)?,
            ms_per_step: median(&self.all),
            device: self.device.clone(),
            program: run.plan.program.clone(),
        };
        run.write_summary(&summary)?;
        self.summaries.push(summary);
        Ok(())
    }

    fn stepped(&mut self, step: u64, steps: usize) -> Result<()> {
        if std::mem::take(&mut self.evaluated) {
            self.recent.clear();
        }
        let ms = self.mark.elapsed().as_secs_f64() * 1e3 / steps as f64;
        self.recent.push(ms);
        self.all.push(ms);
        self.progress.stepped(step);
        Ok(())
    }

    fn stretch(&mut self, most: usize) -> usize {
        self.mark = Instant::now();
        let paced = self.all.last().map_or(1.0, |ms| STRETCH_SECONDS * 1e3 / ms);
        (paced as usize).clamp(1, most)
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// The headline key frequencies of a network, by a forward pass in float64 over the grid.
fn key_frequencies(plan: &Plan, weights: &Weights<f32>, grid: &Pairs) -> Result<Vec<usize>> {
    let shape = plan.shape();
    let weights = weights.map(|&w| w as f64);
    let program = program::by_name(&plan.program)?;
    let layout = Layout::new(shape, &[Pairs::new(vec![[0, 0]], plan.op.parse()?, plan.p)], std::slice::from_ref(grid));
    let mut machine = OnCpu::<f64>::new(&program, layout, 0)?;
    machine.write_state(0, &State::fresh(weights.clone()));
    machine.evaluate();
    Ok(keys::headline(&weights, machine.tensor(0, "post", Batch::Grid), &shape))
}
