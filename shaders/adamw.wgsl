// g += l2 x;  x *= decay;  m += (g - m) (1 - beta1);  v = beta2 v + (1 - beta2) g g;  x -= step_size m / (sqrt(v) / root_correction2 + eps)
//
// PyTorch's AdamW and Adam over all parameters at once. Which of decay and l2 does something is all that they differ in.

@group(0) @binding(0) var<storage, read> updates: array<Update>;           // [model, window]
@group(0) @binding(1) var<storage, read> step: array<u32>;                 // [model]
@group(0) @binding(2) var<storage, read> block_owner: array<u32>;          // [block of the arenas]: model, parameter and kind
@group(0) @binding(3) var<storage, read> grads: array<f32>;                // [parameter, model, element]
@group(0) @binding(4) var<storage, read_write> params: array<f32>;         // [parameter, model, element]
@group(0) @binding(5) var<storage, read_write> exp_avg: array<f32>;        // [parameter, model, element]
@group(0) @binding(6) var<storage, read_write> exp_avg_sq: array<f32>;     // [parameter, model, element]
@group(0) @binding(7) var<storage, read_write> first_bad: array<atomic<u32>>;   // [model]: 64 update + 16 what + parameter, the least

override WINDOW: u32;   // updates that the host prepares at a time

// A workgroup is a block, and a block belongs to one parameter of one model.
@compute @workgroup_size(BLOCK)
fn update(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let owner = block_owner[block];
    let model = model_of(owner);
    let now = step[model] - 1u;
    let u = updates[model * WINDOW + now];
    let i = block * BLOCK + lane;
    if ((u.biases == 0.0 && is_bias(owner)) || (u.matrices == 0.0 && is_matrix(owner))) { return; }
    let gradient = grads[i];
    let code = bad_code(now, owner, params[i], exp_avg[i], exp_avg_sq[i], gradient);
    if (code != NOTHING_BAD) { atomicMin(&first_bad[model], code); }
    let g = gradient + u.l2 * params[i];
    let m = exp_avg[i] + (g - exp_avg[i]) * u.rest1;
    let v = u.beta2 * exp_avg_sq[i] + u.rest2 * g * g;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    params[i] = params[i] * u.decay - u.step_size * m / (sqrt(v) / u.root_correction2 + u.eps);
}
