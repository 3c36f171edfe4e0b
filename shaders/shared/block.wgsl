
// What the plain kernels of products share: how their lanes fetch blocks of a factor, and write blocks of the product. A block is 4 x 4 elements.

@group(0) @binding(6) var<storage, read_write> into1: array<vec4<f32>>;   // a second buffer where products go

// Terms that the workgroup memory holds at a time. The same for every size of tile, so that all add the same terms, zeros beyond the
// last included.
const DEPTH = 16u;

// Four vec4s of one of the buffers.
fn four_of(buffer: u32, i: vec4<u32>) -> mat4x4<f32> {
    if (buffer == 0u) { return mat4x4(from0[i.x], from0[i.y], from0[i.z], from0[i.w]); }
    if (buffer == 1u) { return mat4x4(from1[i.x], from1[i.y], from1[i.z], from1[i.w]); }
    return mat4x4(from2[i.x], from2[i.y], from2[i.z], from2[i.w]);
}

// Where a lane's block begins, as far as k does not matter: in a tensor whose rows are k a column, else four rows. `first` is the block's place
// among its neighbours along i or j. Beyond the edges it is the last row or column again.
fn lane_at(side: Side, first: u32) -> vec4<u32> {
    if (side.rows_are_k) { return vec4(side.at + min(first, max(side.columns, 1u) - 1u)); }
    return side.at + min(4u * first + vec4(0u, 1u, 2u, 3u), vec4(max(side.rows, 1u) - 1u)) * side.row;
}

// Four rows of a factor's tensor at one of their vec4s, terms from k on, as they are, so that nothing waits for them yet.
fn fetch(side: Side, lane_at: vec4<u32>, k: u32) -> mat4x4<f32> {
    var at = lane_at;
    if (side.rows_are_k) {
        at += min(k + vec4(0u, 1u, 2u, 3u), vec4(max(side.rows, 1u) - 1u)) * side.row;
    } else {
        at += vec4(min(k / 4u, max(side.columns, 1u) - 1u));
    }
    let block = four_of(side.buffer, at);
    if (side.parts > 1u) { return block + rest_of_parts(side, at); }
    return block;
}

// The sum of all parts but the first, four of which are on their way together.
fn rest_of_parts(side: Side, at: vec4<u32>) -> mat4x4<f32> {
    let last = side.parts - 1u;
    var sum = mat4x4<f32>();
    for (var part = 1u; part < side.parts; part += 4u) {
        let first = four_of(side.buffer, at + part * side.part);
        let second = four_of(side.buffer, at + min(part + 1u, last) * side.part);
        let third = four_of(side.buffer, at + min(part + 2u, last) * side.part);
        let fourth = four_of(side.buffer, at + min(part + 3u, last) * side.part);
        sum += first;
        if (part + 1u < side.parts) { sum += second; }
        if (part + 2u < side.parts) { sum += third; }
        if (part + 3u < side.parts) { sum += fourth; }
    }
    return sum;
}

// What was fetched as the tile has it, a vec4 along i or j for each term: 0 beyond the edges.
fn terms_of(side: Side, k: u32, first: u32, rows: mat4x4<f32>) -> mat4x4<f32> {
    let row = select(4u * first, k, side.rows_are_k);
    let column = select(k / 4u, first, side.rows_are_k);
    var block = rows;
    if (row + 4u > side.rows || column >= side.columns) {
        let inside = vec4<bool>(column < side.columns) & (row + vec4(0u, 1u, 2u, 3u) < vec4(side.rows));
        block = mat4x4(
            select(vec4<f32>(), rows[0], inside.x),
            select(vec4<f32>(), rows[1], inside.y),
            select(vec4<f32>(), rows[2], inside.z),
            select(vec4<f32>(), rows[3], inside.w),
        );
    }
    if (side.rows_are_k) { return block; }
    return transpose(block);
}

// A vec4 of the gate; 1 where there is none.
fn gate_at(at: Place, i: u32) -> vec4<f32> {
    if (at.gate_from == 0u) { return from0[at.gate + i]; }
    if (at.gate_from == 1u) { return from1[at.gate + i]; }
    if (at.gate_from == 2u) { return from2[at.gate + i]; }
    return vec4(1.0);
}

// A vec4 of C before the product, where the product is added to it; 0 elsewhere.
fn before(at: Place, i: u32) -> vec4<f32> {
    if (!at.adds) { return vec4<f32>(); }
    if (at.into == 0u) { return into0[i]; }
    return into1[i];
}

fn write_row(at: Place, row: u32, column: u32, sum: vec4<f32>) {
    if (row >= at.rows || column >= at.width) { return; }
    let i = row * at.row + column;
    let value = select(vec4<f32>(), sum, gate_at(at, i) > vec4<f32>()) + before(at, at.c + i);
    if (at.into == 0u) { into0[at.c + i] = value; } else { into1[at.c + i] = value; }
}

// Four rows of C from `row` on, at one vec4 of them.
fn write_block(at: Place, row: u32, column: u32, sums: mat4x4<f32>) {
    write_row(at, row, column, sums[0]);
    write_row(at, row + 1u, column, sums[1]);
    write_row(at, row + 2u, column, sums[2]);
    write_row(at, row + 3u, column, sums[3]);
}
