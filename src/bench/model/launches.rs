//! Dispatches as the step model takes them, made of plans of calls.

use crate::gpu::device::Family;
use crate::gpu::kernel::{Constants, Kernel};
use crate::gpu::tensors::BLOCK;
use crate::model::{Axis, PARAMETERS, Role, Tensor};
use crate::plan::Plan;
use crate::program::arenas::{Home, Homes};
use crate::program::batch::{Batch, Layout};
use crate::program::dispatches::{
    Planned, Source, block_owner, extent, groups, plan, record, tensor_edges, title, variants,
};
use crate::program::{Call, Over, Program, cost, find};
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
pub fn of_program<'a>(
    program: &Program,
    how: &Plan,
    kernels: &'a [Kernel],
    tiles: Option<&'static str>,
) -> Result<(usize, Vec<Launch<'a>>)> {
    let train = train_pairs(how, None)?;
    let (rows, grid) = (train.len(), Pairs::grid(how.op.parse()?, how.p));
    let layout = Layout::new(how.shape(), &vec![train; how.models], &vec![grid; how.models]);
    let words = Words { layout: &layout, record: (record(kernels)?.stride / 4) as usize, copies: program.grad_copies };
    let (variants, sizes) = (variants(kernels, Family::Wide(tiles)), layout.sizes(Batch::Train));
    let calls: Vec<Call> = program.step().cloned().collect();
    let groups = groups(&variants, &calls, &sizes)?;
    let of = |group: &Vec<usize>| group.iter().map(|&place| &calls[place]).collect::<Vec<&Call>>();
    let homes = Homes::new(&groups.iter().map(of).collect::<Vec<_>>());
    let launch = |group: &Vec<usize>| -> Result<Launch<'a>> {
        let planned = plan(&variants, &calls, group, &layout, Batch::Train, &homes, MAX_WORKGROUPS)?;
        let of_group = of(group);
        let costs = || of_group.iter().map(|call| cost(call, &sizes));
        let models = layout.models() as f64;
        let buffers = planned
            .entry
            .bindings
            .iter()
            .zip(&planned.sources)
            .map(|(binding, source)| Ok((binding.name.clone(), words.of(source, &homes)?)));
        let probes = match planned.sources.iter().find_map(|source| table_of(source)) {
            Some(table) => of_entries(table, planned.workgroups),
            None => {
                let mut probes = corners(planned.workgroups);
                probes.extend(longest_slot(of_group[0], &planned, &layout));
                probes
            }
        };
        Ok(Launch {
            title: title(&of_group),
            kernel: planned.kernel,
            entry: planned.name,
            constants: planned.kernel.overrides(&planned.constants)?,
            workgroups: planned.workgroups,
            workgroup: planned.entry.workgroup,
            buffers: buffers.collect::<Result<_>>()?,
            flops: costs().map(|cost| cost.flops as f64 * models).sum(),
            bytes: costs().map(|cost| cost.bytes as f64 * models).sum(),
            probes,
        })
    };
    Ok((rows, groups.iter().map(launch).collect::<Result<_>>()?))
}

fn table_of(source: &Source) -> Option<&[u32]> {
    match source {
        Source::Words("table", words) => Some(words),
        _ => None,
    }
}

/// The first, the middle and the last workgroup of each entry of a table, the middle one for all between.
fn of_entries(table: &[u32], workgroups: [u32; 3]) -> Vec<Probe> {
    let firsts: Vec<u32> = table[4..20].iter().copied().take_while(|&first| first != u32::MAX).collect();
    let first = |entry: usize| firsts.get(entry).copied().unwrap_or(table[0]);
    let count = firsts.len();
    let of_entry = |entry: usize| {
        let (from, to) = (first(entry), first(entry + 1));
        corners([to - from, 1, workgroups[2]]).into_iter().map(move |probe| {
            let [x, _, z] = probe.workgroup;
            Probe { workgroup: [(from + x) % workgroups[0], (from + x) / workgroups[0], z], ..probe }
        })
    };
    (0..count).flat_map(of_entry).collect()
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
    fn of(&self, source: &Source, homes: &Homes) -> Result<Contents> {
        let (sizes, models) = (self.layout.sizes(Batch::Train), self.layout.models());
        let stride = |tensor: &Tensor| extent(tensor, &sizes, self.record).stride;
        let all = |names: &mut dyn Iterator<Item = &'static str>| {
            names.filter_map(Tensor::find).map(stride).sum::<usize>() * models
        };
        let parameters = || all(&mut PARAMETERS.iter().map(|parameter| parameter.name));
        Ok(match source {
            Source::Words(_, words) => Contents::Words(words.clone()),
            Source::Spare(_) => Contents::Zeros(BLOCK),
            Source::Whole(Home::Params | Home::Grads) => Contents::Zeros(parameters()),
            Source::Whole(Home::Arena(number)) => Contents::Zeros(all(&mut homes.arenas[*number].iter().copied())),
            Source::Whole(Home::Own(name)) => Contents::Zeros(stride(find(name)?) * models),
            Source::Tensor(tensor) => self.of_tensor(tensor, parameters(), stride(tensor)),
        })
    }

    fn of_tensor(&self, tensor: &'static Tensor, parameters: usize, stride: usize) -> Contents {
        let models = self.layout.models();
        let indices = self.layout.of(Batch::Train).iter().map(|rows| {
            let found = rows.tensors().into_iter().find(|(other, _)| other.name == tensor.name)?;
            let mut words = found.1;
            words.resize(stride, 0);
            Some(words)
        });
        let indices: Option<Vec<_>> = indices.collect();
        match (indices, tensor.name, tensor.role) {
            (Some(words), ..) => Contents::Words(words.concat()),
            (_, "block_owner", _) => Contents::Words(block_owner(self.layout)),
            (_, "tensor_edges", _) => Contents::Words(tensor_edges(self.layout)),
            // The first update is under way, with scalars that switch nothing off.
            (_, "step", _) => Contents::Words(vec![1; models]),
            (.., Role::Record) => Contents::Words(vec![1f32.to_bits(); stride * models]),
            (_, "grad_memory", _) => Contents::Zeros(parameters * self.copies),
            (.., Role::Arena) => Contents::Zeros(parameters),
            _ => Contents::Zeros(stride * models),
        }
    }
}
