//! What a device makes of the programs: the time of every kernel and of whole steps, beside the most that the device can do; and
//! what a [`model`] predicts for devices that are not at hand.
//!
//! Shapes, multiply-adds and bytes come from the programs. Times are medians; with each stands the range in which its
//! middle half lies, so that a comparison knows what is noise.

mod ceilings;
pub mod compare;
mod measure;
pub mod model;
pub mod roofline;
pub mod table;

use crate::devices::{self, Chosen};
use crate::gpu::device::{self, Gpu, KernelChoice, adapters};
use crate::plan::Plan;
use crate::run::disk;
use anyhow::{Context, Result, bail, ensure};
use measure::Work;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Written into every report; a comparison refuses another one.
pub const SCHEMA: u32 = 1;

/// `grokscope bench --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] of the version that wrote it.
    pub schema: u32,
    /// The version of grokscope.
    pub version: String,
    /// In the order in which they were asked for.
    pub devices: Vec<Device>,
}

/// A device with its ceilings and what was run on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// The adapter's name with its backend, or "cpu".
    pub name: String,
    /// Driver, or number of threads.
    pub driver: String,
    /// What bounds every kernel there.
    pub ceilings: Ceilings,
    /// Each program at each shape.
    pub runs: Vec<Run>,
}

/// The most that a device does of one thing, measured on nothing else.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ceilings {
    /// 1e9 bytes a second, read and written, of a copy that no cache holds.
    pub copy_gb_s: f64,
    /// 1e9 floating point operations a second of independent multiply-adds in registers, two for each.
    pub multiply_add_gflop_s: f64,
    /// Microseconds of a dispatch that does nothing, among many; of a parallel loop over nothing on the CPU engine.
    pub empty_dispatch_us: f64,
}

/// A program at one shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The program's name, and how it is taught where that is not the default.
    pub program: String,
    /// The modulus.
    pub p: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Neurons.
    pub d_mlp: usize,
    /// Networks trained side by side.
    pub models: usize,
    /// Train rows of one model.
    pub rows: usize,
    /// From opening the device to the end of the first step, in seconds.
    pub first_step_s: f64,
    /// A training step of all models, in milliseconds.
    pub step_ms: Spread,
    /// Of it in kernels; the rest lies between them.
    pub kernels_ms: f64,
    /// What the step model gives on this device, where it knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
    /// Of all models, two for each multiply-add.
    pub flops: f64,
    /// What the tensor table adds up to.
    pub memory_mib: f64,
    /// In the order in which they run.
    pub kernels: Vec<Kernel>,
}

/// A line of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// Kernel and entry point, and the tensors that play its roles.
    pub name: String,
    /// Of the call, in milliseconds; without a clock on the device, that of an update includes the counter's tick.
    pub ms: Spread,
    /// Of all models, two for each multiply-add.
    pub flops: f64,
    /// What it reads and writes, of all models; what an update changes counts twice.
    pub bytes: f64,
    /// What the step model gives without the launch, where it knows the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_ms: Option<f64>,
}

/// A time and how far its repetitions lie apart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The lower quartile.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
}

impl Spread {
    /// Of values of which there is at least one.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, rest) = (sorted[place as usize], place.fract());
            below + rest * (sorted[place.ceil() as usize] - below)
        };
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }
}

impl Ceilings {
    /// The better of two measures, one by one.
    fn highest(&self, other: &Self) -> Self {
        Self {
            copy_gb_s: self.copy_gb_s.max(other.copy_gb_s),
            multiply_add_gflop_s: self.multiply_add_gflop_s.max(other.multiply_add_gflop_s),
            empty_dispatch_us: self.empty_dispatch_us.min(other.empty_dispatch_us),
        }
    }
}

fn title(program: &str, [p, rows, d_model, n_heads, d_mlp, models]: [usize; 6]) -> String {
    format!("{program} p {p} rows {rows} d_model {d_model}/{n_heads} d_mlp {d_mlp} R {models}")
}

impl Run {
    /// "composed p 113 rows 3830 d_model 128/4 d_mlp 512 R 1", d_model over heads: what two runs must share to be compared.
    pub fn title(&self) -> String {
        title(&self.program, [self.p, self.rows, self.d_model, self.n_heads, self.d_mlp, self.models])
    }

    /// Of the whole step, in GFLOP/s.
    pub fn gflop_s(&self) -> f64 {
        self.flops / self.step_ms.median / 1e6
    }
}

impl Kernel {
    /// In GFLOP/s.
    pub fn gflop_s(&self) -> f64 {
        self.flops / self.ms.median / 1e6
    }

    /// In GB/s.
    pub fn gb_s(&self) -> f64 {
        self.bytes / self.ms.median / 1e6
    }

    /// Share of the ceiling that binds it: of the copy's bytes or of the multiply-adds, whichever is nearer.
    pub fn share(&self, ceilings: &Ceilings) -> f64 {
        (self.gflop_s() / ceilings.multiply_add_gflop_s).max(self.gb_s() / ceilings.copy_gb_s)
    }
}

/// What is to be timed.
pub struct Request<'a> {
    /// As `--device` has them; none asks for the CPU engine and every adapter.
    pub devices: &'a [String],
    /// Which kernels adapters run.
    pub kernels: KernelChoice,
    /// Of the CPU engine; 0 takes one for each core.
    pub threads: usize,
    /// Shapes and method; how long to train is not looked at.
    pub plan: Plan,
    /// layered, composed or both
    pub program: &'a str,
    /// A field of the plan of which a series is timed.
    pub grow: Option<&'a str>,
    /// For steps, and for kernels, of each run, all rounds together.
    pub seconds: f64,
}

const GROWING_P: [usize; 5] = [59, 113, 199, 307, 401];
const GROWING_MODELS: [usize; 5] = [1, 2, 4, 8, 16];

/// The plans of a request, in the order of their size.
fn plans(request: &Request) -> Result<Vec<Plan>> {
    let plan = || request.plan.clone();
    Ok(match request.grow {
        None => vec![plan()],
        Some("p") => GROWING_P.map(|p| Plan { p, ..plan() }).to_vec(),
        Some("models") => GROWING_MODELS.map(|models| Plan { models, ..plan() }).to_vec(),
        Some(other) => bail!("--grow {other}: expected p or models"),
    })
}

/// Rounds in which everything is measured, one after the other: what drifts in between (clocks, neighbours) is part of the noise.
const ROUNDS: usize = 3;

/// The programs of a name.
fn programs(name: &str) -> Result<Vec<&str>> {
    match name {
        "both" => Ok(vec!["layered", "composed"]),
        "layered" | "composed" => Ok(vec![name]),
        other => bail!("--program {other}: expected layered, composed or both"),
    }
}

/// Predicts the training steps of a plan by the programs of a name.
pub fn predict(plan: &Plan, program: &str) -> Result<model::Model> {
    model::of_plan(plan, &programs(program)?)
}

/// Times what is asked for; `tell` is given a line before each run. `older` is a report to be compared with.
///
/// # Errors
/// Devices, programs and plans that do not exist or do not fit; an older report that has none of what is asked for.
pub fn run(request: &Request, older: Option<&Report>, tell: &dyn Fn(&str)) -> Result<Report> {
    let mut works = Vec::new();
    for program in programs(request.program)? {
        for plan in plans(request)? {
            works.push(Work::new(plan, program)?);
        }
    }
    let chosen: Vec<Chosen> = match request.devices {
        [] => {
            let adapters = pollster::block_on(adapters()).into_iter();
            std::iter::once(Chosen::Cpu)
                .chain(adapters.map(|adapter| Chosen::Gpu(adapter.into(), request.kernels).with_fastest_tiles()))
                .collect()
        }
        names => {
            let chosen = |name: &String| match devices::choose(name)?.chosen {
                Chosen::Gpu(adapter, _) => Ok(Chosen::Gpu(adapter, request.kernels).with_fastest_tiles()),
                Chosen::Cpu => Ok(Chosen::Cpu),
            };
            names.iter().map(chosen).collect::<Result<_>>()?
        }
    };
    let names: Vec<String> = chosen.iter().map(name).collect();
    for (k, name) in names.iter().enumerate() {
        ensure!(!names[..k].contains(name), "--device: {name} is asked for twice");
    }
    if let Some(older) = older {
        let titles: Vec<String> = works.iter().map(Work::title).collect();
        compare::ensure_shared(older, &names, &titles)?;
    }
    let mut ceilings: Vec<Option<(String, Ceilings)>> = vec![None; chosen.len()];
    let mut times: Vec<Vec<Vec<measure::Times>>> =
        chosen.iter().map(|_| works.iter().map(|_| Vec::new()).collect()).collect();
    let time = Duration::from_secs_f64(request.seconds / ROUNDS as f64);
    for round in 1..=ROUNDS {
        for (k, chosen) in chosen.iter().enumerate() {
            let (driver, measured) = describe(chosen, request.threads)?;
            let known = ceilings[k].take().map_or(measured, |(_, known)| known.highest(&measured));
            ceilings[k] = Some((driver, known));
            for (work, times) in works.iter().zip(&mut times[k]) {
                tell(&format!("round {round} of {ROUNDS}: {}: {}", names[k], work.title()));
                times.push(work.measure(chosen, request.threads, time)?);
            }
        }
    }
    let mut report = Report { schema: SCHEMA, version: env!("CARGO_PKG_VERSION").into(), devices: Vec::new() };
    for ((name, ceilings), times) in names.into_iter().zip(ceilings).zip(times) {
        let (driver, ceilings) = ceilings.context("every device has ceilings")?;
        let known = model::predict::of_adapter(&name);
        let run = |(work, times): (&Work, Vec<measure::Times>)| {
            let step = known.map(|device| Ok::<_, anyhow::Error>(work.counted()?.on(device))).transpose()?;
            work.run(&times, step.as_ref())
        };
        let runs = works.iter().zip(times).map(run).collect::<Result<_>>()?;
        report.devices.push(Device { name, driver, ceilings, runs });
    }
    Ok(report)
}

/// What reports call a device.
fn name(chosen: &Chosen) -> String {
    match chosen {
        Chosen::Cpu => "cpu".into(),
        Chosen::Gpu(adapter, _) => device::title(&adapter.get_info()),
    }
}

fn describe(chosen: &Chosen, threads: usize) -> Result<(String, Ceilings)> {
    Ok(match chosen {
        Chosen::Cpu => {
            let count =
                if threads == 0 { std::thread::available_parallelism().map_or(1, |n| n.get()) } else { threads };
            let plural = if count == 1 { "" } else { "s" };
            (format!("the CPU engine, {count} thread{plural}"), ceilings::of_cpu(threads)?)
        }
        Chosen::Gpu(adapter, _) => {
            let gpu = pollster::block_on(Gpu::open(adapter))?;
            let driver = format!("{} {}", gpu.info.driver, gpu.info.driver_info);
            (driver, pollster::block_on(ceilings::of_gpu(&gpu))?)
        }
    })
}

/// An older report.
pub fn read(path: &Path) -> Result<Report> {
    let text = disk::read_text(path)?;
    let report: Report = serde_json::from_str(&text)
        .map_err(|e| anyhow::anyhow!("{}: not a report of grokscope bench: {e}", path.display()))?;
    ensure!(report.schema == SCHEMA, "{}: schema {}: expected {SCHEMA}", path.display(), report.schema);
    for run in report.devices.iter().flat_map(|device| &device.runs) {
        let times = run.kernels.iter().map(|kernel| (&kernel.name[..], &kernel.ms));
        for (what, ms) in times.chain([("step", &run.step_ms)]) {
            // A device's clock may be too coarse for a small kernel, and never for a step.
            let starts = if what == "step" { ms.low > 0.0 } else { ms.low >= 0.0 };
            ensure!(
                starts && ms.low <= ms.median && ms.median <= ms.high && ms.high.is_finite(),
                "{}: {}: the middle half of {what} is {}, {}, {} ms: expected rising times",
                path.display(),
                run.title(),
                ms.low,
                ms.median,
                ms.high
            );
        }
    }
    Ok(report)
}

/// Sees to a directory to write into, before anything is measured.
pub fn prepare(directory: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(directory);
    made.with_context(|| format!("--out {}: no directory can be made there", directory.display()))
}

/// model.json.
pub fn write_model(json: &str, directory: &Path) -> Result<()> {
    prepare(directory)?;
    disk::write_whole(&directory.join("model.json"), format!("{json}\n").as_bytes())
}

/// bench.json, bench.csv and a roofline for each run.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    prepare(directory)?;
    let write = |name: &str, text: String| disk::write_whole(&directory.join(name), text.as_bytes());
    write("bench.json", serde_json::to_string_pretty(report)? + "\n")?;
    write("bench.csv", table::csv(report)?)?;
    for device in &report.devices {
        for run in &device.runs {
            let plain = |text: &str| text.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let name: String = plain(device.name.split_whitespace().next().unwrap_or("device"));
            write(&format!("roofline-{name}-{}.svg", plain(&run.title())), roofline::svg(device, run))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_quartiles() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let between = Spread::of(&[4.0, 2.0, 1.0, 3.0]);
        assert_eq!((between.low, between.median, between.high), (1.75, 2.5, 3.25));
        let one = Spread::of(&[7.0]);
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn a_share_is_that_of_the_nearer_ceiling() {
        let ceilings = Ceilings { copy_gb_s: 10.0, multiply_add_gflop_s: 100.0, empty_dispatch_us: 1.0 };
        let ms = Spread::of(&[2.0]);
        let kernel = |flops, bytes| Kernel { name: "k".into(), ms, flops, bytes, predicted_ms: None };
        // 1e8 operations in 2 ms are 50 GFLOP/s, 4e6 bytes 2 GB/s.
        assert_eq!((kernel(1e8, 4e6).gflop_s(), kernel(1e8, 4e6).gb_s()), (50.0, 2.0));
        assert_eq!(kernel(1e8, 4e6).share(&ceilings), 0.5);
        assert_eq!(kernel(1e6, 16e6).share(&ceilings), 0.8);
    }
}
