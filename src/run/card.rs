//! The model card: what a repository of models shows first (README.md with front matter as the Hugging Face Hub reads it).

use super::Summary;
use crate::method::{Filter, Loss, Optimizer};
use crate::plan::Plan;
use crate::task::Op;
use anyhow::Result;
use std::fmt::Write;

/// The text of the card. Nothing of it comes from a clock.
pub fn card(plan: &Plan, summary: &Summary) -> Result<String> {
    let task = plan.op.parse::<Op>()?.formula(plan.p);
    let mut text = String::from("---\nlibrary_name: transformer-lens\n");
    text += "tags:\n- grokking\n- mechanistic-interpretability\n- modular-arithmetic\n- grokscope\n";
    if let (Some(accuracy), Some(loss)) = (summary.test_accuracy, summary.test_loss) {
        let pairs = format!("pairs of {task} that were not trained on");
        write!(
            text,
            "model-index:\n- name: {name}\n  results:\n  - task:\n      type: other\n      name: {task}\n    dataset:\n      type: modular-arithmetic\n      name: {pairs}\n    metrics:\n    - type: accuracy\n      value: {accuracy}\n    - type: loss\n      name: cross-entropy in nats\n      value: {loss}\n",
            name = yaml(&format!("grokscope {} {}", plan.op, plan.p)),
            task = yaml(&task),
            pairs = yaml(&pairs),
        )?;
    }
    let shape = plan.shape();
    let grokking = summary.grokking();
    let keys = match summary.key_frequencies.as_deref() {
        None | Some([]) => "none".into(),
        Some(keys) => {
            let list = keys.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            summary.key_cut().filter(|cut| cut != "clear").map_or(list.clone(), |cut| format!("{list} ({cut})"))
        }
    };
    write!(
        text,
        "---\n\n# A transformer on {task}\n\nA one-layer transformer without LayerNorm, trained by grokscope {version} for {steps} steps. It {grokking}.\n\n\
        | | |\n|---|---|\n\
        | tokens | x, y and \"=\" (token {p}); the answer is read off at \"=\" |\n\
        | d_model, heads, d_mlp | {d_model}, {n_heads}, {d_mlp} |\n\
        | classes | {classes} |\n\
        | train pairs | {split}, {fraction} of all |\n\
        | trained by | {method} |\n\
        | initial weights | {init}, seed {seed} |\n\
        | train loss, accuracy | {train_loss:.3e}, {train_accuracy} |\n\
        | test loss, accuracy | {test} |\n\
        | key frequencies | {keys} |\n\n\
        `model.safetensors` is the state dict of a HookedTransformer of TransformerLens, `config.json` its config; `plan.toml` repeats the run \
        (`grokscope train --plan plan.toml`), `findings.json` and `report.html` take the network apart.\n\n\
        ```python\n\
        import json\n\
        from safetensors.torch import load_file\n\
        from transformer_lens.config import TransformerBridgeConfig\n\
        from transformer_lens.model_bridge import TransformerBridge\n\
        from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint\n\n\
        config = TransformerBridgeConfig.from_dict(json.load(open(\"config.json\")))\n\
        bridge = TransformerBridge.boot_native(config)\n\
        bridge.load_state_dict(convert_tl_checkpoint(load_file(\"model.safetensors\"), config), strict=True)\n\
        ```\n",
        version = env!("CARGO_PKG_VERSION"),
        steps = summary.steps,
        p = plan.p,
        d_model = shape.d_model,
        n_heads = shape.n_heads,
        d_mlp = shape.d_mlp,
        classes = shape.d_vocab_out,
        split = plan.split,
        fraction = plan.train_fraction,
        method = method(plan),
        init = plan.init,
        seed = plan.seed,
        train_loss = summary.train_loss,
        train_accuracy = summary.train_accuracy,
        test = summary
            .test_loss
            .zip(summary.test_accuracy)
            .map_or("nothing left to test".into(), |(loss, accuracy)| { format!("{loss:.3e}, {accuracy}") }),
    )?;
    Ok(signed(text))
}

/// Optimizer, what is done to gradients, and the loss.
fn method(plan: &Plan) -> String {
    let Plan { lr, weight_decay, beta1, beta2, momentum, muon_lr, .. } = plan;
    let method = plan.method();
    let nesterov = if plan.nesterov { "Nesterov's momentum" } else { "momentum" };
    let adam = format!("learning rate {lr}, weight decay {weight_decay}, betas {beta1} and {beta2}");
    let mut text = match method.optimizer {
        Optimizer::AdamW => format!("AdamW, {adam}"),
        Optimizer::Adam => format!("Adam, {adam}"),
        Optimizer::Sgd => format!("SGD, learning rate {lr}, weight decay {weight_decay}, {nesterov} {momentum}"),
        Optimizer::Muon => {
            format!(
                "Muon, learning rate {muon_lr}, {nesterov} {momentum}; AdamW for embeddings, biases and unembedding, {adam}"
            )
        }
    };
    let (alpha, lamb) = (plan.grokfast_alpha, plan.grokfast_lamb);
    text += &match method.filter {
        Filter::None => String::new(),
        Filter::Ema => format!("; Grokfast EMA, alpha {alpha}, lamb {lamb}"),
        Filter::Ma { window } => format!("; Grokfast MA, window {window}, lamb {lamb}"),
    };
    text += if method.orthogonal { "; orthogonal gradient" } else { "" };
    text += if method.loss == Loss::StableMax { "; on the cross-entropy of StableMax" } else { "" };
    text
}

const SIGNED: &str = "\n<!-- As grokscope wrote it, and it may write another in its place: ";

/// The text with its checksum behind it.
fn signed(text: String) -> String {
    let sum = super::lens::sha256(text.as_bytes());
    format!("{text}{SIGNED}{sum} -->\n")
}

/// Whether a card is as it was written, so that nothing of anybody's is lost with it.
pub fn is_own(text: &str) -> bool {
    text.rsplit_once(SIGNED).is_some_and(|(card, _)| signed(card.into()) == text)
}

/// A string of YAML: JSON's strings are some.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_somebody_edited_is_theirs() {
        let summary = Summary {
            schema: 1,
            grokked: true,
            grok_step: Some(300),
            steps: 1000,
            train_loss: 1e-7,
            test_loss: Some(2e-6),
            train_accuracy: 1.0,
            test_accuracy: Some(1.0),
            key_frequencies: Some(vec![3, 5]),
            key_cut: Some(crate::analysis::keys::KeyCut { clear: true, ratio: 40.0, in_question: Vec::new() }),
            ms_per_step: None,
            device: "cpu".into(),
            program: "composed".into(),
            learning: None,
            stopped_by: None,
        };
        let card = card(&crate::plan::preset("demo").unwrap(), &summary).unwrap();
        assert!(
            is_own(&card)
                && card.contains("| key frequencies | 3, 5 |")
                && card.contains("# A transformer on x + y mod 59")
        );
        assert!(!is_own(&card.replace("It grokked", "It did not grok")) && !is_own("# Mine") && !is_own(""));
    }
}
