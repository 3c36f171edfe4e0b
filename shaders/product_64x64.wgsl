// C = A B (nn), C = A B^T (nt), C = A B^T where gate > 0 (nt_gated), C = A^T B (tn); may be added to what is there
//
// As product.wgsl, with tiles of 64 x 64: a lane makes 8 x 8 elements, and reads a byte of workgroup memory for each multiply-add where
// that one reads two. Fewer workgroups, so it suits large products.

const LANES = 64u;
const TILE_ROWS = 64u;
const TILE_COLUMNS = 64u;

// [factor][k][vec4 along i or j]
var<workgroup> tile: array<vec4<f32>, 512>;
const FACTOR = 256u;     // vec4s of a factor: DEPTH times SIDE
const SIDE = 16u;        // vec4s along i, and along j
const HALF = 8u;         // a lane has two blocks along i and j, so far apart

// A term; where its vec4s stand in the tile.
fn add_term(sums: Tile, a: u32, b: u32) -> Tile {
    return add_to_tile(sums, Eight(tile[a], tile[a + HALF]), Eight(tile[b], tile[b + HALF]));
}

fn store(to: u32, block: mat4x4<f32>) {
    tile[to] = block[0];
    tile[to + SIDE] = block[1];
    tile[to + 2u * SIDE] = block[2];
    tile[to + 3u * SIDE] = block[3];
}

@compute @workgroup_size(LANES)
fn multiply(
    @builtin(workgroup_id) launched: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = here(launched);
    let at = place(group, groups);
    // The blocks of A and B that this lane fetches.
    let neighbour = lane % SIDE;
    let term = lane / SIDE * 4u;
    let first_a = at.i / 4u + neighbour;
    let first_b = at.j + neighbour;
    let to = term * SIDE + neighbour;
    // Where its blocks of C stand.
    let i = lane / HALF;
    let j = lane % HALF;
    // Rows i and HALF + i by columns j and HALF + j, in vec4s.
    var sums = Tile();
    let a_here = lane_at(at.a, first_a);
    let b_here = lane_at(at.b, first_b);
    // A round multiplies what the round before has stored, while the next terms are on their way. The first finds nothing stored.
    // So fetch stands here once for each factor: with a first fetch before the loop, FXC takes twice the time.
    for (var k = at.k; k < at.end + DEPTH; k += DEPTH) {
        let block_a = fetch(at.a, a_here, k + term);
        let block_b = fetch(at.b, b_here, k + term);
        for (var n = select(0u, FACTOR, k == at.k); n < FACTOR; n += 4u * SIDE) {
            let a = n + i;
            let b = FACTOR + n + j;
            sums = add_term(add_term(sums, a, b), a + SIDE, b + SIDE);
            sums = add_term(add_term(sums, a + 2u * SIDE, b + 2u * SIDE), a + 3u * SIDE, b + 3u * SIDE);
        }
        workgroupBarrier();
        store(to, terms_of(at.a, k + term, first_a, block_a));
        store(FACTOR + to, terms_of(at.b, k + term, first_b, block_b));
        workgroupBarrier();
    }
    let row = at.i + 4u * i;
    let column = at.j + j;
    write_block(at, row, column, sums.upper_left);
    write_block(at, row, column + HALF, sums.upper_right);
    write_block(at, row + 4u * HALF, column, sums.lower_left);
    write_block(at, row + 4u * HALF, column + HALF, sums.lower_right);
}
