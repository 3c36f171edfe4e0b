//! The self-check: compares every kernel with its f64 twin at small sizes before the first training on a device and driver.
//!
//! A driver's compiler may have bugs. [`SelfCheck`] launches each kernel of both programs and of every method once or more, and compares
//! each element with the twin's within the bounds of [`bounds`]; the kernel tests of the suite call the same code at more shapes.
//! The small kernels of [`probes`] contain constructs that drivers are known to have miscompiled. Nothing here uses files or
//! clocks: [`crate::devices`] caches results.

pub mod bounds;
pub mod cases;
pub mod compare;
pub mod inputs;
pub mod probes;
pub mod report;
pub mod updates;

use crate::gpu::device::{Family, Gpu, TILES};
use crate::gpu::kernel::Kernel;
use crate::program::Call;
use anyhow::Result;
use cases::{FEW_NEURONS, STEP, STEP_ROWS, UPDATE, UPDATE_ROWS};
use compare::{Calls, Comparison};
use probes::Probes;
pub use report::{Finding, Problem, Report};
use updates::Updates;

/// The kernels to check.
#[derive(Clone)]
pub struct Kernels {
    /// Those of the programs.
    pub operations: Vec<Kernel>,
    /// `probes.wgsl`.
    pub probes: Kernel,
}

impl Kernels {
    /// The program's own, parsed.
    pub fn own() -> Result<Self> {
        Ok(Self { operations: crate::shaders::kernels()?.to_vec(), probes: crate::shaders::probes()? })
    }
}

/// Returns the families to check on a device. If the device chooses tiles by the size of a product, each size is checked in turn, because the
/// products of the check are too small for the device to choose the larger tiles.
fn families(of_device: Family) -> Vec<Family> {
    match of_device {
        Family::Wide(None) => TILES.iter().map(|tiles| Family::Wide(Some(tiles))).collect(),
        other => vec![other],
    }
}

/// Whether a call has variants with tiles of several sizes.
fn has_tiles(kernel: &str) -> bool {
    kernel == TILES[0]
}

/// Counts what [`SelfCheck`] checks on a device that runs a family.
pub fn kernel_count(family: Family) -> usize {
    let mut names: Vec<(&str, &str)> = Vec::new();
    let lists = [cases::step_calls(), cases::method_calls()];
    let updates = cases::updates().update;
    for call in lists.iter().flat_map(|calls| calls.step.iter().chain(&calls.evaluation)).chain(&updates) {
        names.push((call.kernel, call.entry));
    }
    names.sort_unstable();
    names.dedup();
    let of_tiles = names.iter().filter(|(kernel, _)| has_tiles(kernel)).count();
    names.len() + (families(family).len() - 1) * of_tiles + probes::count()
}

/// The self-check of a device, compiled.
pub struct SelfCheck {
    probes: Option<Probes>,
    comparisons: Vec<Comparison>,
    updates: Option<Updates>,
}

impl SelfCheck {
    /// Compiles every kernel and makes the buffers; an error names the kernel that the device refuses.
    pub async fn compile(gpu: &Gpu, kernels: &Kernels) -> Result<Self> {
        Self::compile_some(gpu, kernels, &|_| true).await
    }

    /// The same for the kernels whose name in a call (`product`) `chosen` accepts; `probes` stands for the probes.
    pub async fn compile_some(gpu: &Gpu, kernels: &Kernels, chosen: &dyn Fn(&str) -> bool) -> Result<Self> {
        let operations = &kernels.operations;
        let cases: [(_, &[usize], Calls); 3] = [
            (STEP, STEP_ROWS, cases::step_calls()),
            (UPDATE, UPDATE_ROWS, cases::method_calls()),
            (FEW_NEURONS, UPDATE_ROWS, cases::muon_calls()),
        ];
        let mut comparisons = Vec::new();
        for (number, family) in families(gpu.family).into_iter().enumerate() {
            let gpu = gpu.with_family(family);
            let wanted = |call: &Call| chosen(call.kernel) && (number == 0 || has_tiles(call.kernel));
            for (shape, rows, mut calls) in cases.clone() {
                calls.step.retain(wanted);
                calls.evaluation.retain(wanted);
                if !calls.step.is_empty() || !calls.evaluation.is_empty() {
                    comparisons.push(Comparison::compile(gpu.clone(), operations, shape, rows, calls).await?);
                }
            }
        }
        let probes = match chosen("probes") {
            true => Some(Probes::compile(gpu, &kernels.probes).await?),
            false => None,
        };
        let program = cases::updates();
        let updates = match program.update.iter().any(|call| cases::of_update(call) && chosen(call.kernel)) {
            true => Some(Updates::compile(gpu.clone(), operations, program, UPDATE, UPDATE_ROWS).await?),
            false => None,
        };
        Ok(Self { probes, comparisons, updates })
    }

    /// Launches every kernel and compares every element.
    pub async fn run(&mut self) -> Result<Report> {
        let mut report = Report::default();
        if let Some(probes) = &self.probes {
            report.add(probes.run().await?);
        }
        for comparison in &mut self.comparisons {
            report.add(comparison.run().await?);
        }
        if let Some(updates) = &mut self.updates {
            for name in ["adamw"].into_iter().chain(cases::methods().map(|(name, _)| name)) {
                let known: Vec<String> = report.wrong_kernels().into_iter().map(String::from).collect();
                report.add(updates.run(name, &known).await?);
            }
        }
        Ok(report)
    }
}
