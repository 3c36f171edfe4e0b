//! The report for a terminal, and as CSV.

use super::{Device, Report, Run};
use std::fmt::Write;

/// Every device's ceilings and runs, kernel by kernel.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for device in &report.devices {
        let c = &device.ceilings;
        let _ = writeln!(
            out,
            "{} ({})\n  at most: copies {:.1} GB/s, multiply-adds {:.0} GFLOP/s, an empty dispatch {:.1} us",
            device.name, device.driver, c.copy_gb_s, c.multiply_add_gflop_s, c.empty_dispatch_us
        );
        for run in &device.runs {
            kernels(&mut out, device, run);
        }
        out.push('\n');
    }
    out + &steps(report) + LEGEND
}

const LEGEND: &str = "\
middle: how wide the middle half of the times is; share: of the nearer ceiling, copies or multiply-adds (what caches serve may pass
100 %); kernels: time in kernels of a step's, each measured alone (the CPU engine does them together in less); model: ms that
the step model gives for this GPU, launches left out; first s: from opening
the device to the end of the first step; time/work: grown from the first run of the program
";

fn kernels(out: &mut String, device: &Device, run: &Run) {
    let _ = writeln!(
        out,
        "\n  {}\n  {:<58}{:>9}  {:>7}{:>9}{:>8}{:>7}{}",
        run.title(),
        "kernel",
        "ms",
        "middle",
        "GFLOP/s",
        "GB/s",
        "share",
        if run.predicted_ms.is_some() { "    model" } else { "" }
    );
    for kernel in &run.kernels {
        let spread = (kernel.ms.high - kernel.ms.low) / kernel.ms.median.max(1e-9);
        let _ = writeln!(
            out,
            "  {:<58}{:>9.4}  {:>6.0}%{:>9.1}{:>8.1}{:>6.0}%{}",
            kernel.name,
            kernel.ms.median,
            100.0 * spread,
            kernel.gflop_s(),
            kernel.gb_s(),
            100.0 * kernel.share(&device.ceilings),
            kernel.predicted_ms.map_or(String::new(), |ms| format!("{ms:>9.4}"))
        );
    }
    if let Some(predicted) = run.predicted_ms {
        let _ = writeln!(
            out,
            "  the whole step {:.3} ms, its kernels {:.3} ms; the step model gives {predicted:.3} ms",
            run.step_ms.median, run.kernels_ms
        );
    }
}

/// Whole steps of all devices in one table; with several shapes, how time and work grow from the first of a program.
fn steps(report: &Report) -> String {
    let mut out = format!(
        "{:<30}{:<58}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}{:>14}\n",
        "device", "run", "ms/step", "steps/s", "GFLOP/s", "kernels", "MiB", "first s", "time/work"
    );
    for device in &report.devices {
        for run in &device.runs {
            let first = device.runs.iter().find(|other| other.program == run.program).unwrap_or(run);
            let grown = (run.step_ms.median / first.step_ms.median, run.flops / first.flops);
            let name: String = device.name.chars().take(28).collect();
            let _ = writeln!(
                out,
                "{name:<30}{:<58}{:>9.2}{:>9.1}{:>9.1}{:>8.0}%{:>8.0}{:>9.2}{:>7.2}/{:<6.2}",
                run.title(),
                run.step_ms.median,
                1e3 / run.step_ms.median,
                run.gflop_s(),
                100.0 * run.kernels_ms / run.step_ms.median,
                run.memory_mib,
                run.first_step_s,
                grown.0,
                grown.1
            );
        }
    }
    out
}

/// A line for every kernel of every run, and one for each whole step.
pub fn csv(report: &Report) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "device", "program", "p", "rows", "d_model", "n_heads", "d_mlp", "models", "kernel", "ms", "ms_low", "ms_high",
        "flops", "bytes",
    ])?;
    for (device, run) in report.devices.iter().flat_map(|device| device.runs.iter().map(move |run| (device, run))) {
        let shape = [run.p, run.rows, run.d_model, run.n_heads, run.d_mlp, run.models].map(|n| n.to_string());
        let bytes = run.kernels.iter().map(|kernel| kernel.bytes).sum();
        let step = ("step", &run.step_ms, run.flops, bytes);
        let kernels = run.kernels.iter().map(|kernel| (kernel.name.as_str(), &kernel.ms, kernel.flops, kernel.bytes));
        for (name, ms, flops, bytes) in std::iter::once(step).chain(kernels) {
            let numbers = [ms.median, ms.low, ms.high, flops, bytes].map(|x| x.to_string());
            let place = [device.name.as_str(), run.program.as_str()];
            let fields = place.into_iter().chain(shape.iter().map(String::as_str)).chain([name]);
            writer.write_record(fields.chain(numbers.iter().map(String::as_str)))?;
        }
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Ceilings, Kernel, SCHEMA, Spread};

    #[test]
    fn predictions_stand_beside_times_where_there_are_some() {
        let report = |predicted_ms: Option<f64>| {
            let ms = Spread::of(&[0.05]);
            let kernel = Kernel { name: "k".into(), ms, flops: 1e6, bytes: 1e6, predicted_ms };
            let run = Run {
                program: "composed".into(),
                p: 3,
                d_model: 4,
                n_heads: 1,
                d_mlp: 4,
                models: 1,
                rows: 5,
                first_step_s: 1.0,
                step_ms: Spread::of(&[0.0625]),
                kernels_ms: 0.05,
                predicted_ms: predicted_ms.map(|ms| ms + 0.0025),
                flops: 1e6,
                memory_mib: 1.0,
                kernels: vec![kernel],
            };
            let ceilings = Ceilings { copy_gb_s: 1.0, multiply_add_gflop_s: 1.0, empty_dispatch_us: 1.0 };
            let device = Device { name: "NVIDIA H200".into(), driver: "d".into(), ceilings, runs: vec![run] };
            Report { schema: SCHEMA, version: "0".into(), devices: vec![device] }
        };
        let with = text(&report(Some(0.0375)));
        assert!(with.lines().any(|line| line.ends_with("share    model")), "{with}");
        assert!(with.lines().any(|line| line.starts_with("  k ") && line.ends_with("   0.0375")), "{with}");
        assert!(with.contains("whole step 0.062 ms, its kernels 0.050 ms; the step model gives 0.040 ms"), "{with}");
        let without = text(&report(None));
        assert!(!without.contains("the step model gives 0"), "{without}");
        assert!(without.lines().any(|line| line.ends_with("share")), "{without}");
        let json = serde_json::to_string(&report(None)).unwrap();
        assert!(!json.contains("predicted"), "{json}");
        assert!(serde_json::from_str::<Report>(&json).unwrap().devices[0].runs[0].predicted_ms.is_none());
    }
}
