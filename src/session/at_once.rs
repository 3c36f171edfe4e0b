//! How many models are trained side by side, and how long a step of so many takes.

use super::stopping::models_in_words;
use super::{Estimate, Options, planned_rows, resolved};
use crate::devices::{self, Chosen, Room};
use crate::gpu::device::Failure;
use crate::model::initial_weights;
use crate::plan::Plan;
use crate::program::batch::Layout;
use crate::program::{self, State};
use crate::progress::{Style, note};
use crate::run::inputs::{first_weights, member_plan, train_pairs};
use crate::task::Pairs;
use anyhow::{Context, Result};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What `--at-once` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtOnce {
    /// As many as fit, and on the CPU engine no more than keep its threads busy.
    Fitting,
    /// As many as are fastest, which is measured.
    Fastest,
    /// So many at most.
    Most(usize),
}

impl AtOnce {
    /// `auto`, or a number of models, 0 being as many as fit.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Fastest),
            "0" => Ok(Self::Fitting),
            _ => text.parse().map(Self::Most).ok().with_context(|| {
                format!("--at-once {text}: expected auto, a number of models, or 0 for as many as fit")
            }),
        }
    }

    /// Returns how many of `models` models with the sizes of `plan` to train side by side, given how many fit (`room`).
    pub(super) fn of(
        self,
        plan: &Plan,
        pairs: &dyn Fn() -> Result<Pairs>,
        models: usize,
        room: &Room,
        chosen: &Chosen,
        options: &Options,
    ) -> Result<usize> {
        match self {
            Self::Fitting => room.at_once(0),
            Self::Most(most) => room.at_once(most),
            Self::Fastest if models.min(room.models) <= 1 => Ok(1),
            Self::Fastest => fastest(plan, &pairs()?, models.min(room.models), chosen, options),
        }
    }
}

/// More models are worth it if they cut the time per model and step by at least this share.
const GAIN: f64 = 0.03;
/// Numbers in a row that are not worth it, after which none is tried any more. One alone may be noise.
const MOST_IN_VAIN: usize = 2;

/// Doubles the number of models, up to `most`, as long as a step takes less time a model and there is memory.
fn fastest(plan: &Plan, train: &Pairs, most: usize, chosen: &Chosen, options: &Options) -> Result<usize> {
    let mut tried = Vec::new();
    let measure = |models: usize| match step_times(plan, train, models, chosen, options) {
        // After a request to stop, nothing more is measured.
        _ if models > 1 && options.stop.load(Ordering::SeqCst) => Ok(None),
        Ok((_, times)) => Ok(times.into_iter().min_by(f64::total_cmp)),
        Err(error) if models > 1 && Failure::is_out_of_memory(&error) => Ok(None),
        Err(error) => Err(error),
    };
    let best = raised(most, measure, &mut tried)?;
    if options.style == Style::Human {
        let tried: Vec<String> = tried.iter().map(|(models, ms)| format!("{models}: {ms:.3}")).collect();
        let verb = if best == 1 { "is" } else { "are" };
        let best = models_in_words(best);
        note(&format!("{best} at once {verb} fastest. Milliseconds a step and model: {}", tried.join(", ")));
    }
    Ok(best)
}

/// Returns the number of models from which on doubling no longer cuts the time per model. `measure` returns the milliseconds of a step of that
/// many models, or none if they do not fit. `tried` receives each number with its milliseconds per model.
fn raised(
    most: usize,
    mut measure: impl FnMut(usize) -> Result<Option<f64>>,
    tried: &mut Vec<(usize, f64)>,
) -> Result<usize> {
    let (mut best, mut models, mut in_vain) = ((1, f64::INFINITY), 1, 0);
    while in_vain < MOST_IN_VAIN {
        let Some(ms) = measure(models)? else { break };
        let of_one = ms / models as f64;
        tried.push((models, of_one));
        if of_one <= (1.0 - GAIN) * best.1 {
            (best, in_vain) = ((models, of_one), 0);
        } else {
            in_vain += 1;
        }
        if models >= most {
            break;
        }
        models = (2 * models).min(most);
    }
    Ok(best.0)
}

/// Times a few steps of `models` models of a plan whose program is resolved. Returns the machine's name and the milliseconds of each step.
fn step_times(
    plan: &Plan,
    train: &Pairs,
    models: usize,
    chosen: &Chosen,
    options: &Options,
) -> Result<(String, Vec<f64>)> {
    const TRIED: u64 = 5;
    let grid = Pairs::grid(plan.op.parse()?, plan.p);
    let layout = Layout::new(plan.shape(), &vec![train.clone(); models], &vec![grid; models]);
    let (mut engine, device) = (options.open)(chosen, &program::of_plan(plan)?, layout, options.threads)?;
    for k in 0..models {
        // Which weights they are changes no time, and a plan may name a file that only its run has.
        let weights = initial_weights("paper", k as u64, &plan.shape());
        engine.write_state(k, &State::remembering(weights, plan.method().filter.copies()))?;
    }
    let mut times = Vec::new();
    for step in 0..TRIED {
        if step > 0 && options.stop.load(Ordering::SeqCst) {
            break;
        }
        let began = Instant::now();
        // From where the mean over a window of gradients counts.
        let update = plan.update(plan.grokfast_window as u64 + step);
        pollster::block_on(engine.steps(&vec![vec![update]; models]))?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((device, times))
}

/// Measures a few steps of a plan.
pub fn estimate(plan: &Plan, options: &Options) -> Result<Estimate> {
    let plan = &resolved(plan)?;
    let choice = options.machine()?;
    let room = devices::fitting(&program::of_plan(plan)?, plan, planned_rows(plan)?, &choice.chosen, options.threads)?;
    // Refuses a file that training would refuse.
    first_weights(&member_plan(plan, 0))?;
    let train = train_pairs(plan, None)?;
    let pairs = || Ok(train.clone());
    let at_once = options.at_once.of(plan, &pairs, plan.models, &room, &choice.chosen, options)?.min(plan.models);
    let (device, times) = step_times(plan, &train, at_once, &choice.chosen, options)?;
    let ms_per_step = super::keeper::median(&times).unwrap_or(0.0);
    Ok(Estimate { device, at_once, bytes: room.bytes * at_once as u64, ms_per_step })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen, and what is tried, where a step of so many models takes so many milliseconds.
    fn chosen(most: usize, ms: impl Fn(usize) -> Option<f64>) -> (usize, Vec<usize>) {
        let mut tried = Vec::new();
        let best = raised(most, |models| Ok(ms(models)), &mut tried).unwrap();
        (best, tried.into_iter().map(|(models, _)| models).collect())
    }

    #[test]
    fn models_are_raised_while_a_step_gets_faster_a_model() {
        // A device that does eight in the time of one.
        let device = |models: usize| Some(models.div_ceil(8) as f64);
        assert_eq!(chosen(100, device), (8, vec![1, 2, 4, 8, 16, 32]));
        // A single time that is off does not end the search.
        let noisy = |models: usize| Some(if models == 2 { 5.0 } else { models.div_ceil(8) as f64 });
        assert_eq!(chosen(100, noisy).0, 8);
        assert_eq!(chosen(6, device), (6, vec![1, 2, 4, 6]));
        assert_eq!(chosen(1, device), (1, vec![1]));
        // A processor that does one after the other.
        assert_eq!(chosen(100, |models| Some(models as f64)), (1, vec![1, 2, 4]));
        // Four fit.
        assert_eq!(chosen(100, |models| (models <= 4).then_some(1.0)), (4, vec![1, 2, 4]));
        let error =
            raised(9, |models| if models < 4 { Ok(Some(1.0)) } else { anyhow::bail!("broken") }, &mut Vec::new());
        assert_eq!(error.unwrap_err().to_string(), "broken");
    }

    #[test]
    fn at_once_is_auto_or_a_number() {
        let parsed = |text| AtOnce::parse(text).map_err(|error| error.to_string());
        assert_eq!(parsed("auto"), Ok(AtOnce::Fastest));
        assert_eq!((parsed("0"), parsed("7")), (Ok(AtOnce::Fitting), Ok(AtOnce::Most(7))));
        for text in ["", "-1", "many", "1.5"] {
            assert!(parsed(text).unwrap_err().contains("expected auto"), "{text}");
        }
    }
}
