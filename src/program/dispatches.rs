//! A program's calls as dispatches: which kernel with which constants, on how many workgroups, over which tensors. Knows no device.

use super::batch::{Batch, Layout};
use super::product::geometry;
use super::{Call, Over, Uses, find};
use crate::cpu::product::Geometry;
use crate::gpu::kernel::{Binding, Constants, Element, Entry, Kernel, Record};
use crate::gpu::pass::cover;
use crate::gpu::tensors::{BLOCK, padded};
use crate::model::{Axis, CHUNK, PARAMETERS, Parameter, Role, Sizes, Tensor, WINDOW};
use crate::plan::Update;
use anyhow::{Context, Result, bail, ensure};

/// A call made ready for kernels.
pub struct Planned<'a> {
    /// The shader.
    pub kernel: &'a Kernel,
    /// The entry point's name.
    pub name: &'static str,
    /// The entry point with its bindings.
    pub entry: Entry,
    /// The host's constants, of which the shader takes those that it declares.
    pub constants: Constants,
    /// Along x, y and z. z counts models, of a product the matrices of all models; over arenas it is 1, and x and y hold the
    /// blocks of all models.
    pub workgroups: [u32; 3],
    /// What plays each of the entry's bindings.
    pub tensors: Vec<&'static Tensor>,
    /// Where a product's matrices stand.
    pub geometry: Option<[u32; 15]>,
    /// Rows that a model's part of a tensor over rows has room for.
    pub row_capacity: u32,
}

impl Planned<'_> {
    /// The contents of a tensor that the plan sets, `geometry` or `row_capacity`; None for other tensors.
    pub fn words(&self, tensor: &str) -> Option<Vec<u32>> {
        match tensor {
            "geometry" => self.geometry.map(|words| words.to_vec()),
            "row_capacity" => Some(vec![self.row_capacity]),
            _ => None,
        }
    }
}

/// Plans a call for a device that allows `most` workgroups a dimension.
pub fn plan<'a>(kernels: &[&'a Kernel], call: &Call, layout: &Layout, batch: Batch, most: u32) -> Result<Planned<'a>> {
    let constants = constants_of(call, layout, batch)?;
    let kernel = kernels.iter().find(|kernel| stem(kernel) == call.kernel);
    let kernel = *kernel.with_context(|| format!("no shader {}.wgsl", call.kernel))?;
    let entry = kernel.entry(call.entry, &constants)?;
    let tensors = entry.bindings.iter().map(|binding| find(call.tensor(&binding.name))).collect::<Result<_>>()?;
    let sizes = layout.sizes(batch);
    let product = geometry(call, &sizes)?;
    let workgroups = workgroups(call, kernel, &entry, layout, batch, most)?;
    let geometry = product.as_ref().map(words);
    let row_capacity = sizes.rows as u32;
    Ok(Planned { kernel, name: call.entry, entry, constants, workgroups, tensors, geometry, row_capacity })
}

/// How a tensor lies in memory, in elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Of one model's part.
    pub len: usize,
    /// From one model's part to the next.
    pub stride: usize,
}

/// Records of `record` words; a model's records, counter or number of rows stand without padding between them.
pub fn extent(tensor: &Tensor, sizes: &Sizes, record: usize) -> Extent {
    let elements = if tensor.role == Role::Record { record } else { 1 };
    let len = elements * tensor.len(sizes);
    let dense = tensor.role == Role::Record || tensor.axes.is_empty();
    Extent { len, stride: if dense { len } else { padded(len) } }
}

/// Blocks of a model's part of a parameter.
fn blocks(parameter: &Parameter, layout: &Layout) -> usize {
    padded(parameter.dims(&layout.shape).iter().product()) / BLOCK
}

/// First block of every model's part of every parameter, and the end of the last.
pub fn tensor_edges(layout: &Layout) -> Vec<u32> {
    let of_models = |parameter| std::iter::repeat_n(blocks(parameter, layout) as u32, layout.models());
    let parts = PARAMETERS.iter().flat_map(of_models);
    let ends = parts.scan(0, |end, blocks| {
        *end += blocks;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Whom each block of the arenas belongs to, as shared/update.wgsl takes it apart: the model, 2^24 times the parameter's rank, and
/// 2^30 of a matrix between embedding and unembedding or 2^31 of a bias.
pub fn block_owner(layout: &Layout) -> Vec<u32> {
    let of_tensor = |(rank, parameter): (usize, &Parameter)| {
        let blocks = blocks(parameter, layout);
        let kind = u32::from(parameter.is_hidden_matrix()) << 30 | u32::from(parameter.is_bias()) << 31;
        let parameter = (rank as u32) << 24 | kind;
        (0..layout.models() as u32).flat_map(move |model| std::iter::repeat_n(model | parameter, blocks))
    };
    PARAMETERS.iter().enumerate().flat_map(of_tensor).collect()
}

/// The kernels for a device: those for subgroups of eight where it has them, the plain ones where not.
pub fn variants(kernels: &[Kernel], subgroups_of_eight: bool) -> Vec<&Kernel> {
    let has_variant = |kernel: &Kernel| kernels.iter().any(|other| other.stem == format!("{}{SUBGROUP}", kernel.stem));
    let wanted = |kernel: &&Kernel| match subgroups_of_eight {
        true => !has_variant(kernel),
        false => !kernel.stem.ends_with(SUBGROUP),
    };
    kernels.iter().filter(wanted).collect()
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
    add("LOGITS_ROW", find(call.tensor("logits"))?.dims(&sizes)[1]);
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

/// So many workgroups in rows of at most `most`, the last row not full.
fn folded(groups: usize, most: u32) -> [u32; 3] {
    let rows = (groups as u32).div_ceil(most);
    [(groups as u32).div_ceil(rows), rows, 1]
}

fn workgroups(
    call: &Call,
    kernel: &Kernel,
    entry: &Entry,
    layout: &Layout,
    batch: Batch,
    most: u32,
) -> Result<[u32; 3]> {
    let (sizes, models) = (layout.sizes(batch), layout.models());
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
            let tiles = |axis: Axis| axis.size(&sizes).div_ceil(tile);
            cover([tiles(x), tiles(y), models], entry.workgroup)
        }
        // A block a workgroup, folded where one dimension cannot hold them.
        Over::Arena => folded(block_owner(layout).len(), most),
        Over::Tensors => folded(PARAMETERS.len() * models, most),
    };
    ensure!(
        groups.iter().all(|&n| n <= most),
        "{}.{} needs {groups:?} workgroups and {most} a dimension are allowed: expected smaller sizes or fewer models",
        call.kernel,
        call.entry
    );
    Ok(groups)
}

/// The layout of the updates, as the optimizer's shader declares it.
pub fn record(kernels: &[Kernel]) -> Result<Record> {
    let entry =
        kernel(kernels, "adamw")?.entry("update", &any_constants(&super::run("adamw", "update", Over::Arena))?)?;
    let declared = entry.bindings.into_iter().find_map(|binding| match binding.element {
        Element::Record(record) if binding.name == "updates" => Some(record),
        _ => None,
    });
    declared.context("adamw.update: no variable 'updates' that is an array of structs")
}
