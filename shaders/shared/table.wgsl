
// A dispatch does all entries of a table. Five vec4s lead it: the number of workgroups a model, and the first workgroups of 16 entries, which
// rise; those that there are not have the largest number.
struct Found {
    at: u32,          // where the entry begins in the table
    workgroup: u32,   // counted from the entry's first
    exists: bool,     // false of workgroups beyond the last
}

// The entry of a workgroup. `size`: vec4s of an entry. Workgroups are counted along x and y, where one dimension can't hold them.
fn entry_of(group: vec3<u32>, groups: vec3<u32>, size: u32) -> Found {
    let n = group.y * groups.x + group.x;
    let total = table[0].x;
    let count = reached(table[1], n) + reached(table[2], n) + reached(table[3], n) + reached(table[4], n);
    let first = max(max(last_reached(table[1], n), last_reached(table[2], n)), max(last_reached(table[3], n), last_reached(table[4], n)));
    return Found(5u + (count - 1u) * size, n - first, n < total);
}

// How many of the numbers n has reached, and the largest of them, or 0.
fn reached(firsts: vec4<u32>, n: u32) -> u32 {
    let ones = vec4<u32>(firsts <= vec4(n));
    return ones.x + ones.y + ones.z + ones.w;
}

fn last_reached(firsts: vec4<u32>, n: u32) -> u32 {
    let smaller = firsts * vec4<u32>(firsts <= vec4(n));
    return max(max(smaller.x, smaller.y), max(smaller.z, smaller.w));
}

// How a matrix lies in its tensor: three vec4s of an entry.
struct Operand {
    buffer: u32,      // which of the buffers
    at: u32,          // where the tensor begins in it
    model: u32,       // from one model's part to the next
    row: u32,         // from one row to the next
    head: u32,        // from one head's matrix to the next
    parts: u32,       // matrices that together are a sum; 0 if there is none
    part: u32,        // from one of those to the next
    rows: u32,        // of a matrix
    columns: u32,
}

fn operand(at: u32) -> Operand {
    let places = table[at];
    let sizes = table[at + 1u];
    return Operand(places.x, places.y, places.z, places.w, sizes.x, sizes.y, sizes.z, sizes.w, table[at + 2u].x);
}

// Where a model's matrix of a head begins.
fn matrix_at(matrix: Operand, model: u32, head: u32) -> u32 { return matrix.at + model * matrix.model + head * matrix.head; }
