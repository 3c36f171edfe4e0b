//! The key frequencies in words, as a figure, and as a section of the page.

use super::article::{percent, score, set, show, table, text};
use super::math::inline;
use super::scale::Scale;
use super::svg::{self, Axis, Figure, short};
use crate::analysis::Findings;
use crate::analysis::keys::KeyFrequencies;
use maud::{Markup, html};

/// Bars of the figure at most; the frequencies after these contribute less still.
const BARS: usize = 12;

/// "Its key frequencies are {6, 20, 22, 56}.", or why there is no such set.
pub fn sentence(keys: &KeyFrequencies) -> String {
    let found = set(keys.keys());
    match (keys.keys(), keys.clear) {
        ([], _) => {
            "It has no key frequencies: its accuracy is too close to chance, or no frequency adds to the correct logit."
                .into()
        }
        (_, true) => format!("Its key frequencies are {found}."),
        (_, false) => format!("Its key frequencies {found} are not clear: {}.", why_not_clear(keys)),
    }
}

/// "{6, 20, 22, 56}", or "{9, 10}, not clear; in question: {18}", in at most a line.
pub fn short_form(keys: &KeyFrequencies) -> String {
    let (found, in_question) = (set(keys.keys()), keys.in_question());
    if keys.keys().is_empty() {
        return "none".into();
    }
    match (keys.clear, &in_question[..]) {
        (true, _) => found,
        (false, []) => format!("{found}, not clear"),
        (false, others) => format!("{found}, not clear; in question: {}", set(others)),
    }
}

/// Which cut could be the right one, and why neither is clear.
fn why_not_clear(keys: &KeyFrequencies) -> String {
    let (ratio, left) = (keys.cuts.first().map_or(0.0, |cut| cut.ratio), percent(keys.removed.all.accuracy));
    let in_question = keys.in_question();
    let widened = keys.cuts.get(1).filter(|other| other.ratio > ratio);
    if let Some(narrow) = widened {
        let but = match narrow.overturned {
            true => "the next frequency can overturn their margin",
            false => "removing only these leaves too high an accuracy",
        };
        let (fall, narrow, others) = (short(narrow.ratio), set(&narrow.frequencies), set(&in_question));
        return format!(
            "contributions drop by a factor of {fall} after {narrow}, but {but}, so it is unclear whether {others} are keys"
        );
    }
    let mut text =
        format!("the smallest is {} times the next contribution, and accuracy without them is {left}", short(ratio));
    if !in_question.is_empty() {
        text += &format!("; in question: {}", set(&in_question));
    }
    text
}

/// Where other rules say something else, a sentence each: which frequencies, and what it means.
pub fn disagreements(findings: &Findings) -> Vec<String> {
    let (keys, rules, neurons) = (&findings.key_frequencies, &findings.key_rules, &findings.neurons);
    let contributions = &findings.keys.contributions;
    let largest = contributions.iter().copied().fold(0.0, f64::max);
    if keys.is_empty() {
        return Vec::new();
    }
    let share = |set: &[usize]| {
        let most = set.iter().map(|k| contributions[k - 1]).fold(0.0, f64::max);
        percent(if largest > 0.0 { most / largest } else { 0.0 })
    };
    let beyond = |rule: &[usize]| -> Vec<usize> { rule.iter().copied().filter(|k| !keys.contains(k)).collect() };
    let without = |rule: &[usize]| -> Vec<usize> { keys.iter().copied().filter(|k| !rule.contains(k)).collect() };
    let doubles = &findings.embedding.all_doubles.frequencies;
    let mut sentences = Vec::new();
    let (twice, other): (Vec<usize>, Vec<usize>) = beyond(&rules.W_E).into_iter().partition(|k| doubles.contains(k));
    let mut say = |set_: Vec<usize>, rest: &dyn Fn(&[usize]) -> String| {
        if !set_.is_empty() {
            sentences.push(rest(&set_));
        }
    };
    say(twice, &|k| {
        format!("W_E also holds {}, doubles of keys (2k mod n). ReLU neurons can make a double from its key.", set(k))
    });
    say(other, &|k| format!("W_E also holds {}: at most {} of the largest contribution.", set(k), share(k)));
    say(beyond(&rules.W_L), &|k| {
        format!("W_L also holds {}: at most {} of the largest contribution.", set(k), share(k))
    });
    say(without(&rules.W_E), &|k| format!("{} does not stand out in W_E; other planes may drive it.", set(k)));
    say(without(&rules.W_L), &|k| {
        format!("{} does not stand out in W_L; it may come from the skip connection or from few neurons.", set(k))
    });
    let clusters: Vec<usize> = neurons.clusters.iter().map(|cluster| cluster.frequency).collect();
    for k in without(&clusters) {
        let of: Vec<f64> =
            (0..neurons.fve.len()).filter(|&i| neurons.frequency[i] == k).map(|i| neurons.fve[i]).collect();
        sentences.push(match of.iter().copied().reduce(f64::max) {
            Some(best) => format!(
                "Key {k} has no neuron above 85 %: the best of its {} neurons reaches {}; the rest of their variance is at other frequencies.",
                of.len(),
                percent(best)
            ),
            None => format!("Key {k} is the best frequency of no neuron."),
        });
    }
    let mut idle = beyond(&clusters);
    idle.sort();
    if !idle.is_empty() {
        sentences.push(format!(
            "{} also has neurons above 85 %, but at most {} of the largest contribution.",
            set(&idle),
            share(&idle)
        ));
    }
    sentences
}

/// The sorted contributions, keys in a colour of their own.
pub fn figure(findings: &Findings) -> Figure {
    let mut sorted: Vec<(usize, f64)> =
        findings.keys.contributions.iter().enumerate().map(|(i, &c)| (i + 1, c)).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let is_key = |k: usize| findings.key_frequencies.contains(&k);
    let bar = |&(k, c): &(usize, f64)| {
        let value = (c > 0.0).then_some(c);
        (format!("k = {k}"), if is_key(k) { vec![value, None] } else { vec![None, value] })
    };
    let rows: Vec<_> = sorted.iter().take(BARS).map(bar).collect();
    let values = rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let smallest = values.clone().fold(f64::INFINITY, f64::min) / 3.0;
    let scale = Scale::log_over(values.chain(smallest.is_finite().then_some(smallest)).collect::<Vec<_>>().into_iter());
    let axis = Axis { name: "mean contribution to the correct logit", scale };
    svg::named_bars(
        "contributions",
        "Contribution of each frequency, sorted",
        axis,
        &rows,
        &["before the cut", "after"],
    )
}

/// The section of the page.
pub fn section(findings: &Findings, figures: &[Figure]) -> Markup {
    let (keys, rules) = (&findings.keys, &findings.key_rules);
    let counts: Vec<_> = rules.neurons.iter().map(|count| format!("{} ({})", count.frequency, count.neurons)).collect();
    let cut = |place: usize, name: &str| {
        let cut = keys.cuts.get(place)?;
        Some(vec![text(name), text(set(&cut.frequencies)), text(format!("ratio {}", short(cut.ratio)))])
    };
    let rule = |name: &str, value: String| vec![text(name), html! { div.long { (value) } }, text("")];
    let mut rows: Vec<Vec<Markup>> = Vec::new();
    rows.extend(cut(0, "contributions: the key frequencies"));
    rows.extend(cut(1, "contributions: the best other cut"));
    rows.push(rule("cosine or sine above a quarter of the largest in W_E", set(&rules.W_E)));
    rows.push(rule("the same in W_L = W_out W_U", set(&rules.W_L)));
    rows.push(rule("above the largest gap in W_E", set(&rules.gap)));
    rows.push(rule("best of each neuron (with the number of neurons)", counts.join(", ")));
    html! {
        p {
            "For each pair, the logits over the classes are a sum of waves. The value of frequency k's wave at the correct class is what k contributes to the correct logit. "
            "Contributions are averaged over all pairs and sorted in descending order; the key frequencies are those before the largest drop, the ratio of neighbouring contributions. "
            "The cut is clear if that ratio is at least 8, accuracy without the keys is at most " (inline("5/n")) " (five times chance), and the next frequency is too weak to overturn the margin of the keys. "
            "If the ratio is at least 8 but another condition fails, the next frequencies are added until both hold (at most half of all frequencies). " strong { (sentence(keys)) }
            @if keys.clear { " The cut is clear." }
        }
        (show(figures))
        @if !keys.keys().is_empty() {
            p {
                "With only the keys kept in the logits, the network has " (score(keys.kept.all)) " on all pairs; without them, "
                (score(keys.removed.all)) "."
                @if keys.kept.all.accuracy < 0.9 * findings.scores.all.accuracy { " So the answers need more than the keys." }
            }
        }
        (table(&["rule", "frequencies", ""], rows))
        @let others = disagreements(findings);
        @if !others.is_empty() { ul { @for sentence in others { li { (sentence) } } } }
    }
}
