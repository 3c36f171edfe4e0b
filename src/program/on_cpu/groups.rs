//! The lines of a program with their twins, put together as they are done.

use crate::cpu::product::{Geometry, RowsAre};
use crate::cpu::{Real, Twin, twin_of};
use crate::model::{Role, Sizes, Tensor};
use crate::program::batch::{Batch, Layout, Rows};
use crate::program::product::geometry;
use crate::program::{Call, Over};
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
        // A product whose sizes the rows have no part in has none.
        let has_rows = |g: &Geometry| g.rows_are != RowsAre::Neither;
        let by_rows = twin.by_rows && (!matches!(call.over, Over::Product(..)) || geometry.iter().any(has_rows));
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
