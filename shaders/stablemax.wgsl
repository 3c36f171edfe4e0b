// The gradient of -log(s(l_y) / sum of s(l_c)),  s(x) = x + 1 for x >= 0, else 1 / (1 - x)
//
// The cross-entropy of StableMax (Prieto et al. 2025, "Grokking at the Edge of Numerical Stability"). It is for training only: the
// reported losses are cross-entropies by softmax, so that runs can be compared. A row is 32 lanes' work.

// Both branches at once; neither divides by less than 1.
fn s(x: f32) -> f32 { return max(x, 0.0) + 1.0 / (1.0 + max(-x, 0.0)); }

// Its slope: 1, or s^2
fn slope(x: f32) -> f32 {
    let below = 1.0 / (1.0 + max(-x, 0.0));
    return below * below;
}

// The sum over c != y of s(l_c), by all lanes of the row
fn rest_of(at: u32, label: u32, lane: u32) -> f32 {
    var sum = 0.0;
    for (var c = lane % LANES; c < D_VOCAB_OUT; c += LANES) {
        if (c != label) { sum += s(logits[at + c]); }
    }
    return sum_of_row(lane, sum);
}

// d_logits = s'(l_c) (1 / sum of s - [c = y] / s(l_y)) / rows, the label's entry as -s'(l_y) rest / (s(l_y) sum)
@compute @workgroup_size(128)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let model = group.z;
    let n = n_rows[model];
    let own_row = row_of_lane(group, groups, lane);
    let row = min(own_row, n - 1u);
    let at = logits_at(model, row);
    let label = labels[part(model, row_capacity) + row];
    let rest = rest_of(at, label, lane);
    if (own_row != row) { return; }
    let own = s(logits[at + label]);
    let factor = 1.0 / (f32(n) * (own + rest));
    for (var c = lane % LANES; c < LOGITS_ROW; c += LANES) {
        var d = 0.0;
        if (c < D_VOCAB_OUT) { d = slope(logits[at + c]) * factor; }
        if (c == label) { d = -slope(logits[at + label]) * (rest / own) * factor; }
        d_logits[at + c] = d;
    }
}
