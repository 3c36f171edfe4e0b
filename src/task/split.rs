//! Which pairs are trained on.
//!
//! A split is a permutation of the pairs of which the first `int(fraction * pairs)` are trained on. Permutations are
//! repeatable without Python: each rule states its generator and its loop.

use crate::random::Philox;
use anyhow::Result;
use rand_mt::Mt;
use std::str::FromStr;

/// How the train pairs are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Sorted by the key of [`philox_permutation`].
    Philox(u64),
    /// `torch.randperm(pairs)` under `torch.manual_seed(S)`.
    Torch(u64),
    /// `random.seed(S); random.shuffle(pairs)`.
    Python(u64),
    /// A file with a pair `x,y` a line, in its order.
    File(String),
}

impl FromStr for Split {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.ends_with(".csv") {
            return Ok(Self::File(text.into()));
        }
        let expected = || {
            anyhow::anyhow!(
                "unknown split '{text}': expected philox:SEED, torch:SEED, python:SEED (SEED an integer in 0..2^64), or a file that ends in .csv"
            )
        };
        let (rule, seed) = text.split_once(':').ok_or_else(expected)?;
        let seed = seed.parse().map_err(|_| expected())?;
        match rule {
            "philox" => Ok(Self::Philox(seed)),
            "torch" => Ok(Self::Torch(seed)),
            "python" => Ok(Self::Python(seed)),
            _ => Err(expected()),
        }
    }
}

/// An order of `n` pairs, of which a split trains on the head. Not for [`Split::File`].
pub fn permutation(split: &Split, n: usize) -> Vec<u32> {
    match split {
        Split::Philox(seed) => philox_permutation(*seed, n),
        Split::Torch(seed) => torch_permutation(*seed, n),
        Split::Python(seed) => python_permutation(*seed, n),
        Split::File(_) => unreachable!("a file lists its pairs itself"),
    }
}

/// Element i has the 64-bit key made of words 0 (low) and 1 (high) of Philox4x32-10 at counter (i, 0, 0, 0) under the
/// seed; the permutation sorts by (key, i).
pub fn philox_permutation(seed: u64, n: usize) -> Vec<u32> {
    let philox = Philox::new(seed);
    let key = |i: u32| {
        let words = philox.block([i, 0, 0, 0]);
        (words[0] as u64 | (words[1] as u64) << 32, i)
    };
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by_cached_key(|&i| key(i));
    order
}

/// PyTorch's CPU `randperm` for n < 2^32: MT19937 of the seed's low 32 bits, and a swap with one of the rest.
pub fn torch_permutation(seed: u64, n: usize) -> Vec<u32> {
    let mut mt = Mt::new(seed as u32);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in 0..n.saturating_sub(1) {
        let z = mt.next_u32() as usize % (n - i);
        order.swap(i, i + z);
    }
    order
}

/// CPython's `random.shuffle`: init_by_array of the seed's 32-bit digits, then from the end down a swap with an index
/// drawn by `getrandbits` with rejection.
pub fn python_permutation(seed: u64, n: usize) -> Vec<u32> {
    let (low, high) = (seed as u32, (seed >> 32) as u32);
    let digits = if high == 0 { vec![low] } else { vec![low, high] };
    let mut mt = Mt::new_with_key(digits);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let choices = i as u32 + 1;
        let bits = u32::BITS - choices.leading_zeros();
        let j = loop {
            let draw = mt.next_u32() >> (32 - bits);
            if draw < choices {
                break draw as usize;
            }
        };
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From PyTorch 2: `torch.manual_seed(s); torch.randperm(10)`, and Python 3: `random.seed(s); shuffle(range(10))`.
    #[test]
    fn permutations_are_those_of_torch_and_python() {
        assert_eq!(torch_permutation(598, 10), [9, 5, 1, 0, 8, 4, 6, 7, 2, 3]);
        assert_eq!(torch_permutation(0, 10), [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]);
        assert_eq!(python_permutation(0, 10), [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]);
        // All 113 * 113 pairs: the ends, and the sum of place times element.
        let print = |order: &[u32]| order.iter().enumerate().map(|(i, &x)| i as u64 * x as u64).sum::<u64>();
        let (torch, python) = (torch_permutation(598, 12_769), python_permutation(0, 12_769));
        let ends = |order: &[u32]| [order[0], order[1], order[2], order[12_766], order[12_767], order[12_768]];
        assert_eq!((ends(&torch), print(&torch)), ([2404, 3488, 5321, 4665, 6145, 3091], 519_723_676_120));
        assert_eq!((ends(&python), print(&python)), ([2068, 1213, 6243, 6890, 12418, 6311], 517_863_871_983));
        assert_eq!(python_permutation(1 << 40, 10), [7, 8, 2, 4, 6, 0, 3, 9, 5, 1]);
    }

    #[test]
    fn philox_orders_every_pair_once() {
        let mut order = philox_permutation(3, 1000);
        assert_ne!(order, philox_permutation(4, 1000));
        order.sort();
        assert!(order.iter().copied().eq(0..1000));
    }
}
