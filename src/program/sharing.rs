//! Tensors that take turns in a buffer, because no dispatch needs one of them while another is still needed.

use super::batch::{Batch, Key, key};
use super::{Call, find};
use crate::model::{Role, Tensor};
use anyhow::Result;
use std::collections::BTreeMap;

/// Buffers, each for several tensors.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    /// The tensors of each buffer, the largest first.
    pub buffers: Vec<Vec<(&'static Tensor, Batch)>>,
}

/// From the first dispatch that needs a tensor to the last.
struct Life {
    tensor: &'static Tensor,
    batch: Batch,
    first: usize,
    last: usize,
}

impl Shared {
    /// For the dispatches of a step and those of an evaluation, each with its calls. `len` gives the elements that a tensor
    /// of a batch takes; `shares` is false for tensors that lie in an arena. Only activations take turns, because a step makes all of them anew.
    pub fn new(
        dispatches: &[(Batch, Vec<&Call>)],
        shares: impl Fn(&'static Tensor) -> bool,
        len: impl Fn(&'static Tensor, Batch) -> usize,
    ) -> Result<Self> {
        let mut lives: BTreeMap<(&str, usize), Life> = BTreeMap::new();
        for (place, (batch, calls)) in dispatches.iter().enumerate() {
            for name in calls.iter().flat_map(|call| call.tensors()) {
                let tensor = find(name)?.whole();
                if tensor.role == Role::Activation && shares(tensor) {
                    let (_, batch) = key(tensor, *batch);
                    let life = Life { tensor, batch, first: place, last: place };
                    lives.entry((tensor.name, batch as usize)).or_insert(life).last = place;
                }
            }
        }
        let mut lives: Vec<Life> = lives.into_values().collect();
        lives.sort_by_key(|life| std::cmp::Reverse(len(life.tensor, life.batch)));
        let mut buffers: Vec<Vec<Life>> = Vec::new();
        for life in lives {
            let meets = |other: &Life| life.first <= other.last && other.first <= life.last;
            match buffers.iter_mut().find(|buffer| !buffer.iter().any(meets)) {
                Some(buffer) => buffer.push(life),
                None => buffers.push(vec![life]),
            }
        }
        let of_buffer = |lives: Vec<Life>| lives.into_iter().map(|life| (life.tensor, life.batch)).collect();
        Ok(Self { buffers: buffers.into_iter().map(of_buffer).collect() })
    }

    /// The number of the buffer in which a tensor takes its turn.
    pub fn find(&self, wanted: Key) -> Option<usize> {
        self.buffers.iter().position(|buffer| buffer.iter().any(|(tensor, batch)| (tensor.name, *batch) == wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Over, run};

    /// The buffers of some dispatches, in which lengths are those of the names.
    fn buffers(dispatches: &[(Batch, &[Call])]) -> Vec<Vec<(&'static str, Batch)>> {
        let dispatches: Vec<_> = dispatches.iter().map(|(batch, calls)| (*batch, calls.iter().collect())).collect();
        let shared = Shared::new(&dispatches, |tensor| tensor.name != "v", |tensor, _| tensor.name.len()).unwrap();
        let names = |buffer: &Vec<(&'static Tensor, Batch)>| buffer.iter().map(|(t, batch)| (t.name, *batch)).collect();
        shared.buffers.iter().map(names).collect()
    }

    fn call(reads: &[&'static str], writes: &[&'static str]) -> Call {
        run("slots", "forward", Over::Models).reads(reads).writes(writes)
    }

    #[test]
    fn tensors_share_a_buffer_if_no_dispatch_needs_both() {
        use Batch::{Grid, Train};
        let chain = [
            (Train, &[call(&["W_E"], &["pre"])][..]),
            (Train, &[call(&["pre"], &["post"])]),
            (Train, &[call(&["post"], &["logits"])]),
        ];
        assert_eq!(buffers(&chain), [vec![("logits", Train), ("pre", Train)], vec![("post", Train)]]);
        // Still needed at the end; needed by a dispatch that does another call as well.
        let kept = [
            (Train, &[call(&[], &["pre"])][..]),
            (Train, &[call(&[], &["post"])]),
            (Train, &[call(&["pre", "post"], &["d_W_in"])]),
        ];
        assert_eq!(buffers(&kept), [vec![("post", Train)], vec![("pre", Train)]]);
        let merged = [(Train, &[call(&[], &["pre"]), call(&[], &["post"])][..])];
        assert_eq!(buffers(&merged).len(), 2);
        // What the grid has of its own begins when the step is done. What has no rows exists once.
        let both = [(Train, &[call(&[], &["pre", "q", "v"])][..]), (Grid, &[call(&["q"], &["pre"])])];
        assert_eq!(buffers(&both), [vec![("pre", Train), ("pre", Grid)], vec![("q", Train)]]);
    }
}
