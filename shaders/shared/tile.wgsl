// A product's invocation computes TILE x TILE elements of its output in registers.
const TILE = 4u;

// Four neighbours from first on, the last one repeated beyond the end.
fn edge(first: u32, end: u32) -> vec4<u32> {
    return min(first + vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
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

// Row i of a tile. Uses select, because several compilers keep a value in memory if it is indexed at run time.
fn row_of(tile: mat4x4<f32>, i: u32) -> vec4<f32> {
    return select(select(tile[0], tile[1], i == 1u), select(tile[2], tile[3], i == 3u), i >= 2u);
}

// Element i of a vector, by select as well.
fn element(v: vec4<f32>, i: u32) -> f32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}
