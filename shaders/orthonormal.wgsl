// The nearest orthogonal matrix, nearly: five times G = X X^T;  P = B G + C G G;  X = A X + P X  (Jordan et al. 2024, "Muon")
//
// Every matrix stands with its shorter side first, in a place with room for the largest.

@group(0) @binding(0) var<storage, read_write> d_W_Q: array<f32>;          // [model, head, d_model, d_head]
@group(0) @binding(1) var<storage, read_write> d_W_K: array<f32>;          // [model, head, d_model, d_head]
@group(0) @binding(2) var<storage, read_write> d_W_V: array<f32>;          // [model, head, d_model, d_head]
@group(0) @binding(3) var<storage, read_write> d_W_O: array<f32>;          // [model, head, d_head, d_model]
@group(0) @binding(4) var<storage, read_write> d_W_in: array<f32>;         // [model, d_model, d_mlp]
@group(0) @binding(5) var<storage, read_write> d_W_out: array<f32>;        // [model, d_mlp, d_model]
@group(0) @binding(6) var<storage, read_write> muon_x: array<f32>;         // [model, matrix, short, long]
@group(0) @binding(7) var<storage, read_write> muon_y: array<f32>;         // [model, matrix, short, long]
@group(0) @binding(8) var<storage, read_write> muon_gram: array<f32>;      // [model, matrix, short, short]
@group(0) @binding(9) var<storage, read_write> muon_poly: array<f32>;      // [model, matrix, short, short]

const A = 3.4445;
const B = -4.775;
const C = 2.0315;

fn short_room() -> u32 { return max(min(D_MODEL, D_MLP), D_HEAD); }
fn long_room() -> u32 { return max(D_MODEL, D_MLP); }
fn matrices() -> u32 { return 4u * N_HEADS + 2u; }

struct Matrix {
    which: u32,    // 0 to 5: W_Q, W_K, W_V, W_O, W_in, W_out
    head: u32,
    short: u32,
    long: u32,
}

fn matrix(index: u32) -> Matrix {
    if (index < 4u * N_HEADS) { return Matrix(index / N_HEADS, index % N_HEADS, D_HEAD, D_MODEL); }
    return Matrix(4u + index - 4u * N_HEADS, 0u, min(D_MODEL, D_MLP), max(D_MODEL, D_MLP));
}

fn tall_at(model: u32, index: u32, i: u32) -> u32 {
    return part(model, matrices() * short_room() * long_room()) + (index * short_room() + i) * long_room();
}
fn square_at(model: u32, index: u32, i: u32) -> u32 {
    return part(model, matrices() * short_room() * short_room()) + (index * short_room() + i) * short_room();
}

// Where element (i, j) stands in its parameter.
fn place_of(m: Matrix, model: u32, i: u32, j: u32) -> u32 {
    let of_heads = part(model, D_MODEL * D_MODEL) + m.head * D_MODEL * D_HEAD;
    let of_mlp = part(model, D_MODEL * D_MLP);
    if (m.which < 3u) { return of_heads + select(j * D_HEAD + i, i * D_HEAD + j, D_MODEL <= D_HEAD); }
    if (m.which == 3u) { return of_heads + i * D_MODEL + j; }
    if (m.which == 4u) { return of_mlp + select(j * D_MLP + i, i * D_MLP + j, D_MODEL <= D_MLP); }
    return of_mlp + select(j * D_MODEL + i, i * D_MODEL + j, D_MLP <= D_MODEL);
}

// X = the matrices
@compute @workgroup_size(64)
fn gather(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let j = id.x;
    let index = id.y / short_room();
    let i = id.y % short_room();
    let model = id.z;
    let m = matrix(index);
    if (i >= m.short || j >= m.long) { return; }
    let at = place_of(m, model, i, j);
    var x = 0.0;
    if (m.which == 0u) { x = d_W_Q[at]; }
    else if (m.which == 1u) { x = d_W_K[at]; }
    else if (m.which == 2u) { x = d_W_V[at]; }
    else if (m.which == 3u) { x = d_W_O[at]; }
    else if (m.which == 4u) { x = d_W_in[at]; }
    else { x = d_W_out[at]; }
    muon_x[tall_at(model, index, i) + j] = x;
}

const LANES = 256u;
var<workgroup> sums: array<f32, LANES>;

// X = X / (|X| + 1e-7)
@compute @workgroup_size(LANES)
fn normalize(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let m = matrix(group.x);
    var sum = 0.0;
    for (var i = 0u; i < m.short; i++) {
        let at = tall_at(group.z, group.x, i);
        for (var j = lane; j < m.long; j += LANES) { sum += muon_x[at + j] * muon_x[at + j]; }
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) { sums[lane] += sums[lane + half]; }
        workgroupBarrier();
    }
    let norm = sqrt(sums[0]) + 1e-7;
    for (var i = 0u; i < m.short; i++) {
        let at = tall_at(group.z, group.x, i);
        for (var j = lane; j < m.long; j += LANES) { muon_x[at + j] /= norm; }
    }
}

// G = X X^T
@compute @workgroup_size(64)
fn gram(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let index = id.y / short_room();
    let i = id.y % short_room();
    let m = matrix(index);
    if (i >= m.short || id.x >= m.short) { return; }
    let a = tall_at(id.z, index, i);
    let b = tall_at(id.z, index, id.x);
    var sum = 0.0;
    for (var k = 0u; k < m.long; k++) { sum += muon_x[a + k] * muon_x[b + k]; }
    muon_gram[square_at(id.z, index, i) + id.x] = sum;
}

// P = B G + C G G
@compute @workgroup_size(64)
fn poly(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let index = id.y / short_room();
    let i = id.y % short_room();
    let m = matrix(index);
    if (i >= m.short || id.x >= m.short) { return; }
    let row = square_at(id.z, index, i);
    var sum = 0.0;
    for (var k = 0u; k < m.short; k++) { sum += muon_gram[row + k] * muon_gram[square_at(id.z, index, k) + id.x]; }
    muon_poly[row + id.x] = B * muon_gram[row + id.x] + C * sum;
}

// Y = A X + P X
@compute @workgroup_size(64)
fn apply(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let index = id.y / short_room();
    let i = id.y % short_room();
    let m = matrix(index);
    if (i >= m.short || id.x >= m.long) { return; }
    let row = square_at(id.z, index, i);
    var sum = A * muon_x[tall_at(id.z, index, i) + id.x];
    for (var k = 0u; k < m.short; k++) { sum += muon_poly[row + k] * muon_x[tall_at(id.z, index, k) + id.x]; }
    muon_y[tall_at(id.z, index, i) + id.x] = sum;
}

// The matrices = sqrt(max(1, columns / rows)) X
@compute @workgroup_size(64)
fn scatter(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let j = id.x;
    let index = id.y / short_room();
    let i = id.y % short_room();
    let model = id.z;
    let m = matrix(index);
    if (i >= m.short || j >= m.long) { return; }
    let x = muon_x[tall_at(model, index, i) + j];
    let at = place_of(m, model, i, j);
    if (m.which == 0u) { d_W_Q[at] = x; }
    else if (m.which == 1u) { d_W_K[at] = x; }
    else if (m.which == 2u) { d_W_V[at] = x; }
    else if (m.which == 3u) { d_W_O[at] = sqrt(f32(D_MODEL) / f32(D_HEAD)) * x; }
    else if (m.which == 4u) { d_W_in[at] = sqrt(max(1.0, f32(D_MLP) / f32(D_MODEL))) * x; }
    else { d_W_out[at] = sqrt(max(1.0, f32(D_MODEL) / f32(D_MLP))) * x; }
}
