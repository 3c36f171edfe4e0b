// x *= decay;  m += (g - m) (1 - beta1);  v = beta2 v + (1 - beta2) g g;  x -= step_size m / (sqrt(v) / root_correction2 + eps)
//
// PyTorch's AdamW over all parameters at once; the host made the scalars in float64.

struct Update {
    decay: f32,              // 1 - lr * weight_decay
    biases: f32,             // 1 where biases are trained, 0 where they stay as they are
    rest1: f32,              // 1 - beta1
    beta2: f32,
    rest2: f32,              // 1 - beta2
    step_size: f32,          // lr / (1 - beta1^t)
    root_correction2: f32,   // sqrt(1 - beta2^t)
    eps: f32,
}

@group(0) @binding(0) var<storage, read> updates: array<Update>;           // [model, window]
@group(0) @binding(1) var<storage, read_write> step: array<u32>;           // [model]
@group(0) @binding(2) var<storage, read> block_owner: array<u32>;          // [block of the arenas]: model + 2^24 parameter, and 2^31 of a bias
@group(0) @binding(3) var<storage, read> grads: array<f32>;                // [parameter, model, element]
@group(0) @binding(4) var<storage, read_write> params: array<f32>;         // [parameter, model, element]
@group(0) @binding(5) var<storage, read_write> exp_avg: array<f32>;        // [parameter, model, element]
@group(0) @binding(6) var<storage, read_write> exp_avg_sq: array<f32>;     // [parameter, model, element]
@group(0) @binding(7) var<storage, read_write> first_bad: array<atomic<u32>>;   // [model]: 64 update + 16 what + parameter, the least

override WINDOW: u32;   // updates that the host prepares at a time

// step += 1: the update in progress, counted within the window
@compute @workgroup_size(1)
fn tick(@builtin(global_invocation_id) id: vec3<u32>) {
    step[id.z] += 1u;
}

// An infinity or NaN, told by its bits: drivers may take comparisons and max as they like.
fn is_bad(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u; }

// A workgroup is a block, and a block belongs to one parameter of one model.
@compute @workgroup_size(BLOCK)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let model = block_owner[block] & 0xffffffu;
    let now = step[model] - 1u;
    let u = updates[model * WINDOW + now];
    let i = block * BLOCK + lane;
    if (u.biases == 0.0 && block_owner[block] >= 0x80000000u) { return; }
    let g = grads[i];
    var bad = 4u;
    if (is_bad(g)) { bad = 3u; }
    if (is_bad(exp_avg_sq[i])) { bad = 2u; }
    if (is_bad(exp_avg[i])) { bad = 1u; }
    if (is_bad(params[i])) { bad = 0u; }
    if (bad < 4u) { atomicMin(&first_bad[model], 64u * now + 16u * bad + (block_owner[block] >> 24u & 0x7fu)); }
    let m = exp_avg[i] + (g - exp_avg[i]) * u.rest1;
    let v = u.beta2 * exp_avg_sq[i] + u.rest2 * g * g;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    params[i] = params[i] * u.decay - u.step_size * m / (sqrt(v) / u.root_correction2 + u.eps);
}
