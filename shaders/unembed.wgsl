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

// Element i of each of eight rows or columns.
fn resid_post8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(resid_post[at.low.x + i], resid_post[at.low.y + i], resid_post[at.low.z + i], resid_post[at.low.w + i]),
        vec4(resid_post[at.high.x + i], resid_post[at.high.y + i], resid_post[at.high.z + i], resid_post[at.high.w + i]),
    );
}
fn W_U8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(W_U[at.low.x + i], W_U[at.low.y + i], W_U[at.low.z + i], W_U[at.low.w + i]),
        vec4(W_U[at.high.x + i], W_U[at.high.y + i], W_U[at.high.z + i], W_U[at.high.w + i]),
    );
}
fn d_logits8(at: Starts, i: u32) -> Eight {
    return Eight(
        vec4(d_logits[at.low.x + i], d_logits[at.low.y + i], d_logits[at.low.z + i], d_logits[at.low.w + i]),
        vec4(d_logits[at.high.x + i], d_logits[at.high.y + i], d_logits[at.high.z + i], d_logits[at.high.w + i]),
    );
}

@compute @workgroup_size(16, 4)
fn forward(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let c = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (c >= D_VOCAB_OUT || row >= n) { return; }
    let a = starts_of(rows_at(model), row, n, D_MODEL);
    let b = starts_of(weights_at(model), c, D_VOCAB_OUT, 1u);
    var sum = Tile();
    for (var i = 0u; i < D_MODEL; i++) {
        sum = add_to_tile(sum, resid_post8(a, i), W_U8(b, i * D_VOCAB_OUT));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = c; j < min(c + TILE, D_VOCAB_OUT); j++) {
            logits[logits_at(model) + i * D_VOCAB_OUT + j] = element_of_eight(line, j - c);
        }
    }
}

// d_resid_post = d_logits W_U^T
@compute @workgroup_size(16, 4)
fn backward_inputs(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let column = id.x * TILE;
    let row = id.y * TILE;
    let model = id.z;
    let n = n_rows[model];
    if (column >= D_MODEL || row >= n) { return; }
    let a = starts_of(logits_at(model), row, n, D_VOCAB_OUT);
    let w = starts_of(weights_at(model), column, D_MODEL, D_VOCAB_OUT);
    var sum = Tile();
    for (var i = 0u; i < D_VOCAB_OUT; i++) {
        sum = add_to_tile(sum, d_logits8(a, i), W_U8(w, i));
    }
    for (var i = row; i < min(row + TILE, n); i++) {
        let line = tile_row(sum, i - row);
        for (var j = column; j < min(column + TILE, D_MODEL); j++) {
            d_resid_post[rows_at(model) + i * D_MODEL + j] = element_of_eight(line, j - column);
        }
    }
}

// d_W_U = resid_post^T d_logits
@compute @workgroup_size(16, 4)
fn backward_weights(@builtin(global_invocation_id) launched: vec3<u32>) {
    let id = here(launched);
    let c = id.x * TILE;
    let column = id.y * TILE;
    let model = id.z;
    if (c >= D_VOCAB_OUT || column >= D_MODEL) { return; }
    let a = starts_of(rows_at(model), column, D_MODEL, 1u);
    let b = starts_of(logits_at(model), c, D_VOCAB_OUT, 1u);
    var sum = Tile();
    for (var row = 0u; row < n_rows[model]; row++) {
        sum = add_to_tile(sum, resid_post8(a, row * D_MODEL), d_logits8(b, row * D_VOCAB_OUT));
    }
    for (var i = column; i < min(column + TILE, D_MODEL); i++) {
        let line = tile_row(sum, i - column);
        for (var j = c; j < min(c + TILE, D_VOCAB_OUT); j++) {
            d_W_U[weights_at(model) + i * D_VOCAB_OUT + j] = element_of_eight(line, j - c);
        }
    }
}
