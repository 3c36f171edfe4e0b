//! The program: parse, run, exit code.

use anyhow::{Context, Result, bail, ensure};
use clap::{CommandFactory, Parser};
use grokscope::bench;
use grokscope::cli::{
    Analyze, Bench, Cli, Command, Export, Import, Report, Sweep, SweepEmit, SweepRun, Train, Transform,
};
use grokscope::devices;
use grokscope::gpu::device::KernelChoice;
use grokscope::plan::{Draft, Plan, one_line};
use grokscope::progress::{Style, note, say};
use grokscope::report::{summary, verdict};
use grokscope::run::formats::Format;
use grokscope::run::inputs::member_plan;
use grokscope::run::{Summary, free_name};
use grokscope::session::analyze::Request;
use grokscope::session::exchange::{self, Origin};
use grokscope::session::{self, AtOnce, Ended, Estimate, Options, Stopped};
use grokscope::signals;
use grokscope::sweep::{self, shard::Shard};
use grokscope::train::{Divergence, Outcome};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Usage or input error.
const FAILED: u8 = 1;
/// The numbers went bad; trying again gives the same.
const DIVERGED: u8 = 42;
/// Stopped, and can be resumed.
const INTERRUPTED: u8 = 75;

fn main() -> ExitCode {
    quiet_drivers();
    // Every run that is trained has a lock, which is an open file.
    let _ = rlimit::increase_nofile_limit(1 << 16);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            note(&usage_error(&error));
            return ExitCode::from(FAILED);
        }
    };
    let device = match &cli.command {
        Command::Train(arguments) => arguments.device.clone(),
        _ => "auto".into(),
    };
    let result = match cli.command {
        Command::Train(arguments) => train(&arguments),
        Command::Analyze(arguments) => analyze(&arguments),
        Command::Report(arguments) => report(&arguments),
        Command::Bench(arguments) => bench(&arguments),
        Command::Export(arguments) => export(&arguments),
        Command::Import(arguments) => import(&arguments),
        Command::Transform(arguments) => transform(&arguments),
        Command::Sweep(Sweep::Run(arguments)) => sweep_run(&arguments),
        Command::Sweep(Sweep::Merge { directory, figures, store }) => {
            or_another_time(sweep_merge(&directory, figures.as_deref(), store.as_deref()))
        }
        Command::Sweep(Sweep::Emit(arguments)) => sweep_emit(&arguments),
        Command::Runs { directories, csv } => runs(&directories, csv),
        Command::Completions { shell } => completions(shell),
        Command::Man { directory } => manual(&directory),
        Command::Devices { check } => list_devices(check.as_deref()),
    };
    let code = match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast_ref::<Stopped>() {
            Some(stopped) => {
                note(&format!("error: {}", one_line(session::causes(&error))));
                note(&go_on(stopped.step, &stopped.directory, &device));
                ExitCode::from(INTERRUPTED)
            }
            None => {
                note(&format!("error: {}", one_line(format!("{error:#}"))));
                ExitCode::from(FAILED)
            }
        },
    };
    signals::end();
    code
}

/// How to go on with a run that has stopped.
fn go_on(step: u64, directory: &Path, device: &str) -> String {
    let device = if device == "auto" { String::new() } else { format!(" --device '{device}'") };
    let directory = directory.display().to_string().replace('\'', r"'\''");
    format!("stopped at step {step}: go on with  grokscope train --resume '{directory}'{device}")
}

/// What clap says, on one line; all of its help where nothing was typed.
fn usage_error(error: &clap::Error) -> String {
    let text = error.to_string();
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return text;
    }
    let said: Vec<_> =
        text.split("\n\n").filter(|part| !part.contains("Usage:") && !part.contains("try '--help'")).collect();
    format!("{} (see --help)", one_line(said.join("\n")))
}

/// Mesa's layer that orders devices talks to Wayland, and complains on standard error where no session runs; the order
/// is of no use here.
fn quiet_drivers() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first statement of main; no other thread runs that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

fn options(device: &str, threads: &str, quiet: bool, json: bool) -> Result<Options> {
    let count = threads.parse().ok().filter(|&n: &usize| n <= 4096);
    Ok(Options {
        device: device.into(),
        kernels: KernelChoice::Auto,
        threads: count.with_context(|| format!("--threads {threads}: expected an integer in 0..=4096"))?,
        style: match (quiet, json) {
            (true, _) => Style::Quiet,
            (_, true) => Style::Json,
            _ => Style::Human,
        },
        at_once: AtOnce::Fitting,
        page: true,
        tensorboard: false,
        stop: signals::flag(),
        choose: &devices::choose_checked,
        open: &devices::open_engine,
    })
}

fn bench(arguments: &Bench) -> Result<u8> {
    let options = options("", &arguments.threads, false, arguments.json)?;
    let seconds: f64 = arguments.seconds.parse().unwrap_or(f64::NAN);
    ensure!(
        seconds > 0.0 && seconds <= 3600.0,
        "--seconds {}: expected a number of seconds in (0, 3600]",
        arguments.seconds
    );
    let older = arguments.compare.as_deref().map(bench::read).transpose()?;
    let changes = assignments("--set", &arguments.set)?;
    if let Some(grow) = &arguments.grow {
        let fixed = changes.iter().any(|(field, _)| field == grow);
        ensure!(!fixed, "--grow {grow} gives {grow} values of its own: expected no --set {grow}");
    }
    if let Some(directory) = &arguments.out {
        bench::prepare(directory)?;
    }
    let plan = Draft::from_preset(&arguments.preset).and_then(|draft| with_changes(draft, &changes))?;
    if let Some(name) = &arguments.model {
        let device = bench::model::predict::device(name)?;
        let model = bench::predict(&plan, &arguments.program)?;
        let json = serde_json::to_string_pretty(&model)?;
        match arguments.json {
            true => say(&json),
            false => say(bench::model::text(&model, device).trim_end()),
        };
        if let Some(directory) = &arguments.out {
            bench::write_model(&json, directory)?;
        }
        return Ok(0);
    }
    let request = bench::Request {
        kernels: KernelChoice::parse(&arguments.kernels)?,
        devices: &arguments.device,
        threads: options.threads,
        plan,
        program: &arguments.program,
        grow: arguments.grow.as_deref(),
        seconds,
    };
    let report = bench::run(&request, older.as_ref(), &note)?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        say(bench::table::text(&report).trim_end());
    }
    if let Some(directory) = &arguments.out {
        bench::write(&report, directory)?;
    }
    if let Some(older) = &older {
        let (text, _) = bench::compare::compare(older, &report)?;
        match arguments.json {
            true => note(text.trim_end()),
            false => {
                say(text.trim_end());
            }
        }
    }
    Ok(0)
}

/// FIELD=VALUE as typed.
fn assignments(flag: &str, texts: &[String]) -> Result<Vec<(String, String)>> {
    let assignment = |text: &String| {
        let (field, value) = text.split_once('=').with_context(|| format!("{flag} {text}: expected FIELD=VALUE"))?;
        Ok((field.trim().to_string(), value.trim().to_string()))
    };
    texts.iter().map(assignment).collect()
}

fn with_changes(mut draft: Draft, changes: &[(String, String)]) -> Result<Plan> {
    for (field, value) in changes {
        draft.set(field, value)?;
    }
    draft.finish()
}

fn analyze(arguments: &Analyze) -> Result<u8> {
    let options = options("cpu", &arguments.threads, arguments.quiet, arguments.json)?;
    let request = Request { directory: &arguments.directory, step: arguments.step, split: arguments.split.as_deref() };
    let analysed = session::analyze(&request, &options)?;
    if options.style == Style::Json {
        say(&serde_json::to_string(&analysed.findings)?);
        return Ok(0);
    }
    if options.style == Style::Human {
        say(&summary(&analysed.findings));
    }
    say(&format!(
        "findings are in {}, the page in {}",
        analysed.findings_path.display(),
        analysed.report_path.display()
    ));
    Ok(0)
}

fn sweep_run(arguments: &SweepRun) -> Result<u8> {
    let mut options = options(&arguments.device, &arguments.threads, arguments.quiet, false)?;
    options.kernels = KernelChoice::parse(&arguments.kernels)?;
    options.at_once = AtOnce::parse(&arguments.at_once)?;
    options.page = arguments.pages;
    let shards = arguments.shards.map(std::num::NonZeroUsize::get);
    let shard = sweep::shard::shard(arguments.shard.as_deref(), shards, &|name| std::env::var(name).ok())?;
    let directory = match &arguments.out {
        Some(directory) => directory.clone(),
        None => sweep::default_directory(&arguments.plan)?,
    };
    signals::listen()?;
    or_another_time(sweep_shard(arguments, directory, shard, &options))
}

/// Tells an error that may be gone another time, and its code.
fn or_another_time(result: Result<u8>) -> Result<u8> {
    match result {
        // A full disk, say: what was asked for is well, and what there is can go on.
        Err(error) if sweep::passes(&error) => {
            let causes = if error.is::<Stopped>() { session::causes(&error) } else { format!("{error:#}") };
            note(&format!("error: {}", one_line(causes)));
            note("stopped: the same command goes on");
            Ok(INTERRUPTED)
        }
        code => code,
    }
}

fn sweep_shard(arguments: &SweepRun, directory: PathBuf, shard: Shard, options: &Options) -> Result<u8> {
    let store = arguments.store.as_deref().map(sweep::store::Store::open).transpose()?;
    let sweep = sweep::Sweep::new(&arguments.plan, directory, arguments.extend, store)?;
    if arguments.dry_run {
        say(sweep.dry_run(shard, options)?.trim_end());
        return Ok(0);
    }
    let progress = sweep.run(shard, options)?;
    // Other shards are under way: who calls merge has all of them.
    let mut missing = 0;
    if shard == Shard::WHOLE {
        let merged = sweep.merge()?;
        say(&merged.summary());
        missing = merged.missing();
    } else if !progress.interrupted {
        say(&format!(
            "shard {}/{} is at its end: grokscope sweep merge {}{} makes the table of all",
            shard.index,
            shard.count,
            sweep.directory.display(),
            arguments.store.as_ref().map_or(String::new(), |url| format!(" --store {url}"))
        ));
    }
    for problem in &progress.left_out {
        note(&format!("left out: {problem}"));
    }
    if progress.elsewhere > 0 {
        let runs = if progress.elsewhere == 1 { "run is" } else { "runs are" };
        note(&format!("{} {runs} being trained by another process: expected this command again", progress.elsewhere));
    }
    if progress.interrupted {
        note("stopped: the same command goes on");
    }
    let is_told = progress.interrupted || progress.elsewhere > 0 || !progress.left_out.is_empty();
    if missing > 0 && !is_told {
        note(&format!("{missing} of the runs are not there: expected this command again"));
    }
    Ok(if is_told || missing > 0 { INTERRUPTED } else { 0 })
}

fn sweep_merge(directory: &Path, figures: Option<&Path>, store: Option<&str>) -> Result<u8> {
    let store = store.map(sweep::store::Store::open).transpose()?;
    let merged = sweep::Sweep::open(directory, store)?.merge()?;
    merged.problems().for_each(note);
    if let Some(directory) = figures {
        merged.write_figures(directory)?;
    }
    say(&merged.summary());
    Ok(0)
}

fn sweep_emit(arguments: &SweepEmit) -> Result<u8> {
    let SweepEmit { scheduler, plan, out, store, shards, cpus, time, image, claim, mount, secret } = arguments;
    let (store, secret) = (store.as_deref(), secret.as_deref());
    let travels = scheduler == "kubernetes" && store.is_some();
    if let Some(url) = store {
        let address = sweep::store::address(url)?;
        let is_of_pod = travels && matches!(address, sweep::store::Address::File(_));
        ensure!(!is_of_pod, "--store {url}: is a pod's own disk, which goes with it: expected s3://BUCKET/PREFIX");
    }
    // Where it is here, it is looked at: what is wrong with it would come back as many errors.
    let is_here = travels || Path::new(plan).is_file();
    let files = if is_here { sweep::files_of(Path::new(plan))? } else { Vec::new() };
    let (directory, shards, cpus) = (out.as_str(), shards.get(), cpus.get());
    let job = sweep::emit::Job { plan, directory, store, shards, cpus, time, image, claim, mount, secret, files };
    let script = match scheduler.as_str() {
        "slurm" => sweep::emit::slurm(&job)?,
        "kubernetes" => sweep::emit::kubernetes(&job)?,
        other => bail!("{other}: no scheduler of that name: expected slurm or kubernetes"),
    };
    say(script.trim_end());
    if !is_here {
        note(&format!("{plan}: is not here: it has to be where the tasks run"));
    }
    Ok(0)
}

/// The list of devices, or the self-check of some.
fn list_devices(check: Option<&str>) -> Result<u8> {
    let (text, passed) = match check {
        Some(name) => devices::check_now(name)?,
        None => (devices::list()?, true),
    };
    say(text.trim_end());
    Ok(if passed { 0 } else { FAILED })
}

fn runs(directories: &[PathBuf], csv: bool) -> Result<u8> {
    let listed = sweep::list::Listed::of(directories, sweep::plan::DELAY)?;
    let text = if csv { listed.csv()? } else { listed.text() };
    say(text.trim_end());
    listed.problems.iter().for_each(|problem| note(problem));
    Ok(0)
}

fn export(arguments: &Export) -> Result<u8> {
    let format: Format = arguments.format.parse()?;
    let (directory, step, out) = (&arguments.directory, arguments.step, arguments.out.as_deref());
    ensure!(
        !arguments.activations || format == Format::Npz,
        "--activations with --format {}: expected --format npz",
        arguments.format
    );
    let written = match arguments.activations {
        true => exchange::export_activations(directory, step, out)?,
        false => exchange::export(directory, format, step, out)?,
    };
    say(&written.display().to_string());
    Ok(0)
}

fn import(arguments: &Import) -> Result<u8> {
    let split = arguments.split.as_deref().zip(arguments.train_fraction);
    exchange::import(
        &arguments.file,
        &arguments.out,
        &Origin { op: &arguments.op, n_heads: arguments.n_heads, split },
    )?;
    say(&format!("{0}: grokscope analyze {0} takes it apart", arguments.out.display()));
    Ok(0)
}

fn transform(arguments: &Transform) -> Result<u8> {
    let options = options("cpu", &arguments.threads, arguments.quiet, false)?;
    let stem = arguments.file.file_stem().map_or("array".into(), |stem| stem.to_string_lossy().into_owned());
    let beside = || arguments.file.with_file_name(format!("{stem}-transform"));
    let out = arguments.out.clone().unwrap_or_else(beside);
    let written = session::transform::transform_file(&arguments.file, &arguments.array, &out, &options)?;
    say(&written.lines.join("\n"));
    say(&written.page.display().to_string());
    Ok(0)
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "grokscope", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    Ok(0)
}

fn manual(directory: &Path) -> Result<u8> {
    let complain = || format!("{}: the manual pages could not be written", directory.display());
    std::fs::create_dir_all(directory).with_context(complain)?;
    clap_mangen::generate_to(Cli::command(), directory).with_context(complain)?;
    Ok(0)
}

fn report(arguments: &Report) -> Result<u8> {
    let options = options("cpu", &arguments.threads, arguments.quiet, false)?;
    let request = Request { directory: &arguments.directory, step: arguments.step, split: None };
    let written = session::report(&request, arguments.figures.as_deref(), arguments.tables.as_deref(), &options)?;
    for path in &written {
        say(&path.display().to_string());
    }
    if arguments.open {
        let page = &written[0];
        opener::open(page).with_context(|| {
            format!("{}: no browser could be opened: expected to be opened by hand", page.display())
        })?;
    }
    Ok(0)
}

fn train(arguments: &Train) -> Result<u8> {
    let mut options = options(&arguments.device, &arguments.threads, arguments.quiet, arguments.json)?;
    options.kernels = KernelChoice::parse(&arguments.kernels)?;
    options.tensorboard = arguments.tensorboard;
    options.at_once = AtOnce::parse(&arguments.at_once)?;
    let mut changes = assignments("--set", &arguments.set)?;
    changes.extend(arguments.fields.typed());
    if let Some(directory) = &arguments.resume {
        ensure!(
            arguments.preset.is_none() && arguments.plan.is_none() && !arguments.dry_run && arguments.each.is_empty(),
            "--resume takes its plan from {}: expected no --preset, --plan, --each or --dry-run beside it",
            directory.display()
        );
        signals::listen()?;
        return tell(session::resume(directory, arguments.out.as_deref(), &changes, &options)?, &[], &options);
    }
    let each = assignments("--each", &arguments.each)?;
    for (i, (field, _)) in each.iter().enumerate() {
        let same = |(other, _): &(String, String)| other.replace('-', "_") == field.replace('-', "_");
        let others = changes.iter().chain(&each[..i]).any(same);
        ensure!(!others, "--each {field}: has another value besides: expected one of the two");
    }
    // Without --models they differ in what is said, and not in their seeds.
    let one_seed = !each.is_empty() && !changes.iter().any(|(field, _)| field == "models");
    if one_seed {
        changes.push(("models".into(), each[0].1.split(',').count().to_string()));
    }
    let plan = plan(arguments, &changes)?;
    let members = members(&plan, &each, one_seed)?;
    if arguments.dry_run {
        ensure!(each.is_empty(), "--dry-run is of one plan: expected no --each beside it");
        return dry_run(&plan, &options);
    }
    signals::listen()?;
    let directory =
        arguments.out.clone().unwrap_or_else(|| free_name(arguments.preset.as_deref().unwrap_or("default")));
    tell(session::train_members(&members, &directory, &options)?, &each, &options)
}

/// The plans of an ensemble's models: the next seeds, and what `--each` gives to each of them.
fn members(plan: &Plan, each: &[(String, String)], one_seed: bool) -> Result<Vec<Plan>> {
    let seeds = |index| if one_seed { 0 } else { index };
    let mut members: Vec<Plan> = (0..plan.models).map(|index| member_plan(plan, seeds(index))).collect();
    for (field, values) in each {
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        ensure!(
            values.len() == members.len(),
            "--each {field}: {} values for {} models: expected one for each",
            values.len(),
            members.len()
        );
        ensure!(field != "models", "--each models: expected another field: a model is one");
        for (member, value) in members.iter_mut().zip(values) {
            let mut draft = Draft::from_plan(member)?;
            draft.set(field, value)?;
            *member = draft.finish().with_context(|| format!("--each {field}={value}"))?;
        }
    }
    for (k, member) in members.iter().enumerate() {
        if let Some(same) = members[..k].iter().position(|other| other == member) {
            bail!(
                "--each: models {same} and {k} are the same: expected another value, or --models {} for seeds of their own",
                members.len()
            );
        }
    }
    Ok(members)
}

/// Preset, then file, then assignments.
fn plan(arguments: &Train, changes: &[(String, String)]) -> Result<Plan> {
    let mut draft = Draft::from_preset(arguments.preset.as_deref().unwrap_or("default"))?;
    if let Some(path) = &arguments.plan {
        draft.overlay_with_files(&grokscope::run::disk::read_text(path)?, &path.display().to_string())?;
    }
    with_changes(draft, changes)
        .with_context(|| arguments.plan.as_ref().map_or("the plan".into(), |path| path.display().to_string()))
}

fn dry_run(plan: &Plan, options: &Options) -> Result<u8> {
    let plan = &session::resolved(plan)?;
    let Estimate { device, at_once, bytes, ms_per_step } = session::estimate(plan, options)?;
    say(plan.to_toml().trim_end());
    let waves = plan.models.div_ceil(at_once);
    let of_waves =
        if waves > 1 { format!(", {waves} waves of {}", session::models_in_words(at_once)) } else { String::new() };
    let minutes = ms_per_step * plan.steps as f64 * waves as f64 / 60e3;
    say(&format!(
        "# on {device}: {} MiB; {ms_per_step:.1} ms a step, {minutes:.1} minutes for {} steps{of_waves}",
        bytes.div_ceil(1 << 20),
        plan.steps
    ));
    Ok(0)
}

fn tell(ended: Ended, each: &[(String, String)], options: &Options) -> Result<u8> {
    let directory = ended.directory.display();
    let several = ended.directory.join("model-0").exists();
    match ended.outcome {
        Outcome::Done => {
            for (model, summary) in &ended.summaries {
                match options.style {
                    Style::Json => say(&serde_json::to_string(summary)?),
                    _ if several => say(&format!("{}: {}", title(*model, each), ending(summary))),
                    _ => say(&ending(summary)),
                };
            }
            match (options.style, &ended.findings[..]) {
                (Style::Human, [findings]) => {
                    say(&summary(findings));
                }
                (Style::Quiet, [findings]) => {
                    say(&verdict(findings));
                }
                _ => {}
            }
            let code = tell_diverged(&ended, each, several);
            if options.style != Style::Json && !ended.summaries.is_empty() {
                let page = ended.directory.join("report.html");
                let page = if page.is_file() { format!(", the page is {}", page.display()) } else { String::new() };
                say(&format!("results are in {directory}{page}"));
            }
            Ok(code)
        }
        Outcome::Interrupted { step } => {
            note(&go_on(step, &ended.directory, &options.device));
            Ok(INTERRUPTED)
        }
    }
}

/// A model, and what it has of its own.
fn title(model: usize, each: &[(String, String)]) -> String {
    let own = |(field, values): &(String, String)| Some(format!("{field} = {}", values.split(',').nth(model)?.trim()));
    let own: Vec<String> = each.iter().filter_map(own).collect();
    if own.is_empty() { format!("model {model}") } else { format!("model {model} ({})", own.join(", ")) }
}

/// Of models whose numbers went bad, and the exit code that they have.
fn tell_diverged(ended: &Ended, each: &[(String, String)], several: bool) -> u8 {
    for (model, Divergence { step, what }) in &ended.diverged {
        let directory = if several { ended.directory.join(format!("model-{model}")) } else { ended.directory.clone() };
        let model = if several { format!("{}: ", title(*model, each)) } else { String::new() };
        note(&format!(
            "{model}diverged: after {step} updates {what} is not finite: expected a new run with a smaller --lr (of the matrices of muon: muon_lr); earlier checkpoints are in {}",
            directory.display()
        ));
    }
    if ended.diverged.is_empty() { 0 } else { DIVERGED }
}

/// How a run ended, for people.
fn ending(summary: &Summary) -> String {
    let grokked = summary.grokking();
    let test = match (summary.test_loss, summary.test_accuracy) {
        (Some(loss), Some(accuracy)) => format!("test loss {loss:.2e}, test accuracy {:.2} %", 100.0 * accuracy),
        _ => "no pair left to test on".into(),
    };
    let keys = summary.key_frequencies.as_ref().map_or("not analysed".into(), |keys| {
        let keys: Vec<_> = keys.iter().map(usize::to_string).collect();
        let cut = summary.key_cut().filter(|cut| cut != "clear").map_or(String::new(), |cut| format!(" ({cut})"));
        format!("{{{}}}{cut}", keys.join(", "))
    });
    let pace = summary.ms_per_step.map_or("-".into(), |ms| format!("{ms:.1} ms"));
    format!(
        "{grokked}\n  after {} steps    train loss {:.2e}, {test}\n  key frequencies   {}\n  a step took       {pace} on {}",
        summary.steps, summary.train_loss, keys, summary.device
    )
}
