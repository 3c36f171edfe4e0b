//! The step model: its formula on a step that was counted before the kernels changed, and the command.

use crate::support::{Outcome, does, grokscope, require, test};
use grokscope::bench::model::predict::{DEVICES, device};
use grokscope::bench::model::{Counts, Model, Step, read, starves};
use grokscope::program::{composed, layered};
use libtest_mimic::{Failed, Trial};

pub fn tests() -> Vec<Trial> {
    vec![
        test("step_model_gives_the_step_that_was_modelled_by_hand", as_by_hand),
        test("bench_model_predicts_every_line_of_both_programs", every_line),
        test("bench_model_tells_what_it_cannot_do", input),
        test("a_training_step_keeps_a_gpu_busy", keeps_busy),
    ]
}

/// The step of the composed program at the default shape as it was when the model was made, counted with
/// `grokscope bench --model --program composed --json | jq 'del(.steps[].predictions)'`.
const STEP: &str = include_str!("../golden/step-composed-1.json");

/// That step on H200 by a model made by hand, which read chains of loads off the kernels.
const US_BY_HAND: f64 = 635.0;

/// The ten slowest dispatches by it.
const SLOWEST_BY_HAND: [&str; 10] = [
    "product.nt(d_W_O_read, W_read -> d_W_O4)",
    "product.nt(d_head_read, W_O_read -> d_v4)",
    "product.nn(post4, W_logit -> logits4)",
    "product.tn(W_out4, d_W_logit -> d_W_U4)",
    "slots.backward_key",
    "slots.forward_query",
    "compose.forward_base",
    "slots.backward_query",
    "product.tn(resid4, d_v4 -> d_W_V4)",
    "dots.backward",
];

fn only_step(model: &Model) -> Result<&Step, Failed> {
    match &model.steps[..] {
        [step] => Ok(step),
        steps => Err(format!("{} steps", steps.len()).into()),
    }
}

fn as_by_hand() -> Outcome {
    let model = read(STEP)?;
    let step = only_step(&model)?;
    let titles: Vec<&str> = step.dispatches.iter().map(|counts| counts.title.as_str()).collect();
    require!(titles.len() == 43, "{} dispatches", titles.len());
    for title in SLOWEST_BY_HAND {
        require!(titles.contains(&title), "the step has no {title}");
    }
    let prediction = step.on(device("H200")?);
    let (us, times) = (prediction.step_us, prediction.dispatches);
    require!((us / US_BY_HAND - 1.0).abs() <= 0.1, "{us:.0} us, by hand {US_BY_HAND}");
    let mut order: Vec<usize> = (0..titles.len()).collect();
    order.sort_by(|&a, &b| times[b].us.total_cmp(&times[a].us));
    let slowest: Vec<&str> = order[..10].iter().map(|&i| titles[i]).collect();
    let agree = slowest.iter().filter(|title| SLOWEST_BY_HAND.contains(title)).count();
    require!(agree >= 8, "{agree} of ten are the same: {slowest:?}");
    Ok(())
}

const SMALL: [&str; 8] = ["bench", "--model", "--set", "p=13", "--set", "d_model=16", "--set", "d_mlp=24"];

fn said(arguments: &[&str]) -> Result<String, Failed> {
    let output = grokscope(arguments);
    require!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn every_line() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().display().to_string();
    let table = said(&[&SMALL[..], &["--out", &out]].concat())?;
    let model = read(&std::fs::read_to_string(directory.path().join("model.json"))?)?;
    require!(model.steps.len() == 2, "{} steps", model.steps.len());
    for (step, program) in model.steps.iter().zip([layered::program(), composed::program()]) {
        require!(step.title.starts_with(program.name), "{}", step.title);
        for call in program.step() {
            let count = step.dispatches.iter().filter(|counts| does(&counts.title, call)).count();
            require!(count == 1, "{}: {count} dispatches do {}", step.title, call.title());
        }
        for counts in &step.dispatches {
            let Counts { title, traffic, bytes, .. } = counts;
            require!(counts.rounds() > 0 && counts.instructions > 0, "{title} does nothing: {counts:?}");
            require!(*traffic > 0.0 && *bytes > 0.0, "{title} moves nothing: {counts:?}");
        }
        require!(step.dispatches.iter().any(|counts| counts.multiply_adds > 8), "{}: no multiply-adds", step.title);
        require!(step.predictions.len() == DEVICES.len(), "{} devices", step.predictions.len());
        for (device, prediction) in DEVICES.iter().zip(&step.predictions) {
            let us: f64 = prediction.dispatches.iter().map(|time| time.us + device.launch_us).sum();
            require!(us > 0.0 && (us - prediction.step_us).abs() <= 1e-9 * us, "{}: {us}", prediction.device);
        }
    }
    require!(table.contains("H200: ") && table.matches("\nus a step: H200 ").count() == 2, "{table}");
    for line in table.lines() {
        require!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    let other = said(&[&["bench", "--model=4090", "--program", "composed"][..], &SMALL[2..]].concat())?;
    require!(other.contains("RTX 4090: ") && !other.contains("H200: "), "{other}");
    Ok(())
}

/// What the model says of a step on H200 is bounded: its time, the number of dispatches, and that each of the long ones has a workgroup for
/// every core and does not wait too often.
fn keeps_busy() -> Outcome {
    let model = read(&said(&["bench", "--model", "--program", "composed", "--json"])?)?;
    let step = only_step(&model)?;
    let prediction = step.on(device("H200")?);
    require!(step.dispatches.len() <= 20, "{} dispatches", step.dispatches.len());
    require!(prediction.step_us <= 160.0, "{:.0} us", prediction.step_us);
    for (counts, time) in step.dispatches.iter().zip(&prediction.dispatches) {
        let (groups, rounds) = (counts.groups(), counts.rounds());
        require!(
            !starves(counts, time.us),
            "{}: {:.1} us, {groups} workgroups, {rounds} rounds",
            counts.title,
            time.us
        );
    }
    Ok(())
}

fn input() -> Outcome {
    let cases: &[(&[&str], &str)] = &[
        (&["--model=A100"], "expected one of H200"),
        (&["--model", "--program", "fast"], "expected layered, composed or both"),
        (&["--model", "--device", "cpu"], "cannot be used with"),
        (&["--model", "--set", "p=2"], "expected an integer >= 3"),
    ];
    for (arguments, expected) in cases {
        let output = grokscope(&[&["bench"], *arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        require!(output.status.code() == Some(1), "{arguments:?} ended with {}: {stderr}", output.status);
        require!(stderr.contains(expected), "{arguments:?}: expected '{expected}' in: {stderr}");
    }
    Ok(())
}
