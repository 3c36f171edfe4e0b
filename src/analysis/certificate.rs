//! The certificate: claims about a trained network, each with its value, the range expected, and a control.

use super::Findings;
use super::restricted::KeyLoss;
use super::scores::Scores;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whether every claim about the computation holds. Simplifications do not decide: a network that computes with key
    /// frequencies may well use what the article leaves out.
    pub passed: bool,
    pub claims: Vec<Claim>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    pub kind: Kind,
    pub claim: String,
    /// What the value measures, with its unit.
    pub measure: String,
    /// Null where there is nothing to measure, such as the loss of keys that are not there; the claim fails then.
    pub value: Option<f64>,
    pub expected: Range,
    /// The same measure where the claim should not hold.
    pub control: Option<Control>,
    pub passed: bool,
}

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How the network generalises: decides the certificate.
    Computation,
    /// What may be left out of the description of this network.
    Simplification,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub what: String,
    /// The value closest to breaking the claim.
    pub value: Option<f64>,
    pub expected: Range,
}

/// Bounds that a value must keep; a missing one is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

impl Range {
    fn at_least(bound: f64) -> Self {
        Self { at_least: Some(bound), at_most: None }
    }
    fn at_most(bound: f64) -> Self {
        Self { at_least: None, at_most: Some(bound) }
    }
    fn between(low: f64, high: f64) -> Self {
        Self { at_least: Some(low), at_most: Some(high) }
    }
    /// NaN is in no range.
    pub fn holds(&self, value: f64) -> bool {
        !value.is_nan()
            && self.at_least.is_none_or(|bound| value >= bound)
            && self.at_most.is_none_or(|bound| value <= bound)
    }
}

fn claim(claim: &str, measure: &str, value: Option<f64>, expected: Range, control: Option<Control>) -> Claim {
    let kept = |value: Option<f64>, range: &Range| value.is_some_and(|value| range.holds(value));
    let passed =
        kept(value, &expected) && control.as_ref().is_none_or(|control| kept(control.value, &control.expected));
    Claim { kind: Kind::Computation, claim: claim.into(), measure: measure.into(), value, expected, control, passed }
}

/// Claims about everything else that was found.
pub fn certificate(findings: &Findings) -> Certificate {
    let keys = !findings.key_frequencies.is_empty();
    let with_keys = |value: f64| keys.then_some(value);
    let (whole, lost) =
        (&findings.scores, |scores: &Scores| findings.scores.unseen().accuracy - scores.unseen().accuracy);
    let restricted = &findings.restricted;
    let ablations = &findings.embedding;
    let controls = |what: &str, of: &dyn Fn(&KeyLoss) -> f64, largest: bool, expected: Range| {
        let values = restricted.controls.iter().map(of);
        let value = if largest { values.reduce(f64::max) } else { values.reduce(f64::min) };
        keys.then(|| Control { what: what.into(), value, expected })
    };
    let random = "random sets of as many frequencies";
    let path = |name: &str| findings.ablations.iter().find(|ablation| ablation.path == name);
    let skip = path("skip round the MLP").and_then(|ablation| ablation.mean.as_ref());
    let directions = findings.logits.directions.iter().flat_map(|d| [Some(d.u_explained), d.v_explained]).flatten();
    let frequencies = findings.spectra.W_E.components.len() / 2;
    let neurons = findings.neurons.fve.len();
    let mut claims = vec![
        claim("The network generalises", "test accuracy", Some(whole.unseen().accuracy), Range::at_least(0.999), None),
        claim(
            "A few frequencies carry it",
            "key frequencies: clusters of neurons that stand out in W_L",
            Some(findings.key_frequencies.len() as f64),
            Range::between(1.0, (frequencies as f64 / 4.0).max(1.0)),
            None,
        ),
        claim(
            "The embedding is sparse in the Fourier basis",
            "Gini coefficient of W_E's components",
            Some(findings.spectra.W_E.gini),
            Range::at_least(0.5),
            Some(Control {
                what: "a matrix of normal numbers of the same size".into(),
                value: Some(findings.random_gini),
                expected: Range::at_most(0.3),
            }),
        ),
        claim(
            "Neurons compute one frequency each",
            "share of the neurons that vary with an FVE above 0.85",
            (neurons > findings.neurons.dead)
                .then(|| findings.neurons.explained as f64 / (neurons - findings.neurons.dead) as f64),
            Range::at_least(0.5),
            None,
        ),
        claim(
            "The key frequencies of W_E carry the computation",
            "test accuracy lost without them",
            with_keys(lost(&ablations.all_keys.scores)),
            Range::at_least(0.5),
            keys.then(|| Control {
                what: random.into(),
                value: ablations.controls.iter().map(|removed| lost(&removed.scores)).reduce(f64::max),
                expected: Range::at_most(0.05),
            }),
        ),
        claim(
            "The key frequencies of the logits are enough",
            "test accuracy of the restricted logits",
            with_keys(restricted.logits.all.restricted.unseen().accuracy),
            Range::at_least(0.999),
            controls(random, &|loss| loss.restricted.unseen().accuracy, true, Range::at_most(0.2)),
        ),
        claim(
            "Without the key frequencies even what was memorised is gone",
            "train loss of the excluded logits, over the loss of guessing ln n",
            with_keys(restricted.logits.all.excluded.seen().loss / (findings.model.order as f64).ln()),
            Range::at_least(0.5),
            controls(
                random,
                &|loss| loss.excluded.seen().loss / (findings.model.order as f64).ln(),
                true,
                Range::at_most(0.1),
            ),
        ),
        claim(
            "The logits are a sum of cosines of a + b - c",
            "test accuracy of sum over the keys of alpha_k cos",
            with_keys(findings.logits.formula.unseen().accuracy),
            Range::at_least(0.99),
            None,
        ),
        claim(
            "Neuron space holds cos and sin of a + b",
            "lowest share of variance explained along u_k, v_k",
            directions.reduce(f64::min),
            Range::at_least(0.8),
            None,
        ),
    ];
    let simplifications = [
        claim(
            "Attention to \"=\" does not matter",
            "test accuracy lost with it zeroed",
            Some(lost(&findings.attention.equals_zeroed)),
            Range::at_most(0.01),
            None,
        ),
        claim(
            "The skip connection round the MLP does not matter",
            "test accuracy lost with its mean in its place",
            skip.map(lost),
            Range::at_most(0.01),
            None,
        ),
    ];
    claims.extend(simplifications.map(|claim| Claim { kind: Kind::Simplification, ..claim }));
    let decides = |claim: &&Claim| claim.kind == Kind::Computation;
    Certificate { passed: claims.iter().filter(decides).all(|claim| claim.passed), claims }
}
