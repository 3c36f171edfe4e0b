//! The task: pairs (x, y) with their labels, and which of them are trained on.

mod op;
mod split;
pub mod symmetric;

pub use op::{OPS, Op};
pub use split::{Split, permutation, philox_permutation, python_permutation, torch_permutation};

use anyhow::{Result, bail, ensure};

/// Pairs with their labels, in the order in which rows are trained or evaluated on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// (x, y), each below p.
    pub pairs: Vec<[u32; 2]>,
    /// The right class of each.
    pub labels: Vec<u32>,
}

impl Pairs {
    /// Pairs with the labels that an operation gives them.
    pub fn new(pairs: Vec<[u32; 2]>, op: Op, p: usize) -> Self {
        let label = |[x, y]: &[u32; 2]| op.label(*x as usize, *y as usize, p) as u32;
        let labels = pairs.iter().map(label).collect();
        Self { pairs, labels }
    }

    /// All pairs that have a label, by x and then by y: of p*p all, but where x / y is not defined.
    pub fn grid(op: Op, p: usize) -> Self {
        let all = (0..p as u32 * p as u32).map(|i| [i / p as u32, i % p as u32]);
        Self::new(all.filter(|&[x, y]| op.is_defined(x as usize, y as usize, p)).collect(), op, p)
    }

    /// The pairs of `split` that are trained on; `file` holds the text of a [`Split::File`].
    pub fn train(split: &Split, fraction: f64, op: Op, p: usize, file: Option<&str>) -> Result<Self> {
        let pairs = match (split, file) {
            (Split::File(path), Some(text)) => parse_csv(text, path, op, p)?,
            (Split::File(path), None) => bail!("{path}: the split's file was not read"),
            (rule, _) => {
                let grid = Self::grid(op, p).pairs;
                let rows = (fraction * grid.len() as f64) as usize;
                ensure!(rows > 0, "train_fraction = {fraction} of {} pairs leaves nothing to train on", grid.len());
                permutation(rule, grid.len())[..rows].iter().map(|&i| grid[i as usize]).collect()
            }
        };
        Ok(Self::new(pairs, op, p))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// For each of the p*p pairs (x, y), in the order x * p + y, whether it is among these.
    pub fn membership(&self, p: usize) -> Vec<bool> {
        let mut member = vec![false; p * p];
        for [x, y] in &self.pairs {
            member[*x as usize * p + *y as usize] = true;
        }
        member
    }

    /// For each of `all` pairs whether it is among these.
    pub fn among(&self, all: &Self, p: usize) -> Vec<bool> {
        let member = self.membership(p);
        all.pairs.iter().map(|[x, y]| member[*x as usize * p + *y as usize]).collect()
    }

    /// The text of a split file that repeats these pairs.
    pub fn to_csv(&self) -> String {
        let lines = self.pairs.iter().map(|[x, y]| format!("{x},{y}\n"));
        format!("x,y\n{}", lines.collect::<String>())
    }
}

/// Pairs of a CSV text: `x,y` a line, a header allowed, each pair inside the grid, with a label, and there once.
fn parse_csv(text: &str, path: &str, op: Op, p: usize) -> Result<Vec<[u32; 2]>> {
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
        ensure!(
            op.is_defined(pair[0] as usize, pair[1] as usize, p),
            "{path}:{line}: {},{} has no label: {} has no inverse mod {p}",
            pair[0],
            pair[1],
            pair[1]
        );
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

    #[test]
    fn a_split_is_the_floor_of_its_fraction_from_the_rule_it_names() {
        let train =
            |split: &str, fraction, p| Pairs::train(&split.parse().unwrap(), fraction, Op::Add, p, None).unwrap();
        assert_eq!((train("philox:0", 0.3, 113).len(), train("philox:0", 0.6, 59).len()), (3_830, 2_088));
        // Pair i of a permutation is (i / p, i % p).
        assert_eq!(train("torch:598", 0.3, 113).pairs[..2], [[2404 / 113, 2404 % 113], [3488 / 113, 3488 % 113]]);
        // Where only some pairs have a label, i counts those.
        let div = Pairs::train(&"torch:598".parse().unwrap(), 0.5, Op::Div, 5, None).unwrap();
        let order = torch_permutation(598, 20);
        let pairs: Vec<[u32; 2]> = order[..10].iter().map(|i| [i / 4, i % 4 + 1]).collect();
        assert_eq!(div.pairs, pairs);
        assert_eq!(train("python:0", 0.3, 113).pairs[..2], [[2068 / 113, 2068 % 113], [1213 / 113, 1213 % 113]]);
    }

    #[test]
    fn a_csv_keeps_its_order_and_refuses_strangers() {
        assert_eq!(parse_csv("x,y\n3,1\n 0, 2\n", "f.csv", Op::Add, 5).unwrap(), [[3, 1], [0, 2]]);
        let error = |text: &str| parse_csv(text, "f.csv", Op::Div, 5).unwrap_err().to_string();
        assert_eq!(error("1,2\n1,5\n"), "f.csv:2: '5' is outside the grid: expected an integer in 0..5");
        assert_eq!(error("1,2\n0,1\n1,2"), "f.csv:3: the pair 1,2 stands on line 1 already");
        assert_eq!(error("1,0"), "f.csv:1: 1,0 has no label: 0 has no inverse mod 5");
        assert!(error("1\n").contains("two numbers"));
        assert!(error("").contains("holds no pair"));
        assert!(error("1,-2").contains("'-2' is no number in 0..5"));
    }
}
