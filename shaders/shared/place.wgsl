// Where a workgroup of a product stands. Needs n_rows, geometry, TILE_ROWS and TILE_COLUMNS.

// The same for all lanes of a workgroup, so that compilers can prove that control flow around barriers is uniform.
struct Place {
    i: u32,        // first row
    width: u32,    // columns of C
    rows: u32,     // rows of C
    depth: u32,    // of k
    a: u32,        // in vec4s: where a matrix begins, and from one row to the next
    a_row: u32,
    b: u32,
    b_row: u32,
    c: u32,
    c_row: u32,
    adds: bool,
}

// Which of geometry's numbers stands where.
const I = 0u;
const J = 1u;
const K = 2u;            // of a batch
const BATCHES = 3u;      // pairs of matrices, each *_BATCH elements after the one before
const ROWS_ARE = 4u;     // what counts rows of the batch, of which a model may have fewer: 0 neither, 1 i, 2 k
const ADDS = 5u;
const A_LEN = 6u;        // elements of a model's part
const A_ROW = 7u;        // elements from one row to the next
const A_BATCH = 8u;
const B_LEN = 9u;
const B_ROW = 10u;
const B_BATCH = 11u;
const C_LEN = 12u;
const C_ROW = 13u;
const C_BATCH = 14u;

fn place(group: vec3<u32>) -> Place {
    let model = group.z / geometry[BATCHES];
    let batch = group.z % geometry[BATCHES];
    var rows = geometry[I];
    var depth = geometry[K];
    if (geometry[ROWS_ARE] == 1u) { rows = n_rows[model]; }
    if (geometry[ROWS_ARE] == 2u) { depth = min(depth, max(n_rows[model], batch * depth) - batch * depth); }
    return Place(
        group.y * TILE_ROWS,
        geometry[J],
        rows,
        depth,
        (part(model, geometry[A_LEN]) + batch * geometry[A_BATCH]) / 4u,
        geometry[A_ROW] / 4u,
        (part(model, geometry[B_LEN]) + batch * geometry[B_BATCH]) / 4u,
        geometry[B_ROW] / 4u,
        (part(model, geometry[C_LEN]) + batch * geometry[C_BATCH]) / 4u,
        geometry[C_ROW] / 4u,
        geometry[ADDS] == 1u,
    );
}

// A lane's first column of C.
fn column(group: vec3<u32>, lane: u32) -> u32 { return group.x * TILE_COLUMNS + 4u * lane; }

// Lanes beyond the edge compute the last columns again, and do not write them.
fn column4(at: Place, j: u32) -> u32 { return min(j, at.width - 4u) / 4u; }

// The index in C of row `row` of the tile at column j.
fn c_at(at: Place, j: u32, row: u32) -> u32 { return at.c + (at.i + row) * at.c_row + j / 4u; }

// Rows that this lane writes: none beyond the edge, or of a chunk that the model does not have.
fn rows_written(at: Place, j: u32) -> u32 {
    if (j >= at.width || at.i >= at.rows || at.depth == 0u) { return 0u; }
    return min(TILE_ROWS, at.rows - at.i);
}
