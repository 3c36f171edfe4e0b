//! Networks that break one claim of the certificate and keep as many of the others as can be arranged.

use grokscope::analysis::composed::Composed;
use grokscope::analysis::fourier::Fourier;
use grokscope::analysis::group::Group;
use grokscope::analysis::network::{Network, product};
use grokscope::analysis::neurons::{Planes, neurons};
use grokscope::analysis::scores::Judge;
use grokscope::analysis::spectrum::Spectrum;
use grokscope::model::{PARAMETERS, Weights};
use grokscope::plan::Shape;
use grokscope::random::Philox;
use grokscope::task::philox_permutation;
use nalgebra::{DMatrix, DVector};

/// A network with p classes on a cyclic group.
#[derive(Clone)]
pub struct Trained {
    pub shape: Shape,
    pub weights: Weights<f32>,
    pub group: Group,
    /// For each pair of the grid, whether it was trained on.
    pub trained_on: Vec<bool>,
}

impl Trained {
    pub fn network(&self) -> Network {
        Network::new(self.shape, &self.weights, self.group.clone())
    }

    fn get(&self, name: &str) -> &[f32] {
        self.weights.get(name)
    }

    /// The same with another tensor.
    fn with(&self, name: &str, tensor: Vec<f32>) -> Self {
        let rank = PARAMETERS.iter().position(|parameter| parameter.name == name).expect("a parameter");
        let mut other = self.clone();
        other.weights.tensors[rank] = tensor;
        other
    }

    /// Accuracy on all pairs of logits [row, class].
    fn accuracy(&self, network: &Network, logits: &[f64]) -> f64 {
        Judge::new(network, Some(&self.trained_on)).scores(network, logits).all.accuracy
    }
}

fn normals(stream: u32, count: usize) -> Vec<f64> {
    let philox = Philox::new(9);
    (0..count).map(|i| philox.normal(stream, i)).collect()
}

/// W_out with its rows permuted among the neurons of each frequency: embedding, attention and neurons stay as they are.
pub fn permuted(of: &Trained) -> Trained {
    let network = of.network();
    let fourier = Fourier::new(network.order());
    let (d, m) = (of.shape.d_model, of.shape.d_mlp);
    let post = network.run().post;
    let found = neurons(&fourier, &Planes::of(&fourier, &post, m), &post);
    let mut w_out = of.get("W_out").to_vec();
    for k in fourier.frequencies() {
        let own: Vec<usize> = (0..m).filter(|&i| found.frequency[i] == k).collect();
        for (&to, from) in own.iter().zip(philox_permutation(k as u64 + 1, own.len())) {
            let from = own[from as usize];
            w_out[to * d..][..d].copy_from_slice(&of.get("W_out")[from * d..][..d]);
        }
    }
    of.with("W_out", w_out)
}

/// Noise on W_E along the directions that heads read least, until it is no longer sparse.
pub fn noisy_embedding(of: &Trained) -> Trained {
    let network = of.network();
    let (n, d, e) = (network.order(), of.shape.d_model, of.shape.d_head());
    let composed = Composed::new(&network);
    // Columns of everything that is read from the residual stream at x and y.
    let mut read: Vec<f64> = Vec::new();
    for head in 0..of.shape.n_heads {
        let part = |name: &str| &network.get(name)[head * d * e..][..d * e];
        let q = &composed.q[head * e..][..e];
        read.extend(part("W_K").chunks_exact(e).map(|row| row.iter().zip(q).map(|(k, q)| k * q).sum::<f64>()));
        let written = product(part("W_V"), part("W_O"), e);
        for through in ["W_in", "W_U"] {
            let table = product(&written, network.get(through), d);
            let columns = table.len() / d;
            // Row by row of the transpose, so that every column of `read` has d rows.
            (0..columns).for_each(|c| read.extend((0..d).map(|i| table[i * columns + c])));
        }
    }
    let read = DMatrix::from_column_slice(d, read.len() / d, &read);
    let decomposed = (&read * read.transpose()).symmetric_eigen();
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| decomposed.eigenvalues[i].total_cmp(&decomposed.eigenvalues[j]));
    let least: Vec<_> = order[..d / 2].iter().map(|&i| decomposed.eigenvectors.column(i)).collect();
    let noise = normals(1, n * least.len());
    let fourier = Fourier::new(n);
    let with = |sigma: f64| {
        let mut w_e = of.get("W_E").to_vec();
        for token in 0..n {
            for (k, direction) in least.iter().enumerate() {
                let x = sigma * noise[token * least.len() + k];
                (0..d).for_each(|i| w_e[of.group.elements[token] * d + i] += (x * direction[i]) as f32);
            }
        }
        of.with("W_E", w_e)
    };
    let gini = |subject: &Trained| Spectrum::of_rows(&fourier, &subject.network().get("W_E")[..n * d], d).gini;
    let found = (0..60).map(|i| with(0.01 * 1.2f64.powi(i))).find(|subject| gini(subject) < 0.33);
    found.expect("noise as large as that is all there is")
}

/// Three extra neurons per neuron: they read mixtures of the residual stream, and their output weights are zero.
pub fn idle_neurons(of: &Trained) -> Trained {
    let (d, m) = (of.shape.d_model, of.shape.d_mlp);
    let (more, reach) = (3 * m, largest(&of.network().run().resid_mid));
    let mixed = normals(2, d * more);
    let wide = |tensor: &[f32], rows: usize, extra: &dyn Fn(usize, usize) -> f64| -> Vec<f32> {
        let row = |i: usize| {
            let own = tensor[i * m..][..m].iter().copied();
            own.chain((0..more).map(|j| extra(i, j) as f32)).collect::<Vec<_>>()
        };
        (0..rows).flat_map(row).collect()
    };
    let w_in = wide(of.get("W_in"), d, &|i, j| mixed[i * more + j]);
    // So large a bias that they never saturate: a mixture stays one.
    let b_in = wide(of.get("b_in"), 1, &|_, j| reach * (0..d).map(|i| mixed[i * more + j].abs()).sum::<f64>());
    let w_out: Vec<f32> = of.get("W_out").iter().copied().chain(vec![0.0; more * d]).collect();
    let mut other = of.with("W_in", w_in).with("b_in", b_in).with("W_out", w_out);
    other.shape.d_mlp = m + more;
    other
}

fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// A part of the neurons' bias comes through attention to "=" instead, until it is missed.
pub fn equals_needed(of: &Trained) -> Trained {
    let network = of.network();
    let activations = network.run();
    let (d, e, slots) = (of.shape.d_model, of.shape.d_head(), network.shape.n_slots());
    let heads = of.shape.n_heads;
    let rows = activations.pattern.len() / (3 * heads);
    let weights = |head: usize| (0..rows).map(move |row| (row * heads + head) * 3 + 2);
    let mean = |head: usize| weights(head).map(|i| activations.pattern[i]).sum::<f64>() / rows as f64;
    // The head whose attention to "=" varies least for its size.
    let spread = |head: usize| {
        let mean = mean(head);
        (weights(head).map(|i| (activations.pattern[i] - mean).powi(2)).sum::<f64>() / rows as f64).sqrt() / mean
    };
    let head = (0..heads).min_by(|&a, &b| spread(a).total_cmp(&spread(b))).expect("a head");
    // A direction that "=" has and tokens hardly have.
    let tokens = DMatrix::from_row_slice(slots - 1, d, &activations.resid_pre[..(slots - 1) * d]);
    let equals = DVector::from_row_slice(&activations.resid_pre[(slots - 1) * d..]);
    let gram = tokens.transpose() * &tokens;
    let ridge = DMatrix::identity(d, d) * (1e-9 * gram.trace());
    let direction = (gram + ridge).lu().solve(&equals).expect("regular");
    let direction = &direction / direction.dot(&equals);
    let value = DVector::from_vec(normals(3, e));
    let w_o = &network.get("W_O")[head * e * d..][..e * d];
    let written = product(value.as_slice(), w_o, e);
    let shift = product(&written, network.get("W_in"), d);
    let with = |size: f64| {
        let mut w_v = of.get("W_V").to_vec();
        for (i, row) in w_v[head * d * e..][..d * e].chunks_exact_mut(e).enumerate() {
            row.iter_mut().enumerate().for_each(|(j, x)| *x += (size / mean(head) * direction[i] * value[j]) as f32);
        }
        let b_in = of.get("b_in").iter().zip(&shift).map(|(b, s)| b - (size * s) as f32).collect();
        let b_out = of.get("b_out").iter().zip(&written).map(|(b, s)| b - (size * s) as f32).collect();
        of.with("W_V", w_v).with("b_in", b_in).with("b_out", b_out)
    };
    let lost = |subject: &Trained| {
        let network = subject.network();
        let activations = network.run();
        let mut pattern = activations.pattern.clone();
        pattern.iter_mut().skip(2).step_by(3).for_each(|x| *x = 0.0);
        let mid = network.resid_mid(&activations.resid_pre, &network.attn_out(&activations.v, &pattern));
        let without = network.logits_from_mid(&mid);
        subject.accuracy(&network, &activations.logits) - subject.accuracy(&network, &without)
    };
    let found = (0..60).map(|i| with(1e-3 * 1.3f64.powi(i))).find(|subject| lost(subject) > 0.02);
    found.unwrap_or_else(|| with(1.0))
}

/// W_U turned, the MLP's output turned back, and neurons that take away what the skip now adds: the same logits, of which the
/// skip is a part that is missed.
pub fn skip_needed(of: &Trained) -> Trained {
    let (d, m, c) = (of.shape.d_model, of.shape.d_mlp, of.shape.d_vocab_out);
    let activations = of.network().run();
    let reach = largest(&activations.resid_mid);
    let random = DMatrix::from_vec(d, d, normals(4, d * d)) / (d as f64).sqrt();
    let f64s = |name: &str| of.get(name).iter().map(|&x| x as f64).collect::<Vec<_>>();
    let (w_u, w_out) = (DMatrix::from_row_slice(d, c, &f64s("W_U")), DMatrix::from_row_slice(m, d, &f64s("W_out")));
    let (b_out, w_in, b_in) = (DMatrix::from_row_slice(1, d, &f64s("b_out")), of.get("W_in"), of.get("b_in"));
    let f32s = |x: &DMatrix<f64>| x.transpose().iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let with = |size: f64| {
        let turn = DMatrix::identity(d, d) + size * &random;
        let back = turn.clone().try_inverse()?;
        // resid_mid (T - I) W_U, which the neurons take away again, is resid_mid (T - I) T^-1 before W_U'.
        let taken = (&turn - DMatrix::identity(d, d)) * &back;
        let rows = f32s(&(&w_out * &back)).into_iter().chain(f32s(&-&taken)).collect();
        let constant = DMatrix::from_element(1, d, reach) * &taken;
        let wide: Vec<f32> = (0..d)
            .flat_map(|i| w_in[i * m..][..m].iter().copied().chain((0..d).map(move |j| f32::from(u8::from(i == j)))))
            .collect();
        let biases = b_in.iter().copied().chain(vec![reach as f32; d]).collect();
        let mut other = of.with("W_U", f32s(&(&turn * &w_u))).with("W_out", rows);
        other = other.with("b_out", f32s(&(&b_out * &back + constant))).with("W_in", wide).with("b_in", biases);
        other.shape.d_mlp = m + d;
        Some(other)
    };
    let lost = |subject: &Trained| {
        let network = subject.network();
        let activations = network.run();
        let mean = grokscope::analysis::network::mean_row(&activations.resid_mid, d);
        let skip: Vec<f64> = mean.iter().copied().cycle().take(activations.resid_mid.len()).collect();
        let without = network.logits(&skip, &activations.post);
        subject.accuracy(&network, &activations.logits) - subject.accuracy(&network, &without)
    };
    let found = (0..60).filter_map(|i| with(0.03 * 1.25f64.powi(i))).find(|subject| lost(subject) > 0.02);
    found.expect("a turn as large as that makes the skip all there is")
}
