// row_loss = log1p(sum over c != y of exp(l_c - l_y)) where y has the largest logit, else l_max - l_y + log(sum of exp(l_c - l_max))
//
// Grokking lives at losses near 1e-7, where a log-softmax in float32 has lost its gradient.
//
// For software adapters, a row an invocation: it is faster there than reductions through workgroup memory.

@group(0) @binding(4) var<storage, read_write> row_loss: array<f32>;       // [model, row]
@group(0) @binding(5) var<storage, read_write> row_correct: array<f32>;    // [model, row]

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

struct Rest {
    top: f32,   // the largest logit
    sum: f32,   // over c != y of exp(l_c - top)
}

fn rest_of(at: u32, label: u32) -> Rest {
    var top = logits[at];
    for (var c = 1u; c < D_VOCAB_OUT; c++) {
        top = max(top, logits[at + c]);
    }
    var sum = 0.0;
    for (var c = 0u; c < D_VOCAB_OUT; c++) {
        if (c != label) { sum += exp(logits[at + c] - top); }
    }
    return Rest(top, sum);
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let row = row_of_lane(group, groups, lane);
    let model = group.z;
    if (row >= n_rows[model]) { return; }
    let out = part(model, row_capacity) + row;
    let at = logits_at(model, row);
    let label = labels[out];
    let rest = rest_of(at, label);
    let behind = rest.top - logits[at + label];
    row_loss[out] = select(behind + log(exp(-behind) + rest.sum), log1p(rest.sum), behind == 0.0);
    row_correct[out] = correct(at, label);
}

// d_logits = (softmax - one-hot) / rows, the label's entry as minus the sum of the others
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let row = row_of_lane(group, groups, lane);
    let model = group.z;
    let n = n_rows[model];
    if (row >= n) { return; }
    let at = logits_at(model, row);
    let label = labels[part(model, row_capacity) + row];
    let rest = rest_of(at, label);
    let factor = 1.0 / (f32(n) * (exp(logits[at + label] - rest.top) + rest.sum));
    for (var c = 0u; c < D_VOCAB_OUT; c++) {
        d_logits[at + c] = exp(logits[at + c] - rest.top) * factor;
    }
    d_logits[at + label] = -rest.sum * factor;
    for (var c = D_VOCAB_OUT; c < LOGITS_ROW; c++) { d_logits[at + c] = 0.0; }
}
