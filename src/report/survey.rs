//! The page, figures, tables and summary of a network whose operation is no cyclic group.

use super::article;
use super::figures::line;
use super::scale::Scale;
use super::svg::{self, Axis, Figure, Series, short};
use super::tables::{Table, labelled, losses_header, plain};
use crate::analysis::representations::Shares;
use crate::analysis::survey::{Checkpoint, Survey};
use maud::{Markup, html};

/// Parts that a figure of named bars has room for; more of them are drawn over an axis of numbers.
const NAMED: usize = 8;

/// What stands in the place of a certificate.
pub const VERDICT: &str = "certificate  none: the operation is no cyclic group";

/// Curves of training and shares of variance.
pub fn figures(survey: &Survey) -> Vec<Figure> {
    let mut all = survey.progress.as_deref().map_or(Vec::new(), curves);
    all.push(shares(survey));
    let of_head = |(head, mean): (usize, &[f64; 3])| (format!("head {head}"), mean.map(Some).to_vec());
    let rows: Vec<_> = survey.attention.iter().enumerate().map(of_head).collect();
    let share = Axis { name: "mean weight (share)", scale: Scale::linear(0.0, 1.0) };
    all.push(svg::named_bars("attention-means", "Mean attention from =", share, &rows, &["to x", "to y", "to ="]));
    all
}

/// Shares of variance by representation, and what noise would have.
fn shares(survey: &Survey) -> Figure {
    let parts = &survey.representations;
    let columns = [("W_E", &parts.W_E), ("W_L", &parts.W_L), ("logits", &parts.logits)];
    let title = "Variance by representation";
    if parts.names.len() <= NAMED {
        let values = |i: usize| columns.iter().map(|(_, of)| Some(of.shares[i])).collect();
        let rows: Vec<_> = parts.names.iter().enumerate().map(|(i, name)| (name.clone(), values(i))).collect();
        let share = Axis { name: "share of variance", scale: Scale::linear(0.0, 1.0) };
        return svg::named_bars("representations", title, share, &rows, &columns.map(|(name, _)| name));
    }
    let points =
        |of: &Shares| of.shares.iter().enumerate().map(|(i, &share)| ((i + 1) as f64, share)).collect::<Vec<_>>();
    let series = |(colour, (name, of)): (usize, &(&str, &Shares))| line(name, colour, points(of).into_iter());
    let all: Vec<Series> = columns.iter().enumerate().map(series).collect();
    let values = all.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let x = Axis { name: "frequency k", scale: Scale::linear(0.0, parts.names.len() as f64) };
    let y = Axis { name: "share of variance", scale: Scale::linear_over(values) };
    svg::chart("representations", title, x, y, &all, &[])
}

fn curves(progress: &[Checkpoint]) -> Vec<Figure> {
    let over = |name: &str, colour, of: &dyn Fn(&Checkpoint) -> Option<f64>| {
        line(name, colour, progress.iter().filter_map(|row| Some((row.step as f64, of(row)?))))
    };
    let steps =
        || Axis { name: "step (updates)", scale: Scale::linear(0.0, progress.last().map_or(1, |row| row.step) as f64) };
    let losses =
        [over("train", 0, &|row| Some(row.scores.train?.loss)), over("test", 1, &|row| Some(row.scores.test?.loss))];
    let accuracies = [
        over("train", 0, &|row| Some(row.scores.train?.accuracy)),
        over("test", 1, &|row| Some(row.scores.test?.accuracy)),
    ];
    let ginis = [over("W_E", 0, &|row| Some(row.W_E.gini)), over("W_L", 1, &|row| Some(row.W_L.gini))];
    let values = losses.iter().flat_map(|series| series.points.iter().map(|point| point.1));
    let loss = Axis { name: "loss (nats)", scale: Scale::log_over(values) };
    let share = |name| Axis { name, scale: Scale::linear(0.0, 1.0) };
    vec![
        svg::chart("loss", "Loss through training", steps(), loss, &losses, &[]),
        svg::chart("accuracy", "Accuracy through training", steps(), share("accuracy (share)"), &accuracies, &[]),
        svg::chart("gini", "How few representations are used", steps(), share("Gini coefficient"), &ginis, &[]),
    ]
}

/// The representation with the largest share of a table, in words.
fn largest(survey: &Survey, of: &Shares) -> String {
    let best = of.shares.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or("none".into(), |(i, share)| format!("{} with {:.1} %", survey.representations.names[i], 100.0 * share))
}

/// The whole page of a survey.
pub fn page(survey: &Survey) -> String {
    let (parts, scores) = (&survey.representations, &survey.scores);
    let dimensions: usize = parts.dimensions.iter().sum();
    let row = |(i, name): (usize, &String)| -> Vec<Markup> {
        let percent = |x: f64| article::text(article::percent(x));
        vec![
            article::text(name),
            article::text(parts.dimensions[i]),
            percent(parts.dimensions[i] as f64 / dimensions as f64),
            percent(parts.W_E.shares[i]),
            percent(parts.W_L.shares[i]),
            percent(parts.logits.shares[i]),
            article::text(parts.neurons[i]),
        ]
    };
    let head = ["representation", "dimensions", "of noise", "of W_E", "of W_L", "of the logits", "neurons"];
    let body = html! {
        p.lead {
            "A one-layer transformer with " (survey.model.parameters) " weights"
            @if let Some(step) = survey.model.step { ", after " (step) " updates" }
            @if let Some(rows) = survey.model.train_pairs { " on " (rows) " pairs" }
            ". On " (scores.unseen_name()) " it has " (article::score(scores.unseen())) ", on " (scores.seen_name()) " " (article::score(scores.seen())) "."
        }
        p {
            "This operation is no cyclic group, so there is no frequency that would be key to it, and no certificate. What follows is how the variance of the network's tables is "
            "shared out among the irreducible representations of " (parts.group) ": parts of a function on the group that every translation maps onto themselves, and that stand at right "
            "angles to each other. The trivial one, the mean, is left out. Noise would have its variance in proportion to their dimensions. W_L is W_out W_U, what the neurons say to "
            "the classes; a neuron is counted where its line of it has its largest share."
            @if parts.group != "S5" { " The representations of " (parts.group) " are its frequencies; the labels of polynomials are added there, but their tokens have no such order." }
        }
        p { "The largest share of W_E has " (largest(survey, &parts.W_E)) ", of W_L " (largest(survey, &parts.W_L)) ", of the logits " (largest(survey, &parts.logits)) "." }
        (article::show(&figures(survey)))
        (article::table(&head, parts.names.iter().enumerate().map(row).collect()))
        footer { "Made by grokscope " (env!("CARGO_PKG_VERSION")) ". The numbers stand in findings.json. Losses are in nats, means over pairs." }
    };
    article::document(&format!("A transformer on {}", survey.task), body, html! {}).into_string()
}

/// The shares by representation, and the checkpoints' scores.
pub fn tables(survey: &Survey) -> Vec<Table> {
    let parts = &survey.representations;
    let row = |i: usize| {
        let shares = [&parts.W_E, &parts.W_L, &parts.logits].map(|of| of.shares[i].to_string());
        let head = vec![parts.names[i].clone(), parts.dimensions[i].to_string()];
        [head, shares.to_vec(), vec![parts.neurons[i].to_string()]].concat()
    };
    let mut all = vec![Table {
        name: "representations",
        header: plain(&["representation", "dimensions", "W_E", "W_L", "logits", "neurons"]),
        rows: (0..parts.names.len()).map(row).collect(),
    }];
    if let Some(progress) = &survey.progress {
        all.push(Table {
            name: "checkpoints",
            header: losses_header(&["step"]),
            rows: progress.iter().map(|row| labelled(row.step.to_string(), &row.scores)).collect(),
        });
    }
    all
}

/// The summary for a terminal.
pub fn summary(survey: &Survey) -> String {
    let parts = &survey.representations;
    let line = |name: &str, of: &Shares| format!("{name:>8}  most in {}; Gini {}", largest(survey, of), short(of.gini));
    let mut lines = vec![format!("variance by the representations of {}", parts.group)];
    lines.extend([line("W_E", &parts.W_E), line("W_L", &parts.W_L), line("logits", &parts.logits)]);
    lines.push(VERDICT.into());
    lines.join("\n")
}
