//! The programs: readable lists of kernel calls, and the two machines that run them.
//!
//! A call names a kernel's entry point and the axes it runs over; what it reads and writes follows from the shader (or
//! from the twin) by name. Nothing here runs anything: [`on_gpu`] and [`on_cpu`] do.

pub mod batch;
pub mod composed;
pub mod dispatches;
pub mod engine;
pub mod layered;
pub mod method;
pub mod on_cpu;
pub mod on_gpu;
pub mod product;

use crate::model::{Axis, NotFinite, Part, Role, Sizes, Tensor, Weights};
use crate::plan::{Plan, Shape};
use anyhow::{Context, Result, bail};
pub use product::{Adds, Per};

/// A line of a program.
#[derive(Clone, Debug)]
pub struct Call {
    /// The shader's name without `.wgsl`.
    pub kernel: &'static str,
    /// The entry point's name.
    pub entry: &'static str,
    /// What invocations there are.
    pub over: Over,
    /// A kernel of general use names roles: who plays them here. Other names are tensors'.
    pub roles: Vec<(&'static str, &'static str)>,
    /// Multiply-adds, as a sum of products of axes.
    pub work: &'static [&'static [Axis]],
    /// Tensors of which it touches a part alone, with the axes that the part has.
    pub parts: &'static [(&'static str, &'static [Axis])],
}

impl Call {
    /// The tensor that stands behind a name of the kernel.
    pub fn tensor<'a>(&self, name: &'a str) -> &'a str {
        self.roles.iter().find(|(role, _)| *role == name).map_or(name, |(_, tensor)| tensor)
    }

    /// "product.nn_add(post4, W_logit -> logits4)"
    pub fn title(&self) -> String {
        let players: Vec<_> = self.roles.iter().filter(|(role, _)| *role != "C").map(|(_, tensor)| *tensor).collect();
        let out = self.roles.iter().find(|(role, _)| *role == "C").map_or(String::new(), |(_, c)| format!(" -> {c}"));
        match self.over {
            Over::Product(..) => format!("{}.{}({}{out})", self.kernel, self.entry, players.join(", ")),
            _ => format!("{}.{}", self.kernel, self.entry),
        }
    }

    /// What it does beside moving numbers.
    fn work(self, work: &'static [&'static [Axis]]) -> Self {
        Self { work, ..self }
    }

    /// Of these tensors it touches a part alone.
    fn parts(self, parts: &'static [(&'static str, &'static [Axis])]) -> Self {
        Self { parts, ..self }
    }

    fn with(self, roles: &[(&'static str, &'static str)]) -> Self {
        Self { roles: roles.to_vec(), ..self }
    }
}

/// What a call's invocations are spread over, besides the models; the last axis lies along x.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    /// One invocation an element of the axes.
    Elements(&'static [Axis]),
    /// One invocation four neighbours along the last axis, which has whole vec4s.
    Fours(&'static [Axis]),
    /// One workgroup an element of the axis.
    Groups(Axis),
    /// One invocation a tile of TILE x TILE elements of two axes, TILE being a constant of the shader.
    Tiles([Axis; 2]),
    /// One workgroup a tile of C of a product.
    Product(Per, Adds),
    /// One invocation an element of the parameters' arena.
    Arena,
    /// One workgroup a parameter.
    Tensors,
    /// One invocation a model.
    Models,
}

impl Over {
    /// Whether it runs over arenas of parameters, and not over a batch.
    pub fn is_arena(&self) -> bool {
        matches!(self, Self::Arena | Self::Tensors)
    }
}

/// A program: what a training step does, of which the forward part alone evaluates.
pub struct Program {
    /// layered or composed.
    pub name: &'static str,
    /// From the weights to the logits.
    pub forward: Vec<Call>,
    /// Losses and hits of the rows, when evaluating.
    pub score: Vec<Call>,
    /// From the logits back to the gradients, when training.
    pub backward: Vec<Call>,
    /// From the gradients to the new parameters.
    pub update: Vec<Call>,
    /// Sets of gradients that the update remembers.
    pub grad_copies: usize,
}

impl Program {
    /// The calls of a training step.
    pub fn step(&self) -> impl Iterator<Item = &Call> {
        self.forward.iter().chain(&self.backward).chain(&self.update)
    }
    /// The calls of an evaluation.
    pub fn evaluation(&self) -> impl Iterator<Item = &Call> {
        self.forward.iter().chain(&self.score)
    }
}

/// What training carries from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct State<T> {
    /// The parameters.
    pub weights: Weights<T>,
    /// AdamW's first moment, or the momentum of SGD and Muon.
    pub exp_avg: Weights<T>,
    /// AdamW's second moment.
    pub exp_avg_sq: Weights<T>,
    /// Earlier gradients, or their average: as many as the gradient filter remembers.
    pub grad_memory: Vec<Weights<T>>,
}

impl<T> State<T> {
    /// Weights before the first update, of a method that remembers no gradients.
    pub fn fresh(weights: Weights<T>) -> Self
    where
        T: num_traits::Zero,
    {
        Self::remembering(weights, 0)
    }

    /// Weights before the first update, with room for some sets of gradients.
    pub fn remembering(weights: Weights<T>, copies: usize) -> Self
    where
        T: num_traits::Zero,
    {
        let zeros = || weights.map(|_| T::zero());
        let grad_memory = (0..copies).map(|_| zeros()).collect();
        Self { exp_avg: zeros(), exp_avg_sq: zeros(), grad_memory, weights }
    }
}

impl State<f32> {
    /// The first tensor that holds a number which is not finite.
    pub fn not_finite(&self) -> Option<String> {
        let parts = [(Part::Weight, &self.weights), (Part::ExpAvg, &self.exp_avg), (Part::ExpAvgSq, &self.exp_avg_sq)];
        let of_part = |(what, weights): (Part, &Weights<f32>)| {
            let parameter = weights.tensors.iter().position(|tensor| tensor.iter().any(|x| !x.is_finite()))?;
            Some(NotFinite { update: 0, what, parameter }.tensor())
        };
        let remembered = || {
            let is_bad = |tensor: &Vec<f32>| tensor.iter().any(|x| !x.is_finite());
            let parameter = self.grad_memory.iter().find_map(|copy| copy.tensors.iter().position(is_bad))?;
            Some(format!("a remembered {}", crate::model::PARAMETERS[parameter].gradient))
        };
        parts.into_iter().find_map(of_part).or_else(remembered)
    }
}

/// A call without roles or a stated cost.
pub fn run(kernel: &'static str, entry: &'static str, over: Over) -> Call {
    Call { kernel, entry, over, roles: Vec::new(), work: &[], parts: &[] }
}

/// The program of a plan whose `auto` is resolved.
pub fn of_plan(plan: &Plan) -> Result<Program> {
    Ok(by_name(&plan.program)?.taught(&plan.method()))
}

/// The program of a name in a plan, as the preset `default` teaches.
pub fn by_name(name: &str) -> Result<Program> {
    match name {
        "layered" => Ok(layered::program()),
        "composed" => Ok(composed::program()),
        other => bail!("unknown program '{other}': there are layered, composed"),
    }
}

/// The program that a plan's name stands for: `auto` is the one that has fewer multiply-adds to do in a training step. The
/// tables of the composed program cost more than they save where there are more slots and heads than rows.
pub fn resolve(name: &str, sizes: &Sizes) -> String {
    match name {
        "auto" => {
            let programs = [composed::program(), layered::program()];
            programs.iter().min_by_key(|program| flops(program, sizes)).map_or(name, |program| program.name).into()
        }
        _ => name.into(),
    }
}

/// The names that a call reads and writes.
pub struct Uses {
    /// Tensors that are read.
    pub reads: Vec<String>,
    /// Tensors that are written.
    pub writes: Vec<String>,
}

/// Walks a program without a device: every name is a tensor, every read was written before, nobody but the optimizer
/// writes parameters, every gradient is written.
pub fn check<'a>(
    calls: impl Iterator<Item = &'a Call>,
    trains: bool,
    uses: impl Fn(&Call) -> Result<Uses>,
) -> Result<()> {
    let mut written: Vec<String> = Vec::new();
    for call in calls {
        let place = || format!("{}.{}", call.kernel, call.entry);
        let uses = uses(call).with_context(place)?;
        for name in &uses.reads {
            let ready = match find(name).with_context(place)?.role {
                Role::Parameter | Role::Index | Role::Record | Role::Layout => true,
                Role::Counter => written.contains(name),
                // All gradients at once, or what the optimizer carries on.
                Role::Arena if name == "grads" => gradients().all(|name| written.iter().any(|other| other == name)),
                Role::Arena if name == "params" => true,
                Role::Arena => uses.writes.contains(name),
                Role::Activation | Role::Gradient => written.contains(name) || uses.writes.contains(name),
            };
            anyhow::ensure!(ready, "{}: reads {name} before anything wrote it", place());
        }
        for name in &uses.writes {
            match find(name).with_context(place)?.role {
                Role::Activation | Role::Gradient | Role::Counter => {}
                Role::Arena if call.over.is_arena() => {}
                role => bail!("{}: writes {name}, which is a {role:?}", place()),
            }
        }
        written.extend(uses.writes);
    }
    match gradients().find(|gradient| !written.iter().any(|name| name == gradient)) {
        Some(gradient) if trains => bail!("no call writes {gradient}"),
        _ => Ok(()),
    }
}

fn gradients() -> impl Iterator<Item = &'static str> {
    crate::model::PARAMETERS.iter().map(|parameter| parameter.gradient)
}

/// The tensor of a name, or an error that says what names there are.
pub fn find(name: &str) -> Result<&'static Tensor> {
    Tensor::find(name).with_context(|| {
        let names: Vec<_> = crate::model::TENSORS.iter().map(|tensor| tensor.name).collect();
        format!("no tensor is called '{name}': there are {}", names.join(", "))
    })
}

/// What a call does to one model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Two for each multiply-add.
    pub flops: u64,
    /// Elements read and written, four bytes each, every tensor (or the part of it that the call touches) once.
    pub bytes: u64,
}

/// The cost of a call, from its line in the program and the tensors it names.
pub fn cost(call: &Call, sizes: &Sizes) -> Cost {
    let size = |axis: &Axis| axis.size(sizes) as u64;
    let mads: u64 = call.work.iter().map(|axes| axes.iter().map(size).product::<u64>()).sum();
    let parameters: u64 =
        crate::model::PARAMETERS.iter().map(|p| p.dims(&sizes.shape).iter().product::<usize>() as u64).sum();
    let twin = crate::cpu::twin_of::<f32>(call.kernel, call.entry);
    if call.over.is_arena() {
        // An element of each arena is read, and written where it changes; some operations each, of AdamW 14.
        let arenas = |names: &[&str]| {
            names.iter().filter(|name| Tensor::find(name).is_some_and(|tensor| tensor.role == Role::Arena)).count()
        };
        let moved = twin.iter().map(|twin| arenas(twin.reads) + 2 * arenas(twin.writes)).sum::<usize>() as u64;
        return Cost { flops: 2 * moved * parameters, bytes: 4 * moved * parameters };
    }
    let names = twin.iter().flat_map(|twin| twin.reads.iter().chain(twin.writes));
    let elements = |name: &&'static str| match call.parts.iter().find(|(part, _)| part == name) {
        Some((_, axes)) => axes.iter().map(size).product(),
        None => Tensor::find(call.tensor(name)).map_or(0, |tensor| tensor.len(sizes) as u64),
    };
    Cost { flops: 2 * mads, bytes: 4 * names.map(elements).sum::<u64>() }
}

/// Multiply-adds, twice, of a training step of one model.
pub fn flops(program: &Program, sizes: &Sizes) -> u64 {
    program.step().map(|call| cost(call, sizes).flops).sum()
}

/// Bytes that a program's float tensors take in float32, for one model, and the name and bytes of the largest.
pub fn memory(program: &Program, shape: Shape, train_rows: usize, grid_rows: usize) -> (u64, (&'static str, u64)) {
    let mut seen = std::collections::HashMap::new();
    let step = program.step().map(|call| (call, batch::Batch::Train, train_rows));
    let evaluation = program.evaluation().map(|call| (call, batch::Batch::Grid, grid_rows));
    for (call, batch, rows) in step.chain(evaluation) {
        let Some(twin) = crate::cpu::twin_of::<f32>(call.kernel, call.entry) else { continue };
        for tensor in twin.reads.iter().chain(twin.writes).filter_map(|name| Tensor::find(call.tensor(name))) {
            // Parameters have two moments besides.
            let copies = if tensor.role == Role::Parameter { 3 } else { 1 };
            let elements: u64 = tensor.dims(&Sizes { shape, rows }).iter().map(|&n| n as u64).product();
            seen.insert(batch::key(tensor, batch), (4 * elements, copies));
        }
    }
    let gradients: u64 =
        crate::model::PARAMETERS.iter().map(|p| 4 * p.dims(&shape).iter().product::<usize>() as u64).sum();
    let remembered = program.grad_copies as u64 * gradients;
    // The engine has them, and a checkpoint makes two copies: one that was read back, one in the form of its file.
    let total = seen.values().map(|(bytes, copies)| bytes * copies).sum::<u64>() + 3 * remembered;
    seen.insert(("grad_memory", batch::Batch::Train), (remembered, 1));
    let largest = seen.iter().max_by_key(|(_, (bytes, _))| *bytes).map(|((name, _), (bytes, _))| (*name, *bytes));
    (total, largest.unwrap_or(("nothing", 0)))
}

/// The most matrices that one of a program's products has for a model.
pub fn most_matrices(program: &Program, sizes: &Sizes) -> Result<usize> {
    let mut most = 1;
    for call in program.step().chain(program.evaluation()) {
        most = most.max(product::geometry(call, sizes)?.map_or(1, |geometry| geometry.batches));
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_the_program_with_less_to_do() {
        let shape = |p, n_heads| Shape { p, d_model: 128, n_heads, d_mlp: 512, d_vocab_out: p };
        let of = |shape, rows| resolve("auto", &Sizes { shape, rows });
        assert_eq!(of(shape(113, 4), 3830), "composed");
        assert_eq!(of(shape(113, 4), 40), "layered");
        assert_eq!(resolve("layered", &Sizes { shape: shape(113, 4), rows: 3830 }), "layered");
        // Figures of the literature: 0.87 G multiply-adds composed, 1.89 G with the last position only.
        let sizes = Sizes { shape: shape(113, 4), rows: 3830 };
        let mads = |program: Program| flops(&program, &sizes) as f64 / 2e9;
        assert!((mads(composed::program()) - 0.87).abs() < 0.02, "{}", mads(composed::program()));
        assert!((mads(layered::program()) - 1.89).abs() < 0.02, "{}", mads(layered::program()));
    }

    #[test]
    fn products_cost_what_their_geometry_says() {
        let shape = Shape { p: 13, d_model: 18, n_heads: 3, d_mlp: 25, d_vocab_out: 14 };
        let sizes = Sizes { shape, rows: 1150 };
        let program = composed::program();
        let mut products = 0;
        for call in program.step() {
            let Some(g) = product::geometry(call, &sizes).unwrap() else { continue };
            // Chunks together have the rows of the batch, and no more.
            let depth = if matches!(call.over, Over::Product(Per::Chunk, _)) { sizes.rows } else { g.batches * g.k };
            assert_eq!(cost(call, &sizes).flops, 2 * (g.i * g.j * depth) as u64, "{}", call.title());
            products += 1;
        }
        assert_eq!(products, 15);
    }

    #[test]
    fn costs_are_counted_by_hand() {
        let shape = Shape { p: 13, d_model: 18, n_heads: 3, d_mlp: 25, d_vocab_out: 14 };
        let sizes = Sizes { shape, rows: 100 };
        let programs = [composed::program(), layered::program()];
        let of = |kernel: &str, entry: &str| {
            let calls = programs.iter().flat_map(Program::step);
            let call = calls.into_iter().find(|call| (call.kernel, call.entry) == (kernel, entry)).unwrap();
            cost(call, &sizes)
        };
        // 27 slots, 28 + 16 readers: 100 rows have two lines a head, and read slots, pattern, head_read and base_read.
        let reader = 44;
        let forward = of("rows", "forward");
        assert_eq!(forward.flops, 2 * 2 * 100 * 3 * reader);
        let read = 300 + 100 * 3 * 3 + 3 * 27 * reader + reader;
        assert_eq!(forward.bytes, 4 * (read + 100 * reader));
        // The line of "=" alone of every head.
        let base = of("compose", "forward_base");
        assert_eq!(base.flops, 2 * (18 * reader + 3 * reader));
        assert_eq!(base.bytes, 4 * (20 + 18 + 20 * reader + 3 * reader + 25 + reader));
        assert_eq!(of("slots", "forward_scores").flops, 2 * 27 * 3 * 18);
        assert_eq!(of("slots", "backward_key").flops, 2 * 27 * 3 * 18);
        let parameters = 14 * 18 + 3 * 18 + 4 * 18 * 18 + 18 * 25 + 25 + 25 * 18 + 18 + 18 * 14;
        let update = of("adamw", "update");
        assert_eq!((update.flops, update.bytes), (14 * parameters, 28 * parameters));
        // Weights and two moments, gradients, and more.
        let (all, _) = memory(&composed::program(), shape, 100, 169);
        assert!(all > 16 * parameters, "{all}");
    }
}
