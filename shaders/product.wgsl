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

// TILE_ROWS rows of A by DEPTH of k: [k / 4][row], a vec4 along k
var<workgroup> tile: array<vec4<f32>, 128>;

// Rows by columns of C that a lane computes, in fours of rows: column r of sums[g] is row 4 g + r.
struct Sums { fours: array<mat4x4<f32>, 4> }

fn multiply(sums: ptr<function, Sums>, k4: u32, b: mat4x4<f32>) {
    for (var g = 0u; g < 4u; g++) {
        let first = k4 * TILE_ROWS + 4u * g;
        (*sums).fours[g] += b * mat4x4(tile[first], tile[first + 1u], tile[first + 2u], tile[first + 3u]);
    }
}

// The tile of A for nn and nt: rows as they stand.
fn fetch_rows(at: Place, k: u32, lane: u32) {
    workgroupBarrier();
    for (var n = lane; n < TILE_ROWS * DEPTH / 4u; n += LANES) {
        let row = n % TILE_ROWS;
        let k4 = k / 4u + n / TILE_ROWS;
        var value = vec4<f32>();
        if (4u * k4 < at.depth) { value = A[at.a + min(at.i + row, at.rows - 1u) * at.a_row + k4]; }
        tile[n] = value;
    }
    workgroupBarrier();
}

// The tile of A for tn, where the rows of C are columns of A.
fn fetch_columns(at: Place, k: u32, lane: u32) {
    workgroupBarrier();
    for (var n = lane; n < TILE_ROWS * DEPTH / 16u; n += LANES) {
        let i4 = min(at.i / 4u + n % (TILE_ROWS / 4u), at.rows / 4u - 1u);
        let k4 = n / (TILE_ROWS / 4u);
        var block = mat4x4<f32>();
        for (var l = 0u; l < 4u; l++) {
            if (k + 4u * k4 + l < at.depth) { block[l] = A[at.a + (k + 4u * k4 + l) * at.a_row + i4]; }
        }
        let rows = transpose(block);
        let first = k4 * TILE_ROWS + n % (TILE_ROWS / 4u) * 4u;
        tile[first] = rows[0];
        tile[first + 1u] = rows[1];
        tile[first + 2u] = rows[2];
        tile[first + 3u] = rows[3];
    }
    workgroupBarrier();
}

fn sums_nn(at: Place, lane: u32) -> Sums {
    var sums = Sums();
    let column = at.b + column4(at);
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, at.depth - k) / 4u; k4++) {
            var b: mat4x4<f32>;
            for (var l = 0u; l < 4u; l++) { b[l] = B[column + (k + 4u * k4 + l) * at.b_row]; }
            multiply(&sums, k4, b);
        }
    }
    return sums;
}

fn sums_nt(at: Place, lane: u32) -> Sums {
    var sums = Sums();
    let column = at.b + 4u * column4(at) * at.b_row;
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, at.depth - k) / 4u; k4++) {
            var b: mat4x4<f32>;
            for (var l = 0u; l < 4u; l++) { b[l] = B[column + l * at.b_row + k / 4u + k4]; }
            multiply(&sums, k4, transpose(b));
        }
    }
    return sums;
}

fn sums_tn(at: Place, lane: u32) -> Sums {
    var sums = Sums();
    let column = at.b + column4(at);
    for (var k = 0u; k < at.depth; k += DEPTH) {
        fetch_columns(at, k, lane);
        for (var k4 = 0u; k4 < (min(DEPTH, at.depth - k) + 3u) / 4u; k4++) {
            var b = mat4x4<f32>();
            for (var l = 0u; l < 4u; l++) {
                if (k + 4u * k4 + l < at.depth) { b[l] = B[column + (k + 4u * k4 + l) * at.b_row]; }
            }
            multiply(&sums, k4, b);
        }
    }
    return sums;
}

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_nn(at, lane);
    for (var r = 0u; r < rows_written(at); r++) {
        var value = sums.fours[r / 4u][r % 4u];
        if (at.adds) { value += C[c_at(at, r)]; }
        C[c_at(at, r)] = value;
    }
}

@compute @workgroup_size(LANES)
fn nt(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_nt(at, lane);
    for (var r = 0u; r < rows_written(at); r++) { C[c_at(at, r)] = sums.fours[r / 4u][r % 4u]; }
}

@compute @workgroup_size(LANES)
fn nt_gated(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_nt(at, lane);
    for (var r = 0u; r < rows_written(at); r++) {
        C[c_at(at, r)] = select(vec4<f32>(), sums.fours[r / 4u][r % 4u], gate[c_at(at, r)] > vec4<f32>());
    }
}

@compute @workgroup_size(LANES)
fn tn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_tn(at, lane);
    for (var r = 0u; r < rows_written(at); r++) { C[c_at(at, r)] = sums.fours[r / 4u][r % 4u]; }
}
