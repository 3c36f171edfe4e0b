//! Where tensors live: parameters, gradients, and what tables of calls work on, lie end to end in a few buffers.

use super::batch::Layout;
use super::{Call, Over};
use crate::gpu::tensors::padded;
use crate::model::{PARAMETERS, Role, Sizes, Tensor};
use std::collections::BTreeSet;

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Home {
    /// All parameters.
    Params,
    /// All gradients.
    Grads,
    /// Activations, of which no dispatch reads one and writes another: WebGPU demands that of a buffer.
    Arena(usize),
    /// One tensor.
    Own(&'static str),
}

/// Where every tensor lives.
#[derive(Clone, Debug, Default)]
pub struct Homes {
    /// The tensors of each arena, in their order.
    pub arenas: Vec<Vec<&'static str>>,
}

impl Homes {
    /// For groups of calls, each a dispatch. What products of a group write lies in one arena, as they have few bindings.
    pub fn new(groups: &[Vec<&Call>]) -> Self {
        let tensors = of_tables(groups);
        // Tensors that lie in one arena, as the first of them.
        let mut first: Vec<usize> = (0..tensors.len()).collect();
        let place = |name: &str| tensors.iter().position(|other| *other == whole(name));
        for group in groups.iter().filter(|group| group.iter().all(|call| matches!(call.over, Over::Product(..)))) {
            let written: Vec<usize> = group.iter().flat_map(|call| call.written()).filter_map(place).collect();
            for pair in written.windows(2) {
                let (from, to) = (first[pair[1]].max(first[pair[0]]), first[pair[1]].min(first[pair[0]]));
                first.iter_mut().filter(|other| **other == from).for_each(|other| *other = to);
            }
        }
        // Those that may not lie in the same.
        let mut apart = vec![BTreeSet::new(); tensors.len()];
        for group in groups {
            let written: BTreeSet<usize> =
                group.iter().flat_map(|call| call.written()).filter_map(place).map(|tensor| first[tensor]).collect();
            let read = group.iter().flat_map(|call| call.reads.clone()).filter_map(place).map(|tensor| first[tensor]);
            for tensor in read.filter(|tensor| !written.contains(tensor)) {
                apart[tensor].extend(&written);
                for &other in &written {
                    apart[other].insert(tensor);
                }
            }
        }
        let mut arena: Vec<Option<usize>> = vec![None; tensors.len()];
        for tensor in 0..tensors.len() {
            let of = first[tensor];
            if arena[of].is_none() {
                let taken: BTreeSet<usize> = apart[of].iter().filter_map(|&other| arena[other]).collect();
                arena[of] = (0..).find(|number| !taken.contains(number));
            }
            arena[tensor] = arena[of];
        }
        let count = arena.iter().flatten().max().map_or(0, |last| last + 1);
        let of_arena = |number| (0..tensors.len()).filter(|&n| arena[n] == Some(number)).map(|n| tensors[n]).collect();
        Self { arenas: (0..count).map(of_arena).collect() }
    }

    /// Whether a tensor lies in an arena of activations.
    pub fn has(&self, name: &str) -> bool {
        self.arenas.iter().any(|names| names.contains(&name))
    }

    /// The buffer of a tensor, and the element at which the tensor begins in it.
    pub fn find(&self, tensor: &'static Tensor, layout: &Layout) -> (Home, usize) {
        let sizes = Sizes { shape: layout.shape, rows: 0 };
        let before = |names: &mut dyn Iterator<Item = &'static str>| -> usize {
            let len = |name| Tensor::find(name).map_or(0, |tensor| padded(tensor.len(&sizes)) * layout.models());
            names.take_while(|name| *name != tensor.name).map(len).sum()
        };
        match tensor.role {
            Role::Arena if tensor.name == "params" => (Home::Params, 0),
            Role::Arena if tensor.name == "grads" => (Home::Grads, 0),
            Role::Parameter => (Home::Params, before(&mut PARAMETERS.iter().map(|parameter| parameter.name))),
            Role::Gradient => (Home::Grads, before(&mut PARAMETERS.iter().map(|parameter| parameter.gradient))),
            _ => match self.arenas.iter().position(|names| names.contains(&tensor.name)) {
                Some(number) => (Home::Arena(number), before(&mut self.arenas[number].iter().copied())),
                None => (Home::Own(tensor.name), 0),
            },
        }
    }
}

fn whole(name: &str) -> &str {
    Tensor::find(name).map_or(name, |tensor| tensor.whole().name)
}

/// The activations that products and copies work on, without those that have a part for each row, in the order in which they are met.
fn of_tables(groups: &[Vec<&Call>]) -> Vec<&'static str> {
    let mut tensors: Vec<&'static str> = Vec::new();
    let is_table = |call: &&&Call| matches!(call.over, Over::Product(..) | Over::Copy(..));
    for tensor in groups.iter().flatten().filter(is_table).flat_map(|call| call.tensors()).filter_map(Tensor::find) {
        let tensor = tensor.whole();
        if tensor.role == Role::Activation && !tensor.is_over_rows() && !tensors.contains(&tensor.name) {
            tensors.push(tensor.name);
        }
    }
    tensors
}
