//! The task: all pairs (x, y) with their labels, and which of them are trained on.
//!
//! A split is a permutation of the p*p pairs of which the first `int(fraction * p * p)` are trained on. Permutations
//! are repeatable without Python: each rule states its generator and its loop.

use crate::random::Philox;
use anyhow::{Result, bail, ensure};
use rand_mt::Mt;
use std::str::FromStr;

/// The operation that makes the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// (x + y) mod p
    Add,
    /// (x - y) mod p
    Sub,
    /// (x * y) mod p
    Mul,
}

pub const OPS: &[&str] = &["add", "sub", "mul"];

impl FromStr for Op {
    type Err = anyhow::Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "add" => Ok(Self::Add),
            "sub" => Ok(Self::Sub),
            "mul" => Ok(Self::Mul),
            other => bail!("unknown op '{other}': there are {}", OPS.join(", ")),
        }
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
        })
    }
}

impl Op {
    pub fn label(self, x: usize, y: usize, p: usize) -> usize {
        match self {
            Self::Add => (x + y) % p,
            Self::Sub => (x + p - y) % p,
            Self::Mul => x * y % p,
        }
    }
}

/// How the train pairs are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// Sorted by the key of [`philox_permutation`].
    Philox(u64),
    /// `torch.randperm(p * p)` under `torch.manual_seed(S)`.
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

/// The order of the p*p pairs, pair i being (i / p, i % p); a split trains on its head. Not for [`Split::File`].
pub fn permutation(split: &Split, p: usize) -> Vec<u32> {
    let n = p * p;
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

/// Pairs with their labels, in the order in which rows are trained or evaluated on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    pub pairs: Vec<[u32; 2]>,
    pub labels: Vec<u32>,
}

impl Pairs {
    pub fn new(pairs: Vec<[u32; 2]>, op: Op, p: usize) -> Self {
        let label = |[x, y]: &[u32; 2]| op.label(*x as usize, *y as usize, p) as u32;
        let labels = pairs.iter().map(label).collect();
        Self { pairs, labels }
    }

    /// All p*p pairs, row x * p + y.
    pub fn grid(op: Op, p: usize) -> Self {
        Self::new((0..p as u32 * p as u32).map(|i| [i / p as u32, i % p as u32]).collect(), op, p)
    }

    /// The pairs of `split` that are trained on; `file` holds the text of a [`Split::File`].
    pub fn train(split: &Split, fraction: f64, op: Op, p: usize, file: Option<&str>) -> Result<Self> {
        let pairs = match (split, file) {
            (Split::File(path), Some(text)) => parse_csv(text, path, p)?,
            (Split::File(path), None) => bail!("{path}: the split's file was not read"),
            (rule, _) => {
                let rows = (fraction * (p * p) as f64) as usize;
                ensure!(rows > 0, "train_fraction = {fraction} of {p}*{p} pairs leaves nothing to train on");
                let order = permutation(rule, p);
                order[..rows].iter().map(|&i| [i / p as u32, i % p as u32]).collect()
            }
        };
        Ok(Self::new(pairs, op, p))
    }

    pub fn len(&self) -> usize {
        self.pairs.len()
    }
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// For each of the p*p pairs, whether it is among these.
    pub fn membership(&self, p: usize) -> Vec<bool> {
        let mut member = vec![false; p * p];
        for [x, y] in &self.pairs {
            member[*x as usize * p + *y as usize] = true;
        }
        member
    }

    /// The text of a split file that repeats these pairs.
    pub fn to_csv(&self) -> String {
        let lines = self.pairs.iter().map(|[x, y]| format!("{x},{y}\n"));
        format!("x,y\n{}", lines.collect::<String>())
    }
}

/// Pairs of a CSV text: `x,y` a line, a header allowed, each pair inside the grid and there once.
fn parse_csv(text: &str, path: &str, p: usize) -> Result<Vec<[u32; 2]>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let mut pairs = Vec::new();
    let mut first_line = std::collections::HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|e| anyhow::anyhow!("{path}: not CSV: {e}"))?;
        let line = record.position().map_or(0, |position| position.line());
        if line == 1 && record.iter().map(str::to_lowercase).eq(["x", "y"]) {
            continue;
        }
        ensure!(
            record.len() == 2,
            "{path}:{line}: expected two numbers x,y with a comma between them, found {} fields",
            record.len()
        );
        let mut pair = [0; 2];
        for (number, field) in pair.iter_mut().zip(&record) {
            *number = match field.parse() {
                Ok(n) if (n as usize) < p => n,
                Ok(_) => bail!("{path}:{line}: '{field}' is outside the grid: expected an integer in 0..{p}"),
                Err(_) => {
                    bail!("{path}:{line}: '{field}' is no number in 0..{p}: expected x,y, or the header x,y on line 1")
                }
            };
        }
        if let Some(earlier) = first_line.insert(pair, line) {
            bail!("{path}:{line}: the pair {},{} stands on line {earlier} already", pair[0], pair[1]);
        }
        pairs.push(pair);
    }
    ensure!(!pairs.is_empty(), "{path}: holds no pair x,y");
    Ok(pairs)
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
    fn a_split_is_the_floor_of_its_fraction_from_the_rule_it_names() {
        let train =
            |split: &str, fraction, p| Pairs::train(&split.parse().unwrap(), fraction, Op::Add, p, None).unwrap();
        assert_eq!((train("philox:0", 0.3, 113).len(), train("philox:0", 0.6, 59).len()), (3_830, 2_088));
        // Pair i of a permutation is (i / p, i % p).
        assert_eq!(train("torch:598", 0.3, 113).pairs[..2], [[2404 / 113, 2404 % 113], [3488 / 113, 3488 % 113]]);
        assert_eq!(train("python:0", 0.3, 113).pairs[..2], [[2068 / 113, 2068 % 113], [1213 / 113, 1213 % 113]]);
    }

    #[test]
    fn philox_orders_every_pair_once() {
        let mut order = philox_permutation(3, 1000);
        assert_ne!(order, philox_permutation(4, 1000));
        order.sort();
        assert!(order.iter().copied().eq(0..1000));
    }

    #[test]
    fn a_csv_keeps_its_order_and_refuses_strangers() {
        assert_eq!(parse_csv("x,y\n3,1\n 0, 2\n", "f.csv", 5).unwrap(), [[3, 1], [0, 2]]);
        let error = |text: &str| parse_csv(text, "f.csv", 5).unwrap_err().to_string();
        assert_eq!(error("1,2\n1,5\n"), "f.csv:2: '5' is outside the grid: expected an integer in 0..5");
        assert_eq!(error("1,2\n0,0\n1,2"), "f.csv:3: the pair 1,2 stands on line 1 already");
        assert!(error("1\n").contains("two numbers"));
        assert!(error("").contains("holds no pair"));
        assert!(error("1,-2").contains("'-2' is no number in 0..5"));
    }
}
