// The slow part of the gradients made stronger, before the optimizer takes them (Lee et al. 2024, "Grokfast").

@group(0) @binding(0) var<storage, read> updates: array<Update>;           // [model, window]
@group(0) @binding(1) var<storage, read> step: array<u32>;                 // [model]
@group(0) @binding(2) var<storage, read> block_owner: array<u32>;          // [block of the arenas]: model, parameter and kind
@group(0) @binding(3) var<storage, read_write> grads: array<f32>;          // [parameter, model, element]
@group(0) @binding(4) var<storage, read_write> grad_memory: array<f32>;    // [copy, parameter, model, element]

override WINDOW: u32;   // updates that the host prepares at a time

fn update_of(block: u32) -> Update {
    let model = model_of(block_owner[block]);
    return updates[model * WINDOW + step[model] - 1u];
}

// h = keep h + take g;  g += amplify h
@compute @workgroup_size(BLOCK)
fn ema(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let u = update_of(block);
    let i = block * BLOCK + lane;
    let slow = u.keep * grad_memory[i] + u.take * grads[i];
    grad_memory[i] = slow;
    grads[i] += u.amplify * slow;
}

// The copy at `place` becomes g;  g += amplify * the mean of all copies
@compute @workgroup_size(BLOCK)
fn ma(@builtin(workgroup_id) launched: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = here(launched);
    let block = group.y * groups.x + group.x;
    if (block >= arrayLength(&block_owner)) { return; }
    let u = update_of(block);
    let i = block * BLOCK + lane;
    let len = arrayLength(&grads);
    let copies = arrayLength(&grad_memory) / len;
    grad_memory[u32(u.place) * len + i] = grads[i];
    if (u.amplify == 0.0) { return; }
    var sum = 0.0;
    for (var copy = 0u; copy < copies; copy++) {
        sum += grad_memory[copy * len + i];
    }
    grads[i] += u.amplify * (sum / f32(copies));
}
