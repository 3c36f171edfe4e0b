
// What the kernels of rows share: the forward pass.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;                     // [model]
@group(0) @binding(1) var<storage, read> slots: array<u32>;                      // [model, row, pos]
@group(0) @binding(2) var<storage, read> slot_edges: array<u32>;                 // [model, slot + 1]
@group(0) @binding(3) var<storage, read> slot_rows: array<u32>;                  // [model, row * 3] by slot
@group(0) @binding(4) var<storage, read> slot_score4: array<f32>;                 // [model, slot, head]
@group(0) @binding(5) var<storage, read> head_read: array<vec4<f32>>;            // [model, head, slot, reader]
@group(0) @binding(6) var<storage, read> equals_read: array<vec4<f32>>;          // [model, 2, reader]
@group(0) @binding(12) var<storage, read> heads_read: array<vec4<f32>>;          // [model, reader]
@group(0) @binding(7) var<storage, read_write> pattern: array<f32>;              // [model, row, head, pos]
@group(0) @binding(8) var<storage, read_write> post4: array<vec4<f32>>;          // [model, row, d_mlp]
@group(0) @binding(9) var<storage, read_write> logits4: array<vec4<f32>>;        // [model, row, d_vocab]
@group(0) @binding(10) var<storage, read> d_pre4: array<vec4<f32>>;              // [model, row, d_mlp]
@group(0) @binding(11) var<storage, read> d_logits4: array<vec4<f32>>;           // [model, row, d_vocab]
@group(0) @binding(13) var<storage, read_write> d_head_read: array<vec4<f32>>;   // [model, head, slot, reader]
@group(0) @binding(14) var<storage, read_write> d_slot_read: array<vec4<f32>>;   // [model, slot, reader]
@group(0) @binding(15) var<uniform> row_capacity: u32;                           // rows that a model's part has room for

fn slots_at(model: u32) -> u32 { return part(model, row_capacity * 3u); }
fn pattern_at(model: u32, row: u32) -> u32 { return part(model, row_capacity * N_HEADS * 3u) + row * N_HEADS * 3u; }
fn post_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * mlp4()) + row * mlp4(); }
fn logits_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * class4()) + row * class4(); }
fn read_at(model: u32, head: u32, slot: u32) -> u32 {
    return part4(model, N_HEADS * (2u * P + 1u) * reader4()) + (head * (2u * P + 1u) + slot) * reader4();
}

// Four readers of [d_pre | d_logits].
fn d_read(model: u32, row: u32, reader: u32) -> vec4<f32> {
    if (reader < mlp4()) { return d_pre4[post_at(model, row) + reader]; }
    return d_logits4[logits_at(model, row) + reader - mlp4()];
}

@compute @workgroup_size(4, 16)
fn forward_pattern(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let head = id.x;
    let row = id.y;
    let model = id.z;
    if (head >= N_HEADS || row >= n_rows[model]) { return; }
    let heads = 4u * fours(N_HEADS);
    let scores = part(model, (2u * P + 1u) * heads) + head;
    let at = slots_at(model) + row * 3u;
    let score = vec3(slot_score4[scores + slots[at] * heads], slot_score4[scores + slots[at + 1u] * heads], 0.0);
    let weight = exp(score - max(max(score.x, score.y), score.z));
    let out = weight / (weight.x + weight.y + weight.z);
    let first = pattern_at(model, row) + head * 3u;
    pattern[first] = out.x;
    pattern[first + 1u] = out.y;
    pattern[first + 2u] = out.z;
}

const ROWS_A_LANE = 4u;

// A workgroup does 32 rows by 8 vec4s of readers: neighbouring rows share lines of head_read.
@compute @workgroup_size(8, 8)
fn forward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let group = here(launched);
    let reader = group.x * 8u + lane.x;
    let model = group.z;
    if (reader >= reader4()) { return; }
    // The classes get b_out too, which stands in the second row.
    let equals = part4(model, 2u * reader4()) + select(0u, reader4(), reader >= mlp4());
    let base = equals_read[equals + reader] + heads_read[part4(model, reader4()) + reader];
    let end = min(n_rows[model], (group.y + 1u) * 8u * ROWS_A_LANE);
    for (var row = group.y * 8u * ROWS_A_LANE + lane.y; row < end; row += 8u) {
        let at = slots_at(model) + row * 3u;
        let x = slots[at];
        let y = slots[at + 1u];
        let weights = pattern_at(model, row);
        var sum = base;
        for (var head = 0u; head < N_HEADS; head++) {
            sum = fma(vec4(pattern[weights + head * 3u]), head_read[read_at(model, head, x) + reader], sum);
            sum = fma(vec4(pattern[weights + head * 3u + 1u]), head_read[read_at(model, head, y) + reader], sum);
        }
        if (reader < mlp4()) {
            post4[post_at(model, row) + reader] = max(sum, vec4<f32>());
        } else {
            logits4[logits_at(model, row) + reader - mlp4()] = sum;
        }
    }
}

// pattern[.., head, ..] of the row and position at `at`, 0 beyond the last head
fn weight(at: u32, head: u32) -> f32 {
    if (head >= N_HEADS) { return 0.0; }
    return pattern[at + head * 3u];
}

fn write_head_read(model: u32, head: u32, slot: u32, reader: u32, value: vec4<f32>) {
    if (head < N_HEADS) { d_head_read[read_at(model, head, slot) + reader] = value; }
}
