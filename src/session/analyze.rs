//! The analysis of a run or of a model made elsewhere: from its files to `findings.json` and the page.

use super::{Options, train_pairs};
use crate::analysis::group::Group;
use crate::analysis::network::Network;
use crate::analysis::pictures::{self, Frame, Pictures};
use crate::analysis::progress::{Progress, measure, phases};
use crate::analysis::survey::{Survey, Surveyor};
use crate::analysis::{self, Analysis, Findings, Model, Subject};
use crate::devices;
use crate::model::Weights;
use crate::plan::Shape;
use crate::progress::Bar;
use crate::report;
use crate::run::lens::Config;
use crate::run::{RunDir, Summary, disk, lens};
use crate::task::{Op, Pairs, Split};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
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
    /// What was found.
    pub findings: Analysis,
    /// The path of `findings.json`, or of that of the step asked for.
    pub findings_path: PathBuf,
    /// The path of the page beside it.
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
/// Key frequencies in a run's summary become those found now, where an earlier version wrote it.
pub fn analyze(request: &Request, options: &Options) -> Result<Analysed> {
    let analysed = analyze_and_show(request, options, |_| Ok(()))?;
    if request.step.is_none() && request.directory.join("plan.toml").is_file() {
        renew_summary(&RunDir::open(request.directory)?, &analysed.findings)?;
    }
    Ok(analysed)
}

/// Writes the key frequencies of these findings to the summary of a run that has ended, where it has others.
fn renew_summary(run: &RunDir, findings: &Analysis) -> Result<()> {
    let Some(summary) = run.summary()?.filter(|summary| Some(summary.steps) == findings.model().step) else {
        return Ok(());
    };
    let found = (Some(findings.key_frequencies().to_vec()), findings.key_cut());
    if (&summary.key_frequencies, &summary.key_cut) == (&found.0, &found.1) {
        return Ok(());
    }
    run.write_summary(&Summary { key_frequencies: found.0, key_cut: found.1, ..summary })
}

/// The same, and hands on what the page is made of.
fn analyze_and_show(
    request: &Request,
    options: &Options,
    show: impl FnOnce(&report::Subject) -> Result<()>,
) -> Result<Analysed> {
    let source = source(request)?;
    let (findings_path, report_path) = outputs(&source.directory, request.step);
    let (findings, pictures) = in_threads(options, || take_apart(&source, options))??;
    let text = crate::run::pretty(&findings)?;
    ensure!(
        serde_json::from_slice::<Analysis>(&text).is_ok_and(|read| read == findings),
        "{}: a number of the analysis is not finite: expected smaller weights",
        source.directory.display()
    );
    disk::write_whole(&findings_path, &text)?;
    let subject = shown(&findings, pictures.as_ref())?;
    if options.page {
        disk::write_whole(&report_path, report::page(&subject).as_bytes())?;
    }
    show(&subject)?;
    Ok(Analysed { findings, findings_path, report_path })
}

/// Where the findings and the page go.
fn outputs(directory: &Path, step: Option<u64>) -> (PathBuf, PathBuf) {
    let suffix = step.map_or(String::new(), |step| format!("-{step:06}"));
    (directory.join(format!("findings{suffix}.json")), directory.join(format!("report{suffix}.html")))
}

fn source(request: &Request) -> Result<Source> {
    if !request.directory.join("plan.toml").is_file() {
        return from_model(request);
    }
    ensure!(
        request.split.is_none(),
        "--split: {} is a run, and knows its train pairs: expected --split with a model made elsewhere only",
        request.directory.display()
    );
    from_run(RunDir::open(request.directory)?, request.step)
}

fn in_threads<T: Send>(options: &Options, work: impl FnOnce() -> T + Send) -> Result<T> {
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().context("no threads to run on")?;
    Ok(threads.install(work))
}

/// Makes the page again, and on request every figure and every table as a file. What was written, the page first.
///
/// The numbers are those of `findings.json`, which has to be there; the maps are computed from the weights.
pub fn report(
    request: &Request,
    figures: Option<&Path>,
    tables: Option<&Path>,
    options: &Options,
) -> Result<Vec<PathBuf>> {
    let source = source(request)?;
    let (findings_path, report_path) = outputs(&source.directory, request.step);
    ensure!(
        findings_path.is_file(),
        "{}: not there: expected the findings that grokscope analyze makes",
        findings_path.display()
    );
    let findings = self::findings(&findings_path)?.with_context(|| {
        format!(
            "{}: written by an earlier version with a different rule for key frequencies. Run grokscope analyze {}",
            findings_path.display(),
            source.directory.display()
        )
    })?;
    // The page needs no split, so a model made elsewhere need not come with it again.
    let here = Model { train_pairs: findings.model().train_pairs, ..facts(&source) };
    let group = Group::of(source.op, source.shape.p);
    ensure!(
        *findings.model() == here && matches!(findings, Analysis::Findings(_)) == group.is_some(),
        "{}: of another network than the one here: expected to be made again by grokscope analyze",
        findings_path.display()
    );
    let pictures = match &findings {
        Analysis::Findings(findings) => Some(in_threads(options, || pictures_of(&source, findings, options))??),
        Analysis::Survey(_) => None,
    };
    let subject = shown(&findings, pictures.as_ref())?;
    let mut written = vec![report_path];
    disk::write_whole(&written[0], report::page(&subject).as_bytes())?;
    let mut write_all = |directory: &Path, files: Vec<(String, String)>| -> Result<()> {
        std::fs::create_dir_all(directory).with_context(|| format!("{}: could not be made", directory.display()))?;
        for (name, text) in files {
            let path = directory.join(name);
            disk::write_whole(&path, text.as_bytes())?;
            written.push(path);
        }
        Ok(())
    };
    if let Some(directory) = figures {
        write_all(directory, report::figure_files(&subject))?;
    }
    if let Some(directory) = tables {
        let tables = report::tables(&findings);
        write_all(directory, tables.iter().map(|table| (format!("{}.csv", table.name), table.to_csv())).collect())?;
    }
    Ok(written)
}

/// Reads the findings of an analysis; none where an earlier version made them, whose definitions were others.
pub fn findings(path: &Path) -> Result<Option<Analysis>> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let text = disk::read(path)?;
    let malformed = || format!("{}: not the findings of an analysis", path.display());
    let Version { schema } = serde_json::from_slice(&text).with_context(malformed)?;
    ensure!(
        schema <= analysis::SCHEMA,
        "{}: schema {schema} is newer than the latest this version reads ({}). Use a newer grokscope",
        path.display(),
        analysis::SCHEMA
    );
    match schema {
        analysis::SCHEMA => Ok(Some(serde_json::from_slice(&text).with_context(malformed)?)),
        _ => Ok(None),
    }
}

/// What the page shows: findings with their pictures, or a survey, which has none.
fn shown<'a>(findings: &'a Analysis, pictures: Option<&'a Pictures>) -> Result<report::Subject<'a>> {
    Ok(match findings {
        Analysis::Findings(findings) => {
            report::Subject::Findings(findings, pictures.context("findings come with their pictures")?)
        }
        Analysis::Survey(survey) => report::Subject::Survey(survey),
    })
}

/// The same for a run that has just ended.
pub fn finished_run(
    run: &RunDir,
    options: &Options,
    show: impl FnOnce(&report::Subject) -> Result<()>,
) -> Result<Analysis> {
    let request = Request { directory: &run.path, step: None, split: None };
    Ok(analyze_and_show(&request, options, show)?.findings)
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
        ensure!(
            !directory.join("model-0/plan.toml").is_file(),
            "{0}: holds the runs of several models: expected one of them, such as {0}/model-0",
            directory.display()
        );
        let what = match (directory.is_dir(), directory.is_file()) {
            (true, _) => "not a run and not a model",
            (_, true) => "is a file",
            _ => "no such directory",
        };
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

/// The network of a source, ready to be looked at.
fn subject(source: &Source, group: Group) -> Subject {
    let trained_on = source.train.as_ref().map(|pairs| pairs.membership(source.shape.p));
    Subject::new(Network::new(source.shape, &source.weights, group), trained_on.as_deref())
}

fn check_memory(source: &Source) -> Result<()> {
    let what = format!("the analysis of p = {}", source.shape.p);
    devices::check_memory(analysis::memory(&source.shape), &what, "a smaller p or d_mlp")
}

/// Calls `each` with the step and the network of every checkpoint, where the source is a run with several; with the
/// source's own network where it is not.
fn checkpoints(source: &Source, subject: &Subject, mut each: impl FnMut(usize, Option<u64>, &Network)) -> Result<()> {
    match &source.run {
        Some((run, steps)) if steps.len() > 1 => {
            for (i, &step) in steps.iter().enumerate() {
                let weights = run.checkpoint_weights(step)?;
                each(i, Some(step), &Network::new(source.shape, &weights, subject.network.group.clone()));
            }
        }
        _ => each(0, source.step, &subject.network),
    }
    Ok(())
}

fn count(source: &Source) -> usize {
    source.run.as_ref().map_or(1, |(_, steps)| steps.len().max(1))
}

fn take_apart(source: &Source, options: &Options) -> Result<(Analysis, Option<Pictures>)> {
    check_memory(source)?;
    let Some(group) = Group::of(source.op, source.shape.p) else {
        return Ok((Analysis::Survey(Box::new(survey(source, options)?)), None));
    };
    let bar = Bar::new(options.style, (analysis::PARTS + 1 + count(source)) as u64, "taking the network apart");
    let subject = subject(source, group);
    bar.step();
    let mut findings = subject.findings(facts(source), || bar.step());
    let album = Album::new(source, &findings);
    let (mut measures, mut frames) = (Vec::new(), Vec::new());
    checkpoints(source, &subject, |i, step, network| {
        let keys = &findings.key_frequencies;
        measures.extend(step.map(|step| measure(step, network, &subject.fourier, &subject.judge, keys)));
        frames.extend(album.frame(i, step, network, &subject));
        bar.step();
    })?;
    if measures.len() > 1 {
        findings.progress = Some(Progress { phases: phases(&measures), checkpoints: measures });
    }
    bar.finish();
    let pictures = Pictures::new(&subject, &findings, frames);
    Ok((Analysis::Findings(Box::new(findings)), Some(pictures)))
}

/// What is said of an operation that is no cyclic group.
fn survey(source: &Source, options: &Options) -> Result<Survey> {
    let bar = Bar::new(options.style, 1 + count(source) as u64, "taking the network apart");
    let surveyor = Surveyor::new(source.op, source.shape, source.train.as_ref());
    let mut rows = Vec::new();
    if let Some((run, steps)) = source.run.as_ref().filter(|(_, steps)| steps.len() > 1) {
        for &step in steps {
            rows.push(surveyor.checkpoint(step, &run.checkpoint_weights(step)?));
            bar.step();
        }
    }
    let progress = (!rows.is_empty()).then_some(rows);
    let survey = surveyor.survey(facts(source), &source.weights, progress);
    bar.finish();
    Ok(survey)
}

/// The pictures of findings that are there already.
fn pictures_of(source: &Source, findings: &Findings, options: &Options) -> Result<Pictures> {
    let bar = Bar::new(options.style, count(source) as u64, "drawing");
    let group = Group::of(source.op, source.shape.p).context("findings are of a cyclic group")?;
    check_memory(source)?;
    let subject = subject(source, group);
    let album = Album::new(source, findings);
    let mut frames = Vec::new();
    checkpoints(source, &subject, |i, step, network| {
        frames.extend(album.frame(i, step, network, &subject));
        bar.step();
    })?;
    bar.finish();
    Ok(Pictures::new(&subject, findings, frames))
}

/// Which checkpoints the page's slider shows, and what of them.
struct Album {
    shown: Vec<usize>,
    keys: Vec<usize>,
    tracked: Vec<usize>,
}

impl Album {
    fn new(source: &Source, findings: &Findings) -> Self {
        let tracked = pictures::tracked(findings);
        let values = source.shape.n_slots() * source.shape.n_heads * tracked.len();
        let shown = report::shown_frames(count(source), values);
        Self { shown, keys: findings.key_frequencies.clone(), tracked }
    }

    fn frame(&self, i: usize, step: Option<u64>, network: &Network, subject: &Subject) -> Option<Frame> {
        let frame = || pictures::frame(step, network, &subject.fourier, &self.keys, &self.tracked);
        self.shown.contains(&i).then(frame)
    }
}

fn facts(source: &Source) -> Model {
    let shape = &source.shape;
    Model {
        op: source.op.to_string(),
        p: shape.p,
        order: Group::of(source.op, shape.p).map_or(shape.p, |group| group.order()),
        d_model: shape.d_model,
        n_heads: shape.n_heads,
        d_mlp: shape.d_mlp,
        d_vocab_out: shape.d_vocab_out,
        parameters: source.weights.tensors.iter().map(Vec::len).sum(),
        step: source.step,
        weights_sha256: lens::weights_sha256(&source.weights),
        train_pairs: source.train.as_ref().map(Pairs::len),
    }
}
