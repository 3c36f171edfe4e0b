//! The analysis of a run or of a model made elsewhere: from its files to `findings.json` and the page.

use super::{Options, train_pairs};
use crate::analysis::group::Group;
use crate::analysis::network::Network;
use crate::analysis::pictures::{self, Frame, Pictures};
use crate::analysis::progress::{Progress, measure, phases};
use crate::analysis::{self, Findings, Model, Subject};
use crate::devices;
use crate::model::Weights;
use crate::plan::Shape;
use crate::progress::Bar;
use crate::report;
use crate::run::lens::Config;
use crate::run::{RunDir, disk, lens};
use crate::task::{Op, Pairs, Split};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// What to analyse.
pub struct Request<'a> {
    /// A run, or a directory with config.json and model.safetensors.
    pub directory: &'a Path,
    /// The checkpoint to look at; the last one, or the final model, where it is not named.
    pub step: Option<u64>,
    /// A file of the train pairs, for a model made elsewhere.
    pub split: Option<&'a Path>,
}

/// What came out, and where it is.
pub struct Analysed {
    pub findings: Findings,
    pub pictures: Pictures,
    pub findings_path: PathBuf,
    pub report_path: PathBuf,
}

/// Weights with what is known of where they come from.
struct Source {
    directory: PathBuf,
    op: Op,
    shape: Shape,
    weights: Weights<f32>,
    step: Option<u64>,
    train: Option<Pairs>,
    /// The run's checkpoints up to this one, where there are several.
    run: Option<(RunDir, Vec<u64>)>,
}

/// Analyses what `request` names and writes findings and page beside it. Nothing is written before all of it is there.
pub fn analyze(request: &Request, options: &Options) -> Result<Analysed> {
    let source = match request.directory.join("plan.toml").is_file() {
        true => {
            ensure!(
                request.split.is_none(),
                "--split: {} is a run, and knows its train pairs: expected --split with a model made elsewhere only",
                request.directory.display()
            );
            from_run(RunDir::open(request.directory)?, request.step)?
        }
        false => from_model(request)?,
    };
    let suffix = request.step.map_or(String::new(), |step| format!("-{step:06}"));
    let analysed = take_apart(&source, &suffix, options)?;
    disk::write_whole(&analysed.findings_path, &crate::run::pretty(&analysed.findings)?)?;
    disk::write_whole(&analysed.report_path, report::page(&analysed.findings, &analysed.pictures).as_bytes())?;
    Ok(analysed)
}

/// The same for a run that has just ended.
pub fn finished_run(run: &RunDir, options: &Options) -> Result<Findings> {
    let request = Request { directory: &run.path, step: None, split: None };
    Ok(analyze(&request, options)?.findings)
}

fn from_run(run: RunDir, step: Option<u64>) -> Result<Source> {
    let (op, shape) = (run.plan.op.parse()?, run.plan.shape());
    let train = Some(train_pairs(&run.plan, run.split_text()?)?);
    let mut steps = run.checkpoints()?;
    if let Some(step) = step {
        let (first, last) = (steps.first().copied(), steps.last().copied());
        ensure!(
            steps.contains(&step),
            "{}: no checkpoint of step {step}: expected one of the {} from {} to {}",
            run.path.display(),
            steps.len(),
            first.unwrap_or(0),
            last.unwrap_or(0)
        );
        steps.retain(|&other| other <= step);
    }
    let (weights, step) = match steps.last() {
        Some(&step) => (run.checkpoint_weights(step)?, Some(step)),
        None => {
            let path = run.path.join("model.safetensors");
            ensure!(path.is_file(), "{}: neither a checkpoint nor a model.safetensors to analyse", run.path.display());
            (lens::read_init(&disk::read(&path)?, &shape, &path.display().to_string())?, None)
        }
    };
    Ok(Source { directory: run.path.clone(), op, shape, weights, step, train, run: Some((run, steps)) })
}

fn from_model(request: &Request) -> Result<Source> {
    let directory = request.directory;
    let (config, model) = (directory.join("config.json"), directory.join("model.safetensors"));
    if !config.is_file() || !model.is_file() {
        let what = if directory.is_dir() { "not a run and not a model" } else { "no such directory" };
        bail!("{}: {what}: expected a plan.toml, or a config.json and a model.safetensors", directory.display());
    }
    ensure!(
        request.step.is_none(),
        "--step: {} has no checkpoints: expected a run that grokscope trained",
        directory.display()
    );
    let Config { op, shape, split } = Config::read(&disk::read_text(&config)?, &config.display().to_string())?;
    let op: Op = op.parse()?;
    let train = match (request.split, split) {
        (Some(path), _) => {
            let rule = Split::File(path.display().to_string());
            Some(Pairs::train(&rule, 1.0, op, shape.p, Some(&disk::read_text(path)?))?)
        }
        (None, Some((rule, fraction))) => match rule.parse()? {
            Split::File(_) => None,
            rule => Some(Pairs::train(&rule, fraction, op, shape.p, None)?),
        },
        (None, None) => None,
    };
    let weights = lens::read_init(&disk::read(&model)?, &shape, &model.display().to_string())?;
    Ok(Source { directory: directory.into(), op, shape, weights, step: None, train, run: None })
}

fn take_apart(source: &Source, suffix: &str, options: &Options) -> Result<Analysed> {
    let group = Group::of(source.op, source.shape.p)?;
    ensure!(
        group.order() >= 3,
        "{}: a group of {} elements has no frequency: expected p >= 3, and p >= 5 for mul",
        source.directory.display(),
        group.order()
    );
    let what = format!("the analysis of p = {}", source.shape.p);
    devices::check_memory(analysis::memory(&source.shape), &what, "a smaller p or d_mlp")?;
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().context("no threads to run on")?;
    threads.install(|| {
        let steps = source.run.as_ref().map_or(&[][..], |(_, steps)| steps);
        let bar = Bar::new(options.style, (analysis::PARTS + 1 + steps.len()) as u64, "taking the network apart");
        let trained_on = source.train.as_ref().map(|pairs| pairs.membership(source.shape.p));
        let network = Network::new(source.shape, &source.weights, group.clone());
        let subject = Subject::new(network, trained_on.as_deref());
        bar.step();
        let mut findings = subject.findings(facts(source, &group), || bar.step());
        let tracked = pictures::tracked(&findings.key_frequencies, &findings.neurons.frequency, &findings.neurons.fve);
        let mut frames = Vec::new();
        if let Some((run, steps)) = source.run.as_ref().filter(|(_, steps)| steps.len() > 1) {
            let shown =
                report::shown_frames(steps.len(), source.shape.n_slots() * source.shape.n_heads * tracked.len());
            let mut checkpoints = Vec::new();
            for (i, &step) in steps.iter().enumerate() {
                let network = Network::new(source.shape, &run.checkpoint_weights(step)?, group.clone());
                checkpoints.push(measure(step, &network, &subject.fourier, &subject.judge, &findings.key_frequencies));
                if shown.contains(&i) {
                    frames.push(frame(&subject, &findings, step, &network, &tracked));
                }
                bar.step();
            }
            findings.progress = Some(Progress { phases: phases(&checkpoints), checkpoints });
        } else {
            frames.push(frame(&subject, &findings, source.step.unwrap_or(0), &subject.network, &tracked));
        }
        let neurons = &findings.neurons;
        let pictures = Pictures::new(&subject, &findings.key_frequencies, &neurons.frequency, &neurons.fve, frames);
        bar.finish();
        Ok(Analysed {
            findings_path: source.directory.join(format!("findings{suffix}.json")),
            report_path: source.directory.join(format!("report{suffix}.html")),
            findings,
            pictures,
        })
    })
}

fn frame(subject: &Subject, findings: &Findings, step: u64, network: &Network, tracked: &[usize]) -> Frame {
    pictures::frame(step, network, &subject.fourier, &findings.key_frequencies, tracked)
}

fn facts(source: &Source, group: &Group) -> Model {
    let shape = &source.shape;
    Model {
        op: source.op.to_string(),
        p: shape.p,
        order: group.order(),
        d_model: shape.d_model,
        n_heads: shape.n_heads,
        d_mlp: shape.d_mlp,
        d_vocab_out: shape.d_vocab_out,
        parameters: source.weights.tensors.iter().map(Vec::len).sum(),
        step: source.step,
        train_pairs: source.train.as_ref().map(Pairs::len),
    }
}
