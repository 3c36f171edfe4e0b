//! Dispatches as the step model takes them, made of plans of calls.

use crate::gpu::kernel::{Constants, Kernel};
use crate::model::{Axis, PARAMETERS, Role, Tensor};
use crate::plan::Plan;
use crate::program::batch::{Batch, Layout};
use crate::program::dispatches::{Planned, block_owner, extent, plan, record, tensor_edges, variants};
use crate::program::{Call, Over, Program, cost};
use crate::run::inputs::train_pairs;
use crate::task::Pairs;
use anyhow::Result;

/// WebGPU's default for `maxComputeWorkgroupsPerDimension`.
const MAX_WORKGROUPS: u32 = 65535;

/// A dispatch: all that the step model knows of it.
pub struct Launch<'a> {
    /// What tables call it.
    pub title: String,
    /// The shader.
    pub kernel: &'a Kernel,
    /// The entry point's name.
    pub entry: &'a str,
    /// Values of the overrides that the shader declares.
    pub constants: Constants,
    /// Along x, y and z.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup.
    pub workgroup: [u32; 3],
    /// What the entry point's variables are bound to, by name.
    pub buffers: Vec<(String, Contents)>,
    /// Two for each multiply-add.
    pub flops: f64,
    /// Of the tensors, each once.
    pub bytes: f64,
    /// The workgroups that are interpreted.
    pub probes: Vec<Probe>,
}

/// A buffer.
pub enum Contents {
    /// These words, where loops or addresses depend on them.
    Words(Vec<u32>),
    /// So many words, whose values do not matter.
    Zeros(usize),
}

/// A workgroup that is interpreted.
pub struct Probe {
    /// Its place.
    pub workgroup: [u32; 3],
    /// How many workgroups move as much as it does; 0 where it is asked for its length alone.
    pub stands_for: f64,
}

/// The first, the middle and the last workgroup along each axis, each middle one for all between its neighbours.
pub fn corners(workgroups: [u32; 3]) -> Vec<Probe> {
    let places = |n: u32| match n {
        0 | 1 => vec![(0, 1.0)],
        2 => vec![(0, 1.0), (1, 1.0)],
        _ => vec![(0, 1.0), (n / 2, f64::from(n - 2)), (n - 1, 1.0)],
    };
    let [xs, ys, zs] = workgroups.map(places);
    let mut probes = Vec::new();
    for &(z, of_z) in &zs {
        for &(y, of_y) in &ys {
            probes.extend(xs.iter().map(|&(x, of_x)| Probe { workgroup: [x, y, z], stands_for: of_x * of_y * of_z }));
        }
    }
    probes
}

/// The train rows of a model, and the dispatches of a training step on a GPU with real sizes and rows.
pub fn of_program<'a>(program: &Program, how: &Plan, kernels: &'a [Kernel]) -> Result<(usize, Vec<Launch<'a>>)> {
    let train = train_pairs(how, None)?;
    let (rows, grid) = (train.len(), Pairs::grid(how.op.parse()?, how.p));
    let layout = Layout::new(how.shape(), &vec![train; how.models], &vec![grid; how.models]);
    let words = Words { layout: &layout, record: (record(kernels)?.stride / 4) as usize, copies: program.grad_copies };
    let variants = variants(kernels, false);
    let launch = |call: &Call| -> Result<Launch<'a>> {
        let planned = plan(&variants, call, &layout, Batch::Train, MAX_WORKGROUPS)?;
        let (cost, models) = (cost(call, &layout.sizes(Batch::Train)), layout.models() as f64);
        let bindings = planned.entry.bindings.iter().zip(&planned.tensors);
        let mut probes = corners(planned.workgroups);
        probes.extend(longest_slot(call, &planned, &layout));
        Ok(Launch {
            title: call.title(),
            kernel: planned.kernel,
            entry: planned.name,
            constants: planned.kernel.overrides(&planned.constants)?,
            workgroups: planned.workgroups,
            workgroup: planned.entry.workgroup,
            buffers: bindings.map(|(binding, tensor)| (binding.name.clone(), words.of(tensor, &planned))).collect(),
            flops: cost.flops as f64 * models,
            bytes: cost.bytes as f64 * models,
            probes,
        })
    };
    Ok((rows, program.step().map(launch).collect::<Result<_>>()?))
}

/// Where a kernel goes over slots, the workgroup of the first model's slot with the most rows, "=" left out, whose rows few kernels walk;
/// it is the last slot, and so among the corners.
fn longest_slot(call: &Call, planned: &Planned, layout: &Layout) -> Option<Probe> {
    let edges = &layout.of(Batch::Train).first()?.slot_edges;
    let slot = (0..edges.len() - 2).max_by_key(|&slot| edges[slot + 1] - edges[slot])? as u32;
    let workgroup = match call.over {
        Over::Groups(Axis::Slot) => [slot, 0, 0],
        Over::Elements([Axis::Slot, _]) | Over::Fours([Axis::Slot, _]) => [0, slot / planned.entry.workgroup[1], 0],
        _ => return None,
    };
    Some(Probe { workgroup, stands_for: 0.0 })
}

/// Contents of buffers.
struct Words<'a> {
    layout: &'a Layout,
    /// Words of an update.
    record: usize,
    /// Sets of gradients that the update remembers.
    copies: usize,
}

impl Words<'_> {
    fn of(&self, tensor: &'static Tensor, planned: &Planned) -> Contents {
        let (sizes, models) = (self.layout.sizes(Batch::Train), self.layout.models());
        let stride = |tensor: &Tensor| extent(tensor, &sizes, self.record).stride;
        let arena = || {
            let parts = PARAMETERS.iter().filter_map(|parameter| Tensor::find(parameter.name));
            parts.map(stride).sum::<usize>() * models
        };
        let stride = stride(tensor);
        let indices = self.layout.of(Batch::Train).iter().map(|rows| {
            let found = rows.tensors().into_iter().find(|(other, _)| other.name == tensor.name)?;
            let mut words = found.1;
            words.resize(stride, 0);
            Some(words)
        });
        let indices: Option<Vec<_>> = indices.collect();
        match (planned.words(tensor.name), indices, tensor.name, tensor.role) {
            (Some(words), ..) => Contents::Words(words),
            (_, Some(words), ..) => Contents::Words(words.concat()),
            (.., "block_owner", _) => Contents::Words(block_owner(self.layout)),
            (.., "tensor_edges", _) => Contents::Words(tensor_edges(self.layout)),
            // The first update is under way, with scalars that switch nothing off.
            (.., "step", _) => Contents::Words(vec![1; models]),
            (.., Role::Record) => Contents::Words(vec![1f32.to_bits(); stride * models]),
            (.., "grad_memory", _) => Contents::Zeros(arena() * self.copies),
            (.., Role::Arena) => Contents::Zeros(arena()),
            _ => Contents::Zeros(stride * models),
        }
    }
}
