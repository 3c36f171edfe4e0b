//! The certificate "computes with key frequencies": claims about a trained network, each with its value, the range
//! expected, and a control where there is one. No verdict depends on the scale of the logits: claims about logits judge by
//! accuracy or by explained variance, since W_U times 0.03 has the same answers at another loss.

use super::Findings;
use super::scores::Scores;
use serde::{Deserialize, Serialize};

/// The claims that make up "computes with key frequencies", and whether they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whether every claim about the computation that applies holds. Simplifications do not decide: a network that
    /// computes with key frequencies may well use what the article leaves out.
    pub passed: bool,
    /// Of all claims about the computation together: fails if one fails, else unknown if one is unknown.
    pub verdict: Verdict,
    /// Those about the computation, then the simplifications.
    pub claims: Vec<Claim>,
}

/// The verdict on a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Value and control are in their ranges.
    Holds,
    /// One of them is not, or there is no value, such as the loss of keys that do not exist.
    Fails,
    /// The value is in its range, but something to judge it by is missing: a control, or the split.
    Unknown,
    /// The group is too small for the claim to say anything.
    DoesNotApply,
}

/// A number that must be in a range, with its control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// A short name that stays the same when the sentence changes.
    pub name: String,
    /// What it is about.
    pub kind: Kind,
    /// The sentence that the number stands for.
    pub claim: String,
    /// What the value measures, with its unit.
    pub measure: String,
    /// Null where there is nothing to measure, such as the loss of keys that are not there; the claim fails then.
    pub value: Option<f64>,
    /// Range of the value.
    pub expected: Range,
    /// The same measure where the claim should not hold.
    pub control: Option<Control>,
    /// The smallest n for which the claim is meaningful; below it, it does not apply.
    pub smallest_n: usize,
    /// The verdict on it.
    pub verdict: Verdict,
    /// Why the verdict is unknown, or why the claim does not apply.
    pub why: Option<String>,
    /// Whether the verdict is that it holds.
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

/// The same measure where the claim should not hold. It exposes a claim that would hold for any network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What was put in the place of the real thing.
    pub what: String,
    /// The value closest to breaking the claim; null where no control could be drawn.
    pub value: Option<f64>,
    /// Range of its value.
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

/// Minimum accuracy for a network to generalise, and for a set of frequencies to be enough.
const GENERALISES: f64 = 0.999;
/// Accuracy that may be left without the waves of the label. Of a pure Pizza 0.19 is left at n = 59: its logits are these waves
/// times |cos(w (a - b) / 2)|, of which only the mean is taken out.
const LEFT: f64 = 0.25;
/// Share of variance that waves of the label explain. A pure Pizza has 8/pi^2 = 0.81, since its logits are waves times
/// |cos(w (a - b) / 2)|.
const WAVES: f64 = 0.8;
/// Share of the sum of positive contributions that "a few frequencies" make.
const MOST: f64 = 0.95;
/// The smallest n with room for random sets beside one key and its multiples.
const SMALLEST_WITH_SETS: usize = 10;
/// The smallest n at which a third of the frequencies is two.
const SMALLEST_WITH_TWO: usize = 12;
/// The smallest n with more than one frequency.
const SMALLEST: usize = 5;

/// A claim before its verdict.
struct Draft {
    name: &'static str,
    kind: Kind,
    claim: &'static str,
    measure: String,
    value: Option<f64>,
    expected: Range,
    control: Option<Control>,
    smallest_n: usize,
    /// Why the verdict is unknown, if it is.
    unknown: Option<&'static str>,
}

impl Draft {
    fn judged(self, n: usize) -> Claim {
        let is_in = |value: Option<f64>, range: &Range| value.is_some_and(|value| range.holds(value));
        let no_control = self.control.as_ref().is_some_and(|control| control.value.is_none());
        let is_refuted =
            self.control.as_ref().is_some_and(|control| !no_control && !is_in(control.value, &control.expected));
        let (verdict, why) = if n < self.smallest_n {
            (
                Verdict::DoesNotApply,
                Some(format!("the group has {n} elements, and the claim needs {}", self.smallest_n)),
            )
        } else if let Some(why) = self.unknown {
            (Verdict::Unknown, Some(why.into()))
        } else if !is_in(self.value, &self.expected) || is_refuted {
            (Verdict::Fails, None)
        } else if no_control {
            let why = "no control could be drawn: too few other frequencies are left";
            (Verdict::Unknown, Some(why.into()))
        } else {
            (Verdict::Holds, None)
        };
        Claim {
            name: self.name.into(),
            kind: self.kind,
            claim: self.claim.into(),
            measure: self.measure,
            value: self.value,
            expected: self.expected,
            control: self.control,
            smallest_n: self.smallest_n,
            verdict,
            why,
            passed: verdict == Verdict::Holds,
        }
    }
}

/// Claims about everything else that was found.
pub fn certificate(findings: &Findings) -> Certificate {
    let n = findings.model.order;
    let has_keys = !findings.key_frequencies.is_empty();
    let with_keys = |value: f64| has_keys.then_some(value);
    let whole = &findings.scores;
    let lost = |scores: &Scores| whole.unseen().accuracy - scores.unseen().accuracy;
    let lost_of_all = |scores: &Scores| whole.all.accuracy - scores.all.accuracy;
    let (unseen, seen) = (whole.unseen_name(), whole.seen_name());
    let (restricted, ablations) = (&findings.restricted, &findings.embedding);
    // The random set that comes closest to breaking the claim.
    let random = |values: &mut dyn Iterator<Item = f64>, closest: fn(f64, f64) -> f64, expected: Range| {
        Some(Control {
            what: "the worst of up to five random sets of as many frequencies".into(),
            value: values.reduce(closest),
            expected,
        })
    };
    let path = |name: &str| findings.ablations.iter().find(|ablation| ablation.path == name);
    let skip = path("skip round the MLP").and_then(|ablation| ablation.mean.as_ref());
    let directions = findings.logits.directions.iter().flat_map(|d| [Some(d.u_explained), d.v_explained]).flatten();
    let frequencies = n / 2;
    let neurons = &findings.neurons;
    let alive = neurons.fve.len() - neurons.dead;
    let draft = |name, claim, measure: &str, value, expected, control, smallest_n| Draft {
        name,
        kind: Kind::Computation,
        claim,
        measure: measure.into(),
        value,
        expected,
        control,
        smallest_n,
        unknown: None,
    };
    let unknown = match (whole.train.is_some(), whole.test.is_some()) {
        (false, _) => Some("the split is not known. Give the train pairs with --split"),
        (true, false) => Some("every pair was trained on, so there is nothing to generalise to"),
        (true, true) => None,
    };
    let drafts = [
        Draft {
            unknown,
            ..draft(
                "generalises",
                "The network generalises",
                "accuracy on test pairs",
                whole.test.map(|test| test.accuracy),
                Range::at_least(GENERALISES),
                None,
                3,
            )
        },
        draft(
            "few",
            "A few frequencies make the correct logit",
            "number of frequencies that make up 95 % of the sum of positive contributions",
            with_keys(findings.keys.making(MOST) as f64),
            Range::between(1.0, (frequencies as f64 / 3.0).floor().max(1.0)),
            None,
            SMALLEST_WITH_TWO,
        ),
        draft(
            "sparse",
            "The embedding is sparse in the Fourier basis",
            "Gini coefficient of W_E's components without the constant",
            Some(findings.spectra.W_E.gini),
            Range::at_least(0.35),
            Some(Control {
                what: "a Gaussian matrix of the same size".into(),
                value: Some(findings.random_gini),
                expected: Range::at_most(0.25),
            }),
            SMALLEST,
        ),
        draft(
            "neurons",
            "Most neurons compute one frequency",
            "share with an FVE above 0.85, of the neurons with any variance",
            (alive > 0).then(|| neurons.explained as f64 / alive as f64),
            Range::at_least(0.5),
            None,
            SMALLEST,
        ),
        draft(
            "embedding",
            "The computation needs the key frequencies in W_E",
            &format!("accuracy lost on {unseen} without them"),
            with_keys(lost(&ablations.all_keys.scores)),
            Range::at_least(0.5),
            random(&mut ablations.controls.iter().map(|removed| lost(&removed.scores)), f64::max, Range::at_most(0.05)),
            SMALLEST_WITH_SETS,
        ),
        draft(
            "restricted",
            "The key frequencies in the logits are enough",
            &format!("accuracy of the restricted logits on {unseen}"),
            with_keys(restricted.logits.all.restricted.unseen().accuracy),
            Range::at_least(GENERALISES),
            random(
                &mut restricted.controls.iter().map(|loss| loss.restricted.unseen().accuracy),
                f64::max,
                Range::at_most(0.2),
            ),
            SMALLEST_WITH_SETS,
        ),
        draft(
            "excluded",
            "Without the key frequencies in the logits, train accuracy is lost too",
            &format!("accuracy of the excluded logits on {seen}"),
            with_keys(restricted.logits.all.excluded.seen().accuracy),
            Range::at_most(LEFT),
            random(
                &mut restricted.controls.iter().map(|loss| loss.excluded.seen().accuracy),
                f64::min,
                Range::at_least(0.9),
            ),
            SMALLEST_WITH_SETS,
        ),
        draft(
            "cosines",
            "The logits are a sum of cosines of label minus class",
            "share of the logits' variance that sum over the keys of alpha_k cos explains",
            with_keys(findings.logits.explained),
            Range::at_least(WAVES),
            random(&mut findings.logits.controls.iter().copied(), f64::max, Range::at_most(0.1)),
            SMALLEST_WITH_SETS,
        ),
        draft(
            "directions",
            "Neuron space holds cos and sin of w_k times the label",
            "lowest share of variance explained along u_k, v_k",
            directions.reduce(f64::min),
            Range::at_least(WAVES),
            None,
            SMALLEST,
        ),
        Draft {
            kind: Kind::Simplification,
            ..draft(
                "no-equals",
                "Attention to \"=\" can be zeroed",
                "accuracy lost on all pairs with it zeroed",
                Some(lost_of_all(&findings.attention.equals_zeroed)),
                Range::at_most(0.01),
                None,
                3,
            )
        },
        Draft {
            kind: Kind::Simplification,
            ..draft(
                "no-skip",
                "The skip round the MLP can be replaced by its mean",
                "accuracy lost on all pairs with its mean in its place",
                skip.map(lost_of_all),
                Range::at_most(0.01),
                None,
                3,
            )
        },
    ];
    let claims: Vec<Claim> = drafts.into_iter().map(|draft| draft.judged(n)).collect();
    let verdict = together(claims.iter().filter(|claim| claim.kind == Kind::Computation).map(|claim| claim.verdict));
    Certificate { passed: verdict == Verdict::Holds, verdict, claims }
}

/// Returns the verdict on several claims that must all hold where they apply.
fn together(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::DoesNotApply => 0,
        Verdict::Holds => 1,
        Verdict::Unknown => 2,
        Verdict::Fails => 3,
    };
    verdicts.max_by_key(rank).unwrap_or(Verdict::DoesNotApply)
}
