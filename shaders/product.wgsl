// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); nn may add to what is there
//
// C is [i, j], and k is summed over. A lane computes TILE_ROWS rows by 4 columns of C; the lanes of a workgroup lie beside
// each other and share their rows of A, which they fetch together, DEPTH of k at a time.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;              // [model]
@group(0) @binding(1) var<storage, read> geometry: array<u32>;            // where the matrices stand, see shared/place.wgsl
@group(0) @binding(2) var<storage, read> A: array<vec4<f32>>;             // [model, batch, i, k], or [.., k, i] for tn
@group(0) @binding(3) var<storage, read> B: array<vec4<f32>>;             // [model, batch, k, j], or [.., j, k] for nt
@group(0) @binding(4) var<storage, read> gate: array<vec4<f32>>;          // [model, i, j]
@group(0) @binding(5) var<storage, read_write> C: array<vec4<f32>>;       // [model, batch, i, j]

const LANES = 32u;
const TILE_ROWS = 16u;
const TILE_COLUMNS = 128u;   // 4 LANES
const DEPTH = 32u;

// TILE_ROWS rows of A by DEPTH of k: [k / 4][row], a vec4 along k. Constant row indices need no bounds check at run time.
var<workgroup> tile: array<array<vec4<f32>, TILE_ROWS>, 8>;

// TILE_ROWS rows of C by four columns: column r of `first` is row r, of `second` row 4 + r, and so on.
struct Sums {
    first: mat4x4<f32>,
    second: mat4x4<f32>,
    third: mat4x4<f32>,
    fourth: mat4x4<f32>,
}

// A row of C after four more terms: sum + a[0] b[0] + a[1] b[1] + a[2] b[2] + a[3] b[3]
fn add_terms(sum: vec4<f32>, a: vec4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(a.w), b[3], fma(vec4(a.z), b[2], fma(vec4(a.y), b[1], fma(vec4(a.x), b[0], sum))));
}

fn add_to_all(sums: Sums, k4: u32, b: mat4x4<f32>) -> Sums {
    return Sums(
        mat4x4(
            add_terms(sums.first[0], tile[k4][0], b),
            add_terms(sums.first[1], tile[k4][1], b),
            add_terms(sums.first[2], tile[k4][2], b),
            add_terms(sums.first[3], tile[k4][3], b),
        ),
        mat4x4(
            add_terms(sums.second[0], tile[k4][4], b),
            add_terms(sums.second[1], tile[k4][5], b),
            add_terms(sums.second[2], tile[k4][6], b),
            add_terms(sums.second[3], tile[k4][7], b),
        ),
        mat4x4(
            add_terms(sums.third[0], tile[k4][8], b),
            add_terms(sums.third[1], tile[k4][9], b),
            add_terms(sums.third[2], tile[k4][10], b),
            add_terms(sums.third[3], tile[k4][11], b),
        ),
        mat4x4(
            add_terms(sums.fourth[0], tile[k4][12], b),
            add_terms(sums.fourth[1], tile[k4][13], b),
            add_terms(sums.fourth[2], tile[k4][14], b),
            add_terms(sums.fourth[3], tile[k4][15], b),
        ),
    );
}

// A vec4 along k of a row of A, 0 beyond the depth.
fn a_along_k(at: Place, row: u32, k4: u32) -> vec4<f32> {
    if (4u * k4 >= at.depth) { return vec4<f32>(); }
    return A[at.a + min(at.i + row, at.rows - 1u) * at.a_row + k4];
}

// The tile of A for nn and nt, in A's own layout. A lane fetches four vec4s of one row, eight elements of k apart.
fn fetch_rows(at: Place, k: u32, lane: u32) {
    let row = lane % TILE_ROWS;
    let first = lane / TILE_ROWS;
    let a0 = a_along_k(at, row, k / 4u + first);
    let a1 = a_along_k(at, row, k / 4u + first + 2u);
    let a2 = a_along_k(at, row, k / 4u + first + 4u);
    let a3 = a_along_k(at, row, k / 4u + first + 6u);
    workgroupBarrier();
    tile[first][row] = a0;
    tile[first + 2u][row] = a1;
    tile[first + 4u][row] = a2;
    tile[first + 6u][row] = a3;
    workgroupBarrier();
}

// Four columns of A at one k, 0 beyond the depth.
fn a_along_i(at: Place, k: u32, i4: u32) -> vec4<f32> {
    if (k >= at.depth) { return vec4<f32>(); }
    return A[at.a + k * at.a_row + i4];
}

// The tile of A for tn, where the rows of C are columns of A. Each lane transposes a block of 4 x 4.
fn fetch_columns(at: Place, k: u32, lane: u32) {
    let k4 = lane / 4u;
    let first = lane % 4u * 4u;
    let i4 = min((at.i + first) / 4u, at.rows / 4u - 1u);
    let of_k = k + 4u * k4;
    let rows = transpose(mat4x4(
        a_along_i(at, of_k, i4),
        a_along_i(at, of_k + 1u, i4),
        a_along_i(at, of_k + 2u, i4),
        a_along_i(at, of_k + 3u, i4),
    ));
    workgroupBarrier();
    tile[k4][first] = rows[0];
    tile[k4][first + 1u] = rows[1];
    tile[k4][first + 2u] = rows[2];
    tile[k4][first + 3u] = rows[3];
    workgroupBarrier();
}

// Four vec4s of B, `stride` apart.
fn b_at(first: u32, stride: u32) -> mat4x4<f32> {
    return mat4x4(B[first], B[first + stride], B[first + 2u * stride], B[first + 3u * stride]);
}

fn sums_nn(at: Place, j: u32, lane: u32) -> Sums {
    var sums = Sums();
    let b = at.b + column4(at, j);
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, at.depth - k) / 4u; k4++) {
            sums = add_to_all(sums, k4, b_at(b + (k + 4u * k4) * at.b_row, at.b_row));
        }
    }
    return sums;
}

fn sums_nt(at: Place, j: u32, lane: u32) -> Sums {
    var sums = Sums();
    let b = at.b + 4u * column4(at, j) * at.b_row;
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, at.depth - k) / 4u; k4++) {
            sums = add_to_all(sums, k4, transpose(b_at(b + k / 4u + k4, at.b_row)));
        }
    }
    return sums;
}

// A row of B at k, or the last one beyond the depth, where A's tile is 0.
fn b_row(at: Place, b: u32, k: u32) -> vec4<f32> { return B[b + min(k, at.depth - 1u) * at.b_row]; }

fn sums_tn(at: Place, j: u32, lane: u32) -> Sums {
    var sums = Sums();
    let b = at.b + column4(at, j);
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_columns(at, k, lane);
        for (var k4 = 0u; k4 < (min(DEPTH, at.depth - k) + 3u) / 4u; k4++) {
            let of_k = k + 4u * k4;
            let rows = mat4x4(b_row(at, b, of_k), b_row(at, b, of_k + 1u), b_row(at, b, of_k + 2u), b_row(at, b, of_k + 3u));
            sums = add_to_all(sums, k4, rows);
        }
    }
    return sums;
}

fn write(at: Place, j: u32, row: u32, value: vec4<f32>) {
    if (row < rows_written(at, j)) { C[c_at(at, j, row)] = value; }
}

fn write_four(at: Place, j: u32, row: u32, values: mat4x4<f32>) {
    write(at, j, row, values[0]);
    write(at, j, row + 1u, values[1]);
    write(at, j, row + 2u, values[2]);
    write(at, j, row + 3u, values[3]);
}

fn write_all(at: Place, j: u32, sums: Sums) {
    write_four(at, j, 0u, sums.first);
    write_four(at, j, 4u, sums.second);
    write_four(at, j, 8u, sums.third);
    write_four(at, j, 12u, sums.fourth);
}

// A row of C before the product where the product is added to it, 0 elsewhere.
fn before(at: Place, j: u32, row: u32) -> vec4<f32> {
    if (!at.adds || row >= rows_written(at, j)) { return vec4<f32>(); }
    return C[c_at(at, j, row)];
}

fn with_before(at: Place, j: u32, row: u32, sums: mat4x4<f32>) -> mat4x4<f32> {
    return sums + mat4x4(before(at, j, row), before(at, j, row + 1u), before(at, j, row + 2u), before(at, j, row + 3u));
}

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    let sums = sums_nn(at, j, lane);
    write_all(at, j, Sums(
        with_before(at, j, 0u, sums.first),
        with_before(at, j, 4u, sums.second),
        with_before(at, j, 8u, sums.third),
        with_before(at, j, 12u, sums.fourth),
    ));
}

@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    write_all(at, j, sums_nt(at, j, lane));
}

// A row of the product where the gate is open, 0 elsewhere.
fn gated(at: Place, j: u32, row: u32, value: vec4<f32>) -> vec4<f32> {
    if (row >= rows_written(at, j)) { return vec4<f32>(); }
    return select(vec4<f32>(), value, gate[c_at(at, j, row)] > vec4<f32>());
}

fn gated_four(at: Place, j: u32, row: u32, values: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(
        gated(at, j, row, values[0]),
        gated(at, j, row + 1u, values[1]),
        gated(at, j, row + 2u, values[2]),
        gated(at, j, row + 3u, values[3]),
    );
}

@compute @workgroup_size(LANES)
fn nt_gated(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    let sums = sums_nt(at, j, lane);
    write_all(at, j, Sums(
        gated_four(at, j, 0u, sums.first),
        gated_four(at, j, 4u, sums.second),
        gated_four(at, j, 8u, sums.third),
        gated_four(at, j, 12u, sums.fourth),
    ));
}

@compute @workgroup_size(LANES)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group);
    let j = column(group, lane);
    write_all(at, j, sums_tn(at, j, lane));
}
