
// What the kernels of an update share. The host made the scalars in float64.
struct Update {
    decay: f32,              // 1 - lr * weight_decay where weight decay is decoupled, else 1
    l2: f32,                 // weight decay that is added to the gradient, else 0
    biases: f32,             // 1 where biases are trained, 0 where they stay as they are
    matrices: f32,           // 1 where AdamW updates the matrices between embedding and unembedding too, else 0
    rest1: f32,              // 1 - beta1
    beta2: f32,
    rest2: f32,              // 1 - beta2
    step_size: f32,          // lr / (1 - beta1^t)
    root_correction2: f32,   // sqrt(1 - beta2^t)
    eps: f32,
    lr: f32,                 // of SGD, and of the matrices that Muon updates
    matrix_decay: f32,       // 1 - lr * weight_decay, of those
    momentum: f32,
    rest_momentum: f32,      // 1 - momentum
    nesterov: f32,           // 1 or 0
    keep: f32,               // share of the old average in the new one
    take: f32,               // share of the gradient
    amplify: f32,            // factor of the slow gradients
    place: f32,              // where among the remembered gradients the new one goes
}

// Whom a block of the arenas belongs to: model + 2^24 parameter, 2^30 of a matrix between embedding and unembedding, 2^31 of a bias.
fn model_of(owner: u32) -> u32 { return owner & 0xffffffu; }
fn parameter_of(owner: u32) -> u32 { return (owner >> 24u) & 0x3fu; }
fn is_matrix(owner: u32) -> bool { return (owner & 0x40000000u) != 0u; }
fn is_bias(owner: u32) -> bool { return owner >= 0x80000000u; }

// An infinity or NaN, told by its bits: drivers may take comparisons and max as they like.
fn is_bad(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u; }

const NOTHING_BAD = 0xffffffffu;

// Which of parameter, moments and gradient is the first that is bad, in update `now`: 64 update + 16 what + parameter.
fn bad_code(now: u32, owner: u32, x: f32, m: f32, v: f32, g: f32) -> u32 {
    var bad = 4u;
    if (is_bad(g)) { bad = 3u; }
    if (is_bad(v)) { bad = 2u; }
    if (is_bad(m)) { bad = 1u; }
    if (is_bad(x)) { bad = 0u; }
    return select(64u * now + 16u * bad + parameter_of(owner), NOTHING_BAD, bad == 4u);
}
