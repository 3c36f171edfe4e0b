// d_pattern[row, head, pos] = [d_pre | d_logits][row] . head_read[head, slot of (row, pos)], 0 at "="
//
// A workgroup is a slot, and goes over its rows, eight at a time: they share the lines of head_read. Its lanes lie along the readers.

const LANES = 64u;
const ROWS = 8u;

// What the lanes have of each row: a vec4 over four heads. [row][lane]
var<workgroup> partial: array<vec4<f32>, 512>;

// The slot's lines of four heads at one reader, transposed: column c holds the c-th element of each.
fn lines_at(model: u32, head: u32, slot: u32, reader: u32) -> mat4x4<f32> {
    let last = N_HEADS - 1u;
    return transpose(mat4x4(
        head_read[read_at(model, min(head, last), slot) + reader],
        head_read[read_at(model, min(head + 1u, last), slot) + reader],
        head_read[read_at(model, min(head + 2u, last), slot) + reader],
        head_read[read_at(model, min(head + 3u, last), slot) + reader],
    ));
}

// sum + d . each of the lines
fn add_dots(sum: vec4<f32>, d: vec4<f32>, lines: mat4x4<f32>) -> vec4<f32> {
    return fma(vec4(d.w), lines[3], fma(vec4(d.z), lines[2], fma(vec4(d.y), lines[1], fma(vec4(d.x), lines[0], sum))));
}

fn d_read(model: u32, row: u32, reader: u32) -> vec4<f32> {
    if (reader < mlp4()) { return d_pre4[pre_at(model, row) + reader]; }
    return d_logits4[logits_at(model, row) + reader - mlp4()];
}

// A head's number at the position of the slot, and 0 at "=" with that at x.
fn write_head(to: u32, head: u32, slot: u32, value: f32) {
    if (head >= N_HEADS) { return; }
    d_pattern[to + slot_pos(slot)] = value;
    if (slot_pos(slot) == 0u) { d_pattern[to + 2u] = 0.0; }
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) launched: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let slot = group.x;
    let model = group.z;
    let edges = part(model, 2u * P + 2u) + slot;
    let rows = part(model, row_capacity * 3u);
    let end = slot_edges[edges + 1u];
    // d_pattern at "=" is written with that at x, of which a row has one.
    if (slot == slot_equals()) { return; }
    for (var first = slot_edges[edges]; first < end; first += ROWS) {
        let last = end - 1u;
        // The rows of this round; the last one again beyond the end.
        let upper = vec4(
            slot_rows[rows + first],
            slot_rows[rows + min(first + 1u, last)],
            slot_rows[rows + min(first + 2u, last)],
            slot_rows[rows + min(first + 3u, last)],
        );
        let lower = vec4(
            slot_rows[rows + min(first + 4u, last)],
            slot_rows[rows + min(first + 5u, last)],
            slot_rows[rows + min(first + 6u, last)],
            slot_rows[rows + min(first + 7u, last)],
        );
        for (var head = 0u; head < N_HEADS; head += 4u) {
            var sums = mat4x4<f32>();
            var more = mat4x4<f32>();
            for (var reader = lane; reader < reader4(); reader += LANES) {
                let lines = lines_at(model, head, slot, reader);
                sums = mat4x4(
                    add_dots(sums[0], d_read(model, upper.x, reader), lines),
                    add_dots(sums[1], d_read(model, upper.y, reader), lines),
                    add_dots(sums[2], d_read(model, upper.z, reader), lines),
                    add_dots(sums[3], d_read(model, upper.w, reader), lines),
                );
                more = mat4x4(
                    add_dots(more[0], d_read(model, lower.x, reader), lines),
                    add_dots(more[1], d_read(model, lower.y, reader), lines),
                    add_dots(more[2], d_read(model, lower.z, reader), lines),
                    add_dots(more[3], d_read(model, lower.w, reader), lines),
                );
            }
            workgroupBarrier();
            partial[lane] = sums[0];
            partial[LANES + lane] = sums[1];
            partial[2u * LANES + lane] = sums[2];
            partial[3u * LANES + lane] = sums[3];
            partial[4u * LANES + lane] = more[0];
            partial[5u * LANES + lane] = more[1];
            partial[6u * LANES + lane] = more[2];
            partial[7u * LANES + lane] = more[3];
            // As a tree in a fixed order, which the eight rows share: first eight lanes a row add eight each.
            workgroupBarrier();
            let row = lane / ROWS;
            let of_row = row * LANES + lane % ROWS * 8u;
            let sum = ((partial[of_row] + partial[of_row + 1u]) + (partial[of_row + 2u] + partial[of_row + 3u]))
                + ((partial[of_row + 4u] + partial[of_row + 5u]) + (partial[of_row + 6u] + partial[of_row + 7u]));
            workgroupBarrier();
            partial[lane] = sum;
            workgroupBarrier();
            if (lane < ROWS && first + lane < end) {
                let at = lane * ROWS;
                let total = ((partial[at] + partial[at + 1u]) + (partial[at + 2u] + partial[at + 3u]))
                    + ((partial[at + 4u] + partial[at + 5u]) + (partial[at + 6u] + partial[at + 7u]));
                let to = pattern_at(model, slot_rows[rows + first + lane], head);
                write_head(to, head, slot, total.x);
                write_head(to + 3u, head + 1u, slot, total.y);
                write_head(to + 6u, head + 2u, slot, total.z);
                write_head(to + 9u, head + 3u, slot, total.w);
            }
        }
    }
}
