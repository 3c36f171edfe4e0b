//! Pipelines with their tensors bound, and passes that run many of them.

use super::device::Gpu;
use super::kernel::{Binding, Constants, Entry, Kernel};
use super::tensors::Window;
use anyhow::{Context, Result};

/// A kernel ready to run: made once, recorded into as many submissions as wanted.
pub struct Dispatch {
    pub label: String,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// A shader in the device's form, made once for all its entry points.
pub struct Compiled<'a> {
    pub kernel: &'a Kernel,
    module: wgpu::ShaderModule,
}

impl<'a> Compiled<'a> {
    pub async fn new(gpu: &Gpu, kernel: &'a Kernel) -> Result<Self> {
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&kernel.stem),
            source: wgpu::ShaderSource::Wgsl(kernel.source.as_str().into()),
        });
        match scope.pop().await {
            Some(error) => Err(error).with_context(|| format!("shaders/{}.wgsl", kernel.stem)),
            None => Ok(Self { kernel, module }),
        }
    }

    /// Binds an entry point's variables to the windows that `tensor` knows by name.
    pub async fn dispatch(
        &self,
        gpu: &Gpu,
        name: &str,
        entry: &Entry,
        constants: &Constants,
        workgroups: [u32; 3],
        tensor: impl Fn(&Binding) -> Result<Window>,
    ) -> Result<Dispatch> {
        let label = format!("{}.{name}", self.kernel.stem);
        let windows = entry.bindings.iter().map(&tensor).collect::<Result<Vec<_>>>().with_context(|| label.clone())?;
        let layout_entry = |binding: &Binding| wgpu::BindGroupLayoutEntry {
            binding: binding.index,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: !binding.writable },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let layout = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(&label),
            entries: &entry.bindings.iter().map(layout_entry).collect::<Vec<_>>(),
        });
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&label),
            layout: &layout,
            entries: &(entry.bindings.iter().zip(&windows))
                .map(|(binding, window)| wgpu::BindGroupEntry { binding: binding.index, resource: window.resource() })
                .collect::<Vec<_>>(),
        });
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let overrides: Vec<_> =
            self.kernel.overrides(constants)?.into_iter().map(|(name, value)| (name, value as f64)).collect();
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &self.module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &overrides, ..Default::default() },
            cache: None,
        });
        match scope.pop().await {
            Some(error) => Err(error).context(label),
            None => Ok(Dispatch { label, pipeline, bind_group, workgroups }),
        }
    }
}

/// Runs the dispatches in order, the whole list `times` times, as one submission.
pub fn submit<'a>(gpu: &Gpu, dispatches: impl Iterator<Item = &'a Dispatch> + Clone, times: usize) {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for _ in 0..times {
            for dispatch in dispatches.clone() {
                let [x, y, z] = dispatch.workgroups;
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.bind_group, &[]);
                pass.dispatch_workgroups(x, y, z);
            }
        }
    }
    gpu.queue.submit([encoder.finish()]);
}

/// Workgroups that cover `invocations`.
pub fn cover(invocations: [usize; 3], workgroup: [u32; 3]) -> [u32; 3] {
    std::array::from_fn(|i| (invocations[i] as u32).div_ceil(workgroup[i]))
}
