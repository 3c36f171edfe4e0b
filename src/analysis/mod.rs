//! What a trained network computes: pure functions over f64 arrays. A network goes in, [`Findings`] come out.
//!
//! One forward pass over the grid of all pairs gives the activations ([`network`]); from them come the neurons' clusters,
//! the spectra, the key frequencies, the cost of each simplification, the progress measures and the certificate.
//! Definitions are those of Nanda et al. 2023 (arXiv 2301.05217) and Zhong et al. 2023 (arXiv 2306.17844), but where a
//! module says otherwise.

pub mod attention;
pub mod certificate;
pub mod coherence;
pub mod composed;
pub mod effective;
pub mod embedding;
pub mod fourier;
pub mod group;
pub mod keys;
pub mod logits;
pub mod network;
pub mod neurons;
pub mod paths;
pub mod pictures;
pub mod pizza;
pub mod progress;
pub mod published;
mod ranking;
pub mod representations;
pub mod restricted;
pub mod rotation;
pub mod scores;
pub mod skips;
pub mod spectrum;
pub mod survey;
pub mod sweep;
pub mod terms;
pub mod transform;

use crate::plan::Shape;
use crate::random::Philox;
use certificate::Verdict;
use fourier::Fourier;
use keys::KeyFrequencies;
use network::{Activations, Network};
use neurons::Planes;
use scores::{Judge, Scores};
use serde::{Deserialize, Serialize};
use spectrum::Spectrum;

/// Version of the fields of `findings.json`.
pub const SCHEMA: u32 = 2;

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
    /// The headline set, sorted: the frequencies before the best cut of `keys`.
    pub key_frequencies: Vec<usize>,
    /// What each frequency contributes to the correct logit, and where that is cut.
    pub keys: keys::KeyFrequencies,
    /// What other rules say.
    pub key_rules: keys::KeyRules,
    /// Share of the squares of W_E's and W_L's components, the constant left out, that lies at the keys.
    pub key_power: KeyPower,
    /// Which plane of W_E moves which component of the logits.
    pub rotation: rotation::Rotation,
    /// Mean contributions to the correct logit by frequency and path.
    pub paths: paths::Paths,
    /// Whether the neurons of each key write what they read.
    pub coherence: Vec<coherence::Coherence>,
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

/// Shares of the squares of two matrices' Fourier components at the keys.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct KeyPower {
    /// Along the tokens.
    pub W_E: f64,
    /// Along the classes: near 1 once a network has cleaned up.
    pub W_L: f64,
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

    /// How clear the headline set is; none where no frequency contributes, or the operation is no cyclic group.
    pub fn key_cut(&self) -> Option<keys::KeyCut> {
        match self {
            Self::Findings(findings) => keys::KeyCut::of(&findings.keys),
            Self::Survey(_) => None,
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
    pub fn findings(&self, model: Model, done: impl FnMut()) -> Findings {
        let Self { network, fourier, judge, activations, .. } = self;
        let keys = keys::key_frequencies(network, fourier, judge, &activations.logits);
        self.findings_of_keys(model, keys, done)
    }

    /// The same for keys that are given: those of another network make a control.
    pub fn findings_of_keys(&self, model: Model, found: KeyFrequencies, mut done: impl FnMut()) -> Findings {
        let Self { network, fourier, judge, activations, planes } = self;
        let neurons = neurons::neurons(fourier, planes, &activations.post);
        let (w_e, w_l) = progress::spectra(network, fourier);
        let key_rules = keys::key_rules(fourier, &w_e, &w_l, &neurons);
        let keys = found.keys().to_vec();
        let scores = judge.scores(network, &activations.logits);
        let controls = restricted::control_sets(fourier, &keys, &found.contributing());
        done();
        let composed = composed::Composed::new(network);
        let attention = attention::attention(network, activations, &composed, fourier, judge);
        done();
        let ablations = skips::ablations(network, activations, &composed, judge);
        done();
        let effective = effective::Effective::new(network, activations);
        let effective_weights = effective.weights(network, activations, &composed, fourier, judge);
        done();
        let embedding = embedding::embedding_ablations(network, fourier, judge, &keys, &controls, scores);
        done();
        let logit_planes = Planes::of(fourier, &activations.logits, network.order());
        let restricted = restricted::restricted_losses(self, &logit_planes, &keys, &controls);
        done();
        let logits = logits::logit_formula(network, activations, fourier, judge, &found, &controls, &logit_planes);
        drop(logit_planes);
        let dropped = logits::dropped(network, activations, fourier, planes, &neurons, judge, &keys);
        let paths = paths::paths(network, activations, &composed, fourier, judge);
        done();
        let rotation = rotation::rotation(network, &composed, fourier, &keys, &key_rules.W_E);
        let coherence = coherence::coherences(network, fourier, planes, &neurons, &keys);
        done();
        let clock_or_pizza = pizza::clock_or_pizza(
            network,
            activations,
            fourier,
            scores.all.accuracy > keys::no_answers(network.order()),
        );
        done();
        let mut findings = Findings {
            schema: SCHEMA,
            model,
            key_frequencies: keys.clone(),
            keys: found,
            key_rules,
            key_power: KeyPower { W_E: w_e.share(&keys), W_L: w_l.share(&keys) },
            rotation,
            paths,
            coherence,
            scores,
            certificate: certificate::Certificate { passed: false, verdict: Verdict::Unknown, claims: Vec::new() },
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
pub const PARTS: usize = 9;

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
