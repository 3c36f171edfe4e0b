//! The fast program: products of weights are formed before the data is touched. docs/composed.md has its equations.
//!
//! Everything but the attention is linear in the slots up to the neurons, so what the neurons and the classes (together:
//! the readers of the residual stream) get from a head that looks at a slot is a table, made once a step. What is left
//! for a row is to add up two lines of it a head, and one product with W_logit = W_out W_U.

use super::Per::{Head as PerHead, Model};
use super::copies::{narrow, narrow_both, narrow_outer, outer, pad};
use super::product::{adding, gated, product};
use super::{Over, Program, method, run};
use crate::matrices::Factor;
use crate::method::Method;
use crate::model::Axis::*;
use Over::{Elements, Fours, Groups};

/// The calls, taught by AdamW until [`Program::taught`] says otherwise.
pub fn program() -> Program {
    let logits = [("logits", "logits4"), ("d_logits", "d_logits4")];
    Program {
        name: "composed",
        forward: vec![
            pad("W_in", "W_in4", Model, Factor::One),
            pad("W_U", "W_U4", Model, Factor::One),
            pad("W_out", "W_out4", Model, Factor::One),
            pad("W_O", "W_O4", PerHead, Factor::One),
            pad("W_V", "W_V4", PerHead, Factor::One),
            pad("W_Q", "W_Q4", PerHead, Factor::One),
            pad("W_K", "W_K4", PerHead, Factor::Attention),
            pad("b_in", "heads_read", Model, Factor::One),
            run("slots", "forward", Fours(&[Slot, DModel4]))
                .reads(&["W_E", "W_pos", "b_out"])
                .writes(&["resid4", "equals4"]),
            product("nn", ["resid_at_equals", "W_Q4", "q4"], Model),
            product("nn", ["W_O4", "W_read", "W_O_read"], Model),
            product("nn", ["W_out4", "W_U4", "W_logit"], Model),
            product("nn", ["resid4", "W_V4", "v4"], Model),
            product("nn", ["equals4", "W_read", "equals_read"], Model),
            product("nt", ["q4", "W_K4", "u"], PerHead),
            product("nt", ["resid4", "u", "slot_score4"], Model),
            product("nn", ["v4", "W_O_read", "head_read"], PerHead),
            adding(["v_equals", "W_O_read", "heads_read"]),
            run("rows", "forward_pattern", Elements(&[Row, Head]))
                .reads(&["slots", "slot_score4"])
                .writes(&["pattern"])
                .work(&[&[Row, Head, Pos]]),
            run("rows", "forward", Over::RowsByFours(Reader))
                .reads(&["slots", "pattern", "head_read", "equals_read", "heads_read"])
                .writes(&["post4", "logits4"])
                .work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            adding(["post4", "W_logit", "logits4"]),
        ],
        score: vec![
            run("loss", "forward", Over::Rows)
                .with(&logits)
                .reads(&["labels", "logits4"])
                .writes(&["row_loss", "row_correct"])
                .work(&[&[Row, DVocabOut]]),
        ],
        backward: vec![
            run("loss", "backward", Over::Rows)
                .with(&logits)
                .reads(&["labels", "logits4"])
                .writes(&["d_logits4"])
                .work(&[&[Row, DVocabOut]]),
            product("tn", ["post4", "d_logits4", "d_W_logit_parts"], Model),
            gated("nt_gated", ["d_logits4", "W_logit", "d_pre4"], "post4"),
            run("dots", "backward", Groups(Slot))
                .reads(&["slot_edges", "slot_rows", "d_pre4", "d_logits4", "head_read"])
                .writes(&["d_pattern"])
                .work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            run("rows", "backward", Fours(&[Slot, Reader]))
                .reads(&["slot_edges", "slot_rows", "pattern", "d_pre4", "d_logits4"])
                .writes(&["d_head_read", "d_slot_read"])
                .work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            run("compose", "backward_logit", Fours(&[DMlp4, DVocabOut4]))
                .reads(&["d_W_logit_parts"])
                .writes(&["d_W_logit"])
                .work(&[&[Chunk, DMlp4, DVocabOut4]]),
            run("compose", "backward_equals", Over::GroupsOfFours(Reader))
                .reads(&["d_slot_read"])
                .writes(&["d_equals_read", "d_head_read"])
                .work(&[&[Slot, Reader]])
                .parts(&[("d_head_read", &[Head, Reader])]),
            run("compose", "backward_scores", Groups(Slot))
                .reads(&["slot_edges", "slot_rows", "pattern", "d_pattern"])
                .writes(&["d_slot_score4"])
                .work(&[&[Row, Head, Pos], &[Row, Head, Pos]]),
            product("nt", ["d_W_logit", "W_U4", "d_W_out4"], Model),
            product("tn", ["W_out4", "d_W_logit", "d_W_U_parts"], Model),
            product("tn", ["v4", "d_head_read", "d_W_O_read"], PerHead),
            product("nt", ["d_head_read", "W_O_read", "d_v4_parts"], PerHead),
            product("tn", ["d_slot_score4", "resid4", "d_u"], Model),
            product("nt", ["d_equals_read", "W_read", "d_equals4_parts"], Model),
            product("nt", ["d_W_O_read", "W_read", "d_W_O_parts"], Model),
            product("tn", ["W_O4", "d_W_O_read", "d_W_read"], Model),
            product("tn", ["resid4", "d_v4_parts", "d_W_V4"], Model),
            product("nt", ["d_v4_parts", "W_V4", "d_resid4"], Model),
            product("nn", ["d_u", "W_K4", "d_q4"], PerHead),
            narrow_outer("d_W_in4", ["resid_at_equals", "d_equals_neurons"], "d_W_in"),
            narrow_both(["d_W_U_heads", "d_W_U_parts"], ["resid_at_equals_b_out", "d_equals_classes"], "d_W_U"),
            narrow("d_W_out4", "d_W_out", Model),
            narrow("d_W_O_parts", "d_W_O", PerHead),
            narrow("d_W_V4", "d_W_V", PerHead),
            outer(["resid_at_equals", "d_q4"], "d_W_Q", Factor::One),
            outer(["d_u", "q4"], "d_W_K", Factor::Attention),
            narrow("d_equals_neurons", "d_b_in", Model),
            narrow("d_b_out_parts", "d_b_out", Model),
            run("slots", "backward_embed", Over::GroupsOfFours(DModel4))
                .reads(&["d_resid4", "d_slot_score4", "u", "d_q4", "W_Q4", "d_equals4_parts"])
                .writes(&["d_W_E", "d_W_pos"])
                .work(&[&[Slot, DModel], &[Slot, Head, DModel], &[DModel, DModel]]),
        ],
        update: method::update(&Method::default()),
        grad_copies: 0,
    }
}
