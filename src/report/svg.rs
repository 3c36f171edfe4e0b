//! Figures as SVG: axes with names and units, lines, bars, points and maps, every mark with its value to hover over.
//!
//! A figure is 360 units wide, so that one fills a phone and several stand side by side on a wide page. Colours are
//! classes (`c0` .. `c7`) that the page's style resolves, light and dark; series differ in dash or shape as well.

use super::heat::{self, Palette};
use super::scale::Scale;
use maud::{Markup, PreEscaped, html};

/// Of every figure.
pub(super) const WIDTH: f64 = 360.0;
/// Room for the labels of the vertical axis.
pub(super) const LEFT: f64 = 52.0;
/// Room beside the plot.
pub(super) const RIGHT: f64 = 14.0;
/// Width of a letter at the figures' size, for laying out legends.
const LETTER: f64 = 6.1;
/// Colours of the palette; numbers beyond begin again.
pub const COLOURS: usize = 8;

/// A figure with its file name.
pub struct Figure {
    /// File name without `.svg`.
    pub name: String,
    /// The drawing, its title included.
    pub svg: Markup,
}

/// An axis of a chart.
pub struct Axis<'a> {
    /// What it counts, with its unit.
    pub name: &'a str,
    /// What of it is shown, and whether by its logarithm.
    pub scale: Scale,
}

/// A series of values.
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Its number in the palette.
    pub colour: usize,
    /// (x, y), drawn in this order.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub look: Look,
}

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq)]
pub enum Look {
    /// A line through the points.
    Line,
    /// Points of the shape that goes with the colour.
    Points,
    /// Bars from zero, side by side for every series of them.
    Bars,
}

/// A vertical line with its name, such as the beginning of a phase.
pub struct Mark {
    /// Where on the axis of x.
    pub at: f64,
    /// What the number that stands above it says when it is pointed at.
    pub name: String,
}

/// A chart of series over an axis of numbers.
pub fn chart(name: &str, title: &str, x: Axis, y: Axis, series: &[Series], marks: &[Mark]) -> Figure {
    let drawn: Vec<&Series> = series.iter().filter(|series| !series.points.is_empty()).collect();
    let named: Vec<&Series> = drawn.iter().copied().filter(|series| !series.name.is_empty()).collect();
    let (legend, legend_height) = legend(&named);
    let (top, height) = (28.0 + legend_height + if marks.is_empty() { 0.0 } else { 14.0 }, 170.0);
    let bottom = top + height;
    let px = |v: f64| LEFT + x.scale.at(v) * (WIDTH - LEFT - RIGHT);
    let py = |v: f64| bottom - y.scale.at(v) * height;
    let n_bars = drawn.iter().filter(|s| s.look == Look::Bars).count();
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            (legend)
            (horizontal_axis(&x, bottom, &px))
            (vertical_axis(&y, top, bottom, &py))
            @for (i, mark) in marks.iter().enumerate() {
                line.mark x1=(r(px(mark.at))) x2=(r(px(mark.at))) y1=(r(top)) y2=(r(bottom)) {}
                text.small x=(r(px(mark.at))) y=(r(top - 4.0)) text-anchor="middle" { (i + 1) title { (mark.name) } }
            }
            @for (i, series) in drawn.iter().enumerate() {
                @match series.look {
                    Look::Line => (line(series, &px, &py, &x, &y)),
                    Look::Points => (points(series, &px, &py, &x, &y)),
                    Look::Bars => (bars(series, i, n_bars, &px, &py, &x, &y)),
                }
            }
        },
    );
    Figure { name: name.into(), svg }
}

/// Bars of one or two series over names, drawn sideways so that names have room.
pub fn named_bars(
    name: &str,
    title: &str,
    value_axis: Axis,
    rows: &[(String, Vec<Option<f64>>)],
    series: &[&str],
) -> Figure {
    let letters = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = (letters as f64 * LETTER + 10.0).min(190.0);
    let as_series: Vec<Series> = series
        .iter()
        .enumerate()
        .map(|(i, name)| Series { name: name.to_string(), colour: i, points: Vec::new(), look: Look::Bars })
        .collect();
    let shown: Vec<&Series> = as_series.iter().filter(|_| series.len() > 1).collect();
    let (legend, legend_height) = legend(&shown);
    let thick = if series.len() > 1 { 12.0 } else { 13.0 };
    let row_height = thick * series.len() as f64 + 8.0;
    let top = 28.0 + legend_height;
    let bottom = top + row_height * rows.len() as f64;
    let px = |v: f64| left + value_axis.scale.at(v) * (WIDTH - left - 52.0);
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            (legend)
            @for (value, label) in value_axis.scale.ticks() {
                line.grid x1=(r(px(value))) x2=(r(px(value))) y1=(r(top)) y2=(r(bottom)) {}
                text.small x=(r(px(value))) y=(r(bottom + 14.0)) text-anchor="middle" { (label) }
            }
            text.axis-name x=(r((left + WIDTH - 52.0) / 2.0)) y=(r(bottom + 31.0)) text-anchor="middle" { (value_axis.name) }
            @for (i, (label, values)) in rows.iter().enumerate() {
                @let y = top + row_height * i as f64 + 4.0;
                text.small x=(r(left - 6.0)) y=(r(y + row_height / 2.0)) text-anchor="end" { (label) }
                @for (j, value) in values.iter().enumerate() {
                    @if let Some(value) = value {
                        @let y = y + thick * j as f64;
                        rect class=(format!("bar c{j}")) x=(r(px(*value).min(px(0.0)))) y=(r(y)) width=(r((px(*value) - px(0.0)).abs().max(0.8))) height=(r(thick - 1.5)) {
                            title { (label) " " (series.get(j).unwrap_or(&"")) ": " (short(*value)) }
                        }
                        text.value x=(r(px(value.max(0.0)) + 4.0)) y=(r(y + thick - 3.0)) { (short(*value)) }
                    }
                }
            }
            line.axis x1=(r(left)) x2=(r(left)) y1=(r(top)) y2=(r(bottom)) {}
        },
    );
    Figure { name: name.into(), svg }
}

/// What a map shows along its two axes.
#[derive(Clone, Copy, PartialEq)]
pub enum Plane {
    /// Tokens: y to the right, x downwards.
    Tokens,
    /// The same in the order of a product's group.
    Logarithms,
    /// Fourier components: of y to the right, of x downwards.
    Components,
}

/// A map of [n, n] values with its scale of colours. `unit` says what the values are.
pub fn map(name: &str, title: &str, values: &[f64], n: usize, palette: Palette, plane: Plane, unit: &str) -> Figure {
    let (lo, hi) = palette.ends(values);
    let (left, top, side) = (52.0, 28.0, 236.0);
    let bottom = top + side;
    let at = |i: f64| (i + 0.5) / n as f64 * side;
    let ticks: Vec<(f64, String)> = match plane {
        Plane::Tokens | Plane::Logarithms => Scale::linear(0.0, n as f64 - 1.0).ticks(),
        Plane::Components => {
            let ticks = Scale::linear(0.0, (n / 2) as f64).ticks().into_iter();
            ticks.map(|(k, label)| ((2.0 * k - 0.5).max(0.0), label)).collect()
        }
    };
    let (across, down) = match plane {
        Plane::Tokens => ("y (token)", "x (token)"),
        Plane::Logarithms => ("discrete logarithm of y", "discrete logarithm of x"),
        Plane::Components => ("frequency k of y (cos, sin)", "frequency k of x (cos, sin)"),
    };
    let steps: Vec<f64> = (0..32).map(|i| lo + (hi - lo) * i as f64 / 31.0).collect();
    let colours = palette.colours();
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            image.map id=(format!("map-{name}")) x=(left) y=(top) width=(side) height=(side) preserveAspectRatio="none"
                data-n=(n) data-lo=(lo) data-hi=(hi) data-palette=(palette.name()) data-unit=(unit)
                data-plane=(match plane { Plane::Tokens => "tokens", Plane::Logarithms => "logarithms", Plane::Components => "components" })
                href=(heat::picture(values, n, palette, (lo, hi))) {}
            rect.outline x=(left) y=(top) width=(side) height=(side) {}
            @for (value, label) in &ticks {
                text.small x=(r(left + at(*value))) y=(r(bottom + 14.0)) text-anchor="middle" { (label) }
                text.small x=(r(left - 5.0)) y=(r(top + at(*value) + 4.0)) text-anchor="end" { (label) }
            }
            text.axis-name x=(r(left + side / 2.0)) y=(r(bottom + 31.0)) text-anchor="middle" { (across) }
            text.axis-name transform=(format!("translate(12 {}) rotate(-90)", r(top + side / 2.0))) text-anchor="middle" { (down) }
            @for (i, step) in steps.iter().enumerate() {
                @let level = ((step - lo) / (hi - lo) * 255.0).round() as usize;
                @let [red, green, blue] = [0, 1, 2].map(|c| colours[3 * level + c]);
                rect x=(left + side + 10.0) y=(r(bottom - side / 32.0 * (i + 1) as f64)) width="10" height=(r(side / 32.0 + 0.4))
                    fill=(format!("rgb({red},{green},{blue})")) {}
            }
            text.small id=(format!("map-{name}-hi")) x=(left + side + 23.0) y=(top + 10.0) { (short(hi)) }
            text.small id=(format!("map-{name}-lo")) x=(left + side + 23.0) y=(bottom) { (short(lo)) }
            text.small transform=(format!("translate({} {}) rotate(-90)", left + side + 34.0, r(top + side / 2.0))) text-anchor="middle" { (unit) }
        },
    );
    Figure { name: name.into(), svg }
}

/// Points of [n, 2] in their plane, coloured by the order in which a circle of this frequency would pass them.
pub fn circle(name: &str, title: &str, places: &[f64], frequency: usize, what: &str, elements: &[usize]) -> Figure {
    let n = places.len() / 2;
    let reach = places.iter().fold(0.0f64, |reach, x| reach.max(x.abs())).max(1e-12);
    let (left, top, side) = (52.0, 28.0, 236.0);
    let (centre_x, centre_y) = (left + side / 2.0, top + side / 2.0);
    let ticks = Scale::linear(-reach, reach).ticks();
    let at = |v: f64| v / reach * side * 0.46;
    let colours = Palette::Sequential.colours();
    let svg = frame(
        title,
        top + side + 40.0,
        html! {
            rect.outline x=(left) y=(top) width=(side) height=(side) {}
            line.grid x1=(left) x2=(left + side) y1=(centre_y) y2=(centre_y) {}
            line.grid x1=(centre_x) x2=(centre_x) y1=(top) y2=(top + side) {}
            @for (value, label) in &ticks {
                text.small x=(r(centre_x + at(*value))) y=(r(top + side + 14.0)) text-anchor="middle" { (label) }
                text.small x=(r(left - 5.0)) y=(r(centre_y - at(*value) + 4.0)) text-anchor="end" { (label) }
            }
            text.axis-name x=(centre_x) y=(r(top + side + 31.0)) text-anchor="middle" { "along cos " (frequency) }
            text.axis-name transform=(format!("translate(12 {}) rotate(-90)", centre_y)) text-anchor="middle" { "along sin " (frequency) }
            g.circle id=(format!("circle-{name}")) data-reach=(reach) data-x=(centre_x) data-y=(centre_y) data-size=(r(side * 0.46)) {
                @for (token, place) in places.chunks_exact(2).enumerate() {
                    @let level = (token * frequency % n) * 255 / n.max(1);
                    @let [red, green, blue] = [0, 1, 2].map(|c| colours[3 * level + c]);
                    circle cx=(r(centre_x + at(place[0]))) cy=(r(centre_y - at(place[1]))) r="3.2" fill=(format!("rgb({red},{green},{blue})")) {
                        title { (what) " " (elements[token]) }
                    }
                }
            }
        },
    );
    Figure { name: name.into(), svg }
}

pub(super) fn frame(title: &str, height: f64, contents: Markup) -> Markup {
    html! {
        svg.figure viewBox=(format!("0 0 {WIDTH} {}", r(height))) xmlns="http://www.w3.org/2000/svg" role="img" aria-label=(title) {
            text.title x="8" y="16" { (title) }
            (contents)
        }
    }
}

pub(super) fn legend(series: &[&Series]) -> (Markup, f64) {
    let mut places = Vec::new();
    let (mut x, mut y) = (8.0, 32.0);
    for series in series {
        let width = 30.0 + series.name.chars().count() as f64 * LETTER;
        if x + width > WIDTH && x > 8.0 {
            (x, y) = (8.0, y + 15.0);
        }
        places.push((x, y));
        x += width;
    }
    let height = if series.is_empty() { 0.0 } else { y - 18.0 };
    let markup = html! {
        @for (series, (x, y)) in series.iter().zip(&places) {
            @match series.look {
                Look::Line => path class=(format!("line {}", class(series.colour))) d=(format!("M{} {}h16", r(*x), r(y - 4.0))) {},
                Look::Points => g transform=(format!("translate({} {})", r(x + 8.0), r(y - 4.0))) { (shape(series.colour)) },
                Look::Bars => rect class=(format!("bar {}", class(series.colour))) x=(r(*x + 4.0)) y=(r(y - 9.0)) width="10" height="10" {},
            }
            text.small x=(r(x + 21.0)) y=(r(*y)) { (series.name) }
        }
    };
    (markup, height)
}

pub(super) fn class(colour: usize) -> String {
    format!("c{}", colour % COLOURS)
}

fn horizontal_axis(x: &Axis, bottom: f64, px: &dyn Fn(f64) -> f64) -> Markup {
    html! {
        line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(r(bottom)) y2=(r(bottom)) {}
        @for (value, label) in x.scale.ticks() {
            line.axis x1=(r(px(value))) x2=(r(px(value))) y1=(r(bottom)) y2=(r(bottom + 4.0)) {}
            text.small x=(r(px(value))) y=(r(bottom + 15.0)) text-anchor="middle" { (label) }
        }
        text.axis-name x=((LEFT + WIDTH - RIGHT) / 2.0) y=(r(bottom + 32.0)) text-anchor="middle" { (x.name) }
    }
}

pub(super) fn vertical_axis(y: &Axis, top: f64, bottom: f64, py: &dyn Fn(f64) -> f64) -> Markup {
    html! {
        @for (value, label) in y.scale.ticks() {
            line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(r(py(value))) y2=(r(py(value))) {}
            text.small x=(LEFT - 5.0) y=(r(py(value) + 4.0)) text-anchor="end" { (label) }
        }
        text.axis-name transform=(format!("translate(12 {}) rotate(-90)", r((top + bottom) / 2.0))) text-anchor="middle" { (y.name) }
    }
}

fn tip(series: &Series, x: &Axis, y: &Axis, point: (f64, f64)) -> Markup {
    html! { title { (series.name) @if !series.name.is_empty() { ": " } (x.name) " " (short(point.0)) ", " (y.name) " " (short(point.1)) } }
}

fn line(series: &Series, px: &dyn Fn(f64) -> f64, py: &dyn Fn(f64) -> f64, x: &Axis, y: &Axis) -> Markup {
    let path: Vec<String> = series.points.iter().map(|&(a, b)| format!("{} {}", r(px(a)), r(py(b)))).collect();
    html! {
        path class=(format!("line {}", class(series.colour))) d=(format!("M{}", path.join("L"))) {}
        @for &point in &series.points {
            circle.hit cx=(r(px(point.0))) cy=(r(py(point.1))) r="5" { (tip(series, x, y, point)) }
        }
    }
}

fn points(series: &Series, px: &dyn Fn(f64) -> f64, py: &dyn Fn(f64) -> f64, x: &Axis, y: &Axis) -> Markup {
    html! {
        @for &point in &series.points {
            g transform=(format!("translate({} {})", r(px(point.0)), r(py(point.1)))) {
                (shape(series.colour)) (tip(series, x, y, point))
            }
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "a series, its place among the others, and the two axes")]
fn bars(
    series: &Series,
    place: usize,
    of: usize,
    px: &dyn Fn(f64) -> f64,
    py: &dyn Fn(f64) -> f64,
    x: &Axis,
    y: &Axis,
) -> Markup {
    let room = (WIDTH - LEFT - RIGHT) / (x.scale.hi() + 1.0).max(1.0);
    let width = (room * 0.9 / of as f64).clamp(0.8, 14.0);
    let start = -width * of as f64 / 2.0 + width * place as f64;
    html! {
        g.bars data-series=(place) data-zero=(r(py(0.0))) data-scale=((py(0.0) - py(y.scale.hi())) / y.scale.hi()) {
            @for &point in &series.points {
                @let top = py(point.1.max(0.0));
                rect class=(format!("bar {}", class(series.colour))) x=(r(px(point.0) + start)) y=(r(top)) width=(r(width))
                    height=(r((py(point.1.min(0.0)) - top).max(0.0))) { (tip(series, x, y, point)) }
            }
        }
    }
}

/// The shape that goes with a colour, about the origin.
fn shape(colour: usize) -> Markup {
    let path = [
        "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
        "M-2.7 -2.7h5.4v5.4h-5.4z",
        "M0 -3.6L3.4 2.6H-3.4z",
        "M0 -3.8L3.8 0L0 3.8L-3.8 0z",
        "M0 3.6L3.4 -2.6H-3.4z",
        "M-3 -1h2v-2h2v2h2v2h-2v2h-2v-2h-2z",
        "M-3.4 -1.2L0 -3.6L3.4 -1.2L2.1 2.9H-2.1z",
        "M-3.2 -3.2L3.2 3.2M3.2 -3.2L-3.2 3.2",
    ][colour % COLOURS];
    html! { path class=(format!("point {}", class(colour))) d=(path) {} }
}

/// A coordinate, to a tenth of a unit.
pub(super) fn r(x: f64) -> String {
    let rounded = format!("{x:.1}");
    rounded.strip_suffix(".0").map_or(rounded.clone(), String::from)
}

/// A number for people: three digits.
pub fn short(x: f64) -> String {
    match x.abs() {
        0.0 => "0".into(),
        size if (1e-2..1e4).contains(&size) => {
            let decimals = (2.0 - size.log10().floor()).max(0.0) as usize;
            let text = format!("{x:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
        }
        size if (1e4..1e7).contains(&size) && x.fract() == 0.0 => format!("{x}"),
        _ => format!("{x:.1e}"),
    }
}

/// The figure as a file of its own: with the page's colours, on white or on black.
pub fn standalone(figure: &Figure) -> String {
    let style = html! { style { (PreEscaped(super::FIGURE_STYLE)) } };
    let svg = figure.svg.clone().into_string();
    let (head, rest) = svg.split_once('>').expect("a figure is an svg element");
    format!("{head}>{}{rest}\n", style.into_string())
}
