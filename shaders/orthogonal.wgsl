// o = g - (w . g / w . w) w;  g = o |g| / |o|, for every parameter as a whole
//
// Without what points along the weights, which only scales the logits (Prieto et al. 2025, "Grokking at the Edge of Numerical Stability").

@group(0) @binding(0) var<storage, read> tensor_edges: array<u32>;      // [parameter, model]: first block of a model's part, and the end of the last
@group(0) @binding(1) var<storage, read> params: array<f32>;            // [parameter, model, element]
@group(0) @binding(2) var<storage, read_write> grads: array<f32>;       // [parameter, model, element]

const LANES = 256u;
const LEAST = 1e-30;   // added to what is divided by, as the authors do

var<workgroup> sums: array<vec4<f32>, LANES>;

// The sum over all lanes.
fn total(lane: u32, mine: vec4<f32>) -> vec4<f32> {
    sums[lane] = mine;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) { sums[lane] += sums[lane + half]; }
        workgroupBarrier();
    }
    let sum = sums[0];
    workgroupBarrier();
    return sum;
}

// A workgroup is a parameter of a model. What pads its last block is zero and stays so.
@compute @workgroup_size(LANES)
fn project(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let tensor = group.y * groups.x + group.x;
    if (tensor + 1u >= arrayLength(&tensor_edges)) { return; }
    let end = tensor_edges[tensor + 1u] * BLOCK;
    let first = tensor_edges[tensor] * BLOCK + lane;
    var products = vec4<f32>();
    for (var i = first; i < end; i += LANES) {
        products += vec4(params[i] * grads[i], params[i] * params[i], grads[i] * grads[i], 0.0);
    }
    products = total(lane, products);
    let along = products.x / (products.y + LEAST);
    var squares = 0.0;
    for (var i = first; i < end; i += LANES) {
        let o = grads[i] - along * params[i];
        squares += o * o;
    }
    squares = total(lane, vec4(squares, 0.0, 0.0, 0.0)).x;
    let scale = sqrt(products.z) / (sqrt(squares) + LEAST);
    for (var i = first; i < end; i += LANES) {
        // What pads stays zero where the others are not finite, too.
        let is_zero = grads[i] == 0.0 && params[i] == 0.0;
        grads[i] = select(scale * (grads[i] - along * params[i]), 0.0, is_zero);
    }
}
