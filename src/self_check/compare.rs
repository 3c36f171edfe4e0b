//! Single launches of kernels against their f64 twins.

use super::bounds::{Twins, finite, has_signs, is_float, sign};
use super::cases::{least_update, nothing};
use super::inputs::{self, layout, sentinel};
use super::report::{Finding, Problem, Report};
use crate::gpu::device::Gpu;
use crate::gpu::kernel::Kernel;
use crate::gpu::tensors::{Window, read};
use crate::model::{Sizes, Tensor};
use crate::plan::{Shape, Update};
use crate::program::batch::{Batch, Layout};
use crate::program::dispatches::{stem, variants};
use crate::program::on_cpu::OnCpu;
use crate::program::on_gpu::OnGpu;
use crate::program::{Call, Program};
use anyhow::{Context, Result};

/// Launches to compare.
#[derive(Clone, Default)]
pub struct Calls {
    /// Over each model's train rows.
    pub step: Vec<Call>,
    /// Over each model's grid.
    pub evaluation: Vec<Call>,
}

/// The file and entry point that a call runs on a device, and which of the entry's calls it is: `product_subgroup.nn`.
pub fn kernel_name(gpu: &Gpu, kernels: &[Kernel], call: &Call) -> String {
    let kernel = variants(kernels, gpu.family).into_iter().find(|kernel| stem(kernel) == call.kernel);
    format!("{}.{}", kernel.map_or(call.kernel, |kernel| &kernel.stem), call.entry)
}

/// Launches on a device and on the twins, compiled, with buffers.
pub struct Comparison {
    machine: OnGpu,
    layout: Layout,
    calls: Calls,
    names: Vec<String>,
    exact: OnCpu<f64>,
    absolute: OnCpu<f64>,
}

/// A float tensor of a batch: where it lies on the device, and what lies there before each launch.
struct Image {
    tensor: &'static Tensor,
    window: Window,
    /// Of each model.
    values: Vec<Vec<f32>>,
    /// The whole window, with sentinels where no model has an element.
    memory: Vec<u32>,
}

impl Comparison {
    /// Compiles the kernels of the launches and makes their buffers.
    pub async fn compile(gpu: Gpu, kernels: &[Kernel], shape: Shape, rows: &[usize], calls: Calls) -> Result<Self> {
        let program = Program {
            backward: calls.step.clone(),
            score: calls.evaluation.clone(),
            update: least_update(),
            ..nothing("comparison")
        };
        let names = calls.step.iter().chain(&calls.evaluation).map(|call| kernel_name(&gpu, kernels, call)).collect();
        Ok(Self {
            machine: OnGpu::of_calls(gpu, kernels, &program, layout(shape, rows)).await?,
            layout: layout(shape, rows),
            names,
            exact: OnCpu::new(&program, layout(shape, rows), 1)?,
            absolute: OnCpu::new(&program, layout(shape, rows), 1)?,
            calls,
        })
    }

    /// Launches everything once and compares every element.
    pub async fn run(&mut self) -> Result<Report> {
        let mut report = Report { checked: self.names.clone(), ..Report::default() };
        for batch in [Batch::Train, Batch::Grid] {
            let calls = match batch {
                Batch::Train => self.calls.step.clone(),
                Batch::Grid => self.calls.evaluation.clone(),
            };
            if calls.is_empty() {
                continue;
            }
            let images = self.images(batch);
            self.load(batch, &images);
            let mut wrong = Vec::new();
            for (index, call) in calls.iter().enumerate() {
                report.cases += 1;
                wrong.extend(self.launch(batch, index, call, &images, false).await?);
            }
            // Memory that no launch should have touched is read once, after all of them. If it changed, each launch is
            // tried again with all memory read, which names the kernel.
            if self.changed(&images).await? {
                images.iter().for_each(|image| self.restore(image));
                for (index, call) in calls.iter().enumerate() {
                    wrong.extend(self.launch(batch, index, call, &images, true).await?);
                }
            }
            report.wrong.extend(wrong);
        }
        report.add(Report::default());
        Ok(report)
    }

    /// The float tensors of a batch with random values.
    fn images(&self, batch: Batch) -> Vec<Image> {
        let mut list: Vec<(&'static Tensor, Window)> = (self.machine.tensors())
            .filter_map(|(name, of, window)| Some((Tensor::find(name)?, of, window.clone())))
            .filter(|(tensor, of, _)| is_float(tensor) && (*of == batch || !tensor.per_batch()))
            .map(|(tensor, _, window)| (tensor, window))
            .collect();
        list.sort_by_key(|(tensor, _)| tensor.name);
        let image = |(stream, (tensor, window)): (usize, (&'static Tensor, Window))| {
            let of_model = |model| inputs::values(tensor.name, model, stream as u32, self.owned(tensor, batch, model));
            let values: Vec<Vec<f32>> = (0..self.layout.models()).map(of_model).collect();
            let mut memory = vec![sentinel(stream); (window.bytes / 4) as usize];
            for (model, values) in values.iter().enumerate() {
                for (place, value) in memory[model * window.stride..].iter_mut().zip(values) {
                    *place = value.to_bits();
                }
            }
            Image { tensor, window, values, memory }
        };
        list.into_iter().enumerate().map(image).collect()
    }

    /// Elements of a tensor that a model owns.
    fn owned(&self, tensor: &Tensor, batch: Batch, model: usize) -> usize {
        tensor.len(&Sizes { shape: self.layout.shape, rows: self.layout.of(batch)[model].len() })
    }

    /// Sets all tensors of a batch, on the device and on the twins.
    fn load(&mut self, batch: Batch, images: &[Image]) {
        for image in images {
            self.restore(image);
            self.set_twins(batch, image, |_| 1.0);
        }
    }

    /// Writes a tensor's original memory back to the device.
    fn restore(&self, image: &Image) {
        let Image { window, memory, .. } = image;
        self.machine.gpu.queue.write_buffer(&window.buffer, window.offset, bytemuck::cast_slice(memory));
    }

    /// Sets a tensor of both twins; the absolute one gets a sign for each element.
    fn set_twins(&mut self, batch: Batch, image: &Image, sign: impl Fn(usize) -> f64) {
        let name = image.tensor.name;
        for (model, values) in image.values.iter().enumerate() {
            let exact = values.iter().map(|&x| f64::from(x));
            let absolute = values.iter().enumerate().map(|(i, &x)| sign(i) * f64::from(x.abs()));
            *self.exact.tensor_mut(model, name, batch) = exact.collect();
            *self.absolute.tensor_mut(model, name, batch) = absolute.collect();
        }
    }

    /// Whether any tensor differs from what it was.
    async fn changed(&self, images: &[Image]) -> Result<bool> {
        let windows: Vec<&Window> = images.iter().map(|image| &image.window).collect();
        let now = read(&self.machine.gpu, &windows).await?;
        Ok(images.iter().zip(now).any(|(image, now)| image.memory != now))
    }

    /// Launches a call and compares the tensors that it names, or all tensors if `all` is set.
    async fn launch(
        &mut self,
        batch: Batch,
        index: usize,
        call: &Call,
        images: &[Image],
        all: bool,
    ) -> Result<Vec<Finding>> {
        let what = || format!("{}.{}", call.kernel, call.entry);
        let whole = |name: &'static str| Tensor::find(name).map_or(name, |tensor| tensor.whole().name);
        let reads: Vec<&str> = call.reads.iter().copied().map(whole).collect();
        let writes: Vec<&str> = call.written().into_iter().map(whole).collect();
        let touched = |image: &&Image| all || reads.contains(&image.tensor.name) || writes.contains(&image.tensor.name);
        let touched: Vec<&Image> = images.iter().filter(touched).collect();

        let updates = vec![vec![Update::default()]; self.layout.models()];
        self.machine.run_some(batch, &[index], &updates).await.with_context(what)?;
        let windows: Vec<&Window> = touched.iter().map(|image| &image.window).collect();
        let after = read(&self.machine.gpu, &windows).await.with_context(what)?;

        let shape = self.layout.shape;
        let signed: Vec<&Image> = touched.iter().filter(|image| has_signs(call, image.tensor.name)).copied().collect();
        for image in &signed {
            self.set_twins(batch, image, |i| sign(call, &shape, image.tensor.name, i));
        }
        self.exact.run_some(batch, &[index], &updates);
        self.absolute.run_some(batch, &[index], &updates);

        let mut findings = Vec::new();
        let launch = format!("{}, {} rows", call.title(), if batch == Batch::Train { "train" } else { "grid" });
        let kernel = kernel_name_of(&self.names, batch, index, self.calls.step.len());
        let twins = Twins { call, batch, layout: &self.layout, exact: &self.exact, absolute: &self.absolute };
        for (image, after) in touched.iter().zip(&after) {
            let name = image.tensor.name;
            let written = writes.contains(&name);
            for model in 0..self.layout.models() {
                let owned = if written { self.owned(image.tensor, batch, model) } else { 0 };
                let start = model * image.window.stride;
                let end = if model + 1 == self.layout.models() { after.len() } else { start + image.window.stride };
                let finding = |index: usize, problem: Problem, count: usize| Finding {
                    kernel: kernel.clone(),
                    launch: launch.clone(),
                    tensor: name.into(),
                    model,
                    index,
                    problem,
                    count,
                };
                if written {
                    let (expected, bounds) = (self.exact.tensor(model, name, batch), twins.bounds(name, model));
                    let far = |i: &usize| {
                        let error = (f64::from(f32::from_bits(after[start + i])) - expected[*i]).abs();
                        // A NaN is never within a bound.
                        !matches!(
                            error.partial_cmp(&bounds[*i]),
                            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
                        )
                    };
                    let wrong: Vec<usize> = (0..owned).filter(far).collect();
                    if let Some(&i) = wrong.first() {
                        let expected = finite(expected[i], name).with_context(what)?;
                        let bound = finite(bounds[i], name).with_context(what)?;
                        let problem = Problem::Value { bits: after[start + i], expected, bound };
                        findings.push(finding(i, problem, wrong.len()));
                    }
                }
                let wrong: Vec<usize> = (start + owned..end).filter(|&at| image.memory[at] != after[at]).collect();
                if let Some(&at) = wrong.first() {
                    findings.push(finding(at - start, Problem::Write { owned }, wrong.len()));
                }
            }
        }
        for image in touched.iter().zip(&after).filter(|(image, after)| image.memory != **after).map(|(image, _)| image)
        {
            self.restore(image);
        }
        for image in touched.iter().filter(|image| writes.contains(&image.tensor.name)).chain(&signed) {
            self.set_twins(batch, image, |_| 1.0);
        }
        Ok(findings)
    }
}

/// The kernel of a launch. `names` has those of the step first, then those of the evaluation.
fn kernel_name_of(names: &[String], batch: Batch, index: usize, of_step: usize) -> String {
    names[if batch == Batch::Train { index } else { of_step + index }].clone()
}
