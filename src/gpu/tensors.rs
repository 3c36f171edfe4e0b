//! Buffers, and windows on them: a tensor is the part of a buffer that its binding shows.

use super::device::Gpu;
use anyhow::{Context, Result, ensure};
use wgpu::{Buffer, BufferUsages};

/// Elements (of 4 bytes) that a model's part of a tensor is rounded up to. Windows start at multiples of its 256
/// bytes, the largest alignment that WebGPU may ask for.
pub const BLOCK: usize = 64;

/// Elements rounded up to whole blocks.
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(BLOCK)
}

/// A tensor of all models: model k's elements begin at `k * stride` of the window.
#[derive(Clone)]
pub struct Window {
    /// Shared with other tensors of its kind.
    pub buffer: Buffer,
    /// Bytes from the buffer's beginning.
    pub offset: u64,
    /// Of all models, with all that is spare.
    pub bytes: u64,
    /// Elements of one model's part, padding left out.
    pub len: usize,
    /// Elements from one model's part to the next.
    pub stride: usize,
}

impl Window {
    /// What a bind group takes.
    pub fn resource(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }

    /// Queues a copy of bytes to a model's part. They must not be more than it has room for, which debug builds check.
    pub fn write(&self, gpu: &Gpu, model: usize, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.stride * 4);
        gpu.queue.write_buffer(&self.buffer, self.offset + (model * self.stride * 4) as u64, bytes);
    }
}

/// One zeroed buffer that holds several tensors end to end, and a block to spare behind the last.
pub fn allocate(gpu: &Gpu, label: &str, lens: &[usize], models: usize) -> Result<Vec<Window>> {
    let sizes = lens.iter().map(|len| (padded(*len) * models * 4) as u64);
    let total = sizes.clone().sum::<u64>() + (BLOCK * 4) as u64;
    let limits = gpu.device.limits();
    let limit = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
    ensure!(
        total <= limit,
        "{label} needs {} MiB in one buffer, and {} allows {} MiB: expected a smaller p, d_mlp or number of models",
        total >> 20,
        super::device::title(&gpu.info),
        limit >> 20
    );
    ensure!(total / 4 <= u32::MAX as u64, "{label} has {} elements, more than 32 bits can count", total / 4);
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: total,
        usage: BufferUsages::STORAGE | BufferUsages::UNIFORM | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    gpu.check().with_context(|| format!("no memory for {label} ({} MiB)", total >> 20))?;
    let mut offset = 0;
    let window = |(len, bytes): (&usize, u64)| {
        let window = Window { buffer: buffer.clone(), offset, bytes, len: *len, stride: padded(*len) };
        offset += bytes;
        window
    };
    let mut windows: Vec<_> = lens.iter().zip(sizes).map(window).collect();
    if let [only] = &mut windows[..] {
        only.bytes = total;
    }
    Ok(windows)
}

/// Copies of windows in host memory, all read back in one go.
pub async fn read(gpu: &Gpu, windows: &[&Window]) -> Result<Vec<Vec<u32>>> {
    let total: u64 = windows.iter().map(|window| window.bytes).sum();
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("staging"),
        size: total,
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut at = 0;
    for window in windows {
        encoder.copy_buffer_to_buffer(&window.buffer, window.offset, &staging, at, window.bytes);
        at += window.bytes;
    }
    gpu.queue.submit([encoder.finish()]);
    let (sender, receiver) = futures_channel::oneshot::channel();
    staging.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
    gpu.poll()?;
    receiver.await.context("the device went away")?.context("nothing could be read back")?;
    let view = staging.get_mapped_range(..).map_err(|e| anyhow::anyhow!("nothing could be read back: {e}"))?;
    let mut at = 0;
    let part = |window: &&Window| {
        let bytes = &view[at..at + window.bytes as usize];
        at += bytes.len();
        bytemuck::pod_collect_to_vec(bytes)
    };
    Ok(windows.iter().map(part).collect())
}
