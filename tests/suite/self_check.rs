//! The self-check: it passes on the test adapter, names kernels that are wrong, and decides which machine trains.

use crate::faults::times;
use crate::kernels::passed;
use crate::mutant_list::{MUTANTS, Mutant};
use crate::mutants::gpu_of;
use crate::support::{Outcome, gpu, grokscope, require, test, wanted_adapter};
use grokscope::devices::cache::CACHE_DIR;
use grokscope::devices::self_checks::{Key, SelfChecks, Timed};
use grokscope::devices::{self, Candidate, Choice};
use grokscope::gpu::device::{Family, Gpu, KernelChoice, TILES, adapters, matches};
use grokscope::gpu::kernel::Kernel;
use grokscope::plan::{Draft, Plan};
use grokscope::program::dispatches::variants;
use grokscope::progress::Style;
use grokscope::self_check::{Finding, Kernels, Problem, Report, SelfCheck, kernel_count};
use grokscope::session::{self, AtOnce, Choose, Options};
use grokscope::shaders::{HELPERS, OPERATIONS, PROBES};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use wgpu::DeviceType;

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("self_check_passes", passes),
        test("self_check_launches_every_kernel_of_every_family", launches_all),
        test("tiles_are_measured_on_a_device_that_has_a_choice", measured),
        test("self_check_names_mutants_of_every_shader", names),
        test("self_check_names_mutants_of_other_families", of_other_families),
        test("self_check_names_wrong_probes", probes_are_named),
        test("auto_goes_on_where_the_self_check_fails", auto_goes_on),
        test("a_failed_self_check_ends_an_explicit_device_with_code_1", explicit_fails),
        test("devices_check_runs_once_and_is_remembered", command),
    ]
}

fn checked(gpu: &Gpu, kernels: &Kernels, chosen: &dyn Fn(&str) -> bool) -> Result<Report, Failed> {
    let mut check = pollster::block_on(SelfCheck::compile_some(gpu, kernels, chosen))?;
    Ok(pollster::block_on(check.run())?)
}

fn passes() -> Outcome {
    let began = Instant::now();
    let mut check = pollster::block_on(SelfCheck::compile(&gpu()?, &Kernels::own()?))?;
    let report = pollster::block_on(check.run())?;
    let first = began.elapsed().as_secs_f64();
    // Some drivers compile at the first launch: a second run has no compiling in it.
    let began = Instant::now();
    let again = pollster::block_on(check.run())?;
    let second = began.elapsed().as_secs_f64();
    let (kernels, cases) = (report.checked.len(), report.cases);
    println!("{kernels} kernels, {cases} cases: {first:.2} s with compiling, {second:.2} s without");
    let announced = kernel_count(gpu()?.family);
    require!(kernels == announced, "{kernels} kernels, announced {announced}");
    passed(&report)?;
    require!(again == report, "another report at the second time: {again:?}");
    Ok(())
}

/// Also those that the device chooses for large products alone.
fn launches_all() -> Outcome {
    let own = Kernels::own()?;
    let own_family = gpu()?.family;
    for family in [own_family, Family::Software, Family::Wide(None), Family::Wide(Some(TILES[1]))] {
        let report = checked(&gpu_of(family)?, &own, &|_| true)?;
        passed(&report)?;
        require!(report.checked.len() == kernel_count(family), "{family:?}: {} kernels", report.checked.len());
        for kernel in variants(&own.operations, family) {
            let of_kernel = |name: &String| name.split_once('.').is_some_and(|(stem, _)| stem == kernel.stem);
            require!(report.checked.iter().any(of_kernel), "{family:?}: {} is not launched", kernel.stem);
        }
    }
    Ok(())
}

/// Which tiles are fastest depends on the machine; that the measurement trains does not.
fn measured() -> Outcome {
    let plan = Plan { p: 11, d_model: 16, d_mlp: 24, ..Draft::from_preset("demo")?.finish()? };
    let tiles = devices::tiles::fastest(&gpu_of(Family::Wide(None))?, &plan)?;
    println!("fastest tiles at p = 11: {}", tiles.unwrap_or("chosen for each product"));
    require!(tiles.is_none_or(|tiles| TILES.contains(&tiles)), "{tiles:?}");
    Ok(())
}

/// The operations, each with the mutant that `of` gives it.
fn mutated(of: impl Fn(&str) -> Option<&'static Mutant>) -> Result<Kernels, Failed> {
    let kernel = |(stem, text): &(&str, &str)| {
        let text = match of(stem) {
            Some((_, there, instead)) => text.replacen(there, instead, 1),
            None => text.to_string(),
        };
        Kernel::new(stem, &text, HELPERS)
    };
    Ok(Kernels { operations: OPERATIONS.iter().map(kernel).collect::<Result<_, _>>()?, ..Kernels::own()? })
}

/// The shaders of wrong kernels.
fn wrong_shaders(report: &Report) -> BTreeSet<String> {
    report.wrong.iter().filter_map(|finding| Some(finding.kernel.split_once('.')?.0.to_string())).collect()
}

/// The families of kernels that the adapter can run, its own first. Subgroups of eight need an adapter that has them.
fn families(own: Family) -> Vec<Family> {
    let small = Family::Wide(Some(TILES[0]));
    let mut families = vec![if own == Family::Wide(None) { small } else { own }];
    for family in [small, Family::Wide(Some(TILES[1])), Family::Software] {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// Plants the mutants that `of` gives the shaders that a family runs. Returns the shaders with a mutant, and those that the self-check
/// names; an error where it names a shader without one.
///
/// Launches do not depend on each other, so every shader can have a mistake at once.
fn plant(family: Family, of: impl Fn(&str) -> Option<&'static Mutant>) -> Result<[BTreeSet<String>; 2], Failed> {
    let own = Kernels::own()?;
    let runs = variants(&own.operations, family);
    let of = |stem: &str| of(stem).filter(|_| runs.iter().any(|kernel| kernel.stem == stem));
    let stems = OPERATIONS.iter().map(|(stem, _)| *stem);
    let planted: BTreeSet<String> = stems.filter(|stem| of(stem).is_some()).map(String::from).collect();
    let wrong = wrong_shaders(&checked(&gpu_of(family)?, &mutated(of)?, &|_| true)?);
    require!(wrong.is_subset(&planted), "{family:?}: planted in {planted:?}, found in {wrong:?}");
    Ok([planted, wrong])
}

/// The mutant of a shader with this number, if it has so many.
fn mutant(stem: &str, number: usize) -> Option<&'static Mutant> {
    MUTANTS.iter().filter(|(of, ..)| *of == stem).nth(number)
}

/// All wrong shaders of the adapter's own family are named, and no other. A round plants one mutant of each;
/// GROKSCOPE_MUTANT_ROUNDS=40 plants all there are.
fn names() -> Outcome {
    let own = families(gpu()?.family)[0];
    let (mut count, mut missed) = (0, Vec::new());
    for round in 0..times("GROKSCOPE_MUTANT_ROUNDS", 2)? {
        // Muon's update depends on its matrices: where those are wrong, it is not checked.
        for muon in [false, true] {
            let of = |stem: &str| mutant(stem, round).filter(|_| (stem == "orthonormal") == muon);
            let [planted, wrong] = plant(own, of)?;
            count += planted.len();
            missed.extend(planted.difference(&wrong).filter_map(|stem| of(stem)).copied());
        }
    }
    println!("{} of {count} mutants were found", count - missed.len());
    require!(missed.is_empty(), "not found: {missed:?}");
    Ok(())
}

/// The same for the families that the adapter does not take by itself, with one mutant of each shader. Without mutants they pass.
fn of_other_families() -> Outcome {
    for &family in &families(gpu()?.family)[1..] {
        let [planted, wrong] = plant(family, |stem| mutant(stem, 0).filter(|_| stem != "orthonormal"))?;
        require!(wrong == planted, "{family:?}: planted in {planted:?}, found in {wrong:?}");
        passed(&checked(&gpu_of(family)?, &Kernels::own()?, &|_| true)?)?;
    }
    Ok(())
}

fn probes_are_named() -> Outcome {
    let mistakes = [
        ("add_up(64u, lane)", "add_up(4u, lane)", "tree_64"),
        ("add_up(256u, lane)", "add_up(128u, lane)", "tree_256"),
        ("if (lane == 0u) { shared_number *= 2u; }\n    workgroupBarrier();", "", "broadcast"),
        ("sum + workgroupUniformLoad", "workgroupUniformLoad", "uniform_load"),
        ("c < input", "c <= input", "nested_loops"),
        ("is_bad(bitcast<f32>(input[id.x]))", "false", "not_finite"),
    ];
    for (there, instead, entry) in mistakes {
        require!(PROBES.0.contains(there), "'{there}' does not stand in the probes");
        let probes = Kernel::new("probes", &PROBES.0.replacen(there, instead, 1), PROBES.1)?;
        let report = checked(&gpu()?, &Kernels { probes, ..Kernels::own()? }, &|kernel| kernel == "probes")?;
        require!(report.wrong_kernels() == [format!("probes.{entry}")], "{entry}: {:?}", report.wrong_kernels());
    }
    Ok(())
}

/// The test adapter as two GPUs, of which `auto` prefers the first.
fn two_gpus() -> anyhow::Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    for (name, device_type) in [("second", DeviceType::IntegratedGpu), ("first", DeviceType::DiscreteGpu)] {
        let all = pollster::block_on(adapters());
        let adapter = all.into_iter().find(|adapter| matches(&adapter.get_info(), &wanted_adapter()));
        let adapter = adapter.ok_or_else(|| anyhow::anyhow!("no adapter"))?;
        let mut info = adapter.get_info();
        (info.name, info.device_type) = (name.into(), device_type);
        candidates.push((info, adapter));
    }
    Ok(candidates)
}

/// The lines that `auto` reported.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn choose_where(wanted: &str, fails: fn(&str) -> bool) -> anyhow::Result<Choice> {
    let check = |(info, _): &Candidate| match fails(&info.name) {
        true => anyhow::bail!("{}: kernel rows.forward is wrong", info.name),
        false => Ok(()),
    };
    let tell = |line: &str| TOLD.lock().unwrap().push(line.into());
    devices::choose_among(wanted, two_gpus()?, &check, &tell)
}

fn first_fails(wanted: &str, _: Style) -> anyhow::Result<Choice> {
    choose_where(wanted, |name| name == "first")
}

fn both_fail(wanted: &str, _: Style) -> anyhow::Result<Choice> {
    choose_where(wanted, |_| true)
}

fn options(device: &str, choose: &'static Choose) -> Options {
    static NO_STOP: AtomicBool = AtomicBool::new(false);
    Options {
        device: device.into(),
        kernels: KernelChoice::Auto,
        threads: 1,
        style: Style::Quiet,
        at_once: AtOnce::Fitting,
        page: false,
        tensorboard: false,
        stop: &NO_STOP,
        choose,
        open: &devices::open_engine,
    }
}

fn plan() -> anyhow::Result<Plan> {
    let mut draft = Draft::from_preset("demo")?;
    for (field, value) in [("p", "7"), ("d_model", "8"), ("d_mlp", "12"), ("steps", "4"), ("eval_every", "2")] {
        draft.set(field, value)?;
    }
    draft.finish()
}

fn auto_goes_on() -> Outcome {
    if std::env::var_os("WGPU_ADAPTER_NAME").is_some() {
        return Err("unset WGPU_ADAPTER_NAME: it takes the choice from auto".into());
    }
    let directory = tempfile::tempdir()?;
    let train = |name: &str, choose: &'static Choose| -> Result<String, Failed> {
        let ended = session::train(&plan()?, &directory.path().join(name), &options("auto", choose))?;
        Ok(ended.summaries.first().map(|(_, summary)| summary.device.clone()).unwrap_or_default())
    };
    let on_second = train("second", &first_fails)?;
    require!(!on_second.starts_with("cpu"), "trained on {on_second}");
    let told = TOLD.lock().unwrap().join("\n");
    require!(told.contains("first: kernel rows.forward is wrong"), "told {told:?}");
    let on_cpu = train("cpu", &both_fail)?;
    require!(on_cpu.starts_with("cpu"), "trained on {on_cpu}");
    let why = both_fail("auto", Style::Quiet)?.why;
    require!(why.contains("self-check failed on first") && why.contains("second"), "{why}");
    // A device that was asked for is not replaced, and no run begins.
    let error = session::train(&plan()?, &directory.path().join("none"), &options("second", &both_fail));
    let error = format!("{:#}", error.err().ok_or("a wrong device trains")?);
    require!(error.contains("kernel rows.forward is wrong") && error.contains("--device cpu"), "{error}");
    require!(!directory.path().join("none").exists(), "a run begins");
    Ok(())
}

/// Runs the program with a cache directory.
fn with_cache(cache: &Path, at: &Path, arguments: &[&str]) -> Result<Output, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grokscope"));
    command.args(arguments).current_dir(at).env(CACHE_DIR, cache).env("NO_COLOR", "1").env_remove("WGPU_ADAPTER_NAME");
    Ok(command.output()?)
}

const TRAIN: &[&str] = &["train", "--preset", "demo", "--p", "7", "--d-model", "8", "--d-mlp", "12", "--steps", "2"];

/// A remembered failure: the program names the kernel, the element, the report and what to do.
fn explicit_fails() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (cache, at) = (directory.path().join("cache"), directory.path());
    let info = gpu()?.info;
    let finding = Finding {
        kernel: "product.nn".into(),
        launch: "product.nn(post4, W_logit -> logits4), train rows".into(),
        tensor: "logits4".into(),
        model: 1,
        index: 17,
        problem: Problem::Value { bits: 2.5f32.to_bits(), expected: 1.25, bound: 1e-6 },
        count: 3,
    };
    let report = Report { checked: vec!["product.nn".into()], cases: 1, wrong: vec![finding] };
    let run = || Ok(Timed { report, seconds: 0.0, tiles: None });
    SelfChecks::at(Some(cache.clone())).result(&Key::of(&info), false, run)?;
    let wanted = wanted_adapter();
    let train = [TRAIN, &["--device", &wanted, "--out", "run"]].concat();
    let output = with_cache(&cache, at, &train)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    require!(output.status.code() == Some(1) && !at.join("run").exists(), "{}: {said}", output.status);
    for part in [
        "kernel product.nn",
        "tensor logits4 of model 1 at index 17",
        "2.5e0",
        "1.25e0",
        "1e-6",
        ".txt",
        "--device cpu",
        "update the driver",
    ] {
        require!(said.contains(part), "no '{part}' in {said}");
    }
    let listed = with_cache(&cache, at, &["devices"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    require!(listed.contains("failed on ") && listed.contains("kernel product.nn"), "{listed}");
    Ok(())
}

/// `devices --check` passes on the test adapter and is remembered: training says nothing of a check any more.
fn command() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (cache, at, wanted) = (directory.path().join("cache"), directory.path(), wanted_adapter());
    let listed = with_cache(&cache, at, &["devices"])?;
    require!(String::from_utf8_lossy(&listed.stdout).contains("self-check    not run yet"), "{listed:?}");
    let checked = with_cache(&cache, at, &["devices", "--check", &wanted])?;
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    println!("{}", text.trim_end());
    require!(checked.status.code() == Some(0) && text.contains("passed on "), "{checked:?}");
    let listed = with_cache(&cache, at, &["devices"])?;
    require!(String::from_utf8_lossy(&listed.stdout).contains("self-check    passed on "), "{listed:?}");
    let train = [TRAIN, &["--device", &wanted, "--out", "run"]].concat();
    let output = with_cache(&cache, at, &train)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    require!(output.status.success() && !said.contains("checking"), "{}: {said}", output.status);
    let none = grokscope(&["devices", "--check", "no such adapter"]);
    require!(none.status.code() == Some(1), "{none:?}");
    Ok(())
}
