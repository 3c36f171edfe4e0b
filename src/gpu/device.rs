//! Adapters and devices.

use super::wait::Clock;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use wgpu::{Adapter, AdapterInfo, Backends, Device, DeviceType, Dx12Compiler, Instance, InstanceDescriptor, Queue};

/// An open device. Errors that wgpu reports outside of any call are kept until [`Gpu::check`] asks for them.
#[derive(Clone)]
pub struct Gpu {
    /// wgpu's handle.
    pub device: Device,
    /// Where work is submitted.
    pub queue: Queue,
    /// The adapter's name, kind and driver.
    pub info: AdapterInfo,
    /// Which variants of kernels it runs; chosen by its kind, unless somebody else chooses.
    pub family: Family,
    /// The pipeline cache; None if the backend has none, or none was loaded.
    pub pipeline_cache: Option<wgpu::PipelineCache>,
    /// Stands still until somebody who has a clock sets it.
    pub clock: Clock,
    error: Arc<Mutex<Option<Failure>>>,
    lost: Arc<AtomicBool>,
    /// Submissions that are done.
    pub(super) finished: Arc<AtomicU64>,
}

/// What a device reported: the cause of an error.
#[derive(Clone, Debug)]
pub struct Failure {
    text: String,
    kind: FailureKind,
}

/// What a failure asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Less at once: the device has no memory left.
    OutOfMemory,
    /// A fresh device: this one went away.
    Lost,
    /// Neither helps.
    Other,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// The kind of the failure that caused an error; none if no device did.
    pub fn kind_of(error: &anyhow::Error) -> Option<FailureKind> {
        error.chain().find_map(|cause| cause.downcast_ref::<Self>()).map(|failure| failure.kind)
    }

    /// Whether too little memory caused an error.
    pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
        Self::kind_of(error) == Some(FailureKind::OutOfMemory)
    }
}

/// What wgpu and its drivers' layer call it when memory runs out. Where this happens to anything but a buffer, wgpu gives up the device, and only
/// these words tell it from a device that went away.
const OUT_OF_MEMORY: [&str; 2] = ["Out of memory", "Not enough memory left"];

fn tells_of_memory(text: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

/// Which of the variants of kernels a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The plain ones, for devices with many cores, and of products those of this file, which sets the size of their tiles; where none
    /// is given, the file with the largest tiles that leave enough workgroups.
    Wide(Option<&'static str>),
    /// Those for renderers on a CPU.
    Software,
    /// Those for renderers on a CPU whose subgroups have eight lanes.
    SoftwareEights,
}

/// The kernels of products for devices with many cores, the one with the smallest tiles first. They make the same bits.
pub const TILES: &[&str] = &["product", "product_64x64"];

/// "32x32": what users call the tiles of a kernel of products.
pub fn size_of_tiles(kernel: &str) -> &str {
    kernel.strip_prefix("product_").unwrap_or("32x32")
}

/// What `--kernels` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// What suits the adapter.
    #[default]
    Auto,
    /// Those for renderers on a CPU.
    Software,
    /// Those for devices with many cores, with tiles of this kernel of products, or where none is given of any.
    Wide(Option<&'static str>),
}

impl KernelChoice {
    /// auto, software, wide, or the size of the tiles.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "auto" => Self::Auto,
            "software" => Self::Software,
            "wide" => Self::Wide(None),
            size => match TILES.iter().find(|tiles| size_of_tiles(tiles) == size) {
                Some(tiles) => Self::Wide(Some(tiles)),
                None => {
                    let sizes: Vec<_> = TILES.iter().map(|tiles| size_of_tiles(tiles)).collect();
                    bail!("--kernels {size}: expected auto, software, wide, {}", sizes.join(" or "))
                }
            },
        })
    }
}

impl Family {
    /// What an adapter runs.
    pub fn of(kernels: KernelChoice, adapter: &Adapter) -> Self {
        let info = adapter.get_info();
        // Lanes that can hand each other numbers, in subgroups of eight, as some software adapters have them. The wider ones of real GPUs
        // would leave most lanes of a workgroup of eight idle.
        let eights = (info.subgroup_min_size, info.subgroup_max_size) == (8, 8)
            && adapter.features().contains(wgpu::Features::SUBGROUP);
        match (kernels, is_real(&info), eights) {
            (KernelChoice::Wide(tiles), ..) => Self::Wide(tiles),
            (KernelChoice::Auto, true, _) => Self::Wide(None),
            (_, _, true) => Self::SoftwareEights,
            (_, _, false) => Self::Software,
        }
    }
}

/// Every adapter that wgpu reaches, in wgpu's order. WGPU_BACKEND and its siblings apply.
///
/// On Windows wgpu compiles with DXC where `dxcompiler.dll` lies next to the program or on the path, else with FXC. With DXC it leaves out
/// devices without shader model 6, so these are asked for once more with FXC.
pub async fn adapters() -> Vec<Adapter> {
    // OpenGL is asked for by name only: its drivers print warnings of their own on machines without a display.
    let backends = Backends::from_env().unwrap_or(Backends::PRIMARY);
    let mut adapters = enumerate(backends, None).await;
    let has_dx12 = adapters.iter().any(|adapter| adapter.get_info().backend == wgpu::Backend::Dx12);
    if cfg!(windows) && backends.contains(Backends::DX12) && !has_dx12 && Dx12Compiler::from_env().is_none() {
        adapters.extend(enumerate(Backends::DX12, Some(Dx12Compiler::Fxc)).await);
    }
    // An adapter without compute shaders (an old OpenGL) is of no use here.
    adapters
        .retain(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    adapters
}

async fn enumerate(backends: Backends, compiler: Option<Dx12Compiler>) -> Vec<Adapter> {
    let mut descriptor = InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = backends;
    if let Some(compiler) = compiler {
        descriptor.backend_options.dx12.shader_compiler = compiler;
    }
    Instance::new(descriptor).enumerate_adapters(backends).await
}

/// Whether an adapter is a processor of its own rather than a renderer on the CPU.
pub fn is_real(info: &AdapterInfo) -> bool {
    matches!(info.device_type, DeviceType::DiscreteGpu | DeviceType::IntegratedGpu | DeviceType::VirtualGpu)
}

/// `llvmpipe (LLVM 15.0.6, 256 bits) [vulkan]`
pub fn title(info: &AdapterInfo) -> String {
    format!("{} [{}]", info.name, info.backend.to_str())
}

/// Bytes of an adapter's own memory: the largest heap of a Vulkan device that is local to it. wgpu does not say; other backends neither.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "windows"))]
pub fn memory(adapter: &Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handles are the adapter's, which lives as long as they are used; nothing is made or destroyed.
    let heaps = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize);
    heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Bytes of an adapter's own memory, which its backend does not say.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "windows")))]
pub fn memory(_: &Adapter) -> Option<u64> {
    None
}

/// Whether `wanted`, in any case, is part of an adapter's name, driver or backend.
pub fn matches(info: &AdapterInfo, wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    [title(info), info.driver.clone()].iter().any(|text| text.to_lowercase().contains(&wanted))
}

/// What `auto` prefers: a discrete GPU, then an integrated, then a virtual one; none of the others.
pub fn preference(info: &AdapterInfo) -> Option<u32> {
    match info.device_type {
        DeviceType::DiscreteGpu => Some(0),
        DeviceType::IntegratedGpu => Some(1),
        DeviceType::VirtualGpu => Some(2),
        _ => None,
    }
}

impl Gpu {
    /// Opens an adapter with all the limits it has (the defaults are WebGPU's minimum), and with what of timestamps and
    /// subgroups it has.
    pub async fn open(adapter: &Adapter) -> Result<Self> {
        Self::open_with(adapter, KernelChoice::Auto).await
    }

    /// The same with a choice of kernels.
    pub async fn open_with(adapter: &Adapter, kernels: KernelChoice) -> Result<Self> {
        let info = adapter.get_info();
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("grokscope"),
            required_features: adapter.features() & wanted,
            required_limits: adapter.limits(),
            // Buffers are made once, so nothing is gained by taking more memory than they need.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = match adapter.request_device(&descriptor).await {
            Ok(opened) => opened,
            Err(error) if tells_of_memory(&error.to_string()) => {
                let text = format!("{}: no device: {error}", title(&info));
                bail!(Failure { text, kind: FailureKind::OutOfMemory })
            }
            Err(error) => return Err(error).with_context(|| format!("{}: no device", title(&info))),
        };
        let error = Arc::new(Mutex::new(None));
        let keep = |error: &Arc<Mutex<Option<Failure>>>, text: String, kind| {
            if let Ok(mut slot) = error.lock() {
                slot.get_or_insert(Failure { text, kind });
            }
        };
        let of_handler = error.clone();
        device.on_uncaptured_error(Arc::new(move |e| {
            let is_memory = matches!(e, wgpu::Error::OutOfMemory { .. });
            keep(&of_handler, e.to_string(), if is_memory { FailureKind::OutOfMemory } else { FailureKind::Other })
        }));
        let lost = Arc::new(AtomicBool::new(false));
        let (of_callback, of_loss) = (error.clone(), lost.clone());
        device.set_device_lost_callback(move |reason, text| {
            of_loss.store(true, Ordering::SeqCst);
            let more = if text.is_empty() { String::new() } else { format!(": {text}") };
            let kind = if tells_of_memory(&text) { FailureKind::OutOfMemory } else { FailureKind::Lost };
            keep(&of_callback, format!("the device is lost ({reason:?}){more}"), kind)
        });
        let family = Family::of(kernels, adapter);
        let (clock, finished) = (Clock::STOPPED, Arc::default());
        Ok(Self { device, queue, info, family, pipeline_cache: None, clock, error, lost, finished })
    }

    /// The same device for kernels of another family.
    pub fn with_family(&self, family: Family) -> Self {
        Self { family, ..self.clone() }
    }

    /// Whether the device went away.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// The first error that the device reported since it was opened.
    pub fn check(&self) -> Result<()> {
        match self.error.lock() {
            Ok(slot) => match &*slot {
                Some(Failure { text, kind }) => {
                    let text = format!("{}: {text}", title(&self.info));
                    // What is asked of a device that went away may fail in other words.
                    let is_lost = *kind == FailureKind::Other && self.is_lost();
                    bail!(Failure { text, kind: if is_lost { FailureKind::Lost } else { *kind } })
                }
                None => Ok(()),
            },
            Err(_) => bail!("{}: a thread died while it reported an error", title(&self.info)),
        }
    }

    /// Waits until everything submitted is done.
    pub async fn wait(&self) -> Result<()> {
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // Nobody listens any more if the receiver is gone.
            let _ = sender.send(());
        });
        self.wait_for(None)?;
        receiver.await.context("the device went away")?;
        self.check()
    }
}
