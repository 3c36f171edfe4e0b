
// What the kernels of products share: the table of products, and where a workgroup stands. All in vec4s, but for numbers of rows and of k.
@group(0) @binding(0) var<storage, read> n_rows: array<u32>;              // [model]
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;         // [entry, vec4]
@group(0) @binding(2) var<storage, read> from0: array<vec4<f32>>;         // three buffers that the factors and gates lie in
@group(0) @binding(3) var<storage, read> from1: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> from2: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> into0: array<vec4<f32>>;   // where the products go

const SIZE = 12u;        // vec4s of an entry

const ADDS = 1u;         // C is added to
const GATED = 2u;        // C is 0 where the gate is not positive
const A_ROWS_ARE_K = 4u; // A is [k, i], else [i, k]
const B_ROWS_ARE_J = 8u; // B is [j, k], else [k, j]

// A factor as a workgroup takes it. Its rows are those of its tensor.
struct Side {
    buffer: u32,
    at: u32,          // where the matrix begins
    row: u32,         // from one row to the next
    rows: u32,        // beyond its rows
    columns: u32,     // and columns a factor is 0
    parts: u32,       // of which it is the sum
    part: u32,
    rows_are_k: bool,
}

// A workgroup's part of a product. The same for all its lanes, so that compilers can prove that control flow around barriers is uniform.
struct Place {
    i: u32,           // first row of C
    j: u32,           // first vec4 of its rows
    rows: u32,        // of C
    width: u32,       // of C, in vec4s
    k: u32,           // first term
    end: u32,         // the one after the last
    a: Side,
    b: Side,
    into: u32,        // buffer of C,
    c: u32,           // where its matrix begins,
    row: u32,         // and from one of its rows to the next
    gate_from: u32,   // the same of the gate, if there is one: the first is 3 if not
    gate: u32,
    adds: bool,
}

fn side(matrix: Operand, model: u32, head: u32, rows: u32, end: u32, rows_are_k: bool) -> Side {
    let at = matrix_at(matrix, model, head);
    if (rows_are_k) { return Side(matrix.buffer, at, matrix.row, end, matrix.columns, matrix.parts, matrix.part, true); }
    return Side(matrix.buffer, at, matrix.row, rows, end / 4u, matrix.parts, matrix.part, false);
}

fn place(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let model = group.z;
    let found = entry_of(group, groups, SIZE);
    let tiles = table[found.at].xyz;        // of C beside each other, and under each other; parts that each sum over a chunk of k
    let sizes = table[found.at + 1u];       // rows and vec4s of a row of C; terms; terms of a part
    let more = table[found.at + 2u];        // what counts rows of the batch, flags, and the gate's buffer and beginning
    let a = operand(found.at + 3u);
    let b = operand(found.at + 6u);
    let c = operand(found.at + 9u);
    let tile = found.workgroup % (tiles.x * tiles.y);
    let chunk = found.workgroup / (tiles.x * tiles.y) % tiles.z;
    let head = found.workgroup / (tiles.x * tiles.y * tiles.z);
    // A model may have fewer rows than there is room for: of C, or terms.
    let of_model = n_rows[model];
    var rows = select(sizes.x, of_model, more.x == 1u);
    let depth = select(sizes.z, of_model, more.x == 2u);
    // A chunk of rows that the model does not have has no terms. It and workgroups beyond the last write nothing.
    let k = min(chunk * sizes.w, depth);
    let end = min(k + sizes.w, depth);
    if (k == end || !found.exists) { rows = 0u; }
    let within = model * c.model + head * c.head + chunk * c.part;
    return Place(
        tile / tiles.x * TILE_ROWS,
        tile % tiles.x * (TILE_COLUMNS / 4u),
        rows,
        sizes.y,
        k,
        end,
        side(a, model, head, rows, end, (more.y & A_ROWS_ARE_K) != 0u),
        side(b, model, head, b.rows, end, (more.y & B_ROWS_ARE_J) == 0u),
        c.buffer,
        c.at + within,
        c.row,
        select(3u, more.z, (more.y & GATED) != 0u),
        more.w + within,
        (more.y & ADDS) != 0u,
    );
}
