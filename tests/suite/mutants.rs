//! Teeth: shaders with one mistake each, every one of which the kernel tests must reject.

use crate::kernels::{compared, is_of_method, methods, updated};
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

/// Shader (or "shared" for a helper of all), the text to replace, the replacement. The text of a shader
/// includes the files that it shares with others, such as `shared/block.wgsl`. The first occurrence is replaced.
pub type Mutant = (&'static str, &'static str, &'static str);

/// Mutants that the self-check names too. There is none that adds in another order, because the error bounds hold for every order.
pub const MUTANTS: &[Mutant] = &[
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
    ("attention", "resid_pre[equals + j] + element", "resid_pre[equals] + element"),
    ("attention", "plus(shared_sum, d_out)", "d_out"),
    ("attention", "d_pattern - dot(weight, d_pattern)", "d_pattern + dot(weight, d_pattern)"),
    ("attention", "+ slot_pos(slot);", ";"),
    ("attention", "i < slot_edges[edges + 1u]", "i + 1u < slot_edges[edges + 1u]"),
    ("attention", "* scale * q[", "* q["),
    ("attention", "d_W_V[w] = value", "d_W_V[w] = key"),
    ("attention", "{ sum += d_resid_equals[query_at(model) + i]; }", "{ sum = d_resid_equals[query_at(model) + i]; }"),
    ("attention", "d_v[at + column] * W_V[w]", "d_v[at] * W_V[w]"),
    ("mlp", "sum = add_to_tile(sum, resid_mid8(a, i)", "sum = add_to_tile(Tile(), resid_mid8(a, i)"),
    ("mlp", "+ b_in[part(model, D_MLP) + j]", "+ b_in[j]"),
    ("mlp", "max(out, 0.0)", "out"),
    ("mlp", "i * D_MLP + j;", "i * D_MODEL + j;"),
    ("mlp", "resid_mid[at] + element", "resid_mid[at] - element"),
    ("mlp", "pre[at] > 0.0", "pre[at] < 0.0"),
    ("mlp", "plus(bias, d_out)", "d_out"),
    ("mlp", "row < n_rows[model]", "row < row_capacity"),
    ("mlp", "d_resid_post[at] + element", "d_resid_post[at] - element"),
    ("mlp", "i < min(row + TILE, n)", "i < row + TILE"),
    ("mlp", "j < min(column + TILE, D_MLP)", "j < column + TILE"),
    ("unembed", "part(model, D_MODEL * D_VOCAB_OUT)", "part(model, D_MODEL)"),
    ("unembed", "W_U[at.high.w + i]", "W_U[at.high.z + i]"),
    ("unembed", "row < n_rows[model]", "row + 1u < n_rows[model]"),
    ("loss", "if (c != label)", "if (c != label + 1u)"),
    ("loss", "1.0 / 3.0", "1.0 / 2.0"),
    ("loss", "c < label)", "c > label)"),
    ("loss", "-rest.sum * factor", "rest.sum * factor"),
    ("loss", "f32(n)", "f32(row_capacity)"),
    ("loss", "* ROWS_A_GROUP + lane / LANES", "* ROWS_A_GROUP"),
    (
        "loss",
        "half > 0u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
        "half > 1u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
    ),
    ("loss", "halves[lane] += halves[lane + half];", "halves[lane] += halves[lane + half - 1u];"),
    ("loss", "return halves[lane / LANES * LANES];", "return halves[0];"),
    ("loss", "LANES / 2u", "LANES / 4u"),
    ("loss", "if (c < D_VOCAB_OUT) { d = exp", "if (c < LOGITS_ROW) { d = exp"),
    ("loss_software", "if (c != label)", "if (c != label + 1u)"),
    ("loss_software", "c < label)", "c > label)"),
    ("loss_software", "1.0 / 3.0", "1.0 / 2.0"),
    ("loss_software", "-rest.sum * factor", "rest.sum * factor"),
    ("loss_software", "f32(n)", "f32(row_capacity)"),
    ("loss_software", "for (var c = D_VOCAB_OUT; c < LOGITS_ROW; c++) { d_logits[at + c] = 0.0; }", ""),
    ("stablemax", "max(x, 0.0) + 1.0", "x + 1.0"),
    ("stablemax", "return below * below;", "return below;"),
    ("stablemax", "if (c != label) { sum += s", "if (c < label) { sum += s"),
    ("stablemax", "* (rest / own) * factor", "* rest * factor"),
    ("stablemax", "1.0 / (f32(n) * (own + rest))", "1.0 / (f32(n) * rest)"),
    ("stablemax", "-slope(logits[at + label])", "-1.0"),
    ("stablemax", "halves[lane] += halves[lane + half];", "halves[lane] += halves[lane + half - 1u];"),
    ("stablemax", "* ROWS_A_GROUP + lane / LANES", "* ROWS_A_GROUP"),
    ("stablemax", "if (c < D_VOCAB_OUT) { d = slope", "if (c < LOGITS_ROW) { d = slope"),
    (
        "stablemax",
        "half > 0u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
        "half > 1u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
    ),
    ("stablemax_software", "max(x, 0.0) + 1.0", "x + 1.0"),
    ("stablemax_software", "return below * below;", "return below;"),
    ("stablemax_software", "if (c != label) { sum += s", "if (c < label) { sum += s"),
    ("stablemax_software", "* (rest / own) * factor", "* rest * factor"),
    ("stablemax_software", "for (var c = D_VOCAB_OUT; c < LOGITS_ROW; c++) { d_logits[at + c] = 0.0; }", ""),
    ("adamw", "* u.rest1", "* u.rest2"),
    ("adamw", "u.rest2 * g * g", "u.rest2 * g"),
    ("adamw", "params[i] * u.decay - ", "params[i] - "),
    ("adamw", "(u.biases == 0.0 &&", "(u.biases != 0.0 &&"),
    ("adamw", "u.biases == 0.0 && is_bias(owner)", "u.biases == 0.0"),
    ("adamw", "u.matrices == 0.0 && is_matrix(owner)", "false"),
    ("adamw", "gradient + u.l2 * params[i]", "gradient"),
    ("adamw", "owner >= 0x80000000u", "owner >= 0x40000000u"),
    ("adamw", "(owner & 0x40000000u) != 0u", "owner < 0x40000000u"),
    ("adamw", "sqrt(v) / u.root_correction2", "sqrt(v)"),
    ("adamw", "step[model] - 1u", "step[0] - 1u + model"),
    ("adamw", "let owner = block_owner[block]", "let owner = block_owner[0]"),
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
    ("copy", "|| column >= matrix.columns", ""),
    ("copy", "bitcast<f32>(how.z) * outer_at", "outer_at"),
    ("copy", "spot.row >= matrix.rows || ", ""),
    ("copy", ") * bitcast<f32>(how.z);", ");"),
    ("copy", "+ source_at(operand(found.at + 4u), spot)", ""),
    ("copy", "operand(found.at + 7u), operand(found.at + 10u)", "operand(found.at + 10u), operand(found.at + 7u)"),
    ("copy", "element(of_row, spot.row % 4u)", "element(of_row, 0u)"),
    ("copy", "spot.row / 4u);", "spot.row);"),
    ("copy", "part < x.parts", "part + 1u < x.parts"),
    ("copy", "min(4u, into.columns - 4u * spot.column)", "4u"),
    ("copy", "(into.columns + 3u) / 4u", "into.columns / 4u"),
    ("copy", "head < heads)", "head + 1u < heads)"),
    ("copy", "into.buffer == 0u", "into.buffer == 1u"),
    ("copy", "+ model * matrix.model", ""),
    ("copy", "+ head * matrix.head", ""),
    ("copy_software", "at + part * matrix.part); }", "at); }"),
    ("copy_software", "part < matrix.parts; part++", "part + 1u < matrix.parts; part++"),
    ("copy_software", "spot.row % 4u", "spot.column % 4u"),
    ("copy_software", "|| column >= matrix.columns", ""),
    ("copy_software", "step[group.z] += 1u", "step[group.z] += 2u"),
    ("compose_software", "LANES / 2u", "LANES / 4u"),
    ("compose_software", "entry += LANES", "entry += 64u"),
    ("slots_software", "LANES / 2u", "LANES / 4u"),
    ("copy", "sizes.z, sizes.w, table[at + 2u].x", "sizes.w, sizes.z, table[at + 2u].x"),
    ("compose", "d_pattern[first + pos] - dot(weight, d)", "d_pattern[first + pos] + dot(weight, d)"),
    ("compose", "(n_rows[model] + CHUNK - 1u) / CHUNK;", "n_rows[model] / CHUNK;"),
    ("compose", "(n_rows[model] + CHUNK - 1u) / CHUNK;", "(n_rows[model] + CHUNK - 1u) / CHUNK + 1u;"),
    ("compose", "min(chunk + 1u, chunks - 1u)", "min(chunk, chunks - 1u)"),
    ("compose", "(row_capacity + CHUNK - 1u) / CHUNK * size", "row_capacity / CHUNK * size"),
    ("compose", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    ("compose", "sums[lane + half];", "sums[lane + half - 1u];"),
    ("compose", "slot < P; slot += LANES", "slot < 2u * P; slot += LANES"),
    ("compose", "select(vec4<f32>(), total, reader >= mlp4())", "total"),
    ("compose", "reader >= mlp4()", "reader > mlp4()"),
    ("compose", "head < N_HEADS; head += LANES", "head + 1u < N_HEADS; head += LANES"),
    ("compose", "(head * (2u * P + 1u) + slot_equals())", "(head * (2u * P + 1u))"),
    ("compose", "if (head >= N_HEADS) { return 0.0; }\n    let first", "let first"),
    ("compose", "pattern[first + pos] * (d_pattern", "(d_pattern"),
    ("compose", "let pos = slot_pos(slot);", "let pos = 0u;"),
    ("compose", "slot != slot_equals()", "slot <= slot_equals()"),
    (
        "compose",
        "slot_edges[edges] + lane; entry < slot_edges[edges + 1u]",
        "slot_edges[edges] + lane; entry + 1u < slot_edges[edges + 1u]",
    ),
    ("compose", "d_score(at, head + 1u, pos)", "d_score(at, head, pos)"),
    ("compose", "slot * fours(N_HEADS) + head / 4u]", "slot * fours(N_HEADS)]"),
    ("slots", "own - equals, own,", "own, own,"),
    ("slots", "slot_pos(slot) * D_MODEL + i];", "D_MODEL + i];"),
    ("slots", "- first - second", "- first"),
    ("slots", "resid(model, slot, i + 1u)", "resid(model, slot, i)"),
    ("slots", "if (i >= D_MODEL) { return 0.0; }\n    return W_E", "return W_E"),
    ("slots", "= equals + biases;", "= equals - biases;"),
    ("slots", "bias(model, i + 3u)", "bias(model, i + 2u)"),
    ("slots", "equals_at(model) + model4() + column] = equals", "equals_at(model) + column] = equals"),
    ("slots", "fma(vec4(scores.y), lines[1]", "fma(vec4(scores.y), lines[0]"),
    ("slots", "select(vec4<f32>(), value, head < N_HEADS)", "value"),
    ("slots", "d_slot_score4[score_at(model, P + token)", "d_slot_score4[score_at(model, token)"),
    ("slots", "d_resid4[resid_at(model, P + token)", "d_resid4[resid_at(model, token)"),
    ("slots", "d.x + d.y", "d.x"),
    ("slots", "4u * column * z4();", "column * z4();"),
    ("slots", "W_Q4[rows + 2u * z4() + z]", "W_Q4[rows + z4() + z]"),
    ("slots", "z < z4(); z += LANES", "z + 1u < z4(); z += LANES"),
    ("slots", "n < parts; n += LANES", "n + 1u < parts; n += LANES"),
    ("slots", "(4u * reader4() + SPLIT - 1u) / SPLIT", "4u * reader4() / SPLIT"),
    ("slots", "token < P; token += LANES", "token + 1u < P; token += LANES"),
    ("slots", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    ("slots", "sums[lane + half];", "sums[lane + half - 1u];"),
    (
        "slots",
        "write_embed(embed_at(model, P), 4u * column, equals);",
        "write_embed(embed_at(model, P), 4u * column, of_equals);",
    ),
    (
        "slots",
        "write_pos(position + D_MODEL, 4u * column, second);",
        "write_pos(position + D_MODEL, 4u * column, first);",
    ),
    ("slots", "score_at(model, token) + head / 4u]", "score_at(model, token)]"),
    ("slots", "min(i + 4u, D_MODEL); n++) { d_W_E", "i + 4u; n++) { d_W_E"),
    ("rows", "exp(score - max(max(score.x, score.y), score.z))", "exp(score)"),
    ("rows", "max(sum, vec4<f32>())", "sum"),
    ("rows", "+ reader - mlp4()] = sum", "+ reader - mlp4()] = max(sum, vec4<f32>())"),
    ("rows", "return pattern[at + head * 3u];", "return pattern[at + head % 4u * 3u];"),
    ("rows", "head + 2u, slot, reader, sums[2]", "head + 2u, slot, reader, sums[1]"),
    ("rows", "slots[at + 1u] * heads], 0.0)", "slots[at + 1u] * heads], 1.0)"),
    ("rows", "plain += d[0];", "plain = d[0];"),
    ("rows", "if (n + 3u < count) { sums", "if (n < count) { sums"),
    ("rows", "min(first + lane, end - 1u)", "min(first + lane, end - 2u)"),
    ("rows", "weights_here[n + 2u], d[2]", "weights_here[n + 1u], d[2]"),
    ("rows", "rows_here[n + 1u], column", "rows_here[n], column"),
    ("rows", "read_at(model, head, y)", "read_at(model, head, x)"),
    ("rows", "heads_read[part4(model, reader4()) + reader]", "heads_read[reader]"),
    ("rows", "select(0u, reader4(), reader >= mlp4())", "0u"),
    ("rows", "(group.y + 1u) * 8u * ROWS_A_LANE", "(group.y + 1u) * 8u * (ROWS_A_LANE - 1u)"),
    ("rows", "let heads = 4u * fours(N_HEADS);", "let heads = N_HEADS;"),
    ("rows_software", "exp(score - max(max(score.x, score.y), score.z))", "exp(score)"),
    ("rows_software", "plain += d;", "plain = d;"),
    ("rows_software", "slots[at + 1u] * heads], 0.0)", "slots[at + 1u] * heads], 1.0)"),
    ("rows_software", "max(sum, vec4<f32>())", "sum"),
    ("rows_software", "return pattern[at + head * 3u];", "return pattern[at + head % 4u * 3u];"),
    ("rows_software", "head + 2u, slot, reader, sums[2]", "head + 2u, slot, reader, sums[1]"),
    ("rows_software", "i < slot_edges[edges + 1u]; i++", "i + 1u < slot_edges[edges + 1u]; i++"),
    ("rows_software", "read_at(model, head, y)", "read_at(model, head, x)"),
    ("dots", "lower.z, reader)", "lower.y, reader)"),
    ("dots", "min(first + 5u, last)", "min(first + 4u, last)"),
    ("dots", "min(head + 1u, last)", "min(head, last)"),
    ("dots", "fma(vec4(d.z), lines[2]", "fma(vec4(d.z), lines[1]"),
    ("dots", "return transpose(mat4x4(", "return (mat4x4("),
    ("dots", "partial[5u * LANES + lane] = more[1];", "partial[5u * LANES + lane] = more[0];"),
    ("dots", "reader < reader4(); reader += LANES", "reader + 1u < reader4(); reader += LANES"),
    ("dots", "lane % ROWS * 8u", "lane % ROWS * 4u"),
    ("dots", "first + lane < end", "first + lane + 1u < end"),
    ("dots", "head < N_HEADS; head += 4u", "head + 4u < N_HEADS; head += 4u"),
    ("dots", "d_pattern[to + slot_pos(slot)]", "d_pattern[to]"),
    ("dots", "if (slot_pos(slot) == 0u) { d_pattern[to + 2u] = 0.0; }", ""),
    ("dots", "write_head(to + 3u, head + 1u", "write_head(to, head + 1u"),
    ("dots", "first < end; first += ROWS", "first < end; first += 2u * ROWS"),
    ("dots_software", "n < entries", "n + 1u < entries"),
    ("dots_software", "line + mlp4() + reader", "line + reader"),
    ("dots_software", "first + n / N_HEADS]", "n / N_HEADS]"),
    ("dots_software", "slot != slot_equals()", "slot <= slot_equals()"),
    ("dots_software", "+ slot_pos(slot)] = sum", "] = sum"),
    ("dots_subgroup", "min(entry + lane, last - 1u)", "min(entry + lane, last - 2u)"),
    ("dots_subgroup", "head + lane % 4u", "lane % 4u"),
    ("dots_subgroup", "reader + 1u < class4()", "reader + 2u < class4()"),
    ("dots_subgroup", "subgroupBroadcast(lines, 6u)", "subgroupBroadcast(lines, 2u)"),
    ("dots_subgroup", "min(4u, N_HEADS - head)", "min(3u, N_HEADS - head)"),
    ("dots_subgroup", "slot != slot_equals()", "slot <= slot_equals()"),
    ("dots_subgroup", "entry += LANES", "entry += 2u * LANES"),
    ("product", "> vec4<f32>()", ">= vec4<f32>()"),
    ("product", "k < at.end; k += DEPTH", "k + DEPTH < at.end; k += DEPTH"),
    ("product", "tile[to + SIDE] = block[1];", "tile[to + SIDE] = block[2];"),
    ("product", "a + SIDE, b + SIDE)", "a + SIDE, b)"),
    ("product", "n + 4u * SIDE + i, FACTOR", "n + i, FACTOR"),
    ("product", "n < FACTOR; n += 8u * SIDE", "n + 8u * SIDE < FACTOR; n += 8u * SIDE"),
    ("product", "from_here, k + DEPTH + term)", "from_here, k + term)"),
    ("product", "from_here, at.k + term)", "from_here, term)"),
    ("product", "select(at.i / 4u, at.j, is_b)", "select(at.i, at.j, is_b)"),
    ("product", "return transpose(block);", "return block;"),
    ("product", "row + 4u > side.rows || column >= side.columns", "false"),
    ("product", "row + 4u > side.rows || ", ""),
    ("product", "vec4<bool>(column < side.columns) & (row", "(row"),
    ("product", "(row + vec4(0u, 1u, 2u, 3u) < vec4(side.rows))", "(row + vec4(0u, 1u, 2u, 3u) <= vec4(side.rows))"),
    ("product", "min(k / 4u, max", "min(k, max"),
    ("product", "min(4u * first + vec4", "min(first + vec4"),
    ("product", "min(first, max(side.columns, 1u) - 1u)", "min(first, max(side.columns, 2u) - 2u)"),
    ("product", "gate_at(at, i) > vec4", "gate_at(at, i) < vec4"),
    ("product", "more.w + within", "more.w"),
    ("product", "if (!at.adds)", "if (at.adds)"),
    ("product", "write_row(at, row + 1u, column, sums[1]);", "write_row(at, row + 1u, column, sums[2]);"),
    ("product", "let of_model = n_rows[model];", "let of_model = n_rows[0];"),
    ("product", "select(sizes.x, of_model, more.x == 1u)", "sizes.x"),
    ("product", "select(sizes.z, of_model, more.x == 2u)", "sizes.z"),
    ("product", "let k = min(chunk * sizes.w, depth);", "let k = 0u;"),
    ("product", "min(k + sizes.w, depth)", "min(depth, k + sizes.w + 4u)"),
    ("product", "if (k == end || !found.exists)", "if (!found.exists)"),
    ("product", "+ chunk * c.part;", ";"),
    ("product", "tile / tiles.x * TILE_ROWS", "tile * TILE_ROWS"),
    ("product", "tile % tiles.x * (TILE_COLUMNS / 4u)", "tile % tiles.x * TILE_COLUMNS"),
    ("product", "side(b, model, head, b.rows,", "side(b, model, head, 4u * sizes.y,"),
    ("product", "5u + (count - 1u) * size", "5u + count * size"),
    ("product", "n < total", "n + 1u < total"),
    ("product", "return matrix.at + ", "return "),
    ("product", "+ model * matrix.model", ""),
    ("product", "+ head * matrix.head", ""),
    ("product", "sizes.z, sizes.w, table[at + 2u].x", "sizes.w, sizes.z, table[at + 2u].x"),
    ("product_64x64", "k < at.end + DEPTH; k += DEPTH", "k < at.end; k += DEPTH"),
    ("product_64x64", "Eight(tile[a], tile[a + HALF])", "Eight(tile[a], tile[a])"),
    ("product_64x64", "Eight(tile[b], tile[b + HALF])", "Eight(tile[b], tile[b])"),
    ("product_64x64", "tile[b + HALF]", "tile[b + HALF - 1u]"),
    ("product_64x64", "tile[to + 2u * SIDE] = block[2];", "tile[to + 2u * SIDE] = block[1];"),
    ("product_64x64", "first_b, block_b));", "first_b, block_a));"),
    ("product_64x64", "b_here, k + term)", "b_here, k - at.k + term)"),
    ("product_64x64", "n < FACTOR; n += 4u * SIDE", "n + 4u * SIDE < FACTOR; n += 4u * SIDE"),
    ("product_64x64", "column, sums.lower_left);", "column, sums.upper_left);"),
    ("product_64x64", "write_block(at, row + 4u * HALF, column + HALF, sums.lower_right);", ""),
    ("product_64x64", "let first_a = at.i / 4u + neighbour;", "let first_a = neighbour;"),
    ("product_64x64", "let first_b = at.j + neighbour;", "let first_b = neighbour;"),
    ("product_64x64", "row + 4u > side.rows || ", ""),
    ("product_software", "select(vec4<f32>(), terms[3], count > 3u)", "terms[3]"),
    ("product_software", "from1[at.z], from1[at.w]", "from1[at.z], from1[at.z]"),
    ("product_software", "if (at.adds) { value += ", "if (!at.adds) { value += "),
    ("product_software", "from2[at.gate + i] > vec4", "from2[at.gate + i] >= vec4"),
    ("product_software", "select(vec4<f32>(), sum, is_there)", "sum"),
    ("product_software", "k = at.k; k < at.end; k += 4u", "k = at.k; k + 4u < at.end; k += 4u"),
    ("product_software", "starts_of(at.b.at, 4u * j,", "starts_of(at.b.at, j,"),
    ("product_software", "columns_of(at.a, i / 4u)", "columns_of(at.a, i)"),
    ("product_software", "Eight(a.low[1], a.high[1])", "Eight(a.low[1], a.low[1])"),
    ("product_software", "write_block(at, i + 4u, j + 1u, sums.lower_right);", ""),
    ("product_software", "part * a.part + k / 4u", "k / 4u"),
    ("product_software", "part * b.part + rows", "rows"),
    ("product_software", "vec4(side.rows - 1u)", "vec4(side.rows - 2u)"),
    ("product_software", "lane % SIDE * (TILE / 4u)", "lane % SIDE"),
    ("product_subgroup", "subgroupBroadcast(a, 5u)", "subgroupBroadcast(a, 4u)"),
    ("product_subgroup", "if (at.adds) { value += ", "if (!at.adds) { value += "),
    ("product_subgroup", "> vec4<f32>()", ">= vec4<f32>()"),
    ("product_subgroup", "from1[rows.w + k / 4u][i]", "from1[rows.z + k / 4u][i]"),
    ("product_subgroup", "if (j >= at.width || at.i >= at.rows)", "if (j >= at.width)"),
    ("product_subgroup", "select(vec4<f32>(), sums[r], is_there)", "sums[r]"),
    ("product_subgroup", "vec4(max(a.rows, 1u) - 1u)", "vec4(max(a.rows, 2u) - 2u)"),
    (
        "product_subgroup",
        "k = at.k; k < at.end; k++) {\n        add(&sums, from0",
        "k = at.k; k + 1u < at.end; k++) {\n        add(&sums, from0",
    ),
    ("product_subgroup", "min(TILE_ROWS, at.rows - at.i)", "min(TILE_ROWS - 1u, at.rows - at.i)"),
    ("product_subgroup", "let k = min(chunk * sizes.w, depth);", "let k = 0u;"),
    ("product_subgroup", "+ chunk * c.part;", ";"),
    ("product_subgroup", "+ head * matrix.head", ""),
    ("shared", "return N_HEADS * head4()", "return fours(D_MODEL)"),
    ("shared", "(elements + BLOCK - 1u) / BLOCK * BLOCK", "elements"),
    ("shared", "slot % P, P,", "slot % P, 0u,"),
    ("shared", "vec4(0u, 1u, 2u, 3u)", "vec4(0u, 1u, 2u, 2u)"),
    ("shared", "fma(vec4(a.z), b, sums[2])", "fma(vec4(a.w), b, sums[2])"),
    ("shared", "select(block[0], block[1], i == 1u)", "block[0]"),
    ("shared", "min(numbers + 4u,", "min(numbers,"),
    ("shared", "add_outer(sums.lower_left, a.high, b.low)", "add_outer(sums.lower_left, a.low, b.low)"),
    ("shared", "add_outer(sums.upper_right, a.low, b.high)", "add_outer(sums.upper_right, a.low, b.low)"),
    ("shared", "a.high + b.high", "a.high"),
    ("shared", "block_row(tile.lower_left, i - 4u)", "block_row(tile.upper_left, i - 4u)"),
    ("shared", "element(eight.high, i - 4u)", "element(eight.high, i - 5u)"),
    ("shared", "select(v.z, v.w, i == 3u)", "v.z"),
    ("shared", "(n + 3u) / 4u", "n / 4u"),
    ("shared", "return mlp4() + class4();", "return mlp4();"),
];

/// Mutants that the self-check misses, or for which it names other kernels too: they show only at larger sizes than its own, in an
/// update that follows, or in tensors that the launch must not write.
const BEYOND_SELF_CHECK: &[Mutant] = &[
    ("loss", "c += LANES) {\n        if (c != label)", "c += 2u * LANES) {\n        if (c != label)"),
    (
        "stablemax",
        "LANES / 2u; half > 0u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
        "LANES / 4u; half > 0u; half /= 2u) {\n        workgroupBarrier();\n        if (lane % LANES < half) { halves[lane] += halves",
    ),
    ("copy", "5u + (count - 1u) * size", "5u + count * size"),
    ("copy", "n < total", "n + 1u < total"),
    ("copy", "if (part + 1u < matrix.parts) { sum += second; }", ""),
    ("copy", "part < matrix.parts; part += 4u", "part < matrix.parts; part += 8u"),
    ("copy", "min(part + 2u, last) * matrix.part", "min(part + 2u, last)"),
    ("copy", "return matrix.at + ", "return "),
    ("copy", "step[group.z] += 1u", "step[group.z] += 2u"),
    ("orthogonal", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    ("orthogonal", "LANES / 2u; half", "LANES / 4u; half"),
    ("orthonormal", "half > 0u; half /= 2u", "half > 1u; half /= 2u"),
    ("dots", "(partial[of_row + 6u] + partial[of_row + 7u]));", "partial[of_row + 6u]);"),
    ("product", "c.at + within", "within"),
    ("compose", "if (chunk + 2u < chunks) { sum += z; }", ""),
    ("compose", "chunk < chunks; chunk += 4u", "chunk < chunks; chunk += 8u"),
    ("compose", "LANES / 2u", "LANES / 4u"),
    ("compose", "entry += LANES", "entry += 2u * LANES"),
    ("slots", "n * 2u * model4()", "n * model4()"),
    ("slots", "LANES / 2u", "LANES / 4u"),
    ("slots", "first += d.x;", "first = d.x;"),
    ("rows", "min(LANES, end - first)", "min(LANES / 2u, end - first)"),
    ("rows", "first < end; first += LANES", "first < end; first += 2u * LANES"),
    ("dots", "(partial[at + 6u] + partial[at + 7u]));", "partial[at + 6u]);"),
    ("dots", "reader += LANES", "reader += 2u * LANES"),
    ("product", "return block + rest_of_parts(side, at);", "return block;"),
    ("product", "part < side.parts; part += 4u", "part < side.parts; part += 8u"),
    ("product", "if (part + 2u < side.parts) { sum += third; }", ""),
    ("product_64x64", "first = four_of(side.buffer, at + part * side.part)", "first = four_of(side.buffer, at)"),
    ("product_subgroup", "a.parts + b.parts > 2u", "a.parts + b.parts > 100u"),
    ("product_subgroup", "part < a.parts", "part < 1u"),
    ("product_subgroup", "part * b.part + min(j", "b.part + min(j"),
];

/// Mutants that the comparison with twins misses, because they stay within its bounds or show only when a dispatch runs several calls. They
/// change bits of a training step.
const OF_BITS: &[Mutant] = &[
    // The order in which parts of a sum are added.
    (
        "product",
        "if (part + 1u < side.parts) { sum += second; }\n        if (part + 2u < side.parts) { sum += third; }",
        "if (part + 2u < side.parts) { sum += third; }\n        if (part + 1u < side.parts) { sum += second; }",
    ),
    (
        "product_64x64",
        "if (part + 1u < side.parts) { sum += second; }\n        if (part + 2u < side.parts) { sum += third; }",
        "if (part + 2u < side.parts) { sum += third; }\n        if (part + 1u < side.parts) { sum += second; }",
    ),
    (
        "copy",
        "sum += first;\n        if (part + 1u < matrix.parts) { sum += second; }",
        "if (part + 1u < matrix.parts) { sum += second; }\n        sum += first;",
    ),
    // Entries of a table beyond the first.
    ("product", "n - first, n < total", "n, n < total"),
    ("product_64x64", "n - first, n < total", "n, n < total"),
    ("copy", "n - first, n < total", "n, n < total"),
    ("copy_software", "n - first, n < total", "n, n < total"),
    ("copy_software", "four = from2[i]", "four = from2[i / 2u]"),
    ("copy_software", "four = from1[i]", "four = from1[i / 2u]"),
    ("product", "reached(table[1], n) + reached(table[2], n)", "reached(table[1], n)"),
    ("copy", "last_reached(table[1], n), last_reached(table[2], n)", "last_reached(table[1], n), 0u"),
    // Trees for a maximum, which moves what the exponential is taken of.
    ("loss", "half > 0u; half /= 2u) {", "half > 1u; half /= 2u) {"),
    ("loss", "max(halves[lane], halves[lane + half])", "halves[lane + half]"),
];

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
