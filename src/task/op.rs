//! The operation that makes the label.

use super::symmetric;
use crate::random::Philox;
use anyhow::{Result, bail, ensure};
use std::str::FromStr;

/// x op y, on the residues mod p or, for [`Op::S5`], on the permutations of five things.
///
/// ```
/// use grokscope::task::Op;
///
/// let div: Op = "div".parse()?;
/// assert_eq!(div.label(3, 2, 7), 5); // 2 * 5 = 3 mod 7
/// assert!(!div.is_defined(3, 0, 7));
/// # anyhow::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// x + y mod p
    Add,
    /// x - y mod p
    Sub,
    /// x y mod p
    Mul,
    /// x / y mod p, where y has an inverse
    Div,
    /// x^2 + y^2 mod p
    Squares,
    /// x^2 + x y + y^2 mod p
    Quadratic,
    /// x^3 + x y mod p
    Cubic,
    /// A label drawn for each pair: nothing to generalise.
    Random,
    /// The permutation x after y; p is 120.
    S5,
}

/// Every operation: its name in plans, and what the label is.
const TABLE: [(Op, &str, &str); 9] = [
    (Op::Add, "add", "x + y"),
    (Op::Sub, "sub", "x - y"),
    (Op::Mul, "mul", "x y"),
    (Op::Div, "div", "x / y"),
    (Op::Squares, "squares", "x^2 + y^2"),
    (Op::Quadratic, "quadratic", "x^2 + x y + y^2"),
    (Op::Cubic, "cubic", "x^3 + x y"),
    (Op::Random, "random", "a label drawn once for each pair"),
    (Op::S5, "s5", "x after y, permutations of five things"),
];

/// The names of the operations.
pub const OPS: [&str; 9] = {
    let mut names = [""; 9];
    let mut i = 0;
    while i < names.len() {
        names[i] = TABLE[i].1;
        i += 1;
    }
    names
};

impl FromStr for Op {
    type Err = anyhow::Error;
    fn from_str(name: &str) -> Result<Self> {
        match TABLE.iter().find(|(_, other, _)| *other == name) {
            Some((op, ..)) => Ok(*op),
            None => bail!("unknown op '{name}': there are {}", OPS.join(", ")),
        }
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.row().1)
    }
}

impl Op {
    fn row(self) -> &'static (Op, &'static str, &'static str) {
        TABLE.iter().find(|(op, ..)| *op == self).expect("every operation stands in the table")
    }

    /// What the label is: "x + y mod 113".
    pub fn formula(self, p: usize) -> String {
        let formula = self.row().2;
        match self {
            Self::Random | Self::S5 => formula.into(),
            _ => format!("{formula} mod {p}"),
        }
    }

    /// Refuses a p that the operation does not have.
    pub fn check(self, p: usize) -> Result<()> {
        ensure!(
            self != Self::S5 || p == symmetric::ORDER,
            "p = {p} with op = s5: expected p = {}, the number of permutations of five things",
            symmetric::ORDER
        );
        Ok(())
    }

    /// Whether the pair has a label: x / y only where y has an inverse.
    pub fn is_defined(self, _x: usize, y: usize, p: usize) -> bool {
        self != Self::Div || inverse(y, p).is_some()
    }

    /// The pairs that have a label, among p * p.
    pub fn count(self, p: usize) -> usize {
        p * (0..p).filter(|&y| self.is_defined(0, y, p)).count()
    }

    /// The label of a pair that has one.
    pub fn label(self, x: usize, y: usize, p: usize) -> usize {
        match self {
            Self::Add => (x + y) % p,
            Self::Sub => (x + p - y) % p,
            Self::Mul => x * y % p,
            Self::Div => x * inverse(y, p).unwrap_or_else(|| panic!("{y} has no inverse mod {p}")) % p,
            Self::Squares => (x * x + y * y) % p,
            Self::Quadratic => (x * x + x * y + y * y) % p,
            Self::Cubic => (x * x % p * x + x * y) % p,
            Self::Random => random_label(x, y, p),
            Self::S5 => symmetric::compose(x, y),
        }
    }
}

/// z with y z = 1 mod p, where there is one: the extended Euclidean algorithm.
fn inverse(y: usize, p: usize) -> Option<usize> {
    let (mut old, mut new) = ((p as i64, 0), (y as i64, 1));
    while new.0 != 0 {
        let q = old.0 / new.0;
        (old, new) = (new, (old.0 - q * new.0, old.1 - q * new.1));
    }
    (old.0 == 1).then(|| old.1.rem_euclid(p as i64) as usize)
}

/// Of 32 random bits at counter (x p + y, 0, 0, 2) under seed 0: the share of 2^32 times p, rounded down.
fn random_label(x: usize, y: usize, p: usize) -> usize {
    let [word, ..] = Philox::new(0).block([(x * p + y) as u32, 0, 0, 2]);
    ((u64::from(word) * p as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_their_operations() {
        for (op, name, _) in TABLE {
            assert_eq!((name.parse::<Op>().unwrap(), op.to_string().as_str()), (op, name));
        }
        assert!("plus".parse::<Op>().unwrap_err().to_string().contains("add, sub, mul, div"));
    }

    #[test]
    fn labels_are_computed_by_hand() {
        let of = |op: Op| [op.label(5, 4, 7), op.label(2, 6, 7)];
        assert_eq!(of(Op::Add), [2, 1]);
        assert_eq!(of(Op::Sub), [1, 3]);
        assert_eq!(of(Op::Mul), [6, 5]);
        // 4 * 2 = 6 * 6 = 1 mod 7.
        assert_eq!(of(Op::Div), [5 * 2 % 7, 2 * 6 % 7]);
        assert_eq!(of(Op::Squares), [41 % 7, 40 % 7]);
        assert_eq!(of(Op::Quadratic), [61 % 7, 52 % 7]);
        assert_eq!(of(Op::Cubic), [145 % 7, 20 % 7]);
        // No product of residues below 30,000 overflows.
        assert_eq!(Op::Cubic.label(29_988, 29_988, 29_989), 0);
    }

    #[test]
    fn division_undoes_multiplication_and_leaves_out_what_has_no_inverse() {
        for p in [3, 8, 12, 31] {
            for y in 0..p {
                let divides = (2..p).any(|d| p % d == 0 && y % d == 0) || y == 0;
                assert_eq!(Op::Div.is_defined(1, y, p), !divides, "{y} mod {p}");
                for x in (0..p).filter(|_| !divides) {
                    assert_eq!(Op::Mul.label(Op::Div.label(x, y, p), y, p), x);
                }
            }
        }
        assert_eq!((Op::Div.count(31), Op::Div.count(12), Op::Add.count(12)), (31 * 30, 12 * 4, 144));
    }

    #[test]
    fn random_labels_are_each_as_likely_and_stay() {
        let p = 31;
        let mut counts = vec![0; p];
        (0..p * p).for_each(|i| counts[Op::Random.label(i / p, i % p, p)] += 1);
        // 31 a label; seven standard deviations.
        assert!(counts.iter().all(|&n| (1..70).contains(&n)), "{counts:?}");
        assert_ne!(Op::Random.label(3, 4, p), Op::Random.label(4, 3, p));
    }
}
