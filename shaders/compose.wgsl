// W_read = [W_in | W_U];  base_read = resid_pre[=] W_read + sum over the heads of head_read[=] + [b_in | b_out W_U]
//
// Parameters in whole vec4s, what every reader of the residual stream gets where all heads look at "=", and the way back
// to the parameters. The products between them stand in the program.

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;                     // [model]
@group(0) @binding(1) var<storage, read> W_in: array<f32>;                       // [model, d_model, d_mlp]
@group(0) @binding(2) var<storage, read> b_in: array<f32>;                       // [model, d_mlp]
@group(0) @binding(3) var<storage, read> W_out: array<f32>;                      // [model, d_mlp, d_model]
@group(0) @binding(4) var<storage, read> b_out: array<f32>;                      // [model, d_model]
@group(0) @binding(5) var<storage, read> W_U: array<f32>;                        // [model, d_model, d_vocab]
@group(0) @binding(6) var<storage, read> W_O: array<f32>;                        // [model, head, d_head, d_model]
@group(0) @binding(7) var<storage, read> W_V: array<f32>;                        // [model, head, d_model, d_head]
@group(0) @binding(8) var<storage, read_write> W_read: array<vec4<f32>>;         // [model, d_model, reader]
@group(0) @binding(9) var<storage, read_write> W_U4: array<vec4<f32>>;           // [model, d_model, d_vocab]
@group(0) @binding(10) var<storage, read_write> W_out4: array<vec4<f32>>;        // [model, d_mlp, d_model]
@group(0) @binding(11) var<storage, read_write> W_O4: array<vec4<f32>>;          // [model, z, d_model]
@group(0) @binding(12) var<storage, read_write> W_V4: array<vec4<f32>>;          // [model, d_model, z]
@group(0) @binding(13) var<storage, read> resid4: array<vec4<f32>>;              // [model, slot, d_model]
@group(0) @binding(14) var<storage, read> head_read: array<vec4<f32>>;           // [model, head, slot, reader]
@group(0) @binding(15) var<storage, read_write> base_read: array<vec4<f32>>;     // [model, reader]
@group(0) @binding(16) var<storage, read> d_W_logit_parts: array<vec4<f32>>;     // [model, chunk, d_mlp, d_vocab]
@group(0) @binding(17) var<storage, read_write> d_W_logit: array<vec4<f32>>;     // [model, d_mlp, d_vocab]
@group(0) @binding(18) var<storage, read> d_slot_read: array<vec4<f32>>;         // [model, slot, reader]
@group(0) @binding(19) var<storage, read_write> d_base_read: array<vec4<f32>>;   // [model, reader]
@group(0) @binding(20) var<storage, read_write> d_head_read: array<vec4<f32>>;   // [model, head, slot, reader]
@group(0) @binding(21) var<storage, read_write> d_b_in: array<f32>;              // [model, d_mlp]
@group(0) @binding(22) var<storage, read_write> d_b_out: array<f32>;             // [model, d_model]
@group(0) @binding(23) var<storage, read_write> d_resid_equals: array<f32>;      // [model, d_model]
@group(0) @binding(24) var<storage, read> d_W_read: array<vec4<f32>>;            // [model, d_model, reader]
@group(0) @binding(25) var<storage, read> d_W_U4: array<vec4<f32>>;              // [model, d_model, d_vocab]
@group(0) @binding(26) var<storage, read> d_W_out4: array<vec4<f32>>;            // [model, d_mlp, d_model]
@group(0) @binding(27) var<storage, read> d_W_O4: array<vec4<f32>>;              // [model, z, d_model]
@group(0) @binding(28) var<storage, read> d_W_V4: array<vec4<f32>>;              // [model, d_model, z]
@group(0) @binding(29) var<storage, read_write> d_W_in: array<f32>;              // [model, d_model, d_mlp]
@group(0) @binding(30) var<storage, read_write> d_W_U: array<f32>;               // [model, d_model, d_vocab]
@group(0) @binding(31) var<storage, read_write> d_W_out: array<f32>;             // [model, d_mlp, d_model]
@group(0) @binding(32) var<storage, read_write> d_W_O: array<f32>;               // [model, head, d_head, d_model]
@group(0) @binding(33) var<storage, read_write> d_W_V: array<f32>;               // [model, head, d_model, d_head]
@group(0) @binding(34) var<uniform> row_capacity: u32;                           // rows that a model's part has room for

override CHUNK: u32;   // rows over which a part of d_W_logit is summed

fn in_at(model: u32) -> u32 { return part(model, D_MODEL * D_MLP); }
fn classes_at(model: u32) -> u32 { return part(model, D_MODEL * D_VOCAB_OUT); }
fn square_at(model: u32) -> u32 { return part(model, D_MODEL * D_MODEL); }
fn read_at(model: u32) -> u32 { return part4(model, 4u * model4() * reader4()); }
fn slot_read_at(model: u32) -> u32 { return part4(model, (2u * P + 1u) * reader4()); }
fn head_read_at(model: u32) -> u32 { return part4(model, N_HEADS * (2u * P + 1u) * reader4()); }

// W_U[i, column] or W_in[i, column], 0 beyond their edges
fn read_weight(model: u32, i: u32, column: u32, is_class: bool) -> f32 {
    if (i >= D_MODEL || column >= select(D_MLP, D_VOCAB_OUT, is_class)) { return 0.0; }
    if (is_class) { return W_U[classes_at(model) + i * D_VOCAB_OUT + column]; }
    return W_in[in_at(model) + i * D_MLP + column];
}

// W_read = [W_in | W_U], and W_U by itself
@compute @workgroup_size(64)
fn forward_read(@builtin(global_invocation_id) id: vec3<u32>) {
    let reader = id.x;
    let i = id.y;
    let model = id.z;
    if (reader >= reader4()) { return; }
    let is_class = reader >= mlp4();
    let first = 4u * select(reader, reader - mlp4(), is_class);
    let weights = vec4(
        read_weight(model, i, first, is_class),
        read_weight(model, i, first + 1u, is_class),
        read_weight(model, i, first + 2u, is_class),
        read_weight(model, i, first + 3u, is_class),
    );
    W_read[read_at(model) + i * reader4() + reader] = weights;
    if (is_class) { W_U4[part4(model, 4u * model4() * class4()) + i * class4() + reader - mlp4()] = weights; }
}

// W_out[neuron, i], 0 beyond its edges
fn out_weight(model: u32, neuron: u32, i: u32) -> f32 {
    if (neuron >= D_MLP || i >= D_MODEL) { return 0.0; }
    return W_out[in_at(model) + neuron * D_MODEL + i];
}

@compute @workgroup_size(16, 4)
fn forward_out(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let neuron = id.y;
    let model = id.z;
    if (column >= model4() || neuron >= 4u * mlp4()) { return; }
    let i = 4u * column;
    W_out4[part4(model, 4u * mlp4() * model4()) + neuron * model4() + column] = vec4(
        out_weight(model, neuron, i),
        out_weight(model, neuron, i + 1u),
        out_weight(model, neuron, i + 2u),
        out_weight(model, neuron, i + 3u),
    );
}

// W_O[head, e, i], 0 beyond its edges
fn o_weight(model: u32, head: u32, e: u32, i: u32) -> f32 {
    if (e >= D_HEAD || i >= D_MODEL) { return 0.0; }
    return W_O[square_at(model) + (head * D_HEAD + e) * D_MODEL + i];
}

// W_V[head, i, e], 0 beyond its edges
fn v_weight(model: u32, head: u32, i: u32, e: u32) -> f32 {
    if (e >= D_HEAD || i >= D_MODEL) { return 0.0; }
    return W_V[square_at(model) + (head * D_MODEL + i) * D_HEAD + e];
}

// W_V[head, i, e ..], four elements
fn v_weights(model: u32, head: u32, i: u32, e: u32) -> vec4<f32> {
    return vec4(
        v_weight(model, head, i, e),
        v_weight(model, head, i, e + 1u),
        v_weight(model, head, i, e + 2u),
        v_weight(model, head, i, e + 3u),
    );
}

// W_O4[z, i] = W_O[head, e, i];  W_V4[i, z] = W_V[head, i, e]
@compute @workgroup_size(16, 4)
fn forward_heads(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x;
    let z = id.y;
    let model = id.z;
    if (column >= model4() || z >= 4u * z4()) { return; }
    let head = z / (4u * head4());
    let e = z % (4u * head4());
    let i = 4u * column;
    let at = part4(model, 4u * z4() * model4());
    W_O4[at + z * model4() + column] = vec4(
        o_weight(model, head, e, i),
        o_weight(model, head, e, i + 1u),
        o_weight(model, head, e, i + 2u),
        o_weight(model, head, e, i + 3u),
    );
    if (z % 4u != 0u) { return; }
    let v_at = at + i * z4() + z / 4u;
    W_V4[v_at] = v_weights(model, head, i, e);
    W_V4[v_at + z4()] = v_weights(model, head, i + 1u, e);
    W_V4[v_at + 2u * z4()] = v_weights(model, head, i + 2u, e);
    W_V4[v_at + 3u * z4()] = v_weights(model, head, i + 3u, e);
}

// b_in[neuron], 0 beyond the last neuron
fn in_bias(model: u32, neuron: u32) -> f32 {
    if (neuron >= D_MLP) { return 0.0; }
    return b_in[part(model, D_MLP) + neuron];
}

@compute @workgroup_size(64)
fn forward_base(@builtin(global_invocation_id) id: vec3<u32>) {
    let reader = id.x;
    let model = id.z;
    if (reader >= reader4()) { return; }
    let is_class = reader >= mlp4();
    let equals = part4(model, (2u * P + 1u) * model4()) + slot_equals() * model4();
    var sum = vec4<f32>();
    for (var i = 0u; i < D_MODEL; i++) {
        var x = resid4[equals + i / 4u][i % 4u];
        if (is_class) { x += b_out[part(model, D_MODEL) + i]; }
        sum = fma(vec4(x), W_read[read_at(model) + i * reader4() + reader], sum);
    }
    for (var head = 0u; head < N_HEADS; head++) {
        sum += head_read[head_read_at(model) + (head * (2u * P + 1u) + slot_equals()) * reader4() + reader];
    }
    let neuron = 4u * reader;
    let bias = vec4(in_bias(model, neuron), in_bias(model, neuron + 1u), in_bias(model, neuron + 2u), in_bias(model, neuron + 3u));
    base_read[part4(model, reader4()) + reader] = sum + bias;
}

// d_W_logit = the sum of its chunks' parts
@compute @workgroup_size(16, 4)
fn backward_logit(@builtin(global_invocation_id) id: vec3<u32>) {
    let class_ = id.x;
    let neuron = id.y;
    let model = id.z;
    if (class_ >= class4() || neuron >= 4u * mlp4()) { return; }
    let size = 4u * mlp4() * class4();
    let at = neuron * class4() + class_;
    let first = part4(model, (row_capacity + CHUNK - 1u) / CHUNK * size);
    var sum = vec4<f32>();
    for (var chunk = 0u; chunk * CHUNK < n_rows[model]; chunk++) {
        sum += d_W_logit_parts[first + chunk * size + at];
    }
    d_W_logit[part4(model, size) + at] = sum;
}

// d_base_read = sum over the rows of [d_pre | d_logits], which every head's head_read[=] gets too;  d_b_in = its neurons
@compute @workgroup_size(64)
fn backward_base(@builtin(global_invocation_id) id: vec3<u32>) {
    let reader = id.x;
    let model = id.z;
    if (reader >= reader4()) { return; }
    var sum = vec4<f32>();
    for (var slot = 0u; slot < P; slot++) {
        sum += d_slot_read[slot_read_at(model) + slot * reader4() + reader];
    }
    d_base_read[part4(model, reader4()) + reader] = sum;
    for (var head = 0u; head < N_HEADS; head++) {
        d_head_read[head_read_at(model) + (head * (2u * P + 1u) + slot_equals()) * reader4() + reader] = sum;
    }
    for (var neuron = 4u * reader; neuron < min(4u * reader + 4u, D_MLP); neuron++) {
        d_b_in[part(model, D_MLP) + neuron] = element(sum, neuron % 4u);
    }
}

// d_b_out = the classes of d_base_read W_read^T;  d_resid_equals = d_base_read W_read^T
@compute @workgroup_size(64)
fn backward_equals(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let model = id.z;
    if (i >= D_MODEL) { return; }
    var of_neurons = 0.0;
    var of_classes = 0.0;
    for (var reader = 0u; reader < reader4(); reader++) {
        let term = dot(d_base_read[part4(model, reader4()) + reader], W_read[read_at(model) + i * reader4() + reader]);
        if (reader < mlp4()) { of_neurons += term; } else { of_classes += term; }
    }
    d_b_out[part(model, D_MODEL) + i] = of_classes;
    d_resid_equals[part(model, D_MODEL) + i] = of_neurons + of_classes;
}

// d_W_in = d_W_read + resid_pre[=]^T d_base_read;  d_W_U the same + d_W_U4, with resid_pre[=] + b_out
@compute @workgroup_size(64)
fn backward_read(@builtin(global_invocation_id) id: vec3<u32>) {
    let reader = id.x;
    let i = id.y;
    let model = id.z;
    if (reader >= reader4()) { return; }
    let is_class = reader >= mlp4();
    let equals = part4(model, (2u * P + 1u) * model4()) + slot_equals() * model4();
    var x = resid4[equals + i / 4u][i % 4u];
    if (is_class) { x += b_out[part(model, D_MODEL) + i]; }
    var sum = d_W_read[read_at(model) + i * reader4() + reader] + x * d_base_read[part4(model, reader4()) + reader];
    if (is_class) {
        let column = reader - mlp4();
        sum += d_W_U4[part4(model, 4u * model4() * class4()) + i * class4() + column];
        for (var c = 4u * column; c < min(4u * column + 4u, D_VOCAB_OUT); c++) {
            d_W_U[classes_at(model) + i * D_VOCAB_OUT + c] = element(sum, c % 4u);
        }
    } else {
        for (var neuron = 4u * reader; neuron < min(4u * reader + 4u, D_MLP); neuron++) {
            d_W_in[in_at(model) + i * D_MLP + neuron] = element(sum, neuron % 4u);
        }
    }
}

@compute @workgroup_size(16, 4)
fn backward_out(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let neuron = id.y;
    let model = id.z;
    if (i >= D_MODEL || neuron >= D_MLP) { return; }
    let source = part4(model, 4u * mlp4() * model4()) + neuron * model4();
    d_W_out[in_at(model) + neuron * D_MODEL + i] = d_W_out4[source + i / 4u][i % 4u];
}

@compute @workgroup_size(16, 4)
fn backward_heads(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    let column = id.y;
    let model = id.z;
    if (i >= D_MODEL || column >= D_MODEL) { return; }
    let head = column / D_HEAD;
    let e = column % D_HEAD;
    let z = 4u * head * head4() + e;
    let source = part4(model, 4u * z4() * model4());
    d_W_O[square_at(model) + column * D_MODEL + i] = d_W_O4[source + z * model4() + i / 4u][i % 4u];
    d_W_V[square_at(model) + (head * D_MODEL + i) * D_HEAD + e] = d_W_V4[source + i * z4() + z / 4u][z % 4u];
}
