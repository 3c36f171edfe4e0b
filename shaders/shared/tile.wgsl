// A product's invocation computes TILE x TILE elements of its output in registers.
const TILE = 4u;

// Four neighbours from first on, the last one repeated beyond the end.
fn edge(first: u32, end: u32) -> vec4<u32> {
    return min(first + vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
}

// Columns of a b^T: element [j][i] is a[i] * b[j].
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(a * b.x, a * b.y, a * b.z, a * b.w);
}
