//! The step model: what a training step would take on GPUs that are not at hand.
//!
//! The sanitizer runs the longest workgroup of every dispatch at its real size and counts its waits for memory ([`count`]); a
//! formula with a device's constants makes microseconds of the counts ([`predict`]). docs/performance.md has the assumptions.

pub mod launches;
pub mod predict;
mod table;

pub use table::starves;

use crate::plan::Plan;
use crate::program::{self, Program};
use crate::sanitizer::{Buffers, Dispatch, Memory, Shader, Trace};
use anyhow::{Context, Result, anyhow, ensure};
use launches::{Contents, Launch};
use predict::{DEVICES, Device, Time};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use table::text;

/// Written into every model; [`read`] refuses another one.
pub const SCHEMA: u32 = 1;

/// `grokscope bench --model --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Model {
    /// [`SCHEMA`] of the version that wrote it.
    pub schema: u32,
    /// The version of grokscope.
    pub version: String,
    /// A program each.
    pub steps: Vec<Step>,
}

/// A training step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The program's name with its shape, as reports of measurements have it.
    pub title: String,
    /// In the order in which they run.
    pub dispatches: Vec<Counts>,
    /// What the formula makes of them, for each known device.
    #[serde(default)]
    pub predictions: Vec<Prediction>,
}

/// A dispatch, counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Kernel and entry point, and the tensors that play its roles.
    pub title: String,
    /// Along x, y and z.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup.
    pub workgroup: [u32; 3],
    /// Two for each multiply-add.
    pub flops: f64,
    /// Of the tensors, each once.
    pub bytes: f64,
    /// Bytes that the workgroups read and write, each workgroup for itself.
    pub traffic: f64,
    /// Waits of the longest workgroup for lines that it touches for the first time.
    pub waits_l2: u64,
    /// Its other waits.
    pub waits_l1: u64,
    /// Instructions that go on during the waits of the first kind, all together.
    pub covered_l2: u64,
    /// The same of the second kind.
    pub covered_l1: u64,
    /// Of its longest invocation.
    pub multiply_adds: u64,
    /// Of its longest invocation.
    pub instructions: u64,
    /// Bytes that the longest invocation reads from workgroup memory.
    pub shared_bytes: u64,
    /// Instructions of an invocation, the mean over all workgroups: a dispatch may do products of several sizes. Earlier reports
    /// have none; there it is the longest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_instructions: Option<f64>,
}

impl Counts {
    /// How often the longest invocation waits for memory.
    pub fn rounds(&self) -> u64 {
        self.waits_l2 + self.waits_l1
    }

    /// How many workgroups there are.
    pub fn groups(&self) -> f64 {
        self.workgroups.iter().map(|&n| f64::from(n)).product()
    }

    /// Bytes read from workgroup memory for each multiply-add.
    pub fn shared_per_multiply_add(&self) -> f64 {
        self.shared_bytes as f64 / self.multiply_adds.max(1) as f64
    }
}

/// A step on one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prediction {
    /// The name in [`DEVICES`].
    pub device: String,
    /// Of all dispatches with their launches, in microseconds.
    pub step_us: f64,
    /// Of each dispatch.
    pub dispatches: Vec<Time>,
}

impl Step {
    /// What the formula makes of it on a device.
    pub fn on(&self, device: &Device) -> Prediction {
        let dispatches: Vec<Time> = self.dispatches.iter().map(|counts| device.time(counts)).collect();
        let step_us = dispatches.iter().map(|time| time.us + device.launch_us).sum();
        Prediction { device: device.name.into(), step_us, dispatches }
    }
}

/// Counts the training steps of a plan by the programs of these names.
///
/// # Errors
/// Programs that do not exist; kernels that the interpreter finds a fault in.
pub fn of_plan(plan: &Plan, programs: &[&str]) -> Result<Model> {
    let step = |name: &&str| of_program(&program::by_name(name)?.taught(&plan.method()), plan);
    let steps = programs.iter().map(step).collect::<Result<_>>()?;
    Ok(Model { schema: SCHEMA, version: env!("CARGO_PKG_VERSION").into(), steps })
}

/// Counts the training step of a program that is taught as the plan says.
///
/// # Errors
/// Kernels that the interpreter finds a fault in.
pub fn of_program(program: &Program, plan: &Plan) -> Result<Step> {
    let kernels = crate::shaders::kernels()?;
    let (rows, launches) = launches::of_program(program, plan, kernels, None)?;
    let dispatches = launches.par_iter().map(count).collect::<Result<_>>()?;
    let name = format!("{}{}", program.name, plan.method().suffix());
    let title = super::title(&name, [plan.p, rows, plan.d_model, plan.n_heads, plan.d_mlp, plan.models]);
    let mut step = Step { title, dispatches, predictions: Vec::new() };
    step.predictions = DEVICES.iter().map(|device| step.on(device)).collect();
    Ok(step)
}

/// Interprets some workgroups of a dispatch.
pub fn count(launch: &Launch) -> Result<Counts> {
    let run = || -> Result<Counts, String> {
        let shader = Shader::new(&launch.kernel.stem, &launch.kernel.source)?;
        let memory = |contents: &Contents| match contents {
            Contents::Words(words) => Memory::unchecked(words.clone()),
            Contents::Zeros(len) => Memory::unchecked(vec![0; *len]),
        };
        let mut buffers: Buffers = launch.buffers.iter().map(|(name, c)| (name.clone(), memory(c))).collect();
        let dispatch =
            Dispatch { entry: launch.entry, overrides: &launch.constants, workgroups: launch.workgroups, subgroup: 32 };
        let (mut longest, mut traffic, mut instructions, mut groups) = (Trace::default(), 0.0, 0.0, 0.0);
        for probe in &launch.probes {
            let trace = shader.trace(&dispatch, probe.workgroup, &mut buffers)?;
            instructions += probe.stands_for * trace.instructions as f64;
            groups += probe.stands_for;
            traffic += probe.stands_for * (trace.bytes_read + trace.bytes_written) as f64;
            let length = |trace: &Trace| (trace.waits_l2 + trace.waits_l1, trace.waits_l2, trace.instructions);
            if length(&trace) > length(&longest) {
                longest = trace;
            }
        }
        Ok(Counts {
            title: launch.title.clone(),
            workgroups: launch.workgroups,
            workgroup: launch.workgroup,
            flops: launch.flops,
            bytes: launch.bytes,
            traffic,
            waits_l2: longest.waits_l2,
            waits_l1: longest.waits_l1,
            covered_l2: longest.covered_l2,
            covered_l1: longest.covered_l1,
            multiply_adds: longest.multiply_adds,
            instructions: longest.instructions,
            shared_bytes: longest.shared_bytes,
            mean_instructions: Some(instructions / groups),
        })
    };
    run().map_err(|e| anyhow!(e)).with_context(|| format!("the step model cannot run {}", launch.title))
}

/// A model that was written as JSON.
pub fn read(text: &str) -> Result<Model> {
    let model: Model = serde_json::from_str(text).context("not a step model of grokscope bench")?;
    ensure!(model.schema == SCHEMA, "step model of schema {}: expected {SCHEMA}", model.schema);
    Ok(model)
}
