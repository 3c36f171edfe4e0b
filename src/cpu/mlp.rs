//! Twin of `mlp.wgsl`.

use super::matmul::{Into, Mat, MatMut, matmul};
use super::{Context, Real, Twin, add, rows, rows2, sum_rows, twin};

/// The twin of an entry point of `mlp.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward_in" => twin!(forward_in, read [resid_mid, W_in, b_in], write [pre, post]),
        "forward_out" => twin!(forward_out, read [resid_mid, post, W_out, b_out], write [resid_post]),
        "backward_out_inputs" => twin!(backward_out_inputs, read [d_resid_post, W_out, pre], write [d_pre]),
        "backward_out_weights" => twin!(backward_out_weights, read [d_resid_post, post], write [d_W_out, d_b_out]),
        "backward_in_inputs" => twin!(backward_in_inputs, read [d_resid_post, d_pre, W_in], write [d_resid_mid]),
        "backward_in_weights" => twin!(backward_in_weights, read [d_pre, resid_mid], write [d_W_in, d_b_in]),
        _ => return None,
    })
}

/// pre = resid_mid W_in + b_in;  post = relu(pre)
pub fn forward_in<T: Real>(cx: &Context, resid_mid: &[T], w_in: &[T], b_in: &[T], pre: &mut [T], post: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let (pre, post) = (&mut pre[..cx.rows * m], &mut post[..cx.rows * m]);
    matmul(MatMut::new(pre, m), Mat::new(&resid_mid[..cx.rows * d], d), Mat::new(w_in, m), Into::Overwrite);
    rows2(pre, m, post, m, |_, pre, post| {
        add(pre, b_in);
        for (post, &pre) in post.iter_mut().zip(&*pre) {
            *post = pre.max(T::zero());
        }
    });
}

/// resid_post = resid_mid + post W_out + b_out
pub fn forward_out<T: Real>(cx: &Context, resid_mid: &[T], post: &[T], w_out: &[T], b_out: &[T], resid_post: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let resid_post = &mut resid_post[..cx.rows * d];
    rows(resid_post, d, |row, out| {
        out.copy_from_slice(&resid_mid[row * d..][..d]);
        add(out, b_out);
    });
    matmul(MatMut::new(resid_post, d), Mat::new(&post[..cx.rows * m], m), Mat::new(w_out, d), Into::Add);
}

/// d_pre = (d_resid_post W_out^T) where pre > 0, else 0
fn backward_out_inputs<T: Real>(cx: &Context, d_resid_post: &[T], w_out: &[T], pre: &[T], d_pre: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let d_pre = &mut d_pre[..cx.rows * m];
    let d_out = Mat::new(&d_resid_post[..cx.rows * d], d);
    matmul(MatMut::new(d_pre, m), d_out, Mat::new(w_out, d).t(), Into::Overwrite);
    rows(d_pre, m, |row, d_pre| {
        for (d_pre, &pre) in d_pre.iter_mut().zip(&pre[row * m..][..m]) {
            *d_pre = if pre > T::zero() { *d_pre } else { T::zero() };
        }
    });
}

/// d_W_out = post^T d_resid_post;  d_b_out = sum over the rows of d_resid_post
fn backward_out_weights<T: Real>(cx: &Context, d_resid_post: &[T], post: &[T], d_w_out: &mut [T], d_b_out: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let d_out = &d_resid_post[..cx.rows * d];
    matmul(MatMut::new(d_w_out, d), Mat::new(&post[..cx.rows * m], m).t(), Mat::new(d_out, d), Into::Overwrite);
    sum_rows(d_out, d, d_b_out);
}

/// d_resid_mid = d_resid_post + d_pre W_in^T
fn backward_in_inputs<T: Real>(cx: &Context, d_resid_post: &[T], d_pre: &[T], w_in: &[T], d_resid_mid: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let d_resid_mid = &mut d_resid_mid[..cx.rows * d];
    d_resid_mid.copy_from_slice(&d_resid_post[..cx.rows * d]);
    matmul(MatMut::new(d_resid_mid, d), Mat::new(&d_pre[..cx.rows * m], m), Mat::new(w_in, m).t(), Into::Add);
}

/// d_W_in = resid_mid^T d_pre;  d_b_in = sum over the rows of d_pre
fn backward_in_weights<T: Real>(cx: &Context, d_pre: &[T], resid_mid: &[T], d_w_in: &mut [T], d_b_in: &mut [T]) {
    let (d, m) = (cx.shape.d_model, cx.shape.d_mlp);
    let d_out = &d_pre[..cx.rows * m];
    matmul(MatMut::new(d_w_in, m), Mat::new(&resid_mid[..cx.rows * d], d).t(), Mat::new(d_out, m), Into::Overwrite);
    sum_rows(d_out, m, d_b_in);
}
