//! Twin of `unembed.wgsl`.

use super::matmul::{Into, Mat, MatMut, matmul};
use super::{Context, Real, Twin, twin};

/// The twin of an entry point of `unembed.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward" => twin!(forward, read [resid_post, W_U], write [logits]),
        "backward_inputs" => twin!(backward_inputs, read [d_logits, W_U], write [d_resid_post]),
        "backward_weights" => twin!(backward_weights, read [d_logits, resid_post], write [d_W_U]),
        _ => return None,
    })
}

/// logits = resid_post W_U
pub fn forward<T: Real>(cx: &Context, resid_post: &[T], w_u: &[T], logits: &mut [T]) {
    let (d, c) = (cx.shape.d_model, cx.shape.d_vocab_out);
    let logits = MatMut::new(&mut logits[..cx.rows * c], c);
    matmul(logits, Mat::new(&resid_post[..cx.rows * d], d), Mat::new(w_u, c), Into::Overwrite);
}

/// d_resid_post = d_logits W_U^T
fn backward_inputs<T: Real>(cx: &Context, d_logits: &[T], w_u: &[T], d_resid_post: &mut [T]) {
    let (d, c) = (cx.shape.d_model, cx.shape.d_vocab_out);
    let d_resid_post = MatMut::new(&mut d_resid_post[..cx.rows * d], d);
    matmul(d_resid_post, Mat::new(&d_logits[..cx.rows * c], c), Mat::new(w_u, c).t(), Into::Overwrite);
}

/// d_W_U = resid_post^T d_logits
fn backward_weights<T: Real>(cx: &Context, d_logits: &[T], resid_post: &[T], d_w_u: &mut [T]) {
    let (d, c) = (cx.shape.d_model, cx.shape.d_vocab_out);
    let resid_post = Mat::new(&resid_post[..cx.rows * d], d);
    matmul(MatMut::new(d_w_u, c), resid_post.t(), Mat::new(&d_logits[..cx.rows * c], c), Into::Overwrite);
}
