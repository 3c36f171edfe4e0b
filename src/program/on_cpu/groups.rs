//! The lines of a program with their twins, put together as they are done.

use crate::cpu::{Real, Twin, twin_of};
use crate::matrices::{Copies, Geometry};
use crate::model::{Role, Sizes, Tensor};
use crate::program::Call;
use crate::program::batch::{Batch, Layout, Rows};
use crate::program::copies::copies;
use crate::program::product::geometry;
use crate::program::schedule::{self, Together};
use anyhow::{Context as _, Result};

/// A call with its twin.
pub struct Line<T> {
    /// What the program says.
    pub call: Call,
    /// Its place in the program.
    pub place: usize,
    /// What does it.
    pub twin: Twin<T>,
    /// Where a product's matrices stand, for each model.
    pub geometry: Vec<Geometry>,
    /// Where a copy's matrices stand.
    pub copies: Copies,
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
    fn new(index: usize, call: &Call, layout: &Layout, batch: Batch) -> Result<Self> {
        let place = || format!("{}.{}", call.kernel, call.entry);
        let twin = twin_of(call.kernel, call.entry).with_context(|| format!("{} has no twin", place()))?;
        let of_model = |rows: &Rows| geometry(call, &Sizes { shape: layout.shape, rows: rows.len() });
        let geometry = layout.of(batch).iter().map(|rows| Ok(of_model(rows)?.unwrap_or_default()));
        let geometry: Vec<_> = geometry.collect::<Result<_>>().with_context(place)?;
        let copies = copies(call, &layout.sizes(batch)).with_context(place)?.unwrap_or_default();
        let how = How::of(call, twin.by_rows);
        Ok(Self { call: call.clone(), place: index, twin, geometry, copies, how })
    }

    /// Tensors that it writes; of a view, the tensor that the view is part of.
    pub fn writes(&self) -> impl Iterator<Item = &'static str> {
        self.call.written().into_iter().map(whole)
    }

    /// Whether it reads or writes a tensor.
    pub fn touches(&self, tensor: &str) -> bool {
        self.call.tensors().into_iter().map(whole).any(|name| name == tensor)
    }

    fn is_independent_of(&self, other: &Self) -> bool {
        !self.writes().any(|tensor| other.touches(tensor)) && !other.writes().any(|tensor| self.touches(tensor))
    }
}

/// The name of the tensor that holds a tensor's elements.
pub fn whole(name: &str) -> &str {
    Tensor::find(name).map_or(name, |tensor| tensor.whole().name)
}

impl How {
    /// `by_rows`: whether the twin can be given a chunk of rows.
    fn of(call: &Call, by_rows: bool) -> Self {
        let tensors = || call.written().into_iter().filter_map(Tensor::find);
        // A product may be one of weights: it goes by rows where it writes rows, or sums over chunks of them.
        match by_rows && tensors().all(Tensor::is_over_rows) {
            true => Self::ByChunks,
            false if tensors().all(|tensor| matches!(tensor.whole().role, Role::Activation | Role::Gradient)) => {
                Self::Beside
            }
            false => Self::Alone,
        }
    }

    fn together(self) -> Together {
        match self {
            Self::Alone => Together::Never,
            Self::Beside => Together::Independent,
            Self::ByChunks => Together::Chain,
        }
    }
}

/// The calls of a program, as many together as go together.
pub fn groups<'a, T: Real>(
    calls: impl Iterator<Item = &'a Call>,
    layout: &Layout,
    batch: Batch,
) -> Result<Vec<Group<T>>> {
    let calls: Vec<Call> = calls.cloned().collect();
    let kind = |call: &Call| {
        let how = How::of(call, twin_of::<T>(call.kernel, call.entry).is_some_and(|twin| twin.by_rows));
        (how, how.together())
    };
    let mut groups = Vec::new();
    for places in schedule::groups(&calls, &layout.sizes(batch), kind) {
        // What lines write beside each other they are lent as a whole, so views of one tensor are written one after the other.
        let mut rest: Vec<Line<T>> =
            places.into_iter().map(|place| Line::new(place, &calls[place], layout, batch)).collect::<Result<_>>()?;
        while let Some(how) = rest.first().map(|line| line.how) {
            let mut lines: Vec<Line<T>> = Vec::new();
            let mut later = Vec::new();
            for line in rest {
                let is_beside = how == How::Beside && lines.iter().any(|other| !line.is_independent_of(other));
                if is_beside { later.push(line) } else { lines.push(line) }
            }
            groups.push(Group { how, lines });
            rest = later;
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;
    use crate::program::composed;
    use crate::task::{Op, Pairs};

    #[test]
    fn a_step_of_the_composed_program_is_thirteen_groups() {
        let grid = [Pairs::grid(Op::Add, 5)];
        let layout = Layout::new(Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 8, d_vocab_out: 5 }, &grid, &grid);
        let program = composed::program();
        let of = |calls: Vec<&Call>, batch| -> Vec<(How, usize)> {
            let groups = groups::<f32>(calls.into_iter(), &layout, batch).unwrap();
            groups.iter().map(|group| (group.how, group.lines.len())).collect()
        };
        use How::{Alone, Beside, ByChunks};
        let forward = [(Beside, 8), (Beside, 1), (Beside, 5), (Beside, 1), (Beside, 3)];
        let backward = [(ByChunks, 7), (Beside, 2), (Beside, 4), (Beside, 4), (Beside, 5), (Beside, 10)];
        let step = [&[(Alone, 1)], &forward[..], &backward, &[(Alone, 1)]].concat();
        assert_eq!(of(program.step().collect(), Batch::Train), step);
        assert_eq!(of(program.evaluation().collect(), Batch::Grid), [&forward[..], &[(ByChunks, 4)]].concat());
    }
}
