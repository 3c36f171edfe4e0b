//! Figures and the page of activations alone.

use super::article::{document, percent, show, table, text};
use super::figures::colour_of;
use super::heat::Palette;
use super::scale::Scale;
use super::svg::{self, Axis, Figure, Look, Plane, Series, short};
use crate::analysis::transform::Transformed;
use maud::html;

/// Units whose maps are drawn: the best of each of the largest clusters, and the first ones.
const UNITS: usize = 6;

/// Every figure of an array, over pairs `values` [row, unit]. Their files begin with `prefix`.
pub fn figures(of: &Transformed, values: &[f64], prefix: &str) -> Vec<Figure> {
    let (found, n, units) = (&of.transform, of.transform.order, of.transform.units);
    let file = |name: &str| format!("{prefix}-{name}");
    let mut all = vec![
        svg::map(
            &file("magnitude"),
            &format!("{}: mean magnitude in the basis", found.name),
            &of.planes.mean_magnitude(),
            n,
            Palette::Sequential,
            Plane::Components,
            "mean of |coefficient|",
        ),
        svg::map(
            &file("power"),
            &format!("{}: mean power in the basis", found.name),
            &of.planes.mean_power(),
            n,
            Palette::Sequential,
            Plane::Components,
            "mean of coefficient^2",
        ),
        explained(of, &file("fve")),
        phases(of, &file("phases")),
    ];
    for unit in shown(of) {
        let over_pairs: Vec<f64> = values.iter().skip(unit).step_by(units).copied().collect();
        let (k, fve) = (found.neurons.frequency[unit], found.neurons.fve[unit]);
        let title = format!("Unit {unit} (k = {k}, FVE {fve:.2})");
        let in_basis = format!("Unit {unit} in the 2D Fourier basis");
        let plane = of.planes.plane(unit);
        let (name, spectrum) = (file(&format!("unit-{unit}")), file(&format!("unit-{unit}-spectrum")));
        all.push(svg::map(&name, &title, &over_pairs, n, Palette::Sequential, Plane::Tokens, "value"));
        all.push(svg::map(&spectrum, &in_basis, plane, n, Palette::Diverging, Plane::Components, "coefficient"));
    }
    all
}

/// Characters of an array's name that a file name takes.
const NAME: usize = 60;

/// Returns the beginning of a file name for each array, no two alike on any file system.
pub fn prefixes(names: &[&str]) -> Vec<String> {
    let safe = |name: &str| -> String {
        name.chars().take(NAME).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let mut taken = std::collections::BTreeSet::new();
    let mut first_free = |name: &&str| {
        let numbered = (2..).map(|i| format!("{}-{i}", safe(name)));
        let mut candidates = std::iter::once(safe(name)).chain(numbered);
        candidates.find(|candidate| taken.insert(candidate.to_lowercase())).expect("numbers do not end")
    };
    names.iter().map(&mut first_free).collect()
}

fn shown(of: &Transformed) -> Vec<usize> {
    let neurons = &of.transform.neurons;
    let best = |k: usize| {
        let own = (0..neurons.fve.len()).filter(|&i| neurons.frequency[i] == k);
        own.max_by(|&a, &b| neurons.fve[a].total_cmp(&neurons.fve[b]))
    };
    let of_clusters = neurons.clusters.iter().take(UNITS - 2).filter_map(|cluster| best(cluster.frequency));
    let mut units: Vec<usize> = of_clusters.chain(0..neurons.fve.len()).take(UNITS).collect();
    units.sort();
    units.dedup();
    units
}

/// The frequencies of the largest clusters, which have colours of their own.
fn coloured(of: &Transformed) -> Vec<usize> {
    of.transform.neurons.clusters.iter().take(svg::COLOURS - 1).map(|cluster| cluster.frequency).collect()
}

/// Points of the units by frequency.
fn by_frequency(of: &Transformed, place: impl Fn(usize, usize) -> (f64, f64)) -> Vec<Series> {
    let (neurons, keys) = (&of.transform.neurons, coloured(of));
    let mut order: Vec<usize> = (0..neurons.fve.len()).collect();
    order.sort_by(|&a, &b| neurons.fve[b].total_cmp(&neurons.fve[a]));
    let mut series: Vec<Series> = Vec::new();
    let mut rank = 0;
    for key in keys.iter().copied().map(Some).chain([None]) {
        let is_own = |unit: &usize| match key {
            Some(key) => neurons.frequency[*unit] == key,
            None => !keys.contains(&neurons.frequency[*unit]),
        };
        let points: Vec<(f64, f64)> = (order.iter().copied().filter(is_own))
            .map(|unit| {
                rank += 1;
                place(unit, rank)
            })
            .collect();
        let (name, colour) = match key {
            Some(key) => (format!("k = {key}"), colour_of(&keys, key)),
            None => ("other".into(), svg::COLOURS - 1),
        };
        if !points.is_empty() {
            series.push(Series { name, colour, points, look: Look::Points });
        }
    }
    series
}

fn explained(of: &Transformed, name: &str) -> Figure {
    let series = by_frequency(of, |unit, rank| (rank as f64, of.transform.neurons.fve[unit]));
    let ranks =
        Axis { name: "unit, by frequency and falling FVE", scale: Scale::linear(0.0, of.transform.units as f64 + 1.0) };
    let share = Axis { name: "FVE of best k (share)", scale: Scale::linear(0.0, 1.0) };
    svg::chart(name, "Variance explained by one frequency", ranks, share, &series, &[])
}

fn phases(of: &Transformed, name: &str) -> Figure {
    let series = by_frequency(of, |unit, _| (of.transform.phase_x[unit], of.transform.phase_y[unit]));
    let turn = |name: &'static str| Axis { name, scale: Scale::linear(-3.2, 3.2) };
    svg::chart(name, "Phases of each unit", turn("phase of x (radians)"), turn("phase of y (radians)"), &series, &[])
}

/// The page of all arrays with their figures.
pub fn page(source: &str, arrays: &[(Transformed, Vec<Figure>)]) -> String {
    let body = html! {
        p.lead {
            "2D Fourier analysis of " (source) ". Each unit is centred over the pairs. FVE is the share of its variance that the eight waves of one frequency in x and y explain; "
            "units above 85 % make up that frequency's cluster. Magnitude is the mean over the units of the coefficients' size, power that of their squares, in which large units count more. "
            "A unit holds cos(2πkx/n − phase of x) and the same of y."
        }
        @for (of, figures) in arrays {
            @let found = &of.transform;
            section {
                h2 { (found.name) }
                p {
                    (found.units) (if found.units == 1 { " unit" } else { " units" }) " over " (found.order) " × " (found.order) " pairs. " (found.neurons.explained) " units are above 85 %, mean FVE "
                    (percent(found.neurons.mean_fve)) ". " @if found.neurons.dead > 0 { (found.neurons.dead) " units do not vary." }
                }
                (table(
                    &["frequency", "units above 85 %", "mean FVE", "mean share of pairs above 0"],
                    found.neurons.clusters.iter().map(|cluster| vec![
                        text(cluster.frequency), text(cluster.neurons), text(percent(cluster.mean_fve)), text(short(cluster.mean_fires)),
                    ]).collect(),
                ))
                (show(figures))
            }
        }
    };
    document(&format!("Fourier analysis of {source}"), body, html! {}).into_string()
}

/// A figure as a file.
pub fn standalone(figure: &Figure) -> (String, String) {
    (format!("{}.svg", figure.name), svg::standalone(figure))
}

/// What is said in a terminal, a line for each array.
pub fn summary(of: &Transformed) -> String {
    let found = &of.transform;
    let mut clusters: Vec<String> =
        found.neurons.clusters.iter().take(6).map(|c| format!("{} at {}", c.neurons, c.frequency)).collect();
    if found.neurons.clusters.len() > 6 {
        clusters.push("..".into());
    }
    let list = if clusters.is_empty() { "no cluster".into() } else { clusters.join(", ") };
    format!(
        "{}: {} on {} x {} pairs, mean FVE {}, {} above 85 %: {list}",
        found.name,
        if found.units == 1 { "1 unit".into() } else { format!("{} units", found.units) },
        found.order,
        found.order,
        percent(found.neurons.mean_fve),
        found.neurons.explained
    )
}
