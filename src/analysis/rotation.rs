//! Tests which frequency of W_E drives which frequency of the logits, by running the network with altered embeddings.
//!
//! Plane j is the part of W_E along cos_j and sin_j over the tokens. For the first operand only, the part of token a's
//! embedding in plane j is replaced by that of token a + d (mod n). If plane j drives component k of the logits (along the
//! classes), that component shifts by d classes, and the components of other keys do not change. Summed over all d in 1..n
//! and a fixed sample of pairs:
//!
//! ```text
//! explained[j][k] = 1 - sum (new_k - shifted_k)^2 / sum shifted_k^2
//! changed[j][k] = sum (new_k - old_k)^2 / sum old_k^2
//! ```

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::{Network, product};
use crate::cpu::matmul::{Into, Mat, MatMut, matmul};
use crate::cpu::{self, add_scaled, dot};
use crate::task::philox_permutation;
use serde::{Deserialize, Serialize};

/// Pairs at most: the head of Philox permutation 0 of the grid.
pub const PAIRS: usize = 256;
/// Share from which a component follows a plane.
pub const FOLLOWS: f64 = 0.5;
/// Share of a component's energy from which a plane moves it.
const MOVES: f64 = 0.25;

/// What rotating planes of W_E does to the components of the keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    /// Frequencies of the planes: the keys, and where a component does not follow its own plane also doubles and halves of
    /// keys and what stands out in W_E.
    pub planes: Vec<usize>,
    /// Frequencies of the components: the keys.
    pub components: Vec<usize>,
    /// Share of the shifted component that the new one explains: `[plane][component]`; negative where it is farther from it
    /// than 0 is.
    pub explained: Vec<Vec<f64>>,
    /// Energy of the component's change over that of the component: `[plane][component]`. 0 where it stays; 2 where it turns with
    /// the plane, as the mean over d of 2 - 2 cos is.
    pub changed: Vec<Vec<f64>>,
}

impl Rotation {
    /// Share of a key's shifted component that rotating its own plane explains.
    pub fn own(&self, key: usize) -> Option<f64> {
        let (plane, component) = (self.plane(key)?, self.component(key)?);
        Some(self.explained[plane][component])
    }

    /// The plane that a key's component follows, with the share that it explains; none where it follows none.
    pub fn followed(&self, key: usize) -> Option<(usize, f64)> {
        let component = self.component(key)?;
        let planes = self.planes.iter().zip(&self.explained).map(|(&plane, explained)| (plane, explained[component]));
        planes.filter(|(_, explained)| *explained >= FOLLOWS).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The planes that change a key's component by at least a quarter of its energy, with what they change of it, the largest
    /// first.
    pub fn movers(&self, key: usize) -> Vec<(usize, f64)> {
        let Some(component) = self.component(key) else { return Vec::new() };
        let planes = self.planes.iter().zip(&self.changed).map(|(&plane, changed)| (plane, changed[component]));
        let mut movers: Vec<_> = planes.filter(|(_, changed)| *changed >= MOVES).collect();
        movers.sort_by(|a, b| b.1.total_cmp(&a.1));
        movers
    }

    fn plane(&self, frequency: usize) -> Option<usize> {
        self.planes.iter().position(|&plane| plane == frequency)
    }

    fn component(&self, key: usize) -> Option<usize> {
        self.components.iter().position(|&component| component == key)
    }
}

/// Rotates the planes of `keys`; where one does not move its component, also doubles and halves of keys and `others`.
pub fn rotation(
    network: &Network,
    composed: &Composed,
    fourier: &Fourier,
    keys: &[usize],
    others: &[usize],
) -> Rotation {
    let rotator = Rotator::new(network, composed, fourier, keys);
    let mut rotation =
        Rotation { planes: Vec::new(), components: keys.to_vec(), explained: Vec::new(), changed: Vec::new() };
    let rotate = |rotation: &mut Rotation, plane: usize| {
        if !rotation.planes.contains(&plane) {
            let (explained, changed) = rotator.rotate(plane);
            rotation.planes.push(plane);
            rotation.explained.push(explained);
            rotation.changed.push(changed);
        }
    };
    keys.iter().for_each(|&key| rotate(&mut rotation, key));
    if keys.iter().any(|&key| rotation.own(key).is_some_and(|own| own < FOLLOWS)) {
        let doubles = keys.iter().map(|&k| fourier.folded(2 * k));
        let halves = fourier.frequencies().filter(|&j| keys.contains(&fourier.folded(2 * j)));
        let mut more: Vec<usize> = doubles.chain(halves).chain(others.iter().copied()).filter(|&j| j != 0).collect();
        more.sort();
        more.into_iter().for_each(|plane| rotate(&mut rotation, plane));
    }
    rotation
}

/// The network from the slots to the components of the keys, for a sample of pairs.
struct Rotator<'a> {
    network: &'a Network,
    composed: &'a Composed,
    fourier: &'a Fourier,
    /// Rows of the basis for each key; a column is one of these rows.
    rows: Vec<std::ops::Range<usize>>,
    /// W_U along the columns' waves: [d_model, column]
    unembed: Vec<f64>,
    /// W_L along them: [d_mlp, column]
    w_logit: Vec<f64>,
    /// (resid_pre[=] + b_out) W_U along them: [column]
    bias: Vec<f64>,
    /// What a head gives them past the MLP from each slot: [head, slot, column]
    skip: Vec<f64>,
    /// The sample: rows of the grid.
    pairs: Vec<usize>,
}

/// What a unit of each wave of a plane of W_E adds.
struct Plane<'a> {
    waves: Vec<&'a [f64]>,
    /// To a head's score: [head, wave]
    scores: Vec<f64>,
    /// To pre, per unit of attention: [head, wave, d_mlp]
    neur: Vec<f64>,
    /// To the columns past the MLP: [head, wave, column]
    skip: Vec<f64>,
}

impl<'a> Rotator<'a> {
    fn new(network: &'a Network, composed: &'a Composed, fourier: &'a Fourier, keys: &[usize]) -> Self {
        let (n, d) = (network.order(), network.shape.d_model);
        let rows: Vec<_> = keys.iter().map(|&k| fourier.rows_of(k)).collect();
        let along = |table: &[f64]| -> Vec<f64> {
            let of_row =
                |row: &[f64]| rows.iter().cloned().flatten().map(|i| dot(row, fourier.row(i))).collect::<Vec<_>>();
            table.chunks_exact(n).flat_map(of_row).collect()
        };
        let unembed = along(network.get("W_U"));
        Self {
            w_logit: along(&network.w_logit()),
            bias: along(composed.bias()),
            skip: if keys.is_empty() { Vec::new() } else { product(&composed.written, &unembed, d) },
            pairs: philox_permutation(0, n * n).iter().take(PAIRS).map(|&row| row as usize).collect(),
            network,
            composed,
            fourier,
            rows,
            unembed,
        }
    }

    fn plane(&self, frequency: usize) -> Plane<'a> {
        let (network, fourier) = (self.network, self.fourier);
        let (d, e, heads) = (network.shape.d_model, network.shape.d_head(), network.shape.n_heads);
        let waves: Vec<&[f64]> = fourier.rows_of(frequency).map(|row| fourier.row(row)).collect();
        // The part of W_E in the plane is the sum over the waves of wave x direction: [wave, d_model]
        let mut directions = vec![0.0; waves.len() * d];
        for (direction, wave) in directions.chunks_exact_mut(d).zip(&waves) {
            for (token, &x) in network.get("W_E").chunks_exact(d).zip(*wave) {
                add_scaled(direction, x, token);
            }
        }
        let part = |name: &str, head: usize| &network.get(name)[head * d * e..][..d * e];
        let of_heads =
            |name: &str| (0..heads).flat_map(|head| product(&directions, part(name, head), d)).collect::<Vec<_>>();
        let keys = of_heads("W_K");
        let score = |(i, k): (usize, &[f64])| dot(k, &self.composed.q[i / waves.len() * e..][..e]) / (e as f64).sqrt();
        let written: Vec<f64> = (of_heads("W_V").chunks_exact(waves.len() * e).enumerate())
            .flat_map(|(head, values)| product(values, part("W_O", head), e))
            .collect();
        Plane {
            scores: keys.chunks_exact(e).enumerate().map(score).collect(),
            neur: product(&written, network.get("W_in"), d),
            skip: product(&written, &self.unembed, d),
            waves,
        }
    }

    /// The columns of a row of the grid for each of several moves of the first operand's embedding in a plane: [move, column].
    /// A move is what is added of each wave of the plane: [move, wave].
    ///
    /// pre and columns are linear in few vectors: for each head those of x, y and "=", and those of the waves. Their factors
    /// are the attention's weights, and the weight on x times the wave's move.
    fn columns(&self, row: usize, plane: &Plane, moves: &[f64]) -> Vec<f64> {
        let (composed, columns) = (self.composed, self.bias.len());
        let (heads, m, waves) = (self.network.shape.n_heads, self.network.shape.d_mlp, plane.waves.len());
        let slots = composed.slots(row);
        let (mut neur, mut skip) = (composed.pre_bias.clone(), self.bias.clone());
        for head in 0..heads {
            for slot in slots {
                let at = head * self.network.shape.n_slots() + slot;
                neur.extend_from_slice(composed.neurons_of(head, slot));
                skip.extend_from_slice(&self.skip[at * columns..][..columns]);
            }
            neur.extend_from_slice(&plane.neur[head * waves * m..][..waves * m]);
            skip.extend_from_slice(&plane.skip[head * waves * columns..][..waves * columns]);
        }
        let mut factors = Vec::with_capacity(moves.len() / waves * neur.len() / m);
        for moved in moves.chunks_exact(waves) {
            factors.push(1.0);
            for head in 0..heads {
                let shift: f64 = dot(moved, &plane.scores[head * waves..][..waves]);
                let weights = composed.pattern_shifted(row, head, [shift, 0.0, 0.0]);
                factors.extend(weights);
                factors.extend(moved.iter().map(|x| weights[0] * x));
            }
        }
        let terms = neur.len() / m;
        let mut post = product(&factors, &neur, terms);
        post.iter_mut().for_each(|x| *x = x.max(0.0));
        let mut out = product(&factors, &skip, terms);
        matmul(MatMut::new(&mut out, columns), Mat::new(&post, m), Mat::new(&self.w_logit, columns), Into::Add);
        out
    }

    /// Explained and changed shares of every key's component when a plane is rotated.
    fn rotate(&self, frequency: usize) -> (Vec<f64>, Vec<f64>) {
        let (n, count) = (self.network.order(), self.rows.len());
        let (plane, columns) = (self.plane(frequency), self.bias.len());
        // For each pair, summed over the shifts: [pair, component, (left, changed, norm)]
        let mut sums = vec![0.0; self.pairs.len() * 3 * count];
        cpu::rows(&mut sums, 3 * count, |i, sums| {
            let (row, a) = (self.pairs[i], self.pairs[i] / n);
            let moved = |shift: usize| plane.waves.iter().map(move |wave| wave[(a + shift) % n] - wave[a]);
            let moves: Vec<f64> = (0..n).flat_map(moved).collect();
            let all = self.columns(row, &plane, &moves);
            let (old, moved) = all.split_at(columns);
            for (shift, new) in moved.chunks_exact(columns).enumerate() {
                let mut at = 0;
                for (rows, sums) in self.rows.iter().zip(sums.chunks_exact_mut(3)) {
                    let (old, new) = (&old[at..][..rows.len()], &new[at..][..rows.len()]);
                    at += rows.len();
                    let shifted = shifted(old, rows.start.div_ceil(2) * (shift + 1) % n, n);
                    let distance = |x: &[f64]| new.iter().zip(x).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
                    sums[0] += distance(&shifted);
                    sums[1] += distance(old);
                    sums[2] += dot(old, old);
                }
            }
        });
        let total =
            |component: usize, which: usize| sums.chunks_exact(3 * count).map(|sums| sums[3 * component + which]).sum();
        let ratio = |component: usize, which: usize| {
            let (of, norm): (f64, f64) = (total(component, which), total(component, 2));
            if norm > 0.0 { of / norm } else { 0.0 }
        };
        ((0..count).map(|i| 1.0 - ratio(i, 0)).collect(), (0..count).map(|i| ratio(i, 1)).collect())
    }
}

/// Coefficients of a wave's cosine and sine when it is moved on by `turns` of n of a whole turn.
fn shifted(coefficients: &[f64], turns: usize, n: usize) -> Vec<f64> {
    let (sine, cosine) = (2.0 * std::f64::consts::PI * turns as f64 / n as f64).sin_cos();
    match coefficients {
        [c, s] => vec![c * cosine - s * sine, c * sine + s * cosine],
        // At n/2 the sine is 0, and a step changes the sign.
        _ => coefficients.iter().map(|c| c * cosine).collect(),
    }
}
