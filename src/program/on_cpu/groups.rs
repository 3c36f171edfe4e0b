//! The lines of a program with their twins, put together as they are done.

use crate::cpu::product::Geometry;
use crate::cpu::{Real, Twin, twin_of};
use crate::model::{Role, Sizes, Tensor};
use crate::program::Call;
use crate::program::batch::{Batch, Layout, Rows};
use crate::program::product::geometry;
use anyhow::{Context as _, Result};

/// A call with its twin.
pub struct Line<T> {
    /// What the program says.
    pub call: Call,
    /// What does it.
    pub twin: Twin<T>,
    /// Where a product's matrices stand, for each model.
    pub geometry: Vec<Geometry>,
    how: How,
}

/// How a line is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// By itself: it counts, or goes through the arenas.
    Alone,
    /// Beside others that neither need what it writes nor write what it needs.
    Beside,
    /// A chunk of rows after the other, and all lines of a group for one chunk before the next: what one has written is in the cache
    /// when the next one reads it.
    ByChunks,
}

/// Lines that follow each other and are done together.
pub struct Group<T> {
    /// How they are done.
    pub how: How,
    /// In the order of the program.
    pub lines: Vec<Line<T>>,
}

impl<T: Real> Line<T> {
    fn new(call: &Call, layout: &Layout, batch: Batch) -> Result<Self> {
        let place = || format!("{}.{}", call.kernel, call.entry);
        let twin = twin_of(call.kernel, call.entry).with_context(|| format!("{} has no twin", place()))?;
        let of_model = |rows: &Rows| geometry(call, &Sizes { shape: layout.shape, rows: rows.len() });
        let geometry = layout.of(batch).iter().map(|rows| Ok(of_model(rows)?.unwrap_or_default()));
        let geometry: Vec<_> = geometry.collect::<Result<_>>().with_context(place)?;
        // A product may be one of weights: it goes by rows where it writes rows, or sums over chunks of them.
        let is_over_rows = |name: &&'static str| Tensor::find(call.tensor(name)).is_some_and(Tensor::is_over_rows);
        let by_rows = twin.by_rows && twin.writes.iter().all(is_over_rows);
        let is_made = |name: &&'static str| {
            let role = Tensor::find(call.tensor(name)).map(|tensor| tensor.role);
            matches!(role, Some(Role::Activation | Role::Gradient))
        };
        let how = match by_rows {
            true => How::ByChunks,
            false if twin.writes.iter().all(is_made) => How::Beside,
            false => How::Alone,
        };
        Ok(Self { call: call.clone(), twin, geometry, how })
    }

    /// Tensors that it writes.
    pub fn writes(&self) -> impl Iterator<Item = &'static str> {
        self.twin.writes.iter().map(|name| self.call.tensor(name))
    }

    /// Whether it reads or writes a tensor.
    pub fn touches(&self, tensor: &str) -> bool {
        self.twin.reads.iter().chain(self.twin.writes).any(|name| self.call.tensor(name) == tensor)
    }

    fn is_independent_of(&self, other: &Self) -> bool {
        !self.writes().any(|tensor| other.touches(tensor)) && !other.writes().any(|tensor| self.touches(tensor))
    }
}

/// The calls of a program, as many together as go together.
pub fn groups<'a, T: Real>(
    calls: impl Iterator<Item = &'a Call>,
    layout: &Layout,
    batch: Batch,
) -> Result<Vec<Group<T>>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    for call in calls {
        let line = Line::new(call, layout, batch)?;
        match groups.last_mut().filter(|group| goes_with(&line, group)) {
            Some(group) => group.lines.push(line),
            None => groups.push(Group { how: line.how, lines: vec![line] }),
        }
    }
    Ok(groups)
}

fn goes_with<T: Real>(line: &Line<T>, group: &Group<T>) -> bool {
    line.how == group.how
        && match line.how {
            How::Alone => false,
            How::Beside => group.lines.iter().all(|other| line.is_independent_of(other)),
            How::ByChunks => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;
    use crate::program::{Over, composed, run};
    use crate::task::{Op, Pairs};

    fn layout() -> Layout {
        let grid = [Pairs::grid(Op::Add, 5)];
        Layout::new(Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 8, d_vocab_out: 5 }, &grid, &grid)
    }

    #[test]
    fn a_step_of_the_composed_program_is_thirteen_groups() {
        let program = composed::program();
        let of = |calls: Vec<&Call>, batch| -> Vec<(How, usize)> {
            let groups = groups::<f32>(calls.into_iter(), &layout(), batch).unwrap();
            groups.iter().map(|group| (group.how, group.lines.len())).collect()
        };
        use How::{Alone, Beside, ByChunks};
        let forward = [(Beside, 4), (Beside, 4), (Beside, 2), (Beside, 2)];
        let backward = [(ByChunks, 8), (Beside, 3), (Beside, 4), (Beside, 5), (Beside, 5), (Beside, 3), (Beside, 1)];
        let step = [&forward[..], &backward, &[(Alone, 1), (Alone, 1)]].concat();
        assert_eq!(of(program.step().collect(), Batch::Train), step);
        assert_eq!(of(program.evaluation().collect(), Batch::Grid), [&forward[..], &[(ByChunks, 4)]].concat());
    }

    #[test]
    fn lines_wait_for_what_they_need_and_for_who_needs_what_they_write() {
        let line = |entry| run("slots", entry, Over::Elements(&[]));
        let lines_of_groups = |calls: [&'static str; 2]| -> Vec<usize> {
            let calls = calls.map(line);
            let groups = groups::<f32>(calls.iter(), &layout(), Batch::Train).unwrap();
            groups.iter().map(|group| group.lines.len()).collect()
        };
        // d_slot_score is written and then read; read and then written; read by both.
        assert_eq!(lines_of_groups(["backward_scores", "backward_key"]), [1, 1]);
        assert_eq!(lines_of_groups(["backward_key", "backward_scores"]), [1, 1]);
        assert_eq!(lines_of_groups(["backward_key", "forward_query"]), [2]);
    }
}
