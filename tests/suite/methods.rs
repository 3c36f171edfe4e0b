//! Every way to teach against golden values: PyTorch's optimizers, and the formulas of the others' authors, in float64
//! (tests/lens/methods.py made them, and the tier `scripts/lens.sh` makes them again).

use crate::kernels::{methods, with_method};
use crate::support::{Outcome, gpu, layout, require, shape, test};
use grokscope::method::Method;
use grokscope::model::{PARAMETERS, Weights};
use grokscope::plan::{Plan, preset};
use grokscope::program::batch::Batch;
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{Program, State, layered};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

const GOLDEN: &str = include_str!("../golden/methods.json");
const STEPS: u64 = 4;
const RUNS: &[&str] = &["adamw", "adam", "sgd", "sgd nesterov", "muon", "muon nesterov", "ema", "ma", "orthogonal"];

pub fn tests() -> Vec<Trial> {
    let runs = RUNS.iter().map(|&name| Trial::test(format!("golden_method_{name}"), move || on_cpu(name)));
    runs.chain([test("golden_method_stablemax", stablemax)]).collect()
}

pub fn adapter_tests() -> Vec<Trial> {
    RUNS.iter().map(|&name| Trial::test(format!("golden_method_{name}_on_the_adapter"), move || on_gpu(name))).collect()
}

fn shape_of_golden() -> grokscope::plan::Shape {
    shape(5, 4, 2, 6)
}

/// sin(phase + pitch i)
fn waves(len: usize, phase: f64, pitch: f64) -> Vec<f64> {
    (0..len).map(|i| (phase + pitch * i as f64).sin()).collect()
}

fn len(rank: usize) -> usize {
    PARAMETERS[rank].dims(&shape_of_golden()).iter().product()
}

fn first_weights() -> Weights<f64> {
    Weights { tensors: (0..PARAMETERS.len()).map(|rank| waves(len(rank), 1.0 + rank as f64, 0.37)).collect() }
}

fn gradient(rank: usize, step: u64) -> Vec<f64> {
    waves(len(rank), 2.0 * rank as f64 + 1.7 * step as f64, 0.61)
}

/// The plan of a run, its program, and which of the program's calls are the update.
fn taught(name: &str) -> Result<(Plan, Program, Vec<usize>), Failed> {
    let (method, nesterov) = name.split_once(' ').map_or((name, false), |(method, _)| (method, true));
    let mut plan = Plan { lr: 1e-2, weight_decay: 0.5, warmup: 0, nesterov, ..preset("default")? };
    with_method(&mut plan, method);
    let expected = methods().into_iter().find(|(other, _)| *other == method).map_or(Method::default(), |(_, m)| m);
    require!(plan.method() == expected, "{name}: the plan says another method");
    let program = layered::program().taught(&plan.method());
    let calls = program.step().count();
    let update = (calls - program.update.len()..calls).collect();
    Ok((plan, program, update))
}

fn agrees(name: &str, weights: &Weights<f64>, tolerance: f64) -> Outcome {
    let golden: Value = serde_json::from_str(GOLDEN)?;
    for (rank, parameter) in PARAMETERS.iter().enumerate() {
        let expected = golden["runs"][name][parameter.name].as_array().ok_or("no golden values")?;
        require!(expected.len() == len(rank), "{name}: {} has another size", parameter.name);
        for (i, (got, want)) in weights.tensors[rank].iter().zip(expected).enumerate() {
            let want = want.as_f64().ok_or("not a number")?;
            let far = (got - want).abs();
            require!(far <= tolerance, "{name}: {} at {i}: {got}, golden {want}, {far:e} away", parameter.name);
        }
    }
    Ok(())
}

fn on_cpu(name: &str) -> Outcome {
    let (plan, program, update) = taught(name)?;
    let mut machine = OnCpu::<f64>::new(&program, layout(shape_of_golden(), &[10]), 1)?;
    machine.write_state(0, &State::remembering(first_weights(), program.grad_copies));
    for step in 0..STEPS {
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            *machine.tensor_mut(0, parameter.gradient, Batch::Train) = gradient(rank, step);
        }
        machine.run_some(Batch::Train, &update, &[vec![plan.update(step)]]);
    }
    agrees(name, &machine.read_weights(0), 1e-12)
}

fn on_gpu(name: &str) -> Outcome {
    let (plan, program, update) = taught(name)?;
    let kernels = grokscope::shaders::kernels()?;
    let mut machine = pollster::block_on(OnGpu::new(gpu()?, kernels, &program, layout(shape_of_golden(), &[10])))?;
    let narrow = first_weights().map(|&x| x as f32);
    machine.write_state(0, &State::remembering(narrow, program.grad_copies))?;
    for step in 0..STEPS {
        for (rank, parameter) in PARAMETERS.iter().enumerate() {
            let narrow: Vec<f32> = gradient(rank, step).iter().map(|&x| x as f32).collect();
            let window = machine.tensors().find(|(name, ..)| *name == parameter.gradient).ok_or("no gradient")?.2;
            window.write(&machine.gpu, 0, bytemuck::cast_slice(&narrow));
        }
        pollster::block_on(machine.run_some(Batch::Train, &update, &[vec![plan.update(step)]]))?;
    }
    let weights = pollster::block_on(machine.read_weights())?.remove(0);
    // Four updates of at most 0.02 times a few each; Muon's steps make small singular values, and their errors, 485 times as large.
    agrees(name, &weights.map(|&x| f64::from(x)), if name.starts_with("muon") { 1e-4 } else { 2e-6 })
}

fn stablemax() -> Outcome {
    let golden: Value = serde_json::from_str(GOLDEN)?;
    let list = golden["stablemax"]["d_logits"].as_array().ok_or("no golden values")?;
    let d_logits: Vec<f64> = list.iter().filter_map(Value::as_f64).collect();
    let rows = d_logits.len() / 5;
    let method = methods().into_iter().find(|(name, _)| *name == "stablemax").ok_or("no stablemax")?.1;
    let program = layered::program().taught(&method);
    let of_layout = layout(shape_of_golden(), &[rows]);
    let labels: Vec<usize> = of_layout.train[0].labels.iter().map(|&label| label as usize).collect();
    let mut machine = OnCpu::<f64>::new(&program, of_layout, 1)?;
    // The golden rows have labels 0, 1, 2, 3, 4, 0: each row here takes the logits of one with its label, whatever the others are.
    let logits: Vec<f64> = waves(rows * 5, 0.3, 0.91).iter().map(|x| 5.0 * x).collect();
    *machine.tensor_mut(0, "logits", Batch::Train) =
        (0..rows).flat_map(|row| logits[labels[row] * 5..][..5].to_vec()).collect();
    let place = |entry: &str| program.step().position(|call| (call.kernel, call.entry) == ("stablemax", entry));
    machine.run_some(Batch::Train, &[place("backward").ok_or("no backward")?], &[vec![]]);
    let got = machine.tensor(0, "d_logits", Batch::Train);
    for row in 0..rows {
        for c in 0..5 {
            let (got, want) = (got[row * 5 + c], d_logits[labels[row] * 5 + c]);
            require!((got - want).abs() <= 1e-14, "d_logits of row {row}, class {c}: {got}, golden {want}");
        }
    }
    Ok(())
}
