//! What shaders say of themselves, without a GPU: names, access, types, and the walk over the program.

use crate::support::{Outcome, require, test};
use grokscope::gpu::device::{Family, TILES};
use grokscope::gpu::kernel::Kernel;
use grokscope::program::dispatches::{check_shaders, entry_of, stem, variants};
use grokscope::program::{Call, Program, check, composed, layered};
use grokscope::shaders::{HELPERS, OPERATIONS, kernels};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;

pub fn tests() -> Vec<Trial> {
    vec![
        test("every_program_walks_on_shaders_and_on_twins", programs_walk),
        test("shaders_and_twins_use_the_same_tensors", same_tensors),
        test("every_entry_point_is_called_by_a_program", no_idle_entry),
        test("kernels_stay_within_eight_bindings", eight_bindings),
        test("a_wrong_declaration_is_a_clear_error", wrong_declarations),
        test("a_program_out_of_order_is_a_clear_error", out_of_order),
    ]
}

fn calls(program: &Program) -> impl Iterator<Item = &Call> {
    program.step().chain(&program.score)
}

fn programs() -> Vec<Program> {
    let taught = crate::kernels::methods().map(|(_, method)| layered::program().taught(&method));
    [layered::program(), composed::program()].into_iter().chain(taught).collect()
}

fn programs_walk() -> Outcome {
    for program in programs() {
        check(program.step(), true)?;
        check(program.evaluation(), false)?;
    }
    Ok(())
}

const FAMILIES: [Family; 5] = [
    Family::Wide(None),
    Family::Wide(Some(TILES[0])),
    Family::Wide(Some(TILES[1])),
    Family::Software,
    Family::SoftwareEights,
];

/// The batch told by its rows, and by its slots: a kernel may take the one and its twin the other.
fn told_once(name: &str) -> &str {
    if ["slot_edges", "slot_rows"].contains(&name) { "slots" } else { name }
}

fn same_tensors() -> Outcome {
    let (kernels, programs) = (kernels()?, programs());
    for family in FAMILIES {
        let kernels = variants(kernels, family);
        programs.iter().try_for_each(|program| check_shaders(&kernels, calls(program)))?;
    }
    for call in programs.iter().flat_map(calls) {
        let twin = grokscope::cpu::twin_of::<f32>(call.kernel, call.entry).ok_or("no twin")?;
        let of_twin = |names: &[&'static str]| -> BTreeSet<&str> {
            names.iter().map(|name| told_once(call.tensor(name))).collect()
        };
        let (writes, reads) = (of_twin(twin.writes), of_twin(twin.reads));
        let declared: BTreeSet<&str> = call.written().into_iter().collect();
        require!(declared == writes, "{} writes {declared:?}, its twin {writes:?}", call.title());
        let declared: BTreeSet<&str> = call.reads.iter().map(|name| told_once(name)).collect();
        let reads: BTreeSet<&str> = reads.difference(&writes).copied().collect();
        require!(declared == reads, "{} reads {declared:?}, its twin {reads:?}", call.title());
    }
    Ok(())
}

/// Every file is the variant of some family, and each of its entry points does a call of a program.
fn no_idle_entry() -> Outcome {
    let (kernels, programs) = (kernels()?, programs());
    for kernel in kernels {
        let is_taken = FAMILIES.iter().any(|family| variants(kernels, *family).iter().any(|k| k.stem == kernel.stem));
        require!(is_taken, "{} belongs to no family", kernel.stem);
        for entry in kernel.entry_names() {
            let does = |call: &Call| call.kernel == stem(kernel) && entry_of(call) == entry;
            require!(programs.iter().flat_map(calls).any(does), "{}.{entry} is in no program", kernel.stem);
        }
    }
    Ok(())
}

/// WebGPU promises no more storage buffers to a stage.
fn eight_bindings() -> Outcome {
    let (kernels, constants) = (kernels()?, constants());
    for kernel in kernels {
        for entry in kernel.entry_names() {
            let bindings = kernel.entry(entry, &constants)?.bindings;
            let storage: Vec<_> = bindings.iter().filter(|b| !b.uniform).map(|b| &b.name).collect();
            require!(storage.len() <= 8, "{}.{entry} binds {}: {storage:?}", kernel.stem, storage.len());
        }
    }
    Ok(())
}

/// A value for every override.
fn constants() -> Vec<(&'static str, u32)> {
    let sizes = [("P", 5), ("D_MODEL", 8), ("N_HEADS", 2), ("D_HEAD", 4), ("D_MLP", 8), ("D_VOCAB_OUT", 5)];
    let others = [("BLOCK", 64), ("WINDOW", 256), ("CHUNK", 240), ("SPLIT", 128), ("LOGITS_ROW", 8)];
    sizes.into_iter().chain(others).collect()
}

/// The error of a program with one shader changed, from parsing to the walk.
fn error_with(stem: &str, there: &str, instead: &str) -> Result<String, Failed> {
    let build = || -> anyhow::Result<()> {
        let mut kernels = Vec::new();
        for (of, source) in OPERATIONS {
            let text = if *of == stem { source.replace(there, instead) } else { source.to_string() };
            anyhow::ensure!(*of != stem || text != *source, "'{there}' does not stand in {stem}");
            kernels.push(Kernel::new(of, &text, HELPERS)?);
        }
        check_shaders(&variants(&kernels, Family::Software), layered::program().step())
    };
    match build() {
        Ok(()) => Err(format!("'{instead}' for '{there}' in {stem} was accepted").into()),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn wrong_declarations() -> Outcome {
    let cases = [
        // A name that no tensor has.
        ("mlp", "W_in", "W_inn", &["mlp.forward_in", "no tensor is called 'W_inn'", "W_in"][..]),
        // Declared for writing, and never written.
        ("embed", "read> W_E:", "read_write> W_E:", &["shaders/embed.wgsl", "W_E is declared read_write"]),
        // Written, and declared for reading.
        ("embed", "read_write> d_W_E:", "read> d_W_E:", &["shaders/embed.wgsl", "not valid"]),
        // Integers where the table has floats.
        ("loss_software", "labels: array<u32>", "labels: array<f32>", &["loss"]),
        ("attention", "slots: array<u32>", "slots: array<i32>", &["attention"]),
        // A member of the struct that the host does not know.
        ("adamw", "rest1", "one_minus_beta1", &["adamw.update", "struct Update", "'one_minus_beta1'"]),
        // A member of another type.
        ("adamw", "eps: f32", "eps: vec2<f32>", &["adamw"]),
        // A parameter written by an operation.
        ("adamw", "grads[i];", "0.0;", &["grads is declared and no entry point uses it"]),
        // An override that the host has no value for.
        ("mlp", "fn narrow_at", "override D_MLPS: u32; fn narrow_at", &["no value for override 'D_MLPS'", "D_MLP"]),
        (
            "unembed",
            "fn backward_weights",
            "fn backward_weight",
            &["no entry point 'backward_weights'", "backward_weight"],
        ),
        ("embed", "@group(0) @binding(0)", "@group(1) @binding(0)", &["W_E is in group 1"]),
    ];
    for (stem, there, instead, expected) in cases {
        let error = error_with(stem, there, instead)?;
        for part in expected {
            require!(error.contains(part), "'{instead}' for '{there}': expected '{part}' in: {error}");
        }
    }
    Ok(())
}

fn out_of_order() -> Outcome {
    let error = |change: &dyn Fn(&mut Vec<Call>)| {
        let mut calls: Vec<Call> = layered::program().step().cloned().collect();
        change(&mut calls);
        check(calls.iter(), true).map_err(|e| format!("{e:#}")).err().unwrap_or_default()
    };
    let swapped = error(&|calls| calls.swap(5, 6));
    require!(swapped.contains("mlp.forward_out: reads post before"), "{swapped:?}");
    let early = error(&|calls| calls.rotate_right(1));
    require!(early.contains("adamw.update: reads"), "{early:?}");
    let unticked = error(&|calls| calls.retain(|call| call.entry != "tick"));
    require!(unticked.contains("adamw.update: reads step before"), "{unticked:?}");
    let short = error(&|calls| calls.retain(|call| call.entry != "backward_in_weights"));
    require!(short.contains("adamw.update: reads grads before"), "{short:?}");
    let shorter = error(&|calls| calls.retain(|call| call.entry != "backward_in_weights" && call.kernel != "adamw"));
    require!(shorter.contains("no call writes d_W_in"), "{shorter:?}");
    require!(error(&|_| ()).is_empty(), "the program itself is refused");
    Ok(())
}
