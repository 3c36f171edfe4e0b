//! A program's calls as dispatches: which kernel with which constants, on how many workgroups, over which buffers. Knows no device.

use super::arenas::{Home, Homes};
use super::batch::{Batch, Layout};
use super::schedule::{self, Together};
use super::table::{Table, table};
use super::{Call, Over, find};
use crate::gpu::device::{Family, TILES};
use crate::gpu::kernel::{Binding, Constants, Element, Entry, Kernel, Record};
use crate::gpu::pass::cover;
use crate::gpu::tensors::{BLOCK, padded};
use crate::model::{Axis, PARAMETERS, Parameter, Role, SPLIT, Sizes, Tensor, WINDOW};
use crate::plan::Update;
use anyhow::{Context, Result, bail, ensure};

/// Some calls made ready for a kernel that does them in one dispatch.
pub struct Planned<'a> {
    /// The shader.
    pub kernel: &'a Kernel,
    /// The entry point's name.
    pub name: &'static str,
    /// The entry point with its bindings.
    pub entry: Entry,
    /// The host's constants, of which the shader takes those that it declares.
    pub constants: Constants,
    /// Along x, y and z. z counts models; over arenas it is 1, and x and y hold the blocks of all models.
    pub workgroups: [u32; 3],
    /// What each of the entry's bindings is bound to.
    pub sources: Vec<Source>,
    /// The places of the calls in the list that was planned.
    pub calls: Vec<usize>,
}

/// What a binding shows.
#[derive(Clone, Debug)]
pub enum Source {
    /// A tensor of all models.
    Tensor(&'static Tensor),
    /// A buffer from its beginning to its end.
    Whole(Home),
    /// Numbers that the plan sets, under a name.
    Words(&'static str, Vec<u32>),
    /// Nothing: the kernel's other entries use the binding, or other calls do. 0 is for reading, each other one for one binding that may
    /// be written.
    Spare(usize),
}

/// The entry point that does a call. Those of a kernel with a table do several kinds.
pub fn entry_of(call: &Call) -> &'static str {
    match (call.over, call.entry) {
        (Over::Product(..), _) => "multiply",
        (Over::Copy(..), "pad") | (_, "tick") => "pad",
        (Over::Copy(..), _) => "unpack",
        (_, entry) => entry,
    }
}

/// "product.multiply -> q4, W_O_read, W_logit": what a dispatch does, or the call's own title if it does one.
pub fn title(calls: &[&Call]) -> String {
    match calls {
        [call] => call.title(),
        _ => {
            let results: Vec<_> = calls.iter().flat_map(|call| call.written()).collect();
            format!("{}.{} -> {}", calls[0].kernel, entry_of(calls[0]), results.join(", "))
        }
    }
}

/// Whether a call is an entry of a table.
fn is_entry(call: &Call) -> bool {
    matches!(call.over, Over::Product(..) | Over::Copy(..)) || call.entry == "tick"
}

/// Which calls are dispatched together: those that do not need each other and are entries of one table.
pub fn groups(kernels: &[&Kernel], calls: &[Call], sizes: &Sizes) -> Result<Vec<Vec<usize>>> {
    let merges = |call: &Call| is_entry(call) && kernel_of(kernels, call).is_ok_and(|kernel| !has_one_entry(kernel));
    let kind = |call: &Call| {
        let together = if merges(call) { Together::Independent } else { Together::Never };
        ((call.kernel, entry_of(call)), together)
    };
    Ok(schedule::groups(calls, sizes, kind))
}

/// Whether a kernel's table has one entry, whose operands have bindings of their own: `from0` shows the first of [`OPERANDS`]. The
/// products for renderers on a CPU do, where choosing a buffer for each load is slow.
fn has_one_entry(kernel: &Kernel) -> bool {
    stem(kernel) == TILES[0] && !TILES.contains(&&kernel.stem[..])
}

/// The roles of a product, in the order of such bindings.
const OPERANDS: [&str; 3] = ["A", "B", "gate"];

fn kernel_of<'a>(kernels: &[&'a Kernel], call: &Call) -> Result<&'a Kernel> {
    let kernel = kernels.iter().find(|kernel| stem(kernel) == call.kernel);
    kernel.copied().with_context(|| format!("no shader {}.wgsl", call.kernel))
}

/// Plans a group of calls for a device that allows `most` workgroups a dimension.
pub fn plan<'a>(
    kernels: &[&'a Kernel],
    calls: &[Call],
    group: &[usize],
    layout: &Layout,
    batch: Batch,
    homes: &Homes,
    most: u32,
) -> Result<Planned<'a>> {
    let of_group: Vec<&Call> = group.iter().map(|&place| &calls[place]).collect();
    let call = of_group[0];
    let constants = constants_of(call, layout, batch)?;
    // The largest tiles that leave enough workgroups.
    let candidates = kernels.iter().filter(|kernel| stem(kernel) == call.kernel);
    let mut chosen = None;
    for kernel in candidates {
        let made = if is_entry(call) { Some(table(&of_group, kernel, layout, batch, homes)?) } else { None };
        let leaves_enough = |table: &Table| table.words[0] as usize * layout.models() >= ENOUGH_WORKGROUPS;
        if chosen.is_none() || made.as_ref().is_some_and(leaves_enough) {
            chosen = Some((*kernel, made));
        }
    }
    let (kernel, table) = chosen.with_context(|| format!("no shader {}.wgsl", call.kernel))?;
    let name = entry_of(call);
    let entry = kernel.entry(name, &constants)?;
    let workgroups = match &table {
        Some(table) => {
            let [x, y, _] = folded(table.words[0] as usize, most);
            [x, y, layout.models() as u32]
        }
        None => workgroups(call, kernel, &entry, layout, batch, most)?,
    };
    let row_capacity = layout.sizes(batch).rows as u32;
    let ticks = of_group.iter().any(|call| call.entry == "tick");
    // What `from0` and so on show where a table has one entry.
    let operand = |name: &str| {
        let role = OPERANDS.get(name.strip_prefix("from")?.parse::<usize>().ok()?)?;
        Some(match call.roles.iter().find(|(other, _)| other == role) {
            Some((_, tensor)) => find(tensor).map(|tensor| Source::Whole(homes.find(tensor.whole(), layout).0)),
            None => Ok(Spare::ToRead.source()),
        })
    };
    let source = |binding: &Binding| {
        let numbered = |prefix: &str, list: &[Home]| {
            let number: usize = binding.name.strip_prefix(prefix)?.parse().ok()?;
            let spare = if binding.writable { Spare::Into(number) } else { Spare::ToRead };
            Some(list.get(number).map_or(spare.source(), |&home| Source::Whole(home)))
        };
        Ok(match (&table, &binding.name[..]) {
            (_, LAUNCH_FIRST) => Source::Words(LAUNCH_FIRST, vec![0; 4]),
            (_, "row_capacity") => Source::Words("row_capacity", vec![row_capacity]),
            (Some(table), "table") => Source::Words("table", table.words.clone()),
            (Some(_), "step") if !ticks => Spare::Step.source(),
            (Some(Table { from, into, .. }), name) => {
                let of_from = if has_one_entry(kernel) { operand(name).transpose()? } else { numbered("from", from) };
                let found = of_from.or_else(|| numbered("into", into));
                found.map_or_else(|| find(name).map(Source::Tensor), Ok)?
            }
            (None, name) => Source::Tensor(find(call.tensor(name))?),
        })
    };
    if !is_entry(call) {
        check_declared(call, &entry).with_context(|| format!("{}.{name}", call.kernel))?;
    }
    let sources: Vec<Source> = entry.bindings.iter().map(source).collect::<Result<_>>()?;
    check_exclusive(&entry, &sources, layout, homes).with_context(|| format!("{}.{name}", call.kernel))?;
    ensure!(
        workgroups.iter().all(|&n| n <= most),
        "{}.{name} needs {workgroups:?} workgroups and {most} a dimension are allowed: expected smaller sizes or fewer models",
        call.kernel
    );
    Ok(Planned { kernel, name, entry, constants, workgroups, sources, calls: group.to_vec() })
}

/// WebGPU allows a dispatch to write a buffer or to read it, not both.
fn check_exclusive(entry: &Entry, sources: &[Source], layout: &Layout, homes: &Homes) -> Result<()> {
    let home = |source: &Source| match source {
        Source::Tensor(tensor) => Some(homes.find(tensor, layout).0),
        Source::Whole(home) => Some(*home),
        Source::Words(..) | Source::Spare(_) => None,
    };
    let bound: Vec<_> =
        entry.bindings.iter().zip(sources).filter_map(|(binding, source)| Some((binding, home(source)?))).collect();
    for (written, buffer) in bound.iter().filter(|(binding, _)| binding.writable) {
        let read = bound.iter().find(|(binding, other)| !binding.writable && other == buffer);
        if let Some((read, _)) = read {
            bail!("{} is read and {} is declared read_write, and both lie in {buffer:?}", read.name, written.name);
        }
    }
    Ok(())
}

/// Workgroups that larger tiles have to leave: about two for each core of a large GPU.
const ENOUGH_WORKGROUPS: usize = 256;

/// Bindings that kernels with tables write to, for each of which there may be nothing to write.
const INTO_BINDINGS: usize = 2;

/// Spare buffers: a dispatch with a table binds one wherever its table needs no buffer.
pub const SPARES: usize = 1 + INTO_BINDINGS + 1;

/// The binding that a spare buffer is for. All bindings to read share one; each binding to write to has its own.
enum Spare {
    ToRead,
    /// The numbered one of [`INTO_BINDINGS`].
    Into(usize),
    Step,
}

impl Spare {
    fn source(self) -> Source {
        Source::Spare(match self {
            Self::ToRead => 0,
            Self::Into(number) => 1 + number,
            Self::Step => 1 + INTO_BINDINGS,
        })
    }
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

/// The kernels of a family, one for each name that programs call, or several with tiles to choose from.
pub fn variants(kernels: &[Kernel], family: Family) -> Vec<&Kernel> {
    let wanted: &[&str] = match family {
        Family::Wide(_) => &[""],
        Family::Software => &[SOFTWARE, ""],
        Family::SoftwareEights => &[SUBGROUP, SOFTWARE, ""],
    };
    let has = |name: &str, suffix: &str| kernels.iter().any(|kernel| kernel.stem == format!("{name}{suffix}"));
    let is_chosen = |kernel: &&Kernel| {
        let name = stem(kernel);
        let suffix = wanted.iter().find(|suffix| has(name, suffix)).unwrap_or(&"");
        match family {
            Family::Wide(None) if name == TILES[0] => TILES.contains(&&kernel.stem[..]),
            Family::Wide(Some(tiles)) if name == TILES[0] => kernel.stem == tiles,
            _ => kernel.stem == format!("{name}{suffix}"),
        }
    };
    kernels.iter().filter(is_chosen).collect()
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
        ("CHUNK", sizes.chunk()),
        ("SPLIT", SPLIT),
    ];
    constants.into_iter().map(|(name, value)| (name, value as u32)).collect()
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

/// How the file of a variant with subgroups ends.
const SUBGROUP: &str = "_subgroup";
/// How the file of a variant for renderers on a CPU ends.
const SOFTWARE: &str = "_software";

/// The name under which programs call a kernel, whichever variant it is.
pub fn stem(kernel: &Kernel) -> &str {
    let stem = &kernel.stem[..];
    if TILES.contains(&stem) {
        return TILES[0];
    }
    stem.strip_suffix(SUBGROUP).or(stem.strip_suffix(SOFTWARE)).unwrap_or(stem)
}

/// What every call may bind: sizes, and where things stand.
const AMBIENT: &[&str] = &["n_rows", "block_owner", "tensor_edges", "row_capacity", LAUNCH_FIRST];

/// The uniform with the offset of a launch along x, y and z, and a 0 as padding. Plans set it to 0, `OnGpu` to the offset of each part.
pub const LAUNCH_FIRST: &str = "launch_first";

/// Whether an entry point reads and writes the tensors that the program's line says, each with the type that the table of tensors gives it.
fn check_declared(call: &Call, entry: &Entry) -> Result<()> {
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for binding in &entry.bindings {
        let tensor = find(call.tensor(&binding.name))?;
        check_element(binding, tensor)?;
        if !AMBIENT.contains(&tensor.name) {
            found[usize::from(binding.writes) + usize::from(binding.reads && binding.writes)].push(tensor.name);
        }
    }
    let declared = [("reads", &call.reads), ("writes", &call.writes), ("reads and writes", &call.updates)];
    for ((what, declared), mut found) in declared.into_iter().zip(found) {
        let mut declared = declared.clone();
        declared.sort();
        found.sort();
        ensure!(declared == found, "the shader {what} {}: the program says {}", found.join(", "), declared.join(", "));
    }
    Ok(())
}

/// The same for every call of a program, whose variant of a kernel it is.
pub fn check_shaders<'c>(kernels: &[&Kernel], calls: impl Iterator<Item = &'c Call>) -> Result<()> {
    for call in calls {
        let entry = kernel_of(kernels, call)?.entry(entry_of(call), &any_constants(call)?)?;
        if !is_entry(call) {
            check_declared(call, &entry).with_context(|| format!("{}.{}", call.kernel, call.entry))?;
        }
    }
    Ok(())
}

/// Whether a variable's type is the one that the table gives its name.
fn check_element(binding: &Binding, tensor: &Tensor) -> Result<()> {
    let name = tensor.name;
    match (tensor.role, &binding.element) {
        (Role::Index | Role::Counter | Role::Layout, Element::U32) | (Role::Layout, Element::UVec4) => Ok(()),
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
    let constant = |name| kernel.constant(name).with_context(|| format!("{}: no constant {name}", kernel.stem));
    Ok(match call.over {
        Over::Models => [1, 1, models as u32],
        Over::Fours([x]) => cover([x.size(&sizes) / 4, 1, models], entry.workgroup),
        Over::Fours([y, x]) => cover([x.size(&sizes) / 4, y.size(&sizes), models], entry.workgroup),
        Over::Groups(x) => [x.size(&sizes) as u32, 1, models as u32],
        Over::GroupsOfFours(x) => [x.size(&sizes) as u32 / 4, 1, models as u32],
        Over::Rows => {
            let [x, y, _] = folded(sizes.rows.div_ceil(constant("ROWS_A_GROUP")? as usize), most);
            [x, y, models as u32]
        }
        Over::RowsByFours(x) => {
            let lanes = sizes.rows.div_ceil(constant("ROWS_A_LANE")? as usize);
            cover([x.size(&sizes) / 4, lanes, models], entry.workgroup)
        }
        Over::Elements([x]) => cover([x.size(&sizes), 1, models], entry.workgroup),
        Over::Elements([y, x]) => cover([x.size(&sizes), y.size(&sizes), models], entry.workgroup),
        Over::Elements(axes) | Over::Fours(axes) => {
            bail!("{}.{}: {} axes, expected one or two", call.kernel, call.entry, axes.len())
        }
        Over::Tiles([y, x]) => {
            let tile = constant("TILE")? as usize;
            let tiles = |axis: Axis| axis.size(&sizes).div_ceil(tile);
            cover([tiles(x), tiles(y), models], entry.workgroup)
        }
        // A block a workgroup, folded where one dimension cannot hold them.
        Over::Arena => folded(block_owner(layout).len(), most),
        Over::Tensors => folded(PARAMETERS.len() * models, most),
        Over::Product(..) | Over::Copy(..) => bail!("{}.{} has a table", call.kernel, call.entry),
    })
}

/// The layout of the updates, as the optimizer's shader declares it.
pub fn record(kernels: &[Kernel]) -> Result<Record> {
    let call = super::method::adamw();
    let kernel = kernels.iter().find(|kernel| kernel.stem == call.kernel).context("no shader adamw.wgsl")?;
    let declared = kernel.entry(call.entry, &any_constants(&call)?)?.bindings.into_iter().find_map(|binding| {
        match binding.element {
            Element::Record(record) if binding.name == "updates" => Some(record),
            _ => None,
        }
    });
    declared.context("adamw.update: no variable 'updates' that is an array of structs")
}
