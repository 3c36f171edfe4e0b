//! The page's text, section by section, with the numbers of this network in it.

use super::figures::Figures;
use super::math::{block, inline};
use super::svg::{Figure, short};
use super::{FIGURE_STYLE, PAGE_STYLE, SCRIPT, causes, keys, pizza};
use crate::analysis::Findings;
use crate::analysis::certificate::{Claim, Kind, Range, Verdict};
use crate::analysis::scores::{Score, Scores};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Sections with their ids, in the order of the page.
const SECTIONS: &[(&str, &str)] = &[
    ("certificate", "Certificate: computes with key frequencies"),
    ("keys", "Key frequencies"),
    ("causes", "What moves the logits"),
    ("architecture", "The transformer"),
    ("training", "Training"),
    ("attention", "Simpler attention"),
    ("skips", "Skip connections"),
    ("equations", "Three equations"),
    ("effective", "Effective weights"),
    ("embedding", "The embedding"),
    ("neurons", "Neurons"),
    ("clusters", "Clusters"),
    ("logits", "Logits"),
    ("measures", "Progress measures"),
    ("pizza", "Clock or Pizza"),
    ("explorer", "Explorer"),
];

/// The whole page of a cyclic group's findings. `data` is what its script reads.
pub fn page(findings: &Findings, figures: &Figures, data: &str) -> Markup {
    let body = html! {
        (lead(findings))
        nav aria-label="Sections" { ul { @for (id, name) in SECTIONS { li { a href=(format!("#{id}")) { (name) } } } } }
        (section("certificate", certificate(findings)))
        (section("keys", keys::section(findings, &figures.keys)))
        (section("causes", causes::section(findings, figures)))
        (section("architecture", architecture(findings)))
        (section("training", training(findings, figures)))
        (section("attention", attention(findings, figures)))
        (section("skips", skips(findings, figures)))
        (section("equations", equations(findings, figures)))
        (section("effective", effective(findings, figures)))
        (section("embedding", embedding(findings, figures)))
        (section("neurons", neurons(findings, figures)))
        (section("clusters", clusters(findings, figures)))
        (section("logits", logits(findings, figures)))
        (section("measures", measures(findings, figures)))
        (section("pizza", pizza::section(findings, &figures.pizza)))
        (section("explorer", explorer(findings, figures)))
        footer {
            "Made by grokscope " (env!("CARGO_PKG_VERSION")) ". The numbers stand in findings.json; the maps are computed from the weights. Definitions follow "
            "Nanda et al. 2023, “Progress measures for grokking via mechanistic interpretability”, and Zhong et al. 2023, "
            "“The Clock and the Pizza”. Losses are in nats, means over pairs."
        }
    };
    let script = html! {
        div #tip hidden {}
        script type="application/json" id="data" { (PreEscaped(data)) }
        script { (PreEscaped(SCRIPT)) }
    };
    document(&format!("How a transformer learned {}", task(findings)), body, script)
}

/// A page with its style; `script` stands at its end.
pub fn document(title: &str, body: Markup, script: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(FIGURE_STYLE)) (PreEscaped(PAGE_STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    (body)
                }
                (script)
            }
        }
    }
}

fn section(id: &str, contents: Markup) -> Markup {
    let name = SECTIONS.iter().find(|(of, _)| *of == id).map_or(id, |(_, name)| name);
    html! { section id=(id) { h2 { (name) } (contents) } }
}

/// A row of figures.
pub fn show(figures: &[Figure]) -> Markup {
    html! { div.figures { @for figure in figures { figure id=(format!("figure-{}", figure.name)) { (figure.svg) } } } }
}

fn task(findings: &Findings) -> String {
    let sign = match findings.model.op.as_str() {
        "add" => "+",
        "sub" => "−",
        "mul" => "×",
        "div" => "÷",
        other => other,
    };
    format!("x {sign} y mod {}", findings.model.p)
}

/// "{6, 20, 22}"
pub fn set(frequencies: &[usize]) -> String {
    let list: Vec<_> = frequencies.iter().map(usize::to_string).collect();
    format!("{{{}}}", list.join(", "))
}

/// A share as a percentage: one decimal, three within 0.1 % of 0 or of 100.
pub fn percent(share: f64) -> String {
    let of_hundred = 100.0 * share;
    match of_hundred {
        // No minus before what rounds to 0.
        x if x < 0.0 && x > -0.0005 => "0.0 %".into(),
        x if x != 0.0 && x.abs() < 0.1 => format!("{x:.3} %"),
        x if x > 99.9 && x < 100.0 => format!("{x:.3} %"),
        x => format!("{x:.1} %"),
    }
}

/// Loss and accuracy in words.
pub fn score(score: Score) -> String {
    // With a hyphen that breaks no line.
    format!("loss {}, accuracy {}", short(score.loss).replace('-', "\u{2011}"), percent(score.accuracy))
}

/// What the pairs are called on which most numbers of the text are.
fn pairs(findings: &Findings) -> &'static str {
    findings.scores.unseen_name()
}

/// a + b, or what the label's index is instead.
fn label(findings: &Findings) -> &'static str {
    if matches!(findings.model.op.as_str(), "sub" | "div") { "a - b" } else { "a + b" }
}

/// A table that scrolls sideways where it is wider than the page.
pub fn table(head: &[&str], rows: Vec<Vec<Markup>>) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { @for name in head { th { (name) } } } }
                tbody { @for row in rows { tr { @for cell in row { td { (cell) } } } } }
            }
        }
    }
}

/// A cell of plain text, escaped.
pub fn text(value: impl std::fmt::Display) -> Markup {
    html! { (value.to_string()) }
}

fn lead(findings: &Findings) -> Markup {
    let model = &findings.model;
    html! {
        p.lead {
            "A one-layer transformer with " (model.parameters.to_string()) " weights"
            @if let Some(step) = model.step { ", after " (step) " updates" }
            @if let Some(rows) = model.train_pairs { " on " (rows) " of the " (model.p * model.p) " pairs" }
            ". "
            strong { (keys::sentence(&findings.keys)) }
            " On " (pairs(findings)) " it has " (score(findings.scores.unseen())) ". "
            @match findings.certificate.verdict {
                Verdict::Holds => span.pass { "It computes with its key frequencies: all claims about the computation that apply hold." },
                Verdict::Unknown => span { "No claim below fails, but not all of them could be judged." },
                Verdict::DoesNotApply => span { "The group is too small for the claims below." },
                Verdict::Fails => span.fail {
                    @match generalises(findings) {
                        Verdict::Fails => "It does not generalise.",
                        Verdict::Holds => "It generalises, but not all claims of computing with key frequencies hold.",
                        _ => "Not all claims of computing with key frequencies hold, and whether it generalises is unknown.",
                    }
                },
            }
        }
    }
}

fn generalises(findings: &Findings) -> Verdict {
    let claim = findings.certificate.claims.iter().find(|claim| claim.name == "generalises");
    claim.map_or(Verdict::Unknown, |claim| claim.verdict)
}

fn range(range: &Range) -> String {
    match (range.at_least, range.at_most) {
        (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
        (Some(low), None) => format!("at least {}", short(low)),
        (None, Some(high)) => format!("at most {}", short(high)),
        (None, None) => "any".into(),
    }
}

fn verdict(verdict: Verdict) -> Markup {
    match verdict {
        Verdict::Holds => html! { span.pass { "✓ holds" } },
        Verdict::Fails => html! { span.fail { "✗ fails" } },
        Verdict::Unknown => html! { "? unknown" },
        Verdict::DoesNotApply => html! { "– does not apply" },
    }
}

fn certificate(findings: &Findings) -> Markup {
    let value = |value: Option<f64>| value.map_or("none".into(), short);
    let row = |claim: &Claim| {
        vec![
            verdict(claim.verdict),
            html! { div.long {
                (claim.claim)
                @if claim.kind == Kind::Simplification { " " small { "(a simplification, does not decide)" } }
                br; small { (claim.measure) @if let Some(why) = &claim.why { ". " strong { (why) } } }
            } },
            text(value(claim.value)),
            text(range(&claim.expected)),
            match &claim.control {
                Some(control) => {
                    html! {
                        @if let Some(found) = control.value { (short(found)) } @else { "not drawn" }
                        " (" (range(&control.expected)) ")" br; small { (control.what) }
                    }
                }
                None => html! { "–" },
            },
        ]
    };
    html! {
        p {
            "Does this network compute with its key frequencies? Each claim has a value and the range expected of it. Some have a control: the same measure where the claim "
            "should not hold. Random sets hold as many frequencies as there are keys. They leave out the keys, their multiples by 2, 3 and 4 (mod n), and every frequency that contributes more than 1 % of the largest contribution. The control "
            "is the set closest to breaking the claim. Where no set can be drawn, the claim is unknown. No verdict depends on the scale of the logits. "
            "docs/analysis.md shows how often networks that were made to break one claim pass each of them."
        }
        (table(&["", "claim", "value", "expected", "control (expected)"], findings.certificate.claims.iter().map(row).collect()))
    }
}

fn architecture(findings: &Findings) -> Markup {
    let model = &findings.model;
    html! {
        p {
            "The input is three tokens: x, y and “=”. Only what stands at “=” is read off. There is one layer, no LayerNorm, and ReLU in the "
            "MLP; d_model is " (model.d_model) ", with " (model.n_heads) " heads and " (model.d_mlp) " neurons. With "
            (inline("r_s")) " the residual stream at position s and " (inline("h")) " counting heads:"
        }
        (block(r"r_s = W_E[t_s] + W_{\mathrm{pos}}[s]"))
        (block(r"A^h_s = \underset{s}{\mathrm{softmax}}\left(\frac{(r_{=} W_Q^h) \cdot (r_s W_K^h)}{\sqrt{d_{\mathrm{head}}}}\right)"))
        (block(r"r_{\mathrm{mid}} = r_{=} + \sum_h \sum_s A^h_s \, r_s W_V^h W_O^h"))
        (block(r"\mathrm{logits} = \left(r_{\mathrm{mid}} + \mathrm{relu}(r_{\mathrm{mid}} W_{\mathrm{in}} + b_{\mathrm{in}}) W_{\mathrm{out}} + b_{\mathrm{out}}\right) W_U"))
        (of_logarithms(findings))
    }
}

/// Why the curves show no phases.
fn no_phases(findings: &Findings) -> &'static str {
    let checkpoints = findings.progress.as_ref().map_or(0, |progress| progress.checkpoints.len());
    if findings.scores.test.is_none() {
        "Every pair was trained on, so there is no test loss to tell phases by."
    } else if findings.key_frequencies.is_empty() {
        "There is no key frequency, so there is no circuit whose formation could be followed."
    } else if checkpoints < 10 {
        "There are too few checkpoints to tell phases by: train with a smaller --checkpoint-every."
    } else {
        "The curves show no phases that could be told apart: the test loss has not fallen, or it fell while the train pairs were still being memorised."
    }
}

/// What a, b and c are for products.
fn of_logarithms(findings: &Findings) -> Markup {
    let (n, p) = (findings.model.order, findings.model.p);
    html! {
        @if n < p {
            p {
                "The task is a " (if findings.model.op == "div" { "quotient" } else { "product" }) ", and the powers of the smallest primitive root mod " (p) " go round a circle of " (n) ": below, a, b and c are discrete logarithms "
                "of x, y and the class, tokens stand in that order, and every number is over the " (n * n) " pairs without a 0."
            }
        }
    }
}

fn training(findings: &Findings, figures: &Figures) -> Markup {
    let Some(progress) = &findings.progress else {
        return html! { p { "This is a single checkpoint, so there are no curves: analyse a run to see how it came about." } };
    };
    let phases = &progress.phases;
    html! {
        @match (phases.circuit_formation, phases.cleanup) {
            (Some(formation), Some(cleanup)) => p {
                "Until step " (formation) " the network memorises: the train loss falls, and so does the excluded loss, which is what is left of it "
                "without the key frequencies. From there on the circuit forms: the excluded loss rises, because more and more of the answer comes from "
                "the keys, while the test loss stays high. From step " (cleanup) " on the test loss falls as what was memorised decays"
                @if let Some(end) = phases.end { ", until about step " (end) }
                ". The boundaries are read off the curves: the lowest excluded loss, then the knee and the elbow of the logarithm of the test loss."
            },
            _ => p { (no_phases(findings)) }
        }
        (show(&figures.curves))
        @if !super::figures::phase_names(progress).is_empty() {
            p { small { @for (i, (name, step)) in super::figures::phase_names(progress).iter().enumerate() { (i + 1) ": " (name) " (step " (step) "). " } } }
        }
    }
}

fn attention(findings: &Findings, figures: &Figures) -> Markup {
    let attention = &findings.attention;
    let to_equals = attention.heads.iter().map(|head| head.mean[2]).fold(0.0, f64::max);
    let worst = attention.heads.iter().map(|head| head.r2).fold(f64::INFINITY, f64::min);
    let head = |(i, head): (usize, &crate::analysis::attention::Head)| {
        let mut row = vec![text(i)];
        row.extend(head.mean.iter().map(|&x| text(percent(x))));
        row.extend([text(short(head.slope)), text(percent(head.r2)), text(short(head.difference_std))]);
        row.extend([text(head.frequency), text(percent(head.explained))]);
        row
    };
    html! {
        p {
            "The largest mean weight that a head puts on “=” is " (percent(to_equals)) ". Setting it to zero gives " (score(attention.equals_zeroed.unseen()))
            " on " (pairs(findings)) ". Without it a head shares its attention between x and y alone, by the difference of two scores:"
        }
        (block(r"A^h_x = \sigma(\mathrm{score}^h_x - \mathrm{score}^h_y), \qquad A^h_y = 1 - A^h_x"))
        p {
            "That gives " (score(attention.sigmoid.unseen())) ". A linear fit of each head's attention to x by the score difference explains at least " (percent(worst)) " of its variance. With " (inline("A^h_x")) " replaced by the fit and " (inline("A^h_y")) " by the rest, "
            "the network has " (score(attention.linear.unseen()))
            ". With each head's mean pattern in place of its attention it has " (score(attention.mean_pattern.unseen())) "."
        }
        (table(&["head", "to x", "to y", "to =", "slope", "line explains", "std of score difference", "frequency", "variance explained"], attention.heads.iter().enumerate().map(head).collect()))
        (show(&figures.attention))
        (show(&figures.simpler_attention))
    }
}

fn named<'a>(findings: &'a Findings, path: &str) -> Option<&'a crate::analysis::skips::Ablation> {
    findings.ablations.iter().find(|ablation| ablation.path == path)
}

fn skips(findings: &Findings, figures: &Figures) -> Markup {
    html! {
        @if let Some(skip) = named(findings, "skip round the MLP") {
            p {
                "The residual stream also runs past the MLP, straight to the logits. Zeroed there, it leaves " (score(skip.zeroed.unseen()))
                @if let Some(mean) = &skip.mean { "; replaced by its mean over all pairs, " (score(mean.unseen())) }
                ". For comparison: the whole network has " (score(findings.scores.unseen())) "."
            }
        }
        @if let (Some(heads), Some(skip)) = (named(findings, "all heads"), named(findings, "skip round the attention")) {
            p {
                "Without the heads nothing of x and y reaches “=”: " (score(heads.zeroed.unseen())) ". The skip connection round the attention carries the embedding "
                "of “=” itself, the same for all pairs, a bias of the neurons; without it there is " (score(skip.zeroed.unseen())) "."
            }
        }
        (show(&figures.skips))
    }
}

fn equations(findings: &Findings, figures: &Figures) -> Markup {
    let weights = &findings.effective_weights;
    let row = |name: &str, deviation: &crate::analysis::effective::Deviation| {
        vec![
            text(name),
            text(short(deviation.rms)),
            text(percent(deviation.relative)),
            text(short(deviation.largest)),
            text(short(deviation.scores.unseen().loss)),
            text(percent(deviation.scores.unseen().accuracy)),
        ]
    };
    html! {
        p {
            "Three equations approximate the network; the table says how well. The query at “=” is the same for all pairs, so a head's score is linear in the "
            "embedding of the token it looks at, and every step from the embedding to the neurons' inputs is linear except the attention's softmax. With "
            (inline(r"u^h = W_K^h \, q^h / \sqrt{d_{\mathrm{head}}}")) ", products of weights are formed once:"
        }
        (block(r"W_{\mathrm{attn}}^h = W_E \, u^h, \qquad W_{\mathrm{neur}}^h = W_E W_V^h W_O^h W_{\mathrm{in}}, \qquad W_{\mathrm{logit}} = W_{\mathrm{out}} W_U"))
        p { "Then attention, neurons and logits follow from one row each of these tables:" }
        (block(r"A^h = \sigma\left(W_{\mathrm{attn}}^h[x] - W_{\mathrm{attn}}^h[y]\right)"))
        (block(r"N = \mathrm{relu}\left(\sum_h A^h \, W_{\mathrm{neur}}^h[x] + (1 - A^h) \, W_{\mathrm{neur}}^h[y]\right)"))
        (block(r"\mathrm{logits} = N \, W_{\mathrm{logit}} + \mathrm{bias}"))
        p {
            "Left out are the position embeddings of x and y, the residual into the MLP, the skip round it, its first bias and the attention to “=”. The bias is once "
            (inline(r"b_{\mathrm{out}} W_U")) ", and once what restores each class's mean. The exact composition, which leaves out nothing, is the network again, to "
            "rounding."
        }
        (table(
            &["model", "rms error of logits", "of their spread", "largest", "loss", "accuracy"],
            vec![
                row("exact composition", &weights.exact),
                row("simplified, bias b_out W_U", &weights.simplified),
                row("simplified, means restored", &weights.simplified_mean_restored),
            ],
        ))
        (show(&figures.equations))
    }
}

fn effective(findings: &Findings, figures: &Figures) -> Markup {
    let most = |spectra: &[crate::analysis::spectrum::Spectrum]| {
        spectra.iter().map(|s| short(s.gini)).collect::<Vec<_>>().join(", ")
    };
    html! {
        p {
            "All three tables have an axis of numbers mod " (findings.model.order) ". If they are made of few waves along it, their spectra have few peaks. The Gini coefficient, 0 for a flat spectrum and near 1 for "
            "a single peak, is " (most(&findings.effective_weights.W_attn)) " for the heads' W_attn, " (most(&findings.effective_weights.W_neur)) " for their W_neur and "
            (short(findings.spectra.W_L.gini)) " for W_logit; a matrix of random numbers has about " (short(findings.random_gini)) "."
        }
        (show(&figures.effective))
    }
}

fn embedding(findings: &Findings, figures: &Figures) -> Markup {
    let ablations = &findings.embedding;
    html! {
        p {
            "Written in the Fourier basis along its tokens, the embedding has Gini coefficient " (short(findings.spectra.W_E.gini)) ", where random numbers have "
            (short(findings.random_gini)) ": " @if findings.spectra.W_E.gini >= 0.35 { "it is sparse" } @else { "it is not sparse" } "."
        }
        @if !findings.key_frequencies.is_empty() {
            p {
                "What stands out in W_E need not be a key: neurons make twice a key's frequency as well, and W_E holds some of it. Taking all keys out of W_E leaves "
                (percent(ablations.all_keys.scores.unseen().accuracy)) " accuracy on " (pairs(findings))
                @if !ablations.all_doubles.frequencies.is_empty() {
                    "; taking out the doubles " (set(&ablations.all_doubles.frequencies)) " together leaves " (score(ablations.all_doubles.scores.unseen()))
                }
                @if let Some(worst) = ablations.controls.iter().map(|r| r.scores.unseen().accuracy).reduce(f64::min) {
                    "; of the random sets the worst leaves " (percent(worst))
                }
                ". In an ideal network, tokens and classes lie on a circle in the plane of each key frequency. Colour shows a point's expected angle, 2πkt/n."
            }
        }
        (show(&figures.embedding))
    }
}

fn neurons(findings: &Findings, figures: &Figures) -> Markup {
    html! {
        p {
            "A neuron's activation over all pairs is a picture of " (findings.model.order) " by " (findings.model.order) " values. The first neurons, and the best of each cluster, each "
            "beside its 2D Fourier coefficients, the mean taken away. In a network that has grokked these are a handful of waves of one frequency in x and y. Hover over a map to read it; other neurons are in the "
            a href="#explorer" { "explorer" } "."
        }
        (show(&figures.neurons))
    }
}

fn clusters(findings: &Findings, figures: &Figures) -> Markup {
    let neurons = &findings.neurons;
    let row = |cluster: &crate::analysis::neurons::Cluster| {
        vec![
            text(cluster.frequency),
            text(cluster.neurons),
            text(percent(cluster.mean_fve)),
            text(percent(cluster.mean_fires)),
        ]
    };
    html! {
        p {
            "For each neuron, the share of its variance that the waves of one frequency explain (FVE). The neurons of which one frequency explains more than 85 % are its cluster: "
            (neurons.explained) " of " (neurons.fve.len()) " neurons belong to one; the mean over all neurons is " (percent(neurons.mean_fve)) ". "
            @if neurons.dead > 0 { (neurons.dead) " neurons do not vary at all. " }
        }
        (table(&["frequency", "neurons above 85 %", "mean FVE", "mean share of inputs they fire on"], neurons.clusters.iter().map(row).collect()))
        (show(&figures.clusters))
    }
}

fn logits(findings: &Findings, figures: &Figures) -> Markup {
    let logits = &findings.logits;
    let direction = |d: &crate::analysis::logits::Direction| {
        vec![
            text(d.frequency),
            text(short(logits.alpha[d.frequency - 1])),
            text(short(d.u_norm)),
            text(percent(d.u_explained)),
            text(short(d.v_norm)),
            text(d.v_explained.map_or("–".into(), percent)),
        ]
    };
    let restricted = &findings.restricted;
    let losses = |what: &str, scores: &Scores| {
        vec![
            text(what),
            text(scores.train.map_or("–".into(), |s| short(s.loss))),
            text(scores.test.map_or("–".into(), |s| short(s.loss))),
            text(short(scores.all.loss)),
            text(percent(scores.unseen().accuracy)),
        ]
    };
    let mut rows = vec![
        losses("the network", &findings.scores),
        losses("restricted (keys only), at the logits", &restricted.logits.all.restricted),
        losses("restricted (keys only), at the neurons", &restricted.neurons.all.restricted),
        losses("excluded (keys taken away), at the logits", &restricted.logits.all.excluded),
        losses("excluded (keys taken away), at the neurons", &restricted.neurons.all.excluded),
    ];
    for loss in &restricted.logits.each {
        rows.push(losses(&format!("excluded {}, at the logits", set(&loss.frequencies)), &loss.excluded));
    }
    for loss in &restricted.controls {
        rows.push(losses(&format!("excluded random {}", set(&loss.frequencies)), &loss.excluded));
    }
    rows.push(losses("formula: sum of alpha_k cos", &logits.formula));
    rows.push(losses("key terms of the logits", &logits.key_terms));
    rows.push(losses("neurons reduced to their key", &findings.dropped.none));
    for dropped in &findings.dropped.each {
        rows.push(losses(&format!("the same without cluster {}", dropped.frequency), &dropped.scores));
    }
    html! {
        p {
            "With " (inline(r"w_k = 2 \pi k / n")) " and c the class, a network that has grokked has logits close to a sum of cosines that peak together where c is right:"
        }
        (block(&r"\mathrm{logit}(a, b, c) \approx \sum_{k \in \mathrm{keys}} \alpha_k \cos\left(w_k (LABEL - c)\right), \qquad \alpha_k = \frac{2}{n^3} \left\langle L, \cos w_k (LABEL - c) \right\rangle".replace("LABEL", label(findings))))
        @if findings.key_frequencies.is_empty() {
            p { "There is no key frequency, so the sum is empty: the formula's rows below are what guessing gives." }
        } @else {
            p {
                "It explains " (percent(logits.explained)) " of the logits' variance, leaves " (percent(logits.residual)) " of their spread, and by itself has "
                (score(logits.formula.unseen())) " on " (pairs(findings)) ". The neurons hold the two waves it needs: W_L reads cos w_k c from the direction u_k of neuron space and "
                "sin w_k c from v_k, and the neurons' projections there are cos w_k (" (label(findings)) ") and sin w_k (" (label(findings)) "), to the shares of variance below, so that"
            }
            (block(&r"\cos w_k (LABEL) \cos w_k c + \sin w_k (LABEL) \sin w_k c = \cos w_k (LABEL - c)".replace("LABEL", label(findings))))
            (table(&["frequency", "alpha", "norm of u", "cos explains", "norm of v", "sin explains"], logits.directions.iter().map(direction).collect()))
        }
        (show(&figures.logits))
        p {
            "What follows are losses of changed logits. Restricted: each class's mean and the waves of the keys in the label. Excluded: all but those waves. At the neurons: the same done to the neurons, the rest of the network as it is. "
            "Key terms: each class's mean and the terms of the keys in the 2D basis of (a, b). Neurons reduced: each neuron of a cluster keeps the nine 2D terms of its frequency, nothing goes round the MLP, and each class's mean is restored; then one cluster is "
            "left out."
        }
        (table(&["logits", "loss on train pairs", "on test pairs", "on all pairs", &format!("accuracy on {}", pairs(findings))], rows))
    }
}

fn measures(findings: &Findings, figures: &Figures) -> Markup {
    let squares: Vec<_> =
        findings.squares.tensors.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
    html! {
        p {
            "Restricted loss keeps the mean of each class and the key frequencies only; excluded loss takes them away. A network that generalises has a low restricted "
            "loss on test pairs and a high excluded loss even on train pairs. Sums of squared weights at this step: " (squares.join(", "))
            "; together " (short(findings.squares.total)) "."
        }
        @if findings.progress.is_some() { (show(&figures.progress)) }
    }
}

fn explorer(findings: &Findings, figures: &Figures) -> Markup {
    let frames = findings.progress.as_ref().map_or(1, |progress| progress.checkpoints.len());
    html! {
        p {
            "Move through training" @if frames < 2 { " (this is a single checkpoint, so there is one step only)" }
            ", and choose a neuron. Followed through training are those of the section above; others are shown at the last step."
        }
        div.controls id="explorer-controls" hidden {
            label for="step-slider" { "Step" input type="range" id="step-slider" min="0" value=(figures.frames - 1) max=(figures.frames - 1) step="1"; }
            output id="step-output" for="step-slider" {}
            label for="neuron" { "Neuron" input type="number" id="neuron" min="0" max=(findings.model.d_mlp - 1) value=(figures.first_neuron); }
            output id="neuron-output" for="neuron" {}
        }
        (show(&figures.explorer))
    }
}
