//! The machine of kernels: a program's calls as dispatches with their tensors bound by name, recorded once and replayed.

use super::arenas::{Home, Homes};
use super::batch::{Batch, Layout, key, pick};
use super::dispatches::{Extent, Planned, Source, block_owner, extent, groups, plan, record, tensor_edges, variants};
use super::{Call, Program, State};
use crate::gpu::device::{Gpu, title};
use crate::gpu::kernel::{Constants, Kernel, Record};
use crate::gpu::pass::{Compiled, Dispatch, Pipeline, submit, timed};
use crate::gpu::tensors::{self, Window};
use crate::model::{NOTHING_BAD, NotFinite, PARAMETERS, Tensor, WINDOW, Weights};
use crate::plan::Update;
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// Kernel, entry point, and the values of the overrides.
type PipelineKey = (String, &'static str, Constants);

fn pipeline_key(planned: &Planned) -> Result<PipelineKey> {
    Ok((planned.kernel.stem.clone(), planned.name, planned.kernel.overrides(&planned.constants)?))
}

/// The kernels of a program on an open device, ready to run.
pub struct OnGpu {
    /// The device.
    pub gpu: Gpu,
    kernels: Arc<[Kernel]>,
    /// Of a training step, and of an evaluation.
    calls: [Arc<[Call]>; 2],
    grad_copies: usize,
    /// Calls that differ only in their tensors and rows share one: software adapters take a second to compile it.
    pipelines: HashMap<PipelineKey, Pipeline>,
    layout: Layout,
    windows: HashMap<(&'static str, Batch), Window>,
    /// Buffers of the tensors that plans set, by name and contents.
    planned: HashMap<(&'static str, Vec<u32>), Window>,
    /// A window a parameter of each arena of the optimizer.
    arenas: HashMap<&'static str, Vec<Window>>,
    /// The calls that each dispatch does, of a step and of an evaluation.
    groups: [Arc<[Vec<usize>]>; 2],
    /// Where tensors live that tables name.
    homes: Homes,
    /// The arenas of activations, each as a whole.
    activations: Vec<Window>,
    /// For bindings that nothing stands behind.
    spares: Vec<Window>,
    update: Record,
    step: Vec<Dispatch>,
    evaluation: Vec<Dispatch>,
}

impl OnGpu {
    /// Makes buffers, pipelines and bind groups; an error names the kernel or tensor that the device refuses.
    pub async fn new(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout) -> Result<Self> {
        super::check(program.step(), true)?;
        super::check(program.evaluation(), false)?;
        let of_family = variants(kernels, gpu.family);
        let of = |calls: &[Call], batch| groups(&of_family, calls, &layout.sizes(batch));
        let calls = calls_of(program);
        let groups = [of(&calls[0], Batch::Train)?.into(), of(&calls[1], Batch::Grid)?.into()];
        Self::of_groups(gpu, kernels, program, calls, groups, layout).await
    }

    /// Like [`Self::new`], for calls that are launched one by one and need not form a training step. They must include the calls of an
    /// update.
    pub async fn of_calls(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout) -> Result<Self> {
        let calls = calls_of(program);
        let groups = calls.each_ref().map(|calls| (0..calls.len()).map(|place| vec![place]).collect());
        Self::of_groups(gpu, kernels, program, calls, groups, layout).await
    }

    async fn of_groups(
        gpu: Gpu,
        kernels: &[Kernel],
        program: &Program,
        calls: [Arc<[Call]>; 2],
        groups: [Arc<[Vec<usize>]>; 2],
        layout: Layout,
    ) -> Result<Self> {
        let dispatched = calls
            .iter()
            .zip(&groups)
            .flat_map(|(calls, groups)| groups.iter().map(|group| group.iter().map(|&place| &calls[place]).collect()));
        let homes = Homes::new(&dispatched.collect::<Vec<_>>());
        let mut machine = Self {
            update: record(kernels)?,
            kernels: kernels.into(),
            calls,
            groups,
            homes,
            activations: Vec::new(),
            spares: Vec::new(),
            grad_copies: program.grad_copies,
            pipelines: HashMap::new(),
            windows: HashMap::new(),
            planned: HashMap::new(),
            arenas: HashMap::new(),
            step: Vec::new(),
            evaluation: Vec::new(),
            layout,
            gpu,
        };
        machine.build().await?;
        Ok(machine)
    }

    /// The places in the program of the calls that each dispatch of a step does.
    pub fn step_groups(&self) -> &[Vec<usize>] {
        &self.groups[0]
    }

    /// Networks side by side.
    pub fn models(&self) -> usize {
        self.layout.models()
    }

    /// Leaves out all models but these, whose numbers rise: their states move into smaller buffers, and pipelines stay.
    pub async fn keep(&mut self, models: &[usize]) -> Result<()> {
        let mut states = self.read_states().await?;
        pick(&mut states, models);
        self.layout.keep(models);
        self.build().await?;
        states.iter().enumerate().try_for_each(|(model, state)| self.write_state(model, state))
    }

    /// Everything that depends on how many models there are.
    async fn build(&mut self) -> Result<()> {
        for part in [&mut self.step, &mut self.evaluation] {
            part.clear();
        }
        self.windows.clear();
        self.arenas.clear();
        self.allocate_activations()?;
        let lens: Vec<_> = PARAMETERS.iter().map(|p| p.dims(&self.layout.shape).iter().product()).collect();
        let arenas = ["params", "grads", "exp_avg", "exp_avg_sq"].map(|name| (name, lens.clone()));
        let memory = (self.grad_copies > 0).then(|| ("grad_memory", lens.repeat(self.grad_copies)));
        for (name, lens) in arenas.into_iter().chain(memory) {
            let parts = tensors::allocate(&self.gpu, name, &lens, self.layout.models())?;
            self.windows.insert((name, Batch::Train), whole(&parts));
            self.arenas.insert(name, parts);
        }
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            self.windows.insert((parameter.name, Batch::Train), self.arenas["params"][rank].clone());
            self.windows.insert((parameter.gradient, Batch::Train), self.arenas["grads"][rank].clone());
        }
        self.allocate_layout()?;
        let (kernels, calls) = (self.kernels.clone(), self.calls.clone());
        let kernels = variants(&kernels, self.gpu.family);
        let step = self.plan_calls(&kernels, &calls[0], &self.groups[0], Batch::Train)?;
        let evaluation = self.plan_calls(&kernels, &calls[1], &self.groups[1], Batch::Grid)?;
        self.make_pipelines(step.iter().chain(&evaluation)).await?;
        self.step = self.record(&step, Batch::Train).await?;
        self.evaluation = self.record(&evaluation, Batch::Grid).await?;
        self.write_rows()
    }

    /// The arenas of activations, a window for each of their tensors, and buffers that nobody uses.
    fn allocate_activations(&mut self) -> Result<()> {
        let sizes = self.layout.sizes(Batch::Train);
        self.activations.clear();
        for (number, names) in self.homes.arenas.iter().enumerate() {
            let tensors: Vec<&'static Tensor> = names.iter().map(|name| super::find(name)).collect::<Result<_>>()?;
            let lens: Vec<usize> = tensors.iter().map(|tensor| tensor.len(&sizes)).collect();
            let parts = tensors::allocate(&self.gpu, &format!("arena {number}"), &lens, self.layout.models())?;
            self.activations.push(whole(&parts));
            for (tensor, part) in tensors.into_iter().zip(parts) {
                self.windows.insert((tensor.name, Batch::Train), part);
            }
        }
        if self.spares.is_empty() {
            for _ in 0..SPARES {
                self.spares.push(tensors::allocate(&self.gpu, "spare", &[1], 1)?.remove(0));
            }
        }
        Ok(())
    }

    /// Whom blocks of the arenas belong to.
    fn allocate_layout(&mut self) -> Result<()> {
        for (name, map) in [("block_owner", block_owner(&self.layout)), ("tensor_edges", tensor_edges(&self.layout))] {
            let mut window = tensors::allocate(&self.gpu, name, &[map.len()], 1)?.remove(0);
            window.bytes = (map.len() * 4) as u64;
            window.write(&self.gpu, 0, bytemuck::cast_slice(&map));
            self.windows.insert((name, Batch::Train), window);
        }
        Ok(())
    }

    /// The buffer of a tensor that a plan sets. Plans with equal contents share it.
    fn planned(&mut self, name: &'static str, words: Vec<u32>) -> Result<Window> {
        let key = (name, words);
        if let Some(window) = self.planned.get(&key) {
            return Ok(window.clone());
        }
        let window = tensors::allocate(&self.gpu, name, &[key.1.len()], 1)?.remove(0);
        window.write(&self.gpu, 0, bytemuck::cast_slice(&key.1));
        self.planned.insert(key, window.clone());
        Ok(window)
    }

    /// The window of a tensor, made when it is first asked for.
    fn window(&mut self, tensor: &'static Tensor, batch: Batch) -> Result<Window> {
        let key = key(tensor, batch);
        if let Some(window) = self.windows.get(&key) {
            return Ok(window.clone());
        }
        let Extent { len, stride } = extent(tensor, &self.layout.sizes(batch), (self.update.stride / 4) as usize);
        let models = self.layout.models();
        let mut window = tensors::allocate(&self.gpu, tensor.name, &[stride * models], 1)?.remove(0);
        (window.len, window.stride) = (len, stride);
        self.windows.insert(key, window.clone());
        Ok(window)
    }

    fn plan_calls<'k>(
        &self,
        kernels: &[&'k Kernel],
        calls: &[Call],
        groups: &[Vec<usize>],
        batch: Batch,
    ) -> Result<Vec<Planned<'k>>> {
        let most = self.gpu.device.limits().max_compute_workgroups_per_dimension;
        let planned = |group: &Vec<usize>| plan(kernels, calls, group, &self.layout, batch, &self.homes, most);
        groups.iter().map(planned).collect::<Result<_>>().with_context(|| title(&self.gpu.info))
    }

    /// Creates the missing pipelines on all cores, because a driver may take seconds for one.
    async fn make_pipelines<'p>(&mut self, calls: impl Iterator<Item = &'p Planned<'p>>) -> Result<()> {
        let mut missing: Vec<(PipelineKey, &Planned)> = Vec::new();
        for planned in calls {
            let key = pipeline_key(planned)?;
            if !self.pipelines.contains_key(&key) && missing.iter().all(|(other, _)| *other != key) {
                missing.push((key, planned));
            }
        }
        let mut shaders: Vec<&Kernel> = missing.iter().map(|(_, planned)| planned.kernel).collect();
        shaders.sort_by_key(|kernel| &kernel.stem);
        shaders.dedup_by_key(|kernel| &kernel.stem);
        let gpu = &self.gpu;
        let started: Vec<_> = shaders.par_iter().map(|kernel| Compiled::start(gpu, kernel)).collect();
        let mut modules = HashMap::new();
        for (kernel, module) in shaders.iter().zip(started) {
            modules.insert(kernel.stem.as_str(), module.ready().await?);
        }
        let start = |(_, planned): &(PipelineKey, &Planned)| {
            let module = &modules[planned.kernel.stem.as_str()];
            module.start_pipeline(gpu, planned.name, &planned.entry, &planned.constants)
        };
        let started: Vec<_> = missing.par_iter().map(start).collect();
        for ((key, _), pipeline) in missing.into_iter().zip(started) {
            self.pipelines.insert(key, pipeline?.ready().await?);
        }
        Ok(())
    }

    /// The calls of a step, or of an evaluation, as dispatches.
    async fn record(&mut self, calls: &[Planned<'_>], batch: Batch) -> Result<Vec<Dispatch>> {
        let mut dispatches = Vec::new();
        for planned in calls {
            let mut windows = Vec::new();
            for source in &planned.sources {
                windows.push(match source {
                    Source::Words(name, words) => self.planned(name, words.clone())?,
                    Source::Tensor(tensor) => self.window(tensor, batch)?,
                    Source::Spare(number) => self.spares[*number].clone(),
                    Source::Whole(Home::Params) => whole(&self.arenas["params"]),
                    Source::Whole(Home::Grads) => whole(&self.arenas["grads"]),
                    Source::Whole(Home::Arena(number)) => self.activations[*number].clone(),
                    Source::Whole(Home::Own(name)) => self.window(super::find(name)?, batch)?,
                });
            }
            let pipeline = &self.pipelines[&pipeline_key(planned)?];
            dispatches.push(pipeline.dispatch(&self.gpu, &planned.entry, planned.workgroups, &windows).await?);
        }
        Ok(dispatches)
    }

    fn write_rows(&mut self) -> Result<()> {
        for batch in [Batch::Train, Batch::Grid] {
            for model in 0..self.layout.models() {
                for (tensor, values) in self.layout.of(batch)[model].tensors() {
                    if let Some(window) = self.windows.get(&(tensor.name, batch)) {
                        window.write(&self.gpu, model, bytemuck::cast_slice(&values));
                    }
                }
            }
        }
        self.gpu.check()
    }

    /// Queues a model's state.
    pub fn write_state(&mut self, model: usize, state: &State<f32>) -> Result<()> {
        let parts = [("params", &state.weights), ("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)];
        let copies = state.grad_memory.iter().zip(self.memory());
        for (window, tensor) in copies.flat_map(|(copy, windows)| windows.iter().zip(&copy.tensors)) {
            window.write(&self.gpu, model, bytemuck::cast_slice(tensor));
        }
        for (arena, weights) in parts {
            for (window, tensor) in self.arenas[arena].iter().zip(&weights.tensors) {
                window.write(&self.gpu, model, bytemuck::cast_slice(tensor));
            }
        }
        self.gpu.check()
    }

    /// Weights and moments of every model.
    pub async fn read_states(&self) -> Result<Vec<State<f32>>> {
        let params = self.read_arena("params").await?;
        let exp_avg = self.read_arena("exp_avg").await?;
        let exp_avg_sq = self.read_arena("exp_avg_sq").await?;
        let models = params.into_iter().zip(exp_avg).zip(exp_avg_sq);
        let state = |((weights, exp_avg), exp_avg_sq)| State { weights, exp_avg, exp_avg_sq, grad_memory: Vec::new() };
        let mut states: Vec<_> = models.map(state).collect();
        for windows in self.memory() {
            for (state, copy) in states.iter_mut().zip(self.read_parts(windows).await?) {
                state.grad_memory.push(copy);
            }
        }
        Ok(states)
    }

    /// Weights of every model.
    pub async fn read_weights(&self) -> Result<Vec<Weights<f32>>> {
        self.read_arena("params").await
    }

    /// The windows of each set of gradients that the update remembers.
    fn memory(&self) -> impl Iterator<Item = &[Window]> {
        self.arenas.get("grad_memory").into_iter().flat_map(|parts| parts.chunks_exact(PARAMETERS.len()))
    }

    async fn read_arena(&self, name: &str) -> Result<Vec<Weights<f32>>> {
        self.read_parts(&self.arenas[name]).await
    }

    /// Tensors that follow each other in a buffer, a window each.
    async fn read_parts(&self, windows: &[Window]) -> Result<Vec<Weights<f32>>> {
        let arena = tensors::read(&self.gpu, &[&whole(windows)]).await?.remove(0);
        let of_model = |model: usize| {
            let tensor = |window: &Window| {
                let start = ((window.offset - windows[0].offset) / 4) as usize + model * window.stride;
                arena[start..start + window.len].iter().map(|&bits| f32::from_bits(bits)).collect()
            };
            Weights { tensors: windows.iter().map(tensor).collect() }
        };
        Ok((0..self.layout.models()).map(of_model).collect())
    }

    /// One update a model for each of its `updates`, at most [`WINDOW`]; for each model, the first number that was not finite.
    ///
    /// Several updates are one submission. A single one, and what an evaluation does, are some: where a step is slow, a
    /// display driver's watchdog would take a long submission for a hang.
    pub async fn steps(&mut self, updates: &[Vec<Update>]) -> Result<Vec<Option<NotFinite>>> {
        self.write_updates(updates)?;
        match updates[0].len() {
            1 => self.submit_in_pieces(&self.step),
            times => submit(&self.gpu, self.step.iter(), times),
        }
        self.not_finite().await
    }

    /// Of the updates since the last were written.
    pub async fn not_finite(&self) -> Result<Vec<Option<NotFinite>>> {
        let codes = tensors::read(&self.gpu, &[&self.windows[&("first_bad", Batch::Train)]]).await?.remove(0);
        self.gpu.check()?;
        Ok(codes[..self.layout.models()].iter().map(|&code| NotFinite::from_code(code)).collect())
    }

    fn submit_in_pieces(&self, dispatches: &[Dispatch]) {
        const PIECE: usize = 8;
        for piece in dispatches.chunks(PIECE) {
            submit(&self.gpu, piece.iter(), 1);
        }
    }

    fn write_updates(&self, updates: &[Vec<Update>]) -> Result<()> {
        for (model, updates) in updates.iter().enumerate() {
            ensure!(updates.len() <= WINDOW, "{} updates at once: expected at most {WINDOW}", updates.len());
            let mut bytes = Vec::new();
            for update in updates {
                bytes.extend(self.update.pack(|member| update.member(member))?);
            }
            self.windows[&("updates", Batch::Train)].write(&self.gpu, model, &bytes);
            self.windows[&("step", Batch::Train)].write(&self.gpu, model, bytemuck::bytes_of(&0u32));
            self.windows[&("first_bad", Batch::Train)].write(&self.gpu, model, bytemuck::bytes_of(&NOTHING_BAD));
        }
        Ok(())
    }

    /// Loss and hit of every row of every model's grid.
    pub async fn evaluate(&mut self) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        self.submit_in_pieces(&self.evaluation);
        let windows = ["row_loss", "row_correct"].map(|name| &self.windows[&(name, Batch::Grid)]);
        let read = tensors::read(&self.gpu, &windows).await?;
        let rows = |window: &Window, data: &[u32], model: usize| {
            let grid = &self.layout.grid[model];
            let of_rows: Vec<f32> = data[model * window.stride..].iter().map(|&bits| f32::from_bits(bits)).collect();
            grid.by_pair(&of_rows[..grid.len()])
        };
        let of_model = |model| (rows(windows[0], &read[0], model), rows(windows[1], &read[1], model));
        Ok((0..self.layout.models()).map(of_model).collect())
    }

    // Single kernels, for tests and benchmarks.

    /// Runs some calls of the training step, or of the evaluation where the batch is the grid: in this order where each is a dispatch of its
    /// own, else every dispatch that does one of them, once and in the machine's order.
    pub async fn run_some(&self, batch: Batch, calls: &[usize], updates: &[Vec<Update>]) -> Result<()> {
        let groups = &self.groups[batch as usize];
        let of_call = |call: &usize| groups.iter().position(|group| group.contains(call)).context("no such call");
        let mut indices: Vec<usize> = calls.iter().map(of_call).collect::<Result<_>>()?;
        if groups.iter().any(|group| group.len() > 1) {
            indices.sort_unstable();
            indices.dedup();
        }
        self.run_dispatches(batch, &indices, updates).await
    }

    /// Runs some dispatches of the training step, or of the evaluation where the batch is the grid.
    pub async fn run_dispatches(&self, batch: Batch, indices: &[usize], updates: &[Vec<Update>]) -> Result<()> {
        self.write_updates(updates)?;
        let dispatches = match batch {
            Batch::Train => &self.step,
            Batch::Grid => &self.evaluation,
        };
        submit(&self.gpu, indices.iter().map(|&index| &dispatches[index]), 1);
        self.gpu.wait().await
    }

    /// Seconds of each dispatch of a training step by the device's own clock, where it has one.
    pub async fn time_step(&self, updates: &[Vec<Update>]) -> Result<Option<Vec<f64>>> {
        self.write_updates(updates)?;
        timed(&self.gpu, &self.step).await
    }

    /// The names of the tensors that have memory.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, Batch, &Window)> {
        self.windows.iter().map(|((name, batch), window)| (*name, *batch, window))
    }
}

/// Buffers that nobody uses: one for each binding of a dispatch that nothing may stand behind.
const SPARES: usize = 3;

/// The calls of a step, and of an evaluation.
fn calls_of(program: &Program) -> [Arc<[Call]>; 2] {
    [program.step().cloned().collect(), program.evaluation().cloned().collect()]
}

/// The window that shows a whole arena, with all of its padding.
fn whole(windows: &[Window]) -> Window {
    let (first, last) = (&windows[0], &windows[windows.len() - 1]);
    let bytes = last.offset + last.bytes - first.offset;
    Window { bytes, len: (bytes / 4) as usize, stride: (bytes / 4) as usize, ..first.clone() }
}
