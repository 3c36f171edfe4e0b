//! The certificate's claims have teeth: for each there are networks that fail it and pass most of the others.
//!
//! In the suite on a network of the preset demo; `scripts/long.sh claims` on seventeen networks of four presets, which
//! prints the table of docs/analysis.md. GROKSCOPE_CLAIMS names the directory that keeps the trained networks.

use crate::near_misses::{Trained, equals_needed, idle_neurons, noisy_embedding, permuted, skip_needed};
use crate::support::{Outcome, require, succeed, test};
use grokscope::analysis::certificate::{Certificate, Verdict};
use grokscope::analysis::group::Group;
use grokscope::analysis::keys::{self, Cut, KeyFrequencies};
use grokscope::analysis::{Findings, Model, Subject};
use grokscope::run::RunDir;
use grokscope::run::inputs::train_pairs;
use grokscope::task::Op;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

pub fn tests() -> Vec<Trial> {
    vec![test("every_claim_is_failed_by_a_near_miss", near_misses)]
}

/// A control: its name, the claims that it has to fail, and what it makes of a network.
struct Control {
    name: &'static str,
    fails: &'static [&'static str],
    network: fn(&Base) -> Result<Judged, Failed>,
}

const CONTROLS: &[Control] = &[
    Control {
        name: "W_out permuted",
        fails: &["generalises", "cosines", "directions"],
        network: |base| judged(&permuted(&base.trained), None),
    },
    Control {
        name: "another's keys",
        fails: &["embedding", "restricted", "excluded", "cosines"],
        network: |base| judged(&base.trained, Some(&base.others)),
    },
    Control { name: "noise in W_E", fails: &["sparse"], network: |base| judged(&noisy_embedding(&base.trained), None) },
    Control { name: "idle neurons", fails: &["neurons"], network: |base| judged(&idle_neurons(&base.trained), None) },
    Control {
        name: "\"=\" needed",
        fails: &["no-equals"],
        network: |base| judged(&equals_needed(&base.trained), None),
    },
    Control { name: "skip needed", fails: &["no-skip"], network: |base| judged(&skip_needed(&base.trained), None) },
    Control { name: "half way", fails: &[], network: |base| judged(&base.half_way, None) },
    Control { name: "memorising", fails: &["generalises"], network: |base| judged(&base.memorising, None) },
    Control { name: "permuted labels", fails: &["generalises", "few"], network: |base| judged(&base.shuffled, None) },
];

/// A trained network with what its controls are made of.
struct Base {
    name: String,
    trained: Trained,
    half_way: Trained,
    memorising: Trained,
    shuffled: Trained,
    /// The keys of another network of the preset.
    others: Vec<usize>,
}

type Judged = Vec<(String, Verdict)>;

fn verdicts(certificate: &Certificate) -> Judged {
    certificate.claims.iter().map(|claim| (claim.name.clone(), claim.verdict)).collect()
}

fn analysed(of: &Trained, keys: Option<&[usize]>) -> Result<Findings, Failed> {
    let subject = Subject::new(of.network(), Some(&of.trained_on));
    let model = Model {
        op: "add".into(),
        p: of.shape.p,
        order: of.group.order(),
        d_model: of.shape.d_model,
        n_heads: of.shape.n_heads,
        d_mlp: of.shape.d_mlp,
        d_vocab_out: of.shape.d_vocab_out,
        parameters: 0,
        step: None,
        weights_sha256: String::new(),
        train_pairs: None,
    };
    let Subject { network, fourier, judge, activations, .. } = &subject;
    let mut found = keys::key_frequencies(network, fourier, judge, &activations.logits);
    if let Some(keys) = keys {
        found.cuts = vec![Cut { frequencies: keys.to_vec(), ratio: 1.0, overturned: false }];
    }
    Ok(subject.findings_of_keys(model, KeyFrequencies { ..found }, || {}))
}

fn judged(of: &Trained, keys: Option<&[usize]>) -> Result<Judged, Failed> {
    Ok(verdicts(&analysed(of, keys)?.certificate))
}

/// Trains an ensemble of a preset, unless that is done, and returns the directories of its models.
fn train(directory: &Path, name: &str, models: usize, arguments: &[&str]) -> Result<Vec<PathBuf>, Failed> {
    let out = directory.join(name);
    let (path, count) = (out.display().to_string(), models.to_string());
    let of_models =
        if models == 1 { vec![out] } else { (0..models).map(|i| out.join(format!("model-{i}"))).collect::<Vec<_>>() };
    if !of_models.iter().all(|model| model.join("summary.json").is_file()) {
        let common = ["train", "--quiet", "--device", "cpu", "--models", &count, "--out", &path];
        succeed(&[&common[..], arguments].concat())?;
    }
    Ok(of_models)
}

fn read(directory: &Path, step: Option<u64>) -> Result<Trained, Failed> {
    let run = RunDir::open(directory)?;
    let steps = run.checkpoints()?;
    let step = step.or(steps.last().copied()).ok_or("no checkpoint")?;
    let nearest = steps.iter().copied().min_by_key(|other| other.abs_diff(step)).ok_or("no checkpoint")?;
    let shape = run.plan.shape();
    // A network that learned other labels is looked at as one that adds.
    let group = Group::of(Op::Add, shape.p).ok_or("no group")?;
    let trained_on = train_pairs(&run.plan, run.split_text()?)?.membership(shape.p);
    Ok(Trained { shape, weights: run.checkpoint_weights(nearest)?, group, trained_on })
}

/// The networks of a preset, with their controls. `pool` collects p and the keys of all networks, which lend them.
fn bases(
    directory: &Path,
    preset: &str,
    models: usize,
    pool: &mut Vec<(usize, Vec<usize>)>,
) -> Result<Vec<Base>, Failed> {
    let grown = train(directory, preset, models, &["--preset", preset])?;
    // For a single network, another seed of the same p lends its keys.
    let lend = ["--preset", if preset == "paper" { "default" } else { preset }, "--seed", "1"];
    let lender = match models {
        1 => train(directory, &format!("{preset}-lender"), 1, &lend)?,
        _ => Vec::new(),
    };
    let never =
        ["--preset", preset, "--steps", "1500", "--set", "stop_after_cleanup=false", "--set", "stop_at_test_loss=0"];
    let memorising =
        train(directory, &format!("{preset}-memorising"), models, &[&never[..], &["--weight-decay", "0"]].concat())?;
    let shuffled =
        train(directory, &format!("{preset}-shuffled"), models, &[&never[..], &["--op", "random"]].concat())?;
    let trained = grown.iter().map(|path| read(path, None)).collect::<Result<Vec<_>, _>>()?;
    let keys = |of: &Trained| -> Result<Vec<usize>, Failed> {
        let subject = Subject::new(of.network(), None);
        let found =
            keys::key_frequencies(&subject.network, &subject.fourier, &subject.judge, &subject.activations.logits);
        Ok(found.keys().to_vec())
    };
    let own: Vec<Vec<usize>> = trained.iter().map(keys).collect::<Result<_, _>>()?;
    let p = trained[0].shape.p;
    pool.extend(own.iter().map(|keys| (p, keys.clone())));
    for path in &lender {
        pool.push((p, keys(&read(path, None)?)?));
    }
    // The keys of the network that shares the fewest: a shared key may carry half of the answers.
    let others = |own: &[usize]| {
        let shared = |keys: &[usize]| keys.iter().filter(|k| own.contains(k)).count();
        let lent = pool.iter().filter(|(of, keys)| *of == p && keys != own).map(|(_, keys)| keys);
        lent.min_by_key(|keys| shared(keys)).cloned().ok_or(format!("{preset}: all networks have the same keys"))
    };
    let mut bases = Vec::new();
    for i in 0..models {
        let rows = RunDir::open(&grown[i])?.metrics()?;
        let generalised = grokscope::learning::Learning::of(&rows).generalised_step;
        bases.push(Base {
            name: format!("{preset} {i}"),
            trained: trained[i].clone(),
            half_way: read(&grown[i], Some(generalised.ok_or(format!("{preset} {i} has not generalised"))? / 2))?,
            memorising: read(&memorising[i], None)?,
            shuffled: read(&shuffled[i], None)?,
            others: others(&own[i])?,
        });
    }
    Ok(bases)
}

fn near_misses() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let presets: &[(&str, usize)] = match std::env::var("GROKSCOPE_CLAIMS") {
        Ok(_) => &[("paper", 1), ("default", 5), ("demo", 5), ("seed", 6)],
        Err(_) => &[("demo", 1)],
    };
    let directory = std::env::var("GROKSCOPE_CLAIMS").map_or(scratch.path().to_path_buf(), PathBuf::from);
    let mut pool = Vec::new();
    let mut columns: Vec<(&str, Vec<Judged>)> = vec![("as trained", Vec::new())];
    columns.extend(CONTROLS.iter().map(|control| (control.name, Vec::new())));
    for (preset, models) in presets {
        for base in bases(&directory, preset, *models, &mut pool)? {
            let whole = analysed(&base.trained, None)?;
            println!("{} {:?} {:?}", base.name, whole.key_frequencies, whole.certificate.verdict);
            for claim in whole.certificate.claims.iter().filter(|claim| claim.verdict != Verdict::Holds) {
                println!("  {}: {:?} {:?} {:?}", claim.name, claim.verdict, claim.value, claim.control);
            }
            let turned = analysed(&permuted(&base.trained), Some(&whole.key_frequencies))?.rotation;
            for &key in &whole.key_frequencies {
                let (own, permuted) = (whole.rotation.own(key), turned.own(key));
                println!("  plane of {key} turns its component: {own:.3?}, with W_out permuted {permuted:.3?}");
                require!(permuted.is_some_and(|permuted| permuted <= 0.0), "{}: key {key}: {permuted:?}", base.name);
            }
            columns[0].1.push(verdicts(&whole.certificate));
            for (control, column) in CONTROLS.iter().zip(&mut columns[1..]) {
                column.1.push((control.network)(&base)?);
            }
        }
    }
    table(&columns);
    let share = |column: &[Judged], claim: &str, wanted: Verdict| {
        let of = |judged: &Judged| judged.iter().any(|(name, verdict)| name == claim && *verdict == wanted);
        column.iter().filter(|judged| of(judged)).count() as f64 / column.len() as f64
    };
    let claims: Vec<String> = columns[0].1[0].iter().map(|(name, _)| name.clone()).collect();
    for claim in &claims {
        let failing = CONTROLS.iter().any(|control| control.fails.contains(&claim.as_str()));
        require!(failing, "no control has to fail {claim}");
    }
    for (control, (_, column)) in CONTROLS.iter().zip(&columns[1..]) {
        for claim in control.fails {
            let failed = share(column, claim, Verdict::Fails);
            require!(failed >= 0.95, "{}: fails {claim} in {failed} of cases", control.name);
        }
    }
    Ok(())
}

/// Pass rates of every claim under every control, as Markdown.
fn table(columns: &[(&str, Vec<Judged>)]) {
    let networks: usize = columns[1..].iter().map(|(_, column)| column.len()).sum();
    println!("{networks} control networks; cells are the share that passes");
    println!("| claim | {} |", columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (i, (claim, _)) in columns[0].1[0].iter().enumerate() {
        let rate = |column: &[Judged]| {
            let passed = column.iter().filter(|judged| judged[i].1 == Verdict::Holds).count();
            format!("{:.2}", passed as f64 / column.len() as f64)
        };
        let cells: Vec<String> = columns.iter().map(|(_, column)| rate(column)).collect();
        println!("| {claim} | {} |", cells.join(" | "));
    }
}
