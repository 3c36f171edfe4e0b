//! Teeth: shaders with one mistake each, every one of which the kernel tests must reject.

use crate::kernels::{compared, is_of_method, methods, updated};
use crate::mutant_list::{BEYOND_SELF_CHECK, MUTANTS, Mutant, OF_BITS};
use crate::support::{Outcome, gpu, layout, require, without_adapter};
use grokscope::gpu::device::{Family, Gpu, TILES};
use grokscope::gpu::kernel::Kernel;
use grokscope::model::initial_weights;
use grokscope::plan::{Shape, preset};
use grokscope::program::dispatches::stem as name_of;
use grokscope::program::on_gpu::OnGpu;
use grokscope::program::{Call, Program, State, composed, layered};
use grokscope::shaders::{HELPERS, OPERATIONS};
use libtest_mimic::{Failed, Trial};

/// Sizes that no tile divides, and three models with rows of their own.
const ODD: Shape = Shape { p: 7, d_model: 10, n_heads: 2, d_mlp: 19, d_vocab_out: 7 };
const ROWS: &[usize] = &[30, 1, 49];

/// Model 0 has three chunks of rows; the classes take more than half of the 32 lanes of a row.
const LARGER: Shape = Shape { p: 25, d_model: 10, n_heads: 2, d_mlp: 23, d_vocab_out: 25 };
const MORE_ROWS: &[usize] = &[600, 1, 49];
/// More heads than are done in one go.
const MORE_HEADS: Shape = Shape { p: 7, d_model: 10, n_heads: 5, d_mlp: 19, d_vocab_out: 7 };
/// Sums over neurons and over readers have six parts each, and products are wider than a tile of 64.
const MORE_NEURONS: Shape = Shape { p: 7, d_model: 10, n_heads: 2, d_mlp: 660, d_vocab_out: 7 };
/// More tokens, and more rows of a slot, than the 64 lanes of a workgroup; more classes than the lanes of a row.
const MORE_TOKENS: Shape = Shape { p: 67, d_model: 10, n_heads: 2, d_mlp: 7, d_vocab_out: 67 };
const WHOLE_GRID: &[usize] = &[67 * 67, 1, 70];
/// Fewer neurons than d_model.
const FEW_NEURONS: Shape = Shape { p: 7, d_model: 10, n_heads: 2, d_mlp: 7, d_vocab_out: 7 };

pub fn tests() -> Vec<Trial> {
    // Variants for subgroups of eight run on adapters that have those. An adapter that is missing ignores nothing: it fails.
    let never_runs =
        |stem: &str| stem.ends_with("_subgroup") && gpu().is_ok_and(|gpu| gpu.family != Family::SoftwareEights);
    let trial = |(i, &mutant): (usize, &Mutant)| {
        let name = format!("mutant_{i:03}_of_{}_is_rejected", mutant.0);
        let is_ignored = !without_adapter() && never_runs(mutant.0);
        Trial::test(name, move || rejects(mutant)).with_ignored_flag(is_ignored)
    };
    let of_bits = |(i, &mutant): (usize, &Mutant)| {
        Trial::test(format!("mutant_{i:03}_of_the_bits_of_{}_is_rejected", mutant.0), move || changes_bits(mutant))
    };
    let mut trials: Vec<Trial> = MUTANTS.iter().chain(BEYOND_SELF_CHECK).enumerate().map(trial).collect();
    trials.extend(OF_BITS.iter().enumerate().map(of_bits));
    trials
}

/// Two steps of the composed program as the program does them, several calls a dispatch: weights, moments and losses.
fn trained(kernels: &[Kernel], family: Family, shape: Shape, rows: &[usize]) -> Result<Vec<u32>, Failed> {
    let (gpu, program) = (gpu_of(family)?, composed::program());
    let mut machine = pollster::block_on(OnGpu::new(gpu, kernels, &program, layout(shape, rows)))?;
    for model in 0..rows.len() {
        machine.write_state(model, &State::fresh(initial_weights("paper", model as u64, &shape)))?;
    }
    let plan = preset("default")?;
    pollster::block_on(machine.steps(&vec![vec![plan.update(0), plan.update(1)]; rows.len()]))?;
    let mut numbers: Vec<f32> = Vec::new();
    for (losses, _) in pollster::block_on(machine.evaluate())? {
        numbers.extend(losses);
    }
    for state in pollster::block_on(machine.read_states())? {
        let parts = [state.weights, state.exp_avg, state.exp_avg_sq];
        numbers.extend(parts.into_iter().flat_map(|part| part.tensors).flatten());
    }
    Ok(numbers.into_iter().map(f32::to_bits).collect())
}

/// Fails unless a mutant makes other bits than the kernels, which make the same ones twice.
fn changes_bits(mutant: Mutant) -> Outcome {
    let (stem, there, instead) = mutant;
    let (kernels, right) = (mutated(mutant)?, grokscope::shaders::kernels()?);
    let family = family_of(stem, Family::Wide(Some(TILES[0])));
    for (shape, rows) in [(MORE_NEURONS, ROWS), (LARGER, MORE_ROWS)] {
        let expected = trained(right, family, shape, rows)?;
        require!(trained(right, family, shape, rows)? == expected, "the kernels make other bits each time");
        if trained(&kernels, family, shape, rows)? != expected {
            return Ok(());
        }
    }
    Err(format!("'{instead}' for '{there}' changes no bit").into())
}

/// The kernels with one text of a shader, or of the helpers, replaced.
pub fn mutated((stem, there, instead): Mutant) -> Result<Vec<Kernel>, Failed> {
    let mut found = false;
    let mut change = |text: &str| {
        found |= text.contains(there);
        text.replacen(there, instead, 1)
    };
    let helpers = if stem == "shared" { change(HELPERS) } else { HELPERS.into() };
    let mut sources = Vec::new();
    for (of, source) in OPERATIONS {
        sources.push((*of, if *of == stem { change(source) } else { source.to_string() }));
    }
    require!(found, "'{there}' does not stand in {stem}: the mutant is out of date");
    let kernels: Result<Vec<Kernel>, _> =
        sources.iter().map(|(stem, source)| Kernel::new(stem, source, &helpers)).collect();
    // A mutant must be a program that runs: one that does not parse would prove nothing.
    Ok(kernels?)
}

/// The family of kernels that runs a shader: that of its variant, or `own`, the adapter's, where the shader has none.
fn family_of(stem: &str, own: Family) -> Family {
    let has = |suffix: &str| OPERATIONS.iter().any(|(other, _)| *other == format!("{stem}{suffix}"));
    match TILES.iter().copied().find(|tiles| *tiles == stem) {
        Some(tiles) => Family::Wide(Some(tiles)),
        None if stem.ends_with("_subgroup") => Family::SoftwareEights,
        None if stem.ends_with("_software") => Family::Software,
        None if has("_software") || has("_subgroup") => Family::Wide(Some(TILES[0])),
        None => own,
    }
}

/// The adapter's device, for the kernels of a family.
pub fn gpu_of(family: Family) -> Result<Gpu, Failed> {
    let mut gpu = gpu()?;
    gpu.family = family;
    Ok(gpu)
}

/// Sizes at which to launch a kernel, until one of them shows the mistake.
fn sizes_for(kernel: &str) -> &'static [(Shape, &'static [usize])] {
    match kernel {
        "orthonormal" => &[(ODD, ROWS), (FEW_NEURONS, ROWS)],
        "copy" | "compose" | "slots" | "rows" | "dots" | "product" | "loss" | "stablemax" => {
            &[(LARGER, MORE_ROWS), (MORE_HEADS, ROWS), (MORE_NEURONS, ROWS), (MORE_TOKENS, WHOLE_GRID)]
        }
        _ => &[(ODD, ROWS)],
    }
}

/// Fails unless a comparison or an update finds the mutant wrong. An error, such as a missing adapter or a refused
/// pipeline, does not count as a rejection: it fails the test.
fn rejects(mutant: Mutant) -> Outcome {
    let (stem, there, instead) = mutant;
    let kernels = mutated(mutant)?;
    let own = gpu()?.family;
    let families = match stem {
        // Kernels that the adapter does not take by itself use helpers too.
        "shared" => vec![own, Family::Wide(Some(TILES[0]))],
        _ => vec![family_of(stem, own)],
    };
    // The name by which calls know the kernel; none for the helpers, which are part of all.
    let kernel = kernels.iter().find(|kernel| kernel.stem == stem).map(name_of);
    let touched = |call: &Call| kernel.is_none_or(|kernel| kernel == call.kernel);
    // Kernels that the default method does not launch.
    let launches_it = |program: &Program| program.step().any(|call| kernel == Some(call.kernel) && is_of_method(call));
    let method = methods().into_iter().find(|(_, method)| launches_it(&layered::program().taught(method)));
    let programs = [layered::program(), composed::program()].map(|program| match &method {
        Some((_, method)) => program.taught(method),
        None => program,
    });
    let updates: &[&str] = match stem {
        "shared" | "copy" | "copy_software" => &["adamw"],
        "adamw" => &["adamw", "adam", "muon"],
        "sgd" => &["sgd"],
        "grokfast" => &["ema", "ma"],
        "orthogonal" => &["orthogonal"],
        "muon" => &["muon"],
        _ => &[],
    };
    let mut wrong = false;
    for family in families {
        for (shape, rows) in sizes_for(kernel.unwrap_or_default()) {
            for program in &programs {
                if !wrong && program.step().chain(program.evaluation()).any(touched) {
                    wrong = !compared(gpu_of(family)?, &kernels, program, *shape, rows, touched)?.wrong.is_empty();
                }
            }
        }
        for name in updates {
            wrong = wrong || !updated(gpu_of(family)?, &kernels, ODD, ROWS, name)?.wrong.is_empty();
        }
    }
    require!(wrong, "'{instead}' for '{there}' passes every test");
    Ok(())
}
