//! What moves the logits: the rotation test, the margin, phase coherence, and contributions by path.

use super::article::{percent, show, table, text};
use super::figures::Figures;
use super::matrix::matrix;
use super::scale::Scale;
use super::svg::{self, Axis, Figure, short};
use crate::analysis::Findings;
use crate::analysis::rotation::FOLLOWS;
use maud::{Markup, html};

/// Planes by components twice, and the paths of each key.
pub fn figures(findings: &Findings) -> Vec<Figure> {
    let (rotation, paths) = (&findings.rotation, &findings.paths);
    if findings.key_frequencies.is_empty() {
        return Vec::new();
    }
    let labels = |frequencies: &[usize]| frequencies.iter().map(usize::to_string).collect::<Vec<_>>();
    let (planes, components) = (labels(&rotation.planes), labels(&rotation.components));
    let of = |name: &str, title: &str, values: &[Vec<f64>], full: f64| {
        matrix(name, title, ("component of the logits", &components), ("plane of W_E", &planes), values, full)
    };
    // What is the same for all pairs is nothing on average over the labels.
    let shown = paths.paths.len() - 1;
    let bars = |of: &[f64]| of[..shown].iter().map(|&c| Some(c)).collect::<Vec<_>>();
    let of_key = |&k: &usize| (format!("k = {k}"), bars(&paths.contributions[k - 1]));
    let mut rows: Vec<(String, Vec<Option<f64>>)> = findings.key_frequencies.iter().map(of_key).collect();
    rows.push(("others".into(), bars(&sum_of_others(findings))));
    let all = rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let axis = Axis {
        name: "mean contribution to the correct logit",
        scale: Scale::linear_over(all.collect::<Vec<_>>().into_iter()),
    };
    let names: Vec<&str> = paths.paths[..shown].iter().map(String::as_str).collect();
    vec![
        of("rotation", "Share of the shifted component explained", &rotation.explained, 1.0),
        of("rotation-changes", "Relative energy of the change", &rotation.changed, 2.0),
        svg::named_bars("paths", "Contributions by path", axis, &rows, &names),
    ]
}

/// One sentence for each key: whether it follows its own plane, and if not, which plane moves it.
pub fn followers(findings: &Findings) -> Vec<String> {
    let rotation = &findings.rotation;
    let sentence = |&key: &usize| {
        let own = rotation.own(key)?;
        if own >= FOLLOWS {
            return Some(format!(
                "Key {key} follows its own plane, which explains {} of the shifted component.",
                percent(own)
            ));
        }
        let own = percent(own);
        if let Some((plane, explained)) = rotation.followed(key) {
            let explained = percent(explained);
            return Some(format!(
                "Key {key} does not follow its own plane ({own}); it follows plane {plane} ({explained})."
            ));
        }
        let movers: Vec<String> =
            rotation.movers(key).iter().map(|(plane, changed)| format!("{plane} ({})", short(*changed))).collect();
        Some(match &movers[..] {
            [] => format!(
                "Key {key} does not follow its own plane ({own}), and no rotated plane changes it by 25 % of its energy."
            ),
            _ => format!(
                "Key {key} does not follow its own plane ({own}) or any other single plane. Planes that change it (change over energy): {}.",
                movers.join(", ")
            ),
        })
    };
    findings.key_frequencies.iter().filter_map(sentence).collect()
}

/// The section of the page.
pub fn section(findings: &Findings, figures: &Figures) -> Markup {
    let power = &findings.key_power;
    if findings.key_frequencies.is_empty() {
        return html! { p { "There is no key frequency, so there is nothing to follow from the embedding to the logits." } };
    }
    let coherence = |c: &crate::analysis::coherence::Coherence| {
        vec![
            text(c.frequency),
            text(c.neurons),
            text(format!("{:.3}", c.coherence)),
            text(format!("{:.2}", (100.0 * c.angle).round() / 100.0 + 0.0)),
            text(format!("{:.3}", c.permuted)),
            text(format!("{:.3}", c.unrelated)),
        ]
    };
    html! {
        p {
            "For the first operand only, replace one frequency of its embedding (the projection of W_E on that frequency's cosine and sine) by that of the token d further on, and run the network. If this plane drives a "
            "component of the logits, the component shifts by d classes. Over all d, the first figure shows the share of the shifted component that the new one explains: 1 is an exact shift, below 0 is a worse fit than zero. The second shows the energy of "
            "the change over that of the component: 0 is no change, 2 is a full shift."
        }
        ul { @for sentence in followers(findings) { li { (sentence) } } }
        (show(&figures.causes[..2]))
        p {
            "On " (percent(findings.keys.decided)) " of the pairs the keys alone fix the answer: their smallest margin over the classes exceeds the largest difference, in size, between the correct class and another in the rest of the logits. "
            "The keys hold " (percent(power.W_L)) " of W_L's power along the classes and " (percent(power.W_E)) " of W_E's along the tokens, the constant left out."
        }
        p {
            "The correct logit is a sum over frequencies and over paths: each head through the skip connection, the MLP, and a constant path (the embedding of “=” and the output bias), whose mean contribution is 0."
        }
        (show(&figures.causes[2..]))
        div #pair hidden {
            p { "One pair's correct logit by frequency and path. Where the waves of all keys crest at the correct class, it gets the largest logit." }
            div.controls {
                label for="pair-x" { "x" input type="number" id="pair-x" min="0" max=(findings.model.p - 1) value="1"; }
                label for="pair-y" { "y" input type="number" id="pair-y" min="0" max=(findings.model.p - 1) value="2"; }
                output id="pair-output" for="pair-x pair-y" {}
            }
            div.scroll { table #pair-table {} }
            div.figures { figure #figure-pair {} }
        }
        @if !findings.coherence.is_empty() {
            p {
                "A neuron's waves in x and y have phases φ_x and φ_y; its wave over the classes has phase φ_out. If φ_out = φ_x + φ_y for all neurons of a key, its coherence is 1 and the angle 0. "
                "Permuting their rows of W_L gives a coherence of about 1/√m."
            }
            (table(
                &["frequency", "neurons best explained by it (m)", "coherence", "angle (radians)", "permuted", "1/√m"],
                findings.coherence.iter().map(coherence).collect(),
            ))
        }
    }
}

/// Mean contributions of the frequencies that are no keys together, by path.
fn sum_of_others(findings: &Findings) -> Vec<f64> {
    let paths = &findings.paths;
    let mut sums = vec![0.0; paths.paths.len()];
    for (i, of_frequency) in paths.contributions.iter().enumerate() {
        if !findings.key_frequencies.contains(&(i + 1)) {
            sums.iter_mut().zip(of_frequency).for_each(|(sum, c)| *sum += c);
        }
    }
    sums
}
