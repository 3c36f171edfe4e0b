//! Writes every pipeline that grokscope creates in the languages that GPU drivers compile, with wgpu's options.
//!
//! ```sh
//! cargo run --release --example dump_kernels -- DIR
//! cargo run --release --features compilers --example dump_kernels -- DIR          # HLSL and MSL as well
//! cargo run --release --example dump_kernels -- DIR --replace STEM FROM TO ..     # with a planted fault
//! ```
//!
//! DIR then holds `NAME.wgsl` for each shader, `NAME.spv`, `NAME.comp`, `NAME.sm51.hlsl`, `NAME.sm60.hlsl` and `NAME.metal` for each
//! pipeline, `kernels.json` with the pipelines and `calls.json` with the dispatches of both programs. `scripts/compilers.sh` reads them.

use anyhow::{Context, Result, bail, ensure};
use grokscope::gpu::device::{Family, TILES};
use grokscope::gpu::kernel::{Constants, Entry, Kernel};
use grokscope::gpu::pass::ZERO_WORKGROUP_MEMORY;
use grokscope::method::{Filter, Loss, Method, Optimizer};
use grokscope::model::Role;
use grokscope::plan::Draft;
use grokscope::program::arenas::Homes;
use grokscope::program::batch::{Batch, Layout};
use grokscope::program::dispatches::{self, Planned};
use grokscope::program::{self, Call};
use grokscope::shaders::{HELPERS, OPERATIONS};
use grokscope::task::Pairs;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// WebGPU's default for `maxComputeWorkgroupsPerDimension`.
const MAX_WORKGROUPS: u32 = 65535;

/// A text replacement in a shader. The stem `shared` stands for the helpers of all shaders.
struct Replacement {
    stem: String,
    from: String,
    to: String,
}

/// An entry point with one set of override values, and who uses it.
struct Pipeline {
    name: String,
    stem: String,
    entry_name: String,
    entry: Entry,
    overrides: Constants,
    /// Whether a run with the default plan on a hardware GPU creates it.
    in_default_run: bool,
    /// Whether it is a matrix product.
    is_product: bool,
    used_by: Vec<String>,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("usage: dump_kernels DIR [--replace STEM FROM TO ..]")?;
    let mut replacements = Vec::new();
    while let Some(option) = arguments.next() {
        ensure!(option == "--replace", "unknown option '{option}'. Use --replace STEM FROM TO.");
        let mut next = || arguments.next().context("--replace needs STEM FROM TO");
        replacements.push(Replacement { stem: next()?, from: next()?, to: next()? });
    }
    let dir = Path::new(&dir);
    std::fs::create_dir_all(dir)?;

    let kernels = kernels(&replacements)?;
    for kernel in &kernels {
        std::fs::write(dir.join(format!("{}.wgsl", kernel.stem)), &kernel.source)?;
    }
    let (mut pipelines, calls) = pipelines(&kernels, &replacements)?;
    pipelines.extend(standalone(find(&kernels, "ceilings")?, "bench")?);
    pipelines.extend(standalone(find(&kernels, "probes")?, "self-check")?);
    for pipeline in &pipelines {
        let kernel = find(&kernels, &pipeline.stem)?;
        translate(dir, kernel, pipeline).with_context(|| pipeline.name.clone())?;
    }
    let described: Vec<_> = pipelines.iter().map(describe).collect();
    std::fs::write(dir.join("kernels.json"), serde_json::to_string_pretty(&described)?)?;
    std::fs::write(dir.join("calls.json"), serde_json::to_string(&calls)?)?;
    println!("{} shaders, {} pipelines, {} calls", kernels.len(), pipelines.len(), calls.len());
    Ok(())
}

/// Parses all shaders, the replacements applied. A replacement that changes nothing is an error.
fn kernels(replacements: &[Replacement]) -> Result<Vec<Kernel>> {
    for replacement in replacements {
        let is_known = |(stem, _): &(&str, &str)| *stem == replacement.stem;
        ensure!(replacement.stem == "shared" || OPERATIONS.iter().any(is_known), "no shader {}.wgsl", replacement.stem);
    }
    let replaced = |stem: &str, source: &str| {
        replacements.iter().filter(|r| r.stem == stem).try_fold(source.to_string(), |source, r| {
            ensure!(source.contains(&r.from), "{stem}.wgsl does not contain '{}'", r.from);
            Ok(source.replacen(&r.from, &r.to, 1))
        })
    };
    let helpers = replaced("shared", HELPERS)?;
    let kernel = |(stem, source): &(&str, &str)| Kernel::new(stem, &replaced(stem, source)?, &helpers);
    let mut kernels: Vec<_> = OPERATIONS.iter().map(kernel).collect::<Result<_>>()?;
    kernels.push(Kernel::new("ceilings", include_str!("../shaders/bench/ceilings.wgsl"), "")?);
    kernels.push(grokscope::shaders::probes()?);
    Ok(kernels)
}

fn find<'a>(kernels: &'a [Kernel], stem: &str) -> Result<&'a Kernel> {
    kernels.iter().find(|kernel| kernel.stem == stem).with_context(|| format!("no shader {stem}.wgsl"))
}

/// Returns every combination of loss, gradient filter and optimizer, the default first.
fn methods() -> Vec<Method> {
    let mut methods = Vec::new();
    for loss in [Loss::CrossEntropy, Loss::StableMax] {
        for filter in [Filter::None, Filter::Ema, Filter::Ma { window: 100 }] {
            for orthogonal in [false, true] {
                for optimizer in [Optimizer::AdamW, Optimizer::Adam, Optimizer::Sgd, Optimizer::Muon] {
                    methods.push(Method { loss, filter, orthogonal, optimizer });
                }
            }
        }
    }
    methods
}

/// The families of kernels: of GPUs with the tiles that they choose and with each size of tiles, and of software adapters.
const FAMILIES: [Family; 5] = [
    Family::Wide(None),
    Family::Wide(Some(TILES[0])),
    Family::Wide(Some(TILES[1])),
    Family::Software,
    Family::SoftwareEights,
];

/// Plans every dispatch of both programs at the default sizes, for every family of kernels.
fn pipelines(kernels: &[Kernel], replacements: &[Replacement]) -> Result<(Vec<Pipeline>, Vec<Value>)> {
    let plan = Draft::from_preset("default")?.finish()?;
    let op = plan.op.parse()?;
    let train = Pairs::train(&plan.split.parse()?, plan.train_fraction, op, plan.p, None)?;
    let layout = Layout::new(plan.shape(), &[train], &[Pairs::grid(op, plan.p)]);
    let default_program = program::by_name("composed")?.name;
    let (mut pipelines, mut dispatches, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for name in ["composed", "layered"] {
        for method in methods() {
            let program = program::by_name(name)?.taught(&method);
            for family in FAMILIES {
                let variants = dispatches::variants(kernels, family);
                for (batch, part) in [(Batch::Train, "step"), (Batch::Grid, "evaluation")] {
                    let mut calls: Vec<Call> = match batch {
                        Batch::Train => program.step().cloned().collect(),
                        Batch::Grid => program.evaluation().cloned().collect(),
                    };
                    for call in calls.iter_mut().filter(|call| replacements.iter().any(|r| r.stem == call.kernel)) {
                        declare(call, find(kernels, call.kernel)?)?;
                    }
                    let groups = dispatches::groups(&variants, &calls, &layout.sizes(batch))?;
                    let of = |group: &Vec<usize>| group.iter().map(|&place| &calls[place]).collect::<Vec<&Call>>();
                    let homes = Homes::new(&groups.iter().map(of).collect::<Vec<_>>());
                    for group in &groups {
                        let title = dispatches::title(&of(group));
                        if !seen.insert(format!("{name} {part} {family:?} {title}")) {
                            continue;
                        }
                        let planned =
                            dispatches::plan(&variants, &calls, group, &layout, batch, &homes, MAX_WORKGROUPS)?;
                        let is_default =
                            name == default_program && method == Method::default() && family == Family::Wide(None);
                        let pipeline = add(&mut pipelines, &planned, is_default, &format!("{name} {part}"))?;
                        dispatches.push(json!({
                            "program": name, "part": part, "method": method.suffix(), "family": format!("{family:?}"),
                            "pipeline": pipeline, "title": title, "workgroups": planned.workgroups,
                        }));
                    }
                }
            }
        }
    }
    Ok((pipelines, dispatches))
}

/// Has a call declare what its shader reads and writes now that its text was replaced: faults are planted for compilers to find, not for
/// the program's own check.
fn declare(call: &mut Call, kernel: &Kernel) -> Result<()> {
    let sizes = ["P", "D_MODEL", "N_HEADS", "D_HEAD", "D_MLP", "D_VOCAB_OUT", "BLOCK", "WINDOW", "LOGITS_ROW"];
    let entry = kernel.entry(call.entry, &sizes.map(|name| (name, 4)).into())?;
    for binding in &entry.bindings {
        let tensor = program::find(call.tensor(&binding.name))?;
        if matches!(tensor.role, Role::Index | Role::Layout) {
            continue;
        }
        for names in [&mut call.reads, &mut call.writes, &mut call.updates] {
            names.retain(|name| *name != tensor.name);
        }
        match (binding.reads, binding.writes) {
            (true, true) => call.updates.push(tensor.name),
            (false, true) => call.writes.push(tensor.name),
            _ => call.reads.push(tensor.name),
        }
    }
    Ok(())
}

/// Adds a dispatch's pipeline to the list unless it is there, and returns its name: `product.nn`, or `loss.backward.LOGITS_ROW113` where
/// overrides differ from those of the first pipeline of the entry point.
fn add(pipelines: &mut Vec<Pipeline>, planned: &Planned, in_default_run: bool, user: &str) -> Result<String> {
    let overrides = planned.kernel.overrides(&planned.constants)?;
    let is_same_entry = |p: &&Pipeline| p.stem == planned.kernel.stem && p.entry_name == planned.name;
    let mut name = format!("{}.{}", planned.kernel.stem, planned.name);
    if let Some(first) = pipelines.iter().find(is_same_entry) {
        for (override_name, value) in overrides.iter().filter(|o| !first.overrides.contains(o)) {
            name += &format!(".{override_name}{value}");
        }
    }
    let place = pipelines.iter().position(|p| p.name == name).unwrap_or_else(|| {
        pipelines.push(Pipeline {
            name: name.clone(),
            stem: planned.kernel.stem.clone(),
            entry_name: planned.name.into(),
            entry: planned.entry.clone(),
            overrides,
            in_default_run: false,
            is_product: TILES.contains(&&planned.kernel.stem[..]),
            used_by: Vec::new(),
        });
        pipelines.len() - 1
    });
    let pipeline = &mut pipelines[place];
    pipeline.in_default_run |= in_default_run;
    if !pipeline.used_by.iter().any(|other| other == user) {
        pipeline.used_by.push(user.into());
    }
    Ok(name)
}

/// Returns the pipelines of a shader that belongs to no program and has no overrides.
fn standalone(kernel: &Kernel, user: &str) -> Result<Vec<Pipeline>> {
    let pipeline = |entry: &str| {
        Ok(Pipeline {
            name: format!("{}.{entry}", kernel.stem),
            stem: kernel.stem.clone(),
            entry_name: entry.into(),
            entry: kernel.entry(entry, &Constants::new())?,
            overrides: Constants::new(),
            in_default_run: false,
            is_product: false,
            used_by: vec![user.into()],
        })
    };
    kernel.entry_names().map(pipeline).collect()
}

fn describe(pipeline: &Pipeline) -> Value {
    let bindings = pipeline.entry.bindings.iter();
    json!({
        "name": pipeline.name,
        "shader": format!("{}.wgsl", pipeline.stem),
        "entry": pipeline.entry_name,
        "software_only": pipeline.stem.ends_with("_subgroup"),
        "in_default_run": pipeline.in_default_run,
        "is_product": pipeline.is_product,
        "used_by": pipeline.used_by,
        "workgroup": pipeline.entry.workgroup,
        "overrides": pipeline.overrides.iter().map(|&(name, value)| (name, value)).collect::<BTreeMap<_, _>>(),
        "bindings": bindings.map(|b| json!({ "binding": b.index, "name": b.name, "writable": b.writable, "uniform": b.uniform })).collect::<Vec<_>>(),
    })
}

/// Writes a pipeline in every language that this build of naga has.
fn translate(dir: &Path, kernel: &Kernel, pipeline: &Pipeline) -> Result<()> {
    use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(&kernel.source)?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::default() | Capabilities::SUBGROUP)
        .subgroup_stages(ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)?;
    let values = pipeline.overrides.iter().map(|&(name, value)| (name.to_string(), f64::from(value))).collect();
    let stage = Some((naga::ShaderStage::Compute, pipeline.entry_name.as_str()));
    let (module, info) = naga::back::pipeline_constants::process_overrides(&module, &info, stage, &values)?;

    let file = |extension: &str| dir.join(format!("{}.{extension}", pipeline.name));
    let resolved = module.entry_points.iter().find(|entry| entry.name == pipeline.entry_name);
    if resolved.is_none_or(|entry| entry.workgroup_size != pipeline.entry.workgroup) {
        bail!("naga and the crate disagree on the workgroup size");
    }
    std::fs::write(file("spv"), spirv(&module, &info, &pipeline.entry_name)?)?;
    #[cfg(any(feature = "compilers", target_os = "linux"))]
    std::fs::write(file("comp"), glsl(&module, &info, &pipeline.entry_name)?)?;
    #[cfg(feature = "compilers")]
    {
        std::fs::write(file("metal"), msl(&module, &info, &pipeline.entry_name)?)?;
        use naga::back::hlsl::ShaderModel::{V5_1, V6_0};
        // Shader model 5.1 has no subgroup operations.
        if !kernel.stem.ends_with("_subgroup") {
            std::fs::write(file("sm51.hlsl"), hlsl(&module, &info, &pipeline.entry_name, V5_1)?)?;
        }
        std::fs::write(file("sm60.hlsl"), hlsl(&module, &info, &pipeline.entry_name, V6_0)?)?;
    }
    Ok(())
}

fn bounds_checks(buffer: BoundsCheckPolicy) -> BoundsCheckPolicies {
    BoundsCheckPolicies { index: BoundsCheckPolicy::Restrict, buffer, ..Default::default() }
}

/// As wgpu writes it for a Vulkan 1.3 device with robustBufferAccess2, which checks buffer bounds itself.
fn spirv(module: &naga::Module, info: &naga::valid::ModuleInfo, entry: &str) -> Result<Vec<u8>> {
    use naga::back::spv::{Options, PipelineOptions, WriterFlags, ZeroInitializeWorkgroupMemoryMode, write_vec};
    let options = Options {
        lang_version: (1, 6),
        flags: WriterFlags::LABEL_VARYINGS | WriterFlags::FORCE_POINT_SIZE,
        bounds_check_policies: bounds_checks(BoundsCheckPolicy::Unchecked),
        zero_initialize_workgroup_memory: match ZERO_WORKGROUP_MEMORY {
            true => ZeroInitializeWorkgroupMemoryMode::Native,
            false => ZeroInitializeWorkgroupMemoryMode::None,
        },
        force_loop_bounding: true,
        emit_int_div_checks: true,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.into() };
    let words = write_vec(module, info, &options, Some(&pipeline))?;
    Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// As wgpu writes it for OpenGL 4.3.
#[cfg(any(feature = "compilers", target_os = "linux"))]
fn glsl(module: &naga::Module, info: &naga::valid::ModuleInfo, entry: &str) -> Result<String> {
    use naga::back::glsl::{Options, PipelineOptions, Version, Writer};
    let options = Options {
        version: Version::Desktop(430),
        zero_initialize_workgroup_memory: ZERO_WORKGROUP_MEMORY,
        ..Default::default()
    };
    let pipeline =
        PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: entry.into(), multiview: None };
    let mut text = String::new();
    let checks = bounds_checks(BoundsCheckPolicy::Restrict);
    Writer::new(&mut text, module, info, &options, &pipeline, checks)?.write()?;
    Ok(text)
}

/// As wgpu writes it for Metal, which never checks buffer bounds itself.
#[cfg(feature = "compilers")]
fn msl(module: &naga::Module, info: &naga::valid::ModuleInfo, entry: &str) -> Result<String> {
    use naga::back::msl::{Options, PipelineOptions, write_string};
    let options = Options {
        lang_version: (2, 4),
        bounds_check_policies: bounds_checks(BoundsCheckPolicy::Restrict),
        zero_initialize_workgroup_memory: ZERO_WORKGROUP_MEMORY,
        force_loop_bounding: true,
        ..Default::default()
    };
    let entry_point = Some((naga::ShaderStage::Compute, entry.to_string()));
    Ok(write_string(module, info, &options, &PipelineOptions { entry_point, ..Default::default() })?.0)
}

/// As wgpu writes it for Direct3D 12.
#[cfg(feature = "compilers")]
fn hlsl(
    module: &naga::Module,
    info: &naga::valid::ModuleInfo,
    entry: &str,
    shader_model: naga::back::hlsl::ShaderModel,
) -> Result<String> {
    use naga::back::hlsl::{Options, PipelineOptions, Writer};
    let options = Options {
        shader_model,
        zero_initialize_workgroup_memory: ZERO_WORKGROUP_MEMORY,
        restrict_indexing: true,
        force_loop_bounding: true,
        ..Default::default()
    };
    let pipeline = PipelineOptions { entry_point: Some((naga::ShaderStage::Compute, entry.to_string())) };
    let mut text = String::new();
    Writer::new(&mut text, &options, &pipeline).write(module, info, None)?;
    Ok(text)
}
