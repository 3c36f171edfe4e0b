
// What the kernels of d_pattern share.

@group(0) @binding(0) var<storage, read> slot_edges: array<u32>;                 // [model, slot + 1]
@group(0) @binding(1) var<storage, read> slot_rows: array<u32>;                  // [model, row * 3] by slot
@group(0) @binding(2) var<storage, read> d_pre4: array<vec4<f32>>;               // [model, row, d_mlp]
@group(0) @binding(3) var<storage, read> d_logits4: array<vec4<f32>>;            // [model, row, d_vocab]
@group(0) @binding(4) var<storage, read> head_read: array<vec4<f32>>;            // [model, head, slot, reader]
@group(0) @binding(5) var<storage, read_write> d_pattern: array<f32>;            // [model, row, head, pos]
@group(0) @binding(6) var<uniform> row_capacity: u32;                            // rows that a model's part has room for

fn pre_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * mlp4()) + row * mlp4(); }
fn logits_at(model: u32, row: u32) -> u32 { return part4(model, row_capacity * class4()) + row * class4(); }
fn pattern_at(model: u32, row: u32, head: u32) -> u32 { return part(model, row_capacity * N_HEADS * 3u) + (row * N_HEADS + head) * 3u; }
fn read_at(model: u32, head: u32, slot: u32) -> u32 {
    return part4(model, N_HEADS * (2u * P + 1u) * reader4()) + (head * (2u * P + 1u) + slot) * reader4();
}
