//! The plain program: an operation a kernel.
//!
//! Only the last position is computed after the attention, and keys and values once for each slot.

use super::{Over, Program, run};
use crate::model::Axis::*;
use Over::{Arena, Elements, Models, Tiles};

pub fn program() -> Program {
    Program {
        name: "layered",
        forward: vec![
            run("embed", "forward", Elements(&[Slot, DModel])),
            run("attention", "forward_qkv", Elements(&[Slot, DModel])),
            run("attention", "forward_pattern", Elements(&[Row, Head])),
            run("attention", "forward_z", Elements(&[Row, DModel])),
            run("attention", "forward_out", Tiles([Row, DModel])),
            run("mlp", "forward_in", Tiles([Row, DMlp])),
            run("mlp", "forward_out", Tiles([Row, DModel])),
            run("unembed", "forward", Tiles([Row, DVocabOut])),
        ],
        score: vec![run("loss", "forward", Elements(&[Row]))],
        backward: vec![
            run("loss", "backward", Elements(&[Row])),
            run("unembed", "backward_weights", Tiles([DModel, DVocabOut])),
            run("unembed", "backward_inputs", Tiles([Row, DModel])),
            run("mlp", "backward_out_weights", Tiles([DMlp, DModel])),
            run("mlp", "backward_out_inputs", Tiles([Row, DMlp])),
            run("mlp", "backward_in_weights", Tiles([DModel, DMlp])),
            run("mlp", "backward_in_inputs", Tiles([Row, DModel])),
            run("attention", "backward_out_weights", Tiles([DModel, DModel])),
            run("attention", "backward_out_inputs", Tiles([Row, DModel])),
            run("attention", "backward_pattern", Elements(&[Row, Head])),
            run("attention", "backward_slots", Elements(&[Slot, DModel])),
            run("attention", "backward_qk", Elements(&[Slot, DModel])),
            run("attention", "backward_qkv_weights", Elements(&[DModel, DModel])),
            run("attention", "backward_qkv_inputs", Elements(&[Slot, DModel])),
            run("embed", "backward", Elements(&[DVocab, DModel])),
            run("adamw", "tick", Models),
            run("adamw", "update", Arena),
        ],
    }
}
