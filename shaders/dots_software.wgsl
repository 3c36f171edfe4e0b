// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
//
// A workgroup is a slot, and goes over its rows: they share the line of head_read.

@group(0) @binding(0) var<storage, read> slot_edges: array<u32>;                 // [model, slot + 1]
@group(0) @binding(1) var<storage, read> slot_rows: array<u32>;                  // [model, row * 3] by slot
@group(0) @binding(2) var<storage, read> d_pre4: array<vec4<f32>>;               // [model, row, d_mlp]
@group(0) @binding(3) var<storage, read> d_logits4: array<vec4<f32>>;            // [model, row, d_vocab]
@group(0) @binding(4) var<storage, read> head_read: array<vec4<f32>>;            // [model, head, slot, reader]
@group(0) @binding(5) var<storage, read_write> d_pattern: array<f32>;            // [model, row, head, pos]
@group(0) @binding(6) var<uniform> row_capacity: u32;                            // rows that a model's part has room for

const LANES = 64u;

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x;
    let model = group.z;
    let edges = part(model, 2u * P + 2u) + slot;
    let first = slot_edges[edges];
    let entries = (slot_edges[edges + 1u] - first) * N_HEADS;
    for (var n = lane; n < entries; n += LANES) {
        let row = slot_rows[part(model, row_capacity * 3u) + first + n / N_HEADS];
        let head = n % N_HEADS;
        let line = read_at(model, head, slot);
        var sum = 0.0;
        if (slot != slot_equals()) {
            for (var reader = 0u; reader < mlp4(); reader++) {
                sum += dot(d_pre4[pre_at(model, row) + reader], head_read[line + reader]);
            }
            for (var reader = 0u; reader < class4(); reader++) {
                sum += dot(d_logits4[logits_at(model, row) + reader], head_read[line + mlp4() + reader]);
            }
        }
        d_pattern[pattern_at(model, row, head) + slot_pos(slot)] = sum;
    }
}

fn pre_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * mlp4()) + row * mlp4(); }
fn logits_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * class4()) + row * class4(); }
fn pattern_at(model: u32, row: u32, head: u32) -> u32 { return part(model, row_capacity * N_HEADS * 3u) + (row * N_HEADS + head) * 3u; }
fn read_at(model: u32, head: u32, slot: u32) -> u32 {
    return part4(model, N_HEADS * (2u * P + 1u) * reader4()) + (head * (2u * P + 1u) + slot) * reader4();
}
