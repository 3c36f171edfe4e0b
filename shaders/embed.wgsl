// resid_pre[slot] = W_E[token] + W_pos[pos]

@group(0) @binding(0) var<storage, read> W_E: array<f32>;               // [model, d_vocab, d_model]
@group(0) @binding(1) var<storage, read> W_pos: array<f32>;             // [model, pos, d_model]
@group(0) @binding(2) var<storage, read_write> resid_pre: array<f32>;   // [model, slot, d_model]
@group(0) @binding(3) var<storage, read> d_resid_pre: array<f32>;       // [model, slot, d_model]
@group(0) @binding(4) var<storage, read_write> d_W_E: array<f32>;       // [model, d_vocab, d_model]
@group(0) @binding(5) var<storage, read_write> d_W_pos: array<f32>;     // [model, pos, d_model]

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let i = id.x;
    let slot = id.y;
    let model = id.z;
    if (i >= D_MODEL) { return; }
    let embedded = W_E[part(model, (P + 1u) * D_MODEL) + slot_token(slot) * D_MODEL + i];
    let placed = W_pos[part(model, 3u * D_MODEL) + slot_pos(slot) * D_MODEL + i];
    resid_pre[part(model, (2u * P + 1u) * D_MODEL) + slot * D_MODEL + i] = embedded + placed;
}

// d_W_E[token] = sum of d_resid_pre over the slots of the token;  d_W_pos[pos] = over the slots of the position
@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let i = id.x;
    let token = id.y;
    let model = id.z;
    if (i >= D_MODEL) { return; }
    let d = part(model, (2u * P + 1u) * D_MODEL) + i;
    var sum = 0.0;
    if (token == P) {
        sum = d_resid_pre[d + slot_equals() * D_MODEL];
    } else {
        sum = d_resid_pre[d + token * D_MODEL] + d_resid_pre[d + (P + token) * D_MODEL];
    }
    d_W_E[part(model, (P + 1u) * D_MODEL) + token * D_MODEL + i] = sum;

    // The invocations of tokens 0, 1 and 2 see to the three positions too.
    if (token >= 3u) { return; }
    let pos = token;
    sum = 0.0;
    for (var slot = pos * P; slot < min((pos + 1u) * P, 2u * P + 1u); slot++) {
        sum += d_resid_pre[d + slot * D_MODEL];
    }
    d_W_pos[part(model, 3u * D_MODEL) + pos * D_MODEL + i] = sum;
}
