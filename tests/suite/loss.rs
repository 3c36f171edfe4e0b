//! The loss and its gradient from 1e1 to 1e-12, given the same float32 logits, against float64.

use crate::support::{Outcome, gpu, layout, normals, require, test};
use grokscope::cpu::Real;
use grokscope::plan::{Shape, Update};
use grokscope::program::batch::Batch;
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{Call, layered};
use libtest_mimic::{Failed, Trial};

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_oracle_of_the_loss_is_the_definition", || {
            let (losses, gradient) = on_twin::<f64>()?;
            check(&losses, &gradient)
        }),
        test("the_cpu_engine_keeps_losses_from_1e1_to_1e_minus_12", || {
            let (losses, gradient) = on_twin::<f32>()?;
            check(&losses, &gradient)
        }),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("the_kernel_keeps_losses_from_1e1_to_1e_minus_12", || {
        let (losses, gradient) = on_kernels()?;
        check(&losses, &gradient)
    })]
}

const SHAPE: Shape = Shape { p: 23, d_model: 4, n_heads: 1, d_mlp: 4, d_vocab_out: 23 };
const ROWS: usize = SHAPE.p * SHAPE.p;

/// Rows of random logits whose label is moved so that the losses run from about 10 down to below 1e-12, and far
/// beyond both ends.
fn logits() -> Vec<f32> {
    let labels = labels();
    let mut logits = normals(5, 0, ROWS * SHAPE.d_vocab_out);
    for (row, &label) in labels.iter().enumerate() {
        let others = &mut logits[row * SHAPE.d_vocab_out..][..SHAPE.d_vocab_out];
        others.iter_mut().for_each(|x| *x *= 0.5);
        others[label as usize] = -12.0 + 50.0 * row as f32 / ROWS as f32;
        if row % 50 == 49 {
            // A label far below: unshifted, the sum overflows at some 90.
            others[label as usize] = -150.0;
        }
    }
    logits
}

fn labels() -> Vec<u32> {
    layout(SHAPE, &[ROWS]).train[0].labels.clone()
}

fn index_of(calls: impl Iterator<Item = Call>, entry: &str) -> usize {
    calls.into_iter().position(|call| call.kernel == "loss" && call.entry == entry).expect("the program has a loss")
}

fn on_twin<T: Real>() -> Result<(Vec<f64>, Vec<f64>), Failed> {
    let program = layered::program();
    let mut machine = OnCpu::<T>::new(&program, layout(SHAPE, &[ROWS]), 1)?;
    let update = [vec![Update::default()]];
    for batch in [Batch::Train, Batch::Grid] {
        *machine.tensor_mut(0, "logits", batch) = logits_for(batch).iter().map(|&x| T::of(x as f64)).collect();
    }
    machine.run_some(Batch::Train, &[index_of(program.step().cloned(), "backward")], &update);
    machine.run_some(Batch::Grid, &[index_of(program.evaluation().cloned(), "forward")], &update);
    let wide = |name, batch| machine.tensor(0, name, batch).iter().map(|x| x.wide()).collect::<Vec<_>>();
    Ok((wide("row_loss", Batch::Grid), wide("d_logits", Batch::Train)))
}

/// The same logits on both batches, whose rows stand in different orders: the grid's in that of the train rows' places.
fn logits_for(batch: Batch) -> Vec<f32> {
    let train = logits();
    match batch {
        Batch::Train => train,
        Batch::Grid => {
            let classes = SHAPE.d_vocab_out;
            let mut grid = vec![0.0; train.len()];
            for (row, place) in places().into_iter().enumerate() {
                grid[place * classes..][..classes].copy_from_slice(&train[row * classes..][..classes]);
            }
            grid
        }
    }
}

/// Where each train row stands on the grid.
fn places() -> Vec<usize> {
    let layout = layout(SHAPE, &[ROWS]);
    let pairs = crate::support::pairs(SHAPE.p, ROWS, 0).pairs;
    let [train, grid] = [&layout.train[0].order, &layout.grid[0].order];
    let of_train = train.iter().map(|&pair| pairs[pair as usize]);
    let on_grid = |[x, y]: [u32; 2]| grid.iter().position(|&pair| pair == x * SHAPE.p as u32 + y);
    of_train.map(|pair| on_grid(pair).expect("the grid has every pair")).collect()
}

fn on_kernels() -> Result<(Vec<f64>, Vec<f64>), Failed> {
    let (program, kernels) = (layered::program(), grokscope::shaders::kernels()?);
    let machine = pollster::block_on(OnGpu::keeping_all(gpu()?, kernels, &program, layout(SHAPE, &[ROWS])))?;
    let window =
        |name: &str, batch| machine.tensors().find(|(of, b, _)| *of == name && *b == batch).map(|(_, _, w)| w.clone());
    let window = |name: &str, batch| window(name, batch).ok_or(Failed::from(format!("no {name}")));
    for batch in [Batch::Train, Batch::Grid] {
        window("logits", batch)?.write(&machine.gpu, 0, bytemuck::cast_slice(&logits_for(batch)));
    }
    let update = [vec![Update::default()]];
    pollster::block_on(machine.run_some(Batch::Train, &[index_of(program.step().cloned(), "backward")], &update))?;
    pollster::block_on(machine.run_some(Batch::Grid, &[index_of(program.evaluation().cloned(), "forward")], &update))?;
    let read = |name, batch, len: usize| -> Result<Vec<f64>, Failed> {
        let bits = pollster::block_on(grokscope::gpu::tensors::read(&machine.gpu, &[&window(name, batch)?]))?.remove(0);
        Ok(bits[..len].iter().map(|&bits| f32::from_bits(bits) as f64).collect())
    };
    Ok((read("row_loss", Batch::Grid, ROWS)?, read("d_logits", Batch::Train, ROWS * SHAPE.d_vocab_out)?))
}

/// The definition in f64: log(sum of exp) - l_y, by differences from the label, and softmax - one-hot.
fn check(losses: &[f64], gradient: &[f64]) -> Outcome {
    let (logits, labels, places, classes) = (logits(), labels(), places(), SHAPE.d_vocab_out);
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    for row in 0..ROWS {
        let of_row: Vec<f64> = logits[row * classes..][..classes].iter().map(|&x| x as f64).collect();
        let label = labels[row] as usize;
        let rest: f64 = (0..classes).filter(|&c| c != label).map(|c| (of_row[c] - of_row[label]).exp()).sum();
        let loss = rest.ln_1p();
        let got = losses[places[row]];
        require!((got - loss).abs() <= 1e-5 * loss, "row {row}: loss {got:e}, float64 {loss:e}");
        (least, most) = (least.min(loss), most.max(loss));
        for c in 0..classes {
            let share = if c == label { -rest } else { (of_row[c] - of_row[label]).exp() };
            let want = share / (1.0 + rest) / ROWS as f64;
            let got = gradient[row * classes + c];
            // Far below the largest, exp errs by 2 |x| eps: probabilities under 1e-17 have |x| > 40.
            let relative = if want.abs() * ROWS as f64 >= 1e-17 { 1e-5 } else { 1e-4 };
            let tolerance = relative * want.abs() + 1e-29;
            require!((got - want).abs() <= tolerance, "row {row}, class {c}: gradient {got:e}, float64 {want:e}");
        }
    }
    require!(least < 1e-12 && most > 1e1, "the losses run from {least:e} to {most:e} only");
    Ok(())
}
