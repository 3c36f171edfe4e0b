//! What a shader says of itself: naga parses it, and everything the host has to know follows from the result.

use anyhow::{Context, Result, anyhow, bail, ensure};
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ScalarKind, ShaderStage, StorageAccess, TypeInner};

/// Values of a shader's overrides by name.
pub type Constants = Vec<(&'static str, u32)>;

/// A parsed and validated shader.
#[derive(Clone)]
pub struct Kernel {
    /// The file's name without `.wgsl`.
    pub stem: String,
    /// WGSL, what it shares with others included.
    pub source: String,
    module: naga::Module,
    info: ModuleInfo,
}

/// An entry point.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Invocations of a workgroup along x, y and z.
    pub workgroup: [u32; 3],
    /// In the order of the shader's variables.
    pub bindings: Vec<Binding>,
    /// Whether it takes `global_invocation_id` rather than `workgroup_id`.
    pub takes_invocation: bool,
    /// Whether it takes `num_workgroups`.
    pub takes_workgroups: bool,
}

/// A storage or uniform variable that an entry point uses.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Its `@binding`; the group is 0.
    pub index: u32,
    /// The variable's name, which is a tensor's or a role's.
    pub name: String,
    /// Whether the entry point loads from it.
    pub reads: bool,
    /// Whether it stores to it.
    pub writes: bool,
    /// Declared `read_write`, whatever this entry point does with it: the bind group layout must equal the declaration.
    pub writable: bool,
    /// Declared `var<uniform>`: one value for all invocations.
    pub uniform: bool,
    /// What the array holds, or the uniform is.
    pub element: Element,
}

/// An element of a storage array.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    /// One float.
    F32,
    /// Four floats.
    Vec4,
    /// One unsigned integer; atomics too.
    U32,
    /// Four unsigned integers.
    UVec4,
    /// A struct.
    Record(Record),
}

/// The layout of a struct in an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The struct's name in WGSL.
    pub name: String,
    /// Bytes from one to the next.
    pub stride: u32,
    /// In the order of their offsets.
    pub members: Vec<Member>,
}

/// A member of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name in WGSL.
    pub name: String,
    /// Bytes from the struct's beginning.
    pub offset: u32,
}

impl Record {
    /// The bytes of one record, its members looked up by name.
    pub fn pack(&self, value: impl Fn(&str) -> Option<f64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.stride as usize];
        for member in &self.members {
            let value = value(&member.name)
                .with_context(|| format!("struct {}: nothing is called '{}'", self.name, member.name))?;
            bytes[member.offset as usize..][..4].copy_from_slice(bytemuck::bytes_of(&(value as f32)));
        }
        Ok(bytes)
    }
}

impl Kernel {
    /// Parses a shader with its helpers appended, so that line numbers in errors are the shader's own.
    pub fn new(stem: &str, source: &str, helpers: &str) -> Result<Self> {
        let path = format!("shaders/{stem}.wgsl");
        let source = format!("{source}\n{helpers}");
        let module = naga::front::wgsl::parse_str(&source)
            .map_err(|e| anyhow!("{path}: not WGSL: {}", e.emit_to_string_with_path(&source, &path)))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::default() | Capabilities::SUBGROUP)
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|e| anyhow!("{path}: not valid: {}", e.emit_to_string_with_path(&source, &path)))?;
        let kernel = Self { stem: stem.into(), source, module, info };
        kernel.check_declarations().with_context(|| path)?;
        Ok(kernel)
    }

    /// A variable that is declared writable is written by some entry point, and each is used.
    fn check_declarations(&self) -> Result<()> {
        for (handle, variable) in self.module.global_variables.iter() {
            let Some(access) = access(variable) else { continue };
            let name = variable.name.as_deref().unwrap_or("?");
            let uses = (0..self.module.entry_points.len())
                .fold(GlobalUse::empty(), |uses, entry| uses | self.info.get_entry_point(entry)[handle]);
            ensure!(!uses.is_empty(), "{name} is declared and no entry point uses it");
            ensure!(
                uses.contains(GlobalUse::WRITE) || !access.contains(StorageAccess::STORE),
                "{name} is declared read_write, but no entry point writes it: expected var<storage, read>"
            );
            let binding = variable.binding.as_ref().with_context(|| format!("{name} has no binding"))?;
            ensure!(binding.group == 0, "{name} is in group {}: expected group 0", binding.group);
        }
        Ok(())
    }

    /// Names of the entry points in the order of the file.
    pub fn entry_names(&self) -> impl Iterator<Item = &str> {
        self.module.entry_points.iter().map(|entry| entry.name.as_str())
    }

    /// Of the host's constants, those that the shader declares; an error where one that it declares is missing.
    pub fn overrides(&self, constants: &Constants) -> Result<Constants> {
        let value = |name: &Option<String>| {
            let name = name.as_deref().unwrap_or("?");
            let found = constants.iter().find(|(constant, _)| *constant == name);
            found.copied().with_context(|| {
                let names: Vec<_> = constants.iter().map(|(name, _)| *name).collect();
                format!("{}: no value for override '{name}': there are {}", self.stem, names.join(", "))
            })
        };
        self.module.overrides.iter().map(|(_, declared)| value(&declared.name)).collect()
    }

    /// The value of an integer constant of the shader.
    pub fn constant(&self, name: &str) -> Option<u32> {
        let (_, constant) =
            self.module.constants.iter().find(|(_, constant)| constant.name.as_deref() == Some(name))?;
        match self.module.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(value)) => Some(value),
            _ => None,
        }
    }

    /// An entry point with its overrides set; an error where there is none of that name.
    pub fn entry(&self, name: &str, constants: &Constants) -> Result<Entry> {
        let index = self.module.entry_points.iter().position(|entry| entry.name == name).with_context(|| {
            format!(
                "{}: no entry point '{name}': there are {}",
                self.stem,
                self.entry_names().collect::<Vec<_>>().join(", ")
            )
        })?;
        let uses = self.info.get_entry_point(index);
        let mut bindings = Vec::new();
        for (handle, variable) in self.module.global_variables.iter() {
            let Some(access) = access(variable) else { continue };
            if uses[handle].is_empty() {
                continue;
            }
            let name = variable.name.clone().unwrap_or_default();
            bindings.push(Binding {
                index: variable.binding.as_ref().map_or(0, |binding| binding.binding),
                reads: uses[handle].contains(GlobalUse::READ),
                writes: uses[handle].contains(GlobalUse::WRITE),
                writable: access.contains(StorageAccess::STORE),
                uniform: variable.space == AddressSpace::Uniform,
                element: self.element(variable.ty).with_context(|| format!("{}: variable {name}", self.stem))?,
                name,
            });
        }
        let arguments = &self.module.entry_points[index].function.arguments;
        let takes =
            |built_in| arguments.iter().any(|argument| argument.binding == Some(naga::Binding::BuiltIn(built_in)));
        ensure!(
            !takes(naga::BuiltIn::GlobalInvocationId) || !takes(naga::BuiltIn::WorkGroupId),
            "{}.{name} takes workgroup_id and global_invocation_id: a launch's offset is counted in one of them",
            self.stem
        );
        Ok(Entry {
            workgroup: self.workgroup(name, constants)?,
            bindings,
            takes_invocation: takes(naga::BuiltIn::GlobalInvocationId),
            takes_workgroups: takes(naga::BuiltIn::NumWorkGroups),
        })
    }

    /// The workgroup size with the overrides put in.
    fn workgroup(&self, entry: &str, constants: &Constants) -> Result<[u32; 3]> {
        let values =
            self.overrides(constants)?.into_iter().map(|(name, value)| (name.to_string(), value as f64)).collect();
        let stage = Some((ShaderStage::Compute, entry));
        let (module, _) = naga::back::pipeline_constants::process_overrides(&self.module, &self.info, stage, &values)
            .map_err(|e| anyhow!("{}.{entry}: {e}", self.stem))?;
        let resolved = module.entry_points.iter().find(|point| point.name == entry);
        Ok(resolved.with_context(|| format!("{}.{entry} is gone", self.stem))?.workgroup_size)
    }

    fn element(&self, ty: naga::Handle<naga::Type>) -> Result<Element> {
        let (element, stride) = match &self.module.types[ty].inner {
            TypeInner::Array { base, stride, .. } => (&self.module.types[*base], *stride),
            _ => (&self.module.types[ty], 4),
        };
        match &element.inner {
            TypeInner::Scalar(scalar) if scalar.kind == ScalarKind::Float && scalar.width == 4 => Ok(Element::F32),
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar)
                if scalar.kind == ScalarKind::Uint && scalar.width == 4 =>
            {
                Ok(Element::U32)
            }
            TypeInner::Vector { size: naga::VectorSize::Quad, scalar }
                if scalar.kind == ScalarKind::Float && scalar.width == 4 =>
            {
                Ok(Element::Vec4)
            }
            TypeInner::Vector { size: naga::VectorSize::Quad, scalar }
                if scalar.kind == ScalarKind::Uint && scalar.width == 4 =>
            {
                Ok(Element::UVec4)
            }
            TypeInner::Struct { members, .. } => {
                let member = |member: &naga::StructMember| {
                    let name = member.name.clone().unwrap_or_default();
                    let scalar = self.module.types[member.ty].inner.scalar();
                    let is_float = scalar.is_some_and(|s| s.kind == ScalarKind::Float && s.width == 4);
                    ensure!(is_float, "member {name}: expected f32");
                    Ok(Member { name, offset: member.offset })
                };
                let members = members.iter().map(member).collect::<Result<_>>()?;
                Ok(Element::Record(Record { name: element.name.clone().unwrap_or_default(), stride, members }))
            }
            _ => bail!("expected an array of f32, vec4<f32>, u32, vec4<u32> or a struct of f32"),
        }
    }
}

/// How a storage or uniform variable may be accessed; None for variables of other address spaces.
fn access(variable: &naga::GlobalVariable) -> Option<StorageAccess> {
    match variable.space {
        AddressSpace::Storage { access } => Some(access),
        AddressSpace::Uniform => Some(StorageAccess::LOAD),
        _ => None,
    }
}
