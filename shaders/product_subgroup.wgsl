// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); may be added to what is there
//
// As product.wgsl, for subgroups of eight: a workgroup is one, and its lanes hand each other their part of A. That suits
// software adapters, where a load is a loop over the lanes and arithmetic is vectors: each lane loads four numbers of
// A and four of B for a step of k, and multiplies 32 rows by 4 columns with them.
//
// Its table has one entry: A lies in from0, B in from1, the gate in from2, and C in into0.

const TILE_ROWS = 32u;
const TILE_COLUMNS = 32u;

// Row r of the tile, four columns of it.
alias Sums = array<vec4<f32>, TILE_ROWS>;

fn add_four(sums: ptr<function, Sums>, first: u32, x: vec4<f32>, b: vec4<f32>) {
    (*sums)[first] = fma(vec4(x.x), b, (*sums)[first]);
    (*sums)[first + 1u] = fma(vec4(x.y), b, (*sums)[first + 1u]);
    (*sums)[first + 2u] = fma(vec4(x.z), b, (*sums)[first + 2u]);
    (*sums)[first + 3u] = fma(vec4(x.w), b, (*sums)[first + 3u]);
}

// Lane l holds rows 4 l to 4 l + 3 of A at one k.
fn add(sums: ptr<function, Sums>, a: vec4<f32>, b: vec4<f32>) {
    add_four(sums, 0u, subgroupBroadcast(a, 0u), b);
    add_four(sums, 4u, subgroupBroadcast(a, 1u), b);
    add_four(sums, 8u, subgroupBroadcast(a, 2u), b);
    add_four(sums, 12u, subgroupBroadcast(a, 3u), b);
    add_four(sums, 16u, subgroupBroadcast(a, 4u), b);
    add_four(sums, 20u, subgroupBroadcast(a, 5u), b);
    add_four(sums, 24u, subgroupBroadcast(a, 6u), b);
    add_four(sums, 28u, subgroupBroadcast(a, 7u), b);
}

// Where this lane's four rows of A begin, where they are rows of C.
fn a_rows(a: Side, i: u32) -> vec4<u32> {
    return a.at + min(vec4(i) + vec4(0u, 1u, 2u, 3u), vec4(max(a.rows, 1u) - 1u)) * a.row;
}

fn a_at(rows: vec4<u32>, k: u32) -> vec4<f32> {
    let i = k % 4u;
    return vec4(from0[rows.x + k / 4u][i], from0[rows.y + k / 4u][i], from0[rows.z + k / 4u][i], from0[rows.w + k / 4u][i]);
}

// Where this lane's four columns of C begin, where they are rows of B.
fn b_rows(b: Side, j: u32) -> vec4<u32> {
    return b.at + min(4u * j + vec4(0u, 1u, 2u, 3u), vec4(b.rows - 1u)) * b.row;
}

fn b_at(rows: vec4<u32>, k: u32) -> vec4<f32> {
    let i = k % 4u;
    return vec4(from1[rows.x + k / 4u][i], from1[rows.y + k / 4u][i], from1[rows.z + k / 4u][i], from1[rows.w + k / 4u][i]);
}

fn sums_nn(at: Place, a: Side, b: Side, i: u32, j: u32) -> Sums {
    var sums: Sums;
    let rows = a_rows(a, i);
    let of_b = b.at + min(j, b.columns - 1u);
    for (var k = at.k; k < at.end; k++) {
        add(&sums, a_at(rows, k), from1[of_b + k * b.row]);
    }
    return sums;
}

fn sums_nt(at: Place, a: Side, b: Side, i: u32, j: u32) -> Sums {
    var sums: Sums;
    let rows = a_rows(a, i);
    let columns = b_rows(b, j);
    for (var k = at.k; k < at.end; k++) {
        add(&sums, a_at(rows, k), b_at(columns, k));
    }
    return sums;
}

fn sums_tn(at: Place, a: Side, b: Side, i: u32, j: u32) -> Sums {
    var sums: Sums;
    let of_a = a.at + min(i / 4u, a.columns - 1u);
    let of_b = b.at + min(j, b.columns - 1u);
    for (var k = at.k; k < at.end; k++) {
        add(&sums, from0[of_a + k * a.row], from1[of_b + k * b.row]);
    }
    return sums;
}

// Where a factor has parts: they are small, so nothing is spared here.
fn sums_of_parts(at: Place, a: Side, b: Side, i: u32, j: u32) -> Sums {
    var sums: Sums;
    for (var k = at.k; k < at.end; k++) {
        var of_a = vec4<f32>();
        for (var part = 0u; part < a.parts; part++) {
            if (a.rows_are_k) {
                of_a += from0[a.at + part * a.part + min(i / 4u, a.columns - 1u) + k * a.row];
            } else {
                of_a += a_at(part * a.part + a_rows(a, i), k);
            }
        }
        var of_b = vec4<f32>();
        for (var part = 0u; part < b.parts; part++) {
            if (b.rows_are_k) {
                of_b += from1[b.at + part * b.part + min(j, b.columns - 1u) + k * b.row];
            } else {
                of_b += b_at(part * b.part + b_rows(b, j), k);
            }
        }
        add(&sums, of_a, of_b);
    }
    return sums;
}

fn sums_of(at: Place, a: Side, b: Side, i: u32, j: u32) -> Sums {
    if (a.parts + b.parts > 2u) { return sums_of_parts(at, a, b, i, j); }
    if (a.rows_are_k) { return sums_tn(at, a, b, i, j); }
    if (b.rows_are_k) { return sums_nn(at, a, b, i, j); }
    return sums_nt(at, a, b, i, j);
}

@compute @workgroup_size(8)
fn multiply(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let group = here(launched);
    let at = place(group, groups);
    let j = at.j + lane;
    var sums = sums_of(at, at.a, at.b, at.i + 4u * lane, j);
    if (j >= at.width || at.i >= at.rows) { return; }
    // Of rows of B that there are not, as of heads up to whole vec4s, C is 0.
    let is_there = vec4<bool>(at.b.rows_are_k) | (4u * j + vec4(0u, 1u, 2u, 3u) < vec4(at.b.rows));
    for (var r = 0u; r < min(TILE_ROWS, at.rows - at.i); r++) {
        let i = (at.i + r) * at.row + j;
        var value = select(vec4<f32>(), sums[r], is_there);
        if (at.gate_from < 3u) { value = select(vec4<f32>(), value, from2[at.gate + i] > vec4<f32>()); }
        if (at.adds) { value += into0[at.c + i]; }
        into0[at.c + i] = value;
    }
}
