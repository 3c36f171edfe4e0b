//! The programs: readable lists of kernel calls, and the two machines that run them.
//!
//! A call names a kernel's entry point, the axes it runs over, and the tensors that it reads and writes. [`schedule`] finds out which calls can
//! be done together. Nothing here runs anything: [`on_gpu`] and [`on_cpu`] do.

pub mod arenas;
pub mod batch;
pub mod composed;
pub mod copies;
pub mod dispatches;
pub mod engine;
pub mod geometry;
pub mod layered;
pub mod method;
pub mod on_cpu;
pub mod on_gpu;
pub mod product;
pub mod schedule;
pub mod sharing;
pub mod table;

pub use crate::matrices::Factor;
use crate::model::{Axis, Role, Sizes, Tensor, Weights};
use crate::not_finite::{NotFinite, Part};
use crate::plan::{Plan, Shape};
use anyhow::{Context, Result, bail};
pub use geometry::Per;
pub use product::Adds;

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
    /// Tensors that it reads. Their shapes stand in the table of `model.rs`.
    pub reads: Vec<&'static str>,
    /// Tensors that it writes without reading them.
    pub writes: Vec<&'static str>,
    /// Tensors that it reads and writes.
    pub updates: Vec<&'static str>,
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
        let is_result = |(role, _): &&(&str, &str)| matches!(*role, "C" | "into");
        let players: Vec<_> = self.roles.iter().filter(|role| !is_result(role)).map(|(_, tensor)| *tensor).collect();
        let out = self.roles.iter().find(is_result).map_or(String::new(), |(_, c)| format!(" -> {c}"));
        match self.over {
            Over::Product(..) | Over::Copy(..) => {
                format!("{}.{}({}{out})", self.kernel, self.entry, players.join(", "))
            }
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

    /// The tensors that it reads and does not write.
    pub fn reads(self, tensors: &[&'static str]) -> Self {
        Self { reads: tensors.to_vec(), ..self }
    }

    /// The tensors that it writes without reading them.
    pub fn writes(self, tensors: &[&'static str]) -> Self {
        Self { writes: tensors.to_vec(), ..self }
    }

    /// The tensors that it reads and writes.
    pub fn updates(self, tensors: &[&'static str]) -> Self {
        Self { updates: tensors.to_vec(), ..self }
    }

    /// Tensors that are another after it.
    pub fn written(&self) -> Vec<&'static str> {
        [&self.writes[..], &self.updates].concat()
    }

    /// All tensors that it names.
    pub fn tensors(&self) -> Vec<&'static str> {
        [&self.reads[..], &self.writes, &self.updates].concat()
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
    /// One workgroup four neighbours along the axis, which has whole vec4s.
    GroupsOfFours(Axis),
    /// ROWS_A_GROUP rows of the batch a workgroup, that being a constant of the shader.
    Rows,
    /// One invocation four neighbours along the axis, of ROWS_A_LANE rows, that being a constant of the shader.
    RowsByFours(Axis),
    /// One invocation a tile of TILE x TILE elements of two axes, TILE being a constant of the shader.
    Tiles([Axis; 2]),
    /// One workgroup a tile of C of a product.
    Product(Per, Adds),
    /// One invocation an element of what a copy writes, or four.
    Copy(Per, Factor),
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
    let (roles, reads, writes, updates) = Default::default();
    Call { kernel, entry, over, roles, reads, writes, updates, work: &[], parts: &[] }
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

/// Walks a program without a device: every name is a tensor, every read was written before, nobody but the optimizer
/// writes parameters, every gradient is written.
pub fn check<'a>(calls: impl Iterator<Item = &'a Call>, trains: bool) -> Result<()> {
    // Whether a name was written, and whether it was of a view or of a whole tensor, is the sanitizer's to tell element by element.
    let mut written: Vec<&'static str> = Vec::new();
    for call in calls {
        let place = || format!("{}.{}", call.kernel, call.entry);
        let whole = |name: &&'static str| find(name).map(|tensor| tensor.whole().name).with_context(place);
        let changed: Vec<_> = call.written().iter().map(whole).collect::<Result<_>>()?;
        for name in call.reads.iter().chain(&call.updates) {
            let whole = whole(name)?;
            let ready = match find(whole)?.role {
                Role::Parameter | Role::Index | Role::Record | Role::Layout => true,
                // What it counts, it counts on from what the host wrote.
                Role::Counter => written.contains(&whole) || changed.contains(&whole),
                // All gradients at once, or what the optimizer carries on.
                Role::Arena if whole == "grads" => gradients().all(|name| written.contains(&name)),
                Role::Arena if whole == "params" => true,
                Role::Arena => changed.contains(&whole),
                Role::Activation | Role::Gradient | Role::View => written.contains(&whole),
            };
            anyhow::ensure!(ready, "{}: reads {name} before anything wrote it", place());
        }
        for name in &changed {
            match find(name)?.role {
                Role::Activation | Role::Gradient | Role::Counter => {}
                Role::Arena if call.over.is_arena() => {}
                role => bail!("{}: writes {name}, which is a {role:?}", place()),
            }
        }
        written.extend(changed);
    }
    match gradients().find(|gradient| !written.contains(gradient)) {
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
    let stated: u64 = call.work.iter().map(|axes| axes.iter().map(size).product::<u64>()).sum();
    let mads = stated + of_matrices(call, sizes);
    let parameters: u64 =
        crate::model::PARAMETERS.iter().map(|p| p.dims(&sizes.shape).iter().product::<usize>() as u64).sum();
    if call.over.is_arena() {
        // An element of each arena is read, and written where it changes; some operations each, of AdamW 14.
        let arenas = |names: &[&str]| {
            names.iter().filter(|name| Tensor::find(name).is_some_and(|tensor| tensor.role == Role::Arena)).count()
        };
        let moved = (arenas(&call.reads) + 2 * arenas(&call.written())) as u64;
        return Cost { flops: 2 * moved * parameters, bytes: 4 * moved * parameters };
    }
    let elements = |name: &&'static str| match call.parts.iter().find(|(part, _)| part == name) {
        Some((_, axes)) => axes.iter().map(size).product(),
        None => Tensor::find(name).map_or(0, |tensor| tensor.len(sizes) as u64),
    };
    Cost { flops: 2 * mads, bytes: 4 * call.tensors().iter().map(elements).sum::<u64>() }
}

/// Multiply-adds of a call on matrices: of a product, or of an outer product that a copy adds.
fn of_matrices(call: &Call, sizes: &Sizes) -> u64 {
    let product = product::geometry(call, sizes).ok().flatten().map_or(0, |g| g.heads * g.i * g.j * g.k);
    let copies = copies::copies(call, sizes).ok().flatten();
    let outer = copies.filter(|g| g.x.is_some()).map_or(0, |g| g.heads * g.into.rows * g.into.columns);
    (product + outer) as u64
}

/// Multiply-adds, twice, of a training step of one model.
pub fn flops(program: &Program, sizes: &Sizes) -> u64 {
    program.step().map(|call| cost(call, sizes).flops).sum()
}

/// Bytes that a program's float tensors take in float32 on the CPU engine, for one model.
pub fn memory(program: &Program, shape: Shape, train_rows: usize, grid_rows: usize) -> u64 {
    let mut seen = std::collections::HashMap::new();
    let step = program.step().map(|call| (call, batch::Batch::Train, train_rows));
    let evaluation = program.evaluation().map(|call| (call, batch::Batch::Grid, grid_rows));
    for (call, batch, rows) in step.chain(evaluation) {
        for tensor in call.tensors().into_iter().filter_map(Tensor::find).map(Tensor::whole) {
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
    seen.values().map(|(bytes, copies)| bytes * copies).sum::<u64>() + 3 * remembered
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
    fn costs_are_counted_by_hand() {
        let shape = Shape { p: 13, d_model: 18, n_heads: 3, d_mlp: 25, d_vocab_out: 14 };
        let sizes = Sizes { shape, rows: 100 };
        let programs = [composed::program(), layered::program()];
        let of = |kernel: &str, entry: &str| {
            let calls = programs.iter().flat_map(Program::step);
            let call = calls.into_iter().find(|call| (call.kernel, call.entry) == (kernel, entry)).unwrap();
            cost(call, &sizes)
        };
        // 27 slots, 28 + 16 readers: 100 rows have two lines a head, and read slots, pattern, head_read, equals_read and heads_read.
        let reader = 44;
        let forward = of("rows", "forward");
        assert_eq!(forward.flops, 2 * 2 * 100 * 3 * reader);
        let read = 300 + 100 * 3 * 3 + 3 * 27 * reader + 2 * reader + reader;
        assert_eq!(forward.bytes, 4 * (read + 100 * reader));
        // The line of "=" alone of every head.
        let equals = of("compose", "backward_equals");
        assert_eq!(equals.flops, 2 * 27 * reader);
        assert_eq!(equals.bytes, 4 * (27 * reader + 2 * reader + 3 * reader));
        let product = |c: &str| {
            let program = composed::program();
            let call = program.step().find(|call| call.kernel == "product" && call.tensor("C") == c);
            cost(call.unwrap(), &sizes)
        };
        // Two chunks of 128 neurons would be too many for 28.
        assert_eq!(product("d_W_U_parts"), Cost { flops: 2 * 20 * 16 * 28, bytes: 4 * (28 * 20 + 28 * 16 + 20 * 16) });
        // Of heads, 8 places each where 6 are used; of the scores, 4 where there are 3 heads.
        assert_eq!(product("d_W_O_read").flops, 2 * 3 * 8 * reader * 27);
        assert_eq!(product("slot_score4").flops, 2 * 27 * 3 * 20);
        assert_eq!(of("copy", "outer").flops, 2 * 18 * 18);
        let parameters = 14 * 18 + 3 * 18 + 4 * 18 * 18 + 18 * 25 + 25 + 25 * 18 + 18 + 18 * 14;
        let update = of("adamw", "update");
        assert_eq!((update.flops, update.bytes), (14 * parameters, 28 * parameters));
        // Weights and two moments, gradients, and more.
        let all = memory(&composed::program(), shape, 100, 169);
        assert!(all > 16 * parameters, "{all}");
    }
}
