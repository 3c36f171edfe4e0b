//! Pipelines with their tensors bound, and passes that run many of them.

use super::device::{Gpu, is_real};
use super::kernel::{Binding, Constants, Entry, Kernel};
use super::tensors::Window;
use anyhow::{Context, Result};
use std::future::Future;
use std::pin::Pin;

/// Whether wgpu zeroes workgroup memory. On Metal and DX12 one lane of each workgroup would write all of it. The sanitizer
/// shows that no kernel reads workgroup memory before writing it.
pub const ZERO_WORKGROUP_MEMORY: bool = false;

/// A kernel ready to run: made once, recorded into as many submissions as wanted.
pub struct Dispatch {
    /// Kernel and entry point, for messages and timings.
    pub label: String,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

impl Dispatch {
    fn record(&self, pass: &mut wgpu::ComputePass) {
        let [x, y, z] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// An object that a device creates, and the validation error that it may still report.
pub struct Pending<T> {
    value: T,
    label: String,
    error: Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>,
}

impl<T> Pending<T> {
    /// Waits for validation. An error carries the label of the object.
    pub async fn ready(self) -> Result<T> {
        match self.error.await {
            Some(error) => Err(error).context(self.label),
            None => Ok(self.value),
        }
    }
}

/// Calls `make` and collects its validation error. Error scopes are per thread, so threads can do this in parallel.
fn pending<T>(gpu: &Gpu, label: String, make: impl FnOnce() -> T) -> Pending<T> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let value = make();
    Pending { value, label, error: Box::pin(scope.pop()) }
}

/// A shader in the device's form, made once for all its entry points.
pub struct Compiled<'a> {
    /// What it was made from.
    pub kernel: &'a Kernel,
    module: wgpu::ShaderModule,
}

impl<'a> Compiled<'a> {
    /// Starts to compile a shader. The error, if any, has wgpu's message.
    pub fn start(gpu: &Gpu, kernel: &'a Kernel) -> Pending<Self> {
        pending(gpu, format!("shaders/{}.wgsl", kernel.stem), || {
            let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&kernel.stem),
                source: wgpu::ShaderSource::Wgsl(kernel.source.as_str().into()),
            });
            Self { kernel, module }
        })
    }

    /// Starts to create the pipeline of an entry point.
    pub fn start_pipeline(
        &self,
        gpu: &Gpu,
        name: &str,
        entry: &Entry,
        constants: &Constants,
    ) -> Result<Pending<Pipeline>> {
        let label = format!("{}.{name}", self.kernel.stem);
        let layout_entry = |binding: &Binding| wgpu::BindGroupLayoutEntry {
            binding: binding.index,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match binding.uniform {
                    true => wgpu::BufferBindingType::Uniform,
                    false => wgpu::BufferBindingType::Storage { read_only: !binding.writable },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let overrides: Vec<_> =
            self.kernel.overrides(constants)?.into_iter().map(|(name, value)| (name, value as f64)).collect();
        Ok(pending(gpu, label.clone(), || {
            let layout = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &entry.bindings.iter().map(layout_entry).collect::<Vec<_>>(),
            });
            let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&pipeline_layout),
                module: &self.module,
                entry_point: Some(name),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &overrides,
                    zero_initialize_workgroup_memory: ZERO_WORKGROUP_MEMORY,
                },
                cache: gpu.pipeline_cache.as_ref(),
            });
            Pipeline { label, layout, pipeline }
        }))
    }
}

/// An entry point compiled, to be bound to as many sets of tensors as wanted.
#[derive(Clone)]
pub struct Pipeline {
    label: String,
    layout: wgpu::BindGroupLayout,
    pipeline: wgpu::ComputePipeline,
}

impl Pipeline {
    /// Binds the entry point's variables, in their order, to windows.
    pub async fn dispatch(
        &self,
        gpu: &Gpu,
        entry: &Entry,
        workgroups: [u32; 3],
        windows: &[Window],
    ) -> Result<Dispatch> {
        let bound = pending(gpu, self.label.clone(), || {
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&self.label),
                layout: &self.layout,
                entries: &(entry.bindings.iter().zip(windows))
                    .map(|(binding, window)| wgpu::BindGroupEntry {
                        binding: binding.index,
                        resource: window.resource(),
                    })
                    .collect::<Vec<_>>(),
            })
        });
        let (label, pipeline) = (self.label.clone(), self.pipeline.clone());
        Ok(Dispatch { label, pipeline, bind_group: bound.ready().await?, workgroups })
    }
}

/// Records the dispatches in order, the whole list `times` times.
pub fn encode<'a>(
    gpu: &Gpu,
    dispatches: impl Iterator<Item = &'a Dispatch> + Clone,
    times: usize,
) -> wgpu::CommandEncoder {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..times {
            for dispatch in dispatches.clone() {
                dispatch.record(&mut pass);
            }
        }
    }
    encoder
}

/// The same as one submission.
pub fn submit<'a>(
    gpu: &Gpu,
    dispatches: impl Iterator<Item = &'a Dispatch> + Clone,
    times: usize,
) -> wgpu::SubmissionIndex {
    gpu.submit(encode(gpu, dispatches, times))
}

/// Times that a dispatch is repeated between two timestamps, at most: a pass takes some microseconds to begin and end, as long as a
/// small kernel. On a software adapter kernels take longer.
const REPEATS: usize = 200;
const REPEATS_IN_SOFTWARE: usize = 4;
/// Seconds after which a dispatch is not repeated any more.
const REPEATED_S: f64 = 20e-3;

/// Seconds that each dispatch takes, in order, by the device's own clock; nothing where it has none. Each is repeated, with the
/// barrier to the one before: the mean of the repetitions counts.
pub async fn timed(gpu: &Gpu, dispatches: &[&Dispatch]) -> Result<Option<Vec<f64>>> {
    if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        return Ok(None);
    }
    let most = if is_real(&gpu.info) { REPEATS } else { REPEATS_IN_SOFTWARE };
    let once = repeated(gpu, dispatches, &vec![1; dispatches.len()]).await?;
    let times: Vec<usize> = once.iter().map(|s| ((REPEATED_S / s.max(1e-9)) as usize).clamp(1, most)).collect();
    let seconds = repeated(gpu, dispatches, &times).await?;
    Ok(Some(seconds.iter().zip(times).map(|(seconds, times)| seconds / times as f64).collect()))
}

/// Seconds of each dispatch, repeated so many times, by timestamps before and after. Each is a submission of its own.
async fn repeated(gpu: &Gpu, dispatches: &[&Dispatch], times: &[usize]) -> Result<Vec<f64>> {
    let stamps = 2 * dispatches.len() as u32;
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("timestamps"),
        ty: wgpu::QueryType::Timestamp,
        count: stamps,
    });
    let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("timestamps"),
        size: 8 * u64::from(stamps),
        usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    for ((dispatch, &times), first) in dispatches.iter().zip(times).zip((0..stamps).step_by(2)) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(&dispatch.label),
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            for _ in 0..times {
                dispatch.record(&mut pass);
            }
        }
        gpu.submit(encoder);
    }
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.resolve_query_set(&queries, 0..stamps, &resolved, 0);
    gpu.submit(encoder);
    let window = Window { offset: 0, bytes: resolved.size(), len: 0, stride: 0, buffer: resolved };
    let words = super::tensors::read(gpu, &[&window]).await?.remove(0);
    let stamps: Vec<u64> = words.chunks_exact(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect();
    let seconds =
        |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
    Ok(stamps.chunks_exact(2).map(seconds).collect())
}

/// Workgroups that cover `invocations`.
pub fn cover(invocations: [usize; 3], workgroup: [u32; 3]) -> [u32; 3] {
    std::array::from_fn(|i| (invocations[i] as u32).div_ceil(workgroup[i]))
}
