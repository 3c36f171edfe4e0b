// pattern = softmax over pos of q . k[slot] / sqrt(d_head);  z = pattern v[slot];  resid_mid = resid_pre[=] + z W_O
//
// Only "=" at position 2 is read off, so there is one query a model; keys and values take one value a slot.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;               // [model]
@group(0) @binding(1) var<storage, read> slots: array<u32>;                // [model, row, pos]
@group(0) @binding(2) var<storage, read> slot_edges: array<u32>;           // [model, slot + 1]
@group(0) @binding(3) var<storage, read> slot_rows: array<u32>;            // [model, row * 3] by slot
@group(0) @binding(4) var<storage, read> W_Q: array<f32>;                  // [model, head, d_model, d_head]
@group(0) @binding(5) var<storage, read> W_K: array<f32>;                  // [model, head, d_model, d_head]
@group(0) @binding(6) var<storage, read> W_V: array<f32>;                  // [model, head, d_model, d_head]
@group(0) @binding(7) var<storage, read> W_O: array<f32>;                  // [model, head, d_head, d_model]
@group(0) @binding(8) var<storage, read> resid_pre: array<f32>;            // [model, slot, d_model]
@group(0) @binding(9) var<storage, read_write> q: array<f32>;              // [model, head, d_head]
@group(0) @binding(10) var<storage, read_write> k: array<f32>;             // [model, slot, head, d_head]
@group(0) @binding(11) var<storage, read_write> v: array<f32>;             // [model, slot, head, d_head]
@group(0) @binding(12) var<storage, read_write> pattern: array<f32>;       // [model, row, head, pos]
@group(0) @binding(13) var<storage, read_write> z: array<f32>;             // [model, row, head, d_head]
@group(0) @binding(14) var<storage, read_write> resid_mid: array<f32>;     // [model, row, d_model]
@group(0) @binding(15) var<storage, read> d_resid_mid: array<f32>;         // [model, row, d_model]
@group(0) @binding(16) var<storage, read_write> d_W_O: array<f32>;         // [model, head, d_head, d_model]
@group(0) @binding(17) var<storage, read_write> d_resid_equals: array<f32>; // [model, d_model]
@group(0) @binding(18) var<storage, read_write> d_z: array<f32>;           // [model, row, head, d_head]
@group(0) @binding(19) var<storage, read_write> d_score: array<f32>;       // [model, row, head, pos]
@group(0) @binding(20) var<storage, read_write> d_slot_score: array<f32>;  // [model, slot, head]
@group(0) @binding(21) var<storage, read_write> d_q: array<f32>;           // [model, head, d_head]
@group(0) @binding(22) var<storage, read_write> d_k: array<f32>;           // [model, slot, head, d_head]
@group(0) @binding(23) var<storage, read_write> d_v: array<f32>;           // [model, slot, head, d_head]
@group(0) @binding(24) var<storage, read_write> d_W_Q: array<f32>;         // [model, head, d_model, d_head]
@group(0) @binding(25) var<storage, read_write> d_W_K: array<f32>;         // [model, head, d_model, d_head]
@group(0) @binding(26) var<storage, read_write> d_W_V: array<f32>;         // [model, head, d_model, d_head]
@group(0) @binding(27) var<storage, read_write> d_resid_pre: array<f32>;   // [model, slot, d_model]
@group(0) @binding(28) var<uniform> row_capacity: u32;                     // rows that a model's part has room for

fn slots_at(model: u32) -> u32 { return part(model, row_capacity * 3u); }
fn weights_at(model: u32) -> u32 { return part(model, D_MODEL * D_MODEL); }
fn slot_table_at(model: u32) -> u32 { return part(model, (2u * P + 1u) * D_MODEL); }
fn query_at(model: u32) -> u32 { return part(model, D_MODEL); }
fn rows_at(model: u32) -> u32 { return part(model, row_capacity * D_MODEL); }
fn pattern_at(model: u32) -> u32 { return part(model, row_capacity * N_HEADS * 3u); }

// Element (i, column) of W_Q, W_K or W_V, a column being (head, d_head).
fn by_head(i: u32, column: u32) -> u32 {
    return (column / D_HEAD * D_MODEL + i) * D_HEAD + column % D_HEAD;
}

// Element i of each of eight rows or columns.
fn z8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(z[at.low.x + i], z[at.low.y + i], z[at.low.z + i], z[at.low.w + i]),
        vec4(z[at.high.x + i], z[at.high.y + i], z[at.high.z + i], z[at.high.w + i]),
    );
}
fn W_O8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(W_O[at.low.x + i], W_O[at.low.y + i], W_O[at.low.z + i], W_O[at.low.w + i]),
        vec4(W_O[at.high.x + i], W_O[at.high.y + i], W_O[at.high.z + i], W_O[at.high.w + i]),
    );
}
fn d_resid_mid8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(d_resid_mid[at.low.x + i], d_resid_mid[at.low.y + i], d_resid_mid[at.low.z + i], d_resid_mid[at.low.w + i]),
        vec4(d_resid_mid[at.high.x + i], d_resid_mid[at.high.y + i], d_resid_mid[at.high.z + i], d_resid_mid[at.high.w + i]),
    );
}

// q = resid_pre[=] W_Q;  k = resid_pre W_K;  v = resid_pre W_V
@compute @workgroup_size(64)
fn forward_qkv(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= D_MODEL) { return; }
    let x = slot_table_at(model) + slot * D_MODEL;
    var query = 0.0;
    var key = 0.0;
    var value = 0.0;
    for (var i = 0u; i < D_MODEL; i++) {
        let w = weights_at(model) + by_head(i, column);
        if (slot == slot_equals()) { query += resid_pre[x + i] * W_Q[w]; }
        key += resid_pre[x + i] * W_K[w];
        value += resid_pre[x + i] * W_V[w];
    }
    if (slot == slot_equals()) { q[query_at(model) + column] = query; }
    k[x + column] = key;
    v[x + column] = value;
}

fn query_dot_key(model: u32, head: u32, slot: u32) -> f32 {
    let query = query_at(model) + head * D_HEAD;
    let key = slot_table_at(model) + slot * D_MODEL + head * D_HEAD;
    var sum = 0.0;
    for (var e = 0u; e < D_HEAD; e++) { sum += q[query + e] * k[key + e]; }
    return sum;
}

@compute @workgroup_size(4, 16)
fn forward_pattern(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let head = id.x;
    let row = id.y;
    let model = id.z;
    if (head >= N_HEADS || row >= n_rows[model]) { return; }
    let at_slots = slots_at(model) + row * 3u;
    let score = vec3(
        query_dot_key(model, head, slots[at_slots]),
        query_dot_key(model, head, slots[at_slots + 1u]),
        query_dot_key(model, head, slots[at_slots + 2u]),
    ) / sqrt(f32(D_HEAD));
    let top = max(max(score.x, score.y), score.z);
    let weight = exp(score - top);
    let out = weight / (weight.x + weight.y + weight.z);
    let at = pattern_at(model) + (row * N_HEADS + head) * 3u;
    pattern[at] = out.x;
    pattern[at + 1u] = out.y;
    pattern[at + 2u] = out.z;
}

@compute @workgroup_size(16, 4)
fn forward_z(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let row = id.y;
    let model = id.z;
    if (column >= D_MODEL || row >= n_rows[model]) { return; }
    let weight = pattern_at(model) + (row * N_HEADS + column / D_HEAD) * 3u;
    var sum = 0.0;
    for (var pos = 0u; pos < 3u; pos++) {
        let slot = slots[slots_at(model) + row * 3u + pos];
        sum += pattern[weight + pos] * v[slot_table_at(model) + slot * D_MODEL + column];
    }
    z[rows_at(model) + row * D_MODEL + column] = sum;
}

@compute @workgroup_size(16, 4)
fn forward_out(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = starts_of(rows_at(model), row, n, D_MODEL);
    let b = starts_of(weights_at(model), column, D_MODEL, 1u);
    var sum = Tile();
    for (var i = 0u; i < D_MODEL; i++) {
        sum = add_to_tile(sum, z8(a, i), W_O8(b, i * D_MODEL));
    }
    let equals = slot_table_at(model) + slot_equals() * D_MODEL;
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            resid_mid[rows_at(model) + i * D_MODEL + j] = resid_pre[equals + j] + element_of_eight(line, j - column);
        }
    }
}

// d_W_O = z^T d_resid_mid;  d_resid_equals = sum over the rows of d_resid_mid, for the residual that all rows share
@compute @workgroup_size(16, 4)
fn backward_out_weights(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let source = id.y * TILE;
    let model = id.z;
    if (column >= D_MODEL || source >= D_MODEL) { return; }
    let a = starts_of(rows_at(model), source, D_MODEL, 1u);
    let b = starts_of(rows_at(model), column, D_MODEL, 1u);
    var sum = Tile();
    var shared_sum = Eight();
    for (var row = 0u; row < n_rows[model]; row++) {
        let d_out = d_resid_mid8(b, row * D_MODEL);
        sum = add_to_tile(sum, z8(a, row * D_MODEL), d_out);
        shared_sum = plus(shared_sum, d_out);
    }
    for (var i = source; i < min(source + TILE, D_MODEL); i++) {
        let line = tile_row(sum, i - source);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_W_O[weights_at(model) + i * D_MODEL + j] = element_of_eight(line, j - column);
        }
    }
    if (source > 0u) { return; }
    for (var j = column; j < min(column + TILE, D_MODEL); j++) {
        d_resid_equals[query_at(model) + j] = element_of_eight(shared_sum, j - column);
    }
}

// d_z = d_resid_mid W_O^T
@compute @workgroup_size(16, 4)
fn backward_out_inputs(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = starts_of(rows_at(model), row, n, D_MODEL);
    let w = starts_of(weights_at(model), column, D_MODEL, D_MODEL);
    var sum = Tile();
    for (var i = 0u; i < D_MODEL; i++) {
        sum = add_to_tile(sum, d_resid_mid8(a, i), W_O8(w, i));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_z[rows_at(model) + i * D_MODEL + j] = element_of_eight(line, j - column);
        }
    }
}

fn d_z_dot_value(model: u32, row: u32, head: u32, slot: u32) -> f32 {
    let d = rows_at(model) + row * D_MODEL + head * D_HEAD;
    let value = slot_table_at(model) + slot * D_MODEL + head * D_HEAD;
    var sum = 0.0;
    for (var e = 0u; e < D_HEAD; e++) { sum += d_z[d + e] * v[value + e]; }
    return sum;
}

// d_score[pos] = pattern[pos] (d_pattern[pos] - sum of pattern d_pattern), with d_pattern[pos] = d_z . v[slot]
@compute @workgroup_size(4, 16)
fn backward_pattern(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let head = id.x;
    let row = id.y;
    let model = id.z;
    if (head >= N_HEADS || row >= n_rows[model]) { return; }
    let at = pattern_at(model) + (row * N_HEADS + head) * 3u;
    let weight = vec3(pattern[at], pattern[at + 1u], pattern[at + 2u]);
    let at_slots = slots_at(model) + row * 3u;
    let d_pattern = vec3(
        d_z_dot_value(model, row, head, slots[at_slots]),
        d_z_dot_value(model, row, head, slots[at_slots + 1u]),
        d_z_dot_value(model, row, head, slots[at_slots + 2u]),
    );
    let out = weight * (d_pattern - dot(weight, d_pattern));
    d_score[at] = out.x;
    d_score[at + 1u] = out.y;
    d_score[at + 2u] = out.z;
}

// Over the rows of the slot: d_v[slot] = sum of pattern d_z;  d_slot_score[slot] = sum of d_score
@compute @workgroup_size(64)
fn backward_slots(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= D_MODEL) { return; }
    let head = column / D_HEAD;
    let edges = part(model, 2u * P + 2u) + slot;
    var value = 0.0;
    var score = 0.0;
    for (var i = slot_edges[edges]; i < slot_edges[edges + 1u]; i++) {
        let row = slot_rows[slots_at(model) + i];
        let at = pattern_at(model) + (row * N_HEADS + head) * 3u + slot_pos(slot);
        value += pattern[at] * d_z[rows_at(model) + row * D_MODEL + column];
        score += d_score[at];
    }
    d_v[slot_table_at(model) + slot * D_MODEL + column] = value;
    if (column % D_HEAD == 0u) { d_slot_score[part(model, (2u * P + 1u) * N_HEADS) + slot * N_HEADS + head] = score; }
}

// d_k[slot] = d_slot_score q / sqrt(d_head);  d_q = sum over slots of d_slot_score k / sqrt(d_head)
@compute @workgroup_size(64)
fn backward_qk(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= D_MODEL) { return; }
    let scale = 1.0 / sqrt(f32(D_HEAD));
    let scores = part(model, (2u * P + 1u) * N_HEADS) + column / D_HEAD;
    let keys = slot_table_at(model) + column;
    d_k[keys + slot * D_MODEL] = d_slot_score[scores + slot * N_HEADS] * scale * q[query_at(model) + column];
    if (slot != slot_equals()) { return; }
    var sum = 0.0;
    for (var s = 0u; s < 2u * P + 1u; s++) {
        sum += d_slot_score[scores + s * N_HEADS] * scale * k[keys + s * D_MODEL];
    }
    d_q[query_at(model) + column] = sum;
}

// d_W_Q = resid_pre[=]^T d_q;  d_W_K = resid_pre^T d_k;  d_W_V = resid_pre^T d_v
@compute @workgroup_size(16, 4)
fn backward_qkv_weights(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let i = id.y;
    let model = id.z;
    if (column >= D_MODEL || i >= D_MODEL) { return; }
    let table = slot_table_at(model);
    var key = 0.0;
    var value = 0.0;
    for (var slot = 0u; slot < 2u * P + 1u; slot++) {
        let x = resid_pre[table + slot * D_MODEL + i];
        key += x * d_k[table + slot * D_MODEL + column];
        value += x * d_v[table + slot * D_MODEL + column];
    }
    let w = weights_at(model) + by_head(i, column);
    d_W_Q[w] = resid_pre[table + slot_equals() * D_MODEL + i] * d_q[query_at(model) + column];
    d_W_K[w] = key;
    d_W_V[w] = value;
}

// d_resid_pre = d_k W_K^T + d_v W_V^T, and at "=" + d_q W_Q^T + d_resid_equals
@compute @workgroup_size(64)
fn backward_qkv_inputs(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let i = id.x;
    let slot = id.y;
    let model = id.z;
    if (i >= D_MODEL) { return; }
    let at = slot_table_at(model) + slot * D_MODEL;
    var sum = 0.0;
    for (var column = 0u; column < D_MODEL; column++) {
        let w = weights_at(model) + by_head(i, column);
        sum += d_k[at + column] * W_K[w] + d_v[at + column] * W_V[w];
        if (slot == slot_equals()) { sum += d_q[query_at(model) + column] * W_Q[w]; }
    }
    if (slot == slot_equals()) { sum += d_resid_equals[query_at(model) + i]; }
    d_resid_pre[at + i] = sum;
}
