//! The buffers of a machine of kernels, and which tensor lies where in them.

use crate::gpu::device::Gpu;
use crate::gpu::tensors::{self, Window, padded};
use crate::model::{PARAMETERS, Role, Sizes, TENSORS, Tensor};
use crate::program::arenas::{Home, Homes};
use crate::program::batch::{Batch, Key, Layout, key};
use crate::program::dispatches::{Extent, SPARES, Source, block_owner, extent, tensor_edges};
use crate::program::find;
use crate::program::sharing::Shared;
use anyhow::Result;
use std::collections::HashMap;

/// Where tensors lie, whichever device it is.
pub struct Places {
    /// In arenas.
    pub homes: Homes,
    /// In buffers that they take turns in; the others have one each.
    pub shared: Shared,
    /// Sets of gradients that the update remembers.
    pub grad_copies: usize,
    /// Words of a prepared update.
    pub update_words: usize,
}

impl Places {
    /// Elements that a model's part of a tensor takes.
    pub fn elements(&self, tensor: &'static Tensor, sizes: &[Sizes; 2], batch: Batch) -> usize {
        extent(tensor, &sizes[batch as usize], self.update_words).stride
    }

    /// Elements that a model takes of a buffer in which tensors take turns.
    fn of_shared(&self, tensors: &[(&'static Tensor, Batch)], sizes: &[Sizes; 2]) -> usize {
        tensors.iter().map(|(tensor, batch)| self.elements(tensor, sizes, *batch)).max().unwrap_or(0)
    }

    /// The large buffers, each with the bytes that a model takes in it.
    pub fn buffers(&self, sizes: &[Sizes; 2]) -> Vec<(String, u64)> {
        let parameters: usize = PARAMETERS.iter().map(|p| padded(p.dims(&sizes[0].shape).iter().product())).sum();
        let mut buffers: Vec<(String, usize)> =
            ["params", "grads", "exp_avg", "exp_avg_sq"].map(|name| (name.into(), parameters)).into();
        if self.grad_copies > 0 {
            buffers.push(("grad_memory".into(), self.grad_copies * parameters));
        }
        for names in &self.homes.arenas {
            let tensors = names.iter().filter_map(|name| Tensor::find(name));
            buffers.push((names.join(", "), tensors.map(|tensor| self.elements(tensor, sizes, Batch::Train)).sum()));
        }
        for tensors in &self.shared.buffers {
            let names: Vec<&str> = tensors.iter().map(|(tensor, _)| tensor.name).collect();
            buffers.push((names.join(", "), self.of_shared(tensors, sizes)));
        }
        for tensor in TENSORS.iter().filter(|tensor| tensor.role == Role::Index) {
            let of_batches = [Batch::Train, Batch::Grid].map(|batch| self.elements(tensor, sizes, batch));
            buffers.push((tensor.name.into(), of_batches.iter().sum()));
        }
        buffers.into_iter().map(|(name, elements)| (name, 4 * elements as u64)).collect()
    }
}

/// The buffers.
#[derive(Default)]
pub struct Memory {
    windows: HashMap<Key, Window>,
    /// Buffers of the tensors that plans set, by name and contents.
    planned: HashMap<(&'static str, Vec<u32>), Window>,
    /// A window a parameter of each arena of the optimizer.
    arenas: HashMap<&'static str, Vec<Window>>,
    /// The arenas of activations, each as a whole.
    activations: Vec<Window>,
    /// The buffers that tensors take turns in, each as a whole.
    shared: Vec<Window>,
    spares: Vec<Window>,
}

impl Memory {
    /// For the models of a layout. What only some programs need is made when it is first asked for.
    pub fn new(gpu: &Gpu, places: &Places, layout: &Layout) -> Result<Self> {
        let mut memory = Self::default();
        memory.allocate_parameters(gpu, places, layout)?;
        memory.allocate_activations(gpu, places, layout)?;
        for (name, map) in [("block_owner", block_owner(layout)), ("tensor_edges", tensor_edges(layout))] {
            let mut window = tensors::allocate(gpu, name, &[map.len()], 1)?.remove(0);
            window.bytes = (map.len() * 4) as u64;
            window.write(gpu, 0, bytemuck::cast_slice(&map));
            memory.windows.insert((name, Batch::Train), window);
        }
        for _ in 0..SPARES {
            memory.spares.push(tensors::allocate(gpu, "spare", &[1], 1)?.remove(0));
        }
        Ok(memory)
    }

    /// Parameters, gradients, moments and remembered gradients: an arena each, with a window for each parameter.
    fn allocate_parameters(&mut self, gpu: &Gpu, places: &Places, layout: &Layout) -> Result<()> {
        let lens: Vec<_> = PARAMETERS.iter().map(|p| p.dims(&layout.shape).iter().product()).collect();
        let arenas = ["params", "grads", "exp_avg", "exp_avg_sq"].map(|name| (name, lens.clone()));
        let memory = (places.grad_copies > 0).then(|| ("grad_memory", lens.repeat(places.grad_copies)));
        for (name, lens) in arenas.into_iter().chain(memory) {
            let parts = tensors::allocate(gpu, name, &lens, layout.models())?;
            self.windows.insert((name, Batch::Train), whole(&parts));
            self.arenas.insert(name, parts);
        }
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            self.windows.insert((parameter.name, Batch::Train), self.arenas["params"][rank].clone());
            self.windows.insert((parameter.gradient, Batch::Train), self.arenas["grads"][rank].clone());
        }
        Ok(())
    }

    /// The arenas of activations with a window for each of their tensors, and the buffers that other activations take turns in.
    fn allocate_activations(&mut self, gpu: &Gpu, places: &Places, layout: &Layout) -> Result<()> {
        let sizes = layout.sizes(Batch::Train);
        for (number, names) in places.homes.arenas.iter().enumerate() {
            let tensors: Vec<&'static Tensor> = names.iter().map(|name| find(name)).collect::<Result<_>>()?;
            let lens: Vec<usize> = tensors.iter().map(|tensor| tensor.len(&sizes)).collect();
            let parts = tensors::allocate(gpu, &format!("arena {number}"), &lens, layout.models())?;
            self.activations.push(whole(&parts));
            for (tensor, part) in tensors.into_iter().zip(parts) {
                self.windows.insert((tensor.name, Batch::Train), part);
            }
        }
        for buffer in &places.shared.buffers {
            let names: Vec<&str> = buffer.iter().map(|(tensor, _)| tensor.name).collect();
            let len = places.of_shared(buffer, &layout.all_sizes()) * layout.models();
            self.shared.push(tensors::allocate(gpu, &names.join(", "), &[len], 1)?.remove(0));
        }
        Ok(())
    }

    /// The buffer of a tensor that a plan sets. Plans with equal contents share it.
    fn planned(&mut self, gpu: &Gpu, name: &'static str, words: Vec<u32>) -> Result<Window> {
        let key = (name, words);
        if let Some(window) = self.planned.get(&key) {
            return Ok(window.clone());
        }
        let window = tensors::allocate(gpu, name, &[key.1.len()], 1)?.remove(0);
        window.write(gpu, 0, bytemuck::cast_slice(&key.1));
        self.planned.insert(key, window.clone());
        Ok(window)
    }

    /// The window of a tensor, made when it is first asked for.
    fn window(
        &mut self,
        gpu: &Gpu,
        places: &Places,
        layout: &Layout,
        tensor: &'static Tensor,
        batch: Batch,
    ) -> Result<Window> {
        let key = key(tensor, batch);
        if let Some(window) = self.windows.get(&key) {
            return Ok(window.clone());
        }
        let Extent { len, stride } = extent(tensor, &layout.sizes(batch), places.update_words);
        let room = stride * layout.models();
        let window = match places.shared.find(key) {
            Some(number) => self.shared[number].clone(),
            None => tensors::allocate(gpu, tensor.name, &[room], 1)?.remove(0),
        };
        let window = Window { len, stride, bytes: tensors::bytes_of_one(room), ..window };
        self.windows.insert(key, window.clone());
        Ok(window)
    }

    /// What a binding of a dispatch shows.
    pub fn of_source(
        &mut self,
        gpu: &Gpu,
        places: &Places,
        layout: &Layout,
        source: &Source,
        batch: Batch,
    ) -> Result<Window> {
        match source {
            Source::Words(name, words) => self.planned(gpu, name, words.clone()),
            Source::Tensor(tensor) => self.window(gpu, places, layout, tensor, batch),
            Source::Spare(number) => Ok(self.spares[*number].clone()),
            Source::Whole(Home::Params) => Ok(whole(&self.arenas["params"])),
            Source::Whole(Home::Grads) => Ok(whole(&self.arenas["grads"])),
            Source::Whole(Home::Arena(number)) => Ok(self.activations[*number].clone()),
            Source::Whole(Home::Own(name)) => self.window(gpu, places, layout, find(name)?, batch),
        }
    }

    /// The window of a tensor, if a dispatch needs it.
    pub fn find(&self, name: &'static str, batch: Batch) -> Option<&Window> {
        self.windows.get(&(name, batch))
    }

    /// A window for each parameter in an arena.
    pub fn of_parameters(&self, arena: &str) -> &[Window] {
        &self.arenas[arena]
    }

    /// The windows of each set of gradients that the update remembers.
    pub fn remembered(&self) -> impl Iterator<Item = &[Window]> {
        self.arenas.get("grad_memory").into_iter().flat_map(|parts| parts.chunks_exact(PARAMETERS.len()))
    }

    /// The tensors that have memory.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, Batch, &Window)> {
        self.windows.iter().map(|((name, batch), window)| (*name, *batch, window))
    }
}

/// The window that shows a whole arena, with all of its padding.
pub fn whole(windows: &[Window]) -> Window {
    let (first, last) = (&windows[0], &windows[windows.len() - 1]);
    let bytes = last.offset + last.bytes - first.offset;
    Window { bytes, len: (bytes / 4) as usize, stride: (bytes / 4) as usize, ..first.clone() }
}
