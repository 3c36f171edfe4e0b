// The gradient of -log(s(l_y) / sum of s(l_c)),  s(x) = x + 1 for x >= 0, else 1 / (1 - x)
//
// The cross-entropy of StableMax (Prieto et al. 2025, "Grokking at the Edge of Numerical Stability"). It is for training only: the
// reported losses are cross-entropies by softmax, so that runs can be compared.
//
// For software adapters, a row an invocation: it is faster there than reductions through workgroup memory.

// Both branches at once; neither divides by less than 1.
fn s(x: f32) -> f32 { return max(x, 0.0) + 1.0 / (1.0 + max(-x, 0.0)); }

// Its slope: 1, or s^2
fn slope(x: f32) -> f32 {
    let below = 1.0 / (1.0 + max(-x, 0.0));
    return below * below;
}

// The sum over c != y of s(l_c)
fn rest_of(at: u32, label: u32) -> f32 {
    var sum = 0.0;
    for (var c = 0u; c < D_VOCAB_OUT; c++) {
        if (c != label) { sum += s(logits[at + c]); }
    }
    return sum;
}

// d_logits = s'(l_c) (1 / sum of s - [c = y] / s(l_y)) / rows, the label's entry as -s'(l_y) rest / (s(l_y) sum)
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
    let own = s(logits[at + label]);
    let factor = 1.0 / (f32(n) * (own + rest));
    for (var c = 0u; c < D_VOCAB_OUT; c++) {
        d_logits[at + c] = slope(logits[at + c]) * factor;
    }
    d_logits[at + label] = -slope(logits[at + label]) * (rest / own) * factor;
    for (var c = D_VOCAB_OUT; c < LOGITS_ROW; c++) { d_logits[at + c] = 0.0; }
}
