//! Progress measures over the checkpoints of a run, and the phases that follow from them (Nanda et al. 2023, section 5).

use super::composed::Composed;
use super::fourier::Fourier;
use super::network::Network;
use super::restricted::{Waves, at_logits};
use super::scores::{Judge, Scores};
use super::spectrum::Spectrum;
use crate::model::PARAMETERS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One checkpoint. The key frequencies are those of the final network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case, reason = "tensors keep their names")]
pub struct Measures {
    /// Updates done.
    pub step: u64,
    /// Of the network as it is.
    pub scores: Scores,
    /// At the logits; null where the final network has no key frequency.
    pub restricted: Option<Scores>,
    /// The same without the key frequencies.
    pub excluded: Option<Scores>,
    /// Along the tokens.
    pub W_E: Spectrum,
    /// Along the classes.
    pub W_L: Spectrum,
    /// Sums of squared weights.
    pub squares: Squares,
}

/// Sums of squared weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Squares {
    /// Of all tensors.
    pub total: f64,
    /// By the tensor's name.
    pub tensors: BTreeMap<String, f64>,
}

/// Steps at which the phases begin, read off the curves; null where the curves do not show them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Memorisation ends and circuit formation begins: the excluded loss is at its lowest.
    pub circuit_formation: Option<u64>,
    /// Cleanup begins: the knee of the logarithm of the test loss, above its chord.
    pub cleanup: Option<u64>,
    /// Cleanup has ended: the elbow of the same curve, below its chord.
    pub end: Option<u64>,
}

/// The measures over training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// When each phase begins.
    pub phases: Phases,
    /// In the order of their steps.
    pub checkpoints: Vec<Measures>,
}

/// Of every tensor as it was trained.
pub fn squares(network: &Network) -> Squares {
    let tensors = PARAMETERS.iter().map(|parameter| parameter.name.to_string());
    Squares { total: network.squares.iter().sum(), tensors: tensors.zip(network.squares.iter().copied()).collect() }
}

/// The spectra of W_E and of W_L = W_out W_U over the classes.
pub fn spectra(network: &Network, fourier: &Fourier) -> (Spectrum, Spectrum) {
    let (n, d) = (network.order(), network.shape.d_model);
    let w_e = Spectrum::of_rows(fourier, &network.get("W_E")[..n * d], d);
    (w_e, Spectrum::of_columns(fourier, &network.w_logit()))
}

/// One checkpoint's measures, given the final network's key frequencies.
pub fn measure(step: u64, network: &Network, fourier: &Fourier, judge: &Judge, keys: &[usize]) -> Measures {
    let composed = Composed::new(network);
    let logits = composed.logits(&|row, head| composed.pattern(row, head));
    let waves = Waves::of(network, fourier, &logits);
    let losses = (!keys.is_empty()).then(|| at_logits(network, fourier, judge, &waves, &logits, keys));
    let (w_e, w_l) = spectra(network, fourier);
    Measures {
        step,
        scores: judge.scores(network, &logits),
        restricted: losses.as_ref().map(|losses| losses.restricted),
        excluded: losses.map(|losses| losses.excluded),
        W_E: w_e,
        W_L: w_l,
        squares: squares(network),
    }
}

/// The phases of a run whose checkpoints are given in the order of their steps.
pub fn phases(checkpoints: &[Measures]) -> Phases {
    let excluded: Vec<f64> = checkpoints.iter().filter_map(|c| Some(c.excluded?.seen().loss)).collect();
    let unseen: Vec<f64> = checkpoints.iter().filter_map(|c| Some(c.scores.test?.loss)).collect();
    if excluded.len() < checkpoints.len() || unseen.len() < checkpoints.len() || checkpoints.len() < 3 {
        return Phases { circuit_formation: None, cleanup: None, end: None };
    }
    let lowest = (0..excluded.len()).min_by(|&a, &b| excluded[a].total_cmp(&excluded[b])).unwrap_or(0);
    let curve: Vec<(f64, f64)> =
        checkpoints.iter().zip(&unseen).map(|(c, loss)| (c.step as f64, loss.max(f64::MIN_POSITIVE).ln())).collect();
    let last = curve.len() - 1;
    let peak = (lowest..=last).max_by(|&a, &b| curve[a].1.total_cmp(&curve[b].1)).unwrap_or(last);
    // A test loss that ends within a factor e of its peak has not fallen.
    let fallen = curve[peak].1 - curve[last].1 > 1.0;
    let above_chord = |i: usize| {
        let along = (curve[i].0 - curve[peak].0) / (curve[last].0 - curve[peak].0);
        curve[i].1 - (curve[peak].1 + along * (curve[last].1 - curve[peak].1))
    };
    // An excluded loss that was never lower than at the start says nothing of memorisation.
    let knee = (peak..last)
        .max_by(|&a, &b| above_chord(a).total_cmp(&above_chord(b)))
        .filter(|&knee| fallen && lowest > 0 && lowest < knee);
    let elbow = knee.and_then(|knee| (knee..=last).min_by(|&a, &b| above_chord(a).total_cmp(&above_chord(b))));
    let step = |i: usize| checkpoints[i].step;
    Phases {
        circuit_formation: knee.map(|_| step(lowest)),
        cleanup: knee.map(step),
        end: elbow.filter(|&elbow| above_chord(elbow) < 0.0).map(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::scores::Score;

    fn row(step: u64, test: f64, excluded: f64) -> Measures {
        let score = |loss| Score { loss, accuracy: 0.0 };
        let scores = |loss| Scores { train: Some(score(loss)), test: Some(score(loss)), all: score(loss) };
        let flat = Spectrum { components: vec![1.0; 5], gini: 0.0, gini_squares: 0.0 };
        Measures {
            step,
            scores: scores(test),
            restricted: None,
            excluded: Some(scores(excluded)),
            W_E: flat.clone(),
            W_L: flat,
            squares: Squares { total: 0.0, tensors: BTreeMap::new() },
        }
    }

    #[test]
    fn phases_are_where_the_curves_turn() {
        // Memorised at 300; the test loss is level at e^2 until 1000, falls by e^-1 a hundred steps to 2000, then is level.
        let curve = |step: u64| match step {
            0..=300 => 4.7 - (step as f64) * 0.015,
            _ => 0.2 + (step - 300) as f64 * 0.002,
        };
        let test = |step: u64| (2.0 - (step.clamp(1000, 2000) - 1000) as f64 / 100.0).exp();
        let run: Vec<Measures> = (0..40).map(|i| row(i * 100, test(i * 100), curve(i * 100))).collect();
        let found = phases(&run);
        assert_eq!(found, Phases { circuit_formation: Some(300), cleanup: Some(1000), end: Some(2000) });
        // A run that never generalised has none of them.
        let level: Vec<Measures> = (0..40).map(|i| row(i * 100, 8.0 + 0.01 * i as f64, curve(i * 100))).collect();
        assert_eq!(phases(&level), Phases { circuit_formation: None, cleanup: None, end: None });
        assert_eq!(phases(&run[..2]).cleanup, None);
    }
}
