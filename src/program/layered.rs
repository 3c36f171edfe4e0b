//! The plain program: an operation a kernel.
//!
//! Only the last position is computed after the attention, and keys and values once for each slot.

use super::{Over, Program, method, run};
use crate::method::Method;
use crate::model::Axis::*;
use Over::{Elements, Tiles};

/// The calls, taught by AdamW until [`Program::taught`] says otherwise.
pub fn program() -> Program {
    Program {
        name: "layered",
        forward: vec![
            run("embed", "forward", Elements(&[Slot, DModel])),
            run("attention", "forward_qkv", Elements(&[Slot, DModel])).work(&[
                &[Slot, DModel, DModel],
                &[Slot, DModel, DModel],
                &[DModel, DModel],
            ]),
            run("attention", "forward_pattern", Elements(&[Row, Head])).work(&[&[Row, Pos, DModel]]),
            run("attention", "forward_z", Elements(&[Row, DModel])).work(&[&[Row, Pos, DModel]]),
            run("attention", "forward_out", Tiles([Row, DModel])).work(&[&[Row, DModel, DModel]]),
            run("mlp", "forward_in", Tiles([Row, DMlp])).work(&[&[Row, DMlp, DModel]]),
            run("mlp", "forward_out", Tiles([Row, DModel])).work(&[&[Row, DMlp, DModel]]),
            run("unembed", "forward", Tiles([Row, DVocabOut])).work(&[&[Row, DModel, DVocabOut]]),
        ],
        score: vec![run("loss", "forward", Elements(&[Row])).work(&[&[Row, DVocabOut]])],
        backward: vec![
            run("loss", "backward", Elements(&[Row])).work(&[&[Row, DVocabOut]]),
            run("unembed", "backward_weights", Tiles([DModel, DVocabOut])).work(&[&[Row, DModel, DVocabOut]]),
            run("unembed", "backward_inputs", Tiles([Row, DModel])).work(&[&[Row, DModel, DVocabOut]]),
            run("mlp", "backward_out_weights", Tiles([DMlp, DModel])).work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_out_inputs", Tiles([Row, DMlp])).work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_in_weights", Tiles([DModel, DMlp])).work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_in_inputs", Tiles([Row, DModel])).work(&[&[Row, DMlp, DModel]]),
            run("attention", "backward_out_weights", Tiles([DModel, DModel])).work(&[&[Row, DModel, DModel]]),
            run("attention", "backward_out_inputs", Tiles([Row, DModel])).work(&[&[Row, DModel, DModel]]),
            run("attention", "backward_pattern", Elements(&[Row, Head])).work(&[&[Row, Pos, DModel]]),
            run("attention", "backward_slots", Elements(&[Slot, DModel])).work(&[&[Row, Pos, DModel]]),
            run("attention", "backward_qk", Elements(&[Slot, DModel])).work(&[&[Slot, DModel], &[Slot, DModel]]),
            run("attention", "backward_qkv_weights", Elements(&[DModel, DModel])).work(&[
                &[Slot, DModel, DModel],
                &[Slot, DModel, DModel],
                &[DModel, DModel],
            ]),
            run("attention", "backward_qkv_inputs", Elements(&[Slot, DModel])).work(&[
                &[Slot, DModel, DModel],
                &[Slot, DModel, DModel],
                &[DModel, DModel],
            ]),
            run("embed", "backward", Elements(&[DVocab, DModel])),
        ],
        update: method::update(&Method::default()),
        grad_copies: 0,
    }
}
