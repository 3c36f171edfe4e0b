//! The rows of one model, in the form that the kernels read.

use crate::model::{Sizes, Tensor};
use crate::plan::Shape;
use crate::task::Pairs;
use std::ops::Range;

/// Which rows a tensor of rows belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batch {
    /// What the model is trained on.
    Train,
    /// All p*p pairs.
    Grid,
}

/// A tensor of a batch; those that have no rows exist once, and go with the train batch.
pub type Key = (&'static str, Batch);

/// Where a tensor of a batch is kept.
pub fn key(tensor: &'static Tensor, batch: Batch) -> Key {
    (tensor.name, if tensor.per_batch() { batch } else { Batch::Train })
}

/// Rows of a block of the grid, at least, where there are so many.
const LEAST_BLOCK: usize = 4096;

/// Values of x whose rows stand together.
const X_BLOCK: u32 = 16;

/// Rows by their labels and slots, and slots by their rows.
pub struct Rows {
    /// The pair that a row is: its place in the list that the rows were made from.
    pub order: Vec<u32>,
    /// The right class of each row.
    pub labels: Vec<u32>,
    /// Three a row.
    pub slots: Vec<u32>,
    /// For each slot, where its rows begin in `slot_rows`; the last is the number of entries, three a row.
    pub slot_edges: Vec<u32>,
    /// The rows of each slot, rising, slot after slot; "=", which has all of them, comes last.
    pub slot_rows: Vec<u32>,
}

impl Rows {
    /// Rows stand in blocks of x, in a block by y: neighbours use the same lines of tables over slots, of which a cache
    /// holds a block's.
    pub fn new(pairs: &Pairs, shape: &Shape) -> Self {
        let p = shape.p as u32;
        let mut order: Vec<u32> = (0..pairs.len() as u32).collect();
        order.sort_by_key(|&i| {
            let [x, y] = pairs.pairs[i as usize];
            (x / X_BLOCK, y, x)
        });
        let slots: Vec<u32> =
            order.iter().map(|&i| pairs.pairs[i as usize]).flat_map(|[x, y]| [x, p + y, 2 * p]).collect();
        // Counting sort of the entries by slot; rows stay in their order.
        let mut slot_edges = vec![0; shape.n_slots() + 1];
        for &slot in &slots {
            slot_edges[slot as usize + 1] += 1;
        }
        for slot in 0..shape.n_slots() {
            slot_edges[slot + 1] += slot_edges[slot];
        }
        let mut next = slot_edges.clone();
        let mut slot_rows = vec![0; slots.len()];
        for (entry, &slot) in slots.iter().enumerate() {
            let place = &mut next[slot as usize];
            slot_rows[*place as usize] = entry as u32 / 3;
            *place += 1;
        }
        let labels = order.iter().map(|&i| pairs.labels[i as usize]).collect();
        Self { order, labels, slots, slot_edges, slot_rows }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values of the rows in the order of the pairs that the rows were made from.
    pub fn by_pair<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); self.len()];
        for (&pair, &value) in self.order.iter().zip(values) {
            out[pair as usize] = value;
        }
        out
    }

    /// The index tensors by name.
    pub fn tensors(&self) -> [(&'static Tensor, Vec<u32>); 5] {
        [
            (tensor("n_rows"), vec![self.len() as u32]),
            (tensor("labels"), self.labels.clone()),
            (tensor("slots"), self.slots.clone()),
            (tensor("slot_edges"), self.slot_edges.clone()),
            (tensor("slot_rows"), self.slot_rows.clone()),
        ]
    }
}

/// An index tensor by its name.
fn tensor(name: &str) -> &'static Tensor {
    Tensor::find(name).expect("index tensors stand in the table")
}

/// What a machine is built for: the network and each model's rows.
pub struct Layout {
    /// The network's sizes, the same for all models.
    pub shape: Shape,
    /// One for each model.
    pub train: Vec<Rows>,
    /// One for each model.
    pub grid: Vec<Rows>,
    /// Rows of each batch that are done at a time, which stay when models leave.
    room: [usize; 2],
}

impl Layout {
    /// Sorts each model's pairs into rows. Panics where there are not as many train sets as grids.
    pub fn new(shape: Shape, train: &[Pairs], grid: &[Pairs]) -> Self {
        assert_eq!(train.len(), grid.len(), "every model has train rows and a grid");
        let rows = |pairs: &[Pairs]| pairs.iter().map(|pairs| Rows::new(pairs, &shape)).collect();
        let (train, grid) = (rows(train), rows(grid));
        let room = [&train, &grid].map(|batch: &Vec<Rows>| batch.iter().map(Rows::len).max().unwrap_or(0));
        Self { shape, train, grid, room }
    }

    /// Leaves out all models but these, whose numbers rise.
    pub fn keep(&mut self, models: &[usize]) {
        pick(&mut self.train, models);
        pick(&mut self.grid, models);
    }

    /// Networks side by side.
    pub fn models(&self) -> usize {
        self.train.len()
    }

    /// Has the grid taken in blocks of about as many rows as are trained on, so that evaluations need no more memory than training steps.
    pub fn divide_grid(&mut self) {
        let [train, grid] = self.room;
        self.room = [train, block_of_grid(train, grid)];
    }

    /// Sizes of the train batch, and of a block of the grid.
    pub fn all_sizes(&self) -> [Sizes; 2] {
        [Batch::Train, Batch::Grid].map(|batch| self.sizes(batch))
    }

    /// In how many blocks the grid is taken.
    pub fn blocks(&self) -> usize {
        let most = self.grid.iter().map(Rows::len).max().unwrap_or(0);
        most.div_ceil(self.room[Batch::Grid as usize].max(1))
    }

    /// The rows of a model's grid that are in a block, which may be none.
    pub fn rows_of_block(&self, model: usize, block: usize) -> Range<usize> {
        let (len, room) = (self.grid[model].len(), self.room[Batch::Grid as usize]);
        (block * room).min(len)..((block + 1) * room).min(len)
    }

    /// The index tensors of a model's rows: of the train batch, or of a block of its grid. For a block of a grid they leave out the
    /// rows of slots, which only a backward pass needs.
    pub fn block(&self, batch: Batch, model: usize, block: usize) -> Vec<(&'static Tensor, Vec<u32>)> {
        let rows = &self.of(batch)[model];
        if batch == Batch::Train || self.blocks() == 1 {
            return rows.tensors().into();
        }
        let Range { start, end } = self.rows_of_block(model, block);
        vec![
            (tensor("n_rows"), vec![(end - start) as u32]),
            (tensor("labels"), rows.labels[start..end].to_vec()),
            (tensor("slots"), rows.slots[3 * start..3 * end].to_vec()),
        ]
    }

    /// Each model's rows of a batch.
    pub fn of(&self, batch: Batch) -> &[Rows] {
        match batch {
            Batch::Train => &self.train,
            Batch::Grid => &self.grid,
        }
    }

    /// Sizes with room for the model that had the most rows of all that were there at first; of a grid in blocks, for the rows of a block.
    pub fn sizes(&self, batch: Batch) -> Sizes {
        Sizes { shape: self.shape, rows: self.room[batch as usize] }
    }
}

/// As many rows of a grid as are evaluated at a time, by the rows that are trained on.
pub fn block_of_grid(train: usize, grid: usize) -> usize {
    train.max(LEAST_BLOCK).min(grid)
}

/// Leaves out everything but what stands at these places, which rise.
pub fn pick<T>(items: &mut Vec<T>, places: &[usize]) {
    let mut place = 0;
    items.retain(|_| {
        place += 1;
        places.binary_search(&(place - 1)).is_ok()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Op;

    #[test]
    fn rows_stand_in_blocks_and_are_found_under_their_slots() {
        let shape = Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 3, d_vocab_out: 5 };
        let pairs = Pairs::new(vec![[3, 1], [0, 1], [3, 4]], Op::Add, 5);
        let rows = Rows::new(&pairs, &shape);
        let of = |slot: usize| &rows.slot_rows[rows.slot_edges[slot] as usize..rows.slot_edges[slot + 1] as usize];
        assert_eq!(rows.order, [1, 0, 2]);
        assert_eq!((of(3), of(0), of(1)), (&[1, 2][..], &[0][..], &[][..]));
        assert_eq!((of(5 + 1), of(5 + 4), of(10)), (&[0, 1][..], &[2][..], &[0, 1, 2][..]));
    }
}
