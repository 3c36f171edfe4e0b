//! The analysis beside NumPy, and the page in Chromium: scripts under tests/ that look at what the program wrote.

use crate::support::{Outcome, require, succeed, test};
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn tests() -> Vec<Trial> {
    vec![
        test("workflows_pass_actionlint", actionlint),
        test("dependencies_pass_cargo_deny", cargo_deny),
        test("the_python_module_is_the_program_and_its_files", python_module),
        test("numpy_agrees_on_a_run_and_its_checkpoints", numpy_on_runs),
        test("numpy_agrees_on_models_made_elsewhere", numpy_on_models),
        test("numpy_notices_a_wrong_number", numpy_notices),
        test("the_page_is_read_in_chromium", page),
        test("pages_of_unusual_networks_open_without_a_complaint", unusual_pages),
    ]
}

/// Runs a script of tests/ in the virtual environment that scripts/test.sh makes.
fn python(script: &str, arguments: &[&str]) -> Result<std::process::Output, Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/test-venv/bin/python");
    require!(python.is_file(), "{} is not there: expected scripts/test.sh to have made it", python.display());
    let mut command = Command::new(python);
    // Tests run side by side already; threads of NumPy's would only get into each other's way.
    command.arg(root.join("tests").join(script)).args(arguments).env("OPENBLAS_NUM_THREADS", "1");
    Ok(command.output()?)
}

fn agrees(script: &str, arguments: &[&str]) -> Outcome {
    let output = python(script, arguments)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    require!(
        output.status.success(),
        "{script} {arguments:?}: {}{}",
        text(&output.stdout).lines().take(40).collect::<Vec<_>>().join("\n"),
        text(&output.stderr)
    );
    print!("{}", text(&output.stdout));
    Ok(())
}

/// Trains a network of a second.
fn train(directory: &Path, more: &[&str]) -> Result<PathBuf, Failed> {
    let out = directory.join("run").display().to_string();
    // Fields set here give way to the flags of a case.
    let small = ["--set", "d_model=16", "--set", "d_mlp=24", "--set", "steps=300"];
    let schedule = ["--eval-every", "100", "--checkpoint-every", "100", "--out", &out];
    succeed(&[&["train", "--quiet", "--device", "cpu", "--preset", "demo"], &small[..], &schedule, more].concat())?;
    Ok(directory.join("run"))
}

fn numpy_on_runs() -> Outcome {
    let cases: &[&[&str]] = &[
        &["--p", "13"],
        &["--p", "12", "--split", "torch:598"],
        &["--p", "17", "--op", "sub", "--split", "python:0"],
        &["--p", "13", "--op", "mul", "--n-heads", "2"],
        &["--p", "13", "--op", "div"],
        // What is no cyclic group.
        &["--p", "9", "--op", "div", "--split", "torch:3"],
        &["--p", "12", "--op", "mul"],
        &["--p", "11", "--op", "squares"],
        &["--p", "11", "--op", "quadratic", "--split", "python:1"],
        &["--p", "11", "--op", "cubic"],
        &["--p", "11", "--op", "random", "--set", "equals_class=true"],
        &["--p", "120", "--op", "s5", "--steps", "100"],
        &["--p", "11", "--set", "equals_class=true", "--init", "transformer-lens"],
        &["--p", "11", "--train-fraction", "1"],
        // Five times chance is everything.
        &["--p", "5", "--train-fraction", "1"],
        // Wide enough for clusters and keys, and grown up.
        GROWN_UP,
    ];
    for more in cases {
        let directory = tempfile::tempdir()?;
        let run = train(directory.path(), more)?;
        agrees("numpy/check.py", &[&run.display().to_string()])?;
    }
    Ok(())
}

fn numpy_on_models() -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = train(directory.path(), &["--p", "13"])?;
    let model = directory.path().join("model");
    std::fs::create_dir(&model)?;
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(run.join(name), model.join(name))?;
    }
    let pairs = (0..13).flat_map(|x| (0..x).map(move |y| format!("{x},{y}\n"))).collect::<String>();
    let split = directory.path().join("split.csv");
    std::fs::write(&split, format!("x,y\n{pairs}"))?;
    let (model, split) = (model.display().to_string(), split.display().to_string());
    succeed(&["analyze", "--quiet", &model, "--split", &split])?;
    agrees("numpy/check.py", &[&model, "--split", &split])
}

/// The check has teeth: each of these changes of a digit has to be found.
fn numpy_notices() -> Outcome {
    notices(&["--p", "13"], SMALL_PLACES)?;
    notices(GROWN_UP, KEY_PLACES)
}

/// Numbers of the findings of any network.
const SMALL_PLACES: &[&str] = &[
    "/spectra/W_E/gini",
    "/spectra/W_L/components/3",
    "/neurons/fve/5",
    "/attention/heads/1/slope",
    "/attention/heads/0/explained",
    "/attention/linear/all/loss",
    "/ablations/4/mean/test/loss",
    "/effective_weights/simplified/rms",
    "/logits/alpha/2",
    "/clock_or_pizza/gradient_symmetricity_wide",
    "/clock_or_pizza/gradient_symmetricity_error",
    "/keys/contributions/4",
    "/paths/contributions/1/0",
    "/progress/checkpoints/1/W_L/gini",
    "/squares/tensors/W_V",
];

/// A network wide enough for clusters and keys.
const GROWN_UP: &[&str] =
    &["--p", "31", "--d-model", "48", "--d-mlp", "96", "--train-fraction", "0.8", "--steps", "1200"];

/// Numbers of the findings of a network with key frequencies.
const KEY_PLACES: &[&str] = &[
    "/keys/cuts/0/ratio",
    "/keys/cuts/1/ratio",
    "/keys/decided",
    "/keys/kept/test/loss",
    "/keys/removed/all/loss",
    "/key_power/W_L",
    "/key_power/W_E",
    "/rotation/explained/0/0",
    "/rotation/changed/0/0",
    "/coherence/0/coherence",
    "/coherence/0/angle",
    "/coherence/0/permuted",
    "/restricted/variants/0/loss/restricted/test/loss",
    "/restricted/variants/1/loss/excluded/train/loss",
];

fn notices(arguments: &[&str], places: &[&str]) -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = train(directory.path(), arguments)?;
    let path = run.join("findings.json");
    agrees("numpy/check.py", &[&run.display().to_string()])?;
    let findings: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    for place in places {
        let mut wrong = findings.clone();
        let number = wrong.pointer_mut(place).ok_or(format!("{place} is not in the findings"))?;
        let value = number.as_f64().ok_or(format!("{place} is no number"))?;
        *number = (value * (1.0 + 1e-7) + 1e-9).into();
        std::fs::write(&path, serde_json::to_vec(&wrong)?)?;
        let output = python("numpy/check.py", &[&run.display().to_string()])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // The name of the place in the check's own spelling: fields with dots, indices in brackets.
        let steps = place[1..].split('/').map(|step| match step.parse::<usize>() {
            Ok(index) => format!("[{index}]"),
            Err(_) => format!(".{step}"),
        });
        let named = steps.collect::<String>();
        let found = output.status.code() == Some(1) && said.contains(&named[1..]);
        require!(found, "{place} was wrong by 1e-7 and this was said: {said}");
    }
    Ok(())
}

fn page() -> Outcome {
    let directory = tempfile::tempdir()?;
    let run = directory.path().join("run").display().to_string();
    succeed(&["train", "--quiet", "--device", "cpu", "--preset", "demo", "--out", &run])?;
    agrees("page/page.py", &[&run])
}

/// No keys, no test pairs, a product, a difference, a single checkpoint: whatever is missing, the page says so and works.
fn unusual_pages() -> Outcome {
    let cases: &[&[&str]] = &[
        &["--p", "13"],
        &["--p", "11", "--train-fraction", "1"],
        &["--p", "13", "--op", "mul"],
        &["--p", "12", "--op", "sub"],
        &["--p", "13", "--op", "div"],
        &["--p", "13", "--op", "cubic"],
        &["--p", "120", "--op", "s5", "--steps", "100"],
    ];
    let mut directories = Vec::new();
    for more in cases {
        let directory = tempfile::tempdir()?;
        train(directory.path(), more)?;
        directories.push(directory);
    }
    let run = directories[0].path().join("run");
    let model = directories[0].path().join("model");
    std::fs::create_dir(&model)?;
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(run.join(name), model.join(name))?;
    }
    succeed(&["analyze", "--quiet", &model.display().to_string()])?;
    let runs = directories.iter().map(|directory| directory.path().join("run"));
    let pages: Vec<String> = runs.chain([model]).map(|run| run.display().to_string()).collect();
    let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
    agrees("page/page.py", &[&["--open-only"], &pages[..]].concat())
}

/// The module that scripts/test.sh has installed from this tree, beside the program that it came with.
fn python_module() -> Outcome {
    agrees("python/module.py", &[])
}

/// The workflows, by actionlint itself.
fn actionlint() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/test-venv/bin/actionlint");
    require!(program.exists(), "{} is not there: expected scripts/test.sh to have made it", program.display());
    let files: Vec<_> = std::fs::read_dir(root.join(".github/workflows"))?.collect::<Result<_, _>>()?;
    require!(!files.is_empty(), "there is no workflow");
    let output = Command::new(program).args(files.iter().map(|file| file.path())).output()?;
    require!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Licences, sources, and no crate twice or that speaks to a network, by cargo-deny itself. Advisories are asked for in the workflow: their
/// database is on a server that a test must not depend on.
fn cargo_deny() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/test-venv/bin/cargo-deny");
    require!(program.exists(), "{} is not there: expected scripts/test.sh to have made it", program.display());
    let arguments = ["--locked", "check", "bans", "licenses", "sources"];
    let output = Command::new(program).args(arguments).current_dir(root).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    require!(output.status.success(), "{told}");
    // A list that allows more than there is hides what comes in later.
    require!(!told.contains("not-encountered") && !told.contains("unmatched"), "{told}");
    Ok(())
}
