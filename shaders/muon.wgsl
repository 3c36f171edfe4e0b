// Momentum made orthogonal by five steps of Newton and Schulz, for the matrices between embedding and unembedding, and for each head's
// by itself (Jordan et al. 2024, "Muon"). Other parameters are AdamW's.

@group(0) @binding(0) var<storage, read> updates: array<Update>;           // [model, window]
@group(0) @binding(1) var<storage, read> step: array<u32>;                 // [model]
@group(0) @binding(2) var<storage, read> block_owner: array<u32>;          // [block of the arenas]: model, parameter and kind
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;          // [parameter, model, element]
@group(0) @binding(4) var<storage, read_write> params: array<f32>;         // [parameter, model, element]
@group(0) @binding(5) var<storage, read_write> exp_avg: array<f32>;        // [parameter, model, element]
@group(0) @binding(6) var<storage, read_write> first_bad: array<atomic<u32>>;   // [model]

override WINDOW: u32;   // updates that the host prepares at a time

// m += (1 - momentum) (g - m);  g = m, or with Nesterov's momentum g + momentum (m - g)
@compute @workgroup_size(BLOCK)
fn momentum(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let owner = block_owner[block];
    if (!is_matrix(owner)) { return; }
    let model = model_of(owner);
    let now = step[model] - 1u;
    let u = updates[model * WINDOW + now];
    let i = block * BLOCK + lane;
    let g = grads[i];
    let code = bad_code(now, owner, params[i], exp_avg[i], 0.0, g);
    if (code != NOTHING_BAD) { atomicMin(&first_bad[model], code); }
    let m = exp_avg[i] + u.rest_momentum * (g - exp_avg[i]);
    exp_avg[i] = m;
    grads[i] = select(m, g + u.momentum * (m - g), u.nesterov != 0.0);
}

// x = x matrix_decay - lr g, where g is orthogonal by now
@compute @workgroup_size(BLOCK)
fn update(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let owner = block_owner[block];
    if (!is_matrix(owner)) { return; }
    let model = model_of(owner);
    let now = step[model] - 1u;
    let u = updates[model * WINDOW + now];
    let i = block * BLOCK + lane;
    params[i] = params[i] * u.matrix_decay - u.lr * grads[i];
}
