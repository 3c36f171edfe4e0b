//! The arrays behind the figures that are too large for `findings.json`: maps over (x, y) and what moves through training.

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::Network;
use super::spectrum::norm;
use super::{Findings, Subject};
use crate::cpu::dot;

/// Neurons shown first, beside the best of each cluster.
const FIRST_NEURONS: usize = 4;

/// Of the network at hand.
pub struct Pictures {
    /// n
    pub n: usize,
    /// Residue of each index of an axis.
    pub elements: Vec<usize>,
    /// Weight on x over (x, y): [head][n * n]
    pub attention: Vec<Vec<f64>>,
    /// The neurons that figures show, and that can be followed through training.
    pub tracked: Vec<usize>,
    /// Activation over (x, y) of each tracked neuron: [n * n] each
    pub activations: Vec<Vec<f64>>,
    /// Their 2D Fourier coefficients, centred: [n * n] each
    pub planes: Vec<Vec<f64>>,
    /// Mean over all neurons of |G|: [n * n]
    pub mean_plane: Vec<f64>,
    /// Mean over all neurons of G^2: [n * n]
    pub power_plane: Vec<f64>,
    /// Mean logit over all pairs and classes with class - label = t, about the mean of them all: `[n]`
    pub logit_by_difference: Vec<f64>,
    /// What the explorer shows of the network itself.
    pub explorer: Explorer,
    /// Checkpoints in the order of their steps, the network itself last.
    pub frames: Vec<Frame>,
}

/// Enough to compute any neuron over (x, y) again:
/// `pre = bias + sum over head, pos of A written[head][slot] . W_in`, A the softmax of `scores` over a row's slots.
pub struct Explorer {
    /// What each head writes from each slot: resid_pre W_V W_O: [head, slot, d_model]
    pub written: Vec<f64>,
    /// [d_mlp, d_model]
    pub w_in: Vec<f64>,
    /// resid_pre[=] W_in + b_in: `[d_mlp]`
    pub bias: Vec<f64>,
    /// [slot, head]
    pub scores: Vec<f64>,
    /// W_L: [d_mlp, class]
    pub w_logit: Vec<f64>,
    /// W_U: [d_model, class]
    pub w_u: Vec<f64>,
    /// (resid_pre[=] + b_out) W_U: `[class]`
    pub constant: Vec<f64>,
}

/// What a slider through training shows at one step.
pub struct Frame {
    /// Null where nothing is known of it.
    pub step: Option<u64>,
    /// [slot, head]
    pub scores: Vec<f64>,
    /// What each head gives to each tracked neuron from each slot: [tracked, head, slot]
    pub tables: Vec<f64>,
    /// [tracked]
    pub biases: Vec<f64>,
    /// For each key frequency the tokens in the plane of its cosine and sine in W_E: [key, token, 2]
    pub embed: Vec<f64>,
    /// The classes in that of W_U: [key, class, 2]
    pub unembed: Vec<f64>,
}

impl Pictures {
    /// Computes what the figures show; `frames` are those of the checkpoints, the network itself last.
    pub fn new(subject: &Subject, findings: &Findings, frames: Vec<Frame>) -> Self {
        let Subject { network, activations, planes, .. } = subject;
        let (n, m, heads) = (network.order(), network.shape.d_mlp, network.shape.n_heads);
        let tracked = tracked(findings);
        let over_grid = |f: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..n * n).map(f).collect() };
        let weight = |head: usize| over_grid(&|row| activations.pattern[(row * heads + head) * 3]);
        let mut by_difference = vec![0.0; n];
        for (row, logits) in activations.logits.chunks_exact(n).enumerate() {
            let label = subject.judge.labels()[row] as usize;
            for (class, logit) in logits.iter().enumerate() {
                by_difference[(class + n - label) % n] += logit / (n * n) as f64;
            }
        }
        let grand = by_difference.iter().sum::<f64>() / n as f64;
        Self {
            n,
            elements: network.group.elements.clone(),
            attention: (0..heads).map(weight).collect(),
            activations: tracked.iter().map(|&i| over_grid(&|row| activations.post[row * m + i])).collect(),
            planes: tracked.iter().map(|&i| planes.plane(i).to_vec()).collect(),
            mean_plane: planes.mean_magnitude(),
            power_plane: planes.mean_power(),
            logit_by_difference: by_difference.iter().map(|x| x - grand).collect(),
            explorer: Explorer::new(network),
            frames,
            tracked,
        }
    }
}

/// The first neurons and the best of each key's cluster, in rising order.
pub fn tracked(findings: &Findings) -> Vec<usize> {
    let (frequency, fve) = (&findings.neurons.frequency, &findings.neurons.fve);
    let best = |&k: &usize| {
        let of = (0..frequency.len()).filter(|&i| frequency[i] == k);
        of.max_by(|&a, &b| fve[a].total_cmp(&fve[b]))
    };
    let mut tracked: Vec<usize> =
        (0..FIRST_NEURONS.min(frequency.len())).chain(findings.key_frequencies.iter().filter_map(best)).collect();
    tracked.sort();
    tracked.dedup();
    tracked
}

/// W_in turned: [d_mlp, d_model]
fn turned(w_in: &[f64], m: usize) -> Vec<f64> {
    (0..m).flat_map(|i| w_in.chunks_exact(m).map(move |row| row[i])).collect()
}

impl Explorer {
    fn new(network: &Network) -> Self {
        let composed = Composed::new(network);
        let constant = composed.bias().to_vec();
        let Composed { written, pre_bias, scores, .. } = composed;
        Self {
            written,
            w_in: turned(network.get("W_in"), network.shape.d_mlp),
            bias: pre_bias,
            scores,
            w_logit: network.w_logit(),
            w_u: network.get("W_U").to_vec(),
            constant,
        }
    }
}

/// A checkpoint as the slider shows it.
pub fn frame(step: Option<u64>, network: &Network, fourier: &Fourier, keys: &[usize], tracked: &[usize]) -> Frame {
    let (n, d) = (network.order(), network.shape.d_model);
    let Explorer { written, w_in, bias, scores, .. } = Explorer::new(network);
    let table = |&i: &usize| written.chunks_exact(d).map(|row| dot(row, &w_in[i * d..][..d])).collect::<Vec<f64>>();
    // Classes as rows, like tokens.
    let classes: Vec<f64> = (0..n).flat_map(|c| network.get("W_U").chunks_exact(n).map(move |row| row[c])).collect();
    let circles = |table: &[f64]| keys.iter().flat_map(|&k| circle(fourier, table, d, k)).collect();
    Frame {
        step,
        tables: tracked.iter().flat_map(table).collect(),
        biases: tracked.iter().map(|&i| bias[i]).collect(),
        embed: circles(&network.get("W_E")[..n * d]),
        unembed: circles(&classes),
        scores,
    }
}

/// Rows of a [n, d] table in the plane that its cosine and sine components of frequency k span: [n, 2]. The first axis is
/// the cosine's direction, the second what the sine's has at right angles to it. At n/2 there is no second one.
fn circle(fourier: &Fourier, table: &[f64], d: usize, k: usize) -> Vec<f64> {
    let along = |row: usize| -> Vec<f64> {
        let mut sum = vec![0.0; d];
        for (values, &wave) in table.chunks_exact(d).zip(fourier.row(row)) {
            crate::cpu::add_scaled(&mut sum, wave, values);
        }
        sum
    };
    let unit = |mut v: Vec<f64>| {
        let length = norm(&v);
        v.iter_mut().for_each(|x| *x /= if length > 0.0 { length } else { 1.0 });
        v
    };
    let rows = fourier.rows_of(k);
    let first = unit(along(rows.start));
    let second = match rows.len() {
        2 => {
            let mut v = along(rows.start + 1);
            let shared = dot(&v, &first);
            crate::cpu::add_scaled(&mut v, -shared, &first);
            unit(v)
        }
        _ => vec![0.0; d],
    };
    let mean = super::network::mean_row(table, d);
    let place = |row: &[f64], axis: &[f64]| dot(row, axis) - dot(&mean, axis);
    table.chunks_exact(d).flat_map(|row| [place(row, &first), place(row, &second)]).collect()
}
