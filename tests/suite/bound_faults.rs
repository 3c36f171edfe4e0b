//! Faults planted in shaders, each of which the sanitizer must find.

use grokscope::sanitizer::Kind;

/// A fault: where, what is replaced by what, and what it must be found as. Found means: in that file, of that kind.
pub struct Planted {
    pub name: &'static str,
    pub program: &'static str,
    pub shader: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub kind: Kind,
}

const fn planted(
    name: &'static str,
    [program, shader]: [&'static str; 2],
    [from, to]: [&'static str; 2],
    kind: Kind,
) -> Planted {
    Planted { name, program, shader, from, to, kind }
}

pub const PLANTED: &[Planted] = &[
    planted(
        "a row too many",
        ["composed", "rows"],
        ["head >= N_HEADS || row >= n_rows[model]", "head >= N_HEADS || row > n_rows[model]"],
        Kind::NeverWritten,
    ),
    planted(
        "a slot too many",
        ["composed", "slots"],
        [
            "if (column >= model4() || slot > slot_equals()) { return; }\n    let i =",
            "if (column >= model4()) { return; }\n    let i =",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "no barrier before the tile is read",
        ["composed", "product"],
        ["= block[3];\n        workgroupBarrier();", "= block[3];"],
        Kind::Race,
    ),
    planted(
        "no barrier before the tile is written again",
        ["composed", "product"],
        ["workgroupBarrier();\n        tile[to] = block[0];", "tile[to] = block[0];"],
        Kind::Race,
    ),
    planted(
        "part of the tile is not filled",
        ["composed", "product"],
        ["tile[to + 2u * SIDE] = block[2];", ""],
        Kind::NeverWritten,
    ),
    planted(
        "the tile is too small",
        ["composed", "product"],
        ["array<vec4<f32>, 256>", "array<vec4<f32>, 248>"],
        Kind::OutOfBounds,
    ),
    planted(
        "two heads write one place",
        ["composed", "product"],
        ["model * c.model + head * c.head", "model * c.model"],
        Kind::Race,
    ),
    planted(
        "neighbours overlap",
        ["composed", "adamw"],
        ["let i = block * BLOCK + lane;", "let i = block * BLOCK + lane / 2u;"],
        Kind::Race,
    ),
    planted(
        "beyond the end of an arena",
        ["composed", "adamw"],
        ["let i = block * BLOCK + lane;", "let i = block * BLOCK + lane + 1u;"],
        Kind::OutOfBounds,
    ),
    planted(
        "a class too many",
        ["layered", "loss_software"],
        [
            "for (var c = 0u; c < D_VOCAB_OUT; c++) {\n        d_logits",
            "for (var c = 0u; c <= D_VOCAB_OUT; c++) {\n        d_logits",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "rows of another slot",
        ["composed", "rows"],
        ["let end = slot_edges[edges + 1u];", "let end = slot_edges[edges + 2u] + 1u;"],
        Kind::OutOfBounds,
    ),
    planted(
        "a part of the output is left out",
        ["composed", "rows"],
        ["pattern[first + 1u] = out.y;", "if (row != 0u) { pattern[first + 1u] = out.y; }"],
        Kind::NeverWritten,
    ),
    planted(
        "the next model's part",
        ["composed", "rows"],
        ["let weights = pattern_at(model, row);", "let weights = pattern_at(model + 1u, row);"],
        Kind::OutOfBounds,
    ),
    planted(
        "a barrier in one half of the lanes",
        ["composed", "dots"],
        [
            "    let edges = part(model, 2u * P + 2u) + slot;",
            "    if (lane < 32u) { workgroupBarrier(); }\n    let edges = part(model, 2u * P + 2u) + slot;",
        ],
        Kind::DivergentBarrier,
    ),
    planted(
        "a component that a vector does not have",
        ["composed in subgroups", "product_subgroup"],
        ["let i = k % 4u;", "let i = k % 5u;"],
        Kind::OutOfBounds,
    ),
    planted(
        "division by zero",
        ["composed", "slots"],
        ["return slot / P; }", "return slot / (slot - slot); }"],
        Kind::DivisionByZero,
    ),
    planted(
        "a lane that there is not",
        ["composed in subgroups", "dots_subgroup"],
        ["subgroupBroadcast(lines, 7u)", "subgroupBroadcast(lines, 8u)"],
        Kind::InactiveLane,
    ),
    planted(
        "rows of A beyond the edge",
        ["composed in subgroups", "product_subgroup"],
        ["min(vec4(i) + vec4(0u, 1u, 2u, 3u), vec4(max(a.rows, 1u) - 1u))", "(vec4(i) + vec4(0u, 1u, 2u, 3u))"],
        Kind::OutOfBounds,
    ),
    planted(
        "two lanes write components of one vector",
        ["composed", "copy"],
        [
            "into0[to] = values;",
            "into0[to].x = values.x; into0[to].y = values.y; into0[to].z = values.z;
        if (4u * spot.column + 4u < into.columns) { into0[to + 1u].w = values.w; }",
        ],
        Kind::Race,
    ),
    planted(
        "a loop that stands still",
        ["layered", "loss_software"],
        ["for (var c = 1u; c < D_VOCAB_OUT; c++)", "for (var c = 1u; c < D_VOCAB_OUT; c += 0u)"],
        Kind::Endless,
    ),
    planted(
        "an entry beyond the table",
        ["composed", "copy"],
        ["5u + (count - 1u) * size", "5u + count * size"],
        Kind::OutOfBounds,
    ),
    planted(
        "columns beyond the end of the parameters",
        ["composed", "copy"],
        ["spot.row >= matrix.rows || column >= matrix.columns", "spot.row >= matrix.rows"],
        Kind::OutOfBounds,
    ),
    planted(
        "rows of a factor that there are not",
        ["composed", "product"],
        [
            "min(4u * first + vec4(0u, 1u, 2u, 3u), vec4(max(side.rows, 1u) - 1u))",
            "(4u * first + vec4(0u, 1u, 2u, 3u))",
        ],
        Kind::OutOfBounds,
    ),
    planted(
        "no barrier between two sums",
        ["composed", "slots"],
        ["workgroupBarrier();\n    sums[lane] = x;", "sums[lane] = x;"],
        Kind::Race,
    ),
    planted(
        "a tree without barriers",
        ["composed", "loss"],
        ["workgroupBarrier();\n        if (lane % LANES < half)", "if (lane % LANES < half)"],
        Kind::Race,
    ),
    planted(
        "no barrier before sums take the place of their terms",
        ["composed", "dots"],
        ["workgroupBarrier();\n            partial[lane] = sum;", "partial[lane] = sum;"],
        Kind::Race,
    ),
    planted(
        "lanes beyond the last row leave theirs out",
        ["composed", "rows"],
        ["rows_here[lane] = row;", "if (first + lane < end) { rows_here[lane] = row; }"],
        Kind::NeverWritten,
    ),
];
