//! A screenful of what was found: the loss curve and the spectrum in characters, key frequencies, clusters, certificate.

use super::svg::short;
use crate::analysis::Findings;
use crate::analysis::certificate::{Certificate, Claim, Control, Kind, Range, Verdict};
use crate::analysis::spectrum::Spectrum;

const WIDTH: usize = 64;
const HEIGHT: usize = 7;
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The summary, at most 80 columns wide and 24 lines high for networks of up to six keys.
pub fn summary(findings: &Findings) -> String {
    let mut lines = Vec::new();
    if let Some(progress) = &findings.progress {
        let of = |loss: &dyn Fn(&crate::analysis::scores::Scores) -> Option<f64>| -> Vec<(f64, f64)> {
            progress.checkpoints.iter().filter_map(|row| Some((row.step as f64, loss(&row.scores)?))).collect()
        };
        let (train, test) = (of(&|s| Some(s.train?.loss)), of(&|s| Some(s.test?.loss)));
        lines.extend(curve(&train, &test));
    }
    lines.push(spectrum("W_E", &findings.spectra.W_E));
    lines.push(spectrum("W_L", &findings.spectra.W_L));
    lines.push(frequencies(findings.spectra.W_E.components.len() / 2));
    lines.push(format!("keys      {}", super::keys::short_form(&findings.keys)));
    let neurons = &findings.neurons;
    let mut clusters: Vec<_> =
        neurons.clusters.iter().take(4).map(|c| format!("{} at {}", c.neurons, c.frequency)).collect();
    if neurons.clusters.len() > 4 {
        clusters.push("..".into());
    }
    let list = if clusters.is_empty() { String::new() } else { format!(": {}", clusters.join(", ")) };
    lines.push(format!("clusters  {} of {} neurons{list}", neurons.explained, neurons.fve.len()));
    lines.extend(certificate(&findings.certificate));
    lines.join("\n")
}

/// Whether the claims about the computation hold, in a line.
pub fn verdict(certificate: &Certificate) -> String {
    let computation = certificate.claims.iter().filter(|claim| claim.kind == Kind::Computation);
    let with = |verdict: Verdict| computation.clone().filter(|claim| claim.verdict == verdict).count();
    let (count, failed, unknown) = (computation.clone().count(), with(Verdict::Fails), with(Verdict::Unknown));
    match certificate.verdict {
        Verdict::Holds => {
            let (applies, which) = match count - with(Verdict::DoesNotApply) {
                applies if applies == count => (count, ""),
                applies => (applies, " that apply"),
            };
            format!("certificate  passed: all {applies} claims{which} hold")
        }
        Verdict::Fails => format!("certificate  failed: {failed} of {count} claims do not hold"),
        Verdict::Unknown => format!("certificate  undecided: {unknown} of {count} claims are unknown, none fails"),
        Verdict::DoesNotApply => "certificate  does not apply: the group is too small".into(),
    }
}

/// Lines of the certificate at most, before "and N more".
const ROOM: usize = 7;

/// Which claims hold, those that do not first.
fn certificate(certificate: &Certificate) -> Vec<String> {
    let of = |kind: Kind| certificate.claims.iter().filter(move |claim| claim.kind == kind);
    let told: Vec<&Claim> =
        of(Kind::Computation).filter(|claim| matches!(claim.verdict, Verdict::Fails | Verdict::Unknown)).collect();
    let tell = |claim: &&Claim| {
        let measured = |value: Option<f64>, expected: &Range| {
            let bound = match (expected.at_least, expected.at_most) {
                (Some(low), Some(high)) => format!("{} to {}", short(low), short(high)),
                (Some(low), None) => format!(">= {}", short(low)),
                (None, Some(high)) => format!("<= {}", short(high)),
                _ => "any".into(),
            };
            format!("{} (expected {bound})", value.map_or("none".into(), short))
        };
        if let Some(why) = claim.why.as_ref().filter(|_| claim.verdict == Verdict::Unknown) {
            return format!("  {}: unknown,\n    {why}", claim.claim);
        }
        if claim.value.is_none() {
            return format!("  {}: nothing to measure", claim.claim);
        }
        let failing = |control: &&Control| control.value.is_some_and(|value| !control.expected.holds(value));
        let control = claim.control.as_ref().filter(failing);
        let control = control.map_or(String::new(), |c| format!("\n    control: {}", measured(c.value, &c.expected)));
        format!("  {}: {}{control}", claim.claim, measured(claim.value, &claim.expected))
    };
    let mut lines = vec![verdict(certificate)];
    for (i, claim) in told.iter().enumerate() {
        let text = tell(claim);
        if lines.len() + text.lines().count() > ROOM {
            lines.push(format!("  and {} more", told.len() - i));
            break;
        }
        lines.extend(text.lines().map(String::from));
    }
    if certificate.passed {
        let simplifications = of(Kind::Simplification).filter(|claim| claim.verdict == Verdict::Fails);
        lines.extend(simplifications.map(|claim| format!("  but no simplification: {}", tell(&claim).trim_start())));
    }
    lines
}

/// Train and test loss over the steps, on a logarithmic axis.
fn curve(train: &[(f64, f64)], test: &[(f64, f64)]) -> Vec<String> {
    let losses: Vec<f64> = train.iter().chain(test).map(|point| point.1).filter(|&loss| loss > 0.0).collect();
    let (Some(lo), Some(hi)) = (losses.iter().copied().reduce(f64::min), losses.iter().copied().reduce(f64::max))
    else {
        return Vec::new();
    };
    let (lo, hi) = (lo.log10(), hi.log10().max(lo.log10() + 1e-9));
    let last = train.last().map_or(1.0, |point| point.0).max(1.0);
    let mut cells = vec![[' '; WIDTH]; HEIGHT];
    for (points, sign) in [(train, '·'), (test, '•')] {
        let losses = (0..WIDTH).map(|column| at(points, last * column as f64 / (WIDTH - 1) as f64));
        for (column, loss) in losses.enumerate() {
            let Some(loss) = loss.filter(|&loss| loss > 0.0) else { continue };
            let row = ((hi - loss.log10()) / (hi - lo) * (HEIGHT - 1) as f64).round() as usize;
            cells[row.min(HEIGHT - 1)][column] = sign;
        }
    }
    let label = |row: usize| match row {
        0 => format!("{:>8}", short(10f64.powf(hi))),
        row if row == HEIGHT - 1 => format!("{:>8}", short(10f64.powf(lo))),
        row if row == HEIGHT / 2 => "log loss".into(),
        _ => " ".repeat(8),
    };
    let mut lines: Vec<String> = cells
        .iter()
        .enumerate()
        .map(|(row, cells)| format!("{} │{}", label(row), cells.iter().collect::<String>().trim_end()))
        .collect();
    lines.push(format!("{:>8} └{}", "", "─".repeat(WIDTH)));
    let end = format!("step {last}");
    lines.push(format!("{:>10}0   · train  • test{:>width$}", "", end, width = WIDTH - 22));
    lines
}

/// The value of a curve at a step, between its points in proportion of their logarithms.
fn at(points: &[(f64, f64)], step: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.0 >= step)?;
    let (b, a) = (points[after], points[after.saturating_sub(1)]);
    if b.0 == a.0 || a.1 <= 0.0 || b.1 <= 0.0 {
        return Some(b.1);
    }
    let along = (step - a.0) / (b.0 - a.0);
    Some((a.1.ln() * (1.0 - along) + b.1.ln() * along).exp())
}

/// A bar for each frequency, or for the largest of several where there are more than fit.
fn spectrum(name: &str, spectrum: &Spectrum) -> String {
    let count = spectrum.components.len() / 2;
    let each = count.div_ceil(WIDTH);
    let bars: Vec<f64> = (0..count.div_ceil(each))
        .map(|i| (i * each + 1..=((i + 1) * each).min(count)).map(|k| spectrum.merged(k)).fold(0.0, f64::max))
        .collect();
    let top = bars.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |x: &f64| LEVELS[(x / top * 8.0).round() as usize];
    format!("{name:>8} │{}", bars.iter().map(bar).collect::<String>())
}

/// The axis of the spectra: every tenth bar with its frequency.
fn frequencies(count: usize) -> String {
    let each = count.div_ceil(WIDTH);
    let mut axis = String::new();
    for bar in 0..count.div_ceil(each) {
        let k = (bar * each + 1).to_string();
        if bar % 10 == 0 && axis.chars().count() <= bar {
            axis += &" ".repeat(bar - axis.chars().count());
            axis += &k;
        }
    }
    format!("{:>8} └{axis}", "k")
}
