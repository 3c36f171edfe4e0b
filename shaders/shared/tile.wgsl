// Products in registers. In the layered program and in product_software.wgsl, an invocation computes TILE x TILE neighbouring elements.
const TILE = 8u;

// Eight elements of a row or column.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Where eight neighbouring rows or columns begin.
struct Starts {
    low: vec4<u32>,
    high: vec4<u32>,
}

struct Tile {
    upper_left: mat4x4<f32>,
    upper_right: mat4x4<f32>,
    lower_left: mat4x4<f32>,
    lower_right: mat4x4<f32>,
}

// Where eight rows (or columns) from `first` on begin, in a matrix at `base`. Beyond `end`, the last again.
fn starts_of(base: u32, first: u32, end: u32, stride: u32) -> Starts {
    let numbers = first + vec4(0u, 1u, 2u, 3u);
    return Starts(base + min(numbers, vec4(end - 1u)) * stride, base + min(numbers + 4u, vec4(end - 1u)) * stride);
}

// Adds the outer product of a and b: row i (a column of the matrix type) gains a[i] b.
fn add_outer(sums: mat4x4<f32>, a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(a.x), b, sums[0]),
        fma(vec4(a.y), b, sums[1]),
        fma(vec4(a.z), b, sums[2]),
        fma(vec4(a.w), b, sums[3]),
    );
}

fn add_to_tile(sums: Tile, a: Eight, b: Eight) -> Tile {
    return Tile(
        add_outer(sums.upper_left, a.low, b.low),
        add_outer(sums.upper_right, a.low, b.high),
        add_outer(sums.lower_left, a.high, b.low),
        add_outer(sums.lower_right, a.high, b.high),
    );
}

fn plus(a: Eight, b: Eight) -> Eight { return Eight(a.low + b.low, a.high + b.high); }

// Row i of a block. Uses select, because several compilers keep a value in memory if it is indexed at run time.
fn block_row(block: mat4x4<f32>, i: u32) -> vec4<f32> {
    return select(select(block[0], block[1], i == 1u), select(block[2], block[3], i == 3u), i >= 2u);
}

// Element i of a vector, by select as well.
fn element(v: vec4<f32>, i: u32) -> f32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

fn tile_row(tile: Tile, i: u32) -> Eight {
    if (i < 4u) { return Eight(block_row(tile.upper_left, i), block_row(tile.upper_right, i)); }
    return Eight(block_row(tile.lower_left, i - 4u), block_row(tile.lower_right, i - 4u));
}

fn element_of_eight(eight: Eight, i: u32) -> f32 {
    return select(element(eight.high, i - 4u), element(eight.low, i), i < 4u);
}
