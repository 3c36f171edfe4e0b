//! Key frequencies of many networks: the keys carry the answers, and other frequencies do not.
//!
//! `scripts/long.sh keys` trains the sweeps of tests/keys (GROKSCOPE_KEYS names their directories) and prints the table of
//! docs/analysis.md. In the suite the same is held for a few small networks.

use crate::support::{Outcome, grokscope, require, succeed, test};
use grokscope::analysis::group::Group;
use grokscope::analysis::keys::{self, components};
use grokscope::analysis::network::Network;
use grokscope::analysis::{Subject, scores::Scores};
use grokscope::run::RunDir;
use grokscope::run::inputs::train_pairs;
use grokscope::task::philox_permutation;
use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

pub fn tests() -> Vec<Trial> {
    vec![
        test("keys_carry_the_answers_of_many_networks", many),
        test("keys_by_an_earlier_rule_are_marked_and_found_again_on_request", earlier_rule),
    ]
}

/// Random sets for each network, each with as many non-key frequencies as there are keys.
const DRAWS: u64 = 20;

/// Measures of one network.
struct Told {
    name: String,
    test: f64,
    keys: Vec<usize>,
    /// The keys' contributions over the next.
    ratio: f64,
    /// The largest between neighbours, whether the keys end there or not.
    largest: f64,
    clear: bool,
    /// Accuracy on all pairs without the keys in the logits, in units of guessing, 1 / n.
    without: f64,
    /// Median over the random sets of the accuracy without the set, relative to the network's accuracy.
    without_others: f64,
    kept: f64,
}

fn tell(path: &Path) -> Result<Option<Told>, Failed> {
    let run = RunDir::open(path)?;
    let (plan, steps) = (&run.plan, run.checkpoints()?);
    let Some(&last) = steps.last() else { return Ok(None) };
    let group = Group::of(plan.op.parse()?, plan.p).ok_or("no group")?;
    let trained_on = train_pairs(plan, run.split_text()?)?.membership(plan.p);
    let network = Network::new(plan.shape(), &run.checkpoint_weights(last)?, group);
    let subject = Subject::new(network, Some(&trained_on));
    let Subject { network, fourier, judge, activations, .. } = &subject;
    let logits = &activations.logits;
    let found = keys::key_frequencies(network, fourier, judge, logits);
    let scores = judge.scores(network, logits);
    let without = |set: &[usize]| -> Scores {
        let rest: Vec<f64> = logits.iter().zip(components(fourier, logits, set)).map(|(l, c)| l - c).collect();
        judge.scores(network, &rest)
    };
    let others: Vec<usize> = fourier.frequencies().filter(|k| !found.keys().contains(k)).collect();
    let draw = |seed: u64| -> Vec<usize> {
        let order = philox_permutation(seed, others.len());
        order.iter().take(found.keys().len()).map(|&i| others[i as usize]).collect()
    };
    let mut left: Vec<f64> = (0..DRAWS).map(|seed| without(&draw(seed)).all.accuracy / scores.all.accuracy).collect();
    left.sort_by(f64::total_cmp);
    let shape = plan.shape();
    Ok(Some(Told {
        name: format!(
            "p {} d_model {} heads {} d_mlp {} seed {}",
            shape.p, shape.d_model, shape.n_heads, shape.d_mlp, plan.seed
        ),
        test: scores.unseen().accuracy,
        ratio: found.cuts.first().map_or(0.0, |cut| cut.ratio),
        largest: found.cuts.iter().map(|cut| cut.ratio).fold(0.0, f64::max),
        clear: found.clear,
        without: found.removed.all.accuracy * network.order() as f64,
        without_others: (left[left.len() / 2 - 1] + left[left.len() / 2]) / 2.0,
        kept: found.kept.all.accuracy,
        keys: found.keys().to_vec(),
    }))
}

/// The files of a run as version 1 of the findings left them.
fn earlier_rule() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let (root, run) = (scratch.path().display().to_string(), scratch.path().join("run"));
    let path = run.display().to_string();
    let size = ["--p", "31", "--d-model", "48", "--d-mlp", "96", "--train-fraction", "0.8", "--steps", "1200"];
    succeed(&[&["train", "--device", "cpu", "--quiet", "--out", &path][..], &size].concat())?;
    let (summary, findings) = (run.join("summary.json"), run.join("findings.json"));
    let whole = (std::fs::read(&summary)?, std::fs::read(&findings)?, std::fs::read(run.join("README.md"))?);
    let mut old: serde_json::Value = serde_json::from_slice(&whole.0)?;
    let fields = old.as_object_mut().ok_or("no fields")?;
    require!(fields.remove("key_cut").is_some_and(|cut| !cut.is_null()), "no key frequencies: {fields:?}");
    fields.insert("key_frequencies".into(), serde_json::json!([1, 2]));
    std::fs::write(&summary, serde_json::to_vec(&old)?)?;
    let mut old: serde_json::Value = serde_json::from_slice(&whole.1)?;
    old["schema"] = 1.into();
    std::fs::write(&findings, serde_json::to_vec(&old)?)?;
    let list = || String::from_utf8_lossy(&grokscope(&["runs", &root]).stdout).into_owned();
    require!(list().contains("earlier rule"), "{}", list());
    let refused = grokscope(&["report", &path]);
    let said = String::from_utf8_lossy(&refused.stderr);
    require!(refused.status.code() == Some(1) && said.contains("grokscope analyze"), "{said}");
    succeed(&["analyze", "--quiet", &path])?;
    let again = (std::fs::read(&summary)?, std::fs::read(&findings)?, std::fs::read(run.join("README.md"))?);
    require!(again == whole, "the run is not what it was");
    require!(list().contains("clear") && !list().contains("earlier rule"), "{}", list());
    succeed(&["report", &path])
}

fn runs(sweep: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(sweep.join("runs"))?.map(|entry| Ok(entry?.path())).collect::<Result<_, Failed>>()?;
    paths.retain(|path| path.join("summary.json").is_file());
    paths.sort();
    Ok(paths)
}

fn many() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let sweeps: Vec<PathBuf> = match std::env::var("GROKSCOPE_KEYS") {
        Ok(list) => list.split(',').map(PathBuf::from).collect(),
        Err(_) => {
            let (plan, out) = (scratch.path().join("sweep.toml"), scratch.path().join("few"));
            let small = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys/small.toml"))?;
            std::fs::write(&plan, small.replace("draws = 200", "draws = 6").replace("steps = 8000", "steps = 4000"))?;
            let (plan, out_) = (plan.display().to_string(), out.display().to_string());
            succeed(&["sweep", "run", &plan, "--out", &out_, "--device", "cpu", "--quiet"])?;
            vec![out]
        }
    };
    println!(
        "| sweep | networks | test >= 99 % | largest ratio >= 8 | ratio of the keys >= 8 | clear | worst left without keys, in guesses | worst median left without others | keys | accuracy of the keys alone, least and median |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut wrong = Vec::new();
    let (mut generalising, mut unclear) = (0, 0);
    for sweep in &sweeps {
        let told: Vec<Told> =
            runs(sweep)?.iter().filter_map(|path| tell(path).transpose()).collect::<Result<_, _>>()?;
        let good: Vec<&Told> = told.iter().filter(|told| told.test >= 0.99).collect();
        let cut: Vec<&&Told> = good.iter().filter(|told| told.ratio >= 8.0).collect();
        let clear = good.iter().filter(|told| told.clear).count();
        let most = |of: &dyn Fn(&Told) -> f64| cut.iter().map(|told| of(told)).fold(f64::NEG_INFINITY, f64::max);
        let least = |of: &dyn Fn(&Told) -> f64| cut.iter().map(|told| of(told)).fold(f64::INFINITY, f64::min);
        let mut kept: Vec<f64> = cut.iter().map(|told| told.kept).collect();
        kept.sort_by(f64::total_cmp);
        println!(
            "| {} | {} | {} | {} | {} | {clear} | {:.2} | {:.3} | {} to {} | {:.2}, {:.2} |",
            sweep.file_name().unwrap_or_default().to_string_lossy(),
            told.len(),
            good.len(),
            good.iter().filter(|told| told.largest >= 8.0).count(),
            cut.len(),
            most(&|told| told.without),
            least(&|told| told.without_others),
            least(&|told| told.keys.len() as f64),
            most(&|told| told.keys.len() as f64),
            kept.first().copied().unwrap_or(f64::NAN),
            kept.get(kept.len() / 2).copied().unwrap_or(f64::NAN),
        );
        for told in &good {
            if !told.clear {
                println!(
                    "  not clear: {} test {:.3}: {:?} ratio {:.1}, {:.1} guesses left",
                    told.name, told.test, told.keys, told.ratio, told.without
                );
            }
        }
        for told in &cut {
            if told.without > 5.0 || told.without_others < 0.9 {
                wrong.push(format!(
                    "{}: {:?}: {:.2} guesses left without the keys, {:.3} without others",
                    told.name, told.keys, told.without, told.without_others
                ));
            }
        }
        generalising += good.len();
        unclear += good.len() - clear;
    }
    require!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{unclear} of {generalising} networks have no clear cut");
    require!(
        generalising > 0 && unclear * 10 <= generalising,
        "{unclear} of {generalising} networks have no clear cut"
    );
    Ok(())
}
