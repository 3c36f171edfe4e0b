//! Every kernel of both programs under the sanitizer: a training step and an evaluation of two models, at small and odd shapes.
//!
//! What the host writes is written, everything else is not; between a model's part of a tensor and the next lies a fence. So a kernel
//! that reads a row too many, that leaves a gap, that forgets a barrier, or whose invocations overlap is found at the line that does it.
//! `planted_faults_are_found` holds that it is.

use crate::kernels::{methods, with_method};
use crate::support::{Outcome, layout, require, shape, test};
use grokscope::gpu::kernel::{Element, Kernel};
use grokscope::method::Method;
use grokscope::model::{NOTHING_BAD, PARAMETERS, Role, Tensor, initial_weights};
use grokscope::plan::{Plan, Shape, Update, preset};
use grokscope::program::batch::{Batch, Key, Layout, key};
use grokscope::program::dispatches::{Extent, block_owner, extent, plan, record, tensor_edges, variants};
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::{Call, Program, State, by_name};
use grokscope::sanitizer::{Buffers, Dispatch, Fault, Kind, Memory, Shader};
use grokscope::shaders;
use libtest_mimic::{Failed, Trial};
use std::collections::HashMap;

/// Subgroups that a device may have where there are variants for eight lanes: eight.
const SUBGROUP: u32 = 8;

pub fn tests() -> Vec<Trial> {
    let mut trials = vec![test("planted_faults_are_found", planted_faults_are_found)];
    trials.push(test("what_an_earlier_step_left_counts_as_not_written", stale));
    for (program, eights) in [("layered", false), ("composed", false), ("composed", true)] {
        for (shape, rows) in shapes() {
            let variant = if eights { "_in_subgroups" } else { "" };
            let name =
                format!("kernels_stay_in_bounds_{program}{variant}_p{}_d{}_rows{rows:?}", shape.p, shape.d_model);
            let program = move || Ok((by_name(program)?, preset("default")?));
            trials.push(Trial::test(name, move || stays_in_bounds(program, eights, shape, rows)));
        }
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
            trials.push(Trial::test(name, move || stays_in_bounds(program, false, shape, rows)));
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

/// Runs the calls of a program in order, as `OnGpu` does.
struct Host<'a> {
    kernels: Vec<&'a Kernel>,
    shaders: HashMap<&'a str, Shader>,
    layout: Layout,
    memory: HashMap<Key, Memory>,
    /// Words of an update.
    record: usize,
}

const ARENAS: [&str; 5] = ["params", "grads", "exp_avg", "exp_avg_sq", "grad_memory"];

impl<'a> Host<'a> {
    fn new(
        kernels: &'a [Kernel],
        eights: bool,
        layout: Layout,
        states: &[State<f32>],
        how: &Plan,
    ) -> Result<Self, Failed> {
        let update = record(kernels)?;
        let kernels = variants(kernels, eights);
        let mut parsed = HashMap::new();
        for kernel in &kernels {
            parsed.insert(&kernel.stem[..], Shader::new(&format!("shaders/{}.wgsl", kernel.stem), &kernel.source)?);
        }
        let record = (update.stride / 4) as usize;
        let mut host = Self { kernels, shaders: parsed, layout, memory: HashMap::new(), record };
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
        let copies = how.method().filter.copies();
        for (arena, copies) in [("exp_avg", 1), ("exp_avg_sq", 1), ("grad_memory", copies)] {
            let words: Vec<u32> = vec![0; host.arena_words() * copies];
            let mut memory = Memory::new(words.len());
            memory.write(0, &words);
            host.memory.insert((arena, Batch::Train), memory);
        }
        for (name, map) in [("block_owner", block_owner(&host.layout)), ("tensor_edges", tensor_edges(&host.layout))] {
            let mut memory = Memory::new(map.len());
            memory.write(0, &map);
            host.memory.insert((name, Batch::Train), memory);
        }
        Ok(host)
    }

    fn extent(&self, tensor: &Tensor, batch: Batch) -> Extent {
        extent(tensor, &self.layout.sizes(batch), self.record)
    }

    fn arena_words(&self) -> usize {
        let of = |name| self.extent(Tensor::find(name).expect("a parameter"), Batch::Train).stride;
        PARAMETERS.iter().map(|parameter| of(parameter.name) * self.layout.models()).sum()
    }

    /// Memory of a tensor, made when it is first asked for, with fences between its models.
    fn memory(&mut self, tensor: &'static Tensor, batch: Batch) -> &mut Memory {
        let Extent { len, stride } = self.extent(tensor, batch);
        let models = self.layout.models();
        self.memory.entry(key(tensor, batch)).or_insert_with(|| {
            let mut memory = Memory::new(stride * models);
            for model in 0..models {
                memory.fence(model * stride + len..(model + 1) * stride);
            }
            memory
        })
    }

    fn write(&mut self, name: &str, batch: Batch, model: usize, words: &[u32]) -> Result<(), Failed> {
        let tensor = Tensor::find(name).ok_or(format!("no tensor {name}"))?;
        let stride = self.extent(tensor, batch).stride;
        self.memory(tensor, batch).write(model * stride, words);
        Ok(())
    }

    /// The numbers of a model's part.
    fn numbers(&mut self, name: &str, batch: Batch, model: usize) -> Result<Vec<f64>, Failed> {
        let tensor = Tensor::find(name).ok_or(format!("no tensor {name}"))?;
        let Extent { len, stride } = self.extent(tensor, batch);
        let words = &self.memory(tensor, batch).words()[model * stride..][..len];
        Ok(words.iter().map(|&word| f64::from(f32::from_bits(word))).collect())
    }

    /// The numbers of a model's moments, first or second, parameter by parameter.
    fn moments(&self, arena: &'static str, model: usize) -> Result<Vec<Vec<f64>>, Failed> {
        let memory = self.memory.get(&(arena, Batch::Train)).ok_or("no moments")?;
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

    /// The parameters (or gradients) end to end. The machine zeroes what lies between them, and AdamW works on that too.
    fn join(&mut self, arena: &'static str) -> Result<Memory, Failed> {
        let mut words = Vec::new();
        for parameter in &PARAMETERS {
            let name = if arena == "params" { parameter.name } else { parameter.gradient };
            let tensor = Tensor::find(name).ok_or(format!("no tensor {name}"))?;
            let (Extent { len, stride }, models) = (self.extent(tensor, Batch::Train), self.layout.models());
            let memory = self.memory(tensor, Batch::Train);
            for model in 0..models {
                let unwritten = memory.unwritten(model * stride..model * stride + len);
                require!(unwritten == 0, "{unwritten} elements of {name} of model {model} are not written");
            }
            words.extend_from_slice(memory.words());
        }
        let mut memory = Memory::new(words.len());
        memory.write(0, &words);
        Ok(memory)
    }

    /// Puts an arena's words back into the parameters, or the gradients.
    fn part(&mut self, name: &str, arena: &Memory) -> Result<(), Failed> {
        let mut at = 0;
        for parameter in &PARAMETERS {
            let name = if name == "params" { parameter.name } else { parameter.gradient };
            let tensor = Tensor::find(name).ok_or("no such parameter")?;
            let (Extent { len, stride }, models) = (self.extent(tensor, Batch::Train), self.layout.models());
            for model in 0..models {
                let words = &arena.words()[at + model * stride..][..len];
                self.memory(tensor, Batch::Train).write(model * stride, words);
            }
            at += stride * models;
        }
        Ok(())
    }

    fn run(&mut self, call: &Call, batch: Batch) -> Result<Vec<Fault>, Failed> {
        let planned = plan(&self.kernels, call, &self.layout, batch, u32::MAX)?;
        let mut buffers = Buffers::new();
        for (binding, &tensor) in planned.entry.bindings.iter().zip(&planned.tensors) {
            let memory = match (tensor.name, planned.words(tensor.name)) {
                (_, Some(words)) => {
                    let mut memory = Memory::new(words.len());
                    memory.write(0, &words);
                    memory
                }
                ("params" | "grads", None) => self.join(tensor.name)?,
                _ => {
                    let is_arena = ARENAS.contains(&tensor.name);
                    require!(!is_arena || self.memory.contains_key(&key(tensor, batch)), "no arena {}", tensor.name);
                    std::mem::take(self.memory(tensor, batch))
                }
            };
            require!(binding.element != Element::U32 || tensor.role != Role::Parameter, "{} as integers", tensor.name);
            buffers.insert(binding.name.clone(), memory);
        }
        let overrides = planned.kernel.overrides(&planned.constants)?;
        let dispatch =
            Dispatch { entry: call.entry, overrides: &overrides, workgroups: planned.workgroups, subgroup: SUBGROUP };
        let shader = &self.shaders[&planned.kernel.stem[..]];
        let faults = shader.run(&dispatch, &mut buffers)?;
        for (binding, &tensor) in planned.entry.bindings.iter().zip(&planned.tensors) {
            let memory = buffers.remove(&binding.name).ok_or("a buffer is gone")?;
            match tensor.name {
                "params" | "grads" if binding.writes => self.part(tensor.name, &memory)?,
                "params" | "grads" => {}
                name if planned.words(name).is_some() => {}
                _ => *self.memory(tensor, batch) = memory,
            }
        }
        Ok(faults)
    }

    /// A training step and an evaluation, each from weights and indices alone; faults until a call has some.
    fn run_all(&mut self, program: &Program) -> Result<Vec<Fault>, Failed> {
        let faults = self.run_calls(program.step(), Batch::Train)?;
        if faults.is_empty() { self.run_calls(program.evaluation(), Batch::Grid) } else { Ok(faults) }
    }

    fn run_calls<'c>(&mut self, calls: impl Iterator<Item = &'c Call>, batch: Batch) -> Result<Vec<Fault>, Failed> {
        self.forget();
        for call in calls {
            let faults = self.run(call, batch)?;
            if !faults.is_empty() {
                return Ok(faults);
            }
        }
        Ok(Vec::new())
    }

    /// Takes what an earlier step made as not written: nothing may rest on it.
    fn forget(&mut self) {
        let made = |tensor: &Tensor| matches!(tensor.role, Role::Activation | Role::Gradient);
        for ((name, _), memory) in &mut self.memory {
            if Tensor::find(name).is_some_and(made) {
                memory.forget();
            }
        }
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
    eights: bool,
    shape: Shape,
    rows: &[usize],
) -> Outcome {
    let (kernels, (program, how)) = (shaders::kernels()?, program()?);
    let states = states(&shape, rows.len());
    let mut host = Host::new(&kernels, eights, layout(shape, rows), &states, &how)?;
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
    let mut host = Host::new(&kernels, false, layout(shape, &rows), &states(&shape, rows.len()), &preset("default")?)?;
    require!(host.run_calls(program.step(), Batch::Train)?.is_empty(), "the step has faults");
    let without = program.evaluation().filter(|call| call.kernel != "compose");
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

/// A fault: where, what is replaced by what, and what it must be found as. Found means: in that file, of that kind.
struct Planted {
    name: &'static str,
    program: &'static str,
    shader: &'static str,
    from: &'static str,
    to: &'static str,
    kind: Kind,
}

const fn planted(
    name: &'static str,
    [program, shader]: [&'static str; 2],
    [from, to]: [&'static str; 2],
    kind: Kind,
) -> Planted {
    Planted { name, program, shader, from, to, kind }
}

const PLANTED: &[Planted] = &[
    planted(
        "a row too many",
        ["composed", "rows"],
        ["reader >= reader4() || row >= n_rows[model]", "reader >= reader4() || row > n_rows[model]"],
        Kind::NeverWritten,
    ),
    planted(
        "a slot too many",
        ["composed", "slots"],
        [
            "if (column >= model4() || slot > slot_equals()) { return; }\n    let i =",
            "if (column >= model4()) { return; }\n    let i =",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "no barrier before the tile is read",
        ["composed", "product"],
        ["[row] = a3;\n    workgroupBarrier();", "[row] = a3;"],
        Kind::Race,
    ),
    planted(
        "no barrier before the tile is written again",
        ["composed", "product"],
        ["workgroupBarrier();\n    tile[first][row] = a0;", "tile[first][row] = a0;"],
        Kind::Race,
    ),
    planted(
        "part of the tile is not filled",
        ["composed", "product"],
        ["tile[first + 4u][row] = a2;", ""],
        Kind::NeverWritten,
    ),
    planted(
        "the tile is too small",
        ["composed", "product"],
        ["array<array<vec4<f32>, TILE_ROWS>, 8>", "array<array<vec4<f32>, TILE_ROWS>, 7>"],
        Kind::OutOfBounds,
    ),
    planted(
        "two heads write one place",
        ["composed", "slots"],
        ["+ head * D_MODEL * D_HEAD; }", "+ head * D_MODEL; }"],
        Kind::Race,
    ),
    planted(
        "neighbours overlap",
        ["composed", "adamw"],
        ["let i = block * BLOCK + lane;", "let i = block * BLOCK + lane / 2u;"],
        Kind::Race,
    ),
    planted(
        "beyond the end of an arena",
        ["composed", "adamw"],
        ["let i = block * BLOCK + lane;", "let i = block * BLOCK + lane + 1u;"],
        Kind::OutOfBounds,
    ),
    planted(
        "a class too many",
        ["layered", "loss"],
        [
            "for (var c = 0u; c < D_VOCAB_OUT; c++) {\n        d_logits",
            "for (var c = 0u; c <= D_VOCAB_OUT; c++) {\n        d_logits",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "rows of another slot",
        ["composed", "rows"],
        ["i < slot_edges[edges + 1u]; i++", "i < slot_edges[edges + 2u] + 1u; i++"],
        Kind::OutOfBounds,
    ),
    planted(
        "a part of the output is left out",
        ["composed", "slots"],
        [
            "d_slot_score[score_at(model, slot) + head] = sum;",
            "if (slot != 0u) { d_slot_score[score_at(model, slot) + head] = sum; }",
        ],
        Kind::NeverWritten,
    ),
    planted(
        "the next model's part",
        ["composed", "rows"],
        ["let weights = pattern_at(model, row);", "let weights = pattern_at(model + 1u, row);"],
        Kind::OutOfBounds,
    ),
    planted(
        "a barrier in one half of the lanes",
        ["composed", "dots"],
        [
            "    let edges = part(model, 2u * P + 2u) + slot;",
            "    if (lane < 32u) { workgroupBarrier(); }\n    let edges = part(model, 2u * P + 2u) + slot;",
        ],
        Kind::DivergentBarrier,
    ),
    planted(
        "a component that a vector does not have",
        ["composed", "slots"],
        ["sum += resid4[equals + i / 4u][i % 4u] * W_Q", "sum += resid4[equals + i / 4u][i % 5u] * W_Q"],
        Kind::OutOfBounds,
    ),
    planted(
        "division by zero",
        ["composed", "slots"],
        ["return slot / P; }", "return slot / (slot - slot); }"],
        Kind::DivisionByZero,
    ),
    planted(
        "a lane that there is not",
        ["composed in subgroups", "dots_subgroup"],
        ["subgroupBroadcast(lines, 7u)", "subgroupBroadcast(lines, 8u)"],
        Kind::InactiveLane,
    ),
    planted(
        "rows of A beyond the edge",
        ["composed in subgroups", "product_subgroup"],
        [
            "min(vec4(at.i + 4u * lane) + vec4(0u, 1u, 2u, 3u), vec4(at.rows - 1u))",
            "(vec4(at.i + 4u * lane) + vec4(0u, 1u, 2u, 3u))",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "two lanes write components of one vector",
        ["composed", "compose"],
        [
            "    W_read[read_at(model) + i * reader4() + reader] = weights;",
            "    let at = read_at(model) + i * reader4() + reader;
    W_read[at].x = weights.x; W_read[at].y = weights.y; W_read[at].z = weights.z;
    if (reader + 1u < reader4()) { W_read[at + 1u].w = weights.w; }",
        ],
        Kind::Race,
    ),
    planted(
        "a loop that stands still",
        ["layered", "loss"],
        ["for (var c = 1u; c < D_VOCAB_OUT; c++)", "for (var c = 1u; c < D_VOCAB_OUT; c += 0u)"],
        Kind::Endless,
    ),
];

fn planted_faults_are_found() -> Outcome {
    let real = shaders::kernels()?;
    let (shape, rows) = (shape(5, 8, 2, 40), [20, 11]);
    let mut missed = Vec::new();
    for fault in PLANTED {
        let mut kernels = shaders::kernels()?;
        let at = kernels.iter().position(|kernel| kernel.stem == fault.shader).ok_or("no such shader")?;
        let source = &real[at].source;
        require!(source.contains(fault.from), "{}: the shader has no {:?}", fault.name, fault.from);
        kernels[at] = Kernel::new(fault.shader, &source.replacen(fault.from, fault.to, 1), "")?;
        let (program, eights) = match fault.program.strip_suffix(" in subgroups") {
            Some(program) => (by_name(program)?, true),
            None => (by_name(fault.program)?, false),
        };
        let mut host =
            Host::new(&kernels, eights, layout(shape, &rows), &states(&shape, rows.len()), &preset("default")?)?;
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
