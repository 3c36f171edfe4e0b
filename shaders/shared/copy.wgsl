
// into = factor from, 0 beyond its edges (pad);  into = from + also + factor x^T y, of which some may be missing (unpack);  step += 1 (tick)
//
// Parameters in whole vec4s, the way back to them, and the counter of updates. A dispatch does all of a table. copy.wgsl and
// copy_software.wgsl each add `four_at` and `parts_at`.

@group(0) @binding(0) var<storage, read> table: array<vec4<u32>>;          // [entry, vec4]
@group(0) @binding(1) var<storage, read> params: array<f32>;               // [parameter, model, element]
@group(0) @binding(2) var<storage, read_write> into0: array<vec4<f32>>;    // two buffers that parameters go to
@group(0) @binding(3) var<storage, read_write> into1: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> step: array<u32>;           // [model]
@group(0) @binding(5) var<storage, read> from0: array<vec4<f32>>;          // three buffers that gradients come from
@group(0) @binding(6) var<storage, read> from1: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> from2: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> grads: array<f32>;          // [parameter, model, element]

const LANES = 64u;
const SIZE = 16u;        // vec4s of an entry

// Four neighbours of a row of what is written, the last of which may not be there.
struct Spot {
    model: u32,
    head: u32,
    row: u32,
    column: u32,      // in vec4s
    exists: bool,
}

fn spot(found: Found, lane: u32, model: u32, into: Operand, heads: u32) -> Spot {
    let n = found.workgroup * LANES + lane;
    let width = (into.columns + 3u) / 4u;
    let head = n / width / into.rows;
    return Spot(model, head, n / width % into.rows, n % width, found.exists && head < heads);
}

fn parameter(matrix: Operand, at: u32, spot: Spot, i: u32) -> f32 {
    let column = 4u * spot.column + i;
    if (spot.row >= matrix.rows || column >= matrix.columns) { return 0.0; }
    return params[at + spot.row * matrix.row + column];
}

@compute @workgroup_size(LANES)
fn pad(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let found = entry_of(group, groups, SIZE);
    let how = table[found.at];      // 1 if it counts, and copies nothing; heads; the bits of a factor
    let source = operand(found.at + 1u);
    let into = operand(found.at + 13u);
    if (how.x == 1u) {
        if (found.exists && lane == 0u) { step[group.z] += 1u; }
        return;
    }
    let spot = spot(found, lane, group.z, into, how.y);
    if (!spot.exists) { return; }
    let at = matrix_at(source, spot.model, spot.head);
    let values = vec4(
        parameter(source, at, spot, 0u),
        parameter(source, at, spot, 1u),
        parameter(source, at, spot, 2u),
        parameter(source, at, spot, 3u),
    ) * bitcast<f32>(how.z);
    let to = matrix_at(into, spot.model, spot.head) + spot.row * into.row + spot.column;
    if (into.buffer == 0u) { into0[to] = values; } else { into1[to] = values; }
}

// A source, or 0 if there is none.
fn source_at(matrix: Operand, spot: Spot) -> vec4<f32> {
    return parts_at(matrix, matrix_at(matrix, spot.model, spot.head) + spot.row * matrix.row + spot.column);
}

// A row of x^T y, or 0 if they are missing: x is a number for each row, y one for each column. Both have one part.
fn outer_at(x: Operand, y: Operand, spot: Spot) -> vec4<f32> {
    var outer = vec4<f32>();
    for (var part = 0u; part < x.parts; part++) {
        let of_row = four_at(x.buffer, matrix_at(x, spot.model, spot.head) + spot.row / 4u);
        let of_columns = four_at(y.buffer, matrix_at(y, spot.model, spot.head) + spot.column);
        outer += element(of_row, spot.row % 4u) * of_columns;
    }
    return outer;
}

@compute @workgroup_size(LANES)
fn unpack(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let found = entry_of(group, groups, SIZE);
    let how = table[found.at];
    let into = operand(found.at + 13u);
    let spot = spot(found, lane, group.z, into, how.y);
    if (!spot.exists) { return; }
    let sources = source_at(operand(found.at + 1u), spot) + source_at(operand(found.at + 4u), spot);
    let values = sources + bitcast<f32>(how.z) * outer_at(operand(found.at + 7u), operand(found.at + 10u), spot);
    let to = matrix_at(into, spot.model, spot.head) + spot.row * into.row + 4u * spot.column;
    for (var i = 0u; i < min(4u, into.columns - 4u * spot.column); i++) { grads[to + i] = element(values, i); }
}
