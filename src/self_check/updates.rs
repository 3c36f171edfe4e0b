//! Compares whole updates of every method with the f64 twins, after each kernel that runs over the arenas.

use super::bounds::{EPS, finite, projected};
use super::cases::{method_of, same_call, with_method};
use super::compare::kernel_name;
use super::inputs::{layout, normals};
use super::report::{Finding, Problem, Report};
use crate::gpu::device::Gpu;
use crate::gpu::kernel::Kernel;
use crate::gpu::tensors::{Window, read};
use crate::model::{PARAMETERS, Weights, initial_weights};
use crate::not_finite::{NOTHING_BAD, NotFinite};
use crate::plan::{Plan, Shape, Update, preset};
use crate::program::batch::Batch;
use crate::program::method;
use crate::program::on_cpu::OnCpu;
use crate::program::on_gpu::OnGpu;
use crate::program::{Program, State};
use anyhow::{Context, Result};

/// The first update: late enough that every filter acts, and odd, so that a window of two does not start at its first slot.
const FIRST: u64 = 21;
/// Updates of each method.
const STEPS: usize = 3;

/// A program of update kernels on a device and on the twin, compiled.
pub struct Updates {
    machine: OnGpu,
    twin: OnCpu<f64>,
    program: Program,
    names: Vec<String>,
    shape: Shape,
    models: usize,
}

/// One update of a method.
struct Step<'a> {
    /// The method's name.
    method: &'a str,
    /// Counts the method's updates from 0.
    number: usize,
    /// Each model's scalars.
    updates: Vec<Vec<Update>>,
    /// The gradients before the update, by model and parameter.
    gradients: Vec<Vec<Vec<f32>>>,
}

impl Updates {
    /// Compiles the update kernels of `program`.
    pub async fn compile(gpu: Gpu, kernels: &[Kernel], program: Program, shape: Shape, rows: &[usize]) -> Result<Self> {
        let names = program.update.iter().map(|call| kernel_name(&gpu, kernels, call)).collect();
        Ok(Self {
            machine: OnGpu::of_calls(gpu, kernels, &program, layout(shape, rows)).await?,
            twin: OnCpu::new(&program, layout(shape, rows), 1)?,
            program,
            names,
            shape,
            models: rows.len(),
        })
    }

    /// Runs three updates of a method, and one with gradients that are not finite. Stops before a kernel in `known`, the wrong ones, so
    /// that no other kernel is blamed for its results.
    pub async fn run(&mut self, name: &str, known: &[String]) -> Result<Report> {
        let mut report = Report { checked: self.names.clone(), ..Report::default() };
        let calls = method::update(&method_of(name));
        let places: Vec<usize> = (calls.iter())
            .map(|call| self.program.update.iter().position(|other| same_call(other, call)))
            .collect::<Option<_>>()
            .with_context(|| format!("{name}: a call of the update is not in the program"))?;
        let (tick, rest) = places.split_first().context("an update begins with the counter")?;
        // The engine resets its counter with every launch, so each part begins with it.
        let parts: Vec<Vec<usize>> = (rest.split_inclusive(|&place| self.program.update[place].over.is_arena()))
            .map(|part| std::iter::once(*tick).chain(part.iter().copied()).collect())
            .collect();
        let plans: Vec<Plan> = (0..self.models).map(|model| plan(model, name)).collect::<Result<_>>()?;
        self.write_states()?;
        for number in 0..STEPS {
            let update = |plan: &Plan| vec![plan.update(FIRST + number as u64).rounded()];
            let mut step =
                Step { method: name, number, updates: plans.iter().map(update).collect(), gradients: Vec::new() };
            step.gradients = (0..self.models).map(|model| self.gradients(&step, model)).collect();
            self.write_gradients(&step.gradients)?;
            for part in &parts {
                if part.iter().any(|&call| known.contains(&self.names[call])) {
                    report.add(Report::default());
                    return Ok(report);
                }
                report.cases += 1;
                self.launch(part, &step).await?;
                let findings = self.compare(part, &step).await?;
                if !findings.is_empty() {
                    // All later numbers depend on this one.
                    report.wrong.extend(findings);
                    report.add(Report::default());
                    return Ok(report);
                }
            }
        }
        report.cases += 1;
        report.wrong.extend(self.bad_numbers(&places, name, &plans).await?);
        report.add(Report::default());
        Ok(report)
    }

    /// Runs calls of the program on both machines.
    async fn launch(&mut self, calls: &[usize], step: &Step<'_>) -> Result<()> {
        self.machine.run_some(Batch::Train, calls, &step.updates).await.with_context(|| step.method.to_string())?;
        self.twin.run_some(Batch::Train, calls, &step.updates);
        Ok(())
    }

    /// Sets random weights and moments, and clears the arenas' padding: a wrong kernel of another method may have written it, and
    /// `orthogonal.project` sums over it.
    fn write_states(&mut self) -> Result<()> {
        for name in ["params", "grads", "exp_avg", "exp_avg_sq", "grad_memory"] {
            if let Some((.., window)) = self.machine.tensors().find(|(other, ..)| *other == name) {
                let zeros = vec![0u8; window.bytes as usize];
                self.machine.gpu.queue.write_buffer(&window.buffer, window.offset, &zeros);
            }
        }
        for model in 0..self.models {
            let weights = initial_weights("paper", model as u64, &self.shape);
            let mut state = State::remembering(weights, self.program.grad_copies);
            for (rank, tensor) in state.exp_avg.tensors.iter_mut().enumerate() {
                *tensor = normals(7, rank as u32, tensor.len()).iter().map(|x| x * 1e-3).collect();
            }
            for (rank, tensor) in state.exp_avg_sq.tensors.iter_mut().enumerate() {
                *tensor = normals(8, rank as u32, tensor.len()).iter().map(|x| x * x * 1e-6).collect();
            }
            for (copy, memory) in state.grad_memory.iter_mut().enumerate() {
                for (rank, tensor) in memory.tensors.iter_mut().enumerate() {
                    *tensor = normals(100 + copy as u64, rank as u32, tensor.len());
                }
            }
            self.machine.write_state(model, &state)?;
            let wide = |weights: &Weights<f32>| weights.map(|&x| f64::from(x));
            self.twin.write_state(
                model,
                &State {
                    weights: wide(&state.weights),
                    exp_avg: wide(&state.exp_avg),
                    exp_avg_sq: wide(&state.exp_avg_sq),
                    grad_memory: state.grad_memory.iter().map(wide).collect(),
                },
            );
        }
        Ok(())
    }

    /// Normally distributed gradients, new ones for each step. For AdamW, the same ones in each step, with sizes from 1e-9 (below its eps)
    /// to 1.
    fn gradients(&self, step: &Step, model: usize) -> Vec<Vec<f32>> {
        let of_many_sizes = step.method == "adamw";
        let seed = 10 + model + if of_many_sizes { 0 } else { 10_000 * step.number };
        let gradient = |(rank, parameter): (usize, &crate::model::Parameter)| {
            let len = parameter.dims(&self.shape).iter().product();
            let normal = normals(seed as u64, rank as u32, len);
            if !of_many_sizes {
                return normal;
            }
            let exponents = normals(9, rank as u32, len);
            normal.iter().zip(&exponents).map(|(g, e)| g * 10f32.powf(2.0 * e - 4.0)).collect()
        };
        PARAMETERS.iter().enumerate().map(gradient).collect()
    }

    /// A parameter's gradient on the device.
    fn gradient_window(&self, name: &str) -> Result<&Window> {
        let found = self.machine.tensors().find(|(other, ..)| *other == name);
        Ok(found.with_context(|| format!("no tensor {name}"))?.2)
    }

    fn write_gradients(&mut self, gradients: &[Vec<Vec<f32>>]) -> Result<()> {
        for (model, gradients) in gradients.iter().enumerate() {
            for (parameter, gradient) in PARAMETERS.iter().zip(gradients) {
                let window = self.gradient_window(parameter.gradient)?;
                window.write(&self.machine.gpu, model, bytemuck::cast_slice(gradient));
                let wide = gradient.iter().map(|&x| f64::from(x)).collect();
                *self.twin.tensor_mut(model, parameter.gradient, Batch::Train) = wide;
            }
        }
        Ok(())
    }

    /// Compares states, and gradients where the last call of the part changes them.
    async fn compare(&self, part: &[usize], step: &Step<'_>) -> Result<Vec<Finding>> {
        let last = *part.last().context("a part has calls")?;
        let call = &self.program.update[last];
        let states = self.machine.read_states().await?;
        let mut findings = Vec::new();
        let launch = format!("update {} of {}", step.number, step.method);
        let finding = |tensor: String, model, index, problem, count| Finding {
            kernel: self.names[last].clone(),
            launch: launch.clone(),
            tensor,
            model,
            index,
            problem,
            count,
        };
        for (model, got) in states.iter().enumerate() {
            let want = self.twin.read_state(model);
            let mut tensors = vec![
                (&got.weights, &want.weights, "weights"),
                (&got.exp_avg, &want.exp_avg, "exp_avg"),
                (&got.exp_avg_sq, &want.exp_avg_sq, "exp_avg_sq"),
            ];
            anyhow::ensure!(got.grad_memory.len() == want.grad_memory.len(), "another number of remembered gradients");
            tensors.extend(got.grad_memory.iter().zip(&want.grad_memory).map(|(got, want)| (got, want, "grad_memory")));
            for (got, want, what) in tensors {
                for (rank, parameter) in PARAMETERS.iter().enumerate() {
                    let bounds = want.tensors[rank].iter().map(|w| of_state(step.method, what, w.abs())).collect();
                    if let Some((i, problem, count)) = first_far(&got.tensors[rank], &want.tensors[rank], bounds)? {
                        let tensor = match what {
                            "weights" => parameter.name.into(),
                            _ => format!("{what} of {}", parameter.name),
                        };
                        findings.push(finding(tensor, model, i, problem, count));
                    }
                }
            }
        }
        if matches!((call.kernel, call.entry), ("grokfast" | "orthogonal", _) | ("muon", "momentum")) {
            for (rank, parameter) in PARAMETERS.iter().enumerate() {
                let window = self.gradient_window(parameter.gradient)?;
                let words = read(&self.machine.gpu, &[window]).await?.remove(0);
                for model in 0..self.models {
                    let want = self.twin.tensor(model, parameter.gradient, Batch::Train);
                    let got: Vec<f32> =
                        words[model * window.stride..][..want.len()].iter().map(|&w| f32::from_bits(w)).collect();
                    let bounds = match call.kernel {
                        "orthogonal" => {
                            let before: Vec<f64> = step.gradients[model][rank].iter().map(|&g| f64::from(g)).collect();
                            projected(&before, self.twin.tensor(model, parameter.name, Batch::Train))
                        }
                        _ => {
                            let scale = 1.0 + step.updates[model][0].amplify.abs();
                            want.iter().map(|g| 32.0 * EPS * scale * (g.abs() + 1.0)).collect()
                        }
                    };
                    if let Some((i, problem, count)) = first_far(&got, want, bounds)? {
                        findings.push(finding(parameter.gradient.into(), model, i, problem, count));
                    }
                }
            }
        }
        let bad = self.machine.not_finite().await?;
        if let Some((model, Some(bad))) = bad.into_iter().enumerate().find(|(_, bad)| bad.is_some()) {
            let problem = Problem::Integer { got: bad.to_code(), expected: NOTHING_BAD };
            findings.push(finding("first_bad".into(), model, 0, problem, 1));
        }
        Ok(findings)
    }

    /// Puts infinities and NaN into the gradients; the optimizer must report the same one as its twin.
    async fn bad_numbers(&mut self, calls: &[usize], name: &str, plans: &[Plan]) -> Result<Option<Finding>> {
        let updates = plans.iter().map(|plan| vec![plan.update(30).rounded()]).collect();
        let mut step = Step { method: name, number: STEPS, updates, gradients: Vec::new() };
        step.gradients = (0..self.models).map(|model| self.gradients(&step, model)).collect();
        let planted = [(0, 6, f32::NAN), (1, 0, f32::NEG_INFINITY), (1, 6, f32::NAN)];
        for (model, rank, bad) in planted.into_iter().filter(|(model, ..)| *model < self.models) {
            if let Some(last) = step.gradients[model][rank].last_mut() {
                *last = bad;
            }
        }
        self.write_gradients(&step.gradients)?;
        self.launch(calls, &step).await?;
        let code = |bad: Option<NotFinite>| bad.map_or(NOTHING_BAD, NotFinite::to_code);
        let (got, want) = (self.machine.not_finite().await?, self.twin.not_finite());
        let pairs = got.into_iter().map(code).zip(want.into_iter().map(code));
        let last = *calls.last().context("an update has calls")?;
        Ok(pairs.enumerate().find(|(_, (got, expected))| got != expected).map(|(model, (got, expected))| Finding {
            kernel: self.names[last].clone(),
            launch: format!("update of {name} with numbers that are not finite"),
            tensor: "first_bad".into(),
            model,
            index: 0,
            problem: Problem::Integer { got, expected },
            count: 1,
        }))
    }
}

/// The plan of a model. Models have different scalars.
fn plan(model: usize, method: &str) -> Result<Plan> {
    let mut plan = preset("default")?;
    let k = (model % 3) as f64;
    (plan.lr, plan.weight_decay) = (1e-3 * (k + 1.0), 1.0 + k);
    (plan.beta1, plan.beta2) = (0.9 - 0.1 * k, 0.98 - 0.01 * k);
    plan.train_biases = model % 3 != 1;
    plan.nesterov = model % 3 == 2;
    with_method(&mut plan, method);
    Ok(plan)
}

/// The error bound of a state's element of this size, for three updates with about eight roundings each. A weight moves by at most a
/// few learning rates.
fn of_state(method: &str, what: &str, size: f64) -> f64 {
    match method {
        "adamw" => {
            let scale = size + if what == "weights" { 3e-2 } else { 0.0 };
            32.0 * EPS * scale + if what == "exp_avg" { 1e-9 } else { 1e-16 }
        }
        // Terms are of the order of 1. Five steps of 3.4445 x make small singular values, and their errors, 485 times as large.
        "muon" => 256.0 * EPS * (size + 1.0),
        _ => 32.0 * EPS * (size + 1.0),
    }
}

/// The first element that is further from its reference than its bound, and how many are.
fn first_far(got: &[f32], want: &[f64], bounds: Vec<f64>) -> Result<Option<(usize, Problem, usize)>> {
    let near = |i: &usize| (f64::from(got[*i]) - want[*i]).abs() <= bounds[*i];
    let wrong: Vec<usize> = (0..want.len()).filter(|i| !near(i)).collect();
    let Some(&i) = wrong.first() else { return Ok(None) };
    let (expected, bound) = (finite(want[i], "an update")?, finite(bounds[i], "an update")?);
    Ok(Some((i, Problem::Value { bits: got[i].to_bits(), expected, bound }, wrong.len())))
}
