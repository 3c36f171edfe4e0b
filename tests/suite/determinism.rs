//! The same bytes: twice, after an interruption, at any number of threads, and for a model alone or among others.

use crate::mutants::mutated;
use crate::support::{Outcome, gpu, layout, pairs, require, shape, test, wanted_adapter};
use grokscope::cpu::twin_of;
use grokscope::gpu::device::{Family, TILES};
use grokscope::gpu::kernel::Kernel;
use grokscope::method::{Filter, Loss, Method, Optimizer};
use grokscope::model::{CHUNK, PARAMETERS, Role, Tensor, initial_weights};
use grokscope::plan::{Plan, Shape, Update, preset};
use grokscope::program::batch::{Batch, Layout};
use grokscope::program::engine::Engine;
use grokscope::program::on_cpu::OnCpu;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{Call, Program, State, composed, layered};
use grokscope::run::lens::weights_sha256;
use grokscope::task::{Op, Pairs};
use libtest_mimic::{Failed, Trial};

type Make = dyn Fn(&Program, Layout) -> Result<Engine, Failed>;

fn of_every_program(f: impl Fn(&Program) -> Outcome) -> Outcome {
    [layered::program(), composed::program()].iter().try_for_each(|program| {
        f(program).map_err(|e| format!("{}: {}", program.name, e.message().unwrap_or("?")).into())
    })
}

pub fn tests() -> Vec<Trial> {
    vec![
        test("threads_change_no_bit_on_the_cpu_engine", || of_every_program(threads)),
        test("runs_of_200_steps_have_one_hash_on_the_cpu_engine", || {
            of_every_program(|program| one_hash("cpu", program, &on_two_threads))
        }),
        test("a_model_alone_and_among_others_is_the_same_on_the_cpu_engine", || {
            of_every_program(|program| ensembles(program, &on_two_threads))
        }),
        test("models_that_stay_when_others_leave_are_the_same_on_the_cpu_engine", || {
            of_every_program(|program| leaving(program, &on_two_threads))
        }),
        test("a_resumed_state_goes_on_the_same_on_the_cpu_engine", || {
            of_every_program(|program| resumed(program, &on_two_threads))
        }),
        test("lines_done_one_by_one_make_the_same_bits_on_the_cpu_engine", || {
            of_every_program(one_by_one)?;
            let stablemax = Method { loss: Loss::StableMax, ..Method::default() };
            one_by_one(&composed::program().taught(&stablemax))
        }),
    ]
}

/// The engine does lines together, chunk by chunk of the rows or side by side; alone, on one thread, they do the same.
fn one_by_one(program: &Program) -> Outcome {
    // Four neurons and classes after whole vectors.
    let (shape, plan) = (shape(52, 12, 3, 20), preset("default")?);
    // Five chunks of rows, the last of them short, and less than one.
    for rows in [4 * CHUNK + 49, 40] {
        let together = &mut OnCpu::<f32>::new(program, layout(shape, &[rows]), 2)?;
        let alone = &mut OnCpu::<f32>::new(program, layout(shape, &[rows]), 1)?;
        for engine in [&mut *together, &mut *alone] {
            engine.write_state(0, &State::fresh(initial_weights("paper", 3, &shape)));
        }
        for step in 5..8 {
            let update = [vec![plan.update(step)]];
            together.steps(&update);
            alone.run_some(Batch::Train, &(0..program.step().count()).collect::<Vec<_>>(), &update);
        }
        require!(together.read_state(0) == alone.read_state(0), "states differ at {rows} rows");
        together.evaluate();
        alone.run_some(Batch::Grid, &(0..program.evaluation().count()).collect::<Vec<_>>(), &[vec![]]);
        let written = |call: &Call| {
            let twin = twin_of::<f32>(call.kernel, call.entry).expect("every line has a twin");
            twin.writes.iter().map(|name| call.tensor(name)).collect::<Vec<_>>()
        };
        let is_float = |name: &&str| {
            Tensor::find(name).is_some_and(|tensor| matches!(tensor.role, Role::Gradient | Role::Activation))
        };
        for (batch, calls) in
            [(Batch::Train, program.step().collect::<Vec<_>>()), (Batch::Grid, program.evaluation().collect())]
        {
            for name in calls.into_iter().flat_map(written).filter(is_float) {
                let (one, other) = (together.tensor(0, name, batch), alone.tensor(0, name, batch));
                require!(one == other, "{name} of {batch:?} differs at {rows} rows");
                require!(one.iter().any(|&x| x != 0.0), "{name} of {batch:?} is nothing but zeros");
            }
        }
    }
    Ok(())
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("a_model_alone_and_among_others_is_the_same_on_the_adapter", || {
            of_every_program(|program| ensembles(program, &on_adapter))
        }),
        test("models_that_stay_when_others_leave_are_the_same_on_the_adapter", || {
            of_every_program(|program| leaving(program, &on_adapter))
        }),
        test("a_resumed_state_goes_on_the_same_on_the_adapter", || {
            of_every_program(|program| resumed(program, &on_adapter))
        }),
        test("runs_of_200_steps_have_one_hash_on_the_adapter", || {
            of_every_program(|program| one_hash(&wanted_adapter(), program, &on_adapter))
        }),
        test("stretches_change_no_bit_on_the_adapter", || of_every_program(stretches)),
        test("tiles_of_every_size_make_the_same_bytes", tiles),
        test("sharing_memory_and_blocks_of_the_grid_change_no_bit", || of_every_program(sharing)),
        test("dispatches_launched_in_parts_change_no_bit", || of_every_program(in_parts)),
        test("dispatches_of_every_method_launched_in_parts_change_no_bit", methods_in_parts),
        test("a_model_alone_and_among_others_is_the_same_on_wide_kernels", || {
            ensembles(&composed::program(), &|program, layout| on_family(Family::Wide(None), program, layout))
        }),
    ]
}

const SHAPE: Shape = Shape { p: 11, d_model: 12, n_heads: 3, d_mlp: 20, d_vocab_out: 11 };

fn on_cpu(program: &Program, layout: Layout, threads: usize) -> Result<Engine, Failed> {
    Ok(Engine::on_cpu(program, layout, threads)?)
}

fn on_two_threads(program: &Program, layout: Layout) -> Result<Engine, Failed> {
    on_cpu(program, layout, 2)
}

fn on_adapter(program: &Program, layout: Layout) -> Result<Engine, Failed> {
    Ok(pollster::block_on(Engine::on_gpu(gpu()?, program, layout))?)
}

/// `GROKSCOPE_REPEATS=20` is the long form of docs/reliability.md.
fn one_hash(device: &str, program: &Program, make: &Make) -> Outcome {
    let repeats = std::env::var("GROKSCOPE_REPEATS").map_or(Ok(3), |text| text.parse::<usize>())?;
    let plan = preset("default")?;
    let mut hashes = Vec::new();
    for _ in 0..repeats {
        let mut engine = make(program, layout(SHAPE, &[60]))?;
        engine.write_state(0, &State::fresh(initial_weights("paper", 0, &SHAPE)))?;
        for first in (0..200).step_by(50) {
            let updates: Vec<Update> = (first..first + 50).map(|step| plan.update(step)).collect();
            pollster::block_on(engine.steps(&[updates]))?;
        }
        let state = pollster::block_on(engine.read_states())?.remove(0);
        let of = [&state.weights, &state.exp_avg, &state.exp_avg_sq].map(weights_sha256);
        hashes.push(of.concat());
    }
    println!("{device}, {}: {repeats} runs of 200 steps: {}", program.name, &hashes[0][..16]);
    require!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    Ok(())
}

/// A machine whose tensors take turns in buffers and which takes the grid in blocks, and one that keeps all tensors. The grid has two blocks
/// for one model, the last of them with few rows, and one block for the other, which has fewer pairs.
fn sharing(program: &Program) -> Outcome {
    let (shape, plan) = (Shape { p: 67, d_vocab_out: 67, ..SHAPE }, preset("default")?);
    let grids = || [Pairs::grid(Op::Add, shape.p), pairs(shape.p, 3000, 5)];
    let layout = || Layout::new(shape, &[pairs(shape.p, 90, 1), pairs(shape.p, 61, 2)], &grids());
    let (kernels, of_all) = (grokscope::shaders::kernels()?, layout());
    let mut divided = layout();
    divided.divide_grid();
    require!((of_all.blocks(), divided.blocks()) == (1, 2), "{} and {} blocks", of_all.blocks(), divided.blocks());
    require!(divided.rows_of_block(1, 1).is_empty(), "the second model has rows in the second block");
    let shared = pollster::block_on(OnGpu::new(gpu()?, kernels, program, layout()))?;
    let kept = pollster::block_on(OnGpu::keeping_all(gpu()?, kernels, program, layout()))?;
    let run = |mut machine: OnGpu| -> Result<_, Failed> {
        let mut seen = Vec::new();
        for model in 0..2 {
            machine.write_state(model, &State::fresh(initial_weights("paper", model as u64, &shape)))?;
        }
        for first in [0, 3] {
            let updates: Vec<Update> = (first..first + 3).map(|step| plan.update(step)).collect();
            pollster::block_on(machine.steps(&[updates.clone(), updates]))?;
            seen.push(pollster::block_on(machine.evaluate())?);
        }
        let states = pollster::block_on(machine.read_states())?;
        let of_state = |state: &State<f32>| [&state.weights, &state.exp_avg, &state.exp_avg_sq].map(weights_sha256);
        Ok((seen, states.iter().map(of_state).collect::<Vec<_>>()))
    };
    let (shared, kept) = (run(shared)?, run(kept)?);
    require!(shared.1 == kept.1, "weights differ");
    require!(shared.0 == kept.0, "losses differ");
    require!(kept.0[0][0].0.len() == shape.p * shape.p && kept.0[0][1].0.len() == 3000, "not every pair has a loss");
    Ok(())
}

/// Returns the results of two models after three steps and after a fourth; each dispatch is launched in at most `count` parts. The grid takes
/// two blocks.
fn launched(kernels: &[Kernel], family: Family, program: &Program, count: u32) -> Result<Vec<Result1>, Failed> {
    let (shape, rows) = (Shape { p: 67, d_vocab_out: 67, ..SHAPE }, [500, 40]);
    let gpu = gpu()?.with_family(family);
    let mut machine = pollster::block_on(OnGpu::new(gpu, kernels, program, layout(shape, &rows)))?;
    for batch in [Batch::Train, Batch::Grid] {
        let counts = vec![count; machine.dispatch_count(batch)];
        pollster::block_on(machine.launch_in_parts(batch, counts))?;
    }
    let mut engine = Engine::Gpu(Box::new(machine));
    for model in 0..rows.len() {
        engine.write_state(model, &State::fresh(initial_weights("paper", model as u64, &shape)))?;
    }
    train(&mut engine, &[0, 1], 0..3, 2)?;
    let mut seen = results(&mut engine)?;
    train(&mut engine, &[0, 1], 3..4, 1)?;
    seen.extend(results(&mut engine)?);
    Ok(seen)
}

/// Two parts split a dispatch between the models (over arenas: between workgroups), four along rows or workgroups. Without its offset, every
/// part repeats the first.
fn in_parts(program: &Program) -> Outcome {
    let kernels = grokscope::shaders::kernels()?;
    for family in [gpu()?.family, Family::Wide(None)] {
        let whole = launched(kernels, family, program, 1)?;
        for count in [2, 4] {
            require!(launched(kernels, family, program, count)? == whole, "{family:?}: {count} parts change bits");
        }
        let lost = mutated(("shared", "launched + launch_first.xyz", "launched + 0u * launch_first.xyz"))?;
        require!(launched(&lost, family, program, 1)? == whole, "{family:?}: a dispatch launched whole has an offset");
        require!(launched(&lost, family, program, 2)? != whole, "{family:?}: parts without their offset change no bit");
    }
    Ok(())
}

/// The kernels that only other ways to train call.
fn methods_in_parts() -> Outcome {
    let one = Method { optimizer: Optimizer::Sgd, filter: Filter::Ma { window: 2 }, ..Method::default() };
    let other = Method { optimizer: Optimizer::Muon, filter: Filter::Ema, orthogonal: true, loss: Loss::StableMax };
    let (kernels, family) = (grokscope::shaders::kernels()?, gpu()?.family);
    for method in [one, other] {
        let program = composed::program().taught(&method);
        let whole = launched(kernels, family, &program, 1)?;
        for count in [2, 4] {
            let parts = launched(kernels, family, &program, count)?;
            require!(parts == whole, "{method:?}: {count} parts change bits");
        }
    }
    Ok(())
}

/// Model k differs in its seed, its rows, their number, and its learning rate.
fn rows(k: usize) -> Pairs {
    pairs(SHAPE.p, 40 + 13 * k, k as u64)
}

fn plan(k: usize) -> Plan {
    Plan { lr: 1e-3 * (k + 1) as f64, ..preset("demo").unwrap() }
}

fn engine(program: &Program, make: &Make, models: &[usize]) -> Result<Engine, Failed> {
    let trains: Vec<Pairs> = models.iter().map(|&k| rows(k)).collect();
    let mut engine = make(program, Layout::new(SHAPE, &trains, &vec![Pairs::grid(Op::Add, SHAPE.p); models.len()]))?;
    for (place, &k) in models.iter().enumerate() {
        engine.write_state(place, &State::fresh(initial_weights("paper", k as u64, &SHAPE)))?;
    }
    Ok(engine)
}

fn train(engine: &mut Engine, models: &[usize], steps: std::ops::Range<u64>, stretch: u64) -> Outcome {
    let mut step = steps.start;
    while step < steps.end {
        let next = (step + stretch).min(steps.end);
        let updates: Vec<Vec<Update>> =
            models.iter().map(|&k| (step..next).map(|s| plan(k).update(s)).collect()).collect();
        pollster::block_on(engine.steps(&updates))?;
        step = next;
    }
    Ok(())
}

/// The state and the scores of every model.
type Result1 = (State<f32>, Vec<u32>);

fn results(engine: &mut Engine) -> Result<Vec<Result1>, Failed> {
    let states = pollster::block_on(engine.read_states())?;
    let scores = pollster::block_on(engine.evaluate())?;
    let bits = |losses: &[f32]| losses.iter().map(|loss| loss.to_bits()).collect();
    Ok(states.into_iter().zip(scores).map(|(state, scores)| (state, bits(&scores.losses))).collect())
}

fn ensembles(program: &Program, make: &Make) -> Outcome {
    let run = |models: &[usize]| -> Result<Vec<Result1>, Failed> {
        let mut engine = engine(program, make, models)?;
        train(&mut engine, models, 0..15, 5)?;
        results(&mut engine)
    };
    let (three, five) = (run(&[0, 1, 2])?, run(&[4, 2, 0, 3, 1])?);
    for (k, place) in [(0, 2), (1, 4), (2, 1)] {
        let alone = run(&[k])?.remove(0);
        require!(alone.0.weights != initial_weights("paper", k as u64, &SHAPE), "model {k} did not learn");
        require!(alone == three[k], "model {k} alone differs from itself among three");
        require!(alone == five[place], "model {k} alone differs from itself among five");
    }
    Ok(())
}

/// Models leave one after the other; those that stay do not notice.
fn leaving(program: &Program, make: &Make) -> Outcome {
    let mut some = engine(program, make, &[4, 2, 0, 3])?;
    train(&mut some, &[4, 2, 0, 3], 0..6, 3)?;
    pollster::block_on(some.keep(&[1, 2]))?;
    train(&mut some, &[2, 0], 6..10, 3)?;
    let two = results(&mut some)?;
    pollster::block_on(some.keep(&[1]))?;
    train(&mut some, &[0], 10..15, 3)?;
    let alone = |k: usize, steps: u64| -> Result<Result1, Failed> {
        let mut engine = engine(program, make, &[k])?;
        train(&mut engine, &[k], 0..steps, 4)?;
        Ok(results(&mut engine)?.remove(0))
    };
    require!(some.models() == 1 && results(&mut some)? == [alone(0, 15)?], "the last one is not what it is alone");
    require!(two == [alone(2, 10)?, alone(0, 10)?], "the two that stayed are not what they are alone");
    Ok(())
}

fn resumed(program: &Program, make: &Make) -> Outcome {
    let mut whole = engine(program, make, &[0])?;
    train(&mut whole, &[0], 0..15, 4)?;
    let mut first = engine(program, make, &[0])?;
    train(&mut first, &[0], 0..7, 4)?;
    let state = pollster::block_on(first.read_states())?.remove(0);
    let mut second = engine(program, make, &[0])?;
    second.write_state(0, &state)?;
    train(&mut second, &[0], 7..15, 4)?;
    require!(results(&mut whole)? == results(&mut second)?, "the resumed run differs");
    Ok(())
}

fn stretches(program: &Program) -> Outcome {
    let run = |stretch| -> Result<Vec<Result1>, Failed> {
        let mut engine = engine(program, &on_adapter, &[0])?;
        train(&mut engine, &[0], 0..12, stretch)?;
        results(&mut engine)
    };
    require!(run(1)? == run(12)?, "steps one by one differ from twelve in a submission");
    Ok(())
}

fn threads(program: &Program) -> Outcome {
    // Wide enough that every product and every loop is cut. There are chunks of rows enough for one thread and two; where there are more threads,
    // each line is spread over them.
    let (shape, rows) = (shape(52, 64, 4, 200), 3 * CHUNK + 49);
    let run = |threads| -> Result<Vec<Result1>, Failed> {
        let mut engine = on_cpu(program, layout(shape, &[rows]), threads)?;
        engine.write_state(0, &State::fresh(initial_weights("paper", 0, &shape)))?;
        train(&mut engine, &[0], 0..5, 1)?;
        results(&mut engine)
    };
    let one = run(1)?;
    for threads in [2, 3, 8] {
        require!(run(threads)? == one, "{threads} threads differ from one");
    }
    Ok(())
}

fn on_family(family: Family, program: &Program, layout: Layout) -> Result<Engine, Failed> {
    let mut gpu = gpu()?;
    gpu.family = family;
    Ok(pollster::block_on(Engine::on_gpu(gpu, program, layout))?)
}

/// Training with each size of tiles, and with those that the plan chooses. Sizes of more than one of the largest tiles, and of several chunks
/// of every sum.
fn tiles() -> Outcome {
    let (program, shape, rows) = (composed::program(), shape(37, 68, 4, 300), 3 * CHUNK + 49);
    let run = |family| -> Result<Vec<Result1>, Failed> {
        let mut engine = on_family(family, &program, layout(shape, &[rows]))?;
        engine.write_state(0, &State::fresh(initial_weights("paper", 0, &shape)))?;
        train(&mut engine, &[0], 0..5, 2)?;
        results(&mut engine)
    };
    let chosen = run(Family::Wide(None))?;
    for tiles in TILES {
        require!(run(Family::Wide(Some(tiles)))? == chosen, "{tiles} differs from the tiles that are chosen");
    }
    // The software kernels round elsewhere, and train the same network.
    let (other, states) = (run(Family::Software)?.remove(0).0, &chosen[0].0);
    for (rank, parameter) in PARAMETERS.iter().enumerate() {
        let pairs = || other.exp_avg.tensors[rank].iter().zip(&states.exp_avg.tensors[rank]);
        let largest = pairs().map(|(x, _)| x.abs()).fold(0.0, f32::max);
        let apart = pairs().map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        require!(apart <= 1e-3 * largest, "exp_avg of {}: {apart} apart, the largest is {largest}", parameter.name);
    }
    Ok(())
}
