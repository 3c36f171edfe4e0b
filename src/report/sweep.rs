//! The page of a sweep: phase diagrams, distributions over seeds, frequencies, and a table of the runs with links to them.

use super::article::{document, percent, show, table};
use super::figures::line;
use super::lattice::{Spot, Strip, lattice, strips};
use super::scale::Scale;
use super::svg::{self, Axis, Figure, Look, Series, short};
use crate::analysis::sweep::{Phase, median, share_interval};
use maud::{Markup, PreEscaped, html};
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

/// What the page shows.
pub struct Shown {
    /// The sweep's name.
    pub title: String,
    /// Steps from which on a delay is called grokking.
    pub delay: u64,
    /// Fields that differ between runs.
    pub varied: Vec<String>,
    /// Names of the table's columns.
    pub columns: Vec<String>,
    /// In the order of the plan.
    pub runs: Vec<Place>,
}

/// A run on the page.
#[derive(Clone)]
pub struct Place {
    /// Its report, or its directory where it has none; nothing where it has not begun.
    pub link: Option<String>,
    /// done, diverged, begun, waiting, damaged or unreadable.
    pub status: &'static str,
    /// A text a column of the table.
    pub cells: Vec<Option<String>>,
    /// How it learned.
    pub phase: Option<Phase>,
    /// Whether it has grokked.
    pub grokked: Option<bool>,
    /// The first evaluation at which it had.
    pub grok_step: Option<u64>,
    /// Its key frequencies.
    pub keys: Option<Vec<usize>>,
    /// The operation.
    pub op: String,
    /// The modulus.
    pub p: usize,
    /// Near 1 for a Pizza.
    pub symmetricity: Option<f64>,
    /// Near 1 for a Clock; lower for a Pizza.
    pub irrelevance: Option<f64>,
}

/// Fields over which the others are a distribution: two runs that differ in them alone are draws of the same thing.
const DRAWS: &[&str] = &["seed", "split"];
/// Axes whose diagrams are shown.
const MOST_AXES: usize = 4;
/// Values of an axis that have room on a figure.
const MOST_VALUES: usize = 12;
/// Ranges into which the values of an axis with more of them are put.
const RANGES: usize = 6;

impl Shown {
    fn cell<'a>(&'a self, run: &'a Place, field: &str) -> &'a str {
        let column = self.columns.iter().position(|name| name == field);
        column.and_then(|column| run.cells[column].as_deref()).unwrap_or("")
    }

    /// The values of a field in their order.
    fn values(&self, field: &str) -> Vec<&str> {
        let mut values: Vec<&str> = self.runs.iter().map(|run| self.cell(run, field)).collect();
        values.sort_by(|a, b| in_order(a, b));
        values.dedup();
        values
    }

    /// The varied fields that are no draws and whose values can be told apart, or put into ranges.
    fn axes(&self) -> Vec<&str> {
        let is_axis = |field: &&String| {
            let values = self.values(field);
            let few = values.len() <= MOST_VALUES || values.iter().all(|value| value.parse::<f64>().is_ok());
            !DRAWS.contains(&field.as_str()) && values.len() >= 2 && few
        };
        self.varied.iter().filter(is_axis).map(String::as_str).take(MOST_AXES).collect()
    }

    /// The runs by their values of a field; by ranges of as many values each, where there are too many.
    fn groups(&self, field: &str) -> Vec<Group> {
        let values = self.values(field);
        let size = if values.len() <= MOST_VALUES { 1 } else { values.len().div_ceil(RANGES) };
        let called = |values: &[&str]| match values {
            [first, .., last] => format!("{} to {}", label(first), label(last)),
            _ => label(values[0]),
        };
        let empty = |values: &[&str]| Group { label: called(values), runs: Vec::new() };
        let mut groups: Vec<Group> = values.chunks(size).map(empty).collect();
        let places: HashMap<&str, usize> = values.iter().enumerate().map(|(i, value)| (*value, i / size)).collect();
        for (number, run) in self.runs.iter().enumerate() {
            groups[places[self.cell(run, field)]].runs.push(number);
        }
        groups
    }

    fn name(&self, run: &Place) -> String {
        let fields = self.varied.iter().map(|field| format!("{field} {}", label(self.cell(run, field))));
        let end = match (run.phase, run.grok_step) {
            (Some(phase), Some(step)) => format!("{}, grokked at step {step}", phase.name()),
            (Some(phase), None) => phase.name().into(),
            (None, _) => run.status.into(),
        };
        format!("{}: {end}", fields.collect::<Vec<_>>().join(", "))
    }

    fn spot(&self, run: &Place) -> Spot {
        Spot { kind: kind(run), name: self.name(run), link: run.link.clone() }
    }

    fn of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Place> + 'a {
        group.runs.iter().map(|&run| &self.runs[run])
    }
}

/// Runs that stand together on an axis.
struct Group {
    label: String,
    /// Their numbers, rising.
    runs: Vec<usize>,
}

/// Numbers by their size, before texts.
fn in_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        (Ok(_), _) => Ordering::Less,
        (_, Ok(_)) => Ordering::Greater,
        _ => a.cmp(b),
    }
}

fn label(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(number) if value.contains('.') || value.contains('e') => short(number),
        _ => value.to_string(),
    }
}

/// The names of what a square can be, with colours of the palette; the first four are the phases.
const KINDS: &[(&str, usize, &str)] = &[
    ("comprehension", 2, "C"),
    ("grokking", 0, "G"),
    ("memorisation", 4, "M"),
    ("confusion", 7, "X"),
    ("diverged", 1, "D"),
];

fn kind(run: &Place) -> Option<usize> {
    match (run.phase, run.status) {
        (Some(phase), _) => Phase::ALL.iter().position(|&other| other == phase),
        (None, "diverged") => Some(KINDS.len() - 1),
        _ => None,
    }
}

/// The page of a sweep: one HTML text, whose links lead into the sweep's directory.
pub fn page(shown: &Shown) -> String {
    let body = html! {
        (lead(shown))
        section #phases { h2 { "Phases of learning" } (phases(shown)) }
        section #steps { h2 { "When, and how often" } (steps(shown)) }
        section #frequencies { h2 { "Frequencies" } (keys(shown)) }
        section #runs { h2 { "Runs" } (runs(shown)) }
        footer {
            "Made by grokscope " (env!("CARGO_PKG_VERSION")) ". The numbers stand in sweep.csv and sweep.parquet. Phases follow Liu et al. 2022, "
            "“Towards Understanding Grokking”, Clock and Pizza follow Zhong et al. 2023."
        }
    };
    let ended = shown.runs.iter().all(|run| matches!(run.status, "done" | "diverged"));
    // While runs are under way the page may be made again at any time.
    let script = html! { @if !ended { script { (PreEscaped("setTimeout(() => location.reload(), 30000);")) } } };
    document(&format!("Sweep: {}", shown.title), body, script).into_string()
}

/// A percentage that no line breaks.
fn tied(share: f64) -> String {
    percent(share).replace(' ', "\u{a0}")
}

fn lead(shown: &Shown) -> Markup {
    let of = |status: &str| shown.runs.iter().filter(|run| run.status == status).count();
    let grokked = grokked(shown).len();
    let tested = shown.runs.iter().filter(|run| run.grokked.is_some()).count();
    let runs = if shown.runs.len() == 1 { "run" } else { "runs" };
    let counts: Vec<String> = ["done", "diverged", "begun", "waiting", "damaged", "unreadable"]
        .into_iter()
        .filter(|status| of(status) > 0)
        .map(|status| format!("{} {status}", of(status)))
        .collect();
    html! {
        p.lead {
            (shown.runs.len()) " " (runs) ": " (counts.join(", ")) ". Grokked: " (grokked)
            @if let Some((lo, hi)) = share_interval(grokked, tested) {
                ", " (tied(grokked as f64 / tested as f64)) ", between " (tied(lo)) " and " (tied(hi)) " at 95\u{a0}%"
            }
            "."
        }
        p { "What varies: " (shown.varied.join(", ")) "." }
    }
}

/// Every figure of the page as a file: (name, SVG).
pub fn figure_files(shown: &Shown) -> Vec<(String, String)> {
    let all = [diagrams(shown), distributions(shown), frequencies(shown)].into_iter().flatten();
    all.map(|figure| (format!("{}.svg", figure.name), svg::standalone(&figure))).collect()
}

/// A diagram for every pair of axes, or for the only one.
fn diagrams(shown: &Shown) -> Vec<Figure> {
    let axes = shown.axes();
    if let [only] = axes[..] {
        return vec![diagram(shown, only, None)];
    }
    let pairs = axes.iter().enumerate().flat_map(|(i, across)| axes[..i].iter().map(move |down| (across, down)));
    pairs.map(|(across, down)| diagram(shown, across, Some(down))).collect()
}

fn phases(shown: &Shown) -> Markup {
    let counts = KINDS.iter().enumerate().map(|(number, (name, ..))| {
        let count = shown.runs.iter().filter(|run| kind(run) == Some(number)).count();
        vec![html! { (name) }, html! { (count) }]
    });
    html! {
        p {
            "Each square is a run, and a link to its report, or to its directory where none was made ("
            code { "grokscope report DIR" } " makes one, of a run that is done). A network has fitted when nine tenths of its train pairs are right, and generalises when nine tenths "
            "of the test pairs are. " b { "Comprehension" } ": it generalises less than " (shown.delay) " steps after it has fitted. " b { "Grokking" }
            ": later. " b { "Memorisation" } ": never. " b { "Confusion" } ": it does not even fit. What comes first counts, and nine tenths are less than grokking as it is counted elsewhere here, 99.9 % at the last step. Runs that diverged, and those with no pair left to test on, have no phase."
        }
        @let figures = diagrams(shown);
        @if figures.is_empty() { p { "No field varies but seeds: there is no diagram." } }
        (show(&figures))
        div.scroll { (table(&["phase", "runs"], counts.collect())) }
    }
}

fn diagram(shown: &Shown, across: &str, down: Option<&&str>) -> Figure {
    let columns = shown.groups(across);
    // The first row lies at the bottom, as on an axis.
    let rows: Option<Vec<Group>> = down.map(|down| shown.groups(down).into_iter().rev().collect());
    let spots =
        |runs: &mut dyn Iterator<Item = usize>| -> Vec<Spot> { runs.map(|run| shown.spot(&shown.runs[run])).collect() };
    let all = |column: &Group| spots(&mut column.runs.iter().copied());
    let both = |row: &Group, column: &Group| {
        spots(&mut column.runs.iter().copied().filter(|run| row.runs.binary_search(run).is_ok()))
    };
    let cells: Vec<Vec<Vec<Spot>>> = match &rows {
        None => vec![columns.iter().map(all).collect()],
        Some(rows) => rows.iter().map(|row| columns.iter().map(|column| both(row, column)).collect()).collect(),
    };
    let labels = |groups: &[Group]| groups.iter().map(|group| group.label.clone()).collect::<Vec<_>>();
    let row_labels = rows.as_deref().map_or(vec![String::new()], labels);
    let down = down.copied().unwrap_or("");
    let (name, title) = match down {
        "" => (format!("phases-{across}"), format!("Phases by {across}")),
        down => (format!("phases-{across}-{down}"), format!("Phases by {across} and {down}")),
    };
    lattice(&name, &title, (across, &labels(&columns)), (down, &row_labels), &cells, KINDS)
}

/// When, and how often, by each of the axes.
fn distributions(shown: &Shown) -> Vec<Figure> {
    let any = shown.runs.iter().any(|run| run.grok_step.is_some());
    let of = |field: &&str| [any.then(|| steps_by(shown, field)), Some(shares_by(shown, field))];
    shown.axes().iter().flat_map(of).flatten().collect()
}

fn steps(shown: &Shown) -> Markup {
    html! {
        p {
            "Dots are runs that have grokked at some time, at the first evaluation with 99.9 % of the test pairs right; over them the median, with the interval "
            "that holds it at 95 % (order statistics; all values where there are fewer than six). Runs that did not grok by their last step have no dot: a median "
            "over few of many runs is of the fast ones. Shares are of the runs that are done, without those that diverged, and count those that hold it at their last "
            "step, with Wilson's intervals at 95 %; while runs are under way those that end early weigh too much."
        }
        (show(&distributions(shown)))
    }
}

fn step_strips(shown: &Shown, field: &str) -> Vec<Strip> {
    let column = |group: &Group| {
        let grokked: Vec<&Place> = shown.of(group).filter(|run| run.grok_step.is_some()).collect();
        let steps: Vec<f64> = grokked.iter().filter_map(|run| run.grok_step.map(|step| step as f64)).collect();
        Strip {
            label: group.label.clone(),
            spots: grokked.iter().zip(&steps).map(|(run, &step)| (step, shown.spot(run))).collect(),
            middle: median(&steps).map(|median| (median.value, median.interval)),
        }
    };
    shown.groups(field).iter().map(column).collect()
}

fn steps_by(shown: &Shown, field: &str) -> Figure {
    let columns = step_strips(shown, field);
    let all = columns.iter().flat_map(|column| column.spots.iter().map(|(step, _)| *step));
    let axis = Axis { name: "grokking step (updates)", scale: Scale::linear_over(all.collect::<Vec<_>>().into_iter()) };
    strips(&format!("steps-{field}"), &format!("Grokking step by {field}"), field, axis, &columns, KINDS)
}

fn share_strips(shown: &Shown, field: &str) -> Vec<Strip> {
    let column = |group: &Group| {
        let known: Vec<bool> = shown.of(group).filter_map(|run| run.grokked).collect();
        let hits = known.iter().filter(|&&grokked| grokked).count();
        let middle = share_interval(hits, known.len()).map(|interval| (hits as f64 / known.len() as f64, interval));
        Strip { label: group.label.clone(), spots: Vec::new(), middle }
    };
    shown.groups(field).iter().map(column).collect()
}

fn shares_by(shown: &Shown, field: &str) -> Figure {
    let columns = share_strips(shown, field);
    let axis = Axis { name: "share that grokked", scale: Scale::linear(0.0, 1.0) };
    strips(&format!("shares-{field}"), &format!("Share that grokked by {field}"), field, axis, &columns, KINDS)
}

fn grokked(shown: &Shown) -> Vec<&Place> {
    shown.runs.iter().filter(|run| run.grokked == Some(true)).collect()
}

/// How many of the networks of an operation and a modulus use each frequency.
fn key_uses(networks: &[&Place], op: &str, p: usize) -> Vec<(f64, f64)> {
    let of_task = || networks.iter().filter(|run| run.p == p && run.op == op).filter_map(|run| run.keys.as_ref());
    let uses = |k: usize| of_task().filter(|keys| keys.contains(&k)).count() as f64;
    (1..=p / 2).map(|k| (k as f64, uses(k))).collect()
}

/// How many key frequencies, which, and the measures of Clock and Pizza, of those that have grokked.
fn frequencies(shown: &Shown) -> Vec<Figure> {
    let grokked = grokked(shown);
    let keys = || grokked.iter().filter_map(|run| run.keys.as_ref());
    let mut figures = Vec::new();
    let most = keys().map(Vec::len).max().unwrap_or(0);
    let bars = |points: Vec<(f64, f64)>| Series { name: String::new(), colour: 0, points, look: Look::Bars };
    let axis = |name, points: &[(f64, f64)]| Axis { name, scale: Scale::counts(points.iter().map(|p| p.1)) };
    if most > 0 {
        let having = |n: usize| keys().filter(|keys| keys.len() == n).count() as f64;
        let numbers: Vec<(f64, f64)> = (0..=most).map(|n| (n as f64, having(n))).collect();
        let x = Axis { name: "key frequencies of a network", scale: Scale::counts([most as f64 + 1.0].into_iter()) };
        let y = axis("networks that grokked", &numbers);
        figures.push(svg::chart("key-counts", "How many key frequencies", x, y, &[bars(numbers)], &[]));
        // Those of one group: the frequencies of a product mod p are of another one than those of a sum.
        let tasks: BTreeSet<(&str, usize)> = grokked.iter().map(|run| (run.op.as_str(), run.p)).collect();
        for (op, p) in tasks {
            let points = key_uses(&grokked, op, p);
            let x = Axis { name: "frequency k", scale: Scale::linear(0.0, (p / 2) as f64) };
            let y = axis("networks that use it", &points);
            let title = format!("Which key frequencies, {op}, p = {p}");
            figures.push(svg::chart(&format!("keys-{op}-{p}"), &title, x, y, &[bars(points)], &[]));
        }
    }
    let points: Vec<(f64, f64)> =
        grokked.iter().filter_map(|run| Some((run.irrelevance?, run.symmetricity?))).collect();
    if !points.is_empty() {
        let x = Axis { name: "distance irrelevance", scale: Scale::linear(0.0, 1.0) };
        let y = Axis {
            name: "gradient symmetricity",
            scale: Scale::linear_over(points.iter().map(|p| p.1).collect::<Vec<_>>().into_iter()),
        };
        let series = Series { look: Look::Points, ..line("", 0, points.into_iter()) };
        figures.push(svg::chart("clock-pizza", "Clock (lower right) or Pizza (upper left)", x, y, &[series], &[]));
    }
    figures
}

fn keys(shown: &Shown) -> Markup {
    let unclear = grokked(shown).iter().filter(|run| shown.cell(run, "key_cut").starts_with("not clear")).count();
    html! {
        p { "Networks that have grokked: " (grokked(shown).len()) ". The cut after the key frequencies is not clear in " (unclear) " of them (column key_cut). Of sums mod a prime every frequency is, by symmetry, as likely as any other; what differs between settings is how many there are." }
        (show(&frequencies(shown)))
    }
}

fn runs(shown: &Shown) -> Markup {
    const RESULTS: &[&str] =
        &["status", "phase", "grok_step", "ended_at_step", "test_loss", "test_accuracy", "key_frequencies", "key_cut"];
    let fields: Vec<&str> = shown.varied.iter().map(String::as_str).chain(RESULTS.iter().copied()).collect();
    let head: Vec<&str> = std::iter::once("run").chain(fields.iter().copied()).collect();
    let row = |run: &Place| {
        let id = shown.cell(run, "run").to_string();
        let first = match &run.link {
            Some(link) => html! { a href=(link) { code { (id) } } },
            None => html! { code { (id) } },
        };
        let cells = fields.iter().map(|field| html! { (label(shown.cell(run, field))) });
        std::iter::once(first).chain(cells).collect::<Vec<_>>()
    };
    html! { div.scroll { (table(&head, shown.runs.iter().map(row).collect())) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs at decays of 1 and 10, by their steps of grokking, whether they hold it, and their frequencies.
    fn shown() -> Shown {
        let run =
            |decay: &str, status: &'static str, grok_step: Option<u64>, grokked: Option<bool>, keys: &[usize]| Place {
                link: None,
                status,
                cells: vec![Some(decay.into())],
                phase: grokked.map(|grokked| if grokked { Phase::Grokking } else { Phase::Memorisation }),
                grokked,
                grok_step,
                keys: Some(keys.to_vec()),
                op: "add".into(),
                p: 13,
                symmetricity: None,
                irrelevance: None,
            };
        let runs = vec![
            run("10.0", "done", Some(100), Some(true), &[1, 5]),
            run("10.0", "done", Some(300), Some(false), &[2]),
            run("10.0", "diverged", None, None, &[]),
            run("1.0", "done", Some(500), Some(true), &[5]),
            run("1.0", "done", None, Some(false), &[]),
            run("1.0", "done", None, Some(false), &[]),
            run("1.0", "done", Some(900), Some(true), &[4, 5, 6]),
            run("1.0", "waiting", None, None, &[]),
        ];
        let (varied, columns) = (vec!["weight_decay".to_string()], vec!["weight_decay".to_string()]);
        Shown { title: "test".into(), delay: 1000, varied, columns, runs }
    }

    #[test]
    fn steps_are_of_those_that_grokked_at_some_time() {
        let strips = step_strips(&shown(), "weight_decay");
        let found: Vec<_> = strips
            .iter()
            .map(|strip| {
                (strip.spots.iter().map(|(step, _)| *step).collect::<Vec<_>>(), strip.middle.map(|middle| middle.0))
            })
            .collect();
        assert_eq!(found, [(vec![500.0, 900.0], Some(700.0)), (vec![100.0, 300.0], Some(200.0))]);
    }

    #[test]
    fn many_values_stand_in_ranges() {
        let mut shown = shown();
        let model = shown.runs.remove(0);
        let of = |i: usize| Place { cells: vec![Some(format!("{}.5", 29 - i))], ..model.clone() };
        shown.runs = (0..30).map(of).collect();
        assert_eq!(shown.axes(), ["weight_decay"]);
        let groups = shown.groups("weight_decay");
        let labels: Vec<&str> = groups.iter().map(|group| group.label.as_str()).collect();
        assert_eq!(
            labels,
            ["0.5 to 4.5", "5.5 to 9.5", "10.5 to 14.5", "15.5 to 19.5", "20.5 to 24.5", "25.5 to 29.5"]
        );
        assert_eq!(groups[0].runs, [25, 26, 27, 28, 29]);
    }

    #[test]
    fn shares_are_of_those_that_are_done_and_hold_it() {
        let strips = share_strips(&shown(), "weight_decay");
        let shares: Vec<_> = strips.iter().map(|strip| strip.middle.unwrap().0).collect();
        assert_eq!(shares, [0.5, 0.5]);
        // Of four, and of two: fewer say less.
        let widths: Vec<f64> = strips.iter().map(|strip| strip.middle.map(|(_, (lo, hi))| hi - lo).unwrap()).collect();
        assert!(widths[0] < widths[1]);
        let text = page(&shown());
        assert!(text.contains("8 runs: 6 done, 1 diverged, 1 waiting. Grokked: 3, 50"), "{text}");
    }

    #[test]
    fn frequencies_are_counted_where_they_are_used() {
        let shown = shown();
        let used: Vec<f64> = key_uses(&grokked(&shown), "add", 13).into_iter().map(|(_, uses)| uses).collect();
        assert_eq!(used, [1.0, 0.0, 0.0, 1.0, 3.0, 1.0]);
        assert!(key_uses(&grokked(&shown), "mul", 13).iter().all(|(_, uses)| *uses == 0.0));
        assert!(key_uses(&grokked(&shown), "add", 17).iter().all(|(_, uses)| *uses == 0.0));
    }
}
