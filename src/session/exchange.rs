//! Weights to other programs and from them.

use crate::devices;
use crate::model::{Sizes, Tensor, Weights};
use crate::plan::Shape;
use crate::program::batch::Layout;
use crate::program::on_cpu::OnCpu;
use crate::program::{State, layered};
use crate::run::formats::{self, Array, Format};
use crate::run::lens::{self, Config};
use crate::run::{RunDir, disk};
use crate::task::{Op, Pairs, Split};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A network of a run (its last checkpoint, or another), or a model made elsewhere.
fn network(directory: &Path, step: Option<u64>) -> Result<(Op, Shape, Weights<f32>)> {
    if directory.join("plan.toml").is_file() {
        let run = RunDir::open(directory)?;
        let last = || run.checkpoints()?.pop().with_context(|| format!("{}: no checkpoint", directory.display()));
        let step = step.map_or_else(last, Ok)?;
        return Ok((run.plan.op.parse()?, run.plan.shape(), run.checkpoint_weights(step)?));
    }
    ensure!(step.is_none(), "--step: {} is no run: expected one that has checkpoints", directory.display());
    let (config, model) = (directory.join("config.json"), directory.join("model.safetensors"));
    let Config { op, shape, .. } = Config::read(&disk::read_text(&config)?, &config.display().to_string())?;
    Ok((op.parse()?, shape, lens::read_init(&disk::read(&model)?, &shape, &model.display().to_string())?))
}

/// Writes the weights of a network in another format.
pub fn export(directory: &Path, format: Format, step: Option<u64>, out: Option<&Path>) -> Result<PathBuf> {
    let (_, shape, weights) = network(directory, step)?;
    let bytes = formats::write(format, &weights, &shape).with_context(|| directory.display().to_string())?;
    let out = out.map_or_else(|| directory.join(format.file_name()), Path::to_path_buf);
    disk::write_whole(&out, &bytes)?;
    Ok(out)
}

/// Tensors of the forward pass at "=", by the names of TransformerLens's hooks.
const ACTIVATIONS: [(&str, &str); 7] = [
    ("pattern", "blocks.0.attn.hook_pattern"),
    ("z", "blocks.0.attn.hook_z"),
    ("resid_mid", "blocks.0.hook_resid_mid"),
    ("pre", "blocks.0.mlp.hook_pre"),
    ("post", "blocks.0.mlp.hook_post"),
    ("resid_post", "blocks.0.hook_resid_post"),
    ("logits", "logits"),
];

/// Writes what a network computes on every pair that has a label, as NumPy's archive: `pairs` [row, 2], `labels`, a number a row, and the
/// activations at "=" [row, ..], computed in float64.
pub fn export_activations(directory: &Path, step: Option<u64>, out: Option<&Path>) -> Result<PathBuf> {
    let (op, shape, weights) = network(directory, step)?;
    let pairs = Pairs::grid(op, shape.p);
    let rows = pairs.len();
    let wide = (ACTIVATIONS.len() * rows * shape.d_mlp.max(shape.d_vocab_out) * 8) as u64;
    devices::check_memory(wide, &format!("the activations of p = {}", shape.p), "a smaller p or d_mlp")?;
    let layout = Layout::new(shape, std::slice::from_ref(&pairs), std::slice::from_ref(&pairs));
    let mut machine = OnCpu::<f64>::new(&layered::program(), layout, 0)?;
    machine.write_state(0, &State::fresh(weights.map(|&x| f64::from(x))));
    machine.evaluate();
    let numbers = |x: &mut dyn Iterator<Item = u32>| x.map(|x| x as f32).collect::<Vec<_>>();
    let mut arrays: Vec<Array> = vec![
        ("pairs".into(), vec![rows, 2], numbers(&mut pairs.pairs.iter().flatten().copied())),
        ("labels".into(), vec![rows], numbers(&mut pairs.labels.iter().copied())),
    ];
    for (name, hook) in ACTIVATIONS {
        let tensor = Tensor::find(name).with_context(|| format!("no tensor {name}"))?;
        let values = machine.rows_of_grid(0, name).into_iter().map(|x| x as f32).collect();
        arrays.push((hook.into(), tensor.dims(&Sizes { shape, rows }), values));
    }
    let out = out.map_or_else(|| directory.join("activations.npz"), Path::to_path_buf);
    disk::write_whole(&out, &formats::archive(&arrays)?)?;
    Ok(out)
}

/// What is known of a model made elsewhere.
pub struct Origin<'a> {
    /// The operation's name in plans.
    pub op: &'a str,
    /// Where the file does not say.
    pub n_heads: Option<usize>,
    /// The rule that chose its train pairs, and their share.
    pub split: Option<(&'a str, f64)>,
}

/// Makes a directory that `analyze` takes from a state dict: config.json and model.safetensors.
pub fn import(file: &Path, out: &Path, origin: &Origin) -> Result<()> {
    ensure!(!out.exists(), "{}: is there already: expected a new directory", out.display());
    let (shape, weights) = formats::read(&disk::read(file)?, origin.n_heads, &file.display().to_string())?;
    origin.op.parse::<Op>()?.check(shape.p)?;
    let mut own = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "op": origin.op, "p": shape.p });
    if let Some((rule, fraction)) = origin.split {
        ensure!(
            !matches!(rule.parse()?, Split::File(_)),
            "--split {rule}: expected a rule such as torch:598; a file of pairs is given to analyze, by --split"
        );
        ensure!(fraction > 0.0 && fraction <= 1.0, "--train-fraction {fraction}: expected a share in (0, 1]");
        own["split"] = rule.into();
        own["train_fraction"] = fraction.into();
    }
    let config = crate::run::pretty(&lens::config_of(&shape, own))?;
    let model = lens::model_bytes(&weights, &shape)?;
    disk::write_new_directory(out, &[("config.json", config), ("model.safetensors", model)])
}
