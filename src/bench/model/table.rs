//! The model for a terminal of 80 columns.

use super::{Counts, Model, Step};
use crate::bench::model::predict::{DEVICES, Device};
use std::fmt::Write;

/// Columns of a dispatch's title.
const TITLE: usize = 37;

/// Above so many microseconds a dispatch should fill a device of this many cores, and wait no more than so often.
const LONG_US: f64 = 2.0;
const FULL: f64 = 132.0;
const ROUNDS: u64 = 64;

/// Every step on one device, dispatch by dispatch, and the sums on all of them.
pub fn text(model: &Model, device: &Device) -> String {
    let mut out = String::new();
    for step in &model.steps {
        dispatches(&mut out, step, device);
    }
    out + LEGEND
}

const LEGEND: &str = "\
Predicted, not measured. MB: through L2. rounds: waits of the longest invocation
for memory; LDS: bytes read from workgroup memory for each multiply-add; us:
without the launch; !: over 2 us with under 132 workgroups or over 64 rounds.
";

/// A title in as many columns as there are: products without spaces and the kernel's name.
fn short(title: &str) -> String {
    let title = title.strip_prefix("product.").unwrap_or(title).replace(", ", ",").replace(" -> ", "->");
    match title.char_indices().nth(TITLE) {
        Some(_) => title.chars().take(TITLE - 2).chain("..".chars()).collect(),
        None => title,
    }
}

/// Whether a dispatch is long though the device is nearly empty, or because it waits.
pub fn starves(counts: &Counts, us: f64) -> bool {
    us > LONG_US && (counts.groups() < FULL || counts.rounds() > ROUNDS)
}

fn dispatches(out: &mut String, step: &Step, device: &Device) {
    let predicted = step.on(device);
    let _ = writeln!(out, "{}", step.title);
    let _ = writeln!(
        out,
        "{:<TITLE$}{:>7}{:>8}{:>6}{:>7}{:>6}{:>7}",
        "dispatch", "groups", "MFLOP", "MB", "rounds", "LDS", "us"
    );
    let mut starving = 0;
    for (counts, time) in step.dispatches.iter().zip(&predicted.dispatches) {
        let starves = starves(counts, time.us);
        starving += usize::from(starves);
        let _ = writeln!(
            out,
            "{:<TITLE$}{:>7}{:>8.1}{:>6.1}{:>7}{:>6.1}{:>7.1}{}",
            short(&counts.title),
            counts.groups(),
            counts.flops / 1e6,
            counts.traffic / 1e6,
            counts.rounds(),
            counts.shared_per_multiply_add(),
            time.us,
            if starves { " !" } else { "" }
        );
    }
    let _ = writeln!(
        out,
        "{}: {:.0} us a step, {:.0} of them for {} launches; {starving} marked !",
        device.name,
        predicted.step_us,
        device.launch_us * step.dispatches.len() as f64,
        step.dispatches.len()
    );
    let others = DEVICES.iter().map(|device| format!("{} {:.0}", device.name, step.on(device).step_us));
    let _ = writeln!(out, "us a step: {}\n", others.collect::<Vec<_>>().join(", "));
}
