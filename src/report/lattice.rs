//! Figures over axes of values that stand beside each other, evenly: a lattice of cells, and columns of dots.

use super::svg::{Axis, Figure, LEFT, Look, RIGHT, Series, WIDTH, class, frame, legend, r, short, vertical_axis};
use maud::{Markup, html};

/// Something that is shown by itself, and leads to its page.
pub struct Spot {
    /// Its place among the kinds; none where nothing is known of it.
    pub kind: Option<usize>,
    /// What it says when it is pointed at.
    pub name: String,
    /// Where it leads.
    pub link: Option<String>,
}

/// Names with colours of the palette, and a letter for who sees no colours.
pub type Kinds = [(&'static str, usize, &'static str)];

/// A column of dots, with their middle and its bounds.
pub struct Strip {
    /// The value that it stands over.
    pub label: String,
    /// Dots at their heights.
    pub spots: Vec<(f64, Spot)>,
    /// A middle, and the bounds that it lies between.
    pub middle: Option<(f64, (f64, f64))>,
}

/// Cells over two axes, each with a square for every one of its spots. `across` and `down` are names with labels, the rows from above.
pub fn lattice(
    name: &str,
    title: &str,
    across: (&str, &[String]),
    down: (&str, &[String]),
    cells: &[Vec<Vec<Spot>>],
    kinds: &Kinds,
) -> Figure {
    let (columns, rows) = (across.1.len().max(1), down.1.len().max(1));
    let side = ((WIDTH - LEFT - RIGHT) / columns as f64).min(72.0);
    let of_kind = |&(name, colour, _): &(&str, usize, &str)| Series {
        name: name.into(),
        colour,
        points: Vec::new(),
        look: Look::Bars,
    };
    let named: Vec<Series> = kinds.iter().map(of_kind).collect();
    let (legend, legend_height) = legend(&named.iter().collect::<Vec<_>>());
    let top = 26.0 + legend_height;
    let bottom = top + side * rows as f64;
    let right = LEFT + side * columns as f64;
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            (legend)
            @for (j, row) in cells.iter().enumerate() {
                @for (i, spots) in row.iter().enumerate() {
                    (cell(spots, LEFT + side * i as f64, top + side * j as f64, side, kinds))
                }
            }
            @for (i, label) in across.1.iter().enumerate() {
                text.small x=(r(LEFT + side * (i as f64 + 0.5))) y=(r(bottom + 14.0)) text-anchor="middle" { (label) }
            }
            @for (j, label) in down.1.iter().enumerate() {
                text.small x=(LEFT - 5.0) y=(r(top + side * (j as f64 + 0.5) + 4.0)) text-anchor="end" { (label) }
            }
            text.axis-name x=(r((LEFT + right) / 2.0)) y=(r(bottom + 31.0)) text-anchor="middle" { (across.0) }
            @if !down.0.is_empty() {
                text.axis-name transform=(format!("translate(12 {}) rotate(-90)", r((top + bottom) / 2.0))) text-anchor="middle" { (down.0) }
            }
        },
    );
    Figure { name: name.into(), svg }
}

fn cell(spots: &[Spot], x: f64, y: f64, side: f64, kinds: &Kinds) -> Markup {
    let per_row = (spots.len() as f64).sqrt().ceil().max(1.0);
    let square = (side - 4.0) / per_row;
    let place = |i: usize| (x + 2.0 + square * (i as f64 % per_row), y + 2.0 + square * (i as f64 / per_row).floor());
    html! {
        @for (i, spot) in spots.iter().enumerate() {
            @let (x, y) = place(i);
            (linked(spot, html! {
                rect class=(spot.kind.map_or("outline".into(), |kind| format!("bar {}", class(kinds[kind].1))))
                    x=(r(x + 0.5)) y=(r(y + 0.5)) width=(r(square - 1.0)) height=(r(square - 1.0)) { title { (spot.name) } }
                @if let Some(kind) = spot.kind.filter(|_| square >= 13.0) {
                    text.letter x=(r(x + square / 2.0)) y=(r(y + square / 2.0 + 3.2)) text-anchor="middle" { (kinds[kind].2) }
                }
            }))
        }
    }
}

fn linked(spot: &Spot, contents: Markup) -> Markup {
    match &spot.link {
        Some(link) => html! { a href=(link) { (contents) } },
        None => contents,
    }
}

/// Columns of dots over the values of `field`, each with its middle and its bounds.
pub fn strips(name: &str, title: &str, field: &str, axis: Axis, columns: &[Strip], kinds: &Kinds) -> Figure {
    let (top, height) = (28.0, 170.0);
    let bottom = top + height;
    let room = (WIDTH - LEFT - RIGHT) / columns.len().max(1) as f64;
    let px = |i: usize| LEFT + room * (i as f64 + 0.5);
    let py = |value: f64| bottom - axis.scale.at(value) * height;
    let reach = (room * 0.3).min(14.0);
    // Dots of one height side by side.
    let aside = |k: usize| (((k * 7) % 11) as f64 / 10.0 - 0.5) * 1.6 * reach;
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(bottom) y2=(bottom) {}
            (vertical_axis(&axis, top, bottom, &py))
            @for (i, column) in columns.iter().enumerate() {
                text.small x=(r(px(i))) y=(r(bottom + 15.0)) text-anchor="middle" { (column.label) }
                @for (k, (value, spot)) in column.spots.iter().enumerate() {
                    (linked(spot, html! {
                        circle class=(format!("point {}", class(spot.kind.map_or(0, |kind| kinds[kind].1)))) cx=(r(px(i) + aside(k))) cy=(r(py(*value))) r="3" {
                            title { (spot.name) }
                        }
                    }))
                }
                @if let Some((middle, (lo, hi))) = column.middle {
                    g.middle {
                        title { (field) " " (column.label) ": " (short(middle)) ", between " (short(lo)) " and " (short(hi)) }
                        line.reach x1=(r(px(i))) x2=(r(px(i))) y1=(r(py(lo))) y2=(r(py(hi))) {}
                        line.reach x1=(r(px(i) - 4.0)) x2=(r(px(i) + 4.0)) y1=(r(py(lo))) y2=(r(py(lo))) {}
                        line.reach x1=(r(px(i) - 4.0)) x2=(r(px(i) + 4.0)) y1=(r(py(hi))) y2=(r(py(hi))) {}
                        line.centre x1=(r(px(i) - reach)) x2=(r(px(i) + reach)) y1=(r(py(middle))) y2=(r(py(middle))) {}
                    }
                }
            }
            text.axis-name x=((LEFT + WIDTH - RIGHT) / 2.0) y=(r(bottom + 32.0)) text-anchor="middle" { (field) }
        },
    );
    Figure { name: name.into(), svg }
}
