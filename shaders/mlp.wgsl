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

// Element i of each of eight rows or columns.
fn resid_mid8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(resid_mid[at.low.x + i], resid_mid[at.low.y + i], resid_mid[at.low.z + i], resid_mid[at.low.w + i]),
        vec4(resid_mid[at.high.x + i], resid_mid[at.high.y + i], resid_mid[at.high.z + i], resid_mid[at.high.w + i]),
    );
}
fn W_in8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(W_in[at.low.x + i], W_in[at.low.y + i], W_in[at.low.z + i], W_in[at.low.w + i]),
        vec4(W_in[at.high.x + i], W_in[at.high.y + i], W_in[at.high.z + i], W_in[at.high.w + i]),
    );
}
fn post8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(post[at.low.x + i], post[at.low.y + i], post[at.low.z + i], post[at.low.w + i]),
        vec4(post[at.high.x + i], post[at.high.y + i], post[at.high.z + i], post[at.high.w + i]),
    );
}
fn W_out8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(W_out[at.low.x + i], W_out[at.low.y + i], W_out[at.low.z + i], W_out[at.low.w + i]),
        vec4(W_out[at.high.x + i], W_out[at.high.y + i], W_out[at.high.z + i], W_out[at.high.w + i]),
    );
}
fn d_resid_post8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(d_resid_post[at.low.x + i], d_resid_post[at.low.y + i], d_resid_post[at.low.z + i], d_resid_post[at.low.w + i]),
        vec4(d_resid_post[at.high.x + i], d_resid_post[at.high.y + i], d_resid_post[at.high.z + i], d_resid_post[at.high.w + i]),
    );
}
fn d_pre8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(d_pre[at.low.x + i], d_pre[at.low.y + i], d_pre[at.low.z + i], d_pre[at.low.w + i]),
        vec4(d_pre[at.high.x + i], d_pre[at.high.y + i], d_pre[at.high.z + i], d_pre[at.high.w + i]),
    );
}

// pre = resid_mid W_in + b_in;  post = relu(pre)
@compute @workgroup_size(16, 4)
fn forward_in(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MLP || row >= n) { return; }
    let a = starts_of(narrow_at(model), row, n, D_MODEL);
    let b = starts_of(weights_at(model), column, D_MLP, 1u);
    var sum = Tile();
    for (var i = 0u; i < D_MODEL; i++) {
        sum = add_to_tile(sum, resid_mid8(a, i), W_in8(b, i * D_MLP));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MLP); j++) {
            let at = wide_at(model) + i * D_MLP + j;
            let out = element_of_eight(line, j - column) + b_in[part(model, D_MLP) + j];
            pre[at] = out;
            post[at] = max(out, 0.0);
        }
    }
}

// resid_post = resid_mid + post W_out + b_out
@compute @workgroup_size(16, 4)
fn forward_out(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = starts_of(wide_at(model), row, n, D_MLP);
    let b = starts_of(weights_at(model), column, D_MODEL, 1u);
    var sum = Tile();
    for (var i = 0u; i < D_MLP; i++) {
        sum = add_to_tile(sum, post8(a, i), W_out8(b, i * D_MODEL));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            let at = narrow_at(model) + i * D_MODEL + j;
            resid_post[at] = resid_mid[at] + element_of_eight(line, j - column) + b_out[part(model, D_MODEL) + j];
        }
    }
}

// d_pre = (d_resid_post W_out^T) where pre > 0, else 0
@compute @workgroup_size(16, 4)
fn backward_out_inputs(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MLP || row >= n) { return; }
    let a = starts_of(narrow_at(model), row, n, D_MODEL);
    let w = starts_of(weights_at(model), column, D_MLP, D_MODEL);
    var sum = Tile();
    for (var i = 0u; i < D_MODEL; i++) {
        sum = add_to_tile(sum, d_resid_post8(a, i), W_out8(w, i));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MLP); j++) {
            let at = wide_at(model) + i * D_MLP + j;
            d_pre[at] = select(0.0, element_of_eight(line, j - column), pre[at] > 0.0);
        }
    }
}

// d_W_out = post^T d_resid_post;  d_b_out = sum over the rows of d_resid_post
@compute @workgroup_size(16, 4)
fn backward_out_weights(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let neuron = id.y * TILE;
    let model = id.z;
    if (column >= D_MODEL || neuron >= D_MLP) { return; }
    let a = starts_of(wide_at(model), neuron, D_MLP, 1u);
    let b = starts_of(narrow_at(model), column, D_MODEL, 1u);
    var sum = Tile();
    var bias = Eight();
    for (var row = 0u; row < n_rows[model]; row++) {
        let d_out = d_resid_post8(b, row * D_MODEL);
        sum = add_to_tile(sum, post8(a, row * D_MLP), d_out);
        bias = plus(bias, d_out);
    }
    for (var i = neuron; i < min(neuron + TILE, D_MLP); i++) {
        let line = tile_row(sum, i - neuron);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_W_out[weights_at(model) + i * D_MODEL + j] = element_of_eight(line, j - column);
        }
    }
    if (neuron > 0u) { return; }
    for (var j = column; j < min(column + TILE, D_MODEL); j++) {
        d_b_out[part(model, D_MODEL) + j] = element_of_eight(bias, j - column);
    }
}

// d_resid_mid = d_resid_post + d_pre W_in^T
@compute @workgroup_size(16, 4)
fn backward_in_inputs(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = starts_of(wide_at(model), row, n, D_MLP);
    let w = starts_of(weights_at(model), column, D_MODEL, D_MLP);
    var sum = Tile();
    for (var i = 0u; i < D_MLP; i++) {
        sum = add_to_tile(sum, d_pre8(a, i), W_in8(w, i));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            let at = narrow_at(model) + i * D_MODEL + j;
            d_resid_mid[at] = d_resid_post[at] + element_of_eight(line, j - column);
        }
    }
}

// d_W_in = resid_mid^T d_pre;  d_b_in = sum over the rows of d_pre
@compute @workgroup_size(16, 4)
fn backward_in_weights(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let neuron = id.x * TILE;
    let column = id.y * TILE;
    let model = id.z;
    if (neuron >= D_MLP || column >= D_MODEL) { return; }
    let a = starts_of(narrow_at(model), column, D_MODEL, 1u);
    let b = starts_of(wide_at(model), neuron, D_MLP, 1u);
    var sum = Tile();
    var bias = Eight();
    for (var row = 0u; row < n_rows[model]; row++) {
        let d_out = d_pre8(b, row * D_MLP);
        sum = add_to_tile(sum, resid_mid8(a, row * D_MODEL), d_out);
        bias = plus(bias, d_out);
    }
    for (var i = column; i < min(column + TILE, D_MODEL); i++) {
        let line = tile_row(sum, i - column);
        for (var j = neuron; j < min(neuron + TILE, D_MLP); j++) {
            d_W_in[weights_at(model) + i * D_MLP + j] = element_of_eight(line, j - neuron);
        }
    }
    if (column > 0u) { return; }
    for (var j = neuron; j < min(neuron + TILE, D_MLP); j++) {
        d_b_in[part(model, D_MLP) + j] = element_of_eight(bias, j - neuron);
    }
}
