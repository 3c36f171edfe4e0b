//! Every kernel against its twin in f64: on random tensors, at sizes below and above each tile, for one model and
//! three with different numbers of rows, with sentinels in all memory that no tensor owns.

use crate::support::{Outcome, gpu, layout, normals, require, shape, test};
use grokscope::gpu::kernel::Kernel;
use grokscope::gpu::tensors::{Window, read};
use grokscope::method::{Filter, Loss, Method, Optimizer};
use grokscope::model::{CHUNK, PARAMETERS, Role, Sizes, Tensor};
use grokscope::plan::{Plan, Shape, Update};
use grokscope::program::batch::{Batch, Layout};
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{Call, Program, State, composed, layered};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeMap;

/// A NaN with a mark of the tensor's own: it spoils what reads it, and shows what was written over it, be it another's NaN.
fn sentinel(tensor: usize) -> u32 {
    0x7fc0_dead ^ ((tensor as u32 + 1) << 16 & 0x3f_0000)
}
const EPS: f64 = f32::EPSILON as f64;

/// p, d_model, heads, d_mlp, rows of each model. A workgroup covers 16 or 64 rows by 64 columns, a tile 4 by 4.
pub const CASES: &[(usize, usize, usize, usize, &[usize])] = &[
    (3, 1, 1, 1, &[1]),
    (3, 2, 1, 3, &[9]),
    (5, 6, 2, 7, &[9, 25, 4]),
    (7, 8, 8, 16, &[20]),
    (7, 12, 3, 20, &[30, 1, 49]),
    (13, 24, 3, 40, &[101]),
    (17, 68, 4, 130, &[70, 67, 289]),
    // The mutants' shapes: more than one chunk of rows, just one chunk, more than four heads.
    (7, 10, 2, 19, &[30, 1, 49]),
    (7, 10, 5, 19, &[30, 1, 49]),
    (25, 10, 2, 23, &[600, 1, 49]),
    (25, 10, 2, 23, &[CHUNK, 1, 49]),
];

pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (p, d_model, n_heads, d_mlp, rows) in CASES {
        let name = format!("kernels_agree_with_their_twins_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}_rows{rows:?}");
        let mut shape = shape(*p, *d_model, *n_heads, *d_mlp);
        trials.push(Trial::test(name, move || {
            // Half of the shapes have a class for "=", as the paper's code does.
            shape.d_vocab_out += shape.d_mlp % 2;
            let kernels = grokscope::shaders::kernels()?;
            both(&kernels, shape, rows)
        }));
    }
    for seed in 0..4 {
        let (shape, rows) = random_case(seed);
        let name = format!(
            "kernels_agree_with_their_twins_at_random_p{}_d{}_h{}_m{}_c{}_rows{rows:?}",
            shape.p, shape.d_model, shape.n_heads, shape.d_mlp, shape.d_vocab_out
        );
        trials.push(Trial::test(name, move || both(&grokscope::shaders::kernels()?, shape, &rows)));
    }
    for (p, d_model, n_heads, d_mlp, rows) in CASES {
        let name = format!("kernels_without_subgroups_agree_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}_rows{rows:?}");
        let shape = shape(*p, *d_model, *n_heads, *d_mlp);
        trials.push(Trial::test(name, move || {
            let kernels = without_subgroups(grokscope::shaders::kernels()?);
            let has_variant = |call: &Call| ["product", "dots"].contains(&call.kernel);
            compare(&kernels, &composed::program(), shape, rows, has_variant)
        }));
    }
    for name in ["adamw"].into_iter().chain(methods().map(|(name, _)| name)) {
        trials.push(Trial::test(format!("updates_agree_with_their_twins_{name}"), move || {
            let kernels = grokscope::shaders::kernels()?;
            // Neurons fewer than d_model, and more.
            updates(&kernels, shape(7, 12, 3, 20), &[30, 1, 49], name)?;
            updates(&kernels, shape(5, 12, 2, 9), &[25], name)
        }));
    }
    // More blocks than a dispatch has workgroups along one dimension.
    trials.push(test("adamw_agrees_where_blocks_are_folded", || {
        updates(&grokscope::shaders::kernels()?, shape(3, 1, 1, 1), &[1; 6100], "adamw")
    }));
    for (name, method) in
        methods().into_iter().filter(|(_, method)| layered::program().taught(method).step().any(is_of_method))
    {
        for (p, d_model, n_heads, d_mlp, rows) in [(7, 12, 3, 20, &[30, 1, 49][..]), (5, 10, 1, 7, &[25])] {
            let name = format!("kernels_of_{name}_agree_with_their_twins_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}");
            let shape = shape(p, d_model, n_heads, d_mlp);
            trials.push(Trial::test(name, move || {
                let kernels = grokscope::shaders::kernels()?;
                compare(&kernels, &layered::program().taught(&method), shape, rows, is_of_method)?;
                compare(&kernels, &composed::program().taught(&method), shape, rows, is_of_method)
            }));
        }
    }
    trials
}

/// A shape drawn from a seed, the same on every machine.
fn random_case(seed: u64) -> (Shape, Vec<usize>) {
    let draws = grokscope::random::Philox::new(seed);
    let draw = |i: u32, range: std::ops::RangeInclusive<usize>| {
        range.start() + draws.block([i, 0, 0, 9])[0] as usize % (range.end() - range.start() + 1)
    };
    let (p, n_heads) = (draw(0, 3..=23), draw(1, 1..=5));
    let shape = shape(p, n_heads * draw(2, 1..=17), n_heads, draw(3, 1..=90));
    let models = if seed.is_multiple_of(2) { 1 } else { 3 };
    let rows = (0..models).map(|k| draw(10 + k, 1..=p * p)).collect();
    (Shape { d_vocab_out: p + draw(4, 0..=1), ..shape }, rows)
}

/// Every call of both programs.
fn both(kernels: &[Kernel], shape: Shape, rows: &[usize]) -> Outcome {
    compare(kernels, &layered::program(), shape, rows, |_| true)?;
    compare(kernels, &composed::program(), shape, rows, |_| true)
}

/// Whether a call belongs to those that [`updates`] tries one after the other.
fn of_update(call: &Call) -> bool {
    call.over.is_arena() || call.entry == "tick"
}

/// Whether a call is there for a way to teach alone, and no part of an update: another loss, Muon's matrices.
pub fn is_of_method(call: &Call) -> bool {
    let same = |other: &Call| (other.kernel, other.entry) == (call.kernel, call.entry);
    !of_update(call) && ![layered::program(), composed::program()].iter().any(|program| program.step().any(same))
}

/// Every way to teach, one at a time.
pub fn methods() -> [(&'static str, Method); 7] {
    let with = |change: fn(&mut Method)| {
        let mut method = Method::default();
        change(&mut method);
        method
    };
    [
        ("adam", with(|method| method.optimizer = Optimizer::Adam)),
        ("sgd", with(|method| method.optimizer = Optimizer::Sgd)),
        ("muon", with(|method| method.optimizer = Optimizer::Muon)),
        ("ema", with(|method| method.filter = Filter::Ema)),
        ("ma", with(|method| method.filter = Filter::Ma { window: 2 })),
        ("orthogonal", with(|method| method.orthogonal = true)),
        ("stablemax", with(|method| method.loss = Loss::StableMax)),
    ]
}

/// The same as a plan says it.
pub fn with_method(plan: &mut Plan, name: &str) {
    match name {
        "ema" | "ma" => plan.grokfast = name.into(),
        "orthogonal" => plan.orthogonal_grad = true,
        "stablemax" => plan.loss = name.into(),
        optimizer => plan.optimizer = optimizer.into(),
    }
    plan.grokfast_window = 2;
}

/// The kernels that a device without subgroups gets.
pub fn without_subgroups(kernels: Vec<Kernel>) -> Vec<Kernel> {
    kernels.into_iter().filter(|kernel| !kernel.stem.ends_with("_subgroup")).collect()
}

type Tensors = BTreeMap<&'static str, Vec<Vec<f32>>>;

/// Runs each call of the training step that `chosen` picks on both machines, from the same random tensors.
pub fn compare(
    kernels: &[Kernel],
    program: &Program,
    shape: Shape,
    rows: &[usize],
    chosen: impl Fn(&Call) -> bool,
) -> Outcome {
    let machine = pollster::block_on(OnGpu::new(gpu()?, kernels, program, layout(shape, rows)))?;
    let layout = layout(shape, rows);
    let step = program.step().enumerate().map(|(index, call)| (Batch::Train, index, call));
    let evaluation = program.evaluation().enumerate().map(|(index, call)| (Batch::Grid, index, call));
    for (batch, index, call) in step.chain(evaluation) {
        if of_update(call) || !chosen(call) {
            continue;
        }
        let case = Case { program, layout: &layout, batch, index, call };
        let inputs = random_tensors(&machine, &case);
        compare_one(&machine, &case, &inputs)
            .map_err(|e| Failed::from(format!("{}.{}: {}", call.kernel, call.entry, e.message().unwrap_or("?"))))?;
    }
    Ok(())
}

/// One call on one batch.
#[derive(Clone, Copy)]
struct Case<'a> {
    program: &'a Program,
    layout: &'a Layout,
    batch: Batch,
    index: usize,
    call: &'a Call,
}

impl Case<'_> {
    fn models(&self) -> usize {
        self.layout.models()
    }

    /// Elements of a tensor that a model owns.
    fn own(&self, tensor: &Tensor, model: usize) -> usize {
        tensor.len(&Sizes { shape: self.layout.shape, rows: self.layout.of(self.batch)[model].len() })
    }
}

/// The float tensors of a batch, arenas by their parts.
fn floats(machine: &OnGpu, batch: Batch) -> Vec<(&'static Tensor, &Window)> {
    let is_float = |role| matches!(role, Role::Parameter | Role::Gradient | Role::Activation);
    let mut list: Vec<_> = (machine.tensors())
        .filter_map(|(name, of, window)| Some((Tensor::find(name)?, of, window)))
        .filter(|(tensor, of, _)| is_float(tensor.role) && (*of == batch || !tensor.per_batch()))
        .map(|(tensor, _, window)| (tensor, window))
        .collect();
    list.sort_by_key(|(tensor, _)| tensor.name);
    list
}

fn random_tensors(machine: &OnGpu, case: &Case) -> Tensors {
    let mut tensors = Tensors::new();
    for (stream, (tensor, _)) in floats(machine, case.batch).into_iter().enumerate() {
        let of_model = |model: usize| {
            let mut values = normals((case.index * 100 + model) as u64, stream as u32, case.own(tensor, model));
            if tensor.name == "pattern" {
                values.chunks_exact_mut(3).for_each(normalize);
            }
            // The kink of relu, where the gradient is 0.
            if tensor.name == "pre" || tensor.name == "post4" {
                values.iter_mut().step_by(7).for_each(|x| *x = 0.0);
            }
            // Scores of some hundreds, and logits that far apart: what is not shifted overflows.
            if model == 1 && ["q", "slot_score", "logits", "logits4"].contains(&tensor.name) {
                values.iter_mut().for_each(|x| *x *= 100.0);
            }
            // Logits of which several are the largest.
            if model == 2 && ["logits", "logits4"].contains(&tensor.name) {
                values.iter_mut().for_each(|x| *x = x.round());
            }
            values
        };
        tensors.insert(tensor.name, (0..case.models()).map(of_model).collect());
    }
    tensors
}

/// Three positive weights that sum to 1.
fn normalize(weights: &mut [f32]) {
    let total: f32 = weights.iter().map(|w| w.abs()).sum();
    weights.iter_mut().for_each(|w| *w = w.abs() / total);
}

fn compare_one(machine: &OnGpu, case: &Case, inputs: &Tensors) -> Outcome {
    let windows = floats(machine, case.batch);
    let mut before = Vec::new();
    for (k, (tensor, window)) in windows.iter().enumerate() {
        let mut memory = vec![sentinel(k); (window.bytes / 4) as usize];
        for (model, values) in inputs[tensor.name].iter().enumerate() {
            for (place, value) in memory[model * window.stride..].iter_mut().zip(values) {
                *place = value.to_bits();
            }
        }
        machine.gpu.queue.write_buffer(&window.buffer, window.offset, bytemuck::cast_slice(&memory));
        before.push(memory);
    }
    let updates = vec![vec![Update::default()]; case.models()];
    pollster::block_on(machine.run_some(case.batch, &[case.index], &updates))?;
    let list: Vec<&Window> = windows.iter().map(|(_, window)| *window).collect();
    let after = pollster::block_on(read(&machine.gpu, &list))?;

    let twin = grokscope::cpu::twin_of::<f64>(case.call.kernel, case.call.entry).ok_or("no twin")?;
    let expected = on_twin(case, inputs, |_, _, x| f64::from(x))?;
    let tolerances = Tolerance { case, inputs };
    for (((tensor, window), before), after) in windows.iter().zip(&before).zip(&after) {
        for model in 0..case.models() {
            let start = model * window.stride;
            let own = case.own(tensor, model);
            let written = twin.writes.iter().any(|name| case.call.tensor(name) == tensor.name);
            if written {
                let tolerance = tolerances.of(tensor.name, model, &expected)?;
                for i in 0..own {
                    let (got, want) =
                        (f32::from_bits(after[start + i]) as f64, expected.tensor(model, tensor.name, case.batch)[i]);
                    require!(
                        (got - want).abs() <= tolerance[i],
                        "{} of model {model} at {i}: {got:e}, twin {want:e}, {} times the tolerance",
                        tensor.name,
                        (got - want).abs() / tolerance[i]
                    );
                }
            }
            let next = if model + 1 == case.models() { after.len() } else { start + window.stride };
            let kept = start + if written { own } else { 0 };
            if let Some(at) = (kept..next).find(|&at| before[at] != after[at]) {
                return Err(format!(
                    "wrote {} of model {model} at {}, of which it has {own} elements{}",
                    tensor.name,
                    at - start,
                    if written { "" } else { " and which it should only read" }
                )
                .into());
            }
        }
    }
    Ok(())
}

/// The twin's machine after the same call, its tensors set to `f(tensor, index, value)` of the inputs.
fn on_twin(case: &Case, inputs: &Tensors, f: impl Fn(&str, usize, f32) -> f64) -> Result<OnCpu<f64>, Failed> {
    let rows: Vec<usize> = case.layout.train.iter().map(|rows| rows.len()).collect();
    let mut machine = OnCpu::<f64>::new(case.program, layout(case.layout.shape, &rows), 1)?;
    for (name, models) in inputs {
        for (model, values) in models.iter().enumerate() {
            *machine.tensor_mut(model, name, case.batch) =
                values.iter().enumerate().map(|(i, &x)| f(name, i, x)).collect();
        }
    }
    machine.run_some(case.batch, &[case.index], &vec![vec![Update::default()]; case.models()]);
    Ok(machine)
}

struct Tolerance<'a> {
    case: &'a Case<'a>,
    inputs: &'a Tensors,
}

impl Tolerance<'_> {
    /// What float32 may err by, element by element.
    ///
    /// A sum of n products errs by at most (n + 1) eps sum |terms|. A linear kernel of the absolute values gives just
    /// those sums. The others have bounds of their own.
    fn of(&self, name: &'static str, model: usize, expected: &OnCpu<f64>) -> Result<Vec<f64>, Failed> {
        let shape = self.case.layout.shape;
        let value = |name: &'static str| expected.tensor(model, name, self.case.batch);
        match (self.case.call.kernel, self.case.call.entry) {
            // exp may err by (3 + 2 |x|) eps, its argument by that of the scores; the quotient doubles it.
            ("attention", "forward_pattern") => {
                let top = self.score_sizes(model, expected);
                let relative = |row_head: usize| EPS * (16.0 + 4.0 * (shape.d_head() as f64 + 4.0) * top[row_head]);
                Ok(value(name)
                    .iter()
                    .enumerate()
                    .map(|(i, a)| a * relative(i / 3) + f64::from(f32::MIN_POSITIVE))
                    .collect())
            }
            // pattern (d_pattern - mean): both terms err by (d_head + 4) eps of their absolute sums.
            ("attention", "backward_pattern") => {
                let abs = self.absolute()?;
                let positive = |name: &'static str| abs.tensor(model, name, self.case.batch);
                let (d, e, heads) = (shape.d_model, shape.d_head(), shape.n_heads);
                let slots = &self.case.layout.of(self.case.batch)[model].slots;
                let size = |row: usize, head: usize, pos: usize| {
                    let slot = slots[row * 3 + pos] as usize;
                    let (dz, v) = (&positive("d_z")[row * d + head * e..], &positive("v")[slot * d + head * e..]);
                    (0..e).map(|i| dz[i] * v[i]).sum::<f64>()
                };
                let bound = |(i, a): (usize, &f64)| {
                    let (row, head) = (i / 3 / heads, i / 3 % heads);
                    let largest = (0..3).map(|pos| size(row, head, pos)).fold(0.0, f64::max);
                    2.0 * a * largest * EPS * (e as f64 + 8.0)
                };
                Ok(value("pattern").iter().enumerate().map(bound).collect())
            }
            // The same with scores that are given.
            ("rows", "forward_pattern") => {
                let scores = expected.tensor(model, "slot_score", self.case.batch);
                let top = scores.iter().fold(0.0f64, |top, score| top.max(score.abs()));
                let relative = EPS * (16.0 + 4.0 * top);
                Ok(value(name).iter().map(|a| a * relative + f64::from(f32::MIN_POSITIVE)).collect())
            }
            // pattern (d_pattern - mean), both of which are given.
            ("rows", "backward_pattern") => {
                let d = expected.tensor(model, "d_pattern", self.case.batch);
                let largest = |i: usize| d[i / 3 * 3..][..3].iter().fold(0.0f64, |most, d| most.max(d.abs()));
                Ok(value("pattern").iter().enumerate().map(|(i, a)| 16.0 * EPS * a * largest(i)).collect())
            }
            // What the loss must keep (NUMERICS): 1e-5 of each value. Far below, exp may err by (3 + 2 |x|) eps.
            ("loss" | "stablemax", _) => {
                let relative = |x: f64| if x >= 1e-15 { 1e-5 } else { 1e-4 };
                // log1p halves its argument, and devices may take a subnormal number as 0.
                let least = 2.0 * f64::from(f32::MIN_POSITIVE);
                Ok(value(name).iter().map(|x| relative(x.abs()) * x.abs() + least).collect())
            }
            // B G + C G G, where B is negative; and a quotient.
            ("orthonormal", "poly") => {
                let (abs, n) = (self.absolute()?, shape.d_model.max(shape.d_mlp) as f64);
                let (sums, gram) =
                    (abs.tensor(model, name, self.case.batch), abs.tensor(model, "muon_gram", self.case.batch));
                Ok(sums.iter().zip(gram).map(|(sum, g)| (n + 4.0) * EPS * (sum.abs() + 10.0 * g)).collect())
            }
            ("orthonormal", "normalize") => {
                let n = (shape.d_model * shape.d_mlp) as f64;
                Ok(value(name).iter().map(|x| (n + 4.0) * EPS * x.abs()).collect())
            }
            _ => {
                let longest = [
                    shape.d_model,
                    shape.d_mlp,
                    shape.d_vocab_out,
                    // Neurons and classes, rounded up.
                    shape.d_mlp + shape.d_vocab_out + 6,
                    shape.n_slots(),
                    self.case.layout.of(self.case.batch)[model].len(),
                ];
                let n = longest.into_iter().max().unwrap_or(0) as f64;
                Ok(self
                    .absolute()?
                    .tensor(model, name, self.case.batch)
                    .iter()
                    .map(|sum| (n + 4.0) * EPS * sum.abs())
                    .collect())
            }
        }
    }

    /// The call on absolute values, with a minus where it subtracts: every sum becomes that of its absolute terms.
    fn absolute(&self) -> Result<OnCpu<f64>, Failed> {
        let shape = self.case.layout.shape;
        let subtracted = |name: &str, i: usize| match (self.case.call.kernel, self.case.call.entry, name) {
            ("slots", "forward", "W_E") => i >= shape.p * shape.d_model,
            ("slots", "forward", "W_pos") => i >= 2 * shape.d_model,
            ("slots", "backward_embed", "d_resid4") => i < 2 * shape.p * shape.d_model.next_multiple_of(4),
            _ => false,
        };
        let sign = |name: &str, i: usize| if subtracted(name, i) { -1.0 } else { 1.0 };
        on_twin(self.case, self.inputs, |name, i, x| sign(name, i) * f64::from(x.abs()))
    }

    /// For each row and head, the largest sum of |q k| / sqrt(d_head) over its positions.
    fn score_sizes(&self, model: usize, expected: &OnCpu<f64>) -> Vec<f64> {
        let shape = self.case.layout.shape;
        let (d, e, heads) = (shape.d_model, shape.d_head(), shape.n_heads);
        let (q, k) = (expected.tensor(model, "q", self.case.batch), expected.tensor(model, "k", self.case.batch));
        let of_slot = |slot: usize, head: usize| {
            (0..e).map(|i| (q[head * e + i] * k[slot * d + head * e + i]).abs()).sum::<f64>() / (e as f64).sqrt()
        };
        let rows = self.case.layout.of(self.case.batch)[model].slots.chunks_exact(3);
        rows.flat_map(|slots| {
            (0..heads).map(move |head| slots.iter().map(|&slot| of_slot(slot as usize, head)).fold(0.0, f64::max))
        })
        .collect()
    }
}

/// Three updates with gradients of many sizes, on both machines, as a method makes them.
pub fn updates(kernels: &[Kernel], shape: Shape, rows: &[usize], method: &str) -> Outcome {
    let taught =
        methods().into_iter().find(|(name, _)| *name == method).map_or(Method::default(), |(_, taught)| taught);
    let program = layered::program().taught(&taught);
    let mut machine = pollster::block_on(OnGpu::new(gpu()?, kernels, &program, layout(shape, rows)))?;
    let mut twin = OnCpu::<f64>::new(&program, layout(shape, rows), 1)?;
    let models = rows.len();
    let plan = |model: usize| {
        let mut plan = grokscope::plan::preset("default").unwrap();
        let k = (model % 3) as f64;
        (plan.lr, plan.weight_decay) = (1e-3 * (k + 1.0), 1.0 + k);
        (plan.beta1, plan.beta2) = (0.9 - 0.1 * k, 0.98 - 0.01 * k);
        plan.train_biases = model % 3 != 1;
        plan.nesterov = model % 3 == 2;
        with_method(&mut plan, method);
        plan
    };
    let updates: Vec<Vec<Update>> =
        (0..models).map(|k| (20..23).map(|step| plan(k).update(step).rounded()).collect()).collect();
    let calls: Vec<usize> = (0..program.step().count()).skip(program.step().count() - program.update.len()).collect();
    for model in 0..models {
        let weights = grokscope::model::initial_weights("paper", model as u64, &shape);
        let mut state = State::remembering(weights.clone(), program.grad_copies);
        for (rank, tensor) in state.exp_avg.tensors.iter_mut().enumerate() {
            *tensor = normals(7, rank as u32, tensor.len()).iter().map(|x| x * 1e-3).collect();
        }
        for (rank, tensor) in state.exp_avg_sq.tensors.iter_mut().enumerate() {
            *tensor = normals(8, rank as u32, tensor.len()).iter().map(|x| x * x * 1e-6).collect();
        }
        machine.write_state(model, &state)?;
        let wide = |weights: &grokscope::model::Weights<f32>| weights.map(|&x| x as f64);
        twin.write_state(
            model,
            &State {
                weights: wide(&state.weights),
                exp_avg: wide(&state.exp_avg),
                exp_avg_sq: wide(&state.exp_avg_sq),
                grad_memory: state.grad_memory.iter().map(wide).collect(),
            },
        );
    }
    // The counter starts again with every call of run_some, so each update is a window of its own.
    for step in 0..3 {
        write_gradients(&machine, &mut twin, &shape, models, step, method == "adamw")?;
        let now: Vec<Vec<Update>> = updates.iter().map(|updates| vec![updates[step]]).collect();
        pollster::block_on(machine.run_some(Batch::Train, &calls, &now))?;
        twin.run_some(Batch::Train, &calls, &now);
    }
    let states = pollster::block_on(machine.read_states())?;
    for (model, got) in states.iter().enumerate() {
        let want = twin.read_state(model);
        let mut tensors = vec![
            (&got.weights, &want.weights, "weights"),
            (&got.exp_avg, &want.exp_avg, "exp_avg"),
            (&got.exp_avg_sq, &want.exp_avg_sq, "exp_avg_sq"),
        ];
        require!(got.grad_memory.len() == want.grad_memory.len(), "another number of remembered gradients");
        tensors.extend(got.grad_memory.iter().zip(&want.grad_memory).map(|(got, want)| (got, want, "grad_memory")));
        for (got, want, what) in tensors {
            for (rank, parameter) in PARAMETERS.iter().enumerate() {
                for (i, (&g, &w)) in got.tensors[rank].iter().zip(&want.tensors[rank]).enumerate() {
                    // Three updates of some eight roundings each; a weight moves by at most a few learning rates.
                    let tolerance = match method {
                        "adamw" => {
                            let scale = w.abs() + if what == "weights" { 3e-2 } else { 0.0 };
                            32.0 * EPS * scale + if what == "exp_avg" { 1e-9 } else { 1e-16 }
                        }
                        // Terms are of the order of 1. Five steps of 3.4445 x make small singular values, and their errors, 485 times as large.
                        "muon" => 256.0 * EPS * (w.abs() + 1.0),
                        _ => 32.0 * EPS * (w.abs() + 1.0),
                    };
                    require!(
                        (g as f64 - w).abs() <= tolerance,
                        "{what} of model {model}, {} at {i}: {g:e}, twin {w:e}",
                        parameter.name
                    );
                }
            }
        }
    }
    Ok(())
}

/// Normal gradients, others for every step; or some of many sizes, from 1e-9, far below eps, to 1, the same for all.
fn write_gradients(
    machine: &OnGpu,
    twin: &mut OnCpu<f64>,
    shape: &Shape,
    models: usize,
    step: usize,
    of_many_sizes: bool,
) -> Outcome {
    for model in 0..models {
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            let len = parameter.dims(shape).iter().product();
            let exponents = normals(9, rank as u32, len);
            let gradient: Vec<f32> =
                normals((10 + model + if of_many_sizes { 0 } else { 10_000 * step }) as u64, rank as u32, len)
                    .iter()
                    .zip(&exponents)
                    .map(|(g, e)| if of_many_sizes { g * 10f32.powf(2.0 * e - 4.0) } else { *g })
                    .collect();
            let (_, _, window) =
                machine.tensors().find(|(name, ..)| *name == parameter.gradient).ok_or("no gradient")?;
            window.write(&machine.gpu, model, bytemuck::cast_slice(&gradient));
            *twin.tensor_mut(model, parameter.gradient, Batch::Train) = gradient.iter().map(|&x| x as f64).collect();
        }
    }
    Ok(())
}
