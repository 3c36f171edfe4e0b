// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
//
// A workgroup is a slot, and goes over its rows: they share the line of head_read.

const LANES = 64u;

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
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
