//! Axes: where a value lies between two ends, and which values get a tick.

/// An axis from `lo` to `hi`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    lo: f64,
    hi: f64,
    log: bool,
    /// Whether there is nothing between whole numbers.
    whole: bool,
}

impl Scale {
    /// From `lo` to `hi`, or to `lo` + 1 where `hi` is not above `lo`.
    pub fn linear(lo: f64, hi: f64) -> Self {
        let hi = if hi > lo { hi } else { lo + 1.0 };
        Self { lo, hi, log: false, whole: false }
    }

    /// From 0 to a whole number above all values, which are counts.
    pub fn counts(values: impl Iterator<Item = f64>) -> Self {
        let hi = ends(values).1.max(1.0);
        let step = tick_step(hi).max(1.0);
        Self { lo: 0.0, hi: (hi / step).ceil() * step, log: false, whole: true }
    }

    /// From 0, or below it, to a round number above all values.
    pub fn linear_over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (lo, hi) = ends(values);
        let (lo, hi) = (lo.min(0.0), hi.max(0.0));
        // What is too small to be seen needs no room of its own.
        let (lo, hi) = (if -lo < 0.02 * hi { 0.0 } else { lo }, if hi < -0.02 * lo { 0.0 } else { hi });
        let step = tick_step(hi - lo);
        Self::linear((lo / step).floor() * step, (hi / step).ceil() * step)
    }

    /// Powers of ten round all positive values.
    pub fn log_over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (lo, hi) = ends(values.filter(|&x| x > 0.0));
        let (lo, hi) = if lo > hi { (1e-1, 1.0) } else { (lo, hi) };
        let (lo, hi) = (10f64.powf(lo.log10().floor()), 10f64.powf(hi.log10().ceil()));
        Self { lo, hi: if hi > lo { hi } else { 10.0 * lo }, log: true, whole: false }
    }

    /// The share of the way from `lo` to `hi`, held inside it.
    pub fn at(&self, value: f64) -> f64 {
        let share = match self.log {
            true => (value.max(f64::MIN_POSITIVE).log10() - self.lo.log10()) / (self.hi.log10() - self.lo.log10()),
            false => (value - self.lo) / (self.hi - self.lo),
        };
        share.clamp(0.0, 1.0)
    }

    /// The upper end.
    pub fn hi(&self) -> f64 {
        self.hi
    }

    /// Values with their labels.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if self.log {
            let (first, last) = (self.lo.log10().round() as i32, self.hi.log10().round() as i32);
            let every = ((last - first) as usize).div_ceil(6).max(1);
            return (first..=last).step_by(every).map(|e| (10f64.powi(e), format!("1e{e}"))).collect();
        }
        let step = tick_step(self.hi - self.lo).max(if self.whole { 1.0 } else { 0.0 });
        let (first, last) = ((self.lo / step).ceil() as i64, (self.hi / step + 1e-9).floor() as i64);
        let decimals = (-step.log10()).ceil().max(0.0) as usize;
        (first..=last).map(|i| (i as f64 * step, thousands(format!("{:.decimals$}", i as f64 * step)))).collect()
    }
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.filter(|x| x.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)))
}

/// A round step (1, 2 or 5 times a power of ten) that makes some five of a span.
fn tick_step(span: f64) -> f64 {
    if !(span > 0.0 && span.is_finite()) {
        return 1.0;
    }
    let raw = span / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= raw * 0.999).unwrap_or(raw)
}

/// 12000 as 12,000.
fn thousands(number: String) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", &number[..]), |rest| ("-", rest));
    if digits.contains('.') || digits.len() < 5 {
        return number;
    }
    let grouped: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|c| std::str::from_utf8(c).unwrap_or("")).collect();
    format!("{sign}{}", grouped.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_whole_ticks() {
        for (most, hi) in [(0.0, 1.0), (1.0, 1.0), (2.0, 2.0), (7.0, 8.0), (23.0, 25.0)] {
            let scale = Scale::counts([0.0, most].into_iter());
            assert_eq!(scale.hi(), hi);
            assert!(scale.ticks().iter().all(|(value, text)| value.fract() == 0.0 && !text.contains('.')), "{most}");
        }
    }

    #[test]
    fn ticks_are_round_and_lie_on_the_axis() {
        let labels = |scale: Scale| scale.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(Scale::linear(0.0, 40_000.0)), ["0", "10,000", "20,000", "30,000", "40,000"]);
        assert_eq!(labels(Scale::linear(0.0, 1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let log = Scale::log_over([3e-7, 20.0].into_iter());
        assert_eq!(labels(log), ["1e-7", "1e-5", "1e-3", "1e-1", "1e1"]);
        assert_eq!((log.at(1e-7), log.at(1e2), log.at(0.0)), (0.0, 1.0, 0.0));
        assert!(log.ticks().iter().all(|(value, _)| (0.0..=1.0).contains(&log.at(*value))));
        assert_eq!(Scale::linear_over([0.3, 2.1].into_iter()), Scale::linear(0.0, 2.5));
        // Nothing to show is no reason to fail.
        assert!(!Scale::log_over([0.0].into_iter()).ticks().is_empty());
        assert!(!Scale::linear_over(std::iter::empty()).ticks().is_empty());
    }
}
