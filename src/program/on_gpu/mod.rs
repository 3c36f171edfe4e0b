//! The machine of kernels: a program's calls as dispatches with their tensors bound by name, recorded once and replayed.

mod launches;
mod memory;
mod parts;

use super::arenas::Homes;
use super::batch::{Batch, Layout, pick};
use super::dispatches::{LAUNCH_FIRST, Planned, Source, groups, plan, record, variants};
use super::sharing::Shared;
use super::{Call, Cost, Program, State, cost};
use crate::gpu::device::{Family, Gpu, is_real, title};
use crate::gpu::kernel::{Constants, Kernel, Record};
use crate::gpu::pass::{Compiled, Dispatch, Pipeline, encode, submit, timed};
use crate::gpu::tensors::{self, Staging, Window};
use crate::model::{Sizes, Tensor, WINDOW, Weights};
use crate::not_finite::{NOTHING_BAD, NotFinite};
use crate::plan::Update;
use anyhow::{Context, Result, ensure};
use launches::{Counted, Launches};
use memory::{Memory, Places, whole};
use parts::Part;
use rayon::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use wgpu::SubmissionIndex;

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
    /// The calls that each dispatch does, of a step and of an evaluation.
    groups: [Arc<[Vec<usize>]>; 2],
    layout: Layout,
    places: Places,
    memory: Memory,
    /// Calls that differ only in their tensors and rows share one: software adapters take a second to compile it.
    pipelines: HashMap<PipelineKey, Pipeline>,
    update: Record,
    /// Of a step, and of an evaluation of one block.
    launches: [Launches; 2],
    /// Of each dispatch of an evaluation, whether it does rows. The others are done once, those that do rows for one block after the other.
    does_rows: Vec<bool>,
}

const BATCHES: [Batch; 2] = [Batch::Train, Batch::Grid];

/// Submissions that run while the next is recorded.
const IN_FLIGHT: usize = 2;

/// Whether tensors take turns in buffers.
#[derive(Clone, Copy, PartialEq)]
enum Turns {
    Taken,
    /// Each can be read when the step is done.
    NotTaken,
}

impl OnGpu {
    /// Makes buffers, pipelines and bind groups; an error names the kernel or tensor that the device refuses.
    pub async fn new(gpu: Gpu, kernels: &[Kernel], program: &Program, mut layout: Layout) -> Result<Self> {
        layout.divide_grid();
        Self::of_program(gpu, kernels, program, layout, Turns::Taken).await
    }

    /// Like [`Self::new`], with memory of its own for each tensor, all of which can be read after a step and after an evaluation.
    pub async fn keeping_all(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout) -> Result<Self> {
        Self::of_program(gpu, kernels, program, layout, Turns::NotTaken).await
    }

    async fn of_program(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout, turns: Turns) -> Result<Self> {
        super::check(program.step(), true)?;
        super::check(program.evaluation(), false)?;
        let calls = calls_of(program);
        let groups = groups_of(kernels, gpu.family, &calls, &layout.all_sizes())?;
        Self::of_groups(gpu, kernels, program, calls, groups, layout, turns).await
    }

    /// Like [`Self::new`], for calls that are launched one by one and need not form a training step. They must include the calls of an
    /// update.
    pub async fn of_calls(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout) -> Result<Self> {
        let calls = calls_of(program);
        let groups = calls.each_ref().map(|calls| (0..calls.len()).map(|place| vec![place]).collect());
        Self::of_groups(gpu, kernels, program, calls, groups, layout, Turns::NotTaken).await
    }

    async fn of_groups(
        gpu: Gpu,
        kernels: &[Kernel],
        program: &Program,
        calls: [Arc<[Call]>; 2],
        groups: [Arc<[Vec<usize>]>; 2],
        layout: Layout,
        turns: Turns,
    ) -> Result<Self> {
        let update = record(kernels)?;
        let places = places(program, &calls, &groups, &layout.all_sizes(), (update.stride / 4) as usize, turns)?;
        let does_rows = groups[1].iter().map(|group| group.iter().any(|&place| does_rows(&calls[1][place]))).collect();
        let mut machine = Self {
            memory: Memory::new(&gpu, &places, &layout)?,
            update,
            kernels: kernels.into(),
            calls,
            groups,
            places,
            pipelines: HashMap::new(),
            launches: Default::default(),
            does_rows,
            layout,
            gpu,
        };
        machine.launches = BATCHES.map(|batch| Launches::estimated(machine.estimated_parts(batch)));
        machine.build().await?;
        Ok(machine)
    }

    /// Dispatches of a step, or of an evaluation where the batch is the grid.
    pub fn dispatch_count(&self, batch: Batch) -> usize {
        self.groups[batch as usize].len()
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
        // The old buffers go before the new ones come.
        self.launches.iter_mut().for_each(|launches| launches.dispatches.clear());
        self.memory = Memory::default();
        self.memory = Memory::new(&self.gpu, &self.places, &self.layout)?;
        self.build().await?;
        states.iter().enumerate().try_for_each(|(model, state)| self.write_state(model, state))
    }

    /// Records all dispatches, which depend on the number of models.
    async fn build(&mut self) -> Result<()> {
        for batch in BATCHES {
            self.record(batch).await?;
        }
        BATCHES.into_iter().try_for_each(|batch| self.write_rows(batch, 0))
    }

    /// Records the dispatches of a step, or of an evaluation, in the parts that they are to have.
    async fn record(&mut self, batch: Batch) -> Result<()> {
        let (kernels, calls) = (self.kernels.clone(), self.calls[batch as usize].clone());
        let kernels = variants(&kernels, self.gpu.family);
        let planned = self.plan_calls(&kernels, &calls, &self.groups[batch as usize], batch)?;
        self.make_pipelines(planned.iter()).await?;
        self.launches[batch as usize].dispatches = self.dispatches(&planned, batch).await?;
        Ok(())
    }

    fn plan_calls<'k>(
        &self,
        kernels: &[&'k Kernel],
        calls: &[Call],
        groups: &[Vec<usize>],
        batch: Batch,
    ) -> Result<Vec<Planned<'k>>> {
        let most = self.gpu.device.limits().max_compute_workgroups_per_dimension;
        let planned = |group: &Vec<usize>| plan(kernels, calls, group, &self.layout, batch, &self.places.homes, most);
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

    async fn dispatches(&mut self, calls: &[Planned<'_>], batch: Batch) -> Result<Vec<Vec<Dispatch>>> {
        let mut dispatches = Vec::new();
        for (place, planned) in calls.iter().enumerate() {
            let pipeline = &self.pipelines[&pipeline_key(planned)?];
            let mut parts = Vec::new();
            for Part { first, workgroups } in parts::of(planned, self.launches[batch as usize].counts[place]) {
                let mut windows = Vec::new();
                for source in &planned.sources {
                    let from_here = match source {
                        Source::Words(LAUNCH_FIRST, _) => {
                            &Source::Words(LAUNCH_FIRST, vec![first[0], first[1], first[2], 0])
                        }
                        source => source,
                    };
                    windows.push(self.memory.of_source(&self.gpu, &self.places, &self.layout, from_here, batch)?);
                }
                parts.push(pipeline.dispatch(&self.gpu, &planned.entry, workgroups, &windows).await?);
            }
            dispatches.push(parts);
        }
        Ok(dispatches)
    }

    /// Queues the rows of a batch, of the grid those of one block.
    fn write_rows(&self, batch: Batch, block: usize) -> Result<()> {
        for model in 0..self.layout.models() {
            for (tensor, values) in self.layout.block(batch, model, block) {
                if let Some(window) = self.memory.find(tensor.name, batch) {
                    window.write(&self.gpu, model, bytemuck::cast_slice(&values));
                }
            }
        }
        self.gpu.check()
    }

    /// Queues a model's state.
    pub fn write_state(&mut self, model: usize, state: &State<f32>) -> Result<()> {
        let parts = [("params", &state.weights), ("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)];
        let copies = state.grad_memory.iter().zip(self.memory.remembered());
        for (window, tensor) in copies.flat_map(|(copy, windows)| windows.iter().zip(&copy.tensors)) {
            window.write(&self.gpu, model, bytemuck::cast_slice(tensor));
        }
        for (arena, weights) in parts {
            for (window, tensor) in self.memory.of_parameters(arena).iter().zip(&weights.tensors) {
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
        for windows in self.memory.remembered() {
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

    async fn read_arena(&self, name: &str) -> Result<Vec<Weights<f32>>> {
        self.read_parts(self.memory.of_parameters(name)).await
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
    /// The next submission is recorded while two run.
    pub async fn steps(&mut self, updates: &[Vec<Update>]) -> Result<Vec<Option<NotFinite>>> {
        self.write_updates(updates)?;
        let mut running = VecDeque::new();
        let mut mark = (self.gpu.clock.now)();
        let mut left = updates[0].len();
        while left > 0 {
            if self.has_to_be_timed(Batch::Train) {
                if running.is_empty() {
                    self.launch_timed(Batch::Train).await?;
                    mark = (self.gpu.clock.now)();
                    left -= 1;
                } else {
                    self.wait_for_first(&mut running, &mut mark)?;
                }
                continue;
            }
            let step = &self.launches[Batch::Train as usize];
            let steps = step.steps().min(left);
            if step.may_be_slow() {
                let all: Vec<_> = step.dispatches.iter().collect();
                running.push_back((self.submit_in_pieces(Batch::Train, &all)?, steps));
            } else {
                let next = encode(&self.gpu, step.dispatches.iter().flatten(), steps);
                if running.len() == IN_FLIGHT {
                    self.wait_for_first(&mut running, &mut mark)?;
                }
                running.push_back((self.gpu.submit(next), steps));
            }
            left -= steps;
            if self.launches[Batch::Train as usize].may_be_slow() {
                self.wait_for_first(&mut running, &mut mark)?;
            }
        }
        self.not_finite().await
    }

    /// Waits for the oldest of the submissions that run, and takes the time of a step from it.
    fn wait_for_first(&mut self, running: &mut VecDeque<(SubmissionIndex, usize)>, mark: &mut f64) -> Result<()> {
        if let Some((index, steps)) = running.pop_front() {
            self.gpu.wait_for(Some(index))?;
            let now = (self.gpu.clock.now)();
            self.launches[Batch::Train as usize].seconds = Some((now - *mark) / steps as f64);
            *mark = now;
        }
        Ok(())
    }

    /// Of the updates since the last were written.
    pub async fn not_finite(&self) -> Result<Vec<Option<NotFinite>>> {
        let codes = tensors::read(&self.gpu, &[self.tensor("first_bad", Batch::Train)?]).await?.remove(0);
        self.gpu.check()?;
        Ok(codes[..self.layout.models()].iter().map(|&code| NotFinite::from_code(code)).collect())
    }

    /// Estimates for a slow GPU into how many parts each dispatch has to be split. A renderer on the CPU has no watchdog.
    fn estimated_parts(&self, batch: Batch) -> Vec<u32> {
        let groups = &self.groups[batch as usize];
        if !is_real(&self.gpu.info) {
            return vec![1; groups.len()];
        }
        let (sizes, calls) = (self.layout.sizes(batch), &self.calls[batch as usize]);
        let models = self.layout.models() as u64;
        let of_group = |group: &Vec<usize>| {
            let costs = || group.iter().map(|&place| cost(&calls[place], &sizes));
            let flops = models * costs().map(|cost| cost.flops).sum::<u64>();
            let bytes = models * costs().map(|cost| cost.bytes).sum::<u64>();
            parts::count(parts::estimate(Cost { flops, bytes }))
        };
        groups.iter().map(of_group).collect()
    }

    fn has_to_be_timed(&self, batch: Batch) -> bool {
        is_real(&self.gpu.info) && self.launches[batch as usize].have_to_be_timed()
    }

    /// Runs a step, or an evaluation of the first block, part by part, and times each dispatch. Later launches split the slow ones.
    async fn launch_timed(&mut self, batch: Batch) -> Result<()> {
        let mut seconds = Vec::new();
        for dispatch in &self.launches[batch as usize].dispatches {
            let began = (self.gpu.clock.now)();
            for part in dispatch {
                self.gpu.wait_for(Some(submit(&self.gpu, std::iter::once(part), 1)))?;
            }
            seconds.push((self.gpu.clock.now)() - began);
        }
        let counts = self.launches[batch as usize].take_times(&seconds);
        self.set_counts(batch, counts).await
    }

    /// Launches each dispatch in at most as many parts as `counts` says. Changes no bit.
    ///
    /// # Errors
    /// `counts` does not have a number for each dispatch, or the device reports an error.
    pub async fn launch_in_parts(&mut self, batch: Batch, counts: Vec<u32>) -> Result<()> {
        let dispatches = self.dispatch_count(batch);
        ensure!(counts.len() == dispatches, "{} part counts were given for {dispatches} dispatches", counts.len());
        self.launches[batch as usize].source = Counted::Known;
        self.set_counts(batch, counts).await
    }

    async fn set_counts(&mut self, batch: Batch, counts: Vec<u32>) -> Result<()> {
        if self.launches[batch as usize].counts == counts {
            return Ok(());
        }
        self.launches[batch as usize].counts = counts;
        self.record(batch).await
    }

    /// Submits in several pieces, because a display driver's watchdog takes a long submission for a hang.
    fn submit_in_pieces(&self, batch: Batch, dispatches: &[&Vec<Dispatch>]) -> Result<SubmissionIndex> {
        let one_by_one = is_real(&self.gpu.info) && self.launches[batch as usize].may_have_slow_ones();
        let piece = if one_by_one { 1 } else { 8 };
        let dispatches: Vec<&Dispatch> = dispatches.iter().copied().flatten().collect();
        let mut last = None;
        for piece in dispatches.chunks(piece) {
            last = Some(submit(&self.gpu, piece.iter().copied(), 1));
        }
        last.context("a program has calls")
    }

    fn write_updates(&self, updates: &[Vec<Update>]) -> Result<()> {
        for (model, updates) in updates.iter().enumerate() {
            ensure!(updates.len() <= WINDOW, "{} updates at once: expected at most {WINDOW}", updates.len());
            let mut bytes = Vec::new();
            for update in updates {
                bytes.extend(self.update.pack(|member| update.member(member))?);
            }
            self.tensor("updates", Batch::Train)?.write(&self.gpu, model, &bytes);
            self.tensor("step", Batch::Train)?.write(&self.gpu, model, bytemuck::bytes_of(&0u32));
            self.tensor("first_bad", Batch::Train)?.write(&self.gpu, model, bytemuck::bytes_of(&NOTHING_BAD));
        }
        Ok(())
    }

    /// Loss and hit of every row of every model's grid, which is taken block by block and read back once.
    pub async fn evaluate(&mut self) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        let (models, blocks) = (self.layout.models(), self.layout.blocks());
        let window = |name| self.tensor(name, Batch::Grid).cloned();
        let windows = [window("row_loss")?, window("row_correct")?];
        let words: Vec<usize> = windows.iter().map(|window| (window.bytes / 4) as usize).collect();
        let mut staging = Staging::new(&self.gpu, (4 * blocks * (words[0] + words[1])) as u64);
        let began = (self.gpu.clock.now)();
        for block in 0..blocks {
            if blocks > 1 {
                self.write_rows(Batch::Grid, block)?;
            }
            if block == 0 && self.has_to_be_timed(Batch::Grid) {
                self.launch_timed(Batch::Grid).await?;
            } else {
                let evaluation = &self.launches[Batch::Grid as usize].dispatches;
                let wanted = evaluation.iter().zip(&self.does_rows).filter(|(_, does_rows)| block == 0 || **does_rows);
                self.submit_in_pieces(Batch::Grid, &wanted.map(|(dispatch, _)| dispatch).collect::<Vec<_>>())?;
            }
            staging.copy(&self.gpu, &windows.each_ref());
        }
        let read = staging.read(&self.gpu).await?;
        self.launches[Batch::Grid as usize].seconds = Some(((self.gpu.clock.now)() - began) / blocks as f64);
        let of_rows = |model: usize, which: usize| {
            let part = |block: usize| {
                let first = block * (words[0] + words[1]) + which * words[0] + model * windows[which].stride;
                let part = &read[first..][..self.layout.rows_of_block(model, block).len()];
                part.iter().map(|&bits| f32::from_bits(bits))
            };
            self.layout.grid[model].by_pair(&(0..blocks).flat_map(part).collect::<Vec<f32>>())
        };
        Ok((0..models).map(|model| (of_rows(model, 0), of_rows(model, 1))).collect())
    }

    fn tensor(&self, name: &'static str, batch: Batch) -> Result<&Window> {
        self.memory.find(name, batch).with_context(|| format!("no call uses {name}"))
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
        let dispatches = &self.launches[batch as usize].dispatches;
        let wanted: Vec<_> = indices.iter().map(|&index| &dispatches[index]).collect();
        if !wanted.is_empty() {
            self.submit_in_pieces(batch, &wanted)?;
        }
        self.gpu.wait().await
    }

    /// Seconds of each dispatch of a training step by the device's own clock, where it has one.
    pub async fn time_step(&self, updates: &[Vec<Update>]) -> Result<Option<Vec<f64>>> {
        self.write_updates(updates)?;
        let step = &self.launches[Batch::Train as usize].dispatches;
        let parts: Vec<&Dispatch> = step.iter().flatten().collect();
        let Some(seconds) = timed(&self.gpu, &parts).await? else { return Ok(None) };
        let mut seconds = seconds.into_iter();
        Ok(Some(step.iter().map(|dispatch| seconds.by_ref().take(dispatch.len()).sum()).collect()))
    }

    /// The names of the tensors that have memory.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, Batch, &Window)> {
        self.memory.tensors()
    }
}

/// The calls of a step, and of an evaluation.
fn calls_of(program: &Program) -> [Arc<[Call]>; 2] {
    [program.step().cloned().collect(), program.evaluation().cloned().collect()]
}

/// The calls that each dispatch of a step and of an evaluation does.
fn groups_of(
    kernels: &[Kernel],
    family: Family,
    calls: &[Arc<[Call]>; 2],
    sizes: &[Sizes; 2],
) -> Result<[Arc<[Vec<usize>]>; 2]> {
    let kernels = variants(kernels, family);
    let of = |which: usize| groups(&kernels, &calls[which], &sizes[which]);
    Ok([of(0)?.into(), of(1)?.into()])
}

/// Where the tensors of a program lie.
fn places(
    program: &Program,
    calls: &[Arc<[Call]>; 2],
    groups: &[Arc<[Vec<usize>]>; 2],
    sizes: &[Sizes; 2],
    update_words: usize,
    turns: Turns,
) -> Result<Places> {
    let mut dispatches: Vec<(Batch, Vec<&Call>)> = Vec::new();
    for ((batch, calls), groups) in [Batch::Train, Batch::Grid].into_iter().zip(calls).zip(groups) {
        let of_group = |group: &Vec<usize>| (batch, group.iter().map(|&place| &calls[place]).collect());
        dispatches.extend(groups.iter().map(of_group));
    }
    let homes = Homes::new(&dispatches.iter().map(|(_, calls)| calls.clone()).collect::<Vec<_>>());
    let mut places = Places { homes, shared: Shared::default(), grad_copies: program.grad_copies, update_words };
    if turns == Turns::Taken {
        let shares = |tensor: &'static Tensor| !places.homes.has(tensor.name);
        places.shared = Shared::new(&dispatches, shares, |tensor, batch| places.elements(tensor, sizes, batch))?;
    }
    Ok(places)
}

/// The buffers of a program on a device of a family, each with the bytes that a model takes in it.
///
/// # Errors
/// The program and the kernels do not go together.
pub fn buffers(
    kernels: &[Kernel],
    family: Family,
    program: &Program,
    sizes: &[Sizes; 2],
) -> Result<Vec<(String, u64)>> {
    let calls = calls_of(program);
    let groups = groups_of(kernels, family, &calls, sizes)?;
    let update_words = (record(kernels)?.stride / 4) as usize;
    Ok(places(program, &calls, &groups, sizes, update_words, Turns::Taken)?.buffers(sizes))
}

/// Whether a call reads or writes something that the batch has for each of its rows.
fn does_rows(call: &Call) -> bool {
    call.tensors().into_iter().filter_map(Tensor::find).any(|tensor| tensor.whole().per_batch())
}
