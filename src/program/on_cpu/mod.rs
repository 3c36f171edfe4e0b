//! The machine of plain Rust: runs a program's twins, model by model, in groups that go together.

mod groups;
mod memory;

use super::batch::{Batch, Layout, key, pick};
use super::{Program, State};
use crate::cpu::Real;
use crate::model::{PARAMETERS, Tensor, Weights};
use crate::not_finite::NotFinite;
use crate::plan::Update;
use anyhow::{Context as _, Result};
use groups::{Group, groups};
use memory::{Model, Place};
use rayon::prelude::*;

/// The twins of a program, ready to run.
pub struct OnCpu<T> {
    layout: Layout,
    step: Vec<Group<T>>,
    evaluation: Vec<Group<T>>,
    models: Vec<Model<T>>,
    pool: rayon::ThreadPool,
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
            let mut lines: Vec<_> = calls.iter().flat_map(|group| &group.lines).collect();
            lines.sort_by_key(|line| line.place);
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
