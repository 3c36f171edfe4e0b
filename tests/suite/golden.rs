//! The golden values: PyTorch autograd in float64 (assets/golden, made by make_golden.py).

use crate::support::{Outcome, gpu, require, succeed, test, wanted_adapter};
use grokscope::gpu::tensors::read;
use grokscope::model::{PARAMETERS, Weights};
use grokscope::plan::{Plan, Shape, preset};
use grokscope::program::batch::{Batch, Layout};
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{State, by_name};
use grokscope::task::{Op, Pairs};
use libtest_mimic::{Failed, Trial};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};

pub fn tests() -> Vec<Trial> {
    vec![
        test("twins_in_f64_agree_with_autograd", || of_every_program(in_f64)),
        test("the_cpu_engine_agrees_with_autograd", || {
            of_every_program(|name, program| compare(&Golden::load(name)?, on_f32(name, program)?))
        }),
        test("the_program_repeats_the_losses_of_tiny_and_odd_on_cpu", || {
            of_every_program(|name, program| losses(name, "cpu", program, 1e-5))
        }),
        test("the_program_repeats_the_losses_of_full_on_cpu", || {
            PROGRAMS.iter().try_for_each(|program| losses("full", "cpu", program, 1e-4))
        }),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("kernels_agree_with_autograd", || {
            of_every_program(|name, program| compare(&Golden::load(name)?, on_kernels(name, program)?))
        }),
        test("the_program_repeats_the_losses_of_tiny_and_odd_on_the_adapter", || {
            of_every_program(|name, program| losses(name, &wanted_adapter(), program, 1e-5))
        }),
        test("the_program_repeats_the_losses_of_full_on_the_adapter", || {
            losses("full", &wanted_adapter(), "composed", 1e-4)
        }),
    ]
}

const PROGRAMS: [&str; 2] = ["layered", "composed"];

/// Calls `f(golden file, program)` for the small files.
fn of_every_program(f: impl Fn(&str, &str) -> Outcome) -> Outcome {
    for program in PROGRAMS {
        for name in ["tiny", "odd", "paper"] {
            f(name, program).map_err(|e| format!("{program}: {}", e.message().unwrap_or("?")))?;
        }
    }
    Ok(())
}

struct Golden {
    bytes: Vec<u8>,
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("assets/golden/{name}.safetensors"))
}

impl Golden {
    fn load(name: &str) -> Result<Self, Failed> {
        Ok(Self { bytes: std::fs::read(asset(name))? })
    }

    fn view(&self, key: &str) -> Result<TensorView<'_>, Failed> {
        Ok(SafeTensors::deserialize(&self.bytes)?.tensor(key)?)
    }

    fn floats(&self, key: &str) -> Result<Vec<f64>, Failed> {
        let view = self.view(key)?;
        Ok(match view.dtype() {
            safetensors::Dtype::F64 => {
                view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        })
    }

    fn weights(&self, prefix: &str) -> Result<Weights<f64>, Failed> {
        let tensors = PARAMETERS.iter().map(|p| self.floats(&format!("{prefix}/{}", p.lens)));
        Ok(Weights { tensors: tensors.collect::<Result<_, _>>()? })
    }

    fn shape(&self) -> Result<Shape, Failed> {
        let dims = |key: &str| Ok::<_, Failed>(self.view(key)?.shape().to_vec());
        let [heads, ..] = dims("init/blocks.0.attn.W_Q")?[..] else { return Err("W_Q has no axes".into()) };
        let [d_vocab, d_model] = dims("init/embed.W_E")?[..] else { return Err("W_E has not two axes".into()) };
        let (d_mlp, d_vocab_out) = (dims("init/blocks.0.mlp.b_in")?[0], dims("init/unembed.W_U")?[1]);
        Ok(Shape { p: d_vocab - 1, d_model, n_heads: heads, d_mlp, d_vocab_out })
    }

    fn pairs(&self) -> Result<Pairs, Failed> {
        let tokens = self.view("tokens")?;
        let tokens: Vec<u32> =
            tokens.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32).collect();
        Ok(Pairs::new(tokens.chunks_exact(3).map(|t| [t[0], t[1]]).collect(), Op::Add, self.shape()?.p))
    }

    fn layout(&self) -> Result<Layout, Failed> {
        let shape = self.shape()?;
        Ok(Layout::new(shape, &[self.pairs()?], &[Pairs::grid(Op::Add, shape.p)]))
    }

    /// The optimizer of make_golden.py.
    fn plan(&self) -> Result<Plan, Failed> {
        let shape = self.shape()?;
        Ok(Plan { lr: 1e-3, weight_decay: 1.0, warmup_from_zero: shape.d_vocab_out > shape.p, ..preset("default")? })
    }
}

/// Everything of a first step, and the parameters after all steps, by the golden file's keys.
type Values = Vec<(String, Vec<f64>)>;

/// The activations of a program that the files have, and the tensors that hold them.
fn activations(program: &str) -> Vec<(&'static str, &'static str)> {
    match program {
        "layered" => ["pattern", "z", "resid_mid", "pre", "resid_post", "logits"].map(|name| (name, name)).to_vec(),
        _ => vec![("pattern", "pattern"), ("logits", "logits4")],
    }
}

/// A tensor of rows as the files have it: rows in the order of the pairs, without what rounds them up to whole vec4s.
fn as_in_the_files(values: Vec<f64>, name: &str, golden: &Golden) -> Result<Vec<f64>, Failed> {
    let (shape, layout) = (golden.shape()?, golden.layout()?);
    let order = &layout.train[0].order;
    let width = values.len() / order.len();
    let kept = if name == "logits4" { shape.d_vocab_out } else { width };
    let mut out = vec![0.0; kept * order.len()];
    for (row, &pair) in values.chunks_exact(width).zip(order) {
        out[pair as usize * kept..][..kept].copy_from_slice(&row[..kept]);
    }
    Ok(out)
}

/// One step, whose activations and gradients are read, and then the rest of them.
fn on_twins<T: grokscope::cpu::Real>(golden: &Golden, program: &str) -> Result<(Values, f64), Failed> {
    let mut machine = OnCpu::<T>::new(&by_name(program)?, golden.layout()?, 1)?;
    machine.write_state(0, &State::fresh(golden.weights("init")?.map(|&x| T::of(x))));
    let plan = golden.plan()?;
    machine.evaluate();
    machine.steps(&[vec![plan.update(0)]]);
    let wide = |values: &[T]| values.iter().map(|x| x.wide()).collect::<Vec<_>>();
    let tensor = |name| wide(machine.tensor(0, name, Batch::Train));
    let mut values = Values::new();
    for (name, of) in activations(program) {
        values.push((format!("act/{name}"), as_in_the_files(tensor(of), of, golden)?));
    }
    values.extend(PARAMETERS.iter().map(|p| (format!("grad/{}", p.lens), tensor(p.gradient))));
    // The loss of the initial parameters, out of the evaluation of all pairs.
    let p = golden.shape()?.p;
    let of_grid = wide(&machine.of_grid(0, "row_loss"));
    let pairs = golden.pairs()?.pairs;
    let loss = pairs.iter().map(|&[x, y]| of_grid[x as usize * p + y as usize]).sum::<f64>() / pairs.len() as f64;
    for step in 1..golden.floats("losses")?.len() as u64 {
        machine.steps(&[vec![plan.update(step)]]);
    }
    let after = machine.read_weights(0);
    values.extend(PARAMETERS.iter().zip(&after.tensors).map(|(p, tensor)| (format!("after/{}", p.lens), wide(tensor))));
    Ok((values, loss))
}

fn in_f64(name: &str, program: &str) -> Outcome {
    let golden = Golden::load(name)?;
    let (values, loss) = on_twins::<f64>(&golden, program)?;
    let expected = golden.floats("loss")?[0];
    require!((loss - expected).abs() <= 1e-12 * expected, "{name}: loss {loss:e}, autograd {expected:e}");
    for (key, got) in values {
        let want = golden.floats(&key)?;
        agree(&format!("{name}: {key}"), &got, &want, 1e-10 * largest(&want))?;
    }
    Ok(())
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

fn agree(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Outcome {
    require!(got.len() == want.len(), "{what}: {} elements, expected {}", got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let ratio = (got - want).abs() / tolerance;
        require!(
            (got - want).abs() <= tolerance,
            "{what} at {i}: {got:e}, expected {want:e}: {ratio} times the tolerance"
        );
    }
    Ok(())
}

fn on_f32(name: &str, program: &str) -> Result<Values, Failed> {
    Ok(on_twins::<f32>(&Golden::load(name)?, program)?.0)
}

fn on_kernels(name: &str, program: &str) -> Result<Values, Failed> {
    let golden = Golden::load(name)?;
    let (kernels, shape, plan) = (grokscope::shaders::kernels()?, golden.shape()?, golden.plan()?);
    let rows = golden.pairs()?.len();
    let mut machine = pollster::block_on(OnGpu::keeping_all(gpu()?, kernels, &by_name(program)?, golden.layout()?))?;
    machine.write_state(0, &State::fresh(golden.weights("init")?.map(|&x| x as f32)))?;
    pollster::block_on(machine.steps(&[vec![plan.update(0)]]))?;
    let tensor = |name: &'static str| -> Result<Vec<f64>, Failed> {
        let (_, _, window) =
            machine.tensors().find(|(of, batch, _)| *of == name && *batch == Batch::Train).ok_or("no tensor")?;
        let tensor = grokscope::model::Tensor::find(name).ok_or("not in the table")?;
        let len = tensor.len(&grokscope::model::Sizes { shape, rows });
        let bits = pollster::block_on(read(&machine.gpu, &[window]))?.remove(0);
        Ok(bits[..len].iter().map(|&bits| f32::from_bits(bits) as f64).collect())
    };
    let mut values = Values::new();
    for (name, of) in activations(program) {
        values.push((format!("act/{name}"), as_in_the_files(tensor(of)?, of, &golden)?));
    }
    for parameter in &PARAMETERS {
        values.push((format!("grad/{}", parameter.lens), tensor(parameter.gradient)?));
    }
    let rest: Vec<_> = (1..golden.floats("losses")?.len() as u64).map(|step| plan.update(step)).collect();
    pollster::block_on(machine.steps(&[rest]))?;
    let after = pollster::block_on(machine.read_weights())?.remove(0);
    for (parameter, tensor) in PARAMETERS.iter().zip(&after.tensors) {
        values.push((format!("after/{}", parameter.lens), tensor.iter().map(|&x| x as f64).collect()));
    }
    Ok(values)
}

/// float32 against autograd: a sum of n terms errs by at most n eps of their absolute sum, and an element passes
/// through the sums over d_model, d_mlp, the classes and the rows; the absolute sums are taken as the largest element
/// of the tensor. A parameter moves by at most about lr a step, whatever the gradient's rounding (its sign may flip
/// where the gradient is nearly 0), so that parameters may differ by the rounding's share of the steps' learning rates.
fn compare(golden: &Golden, values: Values) -> Outcome {
    let shape = golden.shape()?;
    let n = shape.d_model + shape.d_mlp + shape.d_vocab_out + golden.pairs()?.len();
    let rounding = n as f64 * f32::EPSILON as f64;
    let steps = golden.floats("losses")?.len() as f64;
    for (key, got) in values {
        let want = golden.floats(&key)?;
        let moved = if key.starts_with("after/") { steps * 1e-3 * 100.0 } else { 0.0 };
        agree(&key, &got, &want, rounding * (largest(&want) + moved))?;
    }
    Ok(())
}

/// Trains through the program's own --init and --split, and compares the train loss of every step.
fn losses(name: &str, device: &str, program: &str, tolerance: f64) -> Outcome {
    let golden = Golden::load(name)?;
    let shape = golden.shape()?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let weights = golden.weights("init")?.map(|&x| x as f32);
    std::fs::write(path("init.safetensors"), grokscope::run::lens::model_bytes(&weights, &shape)?)?;
    std::fs::write(path("split.csv"), golden.pairs()?.to_csv())?;
    let want = golden.floats("losses")?;
    let text = |n: usize| n.to_string();
    let equals_class = format!("equals_class={}", shape.d_vocab_out > shape.p);
    let from_zero = format!("warmup_from_zero={}", shape.d_vocab_out > shape.p);
    let (p, d_model, n_heads) = (text(shape.p), text(shape.d_model), text(shape.n_heads));
    let (d_mlp, steps) = (text(shape.d_mlp), text(want.len()));
    let arguments = [
        "train",
        "--quiet",
        "--device",
        device,
        "--program",
        program,
        "--p",
        &p,
        "--d-model",
        &d_model,
        "--n-heads",
        &n_heads,
        "--d-mlp",
        &d_mlp,
        "--init",
        &path("init.safetensors"),
        "--split",
        &path("split.csv"),
        "--lr",
        "1e-3",
        "--weight-decay",
        "1",
        "--steps",
        &steps,
        "--eval-every",
        "1",
        "--set",
        &equals_class,
        "--set",
        &from_zero,
        "--set",
        "stop_after_cleanup=false",
        "--out",
        &path("run"),
    ];
    succeed(&arguments)?;
    let run = grokscope::run::RunDir::open(&directory.path().join("run"))?;
    let rows = run.metrics()?;
    require!(rows.len() == want.len() + 1, "{name}: {} rows for {} steps", rows.len(), want.len());
    for (row, want) in rows.iter().zip(want) {
        let error = (row.train_loss - want).abs() / want;
        require!(
            error <= tolerance,
            "{name} on {device}: loss {:e} at step {}, autograd {want:e}: off by {error:e}",
            row.train_loss,
            row.step
        );
    }
    Ok(())
}
