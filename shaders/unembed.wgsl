// logits = resid_post W_U

@group(0) @binding(0) var<storage, read> n_rows: array<u32>;               // [model]
@group(0) @binding(1) var<storage, read> W_U: array<f32>;                  // [model, d_model, d_vocab_out]
@group(0) @binding(2) var<storage, read> resid_post: array<f32>;           // [model, row, d_model]
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;         // [model, row, d_vocab_out]
@group(0) @binding(4) var<storage, read> d_logits: array<f32>;             // [model, row, d_vocab_out]
@group(0) @binding(5) var<storage, read_write> d_resid_post: array<f32>;   // [model, row, d_model]
@group(0) @binding(6) var<storage, read_write> d_W_U: array<f32>;          // [model, d_model, d_vocab_out]
@group(0) @binding(7) var<uniform> row_capacity: u32;                      // rows that a model's part has room for

fn rows_at(model: u32) -> u32 { return part(model, row_capacity * D_MODEL); }
fn logits_at(model: u32) -> u32 { return part(model, row_capacity * D_VOCAB_OUT); }
fn weights_at(model: u32) -> u32 { return part(model, D_MODEL * D_VOCAB_OUT); }

@compute @workgroup_size(16, 4)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (c >= D_VOCAB_OUT || row >= n) { return; }
    let a = rows_at(model) + edge(row, n) * D_MODEL;
    let b = weights_at(model) + edge(c, D_VOCAB_OUT);
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_MODEL; i++) {
        let w = b + i * D_VOCAB_OUT;
        let x = vec4(resid_post[a.x + i], resid_post[a.y + i], resid_post[a.z + i], resid_post[a.w + i]);
        sum = add_outer(sum, x, vec4(W_U[w.x], W_U[w.y], W_U[w.z], W_U[w.w]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = c; j < min(c + TILE, D_VOCAB_OUT); j++) {
            logits[logits_at(model) + i * D_VOCAB_OUT + j] = element(line, j - c);
        }
    }
}

// d_resid_post = d_logits W_U^T
@compute @workgroup_size(16, 4)
fn backward_inputs(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = logits_at(model) + edge(row, n) * D_VOCAB_OUT;
    let w = weights_at(model) + edge(column, D_MODEL) * D_VOCAB_OUT;
    var sum = mat4x4<f32>();
    for (var i = 0u; i < D_VOCAB_OUT; i++) {
        let d = vec4(d_logits[a.x + i], d_logits[a.y + i], d_logits[a.z + i], d_logits[a.w + i]);
        sum = add_outer(sum, d, vec4(W_U[w.x + i], W_U[w.y + i], W_U[w.z + i], W_U[w.w + i]));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = row_of(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_resid_post[rows_at(model) + i * D_MODEL + j] = element(line, j - column);
        }
    }
}

// d_W_U = resid_post^T d_logits
@compute @workgroup_size(16, 4)
fn backward_weights(@builtin(global_invocation_id) id: vec3<u32>) {
    let c = id.x * TILE;
    let column = id.y * TILE;
    let model = id.z;
    if (c >= D_VOCAB_OUT || column >= D_MODEL) { return; }
    let a = rows_at(model) + edge(column, D_MODEL);
    let b = logits_at(model) + edge(c, D_VOCAB_OUT);
    var sum = mat4x4<f32>();
    for (var row = 0u; row < n_rows[model]; row++) {
        let x = a + row * D_MODEL;
        let d = b + row * D_VOCAB_OUT;
        sum = add_outer(
            sum,
            vec4(resid_post[x.x], resid_post[x.y], resid_post[x.z], resid_post[x.w]),
            vec4(d_logits[d.x], d_logits[d.y], d_logits[d.z], d_logits[d.w]),
        );
    }
    for (var i = column; i < min(column + TILE, D_MODEL); i++) {
        let line = row_of(sum, i - column);
        for (var j = c; j < min(c + TILE, D_VOCAB_OUT); j++) {
            d_W_U[weights_at(model) + i * D_VOCAB_OUT + j] = element(line, j - c);
        }
    }
}
