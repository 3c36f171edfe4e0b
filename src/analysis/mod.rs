//! What a trained network computes: pure functions over f64 arrays. A network goes in, [`Findings`] come out.
//!
//! One forward pass over the grid of all pairs gives the activations ([`network`]); from them come the neurons' clusters,
//! the spectra, the key frequencies, the cost of each simplification, the progress measures and the certificate.
//! Definitions are those of Nanda et al. 2023 (arXiv 2301.05217) and Zhong et al. 2023 (arXiv 2306.17844), but where a
//! module says otherwise.

pub mod attention;
pub mod certificate;
pub mod composed;
pub mod effective;
pub mod embedding;
pub mod fourier;
pub mod group;
pub mod keys;
pub mod logits;
pub mod network;
pub mod neurons;
pub mod pictures;
pub mod pizza;
pub mod progress;
pub mod representations;
pub mod restricted;
pub mod scores;
pub mod skips;
pub mod spectrum;
pub mod survey;
pub mod sweep;

use crate::plan::Shape;
use crate::random::Philox;
use fourier::Fourier;
use network::{Activations, Network};
use neurons::Planes;
use scores::{Judge, Scores};
use serde::{Deserialize, Serialize};
use spectrum::Spectrum;

/// Version of the fields of `findings.json`.
pub const SCHEMA: u32 = 1;

/// What the network is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The operation's name in plans.
    pub op: String,
    /// The modulus, or the number of permutations.
    pub p: usize,
    /// Elements of the group that is looked at, n: p - 1 for products and quotients mod a prime, else p.
    pub order: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Neurons of the MLP.
    pub d_mlp: usize,
    /// Output classes as trained: p, or p + 1.
    pub d_vocab_out: usize,
    /// Numbers in all tensors together.
    pub parameters: usize,
    /// Updates that led to these weights, where that is known.
    pub step: Option<u64>,
    /// SHA-256 of the parameters' float32 bytes, one after the other in the order of the arenas.
    pub weights_sha256: String,
    /// Pairs of the grid that were trained on, where that is known.
    pub train_pairs: Option<usize>,
}

/// Every number of the analysis of a cyclic group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// [`SCHEMA`] of the version that wrote them.
    pub schema: u32,
    /// What was looked at.
    pub model: Model,
    /// The headline set, sorted: frequencies that stand out in W_L and have a cluster of neurons.
    pub key_frequencies: Vec<usize>,
    /// What each rule of key frequencies says by itself.
    pub key_rules: keys::KeyRules,
    /// Losses and accuracies of the network as it is.
    pub scores: Scores,
    /// The claims about the network, and whether they hold.
    pub certificate: certificate::Certificate,
    /// Fourier norms along the tokens and the classes.
    pub spectra: Spectra,
    /// Gini coefficient of the spectrum of a matrix of normal numbers in the place of W_E.
    pub random_gini: f64,
    /// Each neuron's frequency, and the clusters.
    pub neurons: neurons::Neurons,
    /// What the pattern can be replaced by.
    pub attention: attention::Attention,
    /// The residual stream's paths, each taken out.
    pub ablations: Vec<skips::Ablation>,
    /// W_attn, W_neur, and how far what is computed from them is from the network.
    pub effective_weights: effective::EffectiveWeights,
    /// Frequencies taken out of W_E.
    pub embedding: embedding::EmbeddingAblations,
    /// The logits as a sum of cosines of label - c.
    pub logits: logits::LogitFormula,
    /// Losses with the key frequencies alone, and without them.
    pub restricted: restricted::RestrictedLosses,
    /// Clusters of neurons left out.
    pub dropped: logits::Dropped,
    /// Measures that tell the two algorithms apart.
    pub clock_or_pizza: pizza::ClockOrPizza,
    /// Sums of squared weights.
    pub squares: progress::Squares,
    /// Over the checkpoints of the run; null where there is only this one.
    pub progress: Option<progress::Progress>,
}

/// Norms of the Fourier components of two matrices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct Spectra {
    /// Along the tokens.
    pub W_E: Spectrum,
    /// Along the classes.
    pub W_L: Spectrum,
}

/// What an analysis found: `findings.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Analysis {
    /// Of an operation that is a cyclic group.
    Findings(Box<Findings>),
    /// Of any other.
    Survey(Box<survey::Survey>),
}

impl Analysis {
    /// Version of the fields.
    pub fn schema(&self) -> u32 {
        match self {
            Self::Findings(findings) => findings.schema,
            Self::Survey(survey) => survey.schema,
        }
    }

    /// What was looked at.
    pub fn model(&self) -> &Model {
        match self {
            Self::Findings(findings) => &findings.model,
            Self::Survey(survey) => &survey.model,
        }
    }

    /// The headline set, sorted; empty where the operation is no cyclic group.
    pub fn key_frequencies(&self) -> &[usize] {
        match self {
            Self::Findings(findings) => &findings.key_frequencies,
            Self::Survey(survey) => &survey.key_frequencies,
        }
    }
}

/// A network ready to be looked at, with what everything else is computed from.
pub struct Subject {
    /// The network in the group's order, in f64.
    pub network: Network,
    /// The basis of functions on Z_n.
    pub fourier: Fourier,
    /// What scores logits by the task's labels and split.
    pub judge: Judge,
    /// What the network computes on all n * n pairs.
    pub activations: Activations,
    /// The neurons' 2D Fourier coefficients.
    pub planes: Planes,
}

impl Subject {
    /// `trained_on` says of each of the task's p*p pairs, in the order x * p + y, whether it was trained on.
    pub fn new(network: Network, trained_on: Option<&[bool]>) -> Self {
        let fourier = Fourier::new(network.order());
        let judge = Judge::new(&network, trained_on);
        let activations = network.run();
        let planes = Planes::of(&fourier, &activations.post, network.shape.d_mlp);
        Self { network, fourier, judge, activations, planes }
    }

    /// Everything but the progress over other checkpoints. `done` is told of each part that is finished, of [`PARTS`].
    pub fn findings(&self, model: Model, mut done: impl FnMut()) -> Findings {
        let Self { network, fourier, judge, activations, planes } = self;
        let neurons = neurons::neurons(fourier, planes, &activations.post);
        let (w_e, w_l) = progress::spectra(network, fourier);
        let key_rules = keys::key_rules(fourier, &w_e, &w_l, &neurons);
        let keys = keys::headline(&key_rules, &neurons);
        let scores = judge.scores(network, &activations.logits);
        let controls = restricted::control_sets(fourier, &keys);
        done();
        let composed = composed::Composed::new(network);
        let attention = attention::attention(network, activations, &composed, judge);
        done();
        let ablations = skips::ablations(network, activations, &composed, judge);
        done();
        let effective = effective::Effective::new(network, activations);
        let effective_weights = effective.weights(network, activations, &composed, fourier, judge);
        done();
        let embedding = embedding::embedding_ablations(network, fourier, judge, &keys, &controls, scores);
        done();
        let restricted = restricted::restricted_losses(network, activations, fourier, judge, &keys, &controls);
        done();
        let logits = logits::logit_formula(network, activations, fourier, judge, &keys);
        let dropped = logits::dropped(network, activations, fourier, planes, &neurons, judge, &keys);
        done();
        let clock_or_pizza = pizza::clock_or_pizza(network, activations, fourier);
        done();
        let mut findings = Findings {
            schema: SCHEMA,
            model,
            key_frequencies: keys,
            key_rules,
            scores,
            certificate: certificate::Certificate { passed: false, claims: Vec::new() },
            random_gini: random_gini(fourier, network.shape.d_model),
            spectra: Spectra { W_E: w_e, W_L: w_l },
            neurons,
            attention,
            ablations,
            effective_weights,
            embedding,
            logits,
            restricted,
            dropped,
            clock_or_pizza,
            squares: progress::squares(network),
            progress: None,
        };
        findings.certificate = certificate::certificate(&findings);
        findings
    }
}

/// Parts that [`Subject::findings`] tells of.
pub const PARTS: usize = 8;

/// Gini coefficient of the spectrum of normal numbers in the place of W_E, from a stream that no tensor is drawn from.
fn random_gini(fourier: &Fourier, d_model: usize) -> f64 {
    let philox = Philox::new(0);
    let numbers: Vec<f64> = (0..fourier.n() * d_model).map(|i| philox.normal(u32::MAX, i)).collect();
    Spectrum::of_rows(fourier, &numbers, d_model).gini
}

/// Bytes that an analysis takes at most, about: the largest arrays are a float64 a pair and neuron.
pub fn memory(shape: &Shape) -> u64 {
    let (rows, width) = (shape.p.pow(2) as u64, (5 * shape.d_mlp + 10 * shape.d_model + 6 * shape.d_vocab_out) as u64);
    8 * rows * width
}
