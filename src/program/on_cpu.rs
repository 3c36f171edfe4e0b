//! The machine of plain Rust: runs a program's twins, model by model.

use super::batch::{Batch, Key, Layout, key};
use super::{Call, Over, Program, State};
use crate::cpu::{Arguments, Context, Real, Twin, twin_of};
use crate::model::{PARAMETERS, Role, Sizes, TENSORS, Tensor, Weights};
use crate::plan::Update;
use anyhow::{Context as _, Result};
use std::collections::HashMap;

pub struct OnCpu<T> {
    layout: Layout,
    step: Vec<(Call, Twin<T>)>,
    evaluation: Vec<(Call, Twin<T>)>,
    models: Vec<Model<T>>,
    pool: rayon::ThreadPool,
}

/// All tensors of one model.
struct Model<T> {
    floats: HashMap<Key, Vec<T>>,
    indices: HashMap<Key, Vec<u32>>,
    exp_avg: Weights<T>,
    exp_avg_sq: Weights<T>,
    updates: Vec<Update>,
}

fn with_twins<'a, T: Real>(calls: impl Iterator<Item = &'a Call>) -> Result<Vec<(Call, Twin<T>)>> {
    let twin = |call: &Call| {
        let twin =
            twin_of(call.kernel, call.entry).with_context(|| format!("{}.{} has no twin", call.kernel, call.entry))?;
        Ok((call.clone(), twin))
    };
    calls.map(twin).collect()
}

impl<T: Real> OnCpu<T> {
    /// `threads` = 0 takes one for each core.
    pub fn new(program: &Program, layout: Layout, threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("no threads to run on")?;
        let (step, evaluation) = (with_twins(program.step())?, with_twins(program.evaluation())?);
        let models = (0..layout.models()).map(|model| Model::new(&layout, model, &step, &evaluation)).collect();
        Ok(Self { layout, step, evaluation, models, pool })
    }

    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    pub fn write_state(&mut self, model: usize, state: &State<T>) {
        let model = &mut self.models[model];
        for (parameter, tensor) in PARAMETERS.iter().zip(&state.weights.tensors) {
            model.floats.insert((parameter.name, Batch::Train), tensor.clone());
        }
        model.exp_avg = state.exp_avg.clone();
        model.exp_avg_sq = state.exp_avg_sq.clone();
    }

    pub fn read_state(&self, model: usize) -> State<T> {
        let (weights, model) = (self.read_weights(model), &self.models[model]);
        State { weights, exp_avg: model.exp_avg.clone(), exp_avg_sq: model.exp_avg_sq.clone() }
    }

    pub fn read_weights(&self, model: usize) -> Weights<T> {
        let tensor = |name| self.models[model].floats[&(name, Batch::Train)].clone();
        Weights { tensors: PARAMETERS.iter().map(|parameter| tensor(parameter.name)).collect() }
    }

    /// One update a model for each of its `updates`, of which every model has the same number.
    pub fn steps(&mut self, updates: &[Vec<Update>]) {
        let (shape, rows) = (self.layout.shape, &self.layout.train);
        let models = self.models.iter_mut().zip(updates).zip(rows);
        self.pool.install(|| {
            for ((model, updates), rows) in models {
                model.updates.clone_from(updates);
                model.indices.insert(("step", Batch::Train), vec![0]);
                for _ in updates {
                    for (call, twin) in &self.step {
                        let at = Place { shape, rows: rows.len(), batch: Batch::Train };
                        model.run(call, twin, at);
                    }
                }
            }
        });
    }

    /// Runs the forward pass over the grid; losses and hits can be read then.
    pub fn evaluate(&mut self) {
        self.pool.install(|| {
            for (model, rows) in self.models.iter_mut().zip(&self.layout.grid) {
                for (call, twin) in &self.evaluation {
                    let at = Place { shape: self.layout.shape, rows: rows.len(), batch: Batch::Grid };
                    model.run(call, twin, at);
                }
            }
        });
    }

    /// Runs some calls of the training step, or of the evaluation where the batch is the grid.
    pub fn run_some(&mut self, batch: Batch, indices: &[usize], updates: &[Vec<Update>]) {
        let calls = match batch {
            Batch::Train => &self.step,
            Batch::Grid => &self.evaluation,
        };
        for ((model, rows), updates) in self.models.iter_mut().zip(self.layout.of(batch)).zip(updates) {
            model.updates.clone_from(updates);
            model.indices.insert(("step", Batch::Train), vec![0]);
            for (call, twin) in indices.iter().map(|&index| &calls[index]) {
                let at = Place { shape: self.layout.shape, rows: rows.len(), batch };
                self.pool.install(|| model.run(call, twin, at));
            }
        }
    }

    /// A model's tensor. Panics on a name that no call uses.
    pub fn tensor(&self, model: usize, name: &'static str, batch: Batch) -> &[T] {
        let tensor = Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}"));
        &self.models[model].floats[&key(tensor, batch)]
    }

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
}

impl<T: Real> Model<T> {
    fn new(layout: &Layout, model: usize, step: &[(Call, Twin<T>)], evaluation: &[(Call, Twin<T>)]) -> Self {
        let mut floats = HashMap::new();
        let mut indices = HashMap::from([(("step", Batch::Train), vec![0])]);
        for (batch, calls) in [(Batch::Train, step), (Batch::Grid, evaluation)] {
            let rows = &layout.of(batch)[model];
            let sizes = Sizes { shape: layout.shape, rows: rows.len() };
            let used = |tensor: &&Tensor| {
                tensor.role == Role::Parameter
                    || calls
                        .iter()
                        .any(|(_, twin)| twin.reads.iter().chain(twin.writes).any(|&name| name == tensor.name))
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
        Self { floats, indices, exp_avg: moments.clone(), exp_avg_sq: moments, updates: Vec::new() }
    }

    fn run(&mut self, call: &Call, twin: &Twin<T>, at: Place) {
        match call.over {
            // The arenas are taken parameter by parameter.
            Over::Arena => {
                (0..PARAMETERS.len()).for_each(|rank| (twin.run)(&mut OfParameter { model: self, at, rank }))
            }
            _ => (twin.run)(&mut OfModel { model: self, at }),
        }
    }

    fn key(name: &str, batch: Batch) -> Key {
        key(Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}")), batch)
    }
}

struct OfModel<'a, T> {
    model: &'a mut Model<T>,
    at: Place,
}

impl<T: Real> Arguments<T> for OfModel<'_, T> {
    fn context(&self) -> Context<'_> {
        Context { shape: self.at.shape, rows: self.at.rows, updates: &self.model.updates }
    }
    fn index(&self, name: &str) -> &[u32] {
        &self.model.indices[&Model::<T>::key(name, self.at.batch)]
    }
    fn read(&self, name: &str) -> &[T] {
        &self.model.floats[&Model::<T>::key(name, self.at.batch)]
    }
    fn take(&mut self, name: &str) -> Vec<T> {
        std::mem::take(
            self.model.floats.get_mut(&Model::<T>::key(name, self.at.batch)).expect("a tensor of the program"),
        )
    }
    fn put(&mut self, name: &str, tensor: Vec<T>) {
        self.model.floats.insert(Model::<T>::key(name, self.at.batch), tensor);
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        std::mem::take(
            self.model.indices.get_mut(&Model::<T>::key(name, self.at.batch)).expect("a counter of the program"),
        )
    }
    fn put_counter(&mut self, name: &str, tensor: Vec<u32>) {
        self.model.indices.insert(Model::<T>::key(name, self.at.batch), tensor);
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
            other => panic!("{other} is not an arena that the optimizer writes"),
        }
    }
}

impl<T: Real> Arguments<T> for OfParameter<'_, T> {
    fn context(&self) -> Context<'_> {
        Context { shape: self.at.shape, rows: self.at.rows, updates: &self.model.updates }
    }
    fn index(&self, name: &str) -> &[u32] {
        &self.model.indices[&Model::<T>::key(name, self.at.batch)]
    }
    fn read(&self, name: &str) -> &[T] {
        assert_eq!(name, "grads", "the optimizer reads the gradients");
        &self.model.floats[&(PARAMETERS[self.rank].gradient, Batch::Train)]
    }
    fn take(&mut self, name: &str) -> Vec<T> {
        std::mem::take(self.slot(name))
    }
    fn put(&mut self, name: &str, tensor: Vec<T>) {
        *self.slot(name) = tensor;
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        panic!("the optimizer does not write {name}")
    }
    fn put_counter(&mut self, name: &str, _: Vec<u32>) {
        panic!("the optimizer does not write {name}")
    }
}
