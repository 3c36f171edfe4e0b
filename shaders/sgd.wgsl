// d = g + l2 x;  m = momentum m + d;  x -= lr m, or with Nesterov's momentum lr (d + momentum m)
//
// PyTorch's SGD without dampening. The momentum stands where AdamW has its first moment.

@group(0) @binding(0) var<storage, read> updates: array<Update>;           // [model, window]
@group(0) @binding(1) var<storage, read> step: array<u32>;                 // [model]
@group(0) @binding(2) var<storage, read> block_owner: array<u32>;          // [block of the arenas]: model, parameter and kind
@group(0) @binding(3) var<storage, read> grads: array<f32>;                // [parameter, model, element]
@group(0) @binding(4) var<storage, read_write> params: array<f32>;         // [parameter, model, element]
@group(0) @binding(5) var<storage, read_write> exp_avg: array<f32>;        // [parameter, model, element]
@group(0) @binding(6) var<storage, read_write> first_bad: array<atomic<u32>>;   // [model]

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
    if (u.biases == 0.0 && is_bias(owner)) { return; }
    let code = bad_code(now, owner, params[i], exp_avg[i], 0.0, grads[i]);
    if (code != NOTHING_BAD) { atomicMin(&first_bad[model], code); }
    let d = grads[i] + u.l2 * params[i];
    let m = u.momentum * exp_avg[i] + d;
    exp_avg[i] = m;
    params[i] -= u.lr * select(m, d + u.momentum * m, u.nesterov != 0.0);
}
