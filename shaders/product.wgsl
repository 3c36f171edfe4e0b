// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); may be added to what is there
//
// A workgroup makes 32 x 32 elements of C, a lane 4 x 4 of them. Half of the lanes fetch a block of A each, the others of B; while the
// workgroup multiplies, the next blocks are on their way.

const LANES = 64u;
const TILE_ROWS = 32u;
const TILE_COLUMNS = 32u;

// [factor][k][vec4 along i or j]
var<workgroup> tile: array<vec4<f32>, 256>;
const FACTOR = 128u;     // vec4s of a factor: DEPTH times SIDE
const SIDE = 8u;         // vec4s along i, and along j

fn add_term(sums: mat4x4<f32>, a: u32, b: u32) -> mat4x4<f32> {
    return add_outer(sums, tile[a], tile[b]);
}

// Four terms; where the vec4s of the first stand in the tile.
fn add_four_terms(sums: mat4x4<f32>, a: u32, b: u32) -> mat4x4<f32> {
    let two = add_term(add_term(sums, a, b), a + SIDE, b + SIDE);
    return add_term(add_term(two, a + 2u * SIDE, b + 2u * SIDE), a + 3u * SIDE, b + 3u * SIDE);
}

@compute @workgroup_size(LANES)
fn multiply(
    @builtin(workgroup_id) launched: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = here(launched);
    let at = place(group, groups);
    // The block that this lane fetches.
    let is_b = lane >= 32u;
    var of_lane = at.a;
    if (is_b) { of_lane = at.b; }
    let neighbour = lane % SIDE;
    let term = lane % 32u / SIDE * 4u;
    let first = select(at.i / 4u, at.j, is_b) + neighbour;
    let to = select(0u, FACTOR, is_b) + term * SIDE + neighbour;
    // The one that it multiplies.
    let i = lane / SIDE;
    let j = lane % SIDE;
    let from_here = lane_at(of_lane, first);
    var sums = mat4x4<f32>();
    var next = fetch(of_lane, from_here, at.k + term);
    for (var k = at.k; k < at.end; k += DEPTH) {
        let block = terms_of(of_lane, k + term, first, next);
        workgroupBarrier();
        tile[to] = block[0];
        tile[to + SIDE] = block[1];
        tile[to + 2u * SIDE] = block[2];
        tile[to + 3u * SIDE] = block[3];
        workgroupBarrier();
        next = fetch(of_lane, from_here, k + DEPTH + term);
        for (var n = 0u; n < FACTOR; n += 8u * SIDE) {
            sums = add_four_terms(sums, n + i, FACTOR + n + j);
            sums = add_four_terms(sums, n + 4u * SIDE + i, FACTOR + n + 4u * SIDE + j);
        }
    }
    write_block(at, at.i + 4u * i, at.j + j, sums);
}
