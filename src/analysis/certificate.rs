//! The certificate: claims about a trained network, each with its value, the range expected, and a control.

use super::Findings;
use super::restricted::KeyLoss;
use super::scores::Scores;
use serde::{Deserialize, Serialize};

/// What was claimed of a network, and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whether every claim about the computation holds. Simplifications do not decide: a network that computes with key
    /// frequencies may well use what the article leaves out.
    pub passed: bool,
    /// Those about the computation, then the simplifications.
    pub claims: Vec<Claim>,
}

/// A number that must keep its bounds, with its control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// What it is about.
    pub kind: Kind,
    /// The sentence that the number stands for.
    pub claim: String,
    /// What the value measures, with its unit.
    pub measure: String,
    /// Null where there is nothing to measure, such as the loss of keys that are not there; the claim fails then.
    pub value: Option<f64>,
    /// Bounds of the value.
    pub expected: Range,
    /// The same measure where the claim should not hold.
    pub control: Option<Control>,
    /// Whether value and control keep their bounds.
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

/// The same measure where it should come out otherwise, so that a claim that always holds is found out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What was put in the place of the real thing.
    pub what: String,
    /// The value closest to breaking the claim.
    pub value: Option<f64>,
    /// Bounds of its value.
    pub expected: Range,
}

/// Bounds that a value must keep; a missing one is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Least value allowed.
    pub at_least: Option<f64>,
    /// Largest value allowed.
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
    let (unseen, seen) = (whole.unseen_name(), whole.seen_name());
    let restricted = &findings.restricted;
    let ablations = &findings.embedding;
    let random = "random sets of as many frequencies";
    // The random set that comes closest to breaking the claim; no control where too few frequencies are left to draw from.
    let worst = |of: &dyn Fn(&KeyLoss) -> f64, expected: Range| {
        let value = restricted.controls.iter().map(of).reduce(f64::max)?;
        Some(Control { what: random.into(), value: Some(value), expected })
    };
    let path = |name: &str| findings.ablations.iter().find(|ablation| ablation.path == name);
    let skip = path("skip round the MLP").and_then(|ablation| ablation.mean.as_ref());
    let directions = findings.logits.directions.iter().flat_map(|d| [Some(d.u_explained), d.v_explained]).flatten();
    let frequencies = findings.spectra.W_E.components.len() / 2;
    let neurons = findings.neurons.fve.len();
    let mut claims = vec![
        claim(
            "The network generalises",
            &format!("accuracy on {unseen}"),
            // Where every pair is trained on there is nothing to generalise to.
            (whole.test.is_some() || whole.train.is_none()).then(|| whole.unseen().accuracy),
            Range::at_least(0.999),
            None,
        ),
        claim(
            "A few frequencies carry it",
            "key frequencies: clusters of neurons that stand out in W_L",
            Some(findings.key_frequencies.len() as f64),
            Range::between(1.0, (frequencies as f64 / 3.0).max(1.0)),
            None,
        ),
        claim(
            "The embedding is sparse in the Fourier basis",
            "Gini coefficient of W_E's components",
            Some(findings.spectra.W_E.gini),
            Range::at_least(0.35),
            Some(Control {
                what: "a matrix of normal numbers of the same size".into(),
                value: Some(findings.random_gini),
                expected: Range::at_most(0.25),
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
            &format!("accuracy lost on {unseen} without them"),
            with_keys(lost(&ablations.all_keys.scores)),
            Range::at_least(0.5),
            ablations.controls.iter().map(|removed| lost(&removed.scores)).reduce(f64::max).map(|value| Control {
                what: random.into(),
                value: Some(value),
                expected: Range::at_most(0.05),
            }),
        ),
        claim(
            "The key frequencies of the logits are enough",
            &format!("accuracy of the restricted logits on {unseen}"),
            with_keys(restricted.logits.all.restricted.unseen().accuracy),
            Range::at_least(0.999),
            worst(&|loss| loss.restricted.unseen().accuracy, Range::at_most(0.2)),
        ),
        claim(
            "Without the key frequencies even what was memorised is gone",
            &format!("loss of the excluded logits on {seen}, over that of guessing, ln n"),
            with_keys(restricted.logits.all.excluded.seen().loss / (findings.model.order as f64).ln()),
            Range::at_least(0.5),
            worst(&|loss| loss.excluded.seen().loss / (findings.model.order as f64).ln(), Range::at_most(0.1)),
        ),
        claim(
            "The logits are a sum of cosines of label minus class",
            &format!("accuracy of sum over the keys of alpha_k cos on {unseen}"),
            with_keys(findings.logits.formula.unseen().accuracy),
            Range::at_least(0.99),
            None,
        ),
        claim(
            "Neuron space holds cos and sin of the label",
            "lowest share of variance explained along u_k, v_k",
            directions.reduce(f64::min),
            Range::at_least(0.8),
            None,
        ),
    ];
    let simplifications = [
        claim(
            "Attention to \"=\" does not matter",
            &format!("accuracy lost on {unseen} with it zeroed"),
            Some(lost(&findings.attention.equals_zeroed)),
            Range::at_most(0.01),
            None,
        ),
        claim(
            "The skip round the MLP does not matter",
            &format!("accuracy lost on {unseen} with its mean in its place"),
            skip.map(lost),
            Range::at_most(0.01),
            None,
        ),
    ];
    claims.extend(simplifications.map(|claim| Claim { kind: Kind::Simplification, ..claim }));
    let decides = |claim: &&Claim| claim.kind == Kind::Computation;
    Certificate { passed: claims.iter().filter(decides).all(|claim| claim.passed), claims }
}
