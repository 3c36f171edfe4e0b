// d_W_logit = the sum of its chunks' parts;  d_equals_read = the sum over the slots of d_slot_read;  d_slot_score = that over the rows of a slot
//
// Sums of the composed program that belong to no product.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;                     // [model]
@group(0) @binding(1) var<storage, read> d_W_logit_parts: array<vec4<f32>>;      // [model, chunk, d_mlp, d_vocab]
@group(0) @binding(2) var<storage, read_write> d_W_logit: array<vec4<f32>>;      // [model, d_mlp, d_vocab]
@group(0) @binding(3) var<storage, read> d_slot_read: array<vec4<f32>>;          // [model, slot, reader]
@group(0) @binding(4) var<storage, read_write> d_equals_read: array<vec4<f32>>;  // [model, 2, reader]
@group(0) @binding(5) var<storage, read_write> d_head_read: array<vec4<f32>>;    // [model, head, slot, reader]
@group(0) @binding(6) var<storage, read> slot_edges: array<u32>;                 // [model, slot + 1]
@group(0) @binding(7) var<storage, read> slot_rows: array<u32>;                  // [model, row * 3] by slot
@group(0) @binding(8) var<storage, read> pattern: array<f32>;                    // [model, row, head, pos]
@group(0) @binding(9) var<storage, read> d_pattern: array<f32>;                  // [model, row, head, pos]
@group(0) @binding(10) var<storage, read_write> d_slot_score4: array<vec4<f32>>; // [model, slot, head]
@group(0) @binding(11) var<uniform> row_capacity: u32;                           // rows that a model's part has room for

override CHUNK: u32;   // rows over which a part of d_W_logit is summed

@compute @workgroup_size(64)
fn backward_logit(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let class_ = id.x;
    let neuron = id.y;
    let model = id.z;
    if (class_ >= class4() || neuron >= 4u * mlp4()) { return; }
    let size = 4u * mlp4() * class4();
    let at = neuron * class4() + class_;
    let first = part4(model, (row_capacity + CHUNK - 1u) / CHUNK * size);
    let chunks = (n_rows[model] + CHUNK - 1u) / CHUNK;
    var sum = vec4<f32>();
    // Four parts whose loads are in flight together; beyond the last the last again.
    for (var chunk = 0u; chunk < chunks; chunk += 4u) {
        let x = d_W_logit_parts[first + chunk * size + at];
        let y = d_W_logit_parts[first + min(chunk + 1u, chunks - 1u) * size + at];
        let z = d_W_logit_parts[first + min(chunk + 2u, chunks - 1u) * size + at];
        let w = d_W_logit_parts[first + min(chunk + 3u, chunks - 1u) * size + at];
        sum += x;
        if (chunk + 1u < chunks) { sum += y; }
        if (chunk + 2u < chunks) { sum += z; }
        if (chunk + 3u < chunks) { sum += w; }
    }
    d_W_logit[part4(model, size) + at] = sum;
}

// A workgroup sums four readers over the slots of x: each row has one of them. Every head's head_read[=] gets the sum too.
@compute @workgroup_size(LANES)
fn backward_equals(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let reader = group.x;
    let model = group.z;
    let first = part4(model, (2u * P + 1u) * reader4()) + reader;
    var sum = vec4<f32>();
    for (var slot = lane; slot < P; slot += LANES) { sum += d_slot_read[first + slot * reader4()]; }
    let total = sum_of_lanes(lane, sum);
    if (lane == 0u) {
        let to = part4(model, 2u * reader4()) + reader;
        d_equals_read[to] = total;
        d_equals_read[to + reader4()] = select(vec4<f32>(), total, reader >= mlp4());
    }
    for (var head = lane; head < N_HEADS; head += LANES) {
        let line = part4(model, N_HEADS * (2u * P + 1u) * reader4()) + (head * (2u * P + 1u) + slot_equals()) * reader4();
        d_head_read[line + reader] = total;
    }
}

// d_score of a row and head at the position of the slot, from pattern and d_pattern at `at`; 0 beyond the last head.
fn d_score(at: u32, head: u32, pos: u32) -> f32 {
    if (head >= N_HEADS) { return 0.0; }
    let first = at + head * 3u;
    let weight = vec3(pattern[first], pattern[first + 1u], pattern[first + 2u]);
    let d = vec3(d_pattern[first], d_pattern[first + 1u], d_pattern[first + 2u]);
    return pattern[first + pos] * (d_pattern[first + pos] - dot(weight, d));
}

// d_slot_score = sum over the rows of the slot of pattern (d_pattern - sum of pattern d_pattern); that of "=" is told relative to itself
@compute @workgroup_size(LANES)
fn backward_scores(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let slot = group.x;
    let model = group.z;
    let edges = part(model, 2u * P + 2u) + slot;
    for (var head = 0u; head < N_HEADS; head += 4u) {
        var sum = vec4<f32>();
        if (slot != slot_equals()) {
            for (var entry = slot_edges[edges] + lane; entry < slot_edges[edges + 1u]; entry += LANES) {
                let row = slot_rows[part(model, row_capacity * 3u) + entry];
                let at = part(model, row_capacity * N_HEADS * 3u) + row * N_HEADS * 3u;
                let pos = slot_pos(slot);
                sum += vec4(d_score(at, head, pos), d_score(at, head + 1u, pos), d_score(at, head + 2u, pos), d_score(at, head + 3u, pos));
            }
        }
        let total = sum_of_lanes(lane, sum);
        if (lane == 0u) { d_slot_score4[part4(model, (2u * P + 1u) * fours(N_HEADS)) + slot * fours(N_HEADS) + head / 4u] = total; }
    }
}
