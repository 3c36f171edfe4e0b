// pattern = softmax over pos of slot_score4;  [post | logits] = equals_read + heads_read + sum over heads and pos of pattern head_read[slot], relu on the neurons
//
// What the composed program does for each row. logits is without post W_logit here, which is a product of its own. pattern and [post | logits]
// are made in shared/rows.wgsl, the gradients here.

// Over the rows of a slot: d_head_read[head, slot] = sum of pattern [d_pre | d_logits];  d_slot_read[slot] = sum of it alone
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let reader = id.x;
    let slot = id.y;
    let model = id.z;
    if (reader >= reader4() || slot >= slot_equals()) { return; }
    let edges = part(model, 2u * P + 2u) + slot;
    let rows = slots_at(model);
    // Four heads at a time, so that a row is read once for them.
    for (var head = 0u; head < N_HEADS; head += 4u) {
        var sums = mat4x4<f32>();
        var plain = vec4<f32>();
        for (var i = slot_edges[edges]; i < slot_edges[edges + 1u]; i++) {
            let row = slot_rows[rows + i];
            let at = pattern_at(model, row) + slot_pos(slot);
            let weights = vec4(weight(at, head), weight(at, head + 1u), weight(at, head + 2u), weight(at, head + 3u));
            let d = d_read(model, row, reader);
            sums = add_outer(sums, weights, d);
            plain += d;
        }
        write_head_read(model, head, slot, reader, sums[0]);
        write_head_read(model, head + 1u, slot, reader, sums[1]);
        write_head_read(model, head + 2u, slot, reader, sums[2]);
        write_head_read(model, head + 3u, slot, reader, sums[3]);
        if (head == 0u) { d_slot_read[part4(model, (2u * P + 1u) * reader4()) + slot * reader4() + reader] = plain; }
    }
}
