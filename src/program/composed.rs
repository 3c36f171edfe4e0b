//! The fast program: products of weights are formed before the data is touched. docs/composed.md has its equations.
//!
//! Everything but the attention is linear in the slots up to the neurons, so what the neurons and the classes (together:
//! the readers of the residual stream) get from a head that looks at a slot is a table, made once a step. What is left
//! for a row is to add up two lines of it a head, and one product with W_logit = W_out W_U.

use super::product::{adding, gated, product};
use super::{Over, Per, Program, method, run};
use crate::method::Method;
use crate::model::Axis::*;
use Over::{Elements, Fours, Groups};

/// The calls, taught by AdamW until [`Program::taught`] says otherwise.
pub fn program() -> Program {
    let logits = [("logits", "logits4"), ("d_logits", "d_logits4")];
    Program {
        name: "composed",
        forward: vec![
            run("compose", "forward_read", Fours(&[DModel4, Reader])),
            run("compose", "forward_out", Fours(&[DMlp4, DModel4])),
            run("compose", "forward_heads", Fours(&[Z4, DModel4])),
            run("slots", "forward", Fours(&[Slot, DModel4])),
            run("slots", "forward_query", Elements(&[Head, DHead]))
                .work(&[&[DModel, DModel]])
                .parts(&[("resid4", &[DModel4])]),
            product("nn", ["W_O4", "W_read", "W_O_read"], Per::Model).work(&[&[Z4, DModel4, Reader]]),
            product("nn", ["W_out4", "W_U4", "W_logit"], Per::Model).work(&[&[DMlp4, DModel4, DVocabOut4]]),
            product("nn", ["resid4", "W_V4", "v4"], Per::Model).work(&[&[Slot, DModel4, Z4]]),
            run("slots", "forward_key", Fours(&[Head, DModel4])).work(&[&[DModel, DModel]]),
            product("nn", ["v4", "W_O_read", "head_read"], Per::Head).work(&[&[Slot, Z4, Reader]]),
            run("slots", "forward_scores", Elements(&[Slot, Head])).work(&[&[Slot, Head, DModel]]),
            run("compose", "forward_base", Fours(&[Reader]))
                .work(&[&[DModel, Reader], &[Head, Reader]])
                .parts(&[("head_read", &[Head, Reader]), ("resid4", &[DModel4])]),
            run("rows", "forward_pattern", Elements(&[Row, Head])).work(&[&[Row, Head, Pos]]),
            run("rows", "forward", Fours(&[Row, Reader])).work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            adding(["post4", "W_logit", "logits4"]).work(&[&[Row, DMlp4, DVocabOut4]]),
        ],
        score: vec![run("loss", "forward", Elements(&[Row])).with(&logits).work(&[&[Row, DVocabOut]])],
        backward: vec![
            run("loss", "backward", Elements(&[Row])).with(&logits).work(&[&[Row, DVocabOut]]),
            product("tn", ["post4", "d_logits4", "d_W_logit_parts"], Per::Chunk).work(&[&[Row, DMlp4, DVocabOut4]]),
            gated("nt_gated", ["d_logits4", "W_logit", "d_pre4"], "post4").work(&[&[Row, DMlp4, DVocabOut4]]),
            run("dots", "backward", Groups(Slot)).work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            run("rows", "backward_pattern", Elements(&[Row, Head])).work(&[&[Row, Head, Pos], &[Row, Head, Pos]]),
            run("rows", "backward", Fours(&[Slot, Reader])).work(&[&[Row, Head, Reader], &[Row, Head, Reader]]),
            run("compose", "backward_logit", Fours(&[DMlp4, DVocabOut4])).work(&[&[Chunk, DMlp4, DVocabOut4]]),
            run("slots", "backward_scores", Elements(&[Slot, Head])).work(&[&[Row, Head]]),
            run("compose", "backward_base", Fours(&[Reader]))
                .work(&[&[Slot, Reader]])
                .parts(&[("d_head_read", &[Head, Reader])]),
            product("nt", ["d_W_logit", "W_U4", "d_W_out4"], Per::Model).work(&[&[DMlp4, DModel4, DVocabOut4]]),
            product("tn", ["W_out4", "d_W_logit", "d_W_U4"], Per::Model).work(&[&[DMlp4, DModel4, DVocabOut4]]),
            run("slots", "backward_key", Fours(&[Head, DModel4])).work(&[&[Slot, Head, DModel]]),
            product("tn", ["v4", "d_head_read", "d_W_O_read"], Per::Head).work(&[&[Slot, Z4, Reader]]),
            product("nt", ["d_head_read", "W_O_read", "d_v4"], Per::Head).work(&[&[Slot, Z4, Reader]]),
            run("compose", "backward_equals", Elements(&[DModel])).work(&[&[DModel, Reader]]),
            run("slots", "backward_query", Elements(&[Head, DHead])).work(&[&[DModel, DModel]]),
            run("compose", "backward_out", Elements(&[DMlp, DModel])),
            product("nt", ["d_W_O_read", "W_read", "d_W_O4"], Per::Model).work(&[&[Z4, DModel4, Reader]]),
            product("tn", ["W_O4", "d_W_O_read", "d_W_read"], Per::Model).work(&[&[Z4, DModel4, Reader]]),
            product("tn", ["resid4", "d_v4", "d_W_V4"], Per::Model).work(&[&[Slot, DModel4, Z4]]),
            product("nt", ["d_v4", "W_V4", "d_resid4"], Per::Model).work(&[&[Slot, DModel4, Z4]]),
            run("slots", "backward_weights", Elements(&[DModel, DModel]))
                .work(&[&[DModel, DModel]])
                .parts(&[("resid4", &[DModel4])]),
            run("compose", "backward_heads", Elements(&[DModel, DModel])),
            run("compose", "backward_read", Fours(&[DModel, Reader])).work(&[&[DModel, Reader]]),
            run("slots", "backward", Fours(&[Slot, DModel4])).work(&[&[Slot, Head, DModel], &[DModel, DModel]]),
            run("slots", "backward_embed", Elements(&[DVocab, DModel])).work(&[&[Slot, DModel]]),
        ],
        update: method::update(&Method::default()),
        grad_copies: 0,
    }
}
