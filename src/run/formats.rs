//! Weights in the layouts of other programs, and out of them.
//!
//! The names and shapes of TransformerLens's HookedTransformer are ours ([`super::lens`]). The code of Nanda et al. 2023 has the same
//! names with every matrix the other way round, heads end to end in W_O, and a mask: `W_E [d_model, d_vocab]`,
//! `W_Q [head, d_head, d_model]`, `W_O [d_model, head d_head]`, `W_in [d_mlp, d_model]`, `W_out [d_model, d_mlp]`; `W_pos` and
//! `W_U` are as here. A TransformerBridge of TransformerLens 4 names PyTorch's layers: `embed.weight`, `blocks.0.attn.q.weight
//! [head d_head, d_model]`, `unembed.weight [d_vocab_out, d_model]`.

use super::lens;
use crate::model::{PARAMETERS, Parameter, Weights};
use crate::plan::Shape;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::str::FromStr;

/// A layout of weights in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A state dict in TransformerLens's names and shapes, as safetensors.
    TransformerLens,
    /// A state dict of the code of Nanda et al. 2023, as safetensors.
    Paper,
    /// NumPy's archive of arrays, in TransformerLens's names and shapes.
    Npz,
}

/// Their names for `--format`.
pub const FORMATS: [&str; 3] = ["transformer-lens", "paper", "npz"];

impl FromStr for Format {
    type Err = anyhow::Error;
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "transformer-lens" => Self::TransformerLens,
            "paper" => Self::Paper,
            "npz" => Self::Npz,
            other => bail!("unknown format '{other}': there are {}", FORMATS.join(", ")),
        })
    }
}

impl Format {
    /// What a file of it is called where nobody says.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::TransformerLens => "transformer-lens.safetensors",
            Self::Paper => "paper.safetensors",
            Self::Npz => "model.npz",
        }
    }
}

/// The bytes of a file of the format.
pub fn write(format: Format, weights: &Weights<f32>, shape: &Shape) -> Result<Vec<u8>> {
    match format {
        Format::TransformerLens => lens::model_bytes(weights, shape),
        Format::Paper => paper(weights, shape),
        Format::Npz => npz(weights, shape),
    }
}

/// Whose names and shapes.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Hooked,
    Paper,
    Bridge,
}

/// A parameter in another layout: its name and dimensions, and, of our own, how many matrices of how many rows and columns change
/// rows and columns for it.
struct Foreign {
    name: String,
    dims: Vec<usize>,
    turned: Option<[usize; 3]>,
}

impl Layout {
    fn of(self, parameter: &Parameter, shape: &Shape) -> Foreign {
        let (d, m, heads, e) = (shape.d_model, shape.d_mlp, shape.n_heads, shape.d_head());
        let is_bridge = self == Self::Bridge;
        let (turned, dims) = match parameter.name {
            _ if self == Self::Hooked => (None, parameter.dims(shape)),
            "W_E" if !is_bridge => (Some([1, shape.d_vocab(), d]), vec![d, shape.d_vocab()]),
            "W_Q" | "W_K" | "W_V" if is_bridge => (Some([heads, d, e]), vec![heads * e, d]),
            "W_Q" | "W_K" | "W_V" => (Some([heads, d, e]), vec![heads, e, d]),
            "W_O" => (Some([1, heads * e, d]), vec![d, heads * e]),
            "W_in" => (Some([1, d, m]), vec![m, d]),
            "W_out" => (Some([1, m, d]), vec![d, m]),
            "W_U" if is_bridge => (Some([1, d, shape.d_vocab_out]), vec![shape.d_vocab_out, d]),
            _ => (None, parameter.dims(shape)),
        };
        let name = if is_bridge { bridge_name(parameter) } else { parameter.lens.into() };
        Foreign { name, dims, turned }
    }
}

/// "blocks.0.attn.W_Q" is "blocks.0.attn.q.weight", "blocks.0.mlp.b_in" is "blocks.0.mlp.in.bias", "embed.W_E" is "embed.weight".
fn bridge_name(parameter: &Parameter) -> String {
    let (module, name) = parameter.lens.rsplit_once('.').expect("names have a module");
    let (kind, layer) = name.split_once('_').expect("names begin with W_ or b_");
    let kind = if kind == "W" { "weight" } else { "bias" };
    if module.contains("blocks") {
        format!("{module}.{}.{kind}", layer.to_lowercase())
    } else {
        format!("{module}.{kind}")
    }
}

/// Every one of `count` matrices of `rows` rows with rows and columns in each other's place.
fn transpose(x: &[f32], [count, rows, columns]: [usize; 3]) -> Vec<f32> {
    let matrix = rows * columns;
    (0..count * matrix).map(|i| x[i / matrix * matrix + i % rows * columns + i % matrix / rows]).collect()
}

fn paper(weights: &Weights<f32>, shape: &Shape) -> Result<Vec<u8>> {
    ensure!(
        shape.d_vocab_out == shape.d_vocab(),
        "the model has {} classes, and the paper's code {}, with \"=\" as the last: expected a model trained with equals_class = true",
        shape.d_vocab_out,
        shape.d_vocab()
    );
    let tensor = |(parameter, x): (&Parameter, &Vec<f32>)| {
        let Foreign { name, dims, turned } = Layout::Paper.of(parameter, shape);
        (name, dims, turned.map_or_else(|| x.clone(), |turned| transpose(x, turned)))
    };
    let mut tensors: Vec<_> = PARAMETERS.iter().zip(&weights.tensors).map(tensor).collect();
    let mask = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0];
    tensors.push(("blocks.0.attn.mask".into(), vec![3, 3], mask.to_vec()));
    lens::serialize(&tensors.iter().map(|(name, dims, x)| (name.clone(), dims.clone(), &x[..])).collect())
}

fn npz(weights: &Weights<f32>, shape: &Shape) -> Result<Vec<u8>> {
    let array = |(parameter, x): (&Parameter, &Vec<f32>)| (parameter.lens.into(), parameter.dims(shape), x.clone());
    archive(&PARAMETERS.iter().zip(&weights.tensors).map(array).collect::<Vec<_>>())
}

/// An array with its name and dimensions.
pub type Array = (String, Vec<usize>, Vec<f32>);

/// NumPy's archive: `NAME.npy` for every array, stored as they are.
pub fn archive(arrays: &[Array]) -> Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, dims, x) in arrays {
        archive.start_file(format!("{name}.npy"), stored)?;
        archive.write_all(&npy_header(dims))?;
        archive.write_all(bytemuck::cast_slice(x))?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The header of version 1.0: magic, length, and a Python dict that ends in a newline at a multiple of 64 bytes.
fn npy_header(dims: &[usize]) -> Vec<u8> {
    let dims: String = dims.iter().map(|n| format!("{n}, ")).collect();
    let mut dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", dims.trim_end());
    const BEFORE: usize = 10;
    let len = (BEFORE + dict.len() + 1).next_multiple_of(64);
    dict += &" ".repeat(len - BEFORE - dict.len() - 1);
    dict.push('\n');
    [b"\x93NUMPY\x01\x00", &(dict.len() as u16).to_le_bytes()[..], dict.as_bytes()].concat()
}

/// Shape and weights of a state dict in one of three layouts: a HookedTransformer's, the paper's (whose W_O has no heads of its own), a
/// TransformerBridge's, in which they cannot be counted, so that `n_heads` has to say it.
pub fn read(bytes: &[u8], n_heads: Option<usize>, origin: &str) -> Result<(Shape, Weights<f32>)> {
    let file = lens::open(bytes, origin)?;
    let dims = |name: &str, rank: usize| -> Result<Vec<usize>> {
        let view = file
            .tensor(name)
            .map_err(|_| anyhow::anyhow!("{origin}: no tensor '{name}': there are {}", file.names().join(", ")))?;
        let dims = view.shape().to_vec();
        ensure!(dims.len() == rank, "{origin}: tensor '{name}' is {dims:?}: expected {rank} dimensions");
        Ok(dims)
    };
    ensure!(
        !file.names().iter().any(|name| name.starts_with("blocks.1.")),
        "{origin}: has a second layer: expected one, the model that this program knows"
    );
    let of_paper = file.tensor("blocks.0.attn.W_O").is_ok_and(|view| view.shape().len() == 2);
    let layout = match file.tensor("embed.weight") {
        Ok(_) => Layout::Bridge,
        Err(_) if of_paper => Layout::Paper,
        Err(_) => Layout::Hooked,
    };
    let (d_vocab, d_model, heads, d_head, d_mlp, d_vocab_out) = match layout {
        Layout::Bridge => {
            let heads = n_heads.with_context(|| {
                format!("{origin}: the state dict of a TransformerBridge does not say how many heads there are: expected --n-heads")
            })?;
            let (embed, q) = (dims("embed.weight", 2)?, dims("blocks.0.attn.q.weight", 2)?);
            let (mlp, unembed) = (dims("blocks.0.mlp.in.weight", 2)?, dims("unembed.weight", 2)?);
            (embed[0], embed[1], heads, q[0].checked_div(heads).unwrap_or(0), mlp[0], unembed[0])
        }
        Layout::Paper | Layout::Hooked => {
            let (embed, q) = (dims("embed.W_E", 2)?, dims("blocks.0.attn.W_Q", 3)?);
            let (mlp, unembed) = (dims("blocks.0.mlp.W_in", 2)?, dims("unembed.W_U", 2)?);
            ensure!(
                n_heads.is_none_or(|n| n == q[0]),
                "{origin}: has {} heads: expected the --n-heads that was given",
                q[0]
            );
            match of_paper {
                true => (embed[1], embed[0], q[0], q[1], mlp[0], unembed[1]),
                false => (embed[0], embed[1], q[0], q[2], mlp[1], unembed[1]),
            }
        }
    };
    lens::check_sizes(d_vocab, d_vocab_out, d_model, heads, d_head, d_mlp, origin)?;
    let shape = Shape { p: d_vocab - 1, d_model, n_heads: heads, d_mlp, d_vocab_out };
    if layout == Layout::Hooked {
        return Ok((shape, lens::read_init(bytes, &shape, origin)?));
    }
    let tensor = |parameter: &Parameter| {
        let Foreign { name, dims, turned } = layout.of(parameter, &shape);
        let view = file.tensor(&name).map_err(|_| anyhow::anyhow!("{origin}: no tensor '{name}'"))?;
        let x = lens::read_tensor(&view, &dims, &name, origin)?;
        Ok(match turned {
            Some([count, rows, columns]) => transpose(&x, [count, columns, rows]),
            None => x,
        })
    };
    let weights = Weights { tensors: PARAMETERS.iter().map(tensor).collect::<Result<_>>()? };
    for name in ["blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.0.attn.o", "unembed"] {
        let Ok(view) = file.tensor(&format!("{name}.bias")) else { continue };
        lens::refuse_bias(&view, view.shape(), &format!("{name}.bias"), origin)?;
    }
    Ok((shape, weights))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::initial_weights;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    fn shape() -> Shape {
        Shape { p: 5, d_model: 6, n_heads: 2, d_mlp: 7, d_vocab_out: 6 }
    }

    #[test]
    fn every_layout_comes_back_as_it_was() {
        let weights = initial_weights("paper", 3, &shape());
        for format in [Format::TransformerLens, Format::Paper] {
            let bytes = write(format, &weights, &shape()).unwrap();
            assert_eq!(read(&bytes, None, "file").unwrap(), (shape(), weights.clone()), "{format:?}");
        }
    }

    #[test]
    fn the_papers_matrices_are_the_other_way_round() {
        let weights = initial_weights("paper", 3, &shape());
        let bytes = paper(&weights, &shape()).unwrap();
        let file = lens::open(&bytes, "file").unwrap();
        let at = |name: &str, i: usize| {
            let data = file.tensor(name).unwrap().data()[4 * i..][..4].to_vec();
            f32::from_le_bytes([data[0], data[1], data[2], data[3]])
        };
        // W_K [head 1, d_head 2, d_model 4] and W_O [d_model 5, head 1, d_head 2] of [2, 3, 6] and [6, 6].
        assert_eq!(at("blocks.0.attn.W_K", (3 + 2) * 6 + 4), weights.get("W_K")[(6 + 4) * 3 + 2]);
        assert_eq!(at("blocks.0.attn.W_O", 5 * 6 + 3 + 2), weights.get("W_O")[(3 + 2) * 6 + 5]);
        assert_eq!(at("embed.W_E", 5 * 6 + 2), weights.get("W_E")[2 * 6 + 5]);
        assert_eq!(file.tensor("blocks.0.mlp.W_in").unwrap().shape(), [7, 6]);
        let narrow = Shape { d_vocab_out: 5, ..shape() };
        let error = paper(&initial_weights("paper", 3, &narrow), &narrow).unwrap_err().to_string();
        assert!(error.contains("5 classes") && error.contains("equals_class = true"), "{error}");
    }

    /// A TransformerBridge's state dict, with its linear layers as PyTorch has them: [out, in].
    #[test]
    fn a_bridge_is_read_where_its_heads_are_counted() {
        let (shape, weights) = (shape(), initial_weights("paper", 3, &shape()));
        let of = |name: &str| weights.get(name);
        let linear = |x: &[f32], rows, columns| transpose(x, [1, rows, columns]);
        let heads = |x: &[f32]| [linear(&x[..18], 6, 3), linear(&x[18..], 6, 3)].concat();
        let all = [
            ("embed.weight", vec![6, 6], of("W_E").to_vec()),
            ("pos_embed.weight", vec![3, 6], of("W_pos").to_vec()),
            ("blocks.0.attn.q.weight", vec![6, 6], heads(of("W_Q"))),
            ("blocks.0.attn.k.weight", vec![6, 6], heads(of("W_K"))),
            ("blocks.0.attn.v.weight", vec![6, 6], heads(of("W_V"))),
            ("blocks.0.attn.o.weight", vec![6, 6], linear(of("W_O"), 6, 6)),
            ("blocks.0.mlp.in.weight", vec![7, 6], linear(of("W_in"), 6, 7)),
            ("blocks.0.mlp.in.bias", vec![7], of("b_in").to_vec()),
            ("blocks.0.mlp.out.weight", vec![6, 7], linear(of("W_out"), 7, 6)),
            ("blocks.0.mlp.out.bias", vec![6], of("b_out").to_vec()),
            ("unembed.weight", vec![6, 6], linear(of("W_U"), 6, 6)),
            ("unembed.bias", vec![6], vec![0.0; 6]),
        ];
        let file = |all: &[(&str, Vec<usize>, Vec<f32>)]| {
            let view = |(name, dims, x): &(&str, Vec<usize>, Vec<f32>)| {
                (name.to_string(), dims.clone(), x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
            };
            let bytes: Vec<_> = all.iter().map(view).collect();
            let views =
                bytes.iter().map(|(name, dims, x)| (name, TensorView::new(Dtype::F32, dims.clone(), x).unwrap()));
            safetensors::serialize(views, None).unwrap()
        };
        let bytes = file(&all);
        assert_eq!(read(&bytes, Some(2), "file").unwrap(), (shape, weights.clone()));
        let error = |bytes: &[u8], heads| format!("{:#}", read(bytes, heads, "file").unwrap_err());
        assert!(error(&bytes, None).contains("expected --n-heads"));
        assert!(error(&bytes, Some(4)).contains("n_heads * d_head = 4: expected d_model = 6"));
        let mut biased = all.clone();
        biased[11].2[3] = 1.0;
        assert!(error(&file(&biased), Some(2)).contains("'unembed.bias' is not zero"));
    }

    #[test]
    fn what_is_no_such_model_is_refused_by_name() {
        let error = |bytes: &[u8]| format!("{:#}", read(bytes, None, "file").unwrap_err());
        assert!(error(b"nothing").contains("file: not a whole safetensors file"));
        let one = TensorView::new(Dtype::F32, vec![6, 6], &[0; 144]).unwrap();
        let bytes = safetensors::serialize([("embed.W_E", one)], None).unwrap();
        assert!(error(&bytes).contains("no tensor 'blocks.0.attn.W_Q': there are embed.W_E"));
    }

    #[test]
    fn headers_of_arrays_end_on_whole_lines() {
        let header = npy_header(&[114, 128]);
        assert_eq!(header.len() % 64, 0);
        assert!(header.ends_with(b"\n") && String::from_utf8_lossy(&header).contains("'shape': (114, 128,), }"));
        assert!(String::from_utf8_lossy(&npy_header(&[7])).contains("'shape': (7,), }"));
    }
}
