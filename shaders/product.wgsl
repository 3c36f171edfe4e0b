// C = A B (nn), C += A B (nn_add), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn)
//
// C is [i, j], and k is summed over; each of BATCHES pairs of matrices stands *_BATCH elements after the one before.
// A lane computes TILE_ROWS rows by 4 columns of C; the lanes of a workgroup lie beside each other and share their rows of
// A, which they fetch together, DEPTH of k at a time.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;              // [model]
@group(0) @binding(1) var<storage, read> A: array<vec4<f32>>;             // [model, batch, i, k], or [.., k, i] for tn
@group(0) @binding(2) var<storage, read> B: array<vec4<f32>>;             // [model, batch, k, j], or [.., j, k] for nt
@group(0) @binding(3) var<storage, read> gate: array<vec4<f32>>;          // [model, i, j]
@group(0) @binding(4) var<storage, read_write> C: array<vec4<f32>>;       // [model, batch, i, j]

override I: u32;
override J: u32;
override K: u32;            // of a batch
override BATCHES: u32;
override ROWS_ARE: u32;     // what counts rows of the batch, of which a model may have fewer: 0 neither, 1 i, 2 k
override A_LEN: u32;        // elements of a model's part
override A_ROW: u32;        // elements from one row to the next
override A_BATCH: u32;
override B_LEN: u32;
override B_ROW: u32;
override B_BATCH: u32;
override C_LEN: u32;
override C_ROW: u32;
override C_BATCH: u32;

const LANES = 32u;
const TILE_ROWS = 16u;
const TILE_COLUMNS = 128u;   // 4 LANES
const DEPTH = 32u;

// TILE_ROWS rows of A by DEPTH of k: [k / 4][row], a vec4 along k
var<workgroup> tile: array<vec4<f32>, 128>;

// Rows by columns of C that a lane computes, in fours of rows: column r of sums[g] is row 4 g + r.
struct Sums { fours: array<mat4x4<f32>, 4> }

struct Place {
    model: u32,
    i: u32,           // first row
    j: u32,           // first column
    rows: u32,        // rows of C
    depth: u32,       // of k in this batch
    a: u32,           // of the batch, in vec4s
    b: u32,
    c: u32,
}

fn place(group: vec3<u32>, lane: u32) -> Place {
    let model = group.z / BATCHES;
    let batch = group.z % BATCHES;
    var rows = I;
    var depth = K;
    if (ROWS_ARE == 1u) { rows = n_rows[model]; }
    if (ROWS_ARE == 2u) { depth = min(K, max(n_rows[model], batch * K) - batch * K); }
    return Place(
        model,
        group.y * TILE_ROWS,
        group.x * TILE_COLUMNS + 4u * lane,
        rows,
        depth,
        (part(model, A_LEN) + batch * A_BATCH) / 4u,
        (part(model, B_LEN) + batch * B_BATCH) / 4u,
        (part(model, C_LEN) + batch * C_BATCH) / 4u,
    );
}

// Lanes beyond the edge compute the last columns again, and do not write them.
fn column4(at: Place) -> u32 { return min(at.j, J - 4u) / 4u; }

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
        if (4u * k4 < K) { value = A[at.a + min(at.i + row, at.rows - 1u) * (A_ROW / 4u) + k4]; }
        tile[n] = value;
    }
    workgroupBarrier();
}

// The tile of A for tn, where the rows of C are columns of A.
fn fetch_columns(at: Place, k: u32, lane: u32) {
    workgroupBarrier();
    for (var n = lane; n < TILE_ROWS * DEPTH / 16u; n += LANES) {
        let i4 = min(at.i / 4u + n % (TILE_ROWS / 4u), A_ROW / 4u - 1u);
        let k4 = n / (TILE_ROWS / 4u);
        var block = mat4x4<f32>();
        for (var l = 0u; l < 4u; l++) {
            if (k + 4u * k4 + l < at.depth) { block[l] = A[at.a + (k + 4u * k4 + l) * (A_ROW / 4u) + i4]; }
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
    for (var k = 0u; k < K; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, K - k) / 4u; k4++) {
            var b: mat4x4<f32>;
            for (var l = 0u; l < 4u; l++) { b[l] = B[column + (k + 4u * k4 + l) * (B_ROW / 4u)]; }
            multiply(&sums, k4, b);
        }
    }
    return sums;
}

fn sums_nt(at: Place, lane: u32) -> Sums {
    var sums = Sums();
    let column = at.b + 4u * column4(at) * (B_ROW / 4u);
    for (var k = 0u; k < K; k += DEPTH) {
        fetch_rows(at, k, lane);
        for (var k4 = 0u; k4 < min(DEPTH, K - k) / 4u; k4++) {
            var b: mat4x4<f32>;
            for (var l = 0u; l < 4u; l++) { b[l] = B[column + l * (B_ROW / 4u) + k / 4u + k4]; }
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
                if (k + 4u * k4 + l < at.depth) { b[l] = B[column + (k + 4u * k4 + l) * (B_ROW / 4u)]; }
            }
            multiply(&sums, k4, b);
        }
    }
    return sums;
}

fn c_at(at: Place, row: u32) -> u32 { return at.c + (at.i + row) * (C_ROW / 4u) + at.j / 4u; }
// Rows that this lane writes: none beyond the edge, or of a chunk that the model does not have.
fn rows_written(at: Place) -> u32 {
    if (at.j >= J || at.i >= at.rows || (ROWS_ARE == 2u && at.depth == 0u)) { return 0u; }
    return min(TILE_ROWS, at.rows - at.i);
}

@compute @workgroup_size(LANES)
fn nn(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_nn(at, lane);
    for (var r = 0u; r < rows_written(at); r++) { C[c_at(at, r)] = sums.fours[r / 4u][r % 4u]; }
}

@compute @workgroup_size(LANES)
fn nn_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = place(group, lane);
    let sums = sums_nn(at, lane);
    for (var r = 0u; r < rows_written(at); r++) { C[c_at(at, r)] += sums.fours[r / 4u][r % 4u]; }
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
