//! What is said of a network whose operation is no cyclic group: polynomials, products mod a composite number, random
//! labels, permutations. There are no key frequencies then, and nothing of the article's account applies; what remains is how the
//! network scores, and how the variance of its tables is shared out among the representations of a group: the
//! frequencies of Z_p, which the labels of polynomials are added in, or the representations of S5.

use super::Model;
use super::group::Group;
use super::network::Network;
use super::progress::{Squares, squares};
use super::representations::{Basis, Shares};
use super::scores::{Judge, Scores};
use crate::model::Weights;
use crate::plan::Shape;
use crate::task::{Op, Pairs};
use serde::{Deserialize, Serialize};

/// Every number of such an analysis: `findings.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// Version of the fields.
    pub schema: u32,
    /// What was looked at.
    pub model: Model,
    /// What the label is: "x^2 + y^2 mod 113".
    pub task: String,
    /// There are none: the operation is no cyclic group.
    pub key_frequencies: [usize; 0],
    /// Losses and accuracies of the network as it is.
    pub scores: Scores,
    /// Shares of variance by representation.
    pub representations: Representations,
    /// Mean attention from "=" to x, y and "=" over the pairs, of each head.
    pub attention: Vec<[f64; 3]>,
    /// Sums of squared weights.
    pub squares: Squares,
    /// Over the checkpoints of the run; null where there is only this one.
    pub progress: Option<Vec<Checkpoint>>,
}

/// Shares of variance by representation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct Representations {
    /// The group: "Z_113" or "S5".
    pub group: String,
    /// Of the parts, in the order of all lists here.
    pub names: Vec<String>,
    /// Dimensions of the spaces of functions; noise has its variance in proportion to them.
    pub dimensions: Vec<usize>,
    /// Along the tokens.
    pub W_E: Shares,
    /// W_out W_U along the classes.
    pub W_L: Shares,
    /// Along the classes, over all pairs.
    pub logits: Shares,
    /// Neurons whose line of W_L has its largest share in the representation.
    pub neurons: Vec<usize>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct Checkpoint {
    /// Updates done.
    pub step: u64,
    /// Losses and accuracies.
    pub scores: Scores,
    /// Along the tokens.
    pub W_E: Shares,
    /// Along the classes.
    pub W_L: Shares,
    /// Sums of squared weights.
    pub squares: Squares,
}

/// The task as such an analysis sees it.
pub struct Surveyor {
    op: Op,
    shape: Shape,
    basis: Basis,
    judge: Judge,
}

impl Surveyor {
    /// `train` are the pairs that were trained on, where they are known.
    pub fn new(op: Op, shape: Shape, train: Option<&Pairs>) -> Self {
        let p = shape.p;
        let basis = if op == Op::S5 { Basis::symmetric() } else { Basis::waves(p) };
        let grid = Pairs::grid(op, p);
        let (mut labels, graded) = (vec![0; p * p], grid.membership(p));
        for ([x, y], label) in grid.pairs.iter().zip(&grid.labels) {
            labels[*x as usize * p + *y as usize] = *label;
        }
        Self { op, shape, basis, judge: Judge::of(labels, graded, train.map(|pairs| pairs.membership(p))) }
    }

    fn network(&self, weights: &Weights<f32>) -> Network {
        Network::new(self.shape, weights, Group::residues(self.shape.p))
    }

    /// Of W_E and of W_L, which is given.
    fn tables(&self, network: &Network, w_logit: &[f64]) -> (Shares, Shares) {
        let (n, d) = (network.order(), network.shape.d_model);
        let w_e = self.basis.shares_of_rows(&network.get("W_E")[..n * d], d);
        (w_e, self.basis.shares_of_columns(w_logit))
    }

    /// One checkpoint of a run.
    pub fn checkpoint(&self, step: u64, weights: &Weights<f32>) -> Checkpoint {
        let network = self.network(weights);
        let scores = self.judge.scores(&network, &network.run().logits);
        let (w_e, w_l) = self.tables(&network, &network.w_logit());
        Checkpoint { step, scores, W_E: w_e, W_L: w_l, squares: squares(&network) }
    }

    /// The network itself.
    pub fn survey(&self, model: Model, weights: &Weights<f32>, progress: Option<Vec<Checkpoint>>) -> Survey {
        let network = self.network(weights);
        let activations = network.run();
        let (n, heads) = (network.order(), network.shape.n_heads);
        let w_logit = network.w_logit();
        let (w_e, w_l) = self.tables(&network, &w_logit);
        let names = self.basis.names();
        let mut neurons = vec![0; names.len()];
        for line in w_logit.chunks_exact(n) {
            let shares = self.basis.shares_of_columns(line).shares;
            // A neuron that says nothing belongs nowhere.
            let largest =
                shares.iter().enumerate().filter(|(_, share)| **share > 0.0).max_by(|a, b| a.1.total_cmp(b.1));
            largest.into_iter().for_each(|(part, _)| neurons[part] += 1);
        }
        let mean = super::network::mean_row(&activations.pattern, heads * 3);
        let group = if self.op == Op::S5 { "S5".into() } else { format!("Z_{n}") };
        Survey {
            schema: super::SCHEMA,
            model,
            task: self.op.formula(n),
            key_frequencies: [],
            scores: self.judge.scores(&network, &activations.logits),
            representations: Representations {
                group,
                names,
                dimensions: self.basis.dimensions(),
                W_E: w_e,
                W_L: w_l,
                logits: self.basis.shares_of_columns(&activations.logits),
                neurons,
            },
            attention: mean.chunks_exact(3).map(|head| [head[0], head[1], head[2]]).collect(),
            squares: squares(&network),
            progress,
        }
    }
}
