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
            run("embed", "forward", Elements(&[Slot, DModel])).reads(&["W_E", "W_pos"]).writes(&["resid_pre"]),
            run("attention", "forward_qkv", Elements(&[Slot, DModel]))
                .reads(&["resid_pre", "W_Q", "W_K", "W_V"])
                .writes(&["q", "k", "v"])
                .work(&[&[Slot, DModel, DModel], &[Slot, DModel, DModel], &[DModel, DModel]]),
            run("attention", "forward_pattern", Elements(&[Row, Head]))
                .reads(&["slots", "q", "k"])
                .writes(&["pattern"])
                .work(&[&[Row, Pos, DModel]]),
            run("attention", "forward_z", Elements(&[Row, DModel]))
                .reads(&["slots", "pattern", "v"])
                .writes(&["z"])
                .work(&[&[Row, Pos, DModel]]),
            run("attention", "forward_out", Tiles([Row, DModel]))
                .reads(&["resid_pre", "z", "W_O"])
                .writes(&["resid_mid"])
                .work(&[&[Row, DModel, DModel]]),
            run("mlp", "forward_in", Tiles([Row, DMlp]))
                .reads(&["resid_mid", "W_in", "b_in"])
                .writes(&["pre", "post"])
                .work(&[&[Row, DMlp, DModel]]),
            run("mlp", "forward_out", Tiles([Row, DModel]))
                .reads(&["resid_mid", "post", "W_out", "b_out"])
                .writes(&["resid_post"])
                .work(&[&[Row, DMlp, DModel]]),
            run("unembed", "forward", Tiles([Row, DVocabOut]))
                .reads(&["resid_post", "W_U"])
                .writes(&["logits"])
                .work(&[&[Row, DModel, DVocabOut]]),
        ],
        score: vec![
            run("loss", "forward", Over::Rows)
                .reads(&["labels", "logits"])
                .writes(&["row_loss", "row_correct"])
                .work(&[&[Row, DVocabOut]]),
        ],
        backward: vec![
            run("loss", "backward", Over::Rows)
                .reads(&["labels", "logits"])
                .writes(&["d_logits"])
                .work(&[&[Row, DVocabOut]]),
            run("unembed", "backward_weights", Tiles([DModel, DVocabOut]))
                .reads(&["d_logits", "resid_post"])
                .writes(&["d_W_U"])
                .work(&[&[Row, DModel, DVocabOut]]),
            run("unembed", "backward_inputs", Tiles([Row, DModel]))
                .reads(&["d_logits", "W_U"])
                .writes(&["d_resid_post"])
                .work(&[&[Row, DModel, DVocabOut]]),
            run("mlp", "backward_out_weights", Tiles([DMlp, DModel]))
                .reads(&["d_resid_post", "post"])
                .writes(&["d_W_out", "d_b_out"])
                .work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_out_inputs", Tiles([Row, DMlp]))
                .reads(&["d_resid_post", "W_out", "pre"])
                .writes(&["d_pre"])
                .work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_in_weights", Tiles([DModel, DMlp]))
                .reads(&["d_pre", "resid_mid"])
                .writes(&["d_W_in", "d_b_in"])
                .work(&[&[Row, DMlp, DModel]]),
            run("mlp", "backward_in_inputs", Tiles([Row, DModel]))
                .reads(&["d_resid_post", "d_pre", "W_in"])
                .writes(&["d_resid_mid"])
                .work(&[&[Row, DMlp, DModel]]),
            run("attention", "backward_out_weights", Tiles([DModel, DModel]))
                .reads(&["d_resid_mid", "z"])
                .writes(&["d_W_O", "d_resid_equals"])
                .work(&[&[Row, DModel, DModel]]),
            run("attention", "backward_out_inputs", Tiles([Row, DModel]))
                .reads(&["d_resid_mid", "W_O"])
                .writes(&["d_z"])
                .work(&[&[Row, DModel, DModel]]),
            run("attention", "backward_pattern", Elements(&[Row, Head]))
                .reads(&["slots", "d_z", "v", "pattern"])
                .writes(&["d_score"])
                .work(&[&[Row, Pos, DModel]]),
            run("attention", "backward_slots", Elements(&[Slot, DModel]))
                .reads(&["slot_edges", "slot_rows", "d_z", "pattern", "d_score"])
                .writes(&["d_v", "d_slot_score"])
                .work(&[&[Row, Pos, DModel]]),
            run("attention", "backward_qk", Elements(&[Slot, DModel]))
                .reads(&["d_slot_score", "q", "k"])
                .writes(&["d_q", "d_k"])
                .work(&[&[Slot, DModel], &[Slot, DModel]]),
            run("attention", "backward_qkv_weights", Elements(&[DModel, DModel]))
                .reads(&["resid_pre", "d_q", "d_k", "d_v"])
                .writes(&["d_W_Q", "d_W_K", "d_W_V"])
                .work(&[&[Slot, DModel, DModel], &[Slot, DModel, DModel], &[DModel, DModel]]),
            run("attention", "backward_qkv_inputs", Elements(&[Slot, DModel]))
                .reads(&["d_q", "d_k", "d_v", "W_Q", "W_K", "W_V", "d_resid_equals"])
                .writes(&["d_resid_pre"])
                .work(&[&[Slot, DModel, DModel], &[Slot, DModel, DModel], &[DModel, DModel]]),
            run("embed", "backward", Elements(&[DVocab, DModel])).reads(&["d_resid_pre"]).writes(&["d_W_E", "d_W_pos"]),
        ],
        update: method::update(&Method::default()),
        grad_copies: 0,
    }
}
