// resid4[s] = resid_pre[s] - resid_pre[=];  equals4 = [resid_pre[=] | resid_pre[=] + b_out]
//
// Only differences to "=" reach a softmax whose weights sum to 1, so every slot is told relative to "=", and "=" in full.

@group(0) @binding(2) var<storage, read> W_E: array<f32>;                        // [model, d_vocab, d_model]
@group(0) @binding(3) var<storage, read> W_pos: array<f32>;                      // [model, pos, d_model]
@group(0) @binding(4) var<storage, read> b_out: array<f32>;                      // [model, d_model]
@group(0) @binding(5) var<storage, read_write> resid4: array<vec4<f32>>;         // [model, slot, d_model]
@group(0) @binding(6) var<storage, read_write> equals4: array<vec4<f32>>;        // [model, 2, d_model]
@group(0) @binding(9) var<storage, read> d_slot_score4: array<vec4<f32>>;       // [model, slot, head]
@group(0) @binding(10) var<storage, read> u: array<vec4<f32>>;                   // [model, head, d_model]
@group(0) @binding(11) var<storage, read> d_resid4: array<vec4<f32>>;            // [model, slot, d_model]
@group(0) @binding(12) var<storage, read> d_q4: array<vec4<f32>>;                // [model, z]
@group(0) @binding(13) var<storage, read> W_Q4: array<vec4<f32>>;                // [model, d_model, z]
@group(0) @binding(14) var<storage, read> d_equals4_parts: array<vec4<f32>>;     // [model, part, 2, d_model]
@group(0) @binding(15) var<storage, read_write> d_W_E: array<f32>;               // [model, d_vocab, d_model]
@group(0) @binding(16) var<storage, read_write> d_W_pos: array<f32>;             // [model, pos, d_model]

override SPLIT: u32;   // readers over which a part of d_equals4 is summed

fn resid_at(model: u32, slot: u32) -> u32 { return part4(model, (2u * P + 1u) * model4()) + slot * model4(); }
fn equals_at(model: u32) -> u32 { return part4(model, 2u * model4()); }
fn score_at(model: u32, slot: u32) -> u32 { return part4(model, (2u * P + 1u) * fours(N_HEADS)) + slot * fours(N_HEADS); }
fn embed_at(model: u32, token: u32) -> u32 { return part(model, (P + 1u) * D_MODEL) + token * D_MODEL; }

// resid_pre[slot, i], 0 beyond its edge
fn resid(model: u32, slot: u32, i: u32) -> f32 {
    if (i >= D_MODEL) { return 0.0; }
    return W_E[embed_at(model, slot_token(slot)) + i] + W_pos[part(model, 3u * D_MODEL) + slot_pos(slot) * D_MODEL + i];
}

fn resid_four(model: u32, slot: u32, i: u32) -> vec4<f32> {
    return vec4(resid(model, slot, i), resid(model, slot, i + 1u), resid(model, slot, i + 2u), resid(model, slot, i + 3u));
}

// b_out[i], 0 beyond its edge
fn bias(model: u32, i: u32) -> f32 {
    if (i >= D_MODEL) { return 0.0; }
    return b_out[part(model, D_MODEL) + i];
}

@compute @workgroup_size(16, 4)
fn forward(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x;
    let slot = id.y;
    let model = id.z;
    if (column >= model4() || slot > slot_equals()) { return; }
    let i = 4u * column;
    let own = resid_four(model, slot, i);
    let equals = resid_four(model, slot_equals(), i);
    resid4[resid_at(model, slot) + column] = select(own - equals, own, slot == slot_equals());
    if (slot != slot_equals()) { return; }
    equals4[equals_at(model) + column] = equals;
    let biases = vec4(bias(model, i), bias(model, i + 1u), bias(model, i + 2u), bias(model, i + 3u));
    equals4[equals_at(model) + model4() + column] = equals + biases;
}

// u of a head at a column; 0 beyond the last head
fn u_at(model: u32, head: u32, column: u32) -> vec4<f32> {
    let value = u[part4(model, N_HEADS * model4()) + min(head, N_HEADS - 1u) * model4() + column];
    return select(vec4<f32>(), value, head < N_HEADS);
}

// d_resid4 + sum over the heads of d_slot_score u, of the two slots of a token
struct Pair {
    x: vec4<f32>,
    y: vec4<f32>,
}

fn d_resid(model: u32, token: u32, column: u32) -> Pair {
    var sum = Pair(d_resid4[resid_at(model, token) + column], d_resid4[resid_at(model, P + token) + column]);
    for (var head = 0u; head < N_HEADS; head += 4u) {
        let of_x = d_slot_score4[score_at(model, token) + head / 4u];
        let of_y = d_slot_score4[score_at(model, P + token) + head / 4u];
        let lines = mat4x4(u_at(model, head, column), u_at(model, head + 1u, column), u_at(model, head + 2u, column), u_at(model, head + 3u, column));
        sum = Pair(add_lines(sum.x, of_x, lines), add_lines(sum.y, of_y, lines));
    }
    return sum;
}

fn add_lines(sum: vec4<f32>, scores: vec4<f32>, lines: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(scores.w), lines[3], fma(vec4(scores.z), lines[2], fma(vec4(scores.y), lines[1], fma(vec4(scores.x), lines[0], sum))));
}

// What "=" gets: from d_q W_Q^T, and from the parts of d_equals4, a share a lane.
fn d_equals(model: u32, column: u32, lane: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    let rows = part4(model, 4u * model4() * z4()) + 4u * column * z4();
    for (var z = lane; z < z4(); z += LANES) {
        let d = d_q4[part4(model, z4()) + z];
        sum += vec4(dot(d, W_Q4[rows + z]), dot(d, W_Q4[rows + z4() + z]), dot(d, W_Q4[rows + 2u * z4() + z]), dot(d, W_Q4[rows + 3u * z4() + z]));
    }
    let parts = (4u * reader4() + SPLIT - 1u) / SPLIT;
    for (var n = lane; n < parts; n += LANES) {
        sum += d_equals4_parts[part4(model, parts * 2u * model4()) + n * 2u * model4() + column];
    }
    return sum;
}

// Four neighbours of a row of d_W_E or d_W_pos, as far as it goes.
fn write_embed(at: u32, i: u32, d: vec4<f32>) {
    for (var n = i; n < min(i + 4u, D_MODEL); n++) { d_W_E[at + n] = element(d, n - i); }
}

fn write_pos(at: u32, i: u32, d: vec4<f32>) {
    for (var n = i; n < min(i + 4u, D_MODEL); n++) { d_W_pos[at + n] = element(d, n - i); }
}

// d_W_E[token] and d_W_pos[pos] = sums over their slots; "=" loses what the others have relative to it. A workgroup does four columns of all tokens.
@compute @workgroup_size(LANES)
fn backward_embed(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let column = group.x;
    let model = group.z;
    var first = vec4<f32>();
    var second = vec4<f32>();
    for (var token = lane; token < P; token += LANES) {
        let d = d_resid(model, token, column);
        write_embed(embed_at(model, token), 4u * column, d.x + d.y);
        first += d.x;
        second += d.y;
    }
    let of_equals = sum_of_lanes(lane, d_equals(model, column, lane));
    first = sum_of_lanes(lane, first);
    second = sum_of_lanes(lane, second);
    if (lane > 0u) { return; }
    let equals = d_resid4[resid_at(model, slot_equals()) + column] + of_equals - first - second;
    let position = part(model, 3u * D_MODEL);
    write_embed(embed_at(model, P), 4u * column, equals);
    write_pos(position, 4u * column, first);
    write_pos(position + D_MODEL, 4u * column, second);
    write_pos(position + 2u * D_MODEL, 4u * column, equals);
}
