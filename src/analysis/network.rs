//! The network as the analysis sees it, and its forward pass over the grid in stages.
//!
//! Everything is float64. The "=" class is dropped from W_U where there is one, and tokens and classes stand in the
//! group's order, so that every task is c = a + b (or a - b) mod n. The grid is all n*n pairs, row a * n + b. An
//! activation is replaced by handing another one to the stages after it.

use super::group::Group;
use crate::cpu::matmul::{Into, Mat, MatMut, matmul};
use crate::cpu::{Context, attention, embed, loss, mlp, rows, unembed};
use crate::model::{PARAMETERS, Weights};
use crate::plan::Shape;

/// Rows that go through the MLP at a time where only the logits are wanted: their activations stay in a cache.
pub const ROWS: usize = 1024;

/// A network as the analysis sees it: tokens and classes in the group's order, numbers in f64.
pub struct Network {
    /// Sizes in the group's order: `p` and `d_vocab_out` are n.
    pub shape: Shape,
    /// What the order is.
    pub group: Group,
    /// In that order, without the class "=".
    pub weights: Weights<f64>,
    /// Sum of the squares of every parameter as it was trained, in the order of [`PARAMETERS`].
    pub squares: Vec<f64>,
}

/// Activations over the grid; the query is that of "=", at position 2.
pub struct Activations {
    /// [slot, d_model]
    pub resid_pre: Vec<f64>,
    /// [head, d_head]
    pub q: Vec<f64>,
    /// [slot, head, d_head]
    pub v: Vec<f64>,
    /// q . k / sqrt(d_head) of every slot: [slot, head]
    pub scores: Vec<f64>,
    /// [row, head, pos]
    pub pattern: Vec<f64>,
    /// What the heads write: [row, d_model]
    pub attn_out: Vec<f64>,
    /// [row, d_model]
    pub resid_mid: Vec<f64>,
    /// [row, d_mlp]
    pub post: Vec<f64>,
    /// [row, class]
    pub logits: Vec<f64>,
}

impl Network {
    /// `shape` and `weights` as they were trained, on an operation whose group is `group`.
    pub fn new(shape: Shape, weights: &Weights<f32>, group: Group) -> Self {
        let n = group.order();
        let of = Shape { p: n, d_vocab_out: n, ..shape };
        let squares = weights.tensors.iter().map(|tensor| tensor.iter().map(|&w| (w as f64).powi(2)).sum()).collect();
        let tensor = |(parameter, tensor): (&crate::model::Parameter, Vec<f64>)| match parameter.name {
            "W_E" => {
                let tokens = group.elements.iter().chain([&shape.p]);
                tokens.flat_map(|&token| tensor[token * shape.d_model..][..shape.d_model].to_vec()).collect()
            }
            "W_U" => {
                let rows = tensor.chunks_exact(shape.d_vocab_out);
                rows.flat_map(|row| group.elements.iter().map(|&class| row[class])).collect()
            }
            _ => tensor,
        };
        let wide = weights.map(|&w| w as f64).tensors;
        let weights = Weights { tensors: PARAMETERS.iter().zip(wide).map(tensor).collect() };
        Self { shape: of, group, weights, squares }
    }

    /// n
    pub fn order(&self) -> usize {
        self.shape.p
    }

    /// The elements of a tensor. Panics for a name that is no parameter's.
    pub fn get(&self, name: &str) -> &[f64] {
        self.weights.get(name)
    }

    /// The same network with another tensor in place of one of its own.
    pub fn with(&self, name: &str, tensor: Vec<f64>) -> Self {
        let rank = PARAMETERS.iter().position(|parameter| parameter.name == name).expect("a parameter's name");
        let mut weights = self.weights.clone();
        weights.tensors[rank] = tensor;
        Self { weights, group: self.group.clone(), squares: self.squares.clone(), ..*self }
    }

    /// The label of every row of the grid.
    pub fn labels(&self) -> Vec<u32> {
        let n = self.order();
        (0..n * n).map(|row| self.group.label(row / n, row % n) as u32).collect()
    }

    fn context(&self) -> Context<'static> {
        let (shape, rows) = (self.shape, self.order().pow(2));
        Context {
            shape,
            rows,
            batch_rows: rows,
            spread: true,
            updates: &[],
            product: Default::default(),
            copies: Default::default(),
            parameter: 0,
        }
    }

    /// The slots of every row: a, n + b, 2n.
    fn slots(&self) -> Vec<u32> {
        let n = self.order();
        (0..n * n).flat_map(|row| [row / n, n + row % n, 2 * n]).map(|slot| slot as u32).collect()
    }

    /// The whole forward pass.
    pub fn run(&self) -> Activations {
        let (cx, d) = (self.context(), self.shape.d_model);
        let mut resid_pre = vec![0.0; self.shape.n_slots() * d];
        embed::forward(&cx, self.get("W_E"), self.get("W_pos"), &mut resid_pre);
        let [mut k, mut v] = [vec![0.0; resid_pre.len()], vec![0.0; resid_pre.len()]];
        let mut q = vec![0.0; d];
        let [w_q, w_k, w_v] = ["W_Q", "W_K", "W_V"].map(|name| self.get(name));
        attention::forward_qkv(&cx, &resid_pre, w_q, w_k, w_v, &mut q, &mut k, &mut v);
        let mut pattern = vec![0.0; cx.rows * self.shape.n_heads * 3];
        attention::forward_pattern(&cx, &self.slots(), &q, &k, &mut pattern);
        let e = self.shape.d_head();
        let score = |i: usize| crate::cpu::dot(&q[i * e % d..][..e], &k[i * e..][..e]) / (e as f64).sqrt();
        let scores = (0..k.len() / e).map(score).collect();
        let attn_out = self.attn_out(&v, &pattern);
        let resid_mid = self.resid_mid(&resid_pre, &attn_out);
        let post = self.post(&resid_mid);
        let logits = self.logits(&resid_mid, &post);
        Activations { resid_pre, q, v, scores, pattern, attn_out, resid_mid, post, logits }
    }

    /// From resid_mid to the logits, some rows at a time: the activations of a whole grid are larger than any cache, and
    /// most of the time would go into fetching fresh pages for them.
    pub fn logits_from_mid(&self, resid_mid: &[f64]) -> Vec<f64> {
        let (n, d, m) = (self.order(), self.shape.d_model, self.shape.d_mlp);
        let most = ROWS.min(n * n);
        let [mut pre, mut post] = [vec![0.0; most * m], vec![0.0; most * m]];
        let mut resid_post = vec![0.0; most * d];
        let mut logits = vec![0.0; n * n * n];
        for (resid_mid, logits) in resid_mid.chunks(ROWS * d).zip(logits.chunks_mut(ROWS * n)) {
            let cx = Context { rows: resid_mid.len() / d, ..self.context() };
            mlp::forward_in(&cx, resid_mid, self.get("W_in"), self.get("b_in"), &mut pre, &mut post);
            mlp::forward_out(&cx, resid_mid, &post, self.get("W_out"), self.get("b_out"), &mut resid_post);
            unembed::forward(&cx, &resid_post, self.get("W_U"), logits);
        }
        logits
    }

    /// attn_out = z W_O with z = sum over pos of pattern v
    pub fn attn_out(&self, v: &[f64], pattern: &[f64]) -> Vec<f64> {
        let (cx, d) = (self.context(), self.shape.d_model);
        let [mut z, mut out] = [vec![0.0; cx.rows * d], vec![0.0; cx.rows * d]];
        attention::forward_z(&cx, &self.slots(), pattern, v, &mut z);
        matmul(MatMut::new(&mut out, d), Mat::new(&z, d), Mat::new(self.get("W_O"), d), Into::Overwrite);
        out
    }

    /// resid_mid = resid_pre[=] + attn_out
    pub fn resid_mid(&self, resid_pre: &[f64], attn_out: &[f64]) -> Vec<f64> {
        let d = self.shape.d_model;
        let mut out = attn_out.to_vec();
        rows(&mut out, d, |_, row| crate::cpu::add(row, &resid_pre[2 * self.order() * d..]));
        out
    }

    /// post = relu(resid_mid W_in + b_in)
    pub fn post(&self, resid_mid: &[f64]) -> Vec<f64> {
        let cx = self.context();
        let [mut pre, mut post] = [vec![0.0; cx.rows * self.shape.d_mlp], vec![0.0; cx.rows * self.shape.d_mlp]];
        mlp::forward_in(&cx, resid_mid, self.get("W_in"), self.get("b_in"), &mut pre, &mut post);
        post
    }

    /// logits = (skip + post W_out + b_out) W_U; `skip` is what goes round the MLP, resid_mid in the network itself
    pub fn logits(&self, skip: &[f64], post: &[f64]) -> Vec<f64> {
        let cx = self.context();
        let mut resid_post = vec![0.0; cx.rows * self.shape.d_model];
        mlp::forward_out(&cx, skip, post, self.get("W_out"), self.get("b_out"), &mut resid_post);
        self.unembed(&resid_post)
    }

    /// logits = resid_post W_U
    pub fn unembed(&self, resid_post: &[f64]) -> Vec<f64> {
        let cx = self.context();
        let mut logits = vec![0.0; cx.rows * self.order()];
        unembed::forward(&cx, resid_post, self.get("W_U"), &mut logits);
        logits
    }

    /// Loss and hit (1 or 0) of rows of logits, given their labels.
    pub fn losses(&self, logits: &[f64], labels: &[u32]) -> (Vec<f64>, Vec<f64>) {
        let cx = Context { rows: labels.len(), ..self.context() };
        let [mut losses, mut correct] = [vec![0.0; cx.rows], vec![0.0; cx.rows]];
        loss::forward(&cx, labels, logits, &mut losses, &mut correct);
        (losses, correct)
    }

    /// W_logit = W_L = W_out W_U: [d_mlp, class]
    pub fn w_logit(&self) -> Vec<f64> {
        product(self.get("W_out"), self.get("W_U"), self.shape.d_model)
    }
}

/// a b, where a has `inner` columns and b as many rows.
pub fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let columns = b.len() / inner;
    let mut out = vec![0.0; a.len() / inner * columns];
    matmul(MatMut::new(&mut out, columns), Mat::new(a, inner), Mat::new(b, columns), Into::Overwrite);
    out
}

/// Mean over the rows of a [rows, width] array.
pub fn mean_row(x: &[f64], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0; width];
    crate::cpu::sum_rows(x, width, &mut mean);
    let rows = (x.len() / width) as f64;
    mean.iter_mut().for_each(|sum| *sum /= rows);
    mean
}

/// Shifts logits [row, class] so that every class has the mean over the grid that it has in `like`.
pub fn restore_means(logits: &mut [f64], like: &[f64], classes: usize) {
    let missing: Vec<f64> = mean_row(like, classes).iter().zip(mean_row(logits, classes)).map(|(a, b)| a - b).collect();
    rows(logits, classes, |_, row| crate::cpu::add(row, &missing));
}
