//! The machine of plain Rust: runs a program's twins, model by model, in the groups that [`super::groups`] makes of them.

use super::batch::{Batch, Key, Layout, key, pick};
use super::groups::{Group, How, Line, groups};
use super::{Program, State};
use crate::cpu::product::Geometry;
use crate::cpu::{Arguments, Context, Real, Taken};
use crate::model::{Axis, CHUNK, NOTHING_BAD, NotFinite, PARAMETERS, Parameter, Role, Sizes, TENSORS, Tensor, Weights};
use crate::plan::Update;
use anyhow::{Context as _, Result};
use rayon::prelude::*;
use std::collections::HashMap;

/// The twins of a program, ready to run.
pub struct OnCpu<T> {
    layout: Layout,
    step: Vec<Group<T>>,
    evaluation: Vec<Group<T>>,
    models: Vec<Model<T>>,
    pool: rayon::ThreadPool,
}

/// All tensors of one model.
struct Model<T> {
    floats: HashMap<Key, Vec<T>>,
    indices: HashMap<Key, Vec<u32>>,
    exp_avg: Weights<T>,
    exp_avg_sq: Weights<T>,
    /// Of each parameter, the sets of gradients that the update remembers, one after the other.
    grad_memory: Vec<Vec<T>>,
    updates: Vec<Update>,
}

impl<T: Real> OnCpu<T> {
    /// `threads` = 0 takes one for each core.
    pub fn new(program: &Program, layout: Layout, threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("no threads to run on")?;
        let step = groups(program.step(), &layout, Batch::Train)?;
        let evaluation = groups(program.evaluation(), &layout, Batch::Grid)?;
        let models = (0..layout.models())
            .map(|model| Model::new(&layout, model, &step, &evaluation, program.grad_copies))
            .collect();
        Ok(Self { layout, step, evaluation, models, pool })
    }

    /// Threads that its loops are spread over.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Sets a model's state. Panics where it remembers another number of gradients than the program.
    pub fn write_state(&mut self, model: usize, state: &State<T>) {
        let model = &mut self.models[model];
        for (parameter, tensor) in PARAMETERS.iter().zip(&state.weights.tensors) {
            model.floats.insert((parameter.name, Batch::Train), tensor.clone());
        }
        model.exp_avg = state.exp_avg.clone();
        model.exp_avg_sq = state.exp_avg_sq.clone();
        for (rank, memory) in model.grad_memory.iter_mut().enumerate() {
            let whole = memory.len() == state.grad_memory.len() * state.weights.tensors[rank].len();
            assert!(whole, "a state remembers as many gradients as its program");
            let copies: Vec<&[T]> = state.grad_memory.iter().map(|copy| &copy.tensors[rank][..]).collect();
            *memory = copies.concat();
        }
    }

    /// A model's state as it is.
    pub fn read_state(&self, model: usize) -> State<T> {
        let (weights, model) = (self.read_weights(model), &self.models[model]);
        let len = |rank: usize| weights.tensors[rank].len();
        let copy = |k: usize| {
            let tensor = |(rank, memory): (usize, &Vec<T>)| memory[k * len(rank)..][..len(rank)].to_vec();
            Weights { tensors: model.grad_memory.iter().enumerate().map(tensor).collect() }
        };
        let grad_memory = (0..model.grad_memory[0].len() / len(0)).map(copy).collect();
        State { exp_avg: model.exp_avg.clone(), exp_avg_sq: model.exp_avg_sq.clone(), grad_memory, weights }
    }

    /// A model's weights as they are.
    pub fn read_weights(&self, model: usize) -> Weights<T> {
        let tensor = |name| self.models[model].floats[&(name, Batch::Train)].clone();
        Weights { tensors: PARAMETERS.iter().map(|parameter| tensor(parameter.name)).collect() }
    }

    /// Networks side by side.
    pub fn models(&self) -> usize {
        self.models.len()
    }

    /// Leaves out all models but these, whose numbers rise.
    pub fn keep(&mut self, models: &[usize]) {
        self.layout.keep(models);
        pick(&mut self.models, models);
        let lines = self.step.iter_mut().chain(&mut self.evaluation).flat_map(|group| &mut group.lines);
        lines.for_each(|line| pick(&mut line.geometry, models));
    }

    /// One update a model for each of its `updates`, of which every model has the same number. Models are spread over the cores, and
    /// so is what each of them does: who is done first helps the others.
    pub fn steps(&mut self, updates: &[Vec<Update>]) {
        let (shape, rows, step) = (self.layout.shape, &self.layout.train, &self.step);
        let models = self.models.par_iter_mut().zip(updates).zip(rows).enumerate();
        self.pool.install(|| {
            models.for_each(|(index, ((model, updates), rows))| {
                model.begin(updates);
                for _ in updates {
                    model.run_all(step, Place { shape, rows: rows.len(), batch: Batch::Train, index });
                }
            });
        });
    }

    /// For each model, the first number that was not finite in the updates that it did last.
    pub fn not_finite(&self) -> Vec<Option<NotFinite>> {
        let code = |model: &Model<T>| model.indices[&("first_bad", Batch::Train)][0];
        self.models.iter().map(|model| NotFinite::from_code(code(model))).collect()
    }

    /// Runs the forward pass over the grid; losses and hits can be read then.
    pub fn evaluate(&mut self) {
        let (shape, evaluation) = (self.layout.shape, &self.evaluation);
        let models = self.models.par_iter_mut().zip(&self.layout.grid).enumerate();
        self.pool.install(|| {
            models.for_each(|(index, (model, rows))| {
                model.run_all(evaluation, Place { shape, rows: rows.len(), batch: Batch::Grid, index });
            });
        });
    }

    /// Runs some calls of the training step, or of the evaluation where the batch is the grid.
    pub fn run_some(&mut self, batch: Batch, indices: &[usize], updates: &[Vec<Update>]) {
        let calls = match batch {
            Batch::Train => &self.step,
            Batch::Grid => &self.evaluation,
        };
        let models = self.models.iter_mut().zip(self.layout.of(batch)).zip(updates);
        for (index, ((model, rows), updates)) in models.enumerate() {
            model.begin(updates);
            let lines: Vec<_> = calls.iter().flat_map(|group| &group.lines).collect();
            for line in indices.iter().map(|&call| lines[call]) {
                let at = Place { shape: self.layout.shape, rows: rows.len(), batch, index };
                self.pool.install(|| model.run(line, at));
            }
        }
    }

    /// A model's tensor. Panics on a name that no call uses.
    pub fn tensor(&self, model: usize, name: &'static str, batch: Batch) -> &[T] {
        let tensor = Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}"));
        &self.models[model].floats[&key(tensor, batch)]
    }

    /// A tensor with several values for each pair of the grid, in the order of the pairs.
    pub fn rows_of_grid(&self, model: usize, name: &'static str) -> Vec<T> {
        let (values, order) = (self.tensor(model, name, Batch::Grid), &self.layout.grid[model].order);
        let width = values.len() / order.len();
        let mut out = vec![T::zero(); values.len()];
        for (&pair, row) in order.iter().zip(values.chunks_exact(width)) {
            out[pair as usize * width..][..width].copy_from_slice(row);
        }
        out
    }

    /// A tensor with a value for each pair of the grid, in the order of the pairs.
    pub fn of_grid(&self, model: usize, name: &'static str) -> Vec<T> {
        self.layout.grid[model].by_pair(self.tensor(model, name, Batch::Grid))
    }

    /// A tensor to be changed by tests. Panics where the program does not use it.
    pub fn tensor_mut(&mut self, model: usize, name: &'static str, batch: Batch) -> &mut Vec<T> {
        let tensor = Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}"));
        self.models[model].floats.get_mut(&key(tensor, batch)).unwrap_or_else(|| panic!("{name} is not used"))
    }
}

/// Where a twin runs.
#[derive(Clone, Copy)]
struct Place {
    shape: crate::plan::Shape,
    rows: usize,
    batch: Batch,
    /// The model's.
    index: usize,
}

impl<T: Real> Model<T> {
    fn new(layout: &Layout, model: usize, step: &[Group<T>], evaluation: &[Group<T>], grad_copies: usize) -> Self {
        let mut floats = HashMap::new();
        let mut indices =
            HashMap::from([(("step", Batch::Train), vec![0]), (("first_bad", Batch::Train), vec![NOTHING_BAD])]);
        for (batch, calls) in [(Batch::Train, step), (Batch::Grid, evaluation)] {
            let rows = &layout.of(batch)[model];
            let sizes = Sizes { shape: layout.shape, rows: rows.len() };
            let used = |tensor: &&Tensor| {
                tensor.role == Role::Parameter
                    || calls.iter().flat_map(|group| &group.lines).any(|line| line.touches(tensor.name))
            };
            let is_float =
                |tensor: &&Tensor| matches!(tensor.role, Role::Parameter | Role::Gradient | Role::Activation);
            for tensor in TENSORS.iter().filter(is_float).filter(used) {
                floats.entry(key(tensor, batch)).or_insert_with(|| vec![T::zero(); tensor.len(&sizes)]);
            }
            for (tensor, values) in rows.tensors() {
                indices.insert((tensor.name, batch), values);
            }
        }
        let zeros =
            |parameter: &crate::model::Parameter| vec![T::zero(); parameter.dims(&layout.shape).iter().product()];
        let moments = Weights { tensors: PARAMETERS.iter().map(zeros).collect() };
        let grad_memory = moments.tensors.iter().map(|zeros| zeros.repeat(grad_copies)).collect();
        Self { floats, indices, exp_avg: moments.clone(), exp_avg_sq: moments, grad_memory, updates: Vec::new() }
    }

    /// Makes ready for the first of some updates.
    fn begin(&mut self, updates: &[Update]) {
        self.updates.clear();
        self.updates.extend_from_slice(updates);
        self.index_mut("step", Batch::Train).fill(0);
        self.index_mut("first_bad", Batch::Train).fill(NOTHING_BAD);
    }

    fn run_all(&mut self, groups: &[Group<T>], at: Place) {
        for group in groups {
            match (group.how, &group.lines[..]) {
                (How::Alone, [line]) | (_, [line]) => self.run(line, at),
                (How::ByChunks, lines) => {
                    let chunks: Vec<_> = (0..at.rows).step_by(CHUNK).map(|first| (Some(first), lines)).collect();
                    self.run_shares(&chunks, at);
                }
                (_, lines) => {
                    let lines: Vec<_> = lines.iter().map(|line| (None, std::slice::from_ref(line))).collect();
                    self.run_shares(&lines, at);
                }
            }
        }
    }

    /// Lines for a chunk of rows that begins there, or for all: side by side, as no two write the same.
    fn run_shares(&mut self, shares: &[(Option<usize>, &[Line<T>])], at: Place) {
        let mut written: Vec<(&'static str, Vec<T>)> = Vec::new();
        for name in shares.iter().flat_map(|(_, lines)| lines.iter()).flat_map(Line::writes) {
            if !written.iter().any(|(other, _)| *other == name) {
                written.push((name, std::mem::take(self.float_mut(name, at.batch))));
            }
        }
        let model = &*self;
        let mut left: Vec<(&'static str, &mut [T])> =
            written.iter_mut().map(|(name, tensor)| (*name, &mut tensor[..])).collect();
        let mut ready = Vec::with_capacity(shares.len());
        for &(first, lines) in shares {
            let mut written = Vec::with_capacity(left.len());
            for (name, tensor) in &mut left {
                if lines.iter().any(|line| line.writes().any(|other| other == *name)) {
                    let count = first.map_or(tensor.len(), |_| elements_of_chunk(name, at).min(tensor.len()));
                    written.push((*name, tensor.split_off_mut(..count).expect("as many elements")));
                }
            }
            ready.push((OfShare { model, at, first, line: &lines[0], written }, lines));
        }
        ready.into_par_iter().for_each(|(mut share, lines)| {
            for line in lines {
                share.line = line;
                (line.twin.run)(&mut share);
            }
        });
        for (name, tensor) in written {
            *self.float_mut(name, at.batch) = tensor;
        }
    }

    fn run(&mut self, line: &Line<T>, at: Place) {
        if line.call.over.is_arena() {
            // The arenas are taken parameter by parameter.
            (0..PARAMETERS.len()).for_each(|rank| (line.twin.run)(&mut OfParameter { model: self, at, rank }));
        } else {
            (line.twin.run)(&mut OfModel { model: self, at, line });
        }
    }

    fn key(name: &str, batch: Batch) -> Key {
        key(Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}")), batch)
    }

    fn float_mut(&mut self, name: &str, batch: Batch) -> &mut Vec<T> {
        self.floats.get_mut(&Self::key(name, batch)).expect("a tensor of the program")
    }

    fn index_mut(&mut self, name: &str, batch: Batch) -> &mut Vec<u32> {
        self.indices.get_mut(&Self::key(name, batch)).expect("indices of the program")
    }
}

/// Elements that a chunk of rows has in a tensor over rows or over chunks. Panics on another.
fn elements_of_chunk(name: &str, at: Place) -> usize {
    let tensor = Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let sizes = Sizes { shape: at.shape, rows: at.rows };
    let (over, of_one) = tensor.axes.split_first().unwrap_or_else(|| panic!("{name} has no axes"));
    let count = match over {
        Axis::Row => CHUNK,
        Axis::Chunk => 1,
        _ => panic!("{name} has no rows"),
    };
    count * of_one.iter().map(|axis| axis.size(&sizes)).product::<usize>()
}

/// The tensors' names for lines that run beside others: what they write is theirs, of other tensors they see what is there.
struct OfShare<'a, T> {
    model: &'a Model<T>,
    at: Place,
    /// The first row of a chunk; none where all rows are done.
    first: Option<usize>,
    line: &'a Line<T>,
    /// Of each tensor that one of the lines writes, all or the chunk's rows.
    written: Vec<(&'static str, &'a mut [T])>,
}

impl<'a, T: Real> OfShare<'a, T> {
    /// The chunk's part of a tensor, which is all of a tensor that has no rows.
    fn part<'t, E>(&self, name: &str, tensor: &'t [E]) -> &'t [E] {
        let has_rows = || Tensor::find(name).is_some_and(|t| matches!(t.axes.first(), Some(Axis::Row | Axis::Chunk)));
        match self.first.filter(|_| has_rows()) {
            Some(first) => tensor.chunks(elements_of_chunk(name, self.at)).nth(first / CHUNK).unwrap_or_default(),
            None => tensor,
        }
    }

    fn written(&mut self, name: &str) -> &mut &'a mut [T] {
        let name = self.line.call.tensor(name);
        let found = self.written.iter_mut().find(|(other, _)| *other == name);
        &mut found.unwrap_or_else(|| panic!("none of the lines writes {name}")).1
    }
}

impl<'a, T: Real> Arguments<'a, T> for OfShare<'a, T> {
    fn context(&self) -> Context<'_> {
        let (Place { shape, rows: batch_rows, .. }, updates) = (self.at, &self.model.updates);
        let product = self.line.geometry[self.at.index];
        let (rows, product) = match self.first {
            Some(first) => (CHUNK.min(batch_rows - first), Geometry { batches: 1, ..product }),
            None => (batch_rows, product),
        };
        Context { shape, rows, batch_rows, spread: self.first.is_none(), updates, product, parameter: 0 }
    }
    fn index(&self, name: &str) -> &[u32] {
        self.part(name, &self.model.indices[&Model::<T>::key(name, self.at.batch)])
    }
    fn read(&self, name: &str) -> &[T] {
        let name = self.line.call.tensor(name);
        match self.written.iter().find(|(other, _)| *other == name) {
            Some((_, rows)) => rows,
            None => self.part(name, &self.model.floats[&Model::<T>::key(name, self.at.batch)]),
        }
    }
    fn take(&mut self, name: &str) -> Taken<'a, T> {
        Taken::Part(std::mem::take(self.written(name)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'a, T>) {
        *self.written(name) = tensor.part();
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        panic!("{name}: what counts runs alone")
    }
    fn put_counter(&mut self, name: &str, _: Vec<u32>) {
        panic!("{name}: what counts runs alone")
    }
}

struct OfModel<'a, T> {
    model: &'a mut Model<T>,
    at: Place,
    line: &'a Line<T>,
}

impl<'t, T: Real> Arguments<'t, T> for OfModel<'_, T> {
    fn context(&self) -> Context<'_> {
        let product = self.line.geometry[self.at.index];
        let Place { shape, rows, .. } = self.at;
        Context { shape, rows, batch_rows: rows, spread: true, updates: &self.model.updates, product, parameter: 0 }
    }
    fn index(&self, name: &str) -> &[u32] {
        &self.model.indices[&Model::<T>::key(name, self.at.batch)]
    }
    fn read(&self, name: &str) -> &[T] {
        &self.model.floats[&Model::<T>::key(self.line.call.tensor(name), self.at.batch)]
    }
    fn take(&mut self, name: &str) -> Taken<'t, T> {
        Taken::Whole(std::mem::take(self.model.float_mut(self.line.call.tensor(name), self.at.batch)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'t, T>) {
        *self.model.float_mut(self.line.call.tensor(name), self.at.batch) = tensor.whole();
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        std::mem::take(self.model.index_mut(name, self.at.batch))
    }
    fn put_counter(&mut self, name: &str, tensor: Vec<u32>) {
        *self.model.index_mut(name, self.at.batch) = tensor;
    }
}

/// The arenas' names for one parameter's part of them.
struct OfParameter<'a, T> {
    model: &'a mut Model<T>,
    at: Place,
    rank: usize,
}

impl<T: Real> OfParameter<'_, T> {
    fn slot(&mut self, name: &str) -> &mut Vec<T> {
        match name {
            "params" => self.model.floats.get_mut(&(PARAMETERS[self.rank].name, Batch::Train)).expect("a parameter"),
            "exp_avg" => &mut self.model.exp_avg.tensors[self.rank],
            "exp_avg_sq" => &mut self.model.exp_avg_sq.tensors[self.rank],
            "grads" => self.model.floats.get_mut(&(PARAMETERS[self.rank].gradient, Batch::Train)).expect("a gradient"),
            "grad_memory" => &mut self.model.grad_memory[self.rank],
            other => panic!("{other} is not an arena that an update writes"),
        }
    }
}

impl<'t, T: Real> Arguments<'t, T> for OfParameter<'_, T> {
    fn context(&self) -> Context<'_> {
        let product = Geometry::default();
        let (Place { shape, rows, .. }, updates, parameter) = (self.at, &self.model.updates, self.rank);
        Context { shape, rows, batch_rows: rows, spread: true, updates, product, parameter }
    }
    fn index(&self, name: &str) -> &[u32] {
        &self.model.indices[&Model::<T>::key(name, self.at.batch)]
    }
    fn read(&self, name: &str) -> &[T] {
        let Parameter { name: parameter, gradient, .. } = PARAMETERS[self.rank];
        match name {
            "grads" => &self.model.floats[&(gradient, Batch::Train)],
            "params" => &self.model.floats[&(parameter, Batch::Train)],
            other => panic!("{other} is not an arena that an update reads"),
        }
    }
    fn take(&mut self, name: &str) -> Taken<'t, T> {
        Taken::Whole(std::mem::take(self.slot(name)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'t, T>) {
        *self.slot(name) = tensor.whole();
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        std::mem::take(self.model.index_mut(name, self.at.batch))
    }
    fn put_counter(&mut self, name: &str, tensor: Vec<u32>) {
        *self.model.index_mut(name, self.at.batch) = tensor;
    }
}
