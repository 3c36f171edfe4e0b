//! Constructs that drivers have miscompiled, each in a kernel of its own with an exact result.

use super::report::{Finding, Problem, Report};
use crate::gpu::device::Gpu;
use crate::gpu::kernel::{Constants, Kernel};
use crate::gpu::pass::{Compiled, Dispatch, submit};
use crate::gpu::tensors::{self, Window};
use anyhow::Result;

/// An entry point of `probes.wgsl`.
struct Probe {
    entry: &'static str,
    /// Words of the input, in the order of the workgroups.
    input: Vec<u32>,
    workgroups: u32,
    expected: Vec<u32>,
}

/// Workgroups of each probe.
const GROUPS: u32 = 3;

fn probes() -> Vec<Probe> {
    let numbers = |lanes: u32| (0..lanes * GROUPS).map(|i| i + 1).collect::<Vec<u32>>();
    // Every lane reads its workgroup's sum: 2080 is that of 1 to 64.
    let tree = |entry, lanes: u32| {
        let input = numbers(lanes);
        let sums = input.chunks(lanes as usize).map(|group| group.iter().sum());
        let expected = sums.flat_map(|sum: u32| std::iter::repeat_n(sum, lanes as usize)).collect();
        Probe { entry, input, workgroups: GROUPS, expected }
    };
    // Two rounds: lane 0 hands on its workgroup's number, then its double.
    let broadcast = |entry| {
        let input = numbers(64);
        let of_lane = |i: u32| 3 * input[(i / 64 * 64) as usize] + i % 64;
        let expected = (0..64 * GROUPS).map(of_lane).collect();
        Probe { entry, input, workgroups: GROUPS, expected }
    };
    // Counts the iterations of three nested loops with bounds from memory.
    let ends = |i: u32| [i % 5, i % 3 + 1, i % 7];
    let loops = Probe {
        entry: "nested_loops",
        input: (0..64).flat_map(ends).collect(),
        workgroups: 1,
        expected: (0..64).map(|i| ends(i).iter().product()).collect(),
    };
    let floats = [0.0, -0.0, 1.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let bits = floats.iter().map(|x| x.to_bits()).chain([1, 0xffc0_1234, 0x7f80_0001, 0x7f7f_ffff]);
    let input: Vec<u32> = bits.chain(std::iter::repeat(0)).take(64).collect();
    let expected = input.iter().map(|&bits| u32::from(!f32::from_bits(bits).is_finite())).collect();
    let not_finite = Probe { entry: "not_finite", input, workgroups: 1, expected };
    vec![
        tree("tree_64", 64),
        tree("tree_256", 256),
        broadcast("broadcast"),
        broadcast("uniform_load"),
        loops,
        not_finite,
    ]
}

/// Counts the probes.
pub fn count() -> usize {
    probes().len()
}

/// The probes, compiled and with their inputs.
pub struct Probes {
    gpu: Gpu,
    stem: String,
    ready: Vec<(Probe, Dispatch, Window)>,
}

impl Probes {
    /// Compiles the entry points of `probes.wgsl`.
    pub async fn compile(gpu: &Gpu, kernel: &Kernel) -> Result<Self> {
        let compiled = Compiled::start(gpu, kernel).ready().await?;
        let constants = Constants::new();
        let mut ready = Vec::new();
        for probe in probes() {
            let entry = kernel.entry(probe.entry, &constants)?;
            let input = tensors::allocate(gpu, "probe input", &[probe.input.len()], 1)?.remove(0);
            let output = tensors::allocate(gpu, "probe output", &[probe.expected.len()], 1)?.remove(0);
            input.write(gpu, 0, bytemuck::cast_slice(&probe.input));
            let windows: Vec<Window> = (entry.bindings.iter())
                .map(|binding| if binding.name == "input" { input.clone() } else { output.clone() })
                .collect();
            let pipeline = compiled.start_pipeline(gpu, probe.entry, &entry, &constants)?.ready().await?;
            let dispatch = pipeline.dispatch(gpu, &entry, [probe.workgroups, 1, 1], &windows).await?;
            ready.push((probe, dispatch, output));
        }
        Ok(Self { gpu: gpu.clone(), stem: kernel.stem.clone(), ready })
    }

    /// Runs them once.
    pub async fn run(&self) -> Result<Report> {
        submit(&self.gpu, self.ready.iter().map(|(_, dispatch, _)| dispatch), 1);
        let windows: Vec<&Window> = self.ready.iter().map(|(.., window)| window).collect();
        let outputs = tensors::read(&self.gpu, &windows).await?;
        let mut report = Report::default();
        for ((probe, ..), output) in self.ready.iter().zip(outputs) {
            let kernel = format!("{}.{}", self.stem, probe.entry);
            let wrong: Vec<usize> = (0..probe.expected.len()).filter(|&i| output[i] != probe.expected[i]).collect();
            report.wrong.extend(wrong.first().map(|&index| Finding {
                kernel: kernel.clone(),
                launch: "probe".into(),
                tensor: "output".into(),
                model: 0,
                index,
                problem: Problem::Integer { got: output[index], expected: probe.expected[index] },
                count: wrong.len(),
            }));
            report.checked.push(kernel);
            report.cases += 1;
        }
        Ok(report)
    }
}
