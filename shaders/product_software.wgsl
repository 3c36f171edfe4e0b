// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); may be added to what is there
//
// The same products as product.wgsl, for software adapters: there barriers are expensive, and both branches of an `if` are executed. Each lane
// computes 8 x 8 elements of C without workgroup memory, with a loop for each layout of the factors.
//
// Its table has one entry: A lies in from0, B in from1, the gate in from2, and C in into0.

const LANES = 64u;
const TILE_ROWS = 64u;
const TILE_COLUMNS = 64u;
const SIDE = 8u;         // lanes beside each other, and under each other: TILE_ROWS / TILE

// Four terms of eight neighbours along i or j: column n of each matrix is term n.
struct Terms {
    low: mat4x4<f32>,
    high: mat4x4<f32>,
}

fn add_terms(sums: Tile, a: Terms, b: Terms) -> Tile {
    let one = add_to_tile(sums, Eight(a.low[0], a.high[0]), Eight(b.low[0], b.high[0]));
    let two = add_to_tile(one, Eight(a.low[1], a.high[1]), Eight(b.low[1], b.high[1]));
    let three = add_to_tile(two, Eight(a.low[2], a.high[2]), Eight(b.low[2], b.high[2]));
    return add_to_tile(three, Eight(a.low[3], a.high[3]), Eight(b.low[3], b.high[3]));
}

fn a_four(at: vec4<u32>) -> mat4x4<f32> { return mat4x4(from0[at.x], from0[at.y], from0[at.z], from0[at.w]); }
fn b_four(at: vec4<u32>) -> mat4x4<f32> { return mat4x4(from1[at.x], from1[at.y], from1[at.z], from1[at.w]); }

// Of factors stored [i, k] or [j, k].
fn a_of_rows(a: Side, rows: Starts, k: u32) -> Terms {
    var terms = Terms();
    for (var part = 0u; part < a.parts; part++) {
        let at = part * a.part + k / 4u;
        terms = Terms(terms.low + a_four(rows.low + at), terms.high + a_four(rows.high + at));
    }
    return Terms(transpose(terms.low), transpose(terms.high));
}

fn b_of_rows(b: Side, rows: Starts, k: u32) -> Terms {
    var terms = Terms();
    for (var part = 0u; part < b.parts; part++) {
        let at = part * b.part + k / 4u;
        terms = Terms(terms.low + b_four(rows.low + at), terms.high + b_four(rows.high + at));
    }
    return Terms(transpose(terms.low), transpose(terms.high));
}

// Of factors stored [k, i] or [k, j]: four rows, each at two neighbouring vec4s. Beyond the edges it reads the last row and column again.
fn rows_of_k(side: Side, k: u32) -> vec4<u32> {
    return side.at + min(k + vec4(0u, 1u, 2u, 3u), vec4(side.rows - 1u)) * side.row;
}

fn columns_of(side: Side, column: u32) -> vec2<u32> { return min(column + vec2(0u, 1u), vec2(side.columns - 1u)); }

fn a_of_columns(a: Side, columns: vec2<u32>, k: u32) -> Terms {
    var terms = Terms();
    let rows = rows_of_k(a, k);
    for (var part = 0u; part < a.parts; part++) {
        let at = part * a.part + rows;
        terms = Terms(terms.low + a_four(at + columns.x), terms.high + a_four(at + columns.y));
    }
    return Terms(up_to(terms.low, a.rows - k), up_to(terms.high, a.rows - k));
}

fn b_of_columns(b: Side, columns: vec2<u32>, k: u32) -> Terms {
    var terms = Terms();
    let rows = rows_of_k(b, k);
    for (var part = 0u; part < b.parts; part++) {
        let at = part * b.part + rows;
        terms = Terms(terms.low + b_four(at + columns.x), terms.high + b_four(at + columns.y));
    }
    return terms;
}

// Keeps the first `count` terms and zeroes the rest.
fn up_to(terms: mat4x4<f32>, count: u32) -> mat4x4<f32> {
    return mat4x4(
        terms[0],
        select(vec4<f32>(), terms[1], count > 1u),
        select(vec4<f32>(), terms[2], count > 2u),
        select(vec4<f32>(), terms[3], count > 3u),
    );
}

fn sums_nn(at: Place, i: u32, j: u32) -> Tile {
    var sums = Tile();
    let rows = starts_of(at.a.at, i, at.a.rows, at.a.row);
    let columns = columns_of(at.b, j);
    for (var k = at.k; k < at.end; k += 4u) {
        sums = add_terms(sums, a_of_rows(at.a, rows, k), b_of_columns(at.b, columns, k));
    }
    return sums;
}

fn sums_nt(at: Place, i: u32, j: u32) -> Tile {
    var sums = Tile();
    let rows = starts_of(at.a.at, i, at.a.rows, at.a.row);
    let columns = starts_of(at.b.at, 4u * j, at.b.rows, at.b.row);
    for (var k = at.k; k < at.end; k += 4u) {
        sums = add_terms(sums, a_of_rows(at.a, rows, k), b_of_rows(at.b, columns, k));
    }
    return sums;
}

fn sums_tn(at: Place, i: u32, j: u32) -> Tile {
    var sums = Tile();
    let rows = columns_of(at.a, i / 4u);
    let columns = columns_of(at.b, j);
    for (var k = at.k; k < at.end; k += 4u) {
        sums = add_terms(sums, a_of_columns(at.a, rows, k), b_of_columns(at.b, columns, k));
    }
    return sums;
}

fn sums_of(at: Place, i: u32, j: u32) -> Tile {
    if (at.a.rows_are_k) { return sums_tn(at, i, j); }
    if (at.b.rows_are_k) { return sums_nn(at, i, j); }
    return sums_nt(at, i, j);
}

fn write_row(at: Place, row: u32, j: u32, sum: vec4<f32>) {
    if (row >= at.rows || j >= at.width) { return; }
    // Columns of C that have no row of B are padding and stay 0 (heads are padded to whole vec4s).
    let is_there = vec4<bool>(at.b.rows_are_k) | (4u * j + vec4(0u, 1u, 2u, 3u) < vec4(at.b.rows));
    let i = row * at.row + j;
    var value = select(vec4<f32>(), sum, is_there);
    if (at.gate_from < 3u) { value = select(vec4<f32>(), value, from2[at.gate + i] > vec4<f32>()); }
    if (at.adds) { value += into0[at.c + i]; }
    into0[at.c + i] = value;
}

fn write_block(at: Place, row: u32, j: u32, sums: mat4x4<f32>) {
    write_row(at, row, j, sums[0]);
    write_row(at, row + 1u, j, sums[1]);
    write_row(at, row + 2u, j, sums[2]);
    write_row(at, row + 3u, j, sums[3]);
}

@compute @workgroup_size(LANES)
fn multiply(
    @builtin(workgroup_id) launched: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = place(here(launched), groups);
    let i = at.i + lane / SIDE * TILE;
    let j = at.j + lane % SIDE * (TILE / 4u);
    if (i >= at.rows || j >= at.width) { return; }
    let sums = sums_of(at, i, j);
    write_block(at, i, j, sums.upper_left);
    write_block(at, i, j + 1u, sums.upper_right);
    write_block(at, i + 4u, j, sums.lower_left);
    write_block(at, i + 4u, j + 1u, sums.lower_right);
}
