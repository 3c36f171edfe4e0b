//! What a plan takes from files: a split, and weights to begin with.

use super::disk;
use super::lens;
use crate::model::{Weights, initial_weights};
use crate::plan::{INITS, Plan};
use crate::task::{Op, Pairs, Split};
use anyhow::Result;
use std::path::Path;

/// The train pairs of a plan; `kept` is the split file's text where the run has it already.
pub fn train_pairs(plan: &Plan, kept: Option<String>) -> Result<Pairs> {
    let (split, op): (Split, Op) = (plan.split.parse()?, plan.op.parse()?);
    let text = match (&split, kept) {
        (_, Some(text)) => Some(text),
        (Split::File(path), None) => Some(disk::read_text(Path::new(path))?),
        _ => None,
    };
    Pairs::train(&split, plan.train_fraction, op, plan.p, text.as_deref())
}

/// The weights that a plan begins with.
pub fn first_weights(plan: &Plan) -> Result<Weights<f32>> {
    let mut weights = match INITS.contains(&plan.init.as_str()) {
        true => initial_weights(&plan.init, plan.seed, &plan.shape()),
        false => lens::read_init(&disk::read(Path::new(&plan.init))?, &plan.shape(), &plan.init)?,
    };
    // 1 changes no bit.
    weights.tensors.iter_mut().flatten().for_each(|x| *x *= plan.init_scale as f32);
    Ok(weights)
}

/// The plan of model k of an ensemble: a run of its own with the next seed.
pub fn member_plan(plan: &Plan, k: usize) -> Plan {
    Plan { models: 1, seed: plan.seed + k as u64, ..plan.clone() }
}
