//! The tables of dispatches that do several calls: a row of numbers for each, which its workgroups look up.

use super::Call;
use super::arenas::{Home, Homes};
use super::batch::{Batch, Layout};
use super::copies::copies;
use super::product::geometry;
use crate::gpu::kernel::Kernel;
use crate::gpu::tensors::padded;
use crate::matrices::{Operand, RowsAre};
use crate::model::{Sizes, Tensor};
use anyhow::{Context, Result, ensure};

/// A table, and the buffers that its entries name by number.
pub struct Table {
    /// The number of workgroups for a model, the first workgroups of 16 entries, and the entries, in whole vec4s.
    pub words: Vec<u32>,
    /// First workgroups of the entries, and the number of all.
    pub firsts: Vec<u32>,
    /// `from0`, `from1` and so on.
    pub from: Vec<Home>,
    /// `into0`, `into1`.
    pub into: Vec<Home>,
}

/// Entries of a table at most.
const ENTRIES: usize = 16;

/// Buffers that a kernel binds to read from, and to write to.
const FROM: usize = 3;
const INTO: usize = 2;

/// The table of some calls of one kernel.
pub fn table(calls: &[&Call], kernel: &Kernel, layout: &Layout, batch: Batch, homes: &Homes) -> Result<Table> {
    let mut made = Made {
        table: Table { words: Vec::new(), firsts: vec![0], from: Vec::new(), into: Vec::new() },
        layout,
        batch,
        homes,
    };
    for call in calls {
        let groups = match call.kernel {
            "product" => made.product(call, kernel)?,
            _ => made.copy(call, kernel)?,
        };
        let first = made.table.firsts[made.table.firsts.len() - 1];
        made.table.firsts.push(first + groups);
    }
    let Table { from, into, firsts, words } = &mut made.table;
    ensure!(
        calls.len() <= ENTRIES,
        "{} calls of {} in one table: expected at most {ENTRIES}",
        calls.len(),
        calls[0].kernel
    );
    let mut header = vec![u32::MAX; 4 + ENTRIES];
    header[0] = firsts[calls.len()];
    header[4..4 + calls.len()].copy_from_slice(&firsts[..calls.len()]);
    words.splice(0..0, header);
    ensure!(
        from.len() <= FROM && into.len() <= INTO,
        "{}: a dispatch reads from {} buffers and writes to {}: expected at most {FROM} and {INTO}",
        calls[0].kernel,
        from.len(),
        into.len()
    );
    Ok(made.table)
}

struct Made<'a> {
    table: Table,
    layout: &'a Layout,
    batch: Batch,
    homes: &'a Homes,
}

/// The number of a buffer in a list, to which it is added if it is new.
fn number(list: &mut Vec<Home>, home: Home) -> u32 {
    let found = list.iter().position(|other| *other == home);
    found.unwrap_or_else(|| {
        list.push(home);
        list.len() - 1
    }) as u32
}

impl Made<'_> {
    fn sizes(&self) -> Sizes {
        self.layout.sizes(self.batch)
    }

    fn home(&self, name: &str) -> Result<(Home, usize)> {
        let tensor = Tensor::find(name).with_context(|| format!("no tensor is called '{name}'"))?;
        Ok(self.homes.find(tensor.whole(), self.layout))
    }

    /// The three vec4s of an operand, in units of so many elements.
    fn operand(&mut self, name: &str, operand: &Operand, unit: usize, is_written: bool) -> Result<[u32; 12]> {
        let (home, first) = self.home(name)?;
        let list = if is_written { &mut self.table.into } else { &mut self.table.from };
        let buffer = match home {
            // These have bindings of their own, where they are copied from and to.
            Home::Params | Home::Grads => 0,
            home => number(list, home),
        };
        let places = [first + operand.at, padded(operand.len), operand.row, operand.head, operand.part];
        ensure!(places.iter().all(|n| n % unit == 0), "{name} does not lie in units of {unit}: {operand:?}");
        let [at, model, row, head, part] = places.map(|n| (n / unit) as u32);
        let (rows, columns) = (operand.rows as u32, operand.columns.div_ceil(unit) as u32);
        Ok([buffer, at, model, row, head, operand.parts as u32, part, rows, columns, 0, 0, 0])
    }

    fn product(&mut self, call: &Call, kernel: &Kernel) -> Result<u32> {
        let g = geometry(call, &self.sizes())?.context("a product has a geometry")?;
        let tile = |name| kernel.constant(name).with_context(|| format!("{}: no constant {name}", kernel.stem));
        let tiles = [(g.c.columns as u32).div_ceil(tile("TILE_COLUMNS")?), (g.i as u32).div_ceil(tile("TILE_ROWS")?)];
        let chunks = g.k.div_ceil(g.chunk) as u32;
        let is_gated = call.entry == "nt_gated";
        let flags = [(g.adds, 1), (is_gated, 2), (call.entry == "tn", 4), (call.entry.starts_with("nt"), 8)];
        let flags: u32 = flags.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
        let rows_are = match g.rows_are {
            RowsAre::Neither => 0,
            RowsAre::I => 1,
            RowsAre::K => 2,
        };
        let sizes = [g.i, g.c.columns / 4, g.k, g.chunk].map(|n| n as u32);
        let a = self.operand(call.tensor("A"), &g.a, 4, false)?;
        let b = self.operand(call.tensor("B"), &g.b, 4, false)?;
        let c = self.operand(call.tensor("C"), &g.c, 4, true)?;
        let gate = match is_gated {
            true => self.operand(call.tensor("gate"), &g.c, 4, false)?,
            false => [0; 12],
        };
        let more = [rows_are, flags, gate[0], gate[1]];
        let words = [&[tiles[0], tiles[1], chunks, 0][..], &sizes, &more, &a, &b, &c].concat();
        self.table.words.extend(words);
        Ok(tiles[0] * tiles[1] * chunks * g.heads as u32)
    }

    fn copy(&mut self, call: &Call, kernel: &Kernel) -> Result<u32> {
        let Some(g) = copies(call, &self.sizes())? else {
            // The counter.
            self.table.words.extend([&[1][..], &[0; 63]].concat());
            return Ok(1);
        };
        let factor = (g.factor.number(self.layout.shape.d_head()) as f32).to_bits();
        let mut words = vec![0, g.heads as u32, factor, 0];
        // Parameters and their gradients have rows of any length, what tables work on has whole vec4s.
        let is_padding = call.entry == "pad";
        let (of_sources, of_result) = if is_padding { (1, 4) } else { (4, 1) };
        for (role, operand) in [("from", g.from), ("also", g.also), ("x", g.x), ("y", g.y)] {
            words.extend(match operand {
                Some(operand) => self.operand(call.tensor(role), &operand, of_sources, false)?,
                None => [0; 12],
            });
        }
        let mut into = self.operand(call.tensor("into"), &g.into, of_result, true)?;
        into[8] = g.into.columns as u32;
        words.extend(into);
        self.table.words.extend(words);
        let fours = g.heads * g.into.rows * g.into.columns.div_ceil(4);
        Ok((fours as u32).div_ceil(kernel.constant("LANES").context("copy: no constant LANES")?))
    }
}
