// pattern = softmax over pos of slot_score4;  [post | logits] = equals_read + heads_read + sum over heads and pos of pattern head_read[slot], relu on the neurons
//
// What the composed program does for each row. logits is without post W_logit here, which is a product of its own. pattern and [post | logits]
// are made in shared/rows.wgsl, the gradients here.

const LANES = 64u;
var<workgroup> rows_here: array<u32, LANES>;
var<workgroup> weights_here: array<vec4<f32>, LANES>;

// Over the rows of a slot: d_head_read[head, slot] = sum of pattern [d_pre | d_logits];  d_slot_read[slot] = sum of it alone
@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let reader = group.x * LANES + lane;
    // Lanes beyond the last reader do it again, and do not write: all of them meet at the barriers.
    let column = min(reader, reader4() - 1u);
    let slot = group.y;
    let model = group.z;
    if (slot >= slot_equals()) { return; }
    let edges = part(model, 2u * P + 2u) + slot;
    let end = slot_edges[edges + 1u];
    // Four heads at a time, so that a row is read once for them.
    for (var head = 0u; head < N_HEADS; head += 4u) {
        var sums = mat4x4<f32>();
        var plain = vec4<f32>();
        for (var first = slot_edges[edges]; first < end; first += LANES) {
            // A row a lane; beyond the last one, the last one with a weight of 0.
            let row = slot_rows[slots_at(model) + min(first + lane, end - 1u)];
            let at = pattern_at(model, row) + slot_pos(slot);
            let weights = vec4(weight(at, head), weight(at, head + 1u), weight(at, head + 2u), weight(at, head + 3u));
            workgroupBarrier();
            rows_here[lane] = row;
            weights_here[lane] = weights;
            workgroupBarrier();
            let count = min(LANES, end - first);
            for (var n = 0u; n < count; n += 4u) {
                // Four rows whose loads are in flight together.
                let d = mat4x4(
                    d_read(model, rows_here[n], column),
                    d_read(model, rows_here[n + 1u], column),
                    d_read(model, rows_here[n + 2u], column),
                    d_read(model, rows_here[n + 3u], column),
                );
                sums = add_outer(sums, weights_here[n], d[0]);
                plain += d[0];
                if (n + 1u < count) { sums = add_outer(sums, weights_here[n + 1u], d[1]); plain += d[1]; }
                if (n + 2u < count) { sums = add_outer(sums, weights_here[n + 2u], d[2]); plain += d[2]; }
                if (n + 3u < count) { sums = add_outer(sums, weights_here[n + 3u], d[3]); plain += d[3]; }
            }
        }
        if (reader < reader4()) {
            write_head_read(model, head, slot, reader, sums[0]);
            write_head_read(model, head + 1u, slot, reader, sums[1]);
            write_head_read(model, head + 2u, slot, reader, sums[2]);
            write_head_read(model, head + 3u, slot, reader, sums[3]);
            if (head == 0u) { d_slot_read[part4(model, (2u * P + 1u) * reader4()) + slot * reader4() + reader] = plain; }
        }
    }
}
