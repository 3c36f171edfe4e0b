
// What the losses share.
@group(0) @binding(0) var<storage, read> n_rows: array<u32>;               // [model]
@group(0) @binding(1) var<storage, read> labels: array<u32>;               // [model, row]
@group(0) @binding(2) var<storage, read> logits: array<f32>;               // [model, row, d_vocab_out]
@group(0) @binding(3) var<storage, read_write> row_loss: array<f32>;       // [model, row]
@group(0) @binding(4) var<storage, read_write> row_correct: array<f32>;    // [model, row]
@group(0) @binding(5) var<storage, read_write> d_logits: array<f32>;       // [model, row, d_vocab_out]

override LOGITS_ROW: u32;   // elements of a row of logits: d_vocab, or more, the rest being zero

fn logits_at(model: u32, row: u32) -> u32 { return part(model, ROWS * LOGITS_ROW) + row * LOGITS_ROW; }

// log(1 + x) for x >= 0. WGSL's log may err by 2^-21 near 1, so small x take the series of 2 atanh(x / (2 + x)).
fn log1p(x: f32) -> f32 {
    if (x > 1.0) { return log(1.0 + x); }
    let t = x / (2.0 + x);
    let s = t * t;    // at most 1/9: the next term is below 1e-8 of the sum
    return 2.0 * t * (1.0 + s * (1.0 / 3.0 + s * (1.0 / 5.0 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0 + s / 13.0))))));
}

// 1 where the label is the first of the largest logits, else 0
fn correct(at: u32, label: u32) -> f32 {
    for (var c = 0u; c < D_VOCAB_OUT; c++) {
        let beaten = select(logits[at + c] <= logits[at + label], logits[at + c] < logits[at + label], c < label);
        if (!beaten) { return 0.0; }
    }
    return 1.0;
}
