//! A report beside an older one: what got slower, or faster, beyond the noise of both.

use super::{Report, Spread};
use anyhow::{Result, ensure};
use std::fmt::Write;

/// How a time has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The middle halves of the two lie apart, and the medians by more than both are wide.
    Slower,
    /// The same the other way round.
    Faster,
    /// What the repetitions do not tell apart.
    Same,
}

/// What the repetitions of two measurements tell.
pub fn change(old: &Spread, new: &Spread) -> Change {
    let noise = (old.high - old.low).max(new.high - new.low);
    if new.low > old.high && new.median - old.median > noise {
        Change::Slower
    } else if new.high < old.low && old.median - new.median > noise {
        Change::Faster
    } else {
        Change::Same
    }
}

const NOTHING_SHARED: &str =
    "the reports have no device and shape in common: expected one of the same --device, --preset and --set";

/// Refuses to measure what the older report has nothing of.
pub fn ensure_shared(old: &Report, devices: &[String], titles: &[String]) -> Result<()> {
    let known = old.devices.iter().filter(|device| devices.contains(&device.name)).flat_map(|device| &device.runs);
    ensure!(known.map(super::Run::title).any(|title| titles.contains(&title)), NOTHING_SHARED);
    Ok(())
}

/// Every step and kernel that both reports have, those that changed marked. The number that got slower comes with it.
///
/// # Errors
/// Reports of another schema, and reports that share no device and shape.
pub fn compare(old: &Report, new: &Report) -> Result<(String, usize)> {
    ensure!(old.schema == new.schema, "the older report has schema {}: expected {}", old.schema, new.schema);
    let mut out = String::new();
    let (mut shared, mut slower, mut same, mut unknown) = (0, 0, 0, 0);
    let mut runs = 0;
    for device in &new.devices {
        let Some(before) = old.devices.iter().find(|other| other.name == device.name) else { continue };
        if before.driver != device.driver {
            let _ = writeln!(out, "{}: now on {}, then on {}", device.name, device.driver, before.driver);
        }
        for run in &device.runs {
            let Some(then) = before.runs.iter().find(|other| other.title() == run.title()) else { continue };
            runs += 1;
            let step = std::iter::once(("step", &then.step_ms, &run.step_ms));
            let kernels = run.kernels.iter().filter_map(|kernel| {
                let old = then.kernels.iter().find(|other| other.name == kernel.name);
                unknown += usize::from(old.is_none());
                Some((kernel.name.as_str(), &old?.ms, &kernel.ms))
            });
            for (name, old, new) in step.chain(kernels) {
                shared += 1;
                let mark = match change(old, new) {
                    Change::Slower => "SLOWER",
                    Change::Faster => "faster",
                    Change::Same => {
                        same += 1;
                        continue;
                    }
                };
                slower += usize::from(mark == "SLOWER");
                let _ = writeln!(
                    out,
                    "{mark}  {:>6.2} x  {:>9.3} -> {:>9.3} ms  {}, {}: {name}",
                    new.median / old.median,
                    old.median,
                    new.median,
                    device.name,
                    run.title()
                );
            }
        }
    }
    ensure!(shared > 0, NOTHING_SHARED);
    let _ = writeln!(out, "{slower} slower, {} faster, {same} within the noise", shared - slower - same);
    if unknown > 0 {
        let _ = writeln!(out, "{unknown} kernels here are not in the older report");
    }
    let count = |report: &Report| report.devices.iter().map(|device| device.runs.len()).sum::<usize>();
    if (runs, runs) != (count(old), count(new)) {
        let _ = writeln!(
            out,
            "compared: {runs} of the {} runs here with {runs} of the {} in the older report",
            count(new),
            count(old)
        );
    }
    Ok((out, slower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_beyond_the_noise_is_marked() {
        let spread = |low, median, high| Spread { low, median, high };
        let old = spread(9.0, 10.0, 11.0);
        assert_eq!(change(&old, &spread(12.0, 13.0, 13.5)), Change::Slower);
        assert_eq!(change(&old, &spread(6.0, 7.0, 7.5)), Change::Faster);
        assert_eq!(change(&old, &spread(10.5, 11.5, 12.0)), Change::Same);
        // Apart, and so noisy that it may be chance.
        assert_eq!(change(&old, &spread(11.5, 13.0, 20.0)), Change::Same);
        assert_eq!(change(&old, &spread(3.0, 7.0, 8.5)), Change::Same);
        // Medians far apart, and middle halves that touch.
        assert_eq!(change(&spread(9.0, 9.1, 11.0), &spread(10.0, 11.9, 12.0)), Change::Same);
        assert_eq!(change(&old, &old), Change::Same);
    }
}
