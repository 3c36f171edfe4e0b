//! Which machine a run gets, and the list of those there are.

pub mod cache;
mod clock;
mod pipeline_cache;
pub mod self_checks;
pub mod tiles;

use crate::gpu::device::{self, Family, Gpu, KernelChoice, adapters, is_real, matches, preference, title};
use crate::gpu::tensors::{SPARE_BYTES, largest_buffer};
use crate::model::Sizes;
use crate::plan::Plan;
use crate::program::batch::{Layout, block_of_grid};
use crate::program::engine::Engine;
use crate::program::on_cpu::OnCpu;
use crate::program::on_gpu;
use crate::program::{self, Program};
use crate::progress::{Style, note};
use anyhow::{Result, bail, ensure};
use self_checks::{Key, SelfChecks};
use std::sync::{Mutex, PoisonError};
use wgpu::{Adapter, AdapterInfo, DeviceType};

/// The machine that trains.
pub enum Chosen {
    /// The CPU engine.
    Cpu,
    /// An adapter that is not yet open, and which kernels it is to run.
    Gpu(Box<Adapter>, KernelChoice),
}

impl Chosen {
    /// The same machine with the kernels that `--kernels` asks for, once these have passed the self-check.
    ///
    /// # Errors
    /// The kernels fail the self-check on this adapter; the CPU engine has none.
    pub fn with_kernels(self, kernels: KernelChoice, style: Style) -> Result<Self> {
        match (self, kernels) {
            (chosen, KernelChoice::Auto) => Ok(chosen.with_fastest_tiles()),
            (Self::Cpu, _) => {
                bail!("--kernels: the CPU engine has no kernels: expected --device with the name of an adapter")
            }
            (Self::Gpu(adapter, _), kernels) => {
                let info = adapter.get_info();
                let record = SelfChecks::of_user().of_adapter(&info, &adapter, kernels, false, style)?;
                match record.failure() {
                    Some(failure) => bail!("{}: {failure}. Use other --kernels, or --device cpu", title(&info)),
                    None => Ok(Self::Gpu(adapter, kernels)),
                }
            }
        }
    }

    /// Replaces automatic kernels of a GPU by the tiles that were fastest after its self-check, if one size was.
    pub fn with_fastest_tiles(self) -> Self {
        let remembered = |adapter: &Adapter| SelfChecks::of_user().remembered(&Key::of(&adapter.get_info()));
        match self {
            Self::Gpu(adapter, KernelChoice::Auto)
                if Family::of(KernelChoice::Auto, &adapter) == Family::Wide(None) =>
            {
                let tiles = remembered(&adapter).and_then(|record| record.tiles());
                Self::Gpu(adapter, tiles.map_or(KernelChoice::Auto, |tiles| KernelChoice::Wide(Some(tiles))))
            }
            other => other,
        }
    }
}

/// What `--device` takes, and why.
pub struct Choice {
    /// What was chosen.
    pub chosen: Chosen,
    /// The reason, for whoever asked.
    pub why: String,
}

/// An adapter that may be chosen, and its description.
pub type Candidate = (AdapterInfo, Adapter);

/// The adapters of this machine.
fn candidates() -> Vec<Candidate> {
    pollster::block_on(adapters()).into_iter().map(|adapter| (adapter.get_info(), adapter)).collect()
}

/// `cpu`; `auto`: the adapter that WGPU_ADAPTER_NAME names, else a real GPU, else the CPU engine; or part of an
/// adapter's name.
pub fn choose(wanted: &str) -> Result<Choice> {
    if wanted.eq_ignore_ascii_case("cpu") {
        return Ok(Choice { chosen: Chosen::Cpu, why: "asked for".into() });
    }
    choose_among(wanted, candidates(), &|_| Ok(()), &|_| ())
}

/// Chooses a machine to train on: like [`choose`], but takes only an adapter that passes the self-check, which runs once per adapter
/// and driver.
///
/// # Errors
/// There is no such device, or the adapter that was asked for by name fails the self-check.
pub fn choose_checked(wanted: &str, style: Style) -> Result<Choice> {
    if wanted.eq_ignore_ascii_case("cpu") {
        return choose(wanted);
    }
    choose_among(wanted, candidates(), &|(info, adapter)| self_check(info, adapter, style), &note_once)
}

/// Writes a line to standard error once per process, because a session chooses its machine more than once.
fn note_once(line: &str) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if !told.iter().any(|other| other == line) {
        note(line);
        told.push(line.into());
    }
}

/// Returns an error if the adapter's self-check fails, now or when it last ran.
fn self_check(info: &AdapterInfo, adapter: &Adapter, style: Style) -> Result<()> {
    let record = SelfChecks::of_user().of_adapter(info, adapter, KernelChoice::Auto, false, style)?;
    match record.failure() {
        Some(failure) => bail!("{}: {failure}", title(info)),
        None => Ok(()),
    }
}

/// Advice where an adapter that was asked for by name fails its self-check.
const REMEDY: &str =
    "Use --device cpu, or update the driver and try again (`grokscope devices --check` repeats the self-check).";

/// Chooses among some adapters. An adapter is taken only if `check` accepts it. Where `check` fails, `auto` reports the error to `tell`
/// and tries the next machine.
pub fn choose_among(
    wanted: &str,
    candidates: Vec<Candidate>,
    check: &dyn Fn(&Candidate) -> Result<()>,
    tell: &dyn Fn(&str),
) -> Result<Choice> {
    let names: Vec<String> = candidates.iter().map(|(info, _)| title(info)).collect();
    let of_name = |name: &str, origin: &str, candidates: Vec<Candidate>| match candidates
        .into_iter()
        .find(|(info, _)| matches(info, name))
    {
        Some(candidate) => match check(&candidate) {
            Ok(()) => Ok(Choice {
                chosen: Chosen::Gpu(candidate.1.into(), KernelChoice::Auto),
                why: format!("{origin} asks for '{name}'"),
            }),
            Err(error) => bail!("{error:#}. {REMEDY}"),
        },
        None if names.is_empty() => {
            bail!("{origin}: no device is called '{name}': there are auto, cpu, and no adapter")
        }
        None => bail!("{origin}: no device is called '{name}': there are auto, cpu, {}", names.join(", ")),
    };
    ensure!(!wanted.trim().is_empty(), "--device is empty: there are auto, cpu, {}", names.join(", "));
    if !wanted.eq_ignore_ascii_case("auto") {
        return of_name(wanted, "--device", candidates);
    }
    if let Some(name) = std::env::var("WGPU_ADAPTER_NAME").ok().filter(|name| !name.trim().is_empty()) {
        return of_name(&name, "WGPU_ADAPTER_NAME", candidates);
    }
    let mut real: Vec<Candidate> = candidates.into_iter().filter(|(info, _)| is_real(info)).collect();
    real.sort_by_key(|(info, _)| preference(info));
    let mut failed = Vec::new();
    for candidate in real {
        match check(&candidate) {
            Ok(()) => {
                return Ok(Choice { chosen: Chosen::Gpu(candidate.1.into(), KernelChoice::Auto), why: "a GPU".into() });
            }
            Err(error) => {
                tell(&format!("--device auto skips an adapter: {error:#}"));
                failed.push(title(&candidate.0));
            }
        }
    }
    let why = match (&failed[..], names.is_empty()) {
        ([], true) => "no adapter was found".into(),
        ([], false) => "every adapter is a software renderer; ask for one by name".into(),
        (failed, _) => format!("the self-check failed on {}", failed.join(", ")),
    };
    Ok(Choice { chosen: Chosen::Cpu, why })
}

/// Runs the self-check now on the adapters whose name contains `name` (all for an empty one). Returns a line for each, and whether all passed.
pub fn check_now(name: &str) -> Result<(String, bool)> {
    let all = candidates();
    let names: Vec<String> = all.iter().map(|(info, _)| title(info)).collect();
    let wanted: Vec<Candidate> = all.into_iter().filter(|(info, _)| matches(info, name)).collect();
    match (wanted.is_empty(), names.is_empty()) {
        (true, true) => bail!("--check: no adapter was found"),
        (true, false) => bail!("--check: no adapter is called '{name}': there are {}", names.join(", ")),
        _ => {}
    }
    let (mut text, mut passed) = (String::new(), true);
    for (info, adapter) in &wanted {
        let line = match SelfChecks::of_user().of_adapter(info, adapter, KernelChoice::Auto, true, Style::Human) {
            Ok(record) => {
                passed &= record.passed();
                let findings = record.wrong.iter().map(|finding| format!("\n  {finding}")).collect::<String>();
                record.summary() + &findings
            }
            Err(error) => {
                passed = false;
                format!("{error:#}")
            }
        };
        text += &format!("{}: {line}\n", title(info));
    }
    Ok((text, passed))
}

/// Bytes that the machine can still give, where it says so.
fn available_memory() -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(system.available_memory()).filter(|&bytes| bytes > 0)
}

/// Bytes that an adapter has for us, where it says so: most of its own memory, which the machine's display may use as well. A software
/// renderer takes the machine's (and names a heap that is not its limit); where the GPU is part of the processor both count.
fn adapter_memory(adapter: &Adapter) -> Option<u64> {
    let own = || device::memory(adapter).map(|bytes| bytes / 10 * 9);
    match adapter.get_info().device_type {
        DeviceType::Cpu => available_memory(),
        DeviceType::IntegratedGpu => own().into_iter().chain(available_memory()).min(),
        _ => own(),
    }
}

/// Refuses what needs more memory than there is.
pub fn check_memory(bytes: u64, what: &str, expected: &str) -> Result<()> {
    let available = available_memory();
    ensure!(
        available.is_none_or(|available| bytes <= available),
        "{what}: too large for this machine: {} MiB are needed and {} MiB are free: expected {expected}",
        bytes >> 20,
        available.unwrap_or(0) >> 20
    );
    Ok(())
}

/// How many models of a plan a machine has room for.
pub struct Room {
    /// Side by side.
    pub models: usize,
    /// What one of them takes.
    pub bytes: u64,
    /// How many are worth it: more do not make the machine faster.
    worth: usize,
    machine: String,
}

impl Room {
    /// How many to train side by side where so many were asked for, 0 being for the machine to say.
    pub fn at_once(&self, asked: usize) -> Result<usize> {
        ensure!(
            asked <= self.models,
            "{asked} models at once: too many for {}: {} fit, of {} MiB each: expected at most that many",
            self.machine,
            self.models,
            self.bytes.div_ceil(1 << 20)
        );
        Ok(if asked == 0 { self.models.min(self.worth) } else { asked })
    }
}

/// Models that the CPU engine trains side by side for each thread, unless it is told: each core has work, and what they use stays small.
const MODELS_A_THREAD: usize = 4;

/// How many models of a plan fit, before anything is made; an error where not even one does. `threads` are those of the CPU engine, 0
/// being one for each core.
pub fn fitting(program: &Program, plan: &Plan, train_rows: usize, chosen: &Chosen, threads: usize) -> Result<Room> {
    let (shape, grid_rows) = (plan.shape(), plan.p * plan.p);
    let what = format!("p = {}", plan.p);
    let expected = match program.grad_copies {
        0 | 1 => "a smaller p or d_mlp",
        _ => "a smaller p, d_mlp or grokfast_window",
    };
    match chosen {
        Chosen::Cpu => {
            let bytes = program::memory(program, shape, train_rows, grid_rows);
            check_memory(bytes, &what, expected)?;
            let models = available_memory().map_or(usize::MAX, |free| (free / bytes.max(1)) as usize);
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
            let threads = if threads == 0 { cores } else { threads };
            Ok(Room { models, bytes, worth: MODELS_A_THREAD * threads, machine: "the CPU engine".into() })
        }
        Chosen::Gpu(adapter, kernels) => {
            let sizes = [train_rows, block_of_grid(train_rows, grid_rows)].map(|rows| Sizes { shape, rows });
            let buffers = on_gpu::buffers(crate::shaders::kernels()?, Family::of(*kernels, adapter), program, &sizes)?;
            let bytes: u64 = buffers.iter().map(|(_, bytes)| bytes).sum();
            let (name, largest) = buffers.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
            let (limits, machine) = (adapter.limits(), title(&adapter.get_info()));
            // Kernels count elements with 32 bits, and a buffer has some bytes to spare.
            let limit = largest_buffer(&limits).min(4 * u64::from(u32::MAX));
            let limit = limit.saturating_sub(SPARE_BYTES);
            // Workgroups count models along z.
            let groups = limits.max_compute_workgroups_per_dimension as usize;
            ensure!(
                largest <= limit,
                "{what}: too large for {machine}: {name} needs {} MiB in one buffer and {} MiB are allowed: expected {expected}",
                largest.div_ceil(1 << 20),
                limit >> 20
            );
            let memory = adapter_memory(adapter).unwrap_or(u64::MAX);
            ensure!(
                bytes <= memory,
                "{what}: too large for {machine}: {} MiB are needed and it has {} MiB: expected {expected}",
                bytes >> 20,
                memory >> 20
            );
            let models = groups.min((limit / largest.max(1)) as usize).min((memory / bytes.max(1)) as usize);
            Ok(Room { models, bytes, worth: usize::MAX, machine })
        }
    }
}

/// The engine of a machine, and the machine's name.
pub fn open_engine(chosen: &Chosen, program: &Program, layout: Layout, threads: usize) -> Result<(Engine, String)> {
    Ok(match chosen {
        Chosen::Cpu => {
            let machine = OnCpu::new(program, layout, threads)?;
            let name = format!("cpu ({} threads)", machine.threads());
            (Engine::Cpu(machine), name)
        }
        Chosen::Gpu(adapter, kernels) => {
            let mut gpu = pollster::block_on(Gpu::open_with(adapter, *kernels))?;
            gpu.clock = clock::CLOCK;
            pipeline_cache::load(&mut gpu);
            let engine = pollster::block_on(Engine::on_gpu(gpu.clone(), program, layout))?;
            pipeline_cache::save(&gpu);
            (engine, title(&gpu.info))
        }
    })
}

/// The table of `grokscope devices`.
pub fn list() -> Result<String> {
    let candidates = candidates();
    let checks = SelfChecks::of_user();
    let mut text = String::new();
    for (info, adapter) in &candidates {
        let limits = adapter.limits();
        let subgroups = match adapter.features().contains(wgpu::Features::SUBGROUP) {
            true if info.subgroup_min_size == info.subgroup_max_size => format!("of {}", info.subgroup_min_size),
            true => format!("of {} to {}", info.subgroup_min_size, info.subgroup_max_size),
            false => "none".into(),
        };
        text += &format!(
            "{}\n  type          {:?}\n  memory        {}\n  driver        {} {}\n  subgroups     {subgroups}\n  buffer        {} MiB in one binding, {} bindings a kernel\n  workgroup     {} invocations, {} KiB shared, {} groups a dimension\n  timestamps    {}\n  self-check    {}\n",
            title(info),
            info.device_type,
            device::memory(adapter).map_or("unknown".into(), |bytes| format!("{} MiB", bytes >> 20)),
            info.driver,
            info.driver_info,
            largest_buffer(&limits) >> 20,
            limits.max_storage_buffers_per_shader_stage,
            limits.max_compute_invocations_per_workgroup,
            limits.max_compute_workgroup_storage_size >> 10,
            limits.max_compute_workgroups_per_dimension,
            if adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) { "yes" } else { "no" },
            checks.remembered(&Key::of(info)).map_or("not run yet".into(), |record| record.summary()),
        );
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = available_memory().map_or("unknown".into(), |bytes| format!("{} MiB free", bytes >> 20));
    text += &format!(
        "cpu\n  type          the embedded engine, float32\n  threads       {threads}\n  memory        {memory}\n"
    );
    let remembered = |(info, _): &Candidate| match checks.remembered(&Key::of(info)).and_then(|record| record.failure())
    {
        Some(failure) => bail!("{}: {failure}", title(info)),
        None => Ok(()),
    };
    Ok(text
        + &match choose_among("auto", candidates, &remembered, &|_| ()) {
            Ok(Choice { chosen: Chosen::Cpu, why }) => format!("auto takes cpu: {why}\n"),
            Ok(Choice { chosen: Chosen::Gpu(adapter, _), why }) => {
                format!("auto takes {}: {why}\n", title(&adapter.get_info()))
            }
            Err(error) => format!("auto takes nothing: {error:#}\n"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_what_the_machine_is_worth_and_what_fits() {
        let plan = Plan { program: "composed".into(), ..crate::plan::preset("demo").unwrap() };
        let at_once = |threads: usize, asked: usize| {
            let room = fitting(&program::of_plan(&plan).unwrap(), &plan, 1000, &Chosen::Cpu, threads).unwrap();
            room.at_once(asked).map_err(|problem| problem.to_string())
        };
        assert_eq!((at_once(1, 0), at_once(3, 0), at_once(3, 5)), (Ok(4), Ok(12), Ok(5)));
        assert!(at_once(1, usize::MAX).unwrap_err().contains("too many for the CPU engine"));
        let room = Room { models: 3, bytes: 1 << 20, worth: 8, machine: "this".into() };
        assert_eq!((room.at_once(0).unwrap(), room.at_once(3).unwrap()), (3, 3));
        assert!(room.at_once(4).unwrap_err().to_string().contains("3 fit, of 1 MiB each"));
    }
}
