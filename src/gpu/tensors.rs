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

/// Bytes of a buffer that holds one tensor of so many elements, and a block to spare behind it.
pub fn bytes_of_one(len: usize) -> u64 {
    ((padded(len) + BLOCK) * 4) as u64
}

/// Bytes to spare at the end of each buffer.
pub const SPARE_BYTES: u64 = (BLOCK * 4) as u64;

/// Bytes of the largest buffer that a kernel can bind.
pub fn largest_buffer(limits: &wgpu::Limits) -> u64 {
    limits.max_buffer_size.min(limits.max_storage_buffer_binding_size)
}

/// One zeroed buffer that holds several tensors end to end, and a block to spare behind the last.
pub fn allocate(gpu: &Gpu, label: &str, lens: &[usize], models: usize) -> Result<Vec<Window>> {
    let sizes = lens.iter().map(|len| (padded(*len) * models * 4) as u64);
    let total = sizes.clone().sum::<u64>() + SPARE_BYTES;
    let limit = largest_buffer(&gpu.device.limits());
    ensure!(
        total <= limit,
        "{label} needs {} MiB in one buffer, and {} allows {} MiB: expected a smaller p, d_mlp or number of models",
        total.div_ceil(1 << 20),
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
    gpu.check().with_context(|| format!("no memory for {label} ({} MiB)", total.div_ceil(1 << 20)))?;
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

/// Memory of the host's, into which windows are copied by the device, to be read all at once.
pub struct Staging {
    buffer: Buffer,
    filled: u64,
}

impl Staging {
    /// With room for so many bytes.
    pub fn new(gpu: &Gpu, bytes: u64) -> Self {
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { buffer, filled: 0 }
    }

    /// Queues copies of windows as they will be then, each behind what was copied before.
    pub fn copy(&mut self, gpu: &Gpu, windows: &[&Window]) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for window in windows {
            encoder.copy_buffer_to_buffer(&window.buffer, window.offset, &self.buffer, self.filled, window.bytes);
            self.filled += window.bytes;
        }
        gpu.submit(encoder);
    }

    /// Waits for the copies.
    pub async fn read(self, gpu: &Gpu) -> Result<Vec<u32>> {
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.buffer.map_async(wgpu::MapMode::Read, .., move |result| drop(sender.send(result)));
        gpu.wait_for(None)?;
        receiver.await.context("the device went away")?.context("nothing could be read back")?;
        let view = self.buffer.get_mapped_range(..).map_err(|e| anyhow::anyhow!("nothing could be read back: {e}"))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}

/// Copies of windows in host memory, all read back in one go.
pub async fn read(gpu: &Gpu, windows: &[&Window]) -> Result<Vec<Vec<u32>>> {
    let mut staging = Staging::new(gpu, windows.iter().map(|window| window.bytes).sum());
    staging.copy(gpu, windows);
    let mut words = staging.read(gpu).await?.into_iter();
    Ok(windows.iter().map(|window| words.by_ref().take((window.bytes / 4) as usize).collect()).collect())
}
