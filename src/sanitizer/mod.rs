//! A sanitizer for WGSL compute shaders: runs an entry point in an interpreter over naga's IR, and tells of every access that
//! is not what its author can have meant.
//!
//! It finds, each with the line, the variable, the invocation and the index:
//! - reads and writes beyond the end of an array, vector or matrix, in any address space, and in elements that the caller
//!   fenced off (padding between tensors);
//! - reads of storage or workgroup memory that nobody wrote (WebGPU says it is zero; a kernel that relies on it by accident is wrong);
//! - two invocations that touch one location, one of them writing, without a barrier between them, or in two workgroups;
//! - a barrier that not all invocations of a workgroup reach, and a loop that does not end;
//! - integer division by zero, and a subgroup operation that asks a lane which does not run.
//!
//! A workgroup runs in lockstep: each statement is done for all invocations that reach it. Races are found from what was touched
//! between two barriers, whatever came out; but only on the paths that these inputs take. A store to a component counts as one to
//! its whole vector. Results are those of float32 arithmetic
//! on the host, so an outcome can be compared with a device's.
//!
//! It depends on naga alone. What of WGSL it does not know (textures, f16, switch, some functions) is an error, never a pass.

mod arithmetic;
mod lanes;
mod memory;
mod words;

pub use memory::Memory;

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What the storage variables of a shader are bound to, by name.
pub type Buffers = HashMap<String, Memory>;

/// What one workgroup does, told of the warp that waits most often, and what its memory sees.
///
/// A wait is a round of loads from storage that were issued together and are needed before the warp can go on; `lanes/trace.rs` has the
/// rules.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trace {
    /// Waits for a round that touched a line of 128 bytes for the first time in this workgroup.
    pub waits_l2: u64,
    /// Waits for lines that the workgroup had touched before.
    pub waits_l1: u64,
    /// Instructions that were done between issuing a round of the first kind and waiting for it, all together.
    pub covered_l2: u64,
    /// The same of the second kind.
    pub covered_l1: u64,
    /// Multiply-adds of an invocation; a product that is not added to anything is one too.
    pub multiply_adds: u64,
    /// Scalar operations, and loads and stores of up to 16 bytes, of an invocation.
    pub instructions: u64,
    /// Bytes that an invocation reads from workgroup memory.
    pub shared_bytes: u64,
    /// Bytes of storage that the workgroup reads, in sectors of 32 bytes, each once.
    pub bytes_read: u64,
    /// Bytes of storage that it writes, in the same way.
    pub bytes_written: u64,
}

/// A parsed shader.
pub struct Shader {
    name: String,
    source: String,
    module: Module,
    info: ModuleInfo,
}

/// How to run an entry point.
pub struct Dispatch<'a> {
    /// Its name.
    pub entry: &'a str,
    /// Values of the overrides that the shader declares.
    pub overrides: &'a [(&'a str, u32)],
    /// Along x, y and z.
    pub workgroups: [u32; 3],
    /// Invocations of a subgroup: neighbours by local index.
    pub subgroup: u32,
}

/// What an invocation did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An index beyond the end, or in words that are fenced off.
    OutOfBounds,
    /// A read of memory that nobody has written.
    NeverWritten,
    /// Two invocations at one place, one of them writing, without a barrier between them.
    Race,
    /// A barrier that not all invocations of a workgroup reach.
    DivergentBarrier,
    /// An integer divided by zero.
    DivisionByZero,
    /// A loop that does not end.
    Endless,
    /// A subgroup operation that asks a lane which does not run.
    InactiveLane,
}

/// A fault at a place of the shader, told of the first invocation that did it.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it is.
    pub kind: Kind,
    /// The shader's name.
    pub shader: String,
    /// The line of the shader.
    pub line: u32,
    /// The variable and the index.
    pub detail: String,
    /// The workgroup of that invocation.
    pub workgroup: [u32; 3],
    /// Index of the invocation in its workgroup.
    pub lane: u32,
    /// How many invocations did it here.
    pub count: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let what = match self.kind {
            Kind::OutOfBounds => "out of bounds",
            Kind::NeverWritten => "read of what nobody wrote",
            Kind::Race => "two invocations without a barrier between them",
            Kind::DivergentBarrier => "barrier that not all invocations reach",
            Kind::DivisionByZero => "division by zero",
            Kind::Endless => "loop without an end",
            Kind::InactiveLane => "a lane that does not run",
        };
        let (workgroup, lane, times) = (self.workgroup, self.lane, self.count);
        write!(f, "{}:{}: {what}: {}", self.shader, self.line, self.detail)?;
        write!(f, " (workgroup {workgroup:?}, invocation {lane}, {times} times)")
    }
}

/// Faults by kind and place.
#[derive(Default)]
struct Faults(BTreeMap<(Kind, u32), Fault>);

impl Faults {
    fn add(&mut self, fault: Fault) {
        self.0.entry((fault.kind, fault.line)).and_modify(|known| known.count += 1).or_insert(fault);
    }
}

impl Shader {
    /// Parses and validates a shader; `name` is what faults call it.
    pub fn new(name: &str, source: &str) -> Result<Self, String> {
        let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string_with_path(source, name))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::default() | Capabilities::SUBGROUP)
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|e| e.emit_to_string_with_path(source, name))?;
        Ok(Self { name: name.into(), source: source.into(), module, info })
    }

    /// Runs an entry point on the buffers, and tells what it did wrong, in the order of kinds and lines.
    pub fn run(&self, dispatch: &Dispatch, buffers: &mut Buffers) -> Result<Vec<Fault>, String> {
        let (module, info, index) = self.resolved(dispatch)?;
        let mut faults = Faults::default();
        memory::begin_dispatch(buffers);
        let [x, y, z] = dispatch.workgroups;
        for number in 0..x * y * z {
            let workgroup = [number % x, number / x % y, number / x / y];
            lanes::Group::new(self, &module, &info, index, dispatch, workgroup, number, buffers, &mut faults).run()?;
        }
        Ok(faults.0.into_values().collect())
    }

    /// Runs one workgroup and tells what it waits for.
    ///
    /// # Errors
    /// Also where the workgroup has a fault.
    pub fn trace(&self, dispatch: &Dispatch, workgroup: [u32; 3], buffers: &mut Buffers) -> Result<Trace, String> {
        let (module, info, index) = self.resolved(dispatch)?;
        let mut faults = Faults::default();
        memory::begin_dispatch(buffers);
        let [x, y, _] = dispatch.workgroups;
        let number = (workgroup[2] * y + workgroup[1]) * x + workgroup[0];
        let group = lanes::Group::new(self, &module, &info, index, dispatch, workgroup, number, buffers, &mut faults);
        let trace = group.trace()?;
        match faults.0.into_values().next() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(trace),
        }
    }

    /// The module with its overrides set, and which of its entry points is asked for.
    fn resolved(&self, dispatch: &Dispatch) -> Result<(Cow<'_, Module>, Cow<'_, ModuleInfo>, usize), String> {
        let overrides = dispatch.overrides.iter().map(|(name, value)| (name.to_string(), f64::from(*value))).collect();
        let stage = Some((ShaderStage::Compute, dispatch.entry));
        let (module, info) =
            naga::back::pipeline_constants::process_overrides(&self.module, &self.info, stage, &overrides)
                .map_err(|e| format!("{}.{}: {e}", self.name, dispatch.entry))?;
        let index = module.entry_points.iter().position(|entry| entry.name == dispatch.entry);
        let index = index.ok_or(format!("{}: no entry point '{}'", self.name, dispatch.entry))?;
        Ok((module, info, index))
    }
}
