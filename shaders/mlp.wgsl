// pre = resid_mid W_in + b_in;  post = relu(pre);  resid_post = resid_mid + post W_out + b_out

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;               // [model]
@group(0) @binding(1) var<storage, read> W_in: array<f32>;                 // [model, d_model, d_mlp]
@group(0) @binding(2) var<storage, read> b_in: array<f32>;                 // [model, d_mlp]
@group(0) @binding(3) var<storage, read> W_out: array<f32>;                // [model, d_mlp, d_model]
@group(0) @binding(4) var<storage, read> b_out: array<f32>;                // [model, d_model]
@group(0) @binding(5) var<storage, read> resid_mid: array<f32>;            // [model, row, d_model]
@group(0) @binding(6) var<storage, read_write> pre: array<f32>;            // [model, row, d_mlp]
@group(0) @binding(7) var<storage, read_write> post: array<f32>;           // [model, row, d_mlp]
@group(0) @binding(8) var<storage, read_write> resid_post: array<f32>;     // [model, row, d_model]
@group(0) @binding(9) var<storage, read> d_resid_post: array<f32>;         // [model, row, d_model]
@group(0) @binding(10) var<storage, read_write> d_pre: array<f32>;         // [model, row, d_mlp]
@group(0) @binding(11) var<storage, read_write> d_resid_mid: array<f32>;   // [model, row, d_model]
@group(0) @binding(12) var<storage, read_write> d_W_in: array<f32>;        // [model, d_model, d_mlp]
@group(0) @binding(13) var<storage, read_write> d_b_in: array<f32>;        // [model, d_mlp]
@group(0) @binding(14) var<storage, read_write> d_W_out: array<f32>;       // [model, d_mlp, d_model]
@group(0) @binding(15) var<storage, read_write> d_b_out: array<f32>;       // [model, d_model]
@group(0) @binding(16) var<uniform> row_capacity: u32;                     // rows that a model's part has room for

fn narrow_at(model: u32) -> u32 { return part(model, row_capacity * D_MODEL); }
fn wide_at(model: u32) -> u32 { return part(model, row_capacity * D_MLP); }
fn weights_at(model: u32) -> u32 { return part(model, D_MODEL * D_MLP); }

// pre = resid_mid W_in + b_in;  post = relu(pre)
@compute @workgroup_size(16, 4)
fn forward_in(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MLP || row >= n) { return; }
    let a = narrow_at(model) + edge(row, n) * D_MODEL;
    let b = weights_at(model) + edge(column, D_MLP);
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_MODEL; i++) {
        let w = b + i * D_MLP;
        let x = vec4(resid_mid[a.x + i], resid_mid[a.y + i], resid_mid[a.z + i], resid_mid[a.w + i]);
        sum = add_outer(sum, x, vec4(W_in[w.x], W_in[w.y], W_in[w.z], W_in[w.w]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MLP); j++) {
            let at = wide_at(model) + i * D_MLP + j;
            let out = element(line, j - column) + b_in[part(model, D_MLP) + j];
            pre[at] = out;
            post[at] = max(out, 0.0);
        }
    }
}

// resid_post = resid_mid + post W_out + b_out
@compute @workgroup_size(16, 4)
fn forward_out(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = wide_at(model) + edge(row, n) * D_MLP;
    let b = weights_at(model) + edge(column, D_MODEL);
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_MLP; i++) {
        let w = b + i * D_MODEL;
        let x = vec4(post[a.x + i], post[a.y + i], post[a.z + i], post[a.w + i]);
        sum = add_outer(sum, x, vec4(W_out[w.x], W_out[w.y], W_out[w.z], W_out[w.w]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            let at = narrow_at(model) + i * D_MODEL + j;
            resid_post[at] = resid_mid[at] + element(line, j - column) + b_out[part(model, D_MODEL) + j];
        }
    }
}

// d_pre = (d_resid_post W_out^T) where pre > 0, else 0
@compute @workgroup_size(16, 4)
fn backward_out_inputs(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MLP || row >= n) { return; }
    let a = narrow_at(model) + edge(row, n) * D_MODEL;
    let w = weights_at(model) + edge(column, D_MLP) * D_MODEL;
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_MODEL; i++) {
        let x = vec4(d_resid_post[a.x + i], d_resid_post[a.y + i], d_resid_post[a.z + i], d_resid_post[a.w + i]);
        sum = add_outer(sum, x, vec4(W_out[w.x + i], W_out[w.y + i], W_out[w.z + i], W_out[w.w + i]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MLP); j++) {
            let at = wide_at(model) + i * D_MLP + j;
            d_pre[at] = select(0.0, element(line, j - column), pre[at] > 0.0);
        }
    }
}

// d_W_out = post^T d_resid_post;  d_b_out = sum over the rows of d_resid_post
@compute @workgroup_size(16, 4)
fn backward_out_weights(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let neuron = id.y * TILE;
    let model = id.z;
    if (column >= D_MODEL || neuron >= D_MLP) { return; }
    let a = wide_at(model) + edge(neuron, D_MLP);
    let b = narrow_at(model) + edge(column, D_MODEL);
    var sum = mat4x4<f32>();
    var bias = vec4<f32>();
    for (var row = 0u; row < n_rows[model]; row++) {
        let x = a + row * D_MLP;
        let d = b + row * D_MODEL;
        let d_out = vec4(d_resid_post[d.x], d_resid_post[d.y], d_resid_post[d.z], d_resid_post[d.w]);
        sum = add_outer(sum, vec4(post[x.x], post[x.y], post[x.z], post[x.w]), d_out);
        bias += d_out;
    }
    for (var i = neuron; i < min(neuron + TILE, D_MLP); i++) {
        let line = row_of(sum, i - neuron);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_W_out[weights_at(model) + i * D_MODEL + j] = element(line, j - column);
        }
    }
    if (neuron > 0u) { return; }
    for (var j = column; j < min(column + TILE, D_MODEL); j++) {
        d_b_out[part(model, D_MODEL) + j] = element(bias, j - column);
    }
}

// d_resid_mid = d_resid_post + d_pre W_in^T
@compute @workgroup_size(16, 4)
fn backward_in_inputs(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = wide_at(model) + edge(row, n) * D_MLP;
    let w = weights_at(model) + edge(column, D_MODEL) * D_MLP;
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_MLP; i++) {
        let x = vec4(d_pre[a.x + i], d_pre[a.y + i], d_pre[a.z + i], d_pre[a.w + i]);
        sum = add_outer(sum, x, vec4(W_in[w.x + i], W_in[w.y + i], W_in[w.z + i], W_in[w.w + i]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            let at = narrow_at(model) + i * D_MODEL + j;
            d_resid_mid[at] = d_resid_post[at] + element(line, j - column);
        }
    }
}

// d_W_in = resid_mid^T d_pre;  d_b_in = sum over the rows of d_pre
@compute @workgroup_size(16, 4)
fn backward_in_weights(@builtin(global_invocation_id) id: vec3<u32>) {
    let neuron = id.x * TILE;
    let column = id.y * TILE;
    let model = id.z;
    if (neuron >= D_MLP || column >= D_MODEL) { return; }
    let a = narrow_at(model) + edge(column, D_MODEL);
    let b = wide_at(model) + edge(neuron, D_MLP);
    var sum = mat4x4<f32>();
    var bias = vec4<f32>();
    for (var row = 0u; row < n_rows[model]; row++) {
        let x = a + row * D_MODEL;
        let d = b + row * D_MLP;
        let d_out = vec4(d_pre[d.x], d_pre[d.y], d_pre[d.z], d_pre[d.w]);
        sum = add_outer(sum, vec4(resid_mid[x.x], resid_mid[x.y], resid_mid[x.z], resid_mid[x.w]), d_out);
        bias += d_out;
    }
    for (var i = column; i < min(column + TILE, D_MODEL); i++) {
        let line = row_of(sum, i - column);
        for (var j = neuron; j < min(neuron + TILE, D_MLP); j++) {
            d_W_in[weights_at(model) + i * D_MLP + j] = element(line, j - neuron);
        }
    }
    if (column > 0u) { return; }
    for (var j = neuron; j < min(neuron + TILE, D_MLP); j++) {
        d_b_in[part(model, D_MLP) + j] = element(bias, j - neuron);
    }
}
