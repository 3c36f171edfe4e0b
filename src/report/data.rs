//! What the page's script draws from: arrays of 16-bit integers with a scale, in base64.

use super::heat::Palette;
use crate::analysis::Findings;
use crate::analysis::pictures::Pictures;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Frames of a slider at most.
const FRAMES: usize = 40;
/// Values that all frames together may hold, so that they take at most 2.4 MB: two bytes each, four thirds in base64.
const VALUES: usize = 900_000;

/// Which of `count` checkpoints a page shows when a frame holds `values` values: evenly spaced, the first and the last
/// among them.
pub fn shown_frames(count: usize, values: usize) -> Vec<usize> {
    let most = (VALUES / values.max(1)).clamp(2, FRAMES).min(count);
    match most {
        0 | 1 => (0..count).collect(),
        _ => (0..most).map(|i| (i * (count - 1) + (most - 1) / 2) / (most - 1)).collect(),
    }
}

/// Values as 16-bit integers times a scale.
fn packed(values: &[f64]) -> Value {
    let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let scale = if largest > 0.0 { largest / 32767.0 } else { 1.0 };
    let bytes: Vec<u8> = values.iter().flat_map(|x| ((x / scale).round() as i16).to_le_bytes()).collect();
    json!({ "scale": scale, "values": STANDARD.encode(bytes) })
}

/// The page's data.
pub fn data(findings: &Findings, pictures: &Pictures) -> String {
    let model = &findings.model;
    let measures = |step: Option<u64>| {
        let progress = findings.progress.as_ref()?;
        progress.checkpoints.iter().find(|row| Some(row.step) == step)
    };
    let frame = |frame: &crate::analysis::pictures::Frame| {
        let row = measures(frame.step);
        let (w_e, w_l) = row.map_or((&findings.spectra.W_E, &findings.spectra.W_L), |row| (&row.W_E, &row.W_L));
        let scores = row.map_or(&findings.scores, |row| &row.scores);
        json!({
            "step": frame.step,
            "trainLoss": scores.train.map(|score| score.loss),
            "testLoss": scores.test.map(|score| score.loss),
            "wE": packed(&w_e.components),
            "wL": packed(&w_l.components),
            "scores": packed(&frame.scores),
            "tables": packed(&frame.tables),
            "biases": packed(&frame.biases),
            "embed": packed(&frame.embed),
        })
    };
    let palette = |palette: Palette| STANDARD.encode(palette.colours());
    let explorer = &pictures.explorer;
    let data = json!({
        "n": pictures.n,
        "heads": model.n_heads,
        "dModel": model.d_model,
        "dMlp": model.d_mlp,
        "keys": findings.key_frequencies,
        "tracked": pictures.tracked,
        "frequency": findings.neurons.frequency,
        "fve": findings.neurons.fve.iter().map(|x| (x * 1e3).round() / 1e3).collect::<Vec<_>>(),
        "palettes": { "sequential": palette(Palette::Sequential), "diverging": palette(Palette::Diverging) },
        "written": packed(&explorer.written),
        "wIn": packed(&explorer.w_in),
        "bias": packed(&explorer.bias),
        "scores": packed(&explorer.scores),
        "wLogit": packed(&explorer.w_logit),
        "wU": packed(&explorer.w_u),
        "constant": packed(&explorer.constant),
        "elements": pictures.elements,
        "difference": matches!(model.op.as_str(), "sub" | "div"),
        "frames": pictures.frames.iter().map(frame).collect::<Vec<_>>(),
    });
    // Nothing of it may end the script element that it stands in.
    data.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_evenly_spaced_from_the_first_to_the_last() {
        assert_eq!(shown_frames(1, 10), [0]);
        assert_eq!(shown_frames(3, 10), [0, 1, 2]);
        let many = shown_frames(101, 10);
        assert_eq!((many.len(), many[0], many[39]), (40, 0, 100));
        assert!(many.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] <= 3));
        assert_eq!(shown_frames(101, VALUES), [0, 100]);
    }

    #[test]
    fn packed_values_come_back_to_a_part_in_sixty_thousand() {
        let values = [0.0, -2.5, 1.25, 1e-9];
        let packed = packed(&values);
        let bytes = STANDARD.decode(packed["values"].as_str().unwrap()).unwrap();
        let scale = packed["scale"].as_f64().unwrap();
        for (value, bytes) in values.iter().zip(bytes.chunks_exact(2)) {
            let back = i16::from_le_bytes([bytes[0], bytes[1]]) as f64 * scale;
            assert!((back - value).abs() <= 2.5 / 65_000.0, "{back} {value}");
        }
    }
}
