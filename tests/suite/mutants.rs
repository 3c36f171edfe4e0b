//! Teeth: shaders with one mistake each, every one of which the kernel tests must reject.

use crate::kernels::{compared, is_of_method, methods, updated, without_subgroups};
use crate::support::{Outcome, gpu, require, without_adapter};
use grokscope::gpu::kernel::Kernel;
use grokscope::plan::Shape;
use grokscope::program::{Call, Program, composed, layered};
use grokscope::shaders::{HELPERS, OPERATIONS};
use libtest_mimic::{Failed, Trial};

/// Sizes that no tile divides, and three models with rows of their own.
const ODD: Shape = Shape { p: 7, d_model: 10, n_heads: 2, d_mlp: 19, d_vocab_out: 7 };
const ROWS: &[usize] = &[30, 1, 49];

/// Models of which one has rows enough for a second chunk of a sum.
const LARGER: Shape = Shape { p: 25, d_model: 10, n_heads: 2, d_mlp: 23, d_vocab_out: 25 };
/// More heads than are done in one go.
const MORE_HEADS: Shape = Shape { p: 7, d_model: 10, n_heads: 5, d_mlp: 19, d_vocab_out: 7 };
/// Fewer neurons than d_model.
const FEW_NEURONS: Shape = Shape { p: 7, d_model: 10, n_heads: 2, d_mlp: 7, d_vocab_out: 7 };
const MORE_ROWS: &[usize] = &[600, 1, 49];

/// Shader (or "shared" for a helper), what stands there, what the mutant has. The first place is changed.
pub const MUTANTS: &[(&str, &str, &str)] = &[
    ("embed", "embedded + placed", "embedded - placed"),
    ("embed", "slot_pos(slot) * D_MODEL + i];", "slot_pos(slot) * D_MODEL];"),
    ("embed", "(P + token) * D_MODEL", "token * D_MODEL"),
    ("embed", "sum += d_resid_pre", "sum = d_resid_pre"),
    ("embed", "if (i >= D_MODEL) { return; }", ""),
    ("attention", "query += resid_pre", "query = resid_pre"),
    ("attention", "D_MODEL + i) * D_HEAD", "D_HEAD + i) * D_HEAD"),
    ("attention", ") / sqrt(f32(D_HEAD));", ") / f32(D_HEAD);"),
    ("attention", "row, head, slots[at_slots + 1u]", "row, head, slots[at_slots]"),
    ("attention", "head, slots[at_slots + 2u]),\n    ) /", "head, slots[at_slots + 1u]),\n    ) /"),
    ("attention", "exp(score - top)", "exp(score)"),
    ("attention", "row >= n_rows[model]", "row >= row_capacity"),
    ("attention", "let slot = slots[slots_at(model) + row * 3u + pos]", "let slot = slots[row * 3u + pos]"),
    ("attention", "resid_pre[equals + j] + element", "element"),
    ("attention", "shared_sum += d_out", "shared_sum = d_out"),
    ("attention", "d_pattern - dot(weight, d_pattern)", "d_pattern + dot(weight, d_pattern)"),
    ("attention", "+ slot_pos(slot);", ";"),
    ("attention", "i < slot_edges[edges + 1u]", "i + 1u < slot_edges[edges + 1u]"),
    ("attention", "* scale * q[", "* q["),
    ("attention", "d_W_V[w] = value", "d_W_V[w] = key"),
    ("attention", "{ sum += d_resid_equals[query_at(model) + i]; }", "{ }"),
    ("attention", "d_v[at + column] * W_V[w]", "d_v[at + column] * W_K[w]"),
    ("mlp", "sum = add_outer(sum, x, vec4(W_in", "sum = add_outer(mat4x4<f32>(), x, vec4(W_in"),
    ("mlp", "+ b_in[part(model, D_MLP) + j]", "+ b_in[j]"),
    ("mlp", "max(out, 0.0)", "out"),
    ("mlp", "i * D_MLP + j;", "i * D_MODEL + j;"),
    ("mlp", "resid_mid[at] + element", "element"),
    ("mlp", "pre[at] > 0.0", "pre[at] < 0.0"),
    ("mlp", "bias += d_out", "bias = d_out"),
    ("mlp", "row < n_rows[model]", "row < row_capacity"),
    ("mlp", "d_resid_post[at] + element", "d_resid_post[at] - element"),
    ("mlp", "i < min(row + TILE, n)", "i < row + TILE"),
    ("mlp", "j < min(column + TILE, D_MLP)", "j < column + TILE"),
    ("unembed", "part(model, D_MODEL * D_VOCAB_OUT)", "part(model, D_MODEL)"),
    ("unembed", "W_U[w.w + i]", "W_U[w.z + i]"),
    ("unembed", "row < n_rows[model]", "row + 1u < n_rows[model]"),
    ("loss", "if (c != label)", "if (c != label + 1u)"),
    ("loss", "1.0 / 3.0", "1.0 / 2.0"),
    ("loss", "c < label)", "c > label)"),
    ("loss", "-rest.sum * factor", "rest.sum * factor"),
    ("loss", "f32(n)", "f32(row_capacity)"),
    ("adamw", "* u.rest1", "* u.rest2"),
    ("adamw", "u.rest2 * g * g", "u.rest2 * g"),
    ("adamw", "params[i] * u.decay - ", "params[i] - "),
    ("adamw", "(u.biases == 0.0 &&", "(u.biases != 0.0 &&"),
    ("adamw", "u.biases == 0.0 && is_bias(owner)", "u.biases == 0.0"),
    ("adamw", "u.matrices == 0.0 && is_matrix(owner)", "false"),
    ("adamw", "gradient + u.l2 * params[i]", "gradient"),
    ("adamw", "owner >= 0x80000000u", "owner >= 0x40000000u"),
    ("adamw", "(owner & 0x40000000u) != 0u", "owner < 0x40000000u"),
    ("sgd", "+ u.l2 * params[i]", ""),
    ("sgd", "u.momentum * exp_avg[i] + d", "exp_avg[i] + d"),
    ("sgd", "select(m, d + u.momentum * m, u.nesterov != 0.0)", "m"),
    ("sgd", "d + u.momentum * m, u", "m + u.momentum * m, u"),
    ("sgd", "u.biases == 0.0 &&", "u.biases != 0.0 &&"),
    ("grokfast", "u.keep * grad_memory[i]", "grad_memory[i]"),
    ("grokfast", "u.take * grads[i]", "grads[i]"),
    ("grokfast", "u.amplify * slow", "slow"),
    ("grokfast", "u32(u.place) * len", "0u * len"),
    ("grokfast", "sum / f32(copies)", "sum"),
    ("grokfast", "grad_memory[copy * len + i]", "grad_memory[copy + i]"),
    ("orthogonal", "scale * (grads[i] - along * params[i])", "scale * grads[i]"),
    ("orthogonal", "let o = grads[i] - along * params[i]", "let o = grads[i]"),
    ("orthogonal", "params[i] * params[i]", "grads[i] * grads[i]"),
    ("orthogonal", "tensor_edges[tensor + 1u] * BLOCK", "(tensor_edges[tensor + 1u] - 1u) * BLOCK"),
    ("orthogonal", "tensor_edges[tensor] * BLOCK + lane", "tensor_edges[tensor] * BLOCK + lane + 1u"),
    ("muon", "u.rest_momentum * (g - exp_avg[i])", "(g - exp_avg[i])"),
    ("muon", "u.momentum * (m - g), u", "u.momentum * m, u"),
    ("muon", "* u.matrix_decay", ""),
    ("muon", "if (!is_matrix(owner)) { return; }", ""),
    ("orthonormal", "j * D_HEAD + i, i", "i * D_MODEL + j, i"),
    ("orthonormal", "m.head * D_MODEL * D_HEAD", "0u"),
    ("orthonormal", "D_MODEL <= D_MLP", "D_MODEL > D_MLP"),
    ("orthonormal", "D_MLP <= D_MODEL", "D_MLP > D_MODEL"),
    ("orthonormal", "sqrt(sums[0])", "sums[0]"),
    (
        "orthonormal",
        "tall_at(id.z, index, i);\n    let b = tall_at(id.z, index, id.x)",
        "tall_at(id.z, index, i);\n    let b = tall_at(id.z, index, i)",
    ),
    ("orthonormal", "k < m.short; k++) { sum += muon_gram", "k + 1u < m.short; k++) { sum += muon_gram"),
    ("orthonormal", "B * muon_gram", "C * muon_gram"),
    ("orthonormal", "var sum = A * muon_x", "var sum = muon_x"),
    ("orthonormal", "sqrt(f32(D_MODEL) / f32(D_HEAD)) * x", "x"),
    ("orthonormal", "sqrt(max(1.0, f32(D_MLP) / f32(D_MODEL)))", "sqrt(f32(D_MLP) / f32(D_MODEL))"),
    ("orthonormal", "sqrt(max(1.0, f32(D_MODEL) / f32(D_MLP)))", "1.0"),
    ("stablemax", "max(x, 0.0) + 1.0", "x + 1.0"),
    ("stablemax", "return below * below;", "return below;"),
    ("stablemax", "if (c != label) { sum += s", "if (c < label) { sum += s"),
    ("stablemax", "* (rest / own) * factor", "* rest * factor"),
    ("stablemax", "1.0 / (f32(n) * (own + rest))", "1.0 / (f32(n) * rest)"),
    ("stablemax", "-slope(logits[at + label])", "-1.0"),
    ("adamw", "sqrt(v) / u.root_correction2", "sqrt(v)"),
    ("adamw", "step[model] - 1u", "step[0] - 1u + model"),
    ("adamw", "let owner = block_owner[block]", "let owner = block_owner[0]"),
    ("compose", "select(D_MLP, D_VOCAB_OUT, is_class)", "D_MLP"),
    ("compose", "reader >= mlp4();", "reader > mlp4();"),
    ("compose", "neuron >= D_MLP || i >= D_MODEL", "neuron >= D_MLP"),
    (
        "compose",
        "e >= D_HEAD || i >= D_MODEL) { return 0.0; }\n    return W_V",
        "i >= D_MODEL) { return 0.0; }\n    return W_V",
    ),
    ("compose", "if (is_class) { x += b_out[part(model, D_MODEL) + i]; }\n        sum", "sum"),
    ("compose", "v_weights(model, head, i + 2u, e)", "v_weights(model, head, i + 1u, e)"),
    (
        "compose",
        "(head * (2u * P + 1u) + slot_equals()) * reader4() + reader];\n    }\n    let neuron",
        "slot_equals() * reader4() + reader];\n    }\n    let neuron",
    ),
    ("compose", "= sum + bias;", "= bias;"),
    ("compose", "chunk * CHUNK < n_rows[model]", "chunk * CHUNK + CHUNK <= n_rows[model]"),
    ("compose", "slot < P; slot++", "slot < 2u * P; slot++"),
    ("compose", "of_neurons + of_classes;", "of_neurons;"),
    ("compose", "sum += d_W_U4", "sum -= d_W_U4"),
    ("compose", "x * d_base_read", "d_base_read"),
    ("compose", "let z = 4u * head * head4() + e;", "let z = column;"),
    ("slots", "here - equals, here,", "here, here,"),
    ("slots", "resid(model, end, i + 1u)", "resid(model, end, i)"),
    ("slots", "slot_pos(slot) * D_MODEL + i];", "D_MODEL + i];"),
    ("slots", "q[query_at(model, head) + e] = sum", "q[query_at(model, head) + e] = -sum"),
    ("slots", "sum / sqrt(f32(D_HEAD)), within", "sum, within"),
    ("slots", "sum / sqrt(f32(D_HEAD));", "sum;"),
    ("slots", "select(sum, 0.0, slot == slot_equals())", "sum"),
    ("slots", "* 3u + slot_pos(slot)];", "* 3u];"),
    ("slots", "slot < slot_equals(); slot++", "slot <= slot_equals(); slot++"),
    ("slots", "* d_u[u_at(model, head) + i / 4u][i % 4u];", "* d_u[u_at(model, head)][i % 4u];"),
    ("slots", "q[query_at(model, head) + e] / sqrt(f32(D_HEAD));", "q[query_at(model, head) + e];"),
    ("slots", "sum += select(vec4<f32>(), of_equals", "sum -= select(vec4<f32>(), of_equals"),
    ("slots", "queries, of_equals)", "queries, vec4<f32>())"),
    ("slots", "- first - second", "- first"),
    ("slots", "d_W_pos[position + D_MODEL] = second", "d_W_pos[position + D_MODEL] = first"),
    ("rows", "slots[at + 1u] * N_HEADS], 0.0)", "slots[at + 1u] * N_HEADS], 1.0)"),
    ("rows", "exp(score - max(max(score.x, score.y), score.z))", "exp(score)"),
    ("rows", "max(sum, vec4<f32>())", "sum"),
    ("rows", "+ reader - mlp4()] = sum", "+ reader - mlp4()] = max(sum, vec4<f32>())"),
    ("rows", "d - dot(weight, d)", "d"),
    ("dots", "n < entries", "n + 1u < entries"),
    ("dots", "first + n / N_HEADS]", "n / N_HEADS]"),
    ("dots", "line + mlp4() + reader", "line + reader"),
    ("dots_subgroup", "min(entry + lane, last - 1u)", "min(entry + lane, last - 2u)"),
    ("dots_subgroup", "head + lane % 4u", "lane % 4u"),
    ("dots_subgroup", "reader + 1u < class4()", "reader + 2u < class4()"),
    ("dots_subgroup", "subgroupBroadcast(lines, 6u)", "subgroupBroadcast(lines, 2u)"),
    ("rows", "plain += d;", "plain = d;"),
    ("rows", "return pattern[at + head * 3u];", "return pattern[at + head % 4u * 3u];"),
    ("rows", "head + 2u, slot, reader, sums[2]", "head + 2u, slot, reader, sums[1]"),
    (
        "product",
        "k < at.depth; k += DEPTH) {\n        fetch_columns",
        "k + DEPTH < at.depth; k += DEPTH) {\n        fetch_columns",
    ),
    ("product", "if (!at.adds ||", "if (at.adds ||"),
    ("product", "sums.third[2], tile[k4][10]", "sums.third[2], tile[k4][9]"),
    ("product", "vec4(a.z), b[2]", "vec4(a.z), b[3]"),
    ("product", "with_before(at, j, 8u, sums.third)", "sums.third"),
    ("product", "min(k, at.depth - 1u)", "min(k, at.depth - 2u)"),
    ("product", "> vec4<f32>()", ">= vec4<f32>()"),
    ("product", "k4, transpose(b_at(b + k / 4u + k4, at.b_row))", "k4, b_at(b + k / 4u + k4, at.b_row)"),
    ("product", "batch * geometry[C_BATCH]", "batch * geometry[B_BATCH]"),
    ("product", "rows = n_rows[model]", "rows = n_rows[0]"),
    ("product_subgroup", "subgroupBroadcast(a, 5u)", "subgroupBroadcast(a, 4u)"),
    ("product_subgroup", "if (at.adds) { value += ", "if (!at.adds) { value += "),
    ("product_subgroup", "> vec4<f32>()", ">= vec4<f32>()"),
    ("product_subgroup", "B[to.w][i]", "B[to.z][i]"),
    ("product_subgroup", "|| at.depth == 0u", ""),
    ("shared", "return N_HEADS * head4()", "return fours(D_MODEL)"),
    ("shared", "(elements + BLOCK - 1u) / BLOCK * BLOCK", "elements"),
    ("shared", "slot % P, P,", "slot % P, 0u,"),
    ("shared", "vec4(0u, 1u, 2u, 3u)", "vec4(0u, 1u, 2u, 2u)"),
    ("shared", "fma(vec4(a.z), b, sums[2])", "fma(vec4(a.w), b, sums[2])"),
    ("shared", "select(tile[0], tile[1], i == 1u)", "tile[0]"),
    ("shared", "select(v.z, v.w, i == 3u)", "v.z"),
    ("shared", "< vec4(end)", "<= vec4(end)"),
];

pub fn tests() -> Vec<Trial> {
    let name = |i: usize| format!("mutant_{i:02}_of_{}_is_rejected", MUTANTS[i].0);
    // Variants for subgroups of eight run on adapters that have those. An adapter that is missing ignores nothing: it fails.
    let never_runs =
        |i: usize| MUTANTS[i].0.ends_with("_subgroup") && gpu().is_ok_and(|gpu| !gpu.has_subgroups_of_eight());
    let trial = |i| Trial::test(name(i), move || rejects(MUTANTS[i]));
    (0..MUTANTS.len()).map(|i| trial(i).with_ignored_flag(!without_adapter() && never_runs(i))).collect()
}

/// The kernels with one text of a shader, or of the helpers, replaced.
pub fn mutated((stem, there, instead): (&str, &str, &str)) -> Result<Vec<Kernel>, Failed> {
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

/// Fails unless a comparison or an update finds the mutant wrong. An error, such as a missing adapter or a refused
/// pipeline, does not count as a rejection: it fails the test.
fn rejects(mutant: (&str, &str, &str)) -> Outcome {
    let (stem, there, instead) = mutant;
    let kernels = mutated(mutant)?;
    // The plain kernels run where there are no subgroups.
    let kernels = if ["product", "dots"].contains(&stem) { without_subgroups(kernels) } else { kernels };
    let touched = |call: &Call| stem == "shared" || stem.trim_end_matches("_subgroup") == call.kernel;
    let rows = if stem == "product_subgroup" || stem == "compose" { MORE_ROWS } else { ROWS };
    let shape = match stem {
        "rows" | "dots" | "dots_subgroup" => MORE_HEADS,
        _ if rows == MORE_ROWS => LARGER,
        _ => ODD,
    };
    let mut tries = vec![(layered::program(), shape, rows), (composed::program(), shape, rows)];
    // Kernels that the default method does not launch.
    let has_it = |program: &Program| program.step().any(|call| call.kernel == stem && is_of_method(call));
    let taught = |(_, method)| layered::program().taught(&method);
    if methods().map(taught).iter().any(has_it) {
        let program = || methods().map(taught).into_iter().find(has_it);
        tries = [shape, FEW_NEURONS].into_iter().filter_map(|shape| Some((program()?, shape, ROWS))).collect();
    }
    let mut wrong = false;
    for (program, shape, rows) in &tries {
        if !wrong && program.step().chain(program.evaluation()).any(touched) {
            wrong = !compared(&kernels, program, *shape, rows, touched)?.wrong.is_empty();
        }
    }
    let whole: &[&str] = match stem {
        "shared" => &["adamw"],
        "adamw" => &["adamw", "adam", "muon"],
        "sgd" => &["sgd"],
        "grokfast" => &["ema", "ma"],
        "orthogonal" => &["orthogonal"],
        "muon" => &["muon"],
        _ => &[],
    };
    for method in whole {
        wrong = wrong || !updated(&kernels, ODD, ROWS, method)?.wrong.is_empty();
    }
    require!(wrong, "'{instead}' for '{there}' passes every test");
    Ok(())
}
