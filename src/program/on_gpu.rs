//! The machine of kernels: a program's calls as dispatches with their tensors bound by name, recorded once and replayed.

use super::batch::{Batch, Layout, key};
use super::product::geometry;
use super::{Call, Over, Program, State, Uses, find};
use crate::cpu::product::Geometry;
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Binding, Constants, Element, Entry, Kernel, Record};
use crate::gpu::pass::{Compiled, Dispatch, Pipeline, cover, submit, timed};
use crate::gpu::tensors::{self, BLOCK, Window, padded};
use crate::model::{CHUNK, PARAMETERS, Role, Tensor, WINDOW, Weights};
use crate::plan::Update;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

pub struct OnGpu {
    pub gpu: Gpu,
    layout: Layout,
    windows: HashMap<(&'static str, Batch), Window>,
    /// A window a parameter of each arena.
    arenas: HashMap<&'static str, Vec<Window>>,
    update: Record,
    step: Vec<Dispatch>,
    evaluation: Vec<Dispatch>,
}

/// The values of the shaders' overrides.
fn constants(layout: &Layout, batch: Batch) -> Constants {
    let sizes = layout.sizes(batch);
    let shape = sizes.shape;
    let constants = [
        ("P", shape.p),
        ("D_MODEL", shape.d_model),
        ("N_HEADS", shape.n_heads),
        ("D_HEAD", shape.d_head()),
        ("D_MLP", shape.d_mlp),
        ("D_VOCAB_OUT", shape.d_vocab_out),
        ("ROWS", sizes.rows),
        ("BLOCK", BLOCK),
        ("WINDOW", WINDOW),
        ("CHUNK", CHUNK),
    ];
    constants.into_iter().map(|(name, value)| (name, value as u32)).collect()
}

/// The numbers of `geometry` as shared/place.wgsl names them.
fn words(g: &Geometry) -> [u32; 15] {
    let sizes = [g.i, g.j, g.k, g.batches, g.rows_are as usize, usize::from(g.adds)];
    let operands = [g.a, g.b, g.c].map(|operand| [operand.len, operand.row, operand.batch]);
    let mut numbers = sizes.iter().chain(operands.as_flattened());
    std::array::from_fn(|_| numbers.next().map_or(0, |&n| n as u32))
}

/// The same for one call: the stride of the tensor that plays `logits`.
fn constants_of(call: &Call, layout: &Layout, batch: Batch) -> Result<Constants> {
    let sizes = layout.sizes(batch);
    let mut constants = constants(layout, batch);
    let mut add = |name, value: usize| constants.push((name, value as u32));
    if call.kernel == "loss" {
        add("LOGITS_ROW", find(call.tensor("logits"))?.dims(&sizes)[1]);
    }
    Ok(constants)
}

/// Constants for reflection where no sizes are known: they change neither names nor access.
fn any_constants(call: &Call) -> Result<Constants> {
    let shape = crate::plan::Shape { p: 3, d_model: 2, n_heads: 1, d_mlp: 1, d_vocab_out: 3 };
    constants_of(call, &Layout::new(shape, &[], &[]), Batch::Train)
}

fn kernel<'a>(kernels: &'a [Kernel], stem: &str) -> Result<&'a Kernel> {
    kernels.iter().find(|kernel| kernel.stem == stem).with_context(|| format!("no shader {stem}.wgsl"))
}

/// How the file of a variant with subgroups ends.
const SUBGROUP: &str = "_subgroup";

/// The name under which programs call a kernel, whichever variant it is.
fn stem(kernel: &Kernel) -> &str {
    kernel.stem.strip_suffix(SUBGROUP).unwrap_or(&kernel.stem)
}

/// What a call reads and writes according to its shader, each name being a tensor of the type that the table gives it.
pub fn uses(kernels: &[Kernel], call: &Call) -> Result<Uses> {
    let entry = kernel(kernels, call.kernel)?.entry(call.entry, &any_constants(call)?)?;
    let mut uses = Uses { reads: Vec::new(), writes: Vec::new() };
    for binding in entry.bindings {
        let tensor = find(call.tensor(&binding.name))?;
        check_element(&binding, tensor)?;
        if binding.reads && !(binding.writes && tensor.role == Role::Counter) {
            uses.reads.push(tensor.name.into());
        }
        if binding.writes {
            uses.writes.push(tensor.name.into());
        }
    }
    Ok(uses)
}

/// Whether a variable's type is the one that the table gives its name.
fn check_element(binding: &Binding, tensor: &Tensor) -> Result<()> {
    let name = tensor.name;
    match (tensor.role, &binding.element) {
        (Role::Index | Role::Counter | Role::Layout, Element::U32) => Ok(()),
        (Role::Parameter | Role::Gradient | Role::Activation | Role::Arena, Element::F32) => Ok(()),
        (Role::Activation, Element::Vec4) if tensor.in_fours() => Ok(()),
        (Role::Activation, Element::Vec4) => bail!("{name} is declared as vec4s, and its rows are not whole ones"),
        (Role::Record, Element::Record(record)) => record.pack(|member| Update::default().member(member)).map(|_| ()),
        (role, element) => bail!("{name} is declared as an array of {element:?}, and the table says {role:?}"),
    }
}

impl OnGpu {
    pub async fn new(gpu: Gpu, kernels: &[Kernel], program: &Program, layout: Layout) -> Result<Self> {
        super::check(program.step(), true, |call| uses(kernels, call))?;
        super::check(program.evaluation(), false, |call| uses(kernels, call))?;
        let lens: Vec<_> = PARAMETERS.iter().map(|p| p.dims(&layout.shape).iter().product()).collect();
        let mut arenas = HashMap::new();
        let mut windows = HashMap::new();
        for name in ["params", "grads", "exp_avg", "exp_avg_sq"] {
            let parts = tensors::allocate(&gpu, name, &lens, layout.models())?;
            windows.insert((name, Batch::Train), whole(&parts));
            arenas.insert(name, parts);
        }
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            windows.insert((parameter.name, Batch::Train), arenas["params"][rank].clone());
            windows.insert((parameter.gradient, Batch::Train), arenas["grads"][rank].clone());
        }
        let (step, evaluation) = (Vec::new(), Vec::new());
        let mut machine = Self { windows, arenas, update: record(kernels)?, step, evaluation, layout, gpu };
        machine.allocate_layout()?;
        let mut compiled = Vec::new();
        for kernel in machine.variants(kernels) {
            compiled.push(Compiled::new(&machine.gpu, kernel).await?);
        }
        machine.step = machine.record(&compiled, program.step(), Batch::Train).await?;
        machine.evaluation = machine.record(&compiled, program.evaluation(), Batch::Grid).await?;
        machine.write_rows()?;
        Ok(machine)
    }

    /// The kernels for this device: those for subgroups of eight where it has them, the plain ones where not.
    fn variants<'a>(&self, kernels: &'a [Kernel]) -> Vec<&'a Kernel> {
        let has_variant =
            |kernel: &Kernel| kernels.iter().any(|other| other.stem == format!("{}{SUBGROUP}", kernel.stem));
        let wanted = |kernel: &&Kernel| match self.gpu.has_subgroups_of_eight() {
            true => !has_variant(kernel),
            false => !kernel.stem.ends_with(SUBGROUP),
        };
        kernels.iter().filter(wanted).collect()
    }

    /// The map from blocks of the arenas to models.
    fn allocate_layout(&mut self) -> Result<()> {
        let models = self.layout.models();
        let of_tensor = |parameter: &crate::model::Parameter| {
            let blocks = padded(parameter.dims(&self.layout.shape).iter().product()) / BLOCK;
            (0..models as u32).flat_map(move |model| std::iter::repeat_n(model, blocks))
        };
        let map: Vec<u32> = PARAMETERS.iter().flat_map(of_tensor).collect();
        let mut window = tensors::allocate(&self.gpu, "block_model", &[map.len()], 1)?.remove(0);
        window.bytes = (map.len() * 4) as u64;
        window.write(&self.gpu, 0, bytemuck::cast_slice(&map));
        self.windows.insert(("block_model", Batch::Train), window);
        Ok(())
    }

    /// A buffer of a product's own that says where its matrices stand.
    fn geometry(&self, geometry: &Geometry) -> Result<Window> {
        let words = words(geometry);
        let window = tensors::allocate(&self.gpu, "geometry", &[words.len()], 1)?.remove(0);
        window.write(&self.gpu, 0, bytemuck::cast_slice(&words));
        Ok(window)
    }

    /// The window of a tensor, made when it is first asked for.
    fn window(&mut self, tensor: &'static Tensor, batch: Batch) -> Result<Window> {
        let key = key(tensor, batch);
        if let Some(window) = self.windows.get(&key) {
            return Ok(window.clone());
        }
        let elements = match tensor.role {
            Role::Record => (self.update.stride / 4) as usize,
            _ => 1,
        };
        let len = elements * tensor.len(&self.layout.sizes(batch));
        // A model's records, counter or number of rows stand without padding between them.
        let dense = matches!(tensor.role, Role::Record) || tensor.axes.is_empty();
        let models = self.layout.models();
        let mut window = match dense {
            true => tensors::allocate(&self.gpu, tensor.name, &[len * models], 1)?.remove(0),
            false => tensors::allocate(&self.gpu, tensor.name, &[len], models)?.remove(0),
        };
        if dense {
            (window.len, window.stride) = (len, len);
        }
        self.windows.insert(key, window.clone());
        Ok(window)
    }

    async fn record<'a>(
        &mut self,
        compiled: &[Compiled<'_>],
        calls: impl Iterator<Item = &'a Call>,
        batch: Batch,
    ) -> Result<Vec<Dispatch>> {
        let mut dispatches = Vec::new();
        let mut pipelines: HashMap<(&str, &str, Constants), Pipeline> = HashMap::new();
        for call in calls {
            let constants = constants_of(call, &self.layout, batch)?;
            let module = compiled.iter().find(|compiled| stem(compiled.kernel) == call.kernel);
            let module = module.with_context(|| format!("no shader {}.wgsl", call.kernel))?;
            let entry = module.kernel.entry(call.entry, &constants)?;
            for binding in entry.bindings.iter().filter(|binding| binding.name != "geometry") {
                self.window(find(call.tensor(&binding.name))?, batch)?;
            }
            let workgroups = self.workgroups(call, module.kernel, &entry, batch)?;
            let product = geometry(call, &self.layout.sizes(batch))?.map(|g| self.geometry(&g)).transpose()?;
            let tensor = |binding: &Binding| {
                let tensor = find(call.tensor(&binding.name))?;
                if let ("geometry", Some(window)) = (tensor.name, &product) {
                    return Ok(window.clone());
                }
                let key = key(tensor, batch);
                self.windows.get(&key).cloned().with_context(|| format!("no memory for {}", tensor.name))
            };
            // Calls that differ in their tensors alone share a pipeline: software adapters take a second to compile one.
            let key = (call.kernel, call.entry, module.kernel.overrides(&constants)?);
            let pipeline = match pipelines.get(&key) {
                Some(pipeline) => pipeline,
                None => {
                    let pipeline = module.pipeline(&self.gpu, call.entry, &entry, &constants).await?;
                    pipelines.entry(key).or_insert(pipeline)
                }
            };
            dispatches.push(pipeline.dispatch(&self.gpu, &entry, workgroups, tensor).await?);
        }
        Ok(dispatches)
    }

    fn workgroups(&self, call: &Call, kernel: &Kernel, entry: &Entry, batch: Batch) -> Result<[u32; 3]> {
        let sizes = self.layout.sizes(batch);
        let models = self.layout.models();
        let most = self.gpu.device.limits().max_compute_workgroups_per_dimension;
        let groups = match call.over {
            Over::Models => [1, 1, models as u32],
            Over::Fours([x]) => cover([x.size(&sizes) / 4, 1, models], entry.workgroup),
            Over::Fours([y, x]) => cover([x.size(&sizes) / 4, y.size(&sizes), models], entry.workgroup),
            Over::Groups(x) => [x.size(&sizes) as u32, 1, models as u32],
            Over::Product(..) => {
                let g = geometry(call, &sizes)?.context("a product has a geometry")?;
                let tile = |name| kernel.constant(name).with_context(|| format!("no constant {name}"));
                let tiles = |size: usize, tile: u32| (size as u32).div_ceil(tile);
                [tiles(g.j, tile("TILE_COLUMNS")?), tiles(g.i, tile("TILE_ROWS")?), (g.batches * models) as u32]
            }
            Over::Elements([x]) => cover([x.size(&sizes), 1, models], entry.workgroup),
            Over::Elements([y, x]) => cover([x.size(&sizes), y.size(&sizes), models], entry.workgroup),
            Over::Elements(axes) | Over::Fours(axes) => {
                bail!("{}.{}: {} axes, expected one or two", call.kernel, call.entry, axes.len())
            }
            Over::Tiles([y, x]) => {
                let tile = kernel.constant("TILE").context("no constant TILE")? as usize;
                let tiles = |axis: crate::model::Axis| axis.size(&sizes).div_ceil(tile);
                cover([tiles(x), tiles(y), models], entry.workgroup)
            }
            // A block a workgroup, folded where one dimension cannot hold them.
            Over::Arena => {
                let blocks = (self.windows[&("block_model", Batch::Train)].bytes / 4) as u32;
                let rows = blocks.div_ceil(most);
                [blocks.div_ceil(rows), rows, 1]
            }
        };
        ensure!(
            groups.iter().all(|&n| n <= most),
            "{}.{} needs {groups:?} workgroups and {} allows {most} a dimension: expected a smaller p or fewer models",
            call.kernel,
            call.entry,
            crate::gpu::device::title(&self.gpu.info)
        );
        Ok(groups)
    }

    fn write_rows(&mut self) -> Result<()> {
        for batch in [Batch::Train, Batch::Grid] {
            for model in 0..self.layout.models() {
                for (tensor, values) in self.layout.of(batch)[model].tensors() {
                    if let Some(window) = self.windows.get(&(tensor.name, batch)) {
                        window.write(&self.gpu, model, bytemuck::cast_slice(&values));
                    }
                }
            }
        }
        self.gpu.check()
    }

    pub fn write_state(&mut self, model: usize, state: &State<f32>) -> Result<()> {
        let parts = [("params", &state.weights), ("exp_avg", &state.exp_avg), ("exp_avg_sq", &state.exp_avg_sq)];
        for (arena, weights) in parts {
            for (window, tensor) in self.arenas[arena].iter().zip(&weights.tensors) {
                window.write(&self.gpu, model, bytemuck::cast_slice(tensor));
            }
        }
        self.gpu.check()
    }

    /// Weights and moments of every model.
    pub async fn read_states(&self) -> Result<Vec<State<f32>>> {
        let params = self.read_arena("params").await?;
        let exp_avg = self.read_arena("exp_avg").await?;
        let exp_avg_sq = self.read_arena("exp_avg_sq").await?;
        let models = params.into_iter().zip(exp_avg).zip(exp_avg_sq);
        Ok(models.map(|((weights, exp_avg), exp_avg_sq)| State { weights, exp_avg, exp_avg_sq }).collect())
    }

    /// Weights of every model.
    pub async fn read_weights(&self) -> Result<Vec<Weights<f32>>> {
        self.read_arena("params").await
    }

    async fn read_arena(&self, name: &str) -> Result<Vec<Weights<f32>>> {
        let windows = &self.arenas[name];
        let arena = tensors::read(&self.gpu, &[&whole(windows)]).await?.remove(0);
        let of_model = |model: usize| {
            let tensor = |window: &Window| {
                let start = ((window.offset - windows[0].offset) / 4) as usize + model * window.stride;
                arena[start..start + window.len].iter().map(|&bits| f32::from_bits(bits)).collect()
            };
            Weights { tensors: windows.iter().map(tensor).collect() }
        };
        Ok((0..self.layout.models()).map(of_model).collect())
    }

    /// One update a model for each of its `updates`, all in one submission; at most [`WINDOW`].
    pub async fn steps(&mut self, updates: &[Vec<Update>]) -> Result<()> {
        self.write_updates(updates)?;
        submit(&self.gpu, self.step.iter(), updates[0].len());
        self.gpu.wait().await
    }

    fn write_updates(&self, updates: &[Vec<Update>]) -> Result<()> {
        for (model, updates) in updates.iter().enumerate() {
            ensure!(updates.len() <= WINDOW, "{} updates at once: expected at most {WINDOW}", updates.len());
            let mut bytes = Vec::new();
            for update in updates {
                bytes.extend(self.update.pack(|member| update.member(member))?);
            }
            self.windows[&("updates", Batch::Train)].write(&self.gpu, model, &bytes);
            self.windows[&("step", Batch::Train)].write(&self.gpu, model, bytemuck::bytes_of(&0u32));
        }
        Ok(())
    }

    /// Loss and hit of every row of every model's grid.
    pub async fn evaluate(&mut self) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
        submit(&self.gpu, self.evaluation.iter(), 1);
        let windows = ["row_loss", "row_correct"].map(|name| &self.windows[&(name, Batch::Grid)]);
        let read = tensors::read(&self.gpu, &windows).await?;
        let rows = |window: &Window, data: &[u32], model: usize| {
            let grid = &self.layout.grid[model];
            let of_rows: Vec<f32> = data[model * window.stride..].iter().map(|&bits| f32::from_bits(bits)).collect();
            grid.by_pair(&of_rows[..grid.len()])
        };
        let of_model = |model| (rows(windows[0], &read[0], model), rows(windows[1], &read[1], model));
        Ok((0..self.layout.models()).map(of_model).collect())
    }

    // Single kernels, for tests and benchmarks.

    /// Runs some calls of the training step, or of the evaluation where the batch is the grid.
    pub async fn run_some(&self, batch: Batch, indices: &[usize], updates: &[Vec<Update>]) -> Result<()> {
        self.write_updates(updates)?;
        let dispatches = match batch {
            Batch::Train => &self.step,
            Batch::Grid => &self.evaluation,
        };
        submit(&self.gpu, indices.iter().map(|&index| &dispatches[index]), 1);
        self.gpu.wait().await
    }

    /// Seconds of each call of a training step by the device's own clock, where it has one.
    pub async fn time_step(&self, updates: &[Vec<Update>]) -> Result<Option<Vec<f64>>> {
        self.write_updates(updates)?;
        timed(&self.gpu, &self.step).await
    }

    /// The names of the tensors that have memory.
    pub fn tensors(&self) -> impl Iterator<Item = (&'static str, Batch, &Window)> {
        self.windows.iter().map(|((name, batch), window)| (*name, *batch, window))
    }
}

/// The window that shows a whole arena, with all of its padding.
fn whole(windows: &[Window]) -> Window {
    let (first, last) = (&windows[0], &windows[windows.len() - 1]);
    let bytes = last.offset + last.bytes - first.offset;
    Window { bytes, len: (bytes / 4) as usize, stride: (bytes / 4) as usize, ..first.clone() }
}

/// The layout of the updates, as the optimizer's shader declares it.
fn record(kernels: &[Kernel]) -> Result<Record> {
    let entry =
        kernel(kernels, "adamw")?.entry("update", &any_constants(&super::run("adamw", "update", Over::Arena))?)?;
    let declared = entry.bindings.into_iter().find_map(|binding| match binding.element {
        Element::Record(record) if binding.name == "updates" => Some(record),
        _ => None,
    });
    declared.context("adamw.update: no variable 'updates' that is an array of structs")
}
