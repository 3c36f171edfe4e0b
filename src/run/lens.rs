//! TransformerLens's names and shapes: state dicts as safetensors, and the config beside them.

use super::json;
use crate::model::{ABSENT_BIASES, PARAMETERS, Sizes, Weights};
use crate::plan::{Plan, Shape};
use crate::program::State;
use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

type Named<'a> = Vec<(String, Vec<usize>, &'a [f32])>;

fn named<'a>(weights: &'a Weights<f32>, shape: &Shape, name: impl Fn(&crate::model::Parameter) -> String) -> Named<'a> {
    PARAMETERS.iter().zip(&weights.tensors).map(|(p, tensor)| (name(p), p.dims(shape), &tensor[..])).collect()
}

/// Tensors with their names and dimensions as the bytes of a .safetensors file.
pub fn serialize(tensors: &Named) -> Result<Vec<u8>> {
    let mut views = Vec::new();
    for (name, dims, data) in tensors {
        let view = TensorView::new(Dtype::F32, dims.clone(), bytemuck::cast_slice(data));
        views.push((name, view.map_err(|e| anyhow::anyhow!("{name}: {e}"))?));
    }
    safetensors::serialize(views, None).map_err(|e| anyhow::anyhow!("not to be serialized: {e}"))
}

/// `model.safetensors`: the weights, and zeros for the biases that the model does not have.
pub fn model_bytes(weights: &Weights<f32>, shape: &Shape) -> Result<Vec<u8>> {
    let zeros = vec![0.0; shape.d_model.max(shape.d_vocab_out)];
    let mut tensors = named(weights, shape, |p| p.lens.into());
    for (name, axes) in ABSENT_BIASES {
        let dims: Vec<usize> = axes.iter().map(|axis| axis.size(&Sizes { shape: *shape, rows: 0 })).collect();
        let len: usize = dims.iter().product();
        tensors.push((name.to_string(), dims, &zeros[..len]));
    }
    serialize(&tensors)
}

/// `optimizer.safetensors`: AdamW's moments, and the gradients that a filter remembers.
pub fn optimizer_bytes(state: &State<f32>, shape: &Shape) -> Result<Vec<u8>> {
    let mut tensors = named(&state.exp_avg, shape, |p| format!("exp_avg.{}", p.lens));
    tensors.extend(named(&state.exp_avg_sq, shape, |p| format!("exp_avg_sq.{}", p.lens)));
    for (k, copy) in state.grad_memory.iter().enumerate() {
        tensors.extend(named(copy, shape, |p| format!("{}{}", memory_prefix(k), p.lens)));
    }
    serialize(&tensors)
}

/// Before the names of a remembered set of gradients.
fn memory_prefix(copy: usize) -> String {
    format!("grad_memory.{copy}.")
}

/// A safetensors file whose header says everything once; the library would take the last of two tensors of a name.
pub fn open<'a>(bytes: &'a [u8], origin: &str) -> Result<SafeTensors<'a>> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|e| anyhow::anyhow!("{origin}: not a whole safetensors file: {e}"))?;
    let (n, rest) = bytes.split_first_chunk::<8>().context("a file that was read has a header")?;
    let header = rest.get(..u64::from_le_bytes(*n) as usize).context("a file that was read has a header")?;
    json::parse(header, &format!("{origin}, header"))?;
    Ok(file)
}

/// Reads the tensors `prefix` + name of every parameter. `origin` names the file in errors.
pub fn read_weights(bytes: &[u8], shape: &Shape, prefix: &str, origin: &str) -> Result<Weights<f32>> {
    weights_of(&open(bytes, origin)?, shape, prefix, origin)
}

fn weights_of(file: &SafeTensors, shape: &Shape, prefix: &str, origin: &str) -> Result<Weights<f32>> {
    let mut tensors = Vec::new();
    for parameter in &PARAMETERS {
        let name = format!("{prefix}{}", parameter.lens);
        let dims = parameter.dims(shape);
        let optional = matches!(parameter.name, "b_in" | "b_out");
        tensors.push(match file.tensor(&name) {
            Ok(view) => read_tensor(&view, &dims, &name, origin)?,
            Err(_) if optional => vec![0.0; dims.iter().product()],
            Err(_) => bail!(
                "{origin}: no tensor '{name}': expected float32 {dims:?}, and there are {}",
                file.names().join(", ")
            ),
        });
    }
    Ok(Weights { tensors })
}

/// A tensor's values; an error names it where its type, its shape or a number is not as it must be.
pub fn read_tensor(view: &TensorView, dims: &[usize], name: &str, origin: &str) -> Result<Vec<f32>> {
    ensure!(view.dtype() == Dtype::F32, "{origin}: tensor '{name}' is {:?}: expected F32", view.dtype());
    ensure!(view.shape() == dims, "{origin}: tensor '{name}' is {:?}: expected {dims:?}", view.shape());
    let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => bail!("{origin}: tensor '{name}' holds {} at element {at}: expected finite numbers", values[at]),
        None => Ok(values),
    }
}

/// Weights made elsewhere. The biases that this model does not have must be absent or zero.
pub fn read_init(bytes: &[u8], shape: &Shape, origin: &str) -> Result<Weights<f32>> {
    let weights = read_weights(bytes, shape, "", origin)?;
    let file = open(bytes, origin)?;
    for (name, axes) in ABSENT_BIASES {
        let Ok(view) = file.tensor(name) else { continue };
        let dims: Vec<usize> = axes.iter().map(|axis| axis.size(&Sizes { shape: *shape, rows: 0 })).collect();
        refuse_bias(&view, &dims, name, origin)?;
    }
    Ok(weights)
}

/// Refuses a bias that this model does not have, unless it is zero.
pub fn refuse_bias(view: &TensorView, dims: &[usize], name: &str, origin: &str) -> Result<()> {
    let values = read_tensor(view, dims, name, origin)?;
    ensure!(
        values.iter().all(|&value| value == 0.0),
        "{origin}: tensor '{name}' is not zero, and the model has no such bias"
    );
    Ok(())
}

/// `config.json`: what TransformerLens needs to build the model, and a block of our own.
pub fn config(plan: &Plan) -> serde_json::Value {
    let own = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "op": plan.op, "p": plan.p, "split": plan.split, "train_fraction": plan.train_fraction, "seed": plan.seed });
    config_of(&plan.shape(), own)
}

/// The same for a model of which only `own` is known.
pub fn config_of(shape: &Shape, own: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "architecture": "TransformerLensNative",
        "n_layers": 1,
        "n_heads": shape.n_heads,
        "d_model": shape.d_model,
        "d_head": shape.d_head(),
        "d_mlp": shape.d_mlp,
        "act_fn": "relu",
        "normalization_type": null,
        "d_vocab": shape.d_vocab(),
        "d_vocab_out": shape.d_vocab_out,
        "n_ctx": 3,
        "grokscope": own,
    })
}

/// Refuses sizes that no model of this program has.
pub fn check_sizes(
    d_vocab: usize,
    d_vocab_out: usize,
    d_model: usize,
    n_heads: usize,
    d_head: usize,
    d_mlp: usize,
    origin: &str,
) -> Result<()> {
    for (name, size) in [("d_model", d_model), ("n_heads", n_heads), ("d_head", d_head), ("d_mlp", d_mlp)] {
        ensure!((1..=65_536).contains(&size), "{origin}: {name} is {size}: expected an integer in 1..=65536");
    }
    ensure!(
        n_heads * d_head == d_model,
        "{origin}: n_heads * d_head = {}: expected d_model = {d_model}",
        n_heads * d_head
    );
    ensure!((4..=30_001).contains(&d_vocab), "{origin}: d_vocab is {d_vocab}: expected p + 1, with p in 3..=30000");
    let p = d_vocab - 1;
    ensure!(
        d_vocab_out == p || d_vocab_out == d_vocab,
        "{origin}: d_vocab_out is {d_vocab_out}: expected p = {p} or p + 1"
    );
    Ok(())
}

/// What a `config.json` says of a model, ours or one of TransformerLens's.
pub struct Config {
    /// The operation's name in plans.
    pub op: String,
    /// The network's sizes.
    pub shape: Shape,
    /// The split's rule and its train fraction, where a run of ours wrote the file.
    pub split: Option<(String, f64)>,
}

impl Config {
    /// Reads the text of a config. The operation is addition where the file does not say another.
    pub fn read(text: &str, origin: &str) -> Result<Self> {
        let json = json::parse(text.as_bytes(), origin)?;
        let number = |name: &str| {
            let found = json[name].as_u64().filter(|&n| n > 0 && n <= 65_536).map(|n| n as usize);
            found.with_context(|| format!("{origin}: {name} is {}: expected an integer in 1..=65536", json[name]))
        };
        for (name, expected) in [("n_layers", 1), ("n_ctx", 3)] {
            let found = number(name)?;
            ensure!(
                found == expected,
                "{origin}: {name} is {found}: expected {expected}, the model that this program knows"
            );
        }
        let act_fn = &json["act_fn"];
        ensure!(act_fn.as_str() == Some("relu"), "{origin}: act_fn is {act_fn}: expected \"relu\"");
        let normalization = &json["normalization_type"];
        ensure!(
            normalization.is_null(),
            "{origin}: normalization_type is {normalization}: expected null, a model without LayerNorm"
        );
        let (d_model, n_heads, d_mlp) = (number("d_model")?, number("n_heads")?, number("d_mlp")?);
        let (d_vocab, d_head) = (number("d_vocab")?, number("d_head")?);
        let p = d_vocab - 1;
        let d_vocab_out = if json["d_vocab_out"].is_null() { d_vocab } else { number("d_vocab_out")? };
        check_sizes(d_vocab, d_vocab_out, d_model, n_heads, d_head, d_mlp, origin)?;
        let own = &json["grokscope"];
        let split = own["split"].as_str().map(String::from).zip(own["train_fraction"].as_f64());
        if let Some((_, fraction)) = &split {
            ensure!(
                *fraction > 0.0 && *fraction <= 1.0,
                "{origin}: train_fraction is {fraction}: expected a share in (0, 1]"
            );
        }
        let op = own["op"].as_str().unwrap_or("add").into();
        Ok(Self { op, shape: Shape { p, d_model, n_heads, d_mlp, d_vocab_out }, split })
    }
}

/// The step and the checksums of a checkpoint.
pub fn state_json(step: u64, files: &[(&str, Vec<u8>)]) -> serde_json::Value {
    let sums =
        files.iter().map(|(name, bytes)| (name.to_string(), sha256(bytes).into())).collect::<serde_json::Map<_, _>>();
    serde_json::json!({ "schema": 1, "step": step, "sha256": sums })
}

/// SHA-256 of the parameters as float32 in little-endian order, one after the other.
pub fn weights_sha256(weights: &Weights<f32>) -> String {
    let bytes: Vec<u8> = weights.tensors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    sha256(&bytes)
}

/// As 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The state of a checkpoint from its three files, each checked against its sum.
pub fn read_checkpoint(
    step: u64,
    state: &[u8],
    model: &[u8],
    optimizer: &[u8],
    shape: &Shape,
    grad_copies: usize,
    origin: &str,
) -> Result<State<f32>> {
    let json = json::parse(state, &format!("{origin}/state.json"))?;
    ensure!(json["step"].as_u64() == Some(step), "{origin}/state.json: step is {}: expected {step}", json["step"]);
    for (name, bytes) in [("model.safetensors", model), ("optimizer.safetensors", optimizer)] {
        check_whole(&json, name, bytes, origin)?;
    }
    let path = format!("{origin}/optimizer.safetensors");
    let file = open(optimizer, &path)?;
    let moments = |prefix: &str| weights_of(&file, shape, prefix, &path);
    Ok(State {
        weights: read_weights(model, shape, "", &format!("{origin}/model.safetensors"))?,
        exp_avg: moments("exp_avg.")?,
        exp_avg_sq: moments("exp_avg_sq.")?,
        grad_memory: (0..grad_copies).map(|k| moments(&memory_prefix(k))).collect::<Result<_>>()?,
    })
}

/// Refuses a file of a checkpoint that is not the one that its state.json speaks of.
fn check_whole(state: &serde_json::Value, name: &str, bytes: &[u8], origin: &str) -> Result<()> {
    let expected =
        state["sha256"][name].as_str().with_context(|| format!("{origin}/state.json: no sha256 of {name}"))?;
    ensure!(sha256(bytes) == expected, "{origin}/{name}: damaged: its sha256 is not the one in state.json");
    Ok(())
}

/// The weights of a checkpoint, whose state.json has been read too where there is one.
pub fn read_checkpoint_weights(
    state: Option<&[u8]>,
    model: &[u8],
    shape: &Shape,
    origin: &str,
) -> Result<Weights<f32>> {
    if let Some(state) = state {
        check_whole(&json::parse(state, &format!("{origin}/state.json"))?, "model.safetensors", model, origin)?;
    }
    read_init(model, shape, &format!("{origin}/model.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { p: 5, d_model: 6, n_heads: 2, d_mlp: 7, d_vocab_out: 5 }
    }

    #[test]
    fn weights_survive_their_file() {
        let weights = crate::model::initial_weights("paper", 3, &shape());
        let bytes = model_bytes(&weights, &shape()).unwrap();
        assert_eq!(read_init(&bytes, &shape(), "m").unwrap(), weights);
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().names().len(), 16);
    }

    #[test]
    fn a_file_that_is_not_the_model_is_refused_by_name() {
        let weights = crate::model::initial_weights("paper", 3, &shape());
        let bytes = model_bytes(&weights, &shape()).unwrap();
        let error =
            |bytes: &[u8], shape: &Shape| format!("{:#}", read_init(bytes, shape, "m.safetensors").unwrap_err());
        assert!(error(&bytes[..bytes.len() - 1], &shape()).contains("m.safetensors: not a whole safetensors file"));
        let wider = Shape { d_mlp: 8, ..shape() };
        assert!(error(&bytes, &wider).contains("'blocks.0.mlp.W_in' is [6, 7]: expected [6, 8]"));
        let mut nan = weights.clone();
        nan.tensors[0][4] = f32::NAN;
        assert!(error(&model_bytes(&nan, &shape()).unwrap(), &shape()).contains("'embed.W_E' holds NaN at element 4"));
        let without = serialize(&named(&weights, &shape(), |p| p.lens.replace("W_U", "W_X"))).unwrap();
        assert!(error(&without, &shape()).contains("no tensor 'unembed.W_U'"));
        let halves = TensorView::new(Dtype::F16, vec![6, 6], &[0; 72]).unwrap();
        assert!(error(&safetensors::serialize([("embed.W_E", halves)], None).unwrap(), &shape()).contains("F16"));
        let ones = [1.0; 6];
        let mut biased = named(&weights, &shape(), |p| p.lens.into());
        biased.push(("blocks.0.attn.b_O".into(), vec![6], &ones));
        assert!(error(&serialize(&biased).unwrap(), &shape()).contains("b_O' is not zero"));
    }
}
