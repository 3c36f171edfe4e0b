//! Variance of a table over a group's elements, shared out among the group's irreducible representations.
//!
//! A function on a finite group is a sum of parts, one for each irreducible representation, at right angles to each other.
//! With chi the character and d the dimension, the part's squared norm is d / |G| sum over g, h of chi(g h^-1) f(g) f(h)
//! (Serre, Linear Representations of Finite Groups, 2.6). For Z_n over the reals these are its frequencies: the waves
//! cos and sin of k together. For the symmetric group S5 there are seven.

use super::fourier::Fourier;
use crate::task::symmetric;
use serde::{Deserialize, Serialize};

/// How the elements are taken apart.
pub enum Basis {
    /// Frequencies of Z_n.
    Waves(Fourier),
    /// Representations of S5.
    Symmetric(SymmetricGroup),
}

/// The irreducible representations of S5 but the trivial one, whose part is the mean: by their Young diagrams.
const S5: [Representation; 6] = [
    Representation { name: "[1^5] sign", dimension: 1, characters: [1, -1, 1, 1, -1, -1, 1] },
    Representation { name: "[4,1] standard", dimension: 4, characters: [4, 2, 0, 1, -1, 0, -1] },
    Representation { name: "[2,1^3]", dimension: 4, characters: [4, -2, 0, 1, 1, 0, -1] },
    Representation { name: "[3,2]", dimension: 5, characters: [5, 1, 1, -1, 1, -1, 0] },
    Representation { name: "[2^2,1]", dimension: 5, characters: [5, -1, 1, -1, -1, 1, 0] },
    Representation { name: "[3,1^2]", dimension: 6, characters: [6, 0, -2, 0, 0, 0, 1] },
];

struct Representation {
    name: &'static str,
    dimension: usize,
    /// Of the classes in the order of [`CLASSES`].
    characters: [i32; 7],
}

/// Conjugacy classes: the lengths of the cycles, longest first.
const CLASSES: [&[usize]; 7] = [&[1, 1, 1, 1, 1], &[2, 1, 1, 1], &[2, 2, 1], &[3, 1, 1], &[3, 2], &[4, 1], &[5]];

/// Which conjugacy class g h^-1 belongs to, for every g and h: [g, h].
pub struct SymmetricGroup {
    class: Vec<u8>,
}

/// Shares of a table's variance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Of each part in the order of [`Basis::names`]; they add up to 1, and are all 0 where nothing varies.
    pub shares: Vec<f64>,
    /// Gini coefficient of share over dimension: 0 where every dimension has as much, near 1 where one part has it all.
    pub gini: f64,
}

impl Basis {
    /// Of Z_n: a part for each frequency, its cosine and sine together; the constant is left out.
    pub fn waves(n: usize) -> Self {
        Self::Waves(Fourier::new(n))
    }

    /// Of S5: its irreducible representations but the trivial one, six parts.
    pub fn symmetric() -> Self {
        let n = symmetric::ORDER;
        let class = |g: usize, h: usize| class_of(symmetric::compose(g, symmetric::inverse(h)));
        Self::Symmetric(SymmetricGroup { class: (0..n * n).map(|i| class(i / n, i % n)).collect() })
    }

    /// What the parts are called: "k = 3" or a Young diagram.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::Waves(fourier) => (1..=fourier.n() / 2).map(|k| format!("k = {k}")).collect(),
            Self::Symmetric(_) => S5.iter().map(|part| part.name.into()).collect(),
        }
    }

    /// Dimensions of the spaces of functions that the parts live in; with the mean's they add up to the elements.
    pub fn dimensions(&self) -> Vec<usize> {
        match self {
            Self::Waves(fourier) => (1..=fourier.n() / 2).map(|k| if 2 * k == fourier.n() { 1 } else { 2 }).collect(),
            Self::Symmetric(_) => S5.iter().map(|part| part.dimension.pow(2)).collect(),
        }
    }

    fn elements(&self) -> usize {
        match self {
            Self::Waves(fourier) => fourier.n(),
            Self::Symmetric(_) => symmetric::ORDER,
        }
    }

    /// Of a [n, columns] table, along its first axis.
    pub fn shares_of_rows(&self, table: &[f64], columns: usize) -> Shares {
        let n = self.elements();
        let squares = match self {
            Self::Waves(fourier) => {
                let norms = |i: usize, x: &[f64]| x[i * columns..][..columns].iter().map(|x| x * x).sum::<f64>();
                let x = fourier.transform_rows(table, columns);
                (1..=n / 2).map(|k| (2 * k - 1..n.min(2 * k + 1)).map(|i| norms(i, &x)).sum()).collect()
            }
            Self::Symmetric(group) => {
                // The inner products of rows whose quotient is in a class, summed.
                let row = |g: usize| &table[g * columns..][..columns];
                let mut of_class = [0.0; CLASSES.len()];
                for (pair, &class) in group.class.iter().enumerate() {
                    of_class[class as usize] += crate::cpu::dot(row(pair / n), row(pair % n));
                }
                let square = |part: &Representation| {
                    let sum: f64 = part.characters.iter().zip(&of_class).map(|(&chi, sum)| f64::from(chi) * sum).sum();
                    // Rounding may leave less than nothing of a part that is not there.
                    (part.dimension as f64 / n as f64 * sum).max(0.0)
                };
                S5.iter().map(square).collect()
            }
        };
        let all: f64 = table.iter().map(|x| x * x).sum();
        self.shares(squares, all)
    }

    /// Of a [rows, n] table, along its second axis.
    pub fn shares_of_columns(&self, table: &[f64]) -> Shares {
        let n = self.elements();
        let rows = table.len() / n;
        let turned: Vec<f64> = (0..n * rows).map(|i| table[i % rows * n + i / rows]).collect();
        self.shares_of_rows(&turned, rows)
    }

    /// From the squares of the parts; `all` is that of the whole table.
    fn shares(&self, squares: Vec<f64>, all: f64) -> Shares {
        let total: f64 = squares.iter().sum();
        // Rounding leaves something of a table that does not vary.
        let varies = total > 1e-24 * all;
        let shares: Vec<f64> = squares.iter().map(|x| if varies { x / total } else { 0.0 }).collect();
        let each = shares.iter().zip(self.dimensions()).flat_map(|(share, d)| vec![share / d as f64; d]);
        Shares { gini: super::spectrum::gini(&each.collect::<Vec<_>>()), shares }
    }
}

fn class_of(index: usize) -> u8 {
    let element = symmetric::element(index);
    let mut seen = [false; symmetric::THINGS];
    let mut cycles = Vec::new();
    for start in 0..symmetric::THINGS {
        let (mut thing, mut length) = (start, 0);
        while !std::mem::replace(&mut seen[thing], true) {
            thing = element[thing];
            length += 1;
        }
        cycles.extend((length > 0).then_some(length));
    }
    cycles.sort_by(|a, b| b.cmp(a));
    CLASSES.iter().position(|class| **class == cycles).expect("every partition of five is a class") as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Philox;

    fn numbers(count: usize) -> Vec<f64> {
        (0..count).map(|i| Philox::new(1).normal(0, i)).collect()
    }

    #[test]
    fn characters_are_orthonormal() {
        let mut sizes = [0; 7];
        (0..120).for_each(|g| sizes[class_of(g) as usize] += 1);
        assert_eq!(sizes, [1, 10, 15, 20, 20, 30, 24]);
        for (i, a) in S5.iter().enumerate() {
            assert_eq!(a.characters[0], a.dimension as i32);
            assert_eq!(a.characters.iter().zip(sizes).map(|(x, n)| x * n).sum::<i32>(), 0, "the trivial one");
            for (j, b) in S5.iter().enumerate() {
                let product: i32 = (0..7).map(|c| sizes[c] * a.characters[c] * b.characters[c]).sum();
                assert_eq!(product, if i == j { 120 } else { 0 }, "{} {}", a.name, b.name);
            }
        }
        assert_eq!(Basis::symmetric().dimensions().iter().sum::<usize>(), 119);
    }

    #[test]
    fn a_function_of_one_representation_has_all_its_variance_there() {
        let basis = Basis::symmetric();
        // Where each element takes thing 2, as an indicator: the permutation representation, trivial and standard.
        let standard: Vec<f64> =
            (0..120).flat_map(|g| (0..5).map(move |to| f64::from(u8::from(symmetric::element(g)[2] == to)))).collect();
        let shares = basis.shares_of_rows(&standard, 5);
        assert!((shares.shares[1] - 1.0).abs() < 1e-12 && shares.gini > 0.8, "{shares:?}");
        // The sign alone, by counting inversions.
        let sign = |g: usize| {
            let e = symmetric::element(g);
            let odd = (0..5).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|&(i, j)| e[j] > e[i]).count() % 2;
            if odd == 0 { 1.0 } else { -1.0 }
        };
        let shares = basis.shares_of_columns(&(0..120).map(sign).collect::<Vec<_>>());
        assert!((shares.shares[0] - 1.0).abs() < 1e-12, "{shares:?}");
    }

    #[test]
    fn parts_add_up_to_the_variance_and_noise_has_as_much_in_every_dimension() {
        for basis in [Basis::symmetric(), Basis::waves(31), Basis::waves(12)] {
            let n = basis.elements();
            let table = numbers(n * 200);
            let shares = basis.shares_of_rows(&table, 200);
            assert!((shares.shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (share, d) in shares.shares.iter().zip(basis.dimensions()) {
                let expected = d as f64 / (n - 1) as f64;
                // Chi square with 200 d degrees: five standard deviations.
                assert!((share / expected - 1.0).abs() < 5.0 * (2.0 / (200 * d) as f64).sqrt(), "{share} {expected}");
            }
            assert!(shares.gini < 0.1);
            let turned = basis.shares_of_columns(&table);
            assert_eq!(turned.shares.len(), shares.shares.len());
        }
        assert_eq!(Basis::waves(5).shares_of_rows(&[3.0; 5], 1).shares, [0.0, 0.0]);
    }
}
