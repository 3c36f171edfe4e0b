//! A table of numbers as a figure: a cell for each, darker the larger its size.

use super::svg::{Figure, LEFT, RIGHT, WIDTH, frame, r, short};
use maud::html;

/// Cells over two axes with their values in them. `across` and `down` are names with labels, the rows from above; cells are
/// coloured by `value / full`, blue below 0.
pub fn matrix(
    name: &str,
    title: &str,
    across: (&str, &[String]),
    down: (&str, &[String]),
    values: &[Vec<f64>],
    full: f64,
) -> Figure {
    let (columns, rows) = (across.1.len().max(1), down.1.len().max(1));
    let width = ((WIDTH - LEFT - RIGHT) / columns as f64).min(80.0);
    let (height, top) = (26.0, 30.0);
    let (bottom, right) = (top + height * rows as f64, LEFT + width * columns as f64);
    let strength = |value: f64| if full > 0.0 { (value.abs() / full).min(1.0) * 0.75 } else { 0.0 };
    let svg = frame(
        title,
        bottom + 40.0,
        html! {
            @for (j, row) in values.iter().enumerate() {
                @for (i, &value) in row.iter().enumerate() {
                    @let (x, y) = (LEFT + width * i as f64, top + height * j as f64);
                    rect class=(if value < 0.0 { "bar c0" } else { "bar c1" }) fill-opacity=(r(strength(value)))
                        x=(r(x + 0.5)) y=(r(y + 0.5)) width=(r(width - 1.0)) height=(height - 1.0) {
                        title { (down.0) " " (down.1[j]) ", " (across.0) " " (across.1[i]) ": " (short(value)) }
                    }
                    text.value x=(r(x + width / 2.0)) y=(r(y + height / 2.0 + 3.5)) text-anchor="middle" { (format!("{value:.2}")) }
                }
            }
            @for (i, label) in across.1.iter().enumerate() {
                text.small x=(r(LEFT + width * (i as f64 + 0.5))) y=(r(bottom + 14.0)) text-anchor="middle" { (label) }
            }
            @for (j, label) in down.1.iter().enumerate() {
                text.small x=(LEFT - 5.0) y=(r(top + height * (j as f64 + 0.5) + 4.0)) text-anchor="end" { (label) }
            }
            text.axis-name x=(r((LEFT + right) / 2.0)) y=(r(bottom + 31.0)) text-anchor="middle" { (across.0) }
            text.axis-name transform=(format!("translate(12 {}) rotate(-90)", r((top + bottom) / 2.0))) text-anchor="middle" { (down.0) }
        },
    );
    Figure { name: name.into(), svg }
}
