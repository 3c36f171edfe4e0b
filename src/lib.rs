//! grokscope trains a one-layer transformer on modular arithmetic until it groks, and takes it apart.
//!
//! A [`plan::Plan`] says everything that decides a run. [`task`] makes its pairs and their split, [`model`] its tensors and
//! first weights. A program of [`program`] is the list of kernel calls of a training step; [`program::on_gpu`] runs it as WGSL
//! on a device, [`program::on_cpu`] as the twins of [`cpu`]. [`train`] is the loop round it, [`session`] gives it a directory
//! ([`run`]), a device ([`devices`]) and something to show ([`progress`]), and [`analysis`] reads the result.
//!
//! # Shapes
//!
//! Names are those of TransformerLens and of Nanda et al. 2023 (arXiv 2301.05217); products are `x @ W`.
//!
//! | axis | counts |
//! |---|---|
//! | model | networks trained side by side; leads every tensor and is left out below |
//! | row | pairs (x, y) of the batch |
//! | pos | 0: x, 1: y, 2: "=" |
//! | slot | the 2p + 1 (token, pos) that occur: x, p + y, 2p |
//! | head, d_head | n_heads * d_head = d_model |
//! | d_vocab | p + 1 tokens, "=" being token p |
//! | d_vocab_out | p classes, or p + 1 |
//!
//! ```text
//! resid_pre[slot] = W_E[token] + W_pos[pos]                       [slot, d_model]
//! q = resid_pre[=] W_Q;  k = resid_pre W_K;  v = resid_pre W_V    [head, d_head], [slot, head, d_head]
//! pattern = softmax over pos of q . k[slot] / sqrt(d_head)        [row, head, pos]
//! z = sum over pos of pattern v[slot]                             [row, head, d_head]
//! resid_mid = resid_pre[=] + z W_O                                [row, d_model]
//! pre = resid_mid W_in + b_in;  post = relu(pre)                  [row, d_mlp]
//! resid_post = resid_mid + post W_out + b_out                     [row, d_model]
//! logits = resid_post W_U                                         [row, d_vocab_out]
//! ```
//!
//! # From Rust
//!
//! A network for x + y mod 13, trained for a hundred steps on the CPU engine, without a file or a clock:
//!
//! ```
//! use grokscope::model::initial_weights;
//! use grokscope::plan::Draft;
//! use grokscope::program::{State, batch::Layout, by_name, engine::Engine};
//! use grokscope::task::Pairs;
//!
//! # fn main() -> anyhow::Result<()> {
//! let mut draft = Draft::from_preset("demo")?;
//! draft.set("p", "13")?;
//! let plan = draft.finish()?;
//!
//! let op = plan.op.parse()?;
//! let train = Pairs::train(&plan.split.parse()?, 0.8, op, plan.p, None)?;
//! let layout = Layout::new(plan.shape(), &[train], &[Pairs::grid(op, plan.p)]);
//! let mut engine = Engine::on_cpu(&by_name("composed")?, layout, 1)?;
//! engine.write_state(0, &State::fresh(initial_weights(&plan.init, plan.seed, &plan.shape())))?;
//!
//! let loss = |engine: &mut Engine| -> anyhow::Result<f32> {
//!     let scores = pollster::block_on(engine.evaluate())?;
//!     Ok(scores[0].losses.iter().sum::<f32>() / scores[0].losses.len() as f32)
//! };
//! let before = loss(&mut engine)?;
//! let updates = (0..100).map(|step| plan.update(step)).collect();
//! let bad = pollster::block_on(engine.steps(&[updates]))?;
//! assert_eq!(bad, [None], "every number was finite");
//! assert!(loss(&mut engine)? < before);
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]

pub mod analysis;
pub mod bench;
pub mod cli;
pub mod cpu;
pub mod devices;
pub mod gpu;
pub mod learning;
pub mod matrices;
pub mod method;
pub mod model;
pub mod not_finite;
pub mod plan;
pub mod program;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod sanitizer;
pub mod self_check;
pub mod session;
pub mod shaders;
pub mod signals;
pub mod sweep;
pub mod task;
pub mod train;
