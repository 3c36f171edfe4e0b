// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
//
// As dots.wgsl, for subgroups of eight: a lane is a row, and the lanes hand each other the slot's lines of four heads, of which
// each loads an eighth.

const LANES = 8u;

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let group = here(launched);
    let slot = group.x;
    let model = group.z;
    let edges = part(model, 2u * P + 2u) + slot;
    let last = slot_edges[edges + 1u];
    for (var entry = slot_edges[edges]; entry < last; entry += LANES) {
        // Lanes beyond the last row compute it again.
        let row = slot_rows[part(model, row_capacity * 3u) + min(entry + lane, last - 1u)];
        for (var head = 0u; head < N_HEADS; head += 4u) {
            let line = read_at(model, min(head + lane % 4u, N_HEADS - 1u), slot);
            var sums = vec4<f32>();
            if (slot != slot_equals()) {
                // Lanes 0 to 3 hold four heads at one reader, lanes 4 to 7 at the next.
                for (var reader = 0u; reader < mlp4(); reader += 2u) {
                    let lines = head_read[line + min(reader + lane / 4u, mlp4() - 1u)];
                    sums += of_heads(d_pre4[pre_at(model, row) + reader], lines);
                    if (reader + 1u < mlp4()) { sums += of_next(d_pre4[pre_at(model, row) + reader + 1u], lines); }
                }
                for (var reader = 0u; reader < class4(); reader += 2u) {
                    let lines = head_read[line + mlp4() + min(reader + lane / 4u, class4() - 1u)];
                    sums += of_heads(d_logits4[logits_at(model, row) + reader], lines);
                    if (reader + 1u < class4()) { sums += of_next(d_logits4[logits_at(model, row) + reader + 1u], lines); }
                }
            }
            if (entry + lane < last) {
                for (var l = 0u; l < min(4u, N_HEADS - head); l++) {
                    d_pattern[pattern_at(model, row, head + l) + slot_pos(slot)] = sums[l];
                }
            }
        }
    }
}

// d . the lines of lanes 0 to 3
fn of_heads(d: vec4<f32>, lines: vec4<f32>) -> vec4<f32> {
    return vec4(
        dot(d, subgroupBroadcast(lines, 0u)),
        dot(d, subgroupBroadcast(lines, 1u)),
        dot(d, subgroupBroadcast(lines, 2u)),
        dot(d, subgroupBroadcast(lines, 3u)),
    );
}

// d . the lines of lanes 4 to 7
fn of_next(d: vec4<f32>, lines: vec4<f32>) -> vec4<f32> {
    return vec4(
        dot(d, subgroupBroadcast(lines, 4u)),
        dot(d, subgroupBroadcast(lines, 5u)),
        dot(d, subgroupBroadcast(lines, 6u)),
        dot(d, subgroupBroadcast(lines, 7u)),
    );
}
