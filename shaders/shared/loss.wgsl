
// What the losses share.
@group(0) @binding(0) var<storage, read> n_rows: array<u32>;               // [model]
@group(0) @binding(1) var<storage, read> labels: array<u32>;               // [model, row]
@group(0) @binding(2) var<storage, read> logits: array<f32>;               // [model, row, d_vocab_out]
@group(0) @binding(3) var<storage, read_write> d_logits: array<f32>;       // [model, row, d_vocab_out]
@group(0) @binding(6) var<uniform> row_capacity: u32;                      // rows that a model's part has room for

override LOGITS_ROW: u32;   // elements of a row of logits: d_vocab, or more, the rest being zero

fn logits_at(model: u32, row: u32) -> u32 { return part(model, row_capacity * LOGITS_ROW) + row * LOGITS_ROW; }
