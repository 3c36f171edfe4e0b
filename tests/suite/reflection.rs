//! What shaders say of themselves, without a GPU: names, access, types, and the walk over the program.

use crate::support::{Outcome, require, test};
use grokscope::gpu::kernel::Kernel;
use grokscope::program::dispatches::uses;
use grokscope::program::{Call, Program, Uses, check, composed, layered};
use grokscope::shaders::{HELPERS, OPERATIONS, kernels};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeSet;

pub fn tests() -> Vec<Trial> {
    vec![
        test("every_program_walks_on_shaders_and_on_twins", programs_walk),
        test("shaders_and_twins_use_the_same_tensors", same_tensors),
        test("variants_declare_what_their_plain_twins_declare", variants_alike),
        test("every_entry_point_is_called_by_a_program", no_idle_entry),
        test("kernels_stay_within_eight_bindings", eight_bindings),
        test("a_wrong_declaration_is_a_clear_error", wrong_declarations),
        test("a_program_out_of_order_is_a_clear_error", out_of_order),
    ]
}

fn of_twin(call: &Call) -> anyhow::Result<Uses> {
    let twin = grokscope::cpu::twin_of::<f32>(call.kernel, call.entry).ok_or(anyhow::anyhow!("no twin"))?;
    let names = |list: &[&str]| list.iter().map(|name| call.tensor(name).to_string()).collect();
    Ok(Uses { reads: names(twin.reads), writes: names(twin.writes) })
}

fn calls(program: &Program) -> impl Iterator<Item = &Call> {
    program.step().chain(&program.score)
}

fn programs() -> Vec<Program> {
    let taught = crate::kernels::methods().map(|(_, method)| layered::program().taught(&method));
    [layered::program(), composed::program()].into_iter().chain(taught).collect()
}

fn programs_walk() -> Outcome {
    let kernels = kernels()?;
    for program in programs() {
        check(program.step(), true, |call| uses(&kernels, call))?;
        check(program.evaluation(), false, |call| uses(&kernels, call))?;
        check(program.step(), true, of_twin)?;
        check(program.evaluation(), false, of_twin)?;
    }
    Ok(())
}

/// The twins have the rows in their context and no layout of arenas.
const SHADER_ONLY: &[&str] = &["n_rows", "block_owner", "tensor_edges", "geometry", "row_capacity"];

/// The batch told by its rows, and by its slots: a kernel may take the one and its twin the other.
fn told_once(name: String) -> String {
    if ["slot_edges", "slot_rows"].contains(&name.as_str()) { "slots".into() } else { name }
}

fn same_tensors() -> Outcome {
    let (kernels, programs) = (kernels()?, programs());
    for call in programs.iter().flat_map(calls) {
        let (shader, twin) = (uses(&kernels, call)?, of_twin(call)?);
        let set = |names: Vec<String>| {
            names.into_iter().filter(|n| !SHADER_ONLY.contains(&n.as_str())).map(told_once).collect::<BTreeSet<_>>()
        };
        let (writes, twin_writes) = (set(shader.writes), set(twin.writes));
        require!(writes == twin_writes, "{}.{} writes {writes:?}, its twin {twin_writes:?}", call.kernel, call.entry);
        let reads: BTreeSet<_> = set(shader.reads).difference(&writes).cloned().collect();
        let twin_reads: BTreeSet<_> = set(twin.reads).difference(&writes).cloned().collect();
        require!(reads == twin_reads, "{}.{} reads {reads:?}, its twin {twin_reads:?}", call.kernel, call.entry);
    }
    Ok(())
}

fn variants_alike() -> Outcome {
    let kernels = kernels()?;
    let mut variants = 0;
    for variant in kernels.iter().filter(|kernel| kernel.stem.ends_with("_subgroup")) {
        let plain = kernels.iter().find(|kernel| Some(kernel.stem.as_str()) == variant.stem.strip_suffix("_subgroup"));
        let plain = plain.ok_or(format!("{} has no plain twin", variant.stem))?;
        let declared = |kernel: &Kernel, entry: &str| -> Result<Vec<_>, Failed> {
            let constants = vec![("BLOCK", 64), ("P", 5), ("D_MODEL", 8), ("N_HEADS", 2), ("D_HEAD", 4), ("D_MLP", 8)];
            let constants = [constants, vec![("D_VOCAB_OUT", 5)]].concat();
            let bindings = kernel.entry(entry, &constants)?.bindings;
            Ok(bindings.into_iter().map(|b| (b.name, b.reads, b.writes, b.writable, b.element)).collect())
        };
        require!(variant.entry_names().eq(plain.entry_names()), "{} has other entry points", variant.stem);
        for entry in plain.entry_names() {
            require!(declared(variant, entry)? == declared(plain, entry)?, "{}.{entry} binds otherwise", variant.stem);
            variants += 1;
        }
    }
    require!(variants > 0, "there are no variants");
    Ok(())
}

fn no_idle_entry() -> Outcome {
    let programs = programs();
    for kernel in kernels()? {
        for entry in kernel.entry_names() {
            let stem = kernel.stem.trim_end_matches("_subgroup");
            let called = programs.iter().flat_map(calls).any(|call| call.kernel == stem && call.entry == entry);
            require!(called, "{}.{entry} is in no program", kernel.stem);
        }
    }
    Ok(())
}

/// WebGPU promises no more storage buffers to a stage.
fn eight_bindings() -> Outcome {
    let (kernels, programs) = (kernels()?, programs());
    for call in programs.iter().flat_map(calls) {
        let uses = uses(&kernels, call)?;
        let names: BTreeSet<_> = uses.reads.iter().chain(&uses.writes).collect();
        require!(names.len() <= 8, "{}.{} binds {}: {names:?}", call.kernel, call.entry, names.len());
    }
    Ok(())
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
        check(layered::program().step(), true, |call| uses(&kernels, call))
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
        ("loss", "labels: array<u32>", "labels: array<f32>", &["loss"]),
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
    let kernels = kernels()?;
    let error = |change: &dyn Fn(&mut Vec<Call>)| {
        let mut calls: Vec<Call> = layered::program().step().cloned().collect();
        change(&mut calls);
        check(calls.iter(), true, |call| uses(&kernels, call)).map_err(|e| format!("{e:#}")).err().unwrap_or_default()
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
