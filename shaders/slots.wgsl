// resid4[s] = resid_pre[s] - resid_pre[=];  q = resid_pre[=] W_Q;  u = W_K q / sqrt(d_head);  slot_score[s] = resid4[s] . u
//
// Only differences to "=" reach a softmax whose weights sum to 1, so every slot is told relative to "=", and "=" in full.

@group(0) @binding(0) var<storage, read> slot_edges: array<u32>;                 // [model, slot + 1]
@group(0) @binding(1) var<storage, read> slot_rows: array<u32>;                  // [model, row * 3] by slot
@group(0) @binding(2) var<storage, read> W_E: array<f32>;                        // [model, d_vocab, d_model]
@group(0) @binding(3) var<storage, read> W_pos: array<f32>;                      // [model, pos, d_model]
@group(0) @binding(4) var<storage, read> W_Q: array<f32>;                        // [model, head, d_model, d_head]
@group(0) @binding(5) var<storage, read> W_K: array<f32>;                        // [model, head, d_model, d_head]
@group(0) @binding(6) var<storage, read_write> resid4: array<vec4<f32>>;         // [model, slot, d_model]
@group(0) @binding(7) var<storage, read_write> q: array<f32>;                    // [model, head, d_head]
@group(0) @binding(8) var<storage, read_write> u: array<vec4<f32>>;              // [model, head, d_model]
@group(0) @binding(9) var<storage, read_write> slot_score: array<f32>;           // [model, slot, head]
@group(0) @binding(10) var<storage, read> d_score: array<f32>;                   // [model, row, head, pos]
@group(0) @binding(11) var<storage, read_write> d_slot_score: array<f32>;        // [model, slot, head]
@group(0) @binding(12) var<storage, read_write> d_u: array<vec4<f32>>;           // [model, head, d_model]
@group(0) @binding(13) var<storage, read_write> d_q: array<f32>;                 // [model, head, d_head]
@group(0) @binding(14) var<storage, read> d_resid_equals: array<f32>;            // [model, d_model]
@group(0) @binding(15) var<storage, read_write> d_resid4: array<vec4<f32>>;      // [model, slot, d_model]
@group(0) @binding(16) var<storage, read_write> d_W_Q: array<f32>;               // [model, head, d_model, d_head]
@group(0) @binding(17) var<storage, read_write> d_W_K: array<f32>;               // [model, head, d_model, d_head]
@group(0) @binding(18) var<storage, read_write> d_W_E: array<f32>;               // [model, d_vocab, d_model]
@group(0) @binding(19) var<storage, read_write> d_W_pos: array<f32>;             // [model, pos, d_model]
@group(0) @binding(20) var<uniform> row_capacity: u32;                           // rows that a model's part has room for

fn resid_at(model: u32, slot: u32) -> u32 { return part4(model, (2u * P + 1u) * model4()) + slot * model4(); }
fn score_at(model: u32, slot: u32) -> u32 { return part(model, (2u * P + 1u) * N_HEADS) + slot * N_HEADS; }
fn u_at(model: u32, head: u32) -> u32 { return part4(model, N_HEADS * model4()) + head * model4(); }
fn query_at(model: u32, head: u32) -> u32 { return part(model, D_MODEL) + head * D_HEAD; }
fn weights_at(model: u32, head: u32) -> u32 { return part(model, D_MODEL * D_MODEL) + head * D_MODEL * D_HEAD; }

// resid_pre[slot, i], 0 beyond its edge
fn resid(model: u32, slot: u32, i: u32) -> f32 {
    if (i >= D_MODEL) { return 0.0; }
    let embedded = W_E[part(model, (P + 1u) * D_MODEL) + slot_token(slot) * D_MODEL + i];
    return embedded + W_pos[part(model, 3u * D_MODEL) + slot_pos(slot) * D_MODEL + i];
}

@compute @workgroup_size(16, 4)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= model4() || slot > slot_equals()) { return; }
    let i = 4u * column;
    let here = vec4(resid(model, slot, i), resid(model, slot, i + 1u), resid(model, slot, i + 2u), resid(model, slot, i + 3u));
    let end = slot_equals();
    let equals = vec4(resid(model, end, i), resid(model, end, i + 1u), resid(model, end, i + 2u), resid(model, end, i + 3u));
    resid4[resid_at(model, slot) + column] = select(here - equals, here, slot == end);
}

@compute @workgroup_size(16, 4)
fn forward_query(@builtin(global_invocation_id) id: vec3<u32>) {
    let e = id.x;
    let head = id.y;
    let model = id.z;
    if (e >= D_HEAD || head >= N_HEADS) { return; }
    let equals = resid_at(model, slot_equals());
    var sum = 0.0;
    for (var i = 0u; i < D_MODEL; i++) {
        sum += resid4[equals + i / 4u][i % 4u] * W_Q[weights_at(model, head) + i * D_HEAD + e];
    }
    q[query_at(model, head) + e] = sum;
}

@compute @workgroup_size(16, 4)
fn forward_key(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let head = id.y;
    let model = id.z;
    if (column >= model4() || head >= N_HEADS) { return; }
    let rows = weights_at(model, head) + edge(4u * column, D_MODEL) * D_HEAD;
    var sum = vec4<f32>();
    for (var e = 0u; e < D_HEAD; e++) {
        let keys = vec4(W_K[rows.x + e], W_K[rows.y + e], W_K[rows.z + e], W_K[rows.w + e]);
        sum = fma(keys, vec4(q[query_at(model, head) + e]), sum);
    }
    u[u_at(model, head) + column] = select(vec4<f32>(), sum / sqrt(f32(D_HEAD)), within(4u * column, D_MODEL));
}

@compute @workgroup_size(4, 16)
fn forward_scores(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x;
    let slot = id.y;
    let model = id.z;
    if (head >= N_HEADS || slot > slot_equals()) { return; }
    var sum = 0.0;
    for (var i = 0u; i < model4(); i++) {
        sum += dot(resid4[resid_at(model, slot) + i], u[u_at(model, head) + i]);
    }
    slot_score[score_at(model, slot) + head] = select(sum, 0.0, slot == slot_equals());
}

// d_slot_score = sum of d_score over the rows of the slot; that of "=" is told relative to itself
@compute @workgroup_size(4, 16)
fn backward_scores(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x;
    let slot = id.y;
    let model = id.z;
    if (head >= N_HEADS || slot > slot_equals()) { return; }
    let edges = part(model, 2u * P + 2u) + slot;
    var sum = 0.0;
    if (slot != slot_equals()) {
        for (var i = slot_edges[edges]; i < slot_edges[edges + 1u]; i++) {
            let row = slot_rows[part(model, row_capacity * 3u) + i];
            sum += d_score[part(model, row_capacity * N_HEADS * 3u) + (row * N_HEADS + head) * 3u + slot_pos(slot)];
        }
    }
    d_slot_score[score_at(model, slot) + head] = sum;
}

// d_u = sum over the slots of d_slot_score resid4
@compute @workgroup_size(16, 4)
fn backward_key(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let head = id.y;
    let model = id.z;
    if (column >= model4() || head >= N_HEADS) { return; }
    var sum = vec4<f32>();
    for (var slot = 0u; slot < slot_equals(); slot++) {
        sum = fma(vec4(d_slot_score[score_at(model, slot) + head]), resid4[resid_at(model, slot) + column], sum);
    }
    d_u[u_at(model, head) + column] = sum;
}

// d_q = W_K^T d_u / sqrt(d_head)
@compute @workgroup_size(16, 4)
fn backward_query(@builtin(global_invocation_id) id: vec3<u32>) {
    let e = id.x;
    let head = id.y;
    let model = id.z;
    if (e >= D_HEAD || head >= N_HEADS) { return; }
    var sum = 0.0;
    for (var i = 0u; i < D_MODEL; i++) {
        sum += W_K[weights_at(model, head) + i * D_HEAD + e] * d_u[u_at(model, head) + i / 4u][i % 4u];
    }
    d_q[query_at(model, head) + e] = sum / sqrt(f32(D_HEAD));
}

// d_W_Q = resid_pre[=]^T d_q;  d_W_K = d_u^T q / sqrt(d_head)
@compute @workgroup_size(16, 4)
fn backward_weights(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let i = id.y;
    let model = id.z;
    if (column >= D_MODEL || i >= D_MODEL) { return; }
    let head = column / D_HEAD;
    let e = column % D_HEAD;
    let at = weights_at(model, head) + i * D_HEAD + e;
    d_W_Q[at] = resid4[resid_at(model, slot_equals()) + i / 4u][i % 4u] * d_q[query_at(model, head) + e];
    d_W_K[at] = d_u[u_at(model, head) + i / 4u][i % 4u] * q[query_at(model, head) + e] / sqrt(f32(D_HEAD));
}

// d_resid4[s] += sum over the heads of d_slot_score u;  at "=" += d_resid_equals + d_q W_Q^T
@compute @workgroup_size(16, 4)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= model4() || slot > slot_equals()) { return; }
    var sum = d_resid4[resid_at(model, slot) + column];
    if (slot != slot_equals()) {
        for (var head = 0u; head < N_HEADS; head++) {
            sum = fma(vec4(d_slot_score[score_at(model, slot) + head]), u[u_at(model, head) + column], sum);
        }
    } else {
        let i = edge(4u * column, D_MODEL);
        let d = part(model, D_MODEL) + i;
        var of_equals = vec4(d_resid_equals[d.x], d_resid_equals[d.y], d_resid_equals[d.z], d_resid_equals[d.w]);
        for (var head = 0u; head < N_HEADS; head++) {
            let rows = weights_at(model, head) + i * D_HEAD;
            for (var e = 0u; e < D_HEAD; e++) {
                let queries = vec4(W_Q[rows.x + e], W_Q[rows.y + e], W_Q[rows.z + e], W_Q[rows.w + e]);
                of_equals = fma(vec4(d_q[query_at(model, head) + e]), queries, of_equals);
            }
        }
        sum += select(vec4<f32>(), of_equals, within(4u * column, D_MODEL));
    }
    d_resid4[resid_at(model, slot) + column] = sum;
}

// d_W_E[token] and d_W_pos[pos] = sums of d_resid4 over their slots; "=" loses what the others have relative to it
@compute @workgroup_size(16, 4)
fn backward_embed(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let token = id.y;
    let model = id.z;
    if (i >= D_MODEL || token > P) { return; }
    let at = resid_at(model, 0u) + i / 4u;
    let lane = i % 4u;
    let out = part(model, (P + 1u) * D_MODEL) + token * D_MODEL + i;
    if (token < P) {
        d_W_E[out] = d_resid4[at + token * model4()][lane] + d_resid4[at + (P + token) * model4()][lane];
        return;
    }
    var first = 0.0;
    var second = 0.0;
    for (var t = 0u; t < P; t++) {
        first += d_resid4[at + t * model4()][lane];
        second += d_resid4[at + (P + t) * model4()][lane];
    }
    let equals = d_resid4[at + slot_equals() * model4()][lane] - first - second;
    let position = part(model, 3u * D_MODEL) + i;
    d_W_E[out] = equals;
    d_W_pos[position] = first;
    d_W_pos[position + D_MODEL] = second;
    d_W_pos[position + 2u * D_MODEL] = equals;
}
