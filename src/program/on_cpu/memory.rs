//! All tensors of one model, and how lines reach them.

use super::groups::{Group, How, Line, whole};
use crate::cpu::{Arguments, Context, Real, Taken};
use crate::model::{Axis, PARAMETERS, Parameter, Role, Sizes, TENSORS, Tensor, Weights};
use crate::not_finite::NOTHING_BAD;
use crate::plan::{Shape, Update};
use crate::program::batch::{Batch, Key, Layout, key};
use rayon::prelude::*;
use std::collections::HashMap;

/// Chunks of rows that there are for each thread at least, where lines are done chunk by chunk.
const CHUNKS_A_THREAD: usize = 2;

/// All tensors of one model.
pub struct Model<T> {
    /// Parameters, gradients and what a step makes, each batch's by itself.
    pub floats: HashMap<Key, Vec<T>>,
    /// What is no float: the batches, and the counters.
    pub indices: HashMap<Key, Vec<u32>>,
    /// The optimizer's first moment.
    pub exp_avg: Weights<T>,
    /// The second.
    pub exp_avg_sq: Weights<T>,
    /// Of each parameter, the sets of gradients that the update remembers, one after the other.
    pub grad_memory: Vec<Vec<T>>,
    updates: Vec<Update>,
}

/// Where a twin runs.
#[derive(Clone, Copy)]
pub struct Place {
    /// The network's sizes.
    pub shape: Shape,
    /// The model's rows.
    pub rows: usize,
    /// Of which batch.
    pub batch: Batch,
    /// The model's place.
    pub index: usize,
}

impl Place {
    fn sizes(&self) -> Sizes {
        Sizes { shape: self.shape, rows: self.rows }
    }
}

impl<T: Real> Model<T> {
    /// Tensors of zeros: all that one of the lines names.
    pub fn new(layout: &Layout, model: usize, step: &[Group<T>], evaluation: &[Group<T>], grad_copies: usize) -> Self {
        let mut floats = HashMap::new();
        let mut indices =
            HashMap::from([(("step", Batch::Train), vec![0]), (("first_bad", Batch::Train), vec![NOTHING_BAD])]);
        for (batch, calls) in [(Batch::Train, step), (Batch::Grid, evaluation)] {
            let rows = &layout.of(batch)[model];
            let sizes = Sizes { shape: layout.shape, rows: rows.len() };
            let used = |tensor: &&Tensor| {
                matches!(tensor.role, Role::Parameter | Role::Gradient)
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
        let zeros = |parameter: &Parameter| vec![T::zero(); parameter.dims(&layout.shape).iter().product()];
        let moments = Weights { tensors: PARAMETERS.iter().map(zeros).collect() };
        let grad_memory = moments.tensors.iter().map(|zeros| zeros.repeat(grad_copies)).collect();
        Self { floats, indices, exp_avg: moments.clone(), exp_avg_sq: moments, grad_memory, updates: Vec::new() }
    }

    /// Makes ready for the first of some updates.
    pub fn begin(&mut self, updates: &[Update]) {
        self.updates.clear();
        self.updates.extend_from_slice(updates);
        self.index_mut("step", Batch::Train).fill(0);
        self.index_mut("first_bad", Batch::Train).fill(NOTHING_BAD);
    }

    /// Does all lines, as they are grouped.
    pub fn run_all(&mut self, groups: &[Group<T>], at: Place) {
        for group in groups {
            match (group.how, &group.lines[..]) {
                (_, [line]) => self.run(line, at),
                (How::ByChunks, lines) => {
                    let chunks: Vec<_> =
                        (0..at.rows).step_by(at.sizes().chunk()).map(|first| (Some(first), lines)).collect();
                    // A chunk is one core's: with few of them for many cores each line is spread over all.
                    match chunks.len() >= CHUNKS_A_THREAD * rayon::current_num_threads() {
                        true => self.run_shares(&chunks, at),
                        false => lines.iter().for_each(|line| self.run(line, at)),
                    }
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

    /// Does a line by itself.
    pub fn run(&mut self, line: &Line<T>, at: Place) {
        if line.call.over.is_arena() {
            // The arenas are taken parameter by parameter.
            (0..PARAMETERS.len()).for_each(|rank| (line.twin.run)(&mut OfParameter { model: self, at, rank }));
        } else {
            (line.twin.run)(&mut OfModel { model: self, at, line });
        }
    }

    fn key(name: &str, batch: Batch) -> Key {
        key(Tensor::find(name).unwrap_or_else(|| panic!("no tensor {name}")).whole(), batch)
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
    let sizes = at.sizes();
    let (over, of_one) = tensor.axes.split_first().unwrap_or_else(|| panic!("{name} has no axes"));
    let count = match over {
        Axis::Row => sizes.chunk(),
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
        match self.first.filter(|_| Tensor::find(name).is_some_and(Tensor::is_over_rows)) {
            Some(first) => {
                let chunk = first / self.at.sizes().chunk();
                tensor.chunks(elements_of_chunk(name, self.at)).nth(chunk).expect("a part of every chunk")
            }
            None => tensor,
        }
    }

    fn written(&mut self, name: &str) -> &mut &'a mut [T] {
        let name = whole(self.line.call.tensor(name));
        let found = self.written.iter_mut().find(|(other, _)| *other == name);
        &mut found.unwrap_or_else(|| panic!("none of the lines writes {name}")).1
    }
}

impl<'a, T: Real> Arguments<'a, T> for OfShare<'a, T> {
    fn context(&self) -> Context<'_> {
        let (Place { shape, rows: batch_rows, .. }, updates) = (self.at, &self.model.updates);
        let product = self.line.geometry[self.at.index];
        let rows = self.first.map_or(batch_rows, |first| self.at.sizes().chunk().min(batch_rows - first));
        Context {
            shape,
            rows,
            batch_rows,
            spread: self.first.is_none(),
            updates,
            product,
            copies: self.line.copies,
            parameter: 0,
        }
    }
    fn index(&self, name: &str) -> &[u32] {
        self.part(name, &self.model.indices[&Model::<T>::key(name, self.at.batch)])
    }
    fn read(&self, name: &str) -> &[T] {
        let name = whole(self.line.call.tensor(name));
        match self.written.iter().find(|(other, _)| *other == name) {
            Some((_, rows)) => rows,
            None => self.part(name, &self.model.floats[&Model::<T>::key(name, self.at.batch)]),
        }
    }
    fn take(&mut self, name: &str) -> Taken<'a, T> {
        Taken::Lent(std::mem::take(self.written(name)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'a, T>) {
        *self.written(name) = tensor.lent();
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
        Context {
            shape,
            rows,
            batch_rows: rows,
            spread: true,
            updates: &self.model.updates,
            product,
            copies: self.line.copies,
            parameter: 0,
        }
    }
    fn index(&self, name: &str) -> &[u32] {
        &self.model.indices[&Model::<T>::key(name, self.at.batch)]
    }
    fn read(&self, name: &str) -> &[T] {
        &self.model.floats[&Model::<T>::key(self.line.call.tensor(name), self.at.batch)]
    }
    fn take(&mut self, name: &str) -> Taken<'t, T> {
        Taken::Owned(std::mem::take(self.model.float_mut(self.line.call.tensor(name), self.at.batch)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'t, T>) {
        *self.model.float_mut(self.line.call.tensor(name), self.at.batch) = tensor.owned();
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
        let (product, copies) = Default::default();
        let (Place { shape, rows, .. }, updates, parameter) = (self.at, &self.model.updates, self.rank);
        Context { shape, rows, batch_rows: rows, spread: true, updates, product, copies, parameter }
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
        Taken::Owned(std::mem::take(self.slot(name)))
    }
    fn put(&mut self, name: &str, tensor: Taken<'t, T>) {
        *self.slot(name) = tensor.owned();
    }
    fn take_counter(&mut self, name: &str) -> Vec<u32> {
        std::mem::take(self.model.index_mut(name, self.at.batch))
    }
    fn put_counter(&mut self, name: &str, tensor: Vec<u32>) {
        *self.model.index_mut(name, self.at.batch) = tensor;
    }
}
