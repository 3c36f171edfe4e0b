//! Numbers that go bad: an infinity or a NaN in any weight, moment or gradient, at any update, is noticed in that very update, and
//! told by the name of its tensor. Nothing is kept of what follows.

use crate::kernels::{methods, with_method};
use crate::support::{Outcome, gpu, layout, require, shape, test};
use grokscope::model::{PARAMETERS, Parameter, WINDOW, initial_weights};
use grokscope::not_finite::{NotFinite, PARTS, Part};
use grokscope::plan::{Plan, Update, preset};
use grokscope::program::batch::Batch;
use grokscope::program::engine::Engine;
use grokscope::program::{Program, State, composed, layered};
use grokscope::random::Philox;
use grokscope::train::{self, Divergence, Evaluation, Member, Observer, Trainer};
use libtest_mimic::{Failed, Trial};

pub fn tests() -> Vec<Trial> {
    vec![
        test("bad_numbers_have_codes_in_the_order_of_time", codes),
        test("bad_numbers_are_noticed_on_the_cpu_engine", || noticed(on_cpu)),
        test("training_stops_at_a_bad_number_on_the_cpu_engine", || training_stops(on_cpu)),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![
        test("bad_numbers_are_noticed_on_the_adapter", || noticed(on_adapter)),
        test("training_stops_at_a_bad_number_on_the_adapter", || training_stops(on_adapter)),
    ]
}

const ROWS: &[usize] = &[30, 11];
const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

type Open = fn(&Program) -> Result<Engine, Failed>;

fn sizes() -> grokscope::plan::Shape {
    shape(7, 12, 3, 20)
}

fn on_cpu(program: &Program) -> Result<Engine, Failed> {
    Ok(Engine::on_cpu(program, layout(sizes(), ROWS), 2)?)
}

fn on_adapter(program: &Program) -> Result<Engine, Failed> {
    Ok(pollster::block_on(Engine::on_gpu(gpu()?, program, layout(sizes(), ROWS)))?)
}

fn codes() -> Outcome {
    let mut last = None;
    for update in [0, 1, WINDOW - 1] {
        for what in PARTS {
            for parameter in 0..PARAMETERS.len() {
                let found = NotFinite { update, what, parameter };
                let code = found.to_code();
                require!(NotFinite::from_code(code) == Some(found), "{found:?} is {code}");
                require!(last.is_none_or(|last| last < code), "{found:?} comes before what was earlier");
                last = Some(code);
            }
        }
    }
    require!(NotFinite::from_code(grokscope::not_finite::NOTHING_BAD).is_none(), "nothing has a code");
    Ok(())
}

/// Random numbers that any state may have: weights, and moments of their size.
fn states(grad_copies: usize) -> Vec<State<f32>> {
    let of = |seed| {
        let weights = initial_weights("paper", seed, &sizes());
        let exp_avg = weights.map(|x| 1e-3 * x);
        let exp_avg_sq = weights.map(|x| 1e-6 * x * x);
        State { exp_avg, exp_avg_sq, ..State::remembering(weights, grad_copies) }
    };
    (0..ROWS.len() as u64).map(of).collect()
}

fn updates(plan: &Plan, n: usize) -> Vec<Vec<Update>> {
    vec![(0..n as u64).map(|step| plan.update(50 + step)).collect(); ROWS.len()]
}

fn spoil(state: &mut State<f32>, what: Part, parameter: usize, at: usize, value: f32) {
    let weights = match what {
        Part::Weight => &mut state.weights,
        Part::ExpAvg => &mut state.exp_avg,
        Part::ExpAvgSq => &mut state.exp_avg_sq,
        Part::Gradient => return,
    };
    let tensor = &mut weights.tensors[parameter];
    let len = tensor.len();
    tensor[at % len] = value;
}

/// Every kind of bad number in every tensor of one model, at an element drawn at random; its neighbour stays well.
fn noticed(open: Open) -> Outcome {
    let draws = Philox::new(5);
    let mut count = 0;
    let default = preset("default")?;
    let taught = methods().map(|(name, method)| {
        let mut plan = default.clone();
        with_method(&mut plan, name);
        (layered::program().taught(&method), plan)
    });
    let programs = [layered::program(), composed::program()].map(|program| (program, default.clone()));
    for (program, plan) in programs.into_iter().chain(taught) {
        // Who looks at a tensor's numbers: its own optimizer, and SGD and Muon have no second moment.
        let optimizers: Vec<&str> = program.update.iter().map(|call| call.kernel).collect();
        let has_second = |parameter: &Parameter| {
            let by_muon = optimizers.contains(&"muon") && parameter.is_hidden_matrix();
            !by_muon && !optimizers.contains(&"sgd")
        };
        let mut engine = open(&program)?;
        let clean = states(program.grad_copies);
        for (model, state) in clean.iter().enumerate() {
            engine.write_state(model, state)?;
        }
        let found = pollster::block_on(engine.steps(&updates(&plan, 5)))?;
        require!(found == [None, None], "{found:?} of sound numbers");
        let tick = program.step().position(|call| call.entry == "tick").ok_or("no optimizer")?;
        let before: Vec<usize> = (0..tick).collect();
        let optimizer: Vec<usize> = (tick..program.step().count()).collect();
        for what in PARTS {
            for (parameter, names) in PARAMETERS.iter().enumerate() {
                if what == Part::ExpAvgSq && !has_second(names) {
                    continue;
                }
                let [draw, which, model, _] = draws.block([what as u32, parameter as u32, 0, 0]);
                let (value, model) = (BAD[which as usize % 3], model as usize % ROWS.len());
                for (k, state) in clean.iter().enumerate() {
                    let mut state = state.clone();
                    if k == model {
                        spoil(&mut state, what, parameter, draw as usize, value);
                    }
                    engine.write_state(k, &state)?;
                }
                let found = match what {
                    Part::Gradient => {
                        run_some(&mut engine, &plan, &before)?;
                        write_gradient(&mut engine, model, parameter, draw as usize, value)?;
                        run_some(&mut engine, &plan, &optimizer)?
                    }
                    _ => pollster::block_on(engine.steps(&updates(&plan, 3)))?,
                };
                let mut expected = [None; ROWS.len()];
                expected[model] = Some(NotFinite { update: 0, what, parameter });
                require!(
                    found == expected,
                    "{value} in {what:?} of {}: found {found:?}, expected {expected:?}",
                    names.name
                );
                count += 1;
            }
        }
    }
    // Two programs and seven methods, of which SGD and Muon have fewer second moments.
    require!(count == 9 * 4 * PARAMETERS.len() - PARAMETERS.len() - 6, "{count} cases");
    Ok(())
}

fn run_some(engine: &mut Engine, plan: &Plan, calls: &[usize]) -> Result<Vec<Option<NotFinite>>, Failed> {
    match engine {
        Engine::Cpu(machine) => {
            machine.run_some(Batch::Train, calls, &updates(plan, 1));
            Ok(machine.not_finite())
        }
        Engine::Gpu(machine) => {
            pollster::block_on(machine.run_some(Batch::Train, calls, &updates(plan, 1)))?;
            Ok(pollster::block_on(machine.not_finite())?)
        }
    }
}

fn write_gradient(engine: &mut Engine, model: usize, parameter: usize, at: usize, value: f32) -> Outcome {
    let name = PARAMETERS[parameter].gradient;
    match engine {
        Engine::Cpu(machine) => {
            let tensor = machine.tensor_mut(model, name, Batch::Train);
            let len = tensor.len();
            tensor[at % len] = value;
        }
        Engine::Gpu(machine) => {
            let (_, _, window) = machine.tensors().find(|(other, ..)| *other == name).ok_or("no gradient")?;
            let place = (model * window.stride + at % window.len) as u64 * 4;
            machine.gpu.queue.write_buffer(&window.buffer, window.offset + place, bytemuck::bytes_of(&value));
        }
    }
    Ok(())
}

/// Lets training go on to a step, and notes what was kept.
#[derive(Default)]
struct Watch {
    until: u64,
    step: u64,
    evaluated: Vec<(usize, u64)>,
    kept: Vec<(u64, State<f32>)>,
    diverged: Vec<(usize, Divergence)>,
    finished: Vec<(usize, State<f32>)>,
}

impl Observer for Watch {
    fn evaluated(&mut self, member: usize, row: &Evaluation) -> anyhow::Result<()> {
        self.evaluated.push((member, row.step));
        Ok(())
    }
    fn snapshot(&mut self, _: usize, step: u64, state: &State<f32>) -> anyhow::Result<()> {
        self.kept.push((step, state.clone()));
        Ok(())
    }
    fn finished(&mut self, _: &Member, index: usize, state: &State<f32>) -> anyhow::Result<()> {
        self.finished.push((index, state.clone()));
        Ok(())
    }
    fn diverged(&mut self, member: usize, divergence: &Divergence) -> anyhow::Result<()> {
        self.diverged.push((member, divergence.clone()));
        Ok(())
    }
    fn stepped(&mut self, step: u64, _: usize) -> anyhow::Result<()> {
        self.step = step;
        Ok(())
    }
    fn stretch(&mut self, most: usize) -> usize {
        // So that training can be stopped at any step, in windows of several.
        most.min(3).min((self.until - self.step) as usize)
    }
    fn interrupted(&self) -> bool {
        self.step == self.until
    }
}

/// A weight or moment of a model goes bad between two steps: its training ends with the step and the tensor, what was sound is kept,
/// and the other models come to the ends that they have without it.
fn training_stops(open: Open) -> Outcome {
    let program = composed::program();
    let draws = Philox::new(6);
    let plan = Plan { eval_every: 10, checkpoint_every: 20, steps: 100, stop_after_cleanup: false, ..preset("demo")? };
    let mut undisturbed = Vec::new();
    for case in 0..12u32 {
        let [step, what, parameter, value] = draws.block([case, 0, 0, 0]).map(|draw| draw as usize);
        let (step, what, parameter) = (1 + step as u64 % 60, PARTS[what % 3], parameter % PARAMETERS.len());
        let mut engine = open(&program)?;
        for (model, state) in states(0).iter().enumerate() {
            engine.write_state(model, state)?;
        }
        let member = |rows: &usize| Member {
            plan: plan.clone(),
            trained_on: (0..49).map(|pair| pair < *rows).collect(),
            history: Vec::new(),
            stopped: false,
        };
        let members = ROWS.iter().map(member).collect();
        let mut trainer = Trainer::new(&mut engine, members, 0);
        let mut watch = Watch { until: step, ..Watch::default() };
        let outcome = pollster::block_on(trainer.run(&mut watch))?;
        require!(outcome == train::Outcome::Interrupted { step }, "{outcome:?} at step {step}");
        let mut state = pollster::block_on(trainer.engine.read_states())?.remove(1);
        if case > 0 {
            spoil(&mut state, what, parameter, value / 3, BAD[value % 3]);
            trainer.engine.write_state(1, &state)?;
        }
        (watch.until, watch.kept) = (u64::MAX, Vec::new());
        let outcome = pollster::block_on(trainer.run(&mut watch))?;
        require!(outcome == train::Outcome::Done, "{outcome:?}");
        watch.finished.sort_by_key(|(member, _)| *member);
        if case == 0 {
            require!(watch.finished.len() == ROWS.len() && watch.diverged.is_empty(), "{:?}", watch.diverged);
            watch.finished.remove(1);
            undisturbed = watch.finished;
            continue;
        }
        let [(1, Divergence { step: at, what: named })] = &watch.diverged[..] else {
            return Err(
                format!("{what:?} of {} at step {step}: {:?}", PARAMETERS[parameter].name, watch.diverged).into()
            );
        };
        let tensor = NotFinite { update: 0, what, parameter }.tensor();
        // Where an evaluation or a checkpoint is due first, that looks first, and may only see the weights' norm or the loss.
        let seen = *named == tensor || (what == Part::Weight && named.starts_with("the "));
        require!(*at == step && seen, "step {at}, {named}: expected {step}, {tensor}");
        for (kept, state) in &watch.kept {
            require!(state.not_finite().is_none(), "step {kept} was kept with bad numbers");
        }
        let late = watch.evaluated.iter().find(|(member, row)| *member == 1 && row > at);
        require!(late.is_none(), "evaluated after it went bad: {late:?}");
        require!(watch.finished == undisturbed, "case {case}: the other models came to other ends");
    }
    Ok(())
}
