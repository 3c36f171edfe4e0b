// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); nn may add to what is there
//
// As product.wgsl, for subgroups of eight: a workgroup is one, and its lanes hand each other their part of A. That suits
// software adapters, where a load is a loop over the lanes and arithmetic is vectors: each lane loads four numbers of
// A and four of B for a step of k, and multiplies 32 rows by 4 columns with them.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;              // [model]
@group(0) @binding(1) var<storage, read> geometry: array<u32>;            // where the matrices stand, see shared/place.wgsl
@group(0) @binding(2) var<storage, read> A: array<vec4<f32>>;             // [model, batch, i, k], or [.., k, i] for tn
@group(0) @binding(3) var<storage, read> B: array<vec4<f32>>;             // [model, batch, k, j], or [.., j, k] for nt
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;          // [model, i, j]
@group(0) @binding(5) var<storage, read_write> C: array<vec4<f32>>;       // [model, batch, i, j]

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

// Where this lane's four rows of A begin, for nn and nt.
fn a_rows(at: Place, lane: u32) -> vec4<u32> {
    return at.a + min(vec4(at.i + 4u * lane) + vec4(0u, 1u, 2u, 3u), vec4(at.rows - 1u)) * at.a_row;
}

fn a_at(rows: vec4<u32>, k: u32) -> vec4<f32> {
    let i = k % 4u;
    return vec4(A[rows.x + k / 4u][i], A[rows.y + k / 4u][i], A[rows.z + k / 4u][i], A[rows.w + k / 4u][i]);
}

fn sums_nn(at: Place, j: u32, lane: u32) -> Sums {
    var sums: Sums;
    let rows = a_rows(at, lane);
    let b = at.b + column4(at, j);
    for (var k = 0u; k < at.depth; k++) {
        add(&sums, a_at(rows, k), B[b + k * at.b_row]);
    }
    return sums;
}

fn sums_nt(at: Place, j: u32, lane: u32) -> Sums {
    var sums: Sums;
    let rows = a_rows(at, lane);
    let columns = at.b + (4u * column4(at, j) + vec4(0u, 1u, 2u, 3u)) * at.b_row;
    for (var k = 0u; k < at.depth; k++) {
        let i = k % 4u;
        let to = columns + k / 4u;
        add(&sums, a_at(rows, k), vec4(B[to.x][i], B[to.y][i], B[to.z][i], B[to.w][i]));
    }
    return sums;
}

fn sums_tn(at: Place, j: u32, lane: u32) -> Sums {
    var sums: Sums;
    let rows = at.a + min(at.i / 4u + lane, at.rows / 4u - 1u);
    let b = at.b + column4(at, j);
    for (var k = 0u; k < at.depth; k++) {
        add(&sums, A[rows + k * at.a_row], B[b + k * at.b_row]);
    }
    return sums;
}

@compute @workgroup_size(8)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    var sums = sums_nn(at, j, lane);
    for (var r = 0u; r < rows_written(at, j); r++) {
        var value = sums[r];
        if (at.adds) { value += C[c_at(at, j, r)]; }
        C[c_at(at, j, r)] = value;
    }
}

@compute @workgroup_size(8)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    var sums = sums_nt(at, j, lane);
    for (var r = 0u; r < rows_written(at, j); r++) {
        C[c_at(at, j, r)] = sums[r];
    }
}

@compute @workgroup_size(8)
fn nt_gated(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    var sums = sums_nt(at, j, lane);
    for (var r = 0u; r < rows_written(at, j); r++) {
        C[c_at(at, j, r)] = select(vec4<f32>(), sums[r], gate[c_at(at, j, r)] > vec4<f32>());
    }
}

@compute @workgroup_size(8)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    var sums = sums_tn(at, j, lane);
    for (var r = 0u; r < rows_written(at, j); r++) {
        C[c_at(at, j, r)] = sums[r];
    }
}
