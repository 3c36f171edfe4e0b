//! `grokscope bench`: what it writes, and that a comparison marks what changed and nothing else. No time decides a test.

use crate::support::{Outcome, does, grokscope, require, succeed, test, wanted_adapter};
use grokscope::bench::{Report, Spread, compare::compare, read};
use grokscope::model::Sizes;
use grokscope::program::{composed, flops, layered};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![
        test("bench_times_every_line_of_both_programs_on_cpu", || every_line("cpu")),
        test("bench_compares_with_an_older_report", compares),
        test("bench_of_a_series_counts_all_models", grows),
        test("bench_tells_what_it_cannot_do", input),
    ]
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("bench_times_every_line_of_both_programs_on_the_adapter", || every_line(&wanted_adapter()))]
}

const SMALL: [&str; 8] = ["--set", "p=13", "--set", "d_model=16", "--set", "d_mlp=24", "--seconds", "0.05"];

fn bench(device: &str, directory: &std::path::Path) -> Result<Report, libtest_mimic::Failed> {
    let out = directory.display().to_string();
    succeed(&[&["bench", "--device", device, "--out", &out][..], &SMALL].concat())?;
    Ok(read(&directory.join("bench.json"))?)
}

fn every_line(device: &str) -> Outcome {
    let directory = tempfile::tempdir()?;
    let report = bench(device, directory.path())?;
    let [device] = &report.devices[..] else { return Err(format!("{} devices", report.devices.len()).into()) };
    let c = &device.ceilings;
    for ceiling in [c.copy_gb_s, c.multiply_add_gflop_s, c.empty_dispatch_us] {
        require!(ceiling > 0.0 && ceiling.is_finite(), "{c:?}");
    }
    require!(device.runs.len() == 2, "{} runs", device.runs.len());
    let csv = std::fs::read_to_string(directory.path().join("bench.csv"))?;
    csv_is_the_report(&csv, &report)?;
    for (run, program) in device.runs.iter().zip([layered::program(), composed::program()]) {
        let shape = grokscope::plan::Shape { p: 13, d_model: 16, n_heads: 4, d_mlp: 24, d_vocab_out: 13 };
        require!(run.rows == 50 && run.program == program.name, "{} on {} rows", run.title(), run.rows);
        require!(run.flops == flops(&program, &Sizes { shape, rows: run.rows }) as f64, "{} operations", run.flops);
        for call in program.step() {
            let count = run.kernels.iter().filter(|kernel| does(&kernel.name, call)).count();
            require!(count == 1, "{}: {count} kernels do {}", run.title(), call.title());
        }
        require!(run.kernels.iter().map(|kernel| kernel.flops).sum::<f64>() == run.flops, "kernels and step differ");
        for kernel in &run.kernels {
            let ms = &kernel.ms;
            require!(0.0 <= ms.low && ms.low <= ms.median && ms.median <= ms.high, "{}: {ms:?}", kernel.name);
            require!(
                csv.contains(&kernel.name) || csv.contains(&kernel.name.replace('"', "\"\"")),
                "{} is not in bench.csv",
                kernel.name
            );
        }
        let sum: f64 = run.kernels.iter().map(|kernel| kernel.ms.median).sum();
        require!(sum > 0.0 && (sum - run.kernels_ms).abs() <= 1e-9 * sum, "{} ms in kernels of {sum}", run.kernels_ms);
        require!(run.step_ms.median > 0.0 && run.memory_mib > 0.0 && run.first_step_s > 0.0, "{}", run.title());
    }
    let lines: usize = device.runs.iter().map(|run| run.kernels.len() + 1).sum();
    require!(csv.lines().count() == lines + 1, "bench.csv has {} lines for {lines} rows", csv.lines().count());
    let rooflines = std::fs::read_dir(directory.path())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let rooflines: Vec<String> = rooflines.filter(|name| name.starts_with("roofline")).collect();
    require!(rooflines.len() == 2, "{rooflines:?}");
    for name in rooflines {
        let svg = std::fs::read_to_string(directory.path().join(&name))?;
        require!(
            svg.starts_with("<svg") && !svg.contains("NaN") && svg.matches("<circle").count() > 5,
            "{name}: {svg}"
        );
    }
    Ok(())
}

/// Every line of the CSV says what the report says under the names of its columns.
fn csv_is_the_report(csv: &str, report: &Report) -> Outcome {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let columns = reader.headers()?.clone();
    let mut records = reader.records();
    for run in report.devices.iter().flat_map(|device| &device.runs) {
        let bytes: f64 = run.kernels.iter().map(|kernel| kernel.bytes).sum();
        let step = ("step", run.step_ms, run.flops, bytes);
        let kernels = run.kernels.iter().map(|kernel| (&kernel.name[..], kernel.ms, kernel.flops, kernel.bytes));
        for (name, ms, flops, bytes) in std::iter::once(step).chain(kernels) {
            let record = records.next().ok_or("the CSV has too few lines")??;
            let field = |column: &str| columns.iter().zip(&record).find(|(name, _)| *name == column).map(|(_, v)| v);
            let number = |column: &str| field(column).and_then(|text| text.parse::<f64>().ok());
            require!(field("kernel") == Some(name) && field("program") == Some(&run.program), "{record:?} for {name}");
            let sizes = [("p", run.p), ("rows", run.rows), ("d_model", run.d_model), ("n_heads", run.n_heads)];
            for (column, size) in sizes.into_iter().chain([("d_mlp", run.d_mlp), ("models", run.models)]) {
                require!(number(column) == Some(size as f64), "{column} of {record:?}: expected {size}");
            }
            let times = [("ms", ms.median), ("ms_low", ms.low), ("ms_high", ms.high)];
            for (column, value) in times.into_iter().chain([("flops", flops), ("bytes", bytes)]) {
                require!(number(column) == Some(value), "{column} of {record:?}: expected {value}");
            }
        }
    }
    require!(records.next().is_none(), "the CSV has too many lines");
    Ok(())
}

/// A series of numbers of models does as many times the work.
fn grows() -> Outcome {
    let output = grokscope(&[&["bench", "--device", "cpu", "--grow", "models", "--json"][..], &SMALL].concat());
    let report: Report = serde_json::from_slice(&output.stdout)?;
    let runs = report.devices[0].runs.chunks(5);
    for series in runs {
        let [first, ..] = series else { return Err("no run".into()) };
        let models: Vec<usize> = series.iter().map(|run| run.models).collect();
        require!(models == [1, 2, 4, 8, 16], "{models:?}");
        for run in series {
            let times = run.models as f64;
            require!(run.flops == times * first.flops, "{}: {} operations", run.title(), run.flops);
            require!(run.memory_mib == times * first.memory_mib, "{}: {} MiB", run.title(), run.memory_mib);
            let both = run.kernels.iter().zip(&first.kernels);
            for (kernel, of_one) in both {
                require!(
                    kernel.flops == times * of_one.flops && kernel.bytes == times * of_one.bytes,
                    "{}",
                    kernel.name
                );
            }
        }
    }
    Ok(())
}

fn compares() -> Outcome {
    let directory = tempfile::tempdir()?;
    let mut old = bench("cpu", directory.path())?;
    // Times are given: what else the machine did while they were measured decides nothing.
    for run in &mut old.devices[0].runs {
        let given = Spread { low: 0.9, median: 1.0, high: 1.2 };
        run.step_ms = given;
        run.kernels.iter_mut().for_each(|kernel| kernel.ms = given);
    }
    let (text, slower) = compare(&old, &old)?;
    require!(slower == 0 && text.contains("0 slower, 0 faster"), "a report differs from itself: {text}");
    let mut new = old.clone();
    let kernel = &mut new.devices[0].runs[1].kernels[3];
    let ms = &mut kernel.ms;
    let far = 10.0 * ms.high + 1.0;
    (ms.low, ms.median, ms.high) = (ms.low + far, ms.median + far, ms.high + far);
    let name = kernel.name.clone();
    let (text, slower) = compare(&old, &new)?;
    require!(slower == 1 && text.contains("SLOWER") && text.contains(&name), "{text}");
    let (text, slower) = compare(&new, &old)?;
    require!(slower == 0 && text.contains("faster") && text.contains(&name), "{text}");
    require!(!text.contains("compared:"), "everything was compared: {text}");
    let mut new = old.clone();
    let ms = &mut new.devices[0].runs[0].step_ms;
    let factor = 4.0 * ms.high / ms.low;
    (ms.low, ms.median, ms.high) = (factor * ms.low, factor * ms.median, factor * ms.high);
    let (text, slower) = compare(&old, &new)?;
    let told = format!("{factor:>6.2} x");
    require!(slower == 1 && text.contains(&told) && text.contains(": step"), "expected '{told}' of a step: {text}");
    let mut fewer = old.clone();
    fewer.devices[0].runs.pop();
    fewer.devices[0].driver = "the CPU engine, 64 threads".into();
    let (text, _) = compare(&old, &fewer)?;
    require!(text.contains("compared: 1 of the 1 runs here with 1 of the 2"), "{text}");
    require!(text.contains("now on the CPU engine, 64 threads, then on"), "{text}");
    new.devices[0].name = "another".into();
    require!(compare(&old, &new).is_err(), "reports of different devices are compared");
    Ok(())
}

fn input() -> Outcome {
    let directory = tempfile::tempdir()?;
    let wrong = directory.path().join("wrong.json");
    std::fs::write(&wrong, "{\"schema\": 1}")?;
    let wrong = wrong.display().to_string();
    // Reports of another shape, and with a step that took no time.
    let mut report = bench("cpu", directory.path())?;
    let other = directory.path().join("bench.json").display().to_string();
    report.devices[0].runs[0].step_ms.low = 0.0;
    let no_time = directory.path().join("no-time.json").display().to_string();
    std::fs::write(&no_time, serde_json::to_string(&report)?)?;
    let cases: &[(&[&str], &str)] = &[
        (&["--device", "no such device"], "no device is called"),
        (&["--program", "fast"], "expected layered, composed or both"),
        (&["--grow", "heads"], "expected p or models"),
        (&["--seconds", "0"], "expected a number of seconds"),
        (&["--seconds", "long"], "expected a number of seconds"),
        (&["--set", "p"], "expected FIELD=VALUE"),
        (&["--set", "p=2"], "expected an integer >= 3"),
        (&["--preset", "none"], "unknown preset"),
        (&["--compare", "nowhere.json"], "nowhere.json"),
        (&["--compare", &wrong], "not a report of grokscope bench"),
        (&["--compare", &no_time], "expected rising times"),
        (&["--device", "cpu", "--compare", &other], "no device and shape in common"),
        (&["--device", "cpu", "--device", "CPU"], "cpu is asked for twice"),
        (&["--set", "p=7", "--grow", "p"], "expected no --set p"),
        (&["--out", "/proc/nowhere"], "--out /proc/nowhere"),
        (&["--device", "cpu", "--set", "split=nowhere.csv"], "nowhere.csv"),
    ];
    for (arguments, expected) in cases {
        let output = grokscope(&[&["bench"], *arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        require!(output.status.code() == Some(1), "{arguments:?} ended with {}: {stderr}", output.status);
        require!(stderr.contains(expected), "{arguments:?}: expected '{expected}' in: {stderr}");
        require!(stderr.trim_end().lines().count() == 1, "{arguments:?}: {stderr}");
    }
    Ok(())
}
