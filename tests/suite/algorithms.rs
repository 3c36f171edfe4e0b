//! Clock or Pizza, and the rotation test, in words: for trained networks with full, with constant, and with one head's
//! attention the sentences follow from the figures.

use crate::support::{Outcome, require, succeed, test};
use grokscope::analysis::Findings;
use grokscope::analysis::pizza::Algorithm;
use grokscope::model::{PARAMETERS, initial_weights};
use grokscope::plan::preset;
use grokscope::run::lens;
use libtest_mimic::{Failed, Trial};
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    vec![test("sentences_on_the_algorithm_follow_from_the_figures", sentences)]
}

fn sentences() -> Outcome {
    let scratch = tempfile::tempdir()?;
    let init = scratch.path().join("init.safetensors");
    uniform_attention(&init)?;
    let init = init.display().to_string();
    let uniform = told(scratch.path(), "uniform", &["--init", &init])?;
    require!(uniform.clock_or_pizza.gradient_symmetricity_wide > 0.999, "{:?}", uniform.clock_or_pizza);
    let heads = &uniform.attention.heads;
    require!(heads.iter().all(|head| head.mean.iter().all(|mean| (mean - 1.0 / 3.0).abs() < 1e-6)), "{heads:?}");
    told(scratch.path(), "one-headed", &["--n-heads", "1"])?;
    told(scratch.path(), "four-headed", &[])?;
    Ok(())
}

/// Writes initial weights of the preset demo with W_Q and W_K of zero. Their gradients are zero too, so attention stays
/// 1/3 on every position.
fn uniform_attention(path: &Path) -> Outcome {
    let shape = preset("demo")?.shape();
    let mut weights = initial_weights("paper", 0, &shape);
    for (parameter, tensor) in PARAMETERS.iter().zip(&mut weights.tensors) {
        if matches!(parameter.name, "W_Q" | "W_K") {
            tensor.fill(0.0);
        }
    }
    Ok(std::fs::write(path, lens::model_bytes(&weights, &shape)?)?)
}

/// Trains the preset demo so, and holds the page against the findings.
fn told(scratch: &Path, name: &str, arguments: &[&str]) -> Result<Findings, Failed> {
    let out = scratch.join(name);
    let path = out.display().to_string();
    succeed(&[&["train", "--preset", "demo", "--device", "cpu", "--quiet", "--out", &path], arguments].concat())?;
    let findings: Findings = serde_json::from_slice(&std::fs::read(out.join("findings.json"))?)?;
    let page = std::fs::read_to_string(out.join("report.html"))?;
    let pizza = &findings.clock_or_pizza;
    let (symmetricity, irrelevance) =
        (pizza.gradient_symmetricity_wide, pizza.distance_irrelevance.ok_or("no irrelevance")?);
    // The 95th percentile of published Clocks, and where Pizzas begin; the 5th and 95th of their irrelevance.
    let margin = 2.0 * pizza.gradient_symmetricity_wide_error;
    let (is_clock, is_pizza) = (symmetricity + margin <= 0.6522, symmetricity - margin >= 0.95);
    let expected = match (is_clock, is_pizza) {
        (true, _) if irrelevance >= 0.7111 => Algorithm::Clock,
        (_, true) if irrelevance <= 0.8087 => Algorithm::Pizza,
        (false, false) => Algorithm::Between,
        _ => Algorithm::Neither,
    };
    require!(pizza.algorithm == expected, "{name}: {symmetricity}, {irrelevance}: {:?}", pizza.algorithm);
    let sentence = match expected {
        Algorithm::Clock => "This network is a Clock (",
        Algorithm::Pizza => "This network is a Pizza (",
        Algorithm::Between => "neither a Clock nor a Pizza, but between the two (",
        Algorithm::Neither => "neither a Clock nor a Pizza (",
        Algorithm::DoesNotApply => return Err(format!("{name} answers").into()),
    };
    require!(page.contains(sentence), "{name}: the page does not say {sentence:?}");
    for &key in &findings.key_frequencies {
        let own = findings.rotation.own(key).ok_or("no rotation")?;
        let sentence = match own >= 0.5 {
            true => format!("Key {key} follows its own plane, which"),
            false => format!("Key {key} does not follow its own plane"),
        };
        require!(
            page.contains(&sentence),
            "{name}: plane {key} explains {own}, and the page does not say {sentence:?}"
        );
    }
    Ok(findings)
}
