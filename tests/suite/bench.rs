//! `grokscope bench`: what it writes, and that a comparison marks what changed and nothing else. No time decides a test.

use crate::support::{Outcome, grokscope, require, succeed, test, wanted_adapter};
use grokscope::bench::{Report, compare::compare, read};
use grokscope::model::Sizes;
use grokscope::program::{composed, flops, layered};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![
        test("bench_times_every_line_of_both_programs_on_cpu", || every_line("cpu")),
        test("bench_compares_with_an_older_report", compares),
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
    for (run, program) in device.runs.iter().zip([layered::program(), composed::program()]) {
        let shape = grokscope::plan::Shape { p: 13, d_model: 16, n_heads: 4, d_mlp: 24, d_vocab_out: 13 };
        require!(run.rows == 50 && run.program == program.name, "{} on {} rows", run.title(), run.rows);
        require!(run.flops == flops(&program, &Sizes { shape, rows: run.rows }) as f64, "{} operations", run.flops);
        let names: Vec<String> = program.step().map(|call| call.title()).collect();
        require!(run.kernels.iter().map(|kernel| &kernel.name).eq(&names), "{}: other kernels", run.title());
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

fn compares() -> Outcome {
    let directory = tempfile::tempdir()?;
    let old = bench("cpu", directory.path())?;
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
