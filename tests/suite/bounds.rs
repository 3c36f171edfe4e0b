//! Every kernel of both programs under the sanitizer: a training step and an evaluation of two models, at small and odd shapes.
//!
//! What the host writes is written, everything else is not; between a model's part of a tensor and the next lies a fence. So a kernel
//! that reads a row too many, that leaves a gap, that forgets a barrier, or whose invocations overlap is found at the line that does it.
//! `planted_faults_are_found` holds that it is.

use crate::bound_faults::PLANTED;
use crate::kernels::{methods, name_of, remainders, with_method};
use crate::support::{Outcome, layout, require, shape, test};
use grokscope::gpu::device::{Family, TILES};
use grokscope::gpu::kernel::Kernel;
use grokscope::gpu::tensors::BLOCK;
use grokscope::method::Method;
use grokscope::model::{PARAMETERS, Role, Tensor, initial_weights};
use grokscope::not_finite::NOTHING_BAD;
use grokscope::plan::{Plan, Shape, Update, preset};
use grokscope::program::arenas::{Home, Homes};
use grokscope::program::batch::{Batch, Layout, key};
use grokscope::program::dispatches::{
    Extent, Source, block_owner, extent, groups, plan, record, tensor_edges, variants,
};
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::{Call, Program, State, by_name};
use grokscope::sanitizer::{Buffers, Dispatch, Fault, Kind, Memory, Shader};
use grokscope::shaders;
use libtest_mimic::{Failed, Trial};
use std::collections::HashMap;
use std::ops::Range;

/// Subgroups that a device may have where there are variants for eight lanes: eight.
const SUBGROUP: u32 = 8;

pub fn tests() -> Vec<Trial> {
    let mut trials = vec![test("planted_faults_are_found", planted_faults_are_found)];
    trials.push(test("what_an_earlier_step_left_counts_as_not_written", stale));
    for (program, family) in [
        ("layered", Family::Wide(None)),
        ("layered", Family::Software),
        ("composed", Family::Wide(Some(TILES[0]))),
        ("composed", Family::Wide(Some(TILES[1]))),
        ("composed", Family::Software),
        ("composed", Family::SoftwareEights),
    ] {
        for (shape, rows) in shapes() {
            let name = format!(
                "kernels_stay_in_bounds_{program}_{}_p{}_d{}_rows{rows:?}",
                name_of(family),
                shape.p,
                shape.d_model
            );
            let program = move || Ok((by_name(program)?, preset("default")?));
            trials.push(Trial::test(name, move || stays_in_bounds(program, family, shape, rows)));
        }
    }
    let of_tiles = TILES.iter().map(|&tiles| (tiles, Family::Wide(Some(tiles))));
    for (products, family) in of_tiles.chain([("product_software", Family::Software)]) {
        trials.push(Trial::test(format!("{products}_stays_in_bounds_at_every_remainder"), move || {
            for (shape, rows) in remainders(Some(6)) {
                let program = || Ok((by_name("composed")?, preset("default")?));
                stays_in_bounds(program, family, shape, &[rows])
                    .map_err(|e| format!("{shape:?}, {rows} rows: {}", e.message().unwrap_or_default()))?;
            }
            Ok(())
        }));
    }
    for (method, taught) in methods() {
        // Neurons more than d_model, and fewer.
        for (shape, rows) in &shapes()[..2] {
            let (shape, rows) = (*shape, *rows);
            let name = format!("kernels_stay_in_bounds_{method}_p{}_d{}_rows{rows:?}", shape.p, shape.d_model);
            let program = move || {
                let mut plan = preset("default")?;
                with_method(&mut plan, method);
                Ok((by_name("layered")?.taught(&taught), plan))
            };
            trials.push(Trial::test(name, move || stays_in_bounds(program, Family::Wide(None), shape, rows)));
        }
    }
    trials
}

/// Sizes that fill no tile, or more than one along k (d_mlp = 40), and, at p = 23, rows of more than one chunk.
fn shapes() -> [(Shape, &'static [usize]); 4] {
    [
        (shape(5, 8, 2, 40), &[20, 11]),
        (shape(7, 6, 3, 5), &[49]),
        (Shape { d_vocab_out: 4, ..shape(3, 1, 1, 1) }, &[1, 5]),
        (shape(23, 8, 2, 6), &[520, 400]),
    ]
}

/// Runs the calls of a program in groups, as `OnGpu` does.
struct Host<'a> {
    kernels: Vec<&'a Kernel>,
    shaders: HashMap<&'a str, Shader>,
    layout: Layout,
    homes: Homes,
    memory: HashMap<(Home, Batch), Memory>,
    /// Words of an update.
    record: usize,
}

impl<'a> Host<'a> {
    fn new(
        kernels: &'a [Kernel],
        family: Family,
        layout: Layout,
        program: &Program,
        states: &[State<f32>],
        how: &Plan,
    ) -> Result<Self, Failed> {
        let update = record(kernels)?;
        let kernels = variants(kernels, family);
        let mut parsed = HashMap::new();
        for kernel in &kernels {
            parsed.insert(&kernel.stem[..], Shader::new(&format!("shaders/{}.wgsl", kernel.stem), &kernel.source)?);
        }
        let of_batches = [
            (program.step().cloned().collect::<Vec<Call>>(), Batch::Train),
            (program.evaluation().cloned().collect(), Batch::Grid),
        ];
        let mut dispatched = Vec::new();
        for (calls, batch) in &of_batches {
            for group in groups(&kernels, calls, &layout.sizes(*batch))? {
                dispatched.push(group.into_iter().map(|place| &calls[place]).collect());
            }
        }
        let homes = Homes::new(&dispatched);
        let (record, copies) = ((update.stride / 4) as usize, how.method().filter.copies());
        let mut host = Self { kernels, shaders: parsed, layout, homes, memory: HashMap::new(), record };
        for (model, state) in states.iter().enumerate() {
            for (rank, parameter) in PARAMETERS.iter().enumerate() {
                host.write(parameter.name, Batch::Train, model, &bits(&state.weights.tensors[rank]))?;
            }
            let words = update.pack(|member| how.update(3).member(member))?;
            host.write("updates", Batch::Train, model, &bytemuck::pod_collect_to_vec(&words))?;
            host.write("step", Batch::Train, model, &[0])?;
            host.write("first_bad", Batch::Train, model, &[NOTHING_BAD])?;
            for batch in [Batch::Train, Batch::Grid] {
                for (tensor, values) in host.layout.of(batch)[model].tensors() {
                    host.write(tensor.name, batch, model, &values)?;
                }
            }
        }
        let zeros = vec![0; host.arena_words()];
        for (arena, copies) in [("exp_avg", 1), ("exp_avg_sq", 1), ("grad_memory", copies)] {
            host.set(arena, &zeros.repeat(copies));
        }
        let maps = [("block_owner", block_owner(&host.layout)), ("tensor_edges", tensor_edges(&host.layout))];
        maps.iter().for_each(|(name, map)| host.set(name, map));
        Ok(host)
    }

    /// Makes a buffer of its own, all of which is written.
    fn set(&mut self, name: &'static str, words: &[u32]) {
        let mut memory = Memory::new(words.len());
        memory.write(0, words);
        self.memory.insert((Home::Own(name), Batch::Train), memory);
    }

    fn extent(&self, tensor: &Tensor, batch: Batch) -> Extent {
        extent(tensor, &self.layout.sizes(batch), self.record)
    }

    fn arena_words(&self) -> usize {
        let of = |name| self.extent(Tensor::find(name).expect("a parameter"), Batch::Train).stride;
        PARAMETERS.iter().map(|parameter| of(parameter.name) * self.layout.models()).sum()
    }

    /// Where a tensor lies: the buffer, and the words of it.
    fn place(&self, tensor: &'static Tensor, batch: Batch) -> ((Home, Batch), Range<usize>) {
        let (home, first) = self.homes.find(tensor, &self.layout);
        let batch = if let Home::Own(_) = home { key(tensor, batch).1 } else { Batch::Train };
        ((home, batch), first..first + self.extent(tensor, batch).stride * self.layout.models())
    }

    /// The tensors of a buffer.
    fn tensors_of(&self, home: Home) -> Vec<&'static Tensor> {
        let find = |name: &'static str| Tensor::find(name).expect("a tensor of the table");
        match home {
            Home::Params => PARAMETERS.iter().map(|parameter| find(parameter.name)).collect(),
            Home::Grads => PARAMETERS.iter().map(|parameter| find(parameter.gradient)).collect(),
            Home::Arena(number) => self.homes.arenas[number].iter().map(|name| find(name)).collect(),
            Home::Own(name) => vec![find(name)],
        }
    }

    /// The memory of a buffer, made when it is first asked for, with fences between the models of its tensors.
    fn memory(&mut self, (home, batch): (Home, Batch)) -> &mut Memory {
        if !self.memory.contains_key(&(home, batch)) {
            let models = self.layout.models();
            let extents: Vec<Extent> =
                self.tensors_of(home).into_iter().map(|tensor| self.extent(tensor, batch)).collect();
            let mut memory = Memory::new(extents.iter().map(|extent| extent.stride * models).sum());
            let mut first = 0;
            for Extent { len, stride } in extents {
                for model in 0..models {
                    memory.fence(first + model * stride + len..first + (model + 1) * stride);
                }
                first += stride * models;
            }
            self.memory.insert((home, batch), memory);
        }
        self.memory.get_mut(&(home, batch)).expect("it was just made")
    }

    fn write(&mut self, name: &str, batch: Batch, model: usize, words: &[u32]) -> Result<(), Failed> {
        let tensor = Tensor::find(name).ok_or(format!("no tensor {name}"))?;
        let (stride, (home, place)) = (self.extent(tensor, batch).stride, self.place(tensor, batch));
        self.memory(home).write(place.start + model * stride, words);
        Ok(())
    }

    /// The numbers of a model's part.
    fn numbers(&mut self, name: &str, batch: Batch, model: usize) -> Result<Vec<f64>, Failed> {
        let tensor = Tensor::find(name).ok_or(format!("no tensor {name}"))?;
        let Extent { len, stride } = self.extent(tensor, batch);
        let (home, place) = self.place(tensor, batch);
        let words = &self.memory(home).words()[place.start + model * stride..][..len];
        Ok(words.iter().map(|&word| f64::from(f32::from_bits(word))).collect())
    }

    /// The numbers of a model's moments, first or second, parameter by parameter.
    fn moments(&self, arena: &'static str, model: usize) -> Result<Vec<Vec<f64>>, Failed> {
        let memory = self.memory.get(&(Home::Own(arena), Batch::Train)).ok_or("no moments")?;
        let (mut moments, mut at) = (Vec::new(), 0);
        for parameter in &PARAMETERS {
            let tensor = Tensor::find(parameter.name).ok_or("no such parameter")?;
            let Extent { len, stride } = self.extent(tensor, Batch::Train);
            let words = &memory.words()[at + model * stride..][..len];
            moments.push(words.iter().map(|&word| f64::from(f32::from_bits(word))).collect());
            at += stride * self.layout.models();
        }
        Ok(moments)
    }

    /// The whole arena of parameters or gradients, padding included: the machine zeroes the padding, and AdamW updates it like the rest.
    fn joined(&mut self, home: Home) -> Result<Memory, Failed> {
        let mut words = Vec::new();
        for tensor in self.tensors_of(home) {
            let (Extent { len, stride }, models) = (self.extent(tensor, Batch::Train), self.layout.models());
            let (at, place) = self.place(tensor, Batch::Train);
            let memory = self.memory(at);
            for first in (0..models).map(|model| place.start + model * stride) {
                let unwritten = memory.unwritten(first..first + len);
                require!(unwritten == 0, "{unwritten} elements of {} are not written", tensor.name);
            }
            words.extend_from_slice(&memory.words()[place]);
        }
        let mut memory = Memory::new(words.len());
        memory.write(0, &words);
        Ok(memory)
    }

    /// Puts the words of [`Host::joined`] back, those of tensors alone.
    fn part(&mut self, home: Home, joined: &Memory) {
        for tensor in self.tensors_of(home) {
            let (Extent { len, stride }, models) = (self.extent(tensor, Batch::Train), self.layout.models());
            let (at, place) = self.place(tensor, Batch::Train);
            for first in (0..models).map(|model| place.start + model * stride) {
                self.memory(at).write(first, &joined.words()[first..first + len]);
            }
        }
    }

    /// Runs one dispatch.
    fn run(&mut self, calls: &[Call], group: &[usize], batch: Batch) -> Result<Vec<Fault>, Failed> {
        let planned = plan(&self.kernels, calls, group, &self.layout, batch, &self.homes, u32::MAX)?;
        let mut buffers = Buffers::new();
        for (binding, source) in planned.entry.bindings.iter().zip(&planned.sources) {
            let memory = match source {
                Source::Words(_, words) => {
                    let mut memory = Memory::new(words.len());
                    memory.write(0, words);
                    memory
                }
                Source::Spare(_) => Memory::new(BLOCK),
                Source::Whole(home) => self.memory(of_batch(*home, batch)).clone(),
                Source::Tensor(tensor) => match self.place(tensor, batch) {
                    ((home, _), _) if tensor.role == Role::Arena && matches!(home, Home::Params | Home::Grads) => {
                        match is_arena(calls, group) {
                            true => self.joined(home)?,
                            // Copies know where parameters lie.
                            false => self.memory((home, Batch::Train)).clone(),
                        }
                    }
                    (at, _) if matches!(tensor.role, Role::Arena | Role::Layout) => self.memory(at).clone(),
                    (at, place) => self.memory(at).part(place),
                },
            };
            buffers.insert(binding.name.clone(), memory);
        }
        let overrides = planned.kernel.overrides(&planned.constants)?;
        let dispatch =
            Dispatch { entry: planned.name, overrides: &overrides, workgroups: planned.workgroups, subgroup: SUBGROUP };
        let shader = &self.shaders[&planned.kernel.stem[..]];
        let faults = shader.run(&dispatch, &mut buffers)?;
        for (binding, source) in planned.entry.bindings.iter().zip(&planned.sources).filter(|(b, _)| b.writes) {
            let memory = buffers.remove(&binding.name).ok_or("a buffer is gone")?;
            match source {
                Source::Words(..) | Source::Spare(_) => {}
                Source::Whole(home) => *self.memory(of_batch(*home, batch)) = memory,
                Source::Tensor(tensor) => match self.place(tensor, batch) {
                    ((home, _), _) if tensor.role == Role::Arena && matches!(home, Home::Params | Home::Grads) => {
                        match is_arena(calls, group) {
                            true => self.part(home, &memory),
                            false => *self.memory((home, Batch::Train)) = memory,
                        }
                    }
                    (at, _) if tensor.role == Role::Arena => *self.memory(at) = memory,
                    (at, place) => self.memory(at).put(place.start, memory),
                },
            }
        }
        Ok(faults)
    }

    /// A training step and an evaluation, each from weights and indices alone; faults until a dispatch has some.
    fn run_all(&mut self, program: &Program) -> Result<Vec<Fault>, Failed> {
        let faults = self.run_calls(program.step(), Batch::Train)?;
        if faults.is_empty() { self.run_calls(program.evaluation(), Batch::Grid) } else { Ok(faults) }
    }

    fn run_calls<'c>(&mut self, calls: impl Iterator<Item = &'c Call>, batch: Batch) -> Result<Vec<Fault>, Failed> {
        self.forget();
        let calls: Vec<Call> = calls.cloned().collect();
        for group in groups(&self.kernels, &calls, &self.layout.sizes(batch))? {
            let faults = self.run(&calls, &group, batch)?;
            if !faults.is_empty() {
                return Ok(faults);
            }
        }
        Ok(Vec::new())
    }

    /// Takes what an earlier step made as not written: nothing may rest on it.
    fn forget(&mut self) {
        let made = |home: &Home| match home {
            Home::Params => false,
            Home::Grads | Home::Arena(_) => true,
            Home::Own(name) => Tensor::find(name).is_some_and(|tensor| tensor.role == Role::Activation),
        };
        self.memory.iter_mut().filter(|((home, _), _)| made(home)).for_each(|(_, memory)| memory.forget());
    }
}

/// Whether a dispatch works on whole arenas, padding included.
fn is_arena(calls: &[Call], group: &[usize]) -> bool {
    group.iter().any(|&place| calls[place].over.is_arena())
}

/// The buffer of a batch.
fn of_batch(home: Home, batch: Batch) -> (Home, Batch) {
    match home {
        Home::Own(name) => (home, Tensor::find(name).map_or(Batch::Train, |tensor| key(tensor, batch).1)),
        _ => (home, Batch::Train),
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn states(shape: &Shape, models: usize) -> Vec<State<f32>> {
    (0..models as u64).map(|seed| State::fresh(initial_weights("paper", seed, shape))).collect()
}

fn stays_in_bounds(
    program: impl Fn() -> Result<(Program, Plan), Failed>,
    family: Family,
    shape: Shape,
    rows: &[usize],
) -> Outcome {
    let (kernels, (program, how)) = (shaders::kernels()?, program()?);
    let states = states(&shape, rows.len());
    let mut host = Host::new(kernels, family, layout(shape, rows), &program, &states, &how)?;
    let faults = host.run_all(&program)?;
    let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
    require!(told.is_empty(), "{}", told.join("\n"));
    // Numbers of other methods are compared on the adapter.
    if how.method() != Method::default() {
        return Ok(());
    }
    // The interpreter did the step, and did it right.
    let mut twin = OnCpu::<f64>::new(&program, layout(shape, rows), 1)?;
    for (model, state) in states.iter().enumerate() {
        let wide = state.weights.map(|&x| f64::from(x));
        twin.write_state(model, &State::fresh(wide));
    }
    let update: Update = preset("default")?.update(3);
    twin.steps(&vec![vec![update.rounded()]; rows.len()]);
    twin.evaluate();
    for model in 0..rows.len() {
        let expected = twin.read_state(model);
        let [first, second] = [host.moments("exp_avg", model)?, host.moments("exp_avg_sq", model)?];
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            // After a first step, a tenth of the gradient, and its square by 1 - beta2.
            let wanted = &expected.exp_avg.tensors[rank];
            near(&format!("exp_avg of {}", parameter.name), &first[rank], wanted, |_| 1e-6)?;
            let squares = &expected.exp_avg_sq.tensors[rank];
            near(&format!("exp_avg_sq of {}", parameter.name), &second[rank], squares, |i| 1e-9 + 1e-3 * squares[i])?;
            // A first step is the sign of its gradient, unless that is near zero.
            let slack = |i: usize| if wanted[i].abs() < 1e-6 { 2.0 * update.step_size.abs() } else { 1e-4 };
            let got = host.numbers(parameter.name, Batch::Train, model)?;
            near(parameter.name, &got, &expected.weights.tensors[rank], slack)?;
        }
        for name in ["row_loss", "row_correct"] {
            let got = host.numbers(name, Batch::Grid, model)?;
            near(name, &got, twin.tensor(model, name, Batch::Grid), |_| 1e-4)?;
        }
    }
    Ok(())
}

/// An evaluation that forms no products of its weights does not get by with those of the step before.
fn stale() -> Outcome {
    let (kernels, program, shape, rows) = (shaders::kernels()?, by_name("composed")?, shape(5, 8, 2, 40), [20, 11]);
    let (family, states) = (Family::Wide(None), states(&shape, rows.len()));
    let mut host = Host::new(kernels, family, layout(shape, &rows), &program, &states, &preset("default")?)?;
    require!(host.run_calls(program.step(), Batch::Train)?.is_empty(), "the step has faults");
    let without = program.evaluation().filter(|call| call.kernel != "copy");
    let faults = host.run_calls(without, Batch::Grid)?;
    let found = faults.iter().any(|fault| fault.kind == Kind::NeverWritten);
    require!(found, "not found: {:?}", faults.iter().map(Fault::to_string).collect::<Vec<_>>());
    Ok(())
}

fn near(name: &str, got: &[f64], want: &[f64], slack: impl Fn(usize) -> f64) -> Outcome {
    require!(got.len() == want.len(), "{name}: {} numbers, the twin has {}", got.len(), want.len());
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        require!((got - want).abs() <= slack(i), "{name} at {i}: {got}, twin {want}");
    }
    Ok(())
}

fn planted_faults_are_found() -> Outcome {
    let real = shaders::kernels()?;
    let (shape, rows) = (shape(5, 8, 2, 40), [20, 11]);
    let mut missed = Vec::new();
    for fault in PLANTED {
        let mut kernels = shaders::kernels()?.to_vec();
        let at = kernels.iter().position(|kernel| kernel.stem == fault.shader).ok_or("no such shader")?;
        let source = &real[at].source;
        require!(source.contains(fault.from), "{}: the shader has no {:?}", fault.name, fault.from);
        kernels[at] = Kernel::new(fault.shader, &source.replacen(fault.from, fault.to, 1), "")?;
        let (program, family) = match fault.program.strip_suffix(" in subgroups") {
            Some(program) => (by_name(program)?, Family::SoftwareEights),
            None if fault.shader.ends_with("_software") => (by_name(fault.program)?, Family::Software),
            None => (by_name(fault.program)?, Family::Wide(Some(TILES[0]))),
        };
        let states = states(&shape, rows.len());
        let mut host = Host::new(&kernels, family, layout(shape, &rows), &program, &states, &preset("default")?)?;
        let faults = host.run_all(&program)?;
        let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let file = format!("shaders/{}.wgsl", fault.shader);
        if !faults.iter().any(|found| found.kind == fault.kind && found.shader == file) {
            missed.push(format!("{} (expected {:?}): {told:?}", fault.name, fault.kind));
        }
    }
    require!(missed.is_empty(), "not found: {}", missed.join("\n"));
    Ok(())
}
