//! Which machine a run gets, and the list of those there are.

use crate::gpu::device::{self, Gpu, adapters, is_real, matches, preference, title};
use crate::model::Sizes;
use crate::plan::Plan;
use crate::program::batch::Layout;
use crate::program::engine::Engine;
use crate::program::on_cpu::OnCpu;
use crate::program::{self, Program};
use anyhow::{Result, bail, ensure};
use wgpu::{Adapter, DeviceType};

/// The machine that trains.
pub enum Chosen {
    /// The CPU engine.
    Cpu,
    /// An adapter that is not yet open.
    Gpu(Box<Adapter>),
}

/// What `--device` takes, and why.
pub struct Choice {
    /// What was chosen.
    pub chosen: Chosen,
    /// The reason, for whoever asked.
    pub why: String,
}

/// `cpu`; `auto`: the adapter that WGPU_ADAPTER_NAME names, else a real GPU, else the CPU engine; or part of an
/// adapter's name.
pub fn choose(wanted: &str) -> Result<Choice> {
    if wanted.eq_ignore_ascii_case("cpu") {
        return Ok(Choice { chosen: Chosen::Cpu, why: "asked for".into() });
    }
    choose_among(wanted, pollster::block_on(adapters()))
}

fn choose_among(wanted: &str, adapters: Vec<Adapter>) -> Result<Choice> {
    let names: Vec<String> = adapters.iter().map(|adapter| title(&adapter.get_info())).collect();
    let of_name = |name: &str, origin: &str, adapters: Vec<Adapter>| match adapters
        .into_iter()
        .find(|adapter| matches(&adapter.get_info(), name))
    {
        Some(adapter) => Ok(Choice { chosen: Chosen::Gpu(adapter.into()), why: format!("{origin} asks for '{name}'") }),
        None if names.is_empty() => {
            bail!("{origin}: no device is called '{name}': there are auto, cpu, and no adapter")
        }
        None => bail!("{origin}: no device is called '{name}': there are auto, cpu, {}", names.join(", ")),
    };
    ensure!(!wanted.trim().is_empty(), "--device is empty: there are auto, cpu, {}", names.join(", "));
    if !wanted.eq_ignore_ascii_case("auto") {
        return of_name(wanted, "--device", adapters);
    }
    if let Ok(name) = std::env::var("WGPU_ADAPTER_NAME") {
        return of_name(&name, "WGPU_ADAPTER_NAME", adapters);
    }
    let real = adapters.into_iter().filter(|adapter| is_real(&adapter.get_info()));
    Ok(match real.min_by_key(|adapter| preference(&adapter.get_info())) {
        Some(adapter) => Choice { chosen: Chosen::Gpu(adapter.into()), why: "a GPU".into() },
        None if names.is_empty() => Choice { chosen: Chosen::Cpu, why: "no adapter was found".into() },
        None => Choice { chosen: Chosen::Cpu, why: "every adapter is a software renderer; ask for one by name".into() },
    })
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
    let sizes = Sizes { shape: plan.shape(), rows: train_rows.max(plan.p * plan.p) };
    let (bytes, (name, largest)) = program::memory(program, plan.shape(), train_rows, plan.p * plan.p);
    let what = format!("p = {}", plan.p);
    let expected = match program.grad_copies {
        0 | 1 => "a smaller p or d_mlp",
        _ => "a smaller p, d_mlp or grokfast_window",
    };
    match chosen {
        Chosen::Cpu => {
            check_memory(bytes, &what, expected)?;
            let models = available_memory().map_or(usize::MAX, |free| (free / bytes.max(1)) as usize);
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
            let threads = if threads == 0 { cores } else { threads };
            Ok(Room { models, bytes, worth: MODELS_A_THREAD * threads, machine: "the CPU engine".into() })
        }
        Chosen::Gpu(adapter) => {
            let (limits, machine) = (adapter.limits(), title(&adapter.get_info()));
            let limit = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
            // Workgroups count models along z, and the matrices of all of them.
            let groups =
                limits.max_compute_workgroups_per_dimension as usize / program::most_matrices(program, &sizes)?;
            ensure!(
                largest <= limit && groups > 0,
                "{what}: too large for {machine}: {name} needs {} MiB in one buffer and {} MiB are allowed: expected {expected}",
                largest >> 20,
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
        Chosen::Gpu(adapter) => {
            let gpu = pollster::block_on(Gpu::open(adapter))?;
            let name = title(&gpu.info);
            (pollster::block_on(Engine::on_gpu(gpu, program, layout))?, name)
        }
    })
}

/// The table of `grokscope devices`.
pub fn list() -> Result<String> {
    let adapters = pollster::block_on(adapters());
    let mut text = String::new();
    for adapter in &adapters {
        let (info, limits) = (adapter.get_info(), adapter.limits());
        let subgroups = match adapter.features().contains(wgpu::Features::SUBGROUP) {
            true if info.subgroup_min_size == info.subgroup_max_size => format!("of {}", info.subgroup_min_size),
            true => format!("of {} to {}", info.subgroup_min_size, info.subgroup_max_size),
            false => "none".into(),
        };
        text += &format!(
            "{}\n  type          {:?}\n  memory        {}\n  driver        {} {}\n  subgroups     {subgroups}\n  buffer        {} MiB in one binding, {} bindings a kernel\n  workgroup     {} invocations, {} KiB shared, {} groups a dimension\n  timestamps    {}\n",
            title(&info),
            info.device_type,
            device::memory(adapter).map_or("unknown".into(), |bytes| format!("{} MiB", bytes >> 20)),
            info.driver,
            info.driver_info,
            limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) >> 20,
            limits.max_storage_buffers_per_shader_stage,
            limits.max_compute_invocations_per_workgroup,
            limits.max_compute_workgroup_storage_size >> 10,
            limits.max_compute_workgroups_per_dimension,
            if adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) { "yes" } else { "no" },
        );
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let memory = available_memory().map_or("unknown".into(), |bytes| format!("{} MiB free", bytes >> 20));
    text += &format!(
        "cpu\n  type          the embedded engine, float32\n  threads       {threads}\n  memory        {memory}\n"
    );
    let choice = choose_among("auto", adapters)?;
    let name = match &choice.chosen {
        Chosen::Cpu => "cpu".into(),
        Chosen::Gpu(adapter) => title(&adapter.get_info()),
    };
    Ok(text + &format!("auto takes {name}: {}\n", choice.why))
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
