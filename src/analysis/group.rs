//! The cyclic group behind an operation: in which order its elements are waves.
//!
//! Addition and subtraction mod p go round Z_p itself. Multiplication mod a prime goes round Z_(p-1): every residue but 0
//! is a power of the smallest primitive root, and multiplying adds the exponents (the discrete logarithms); dividing subtracts
//! them. Written in the group's order every one of these tasks is c = a + b or c = a - b mod n, and the rest of the
//! analysis knows only that. Operations without such a group are looked at by [`super::survey`].

use crate::task::Op;

/// A cyclic group of residues mod p.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Residue of each index 0..n.
    pub elements: Vec<usize>,
    /// Whether the label's index is a - b rather than a + b.
    pub difference: bool,
}

impl Group {
    /// The group of an operation mod p, where it has one with a frequency: products and quotients mod a prime above 3.
    pub fn of(op: Op, p: usize) -> Option<Self> {
        let difference = matches!(op, Op::Sub | Op::Div);
        let elements = match op {
            Op::Add | Op::Sub => (0..p).collect(),
            Op::Mul | Op::Div => powers_of_primitive_root(p)?,
            Op::Squares | Op::Quadratic | Op::Cubic | Op::Random | Op::S5 => return None,
        };
        (elements.len() >= 3).then_some(Self { elements, difference })
    }

    /// Z_p, whatever the operation.
    pub fn residues(p: usize) -> Self {
        Self { elements: (0..p).collect(), difference: false }
    }

    /// The number of elements, n.
    pub fn order(&self) -> usize {
        self.elements.len()
    }

    /// a + b mod n, or a - b: the index of the label of the pair of indices.
    pub fn label(&self, a: usize, b: usize) -> usize {
        let n = self.order();
        if self.difference { (a + n - b) % n } else { (a + b) % n }
    }

    /// The index that runs along equal labels: a - b mod n, or a + b.
    pub fn distance(&self, a: usize, b: usize) -> usize {
        let n = self.order();
        if self.difference { (a + b) % n } else { (a + n - b) % n }
    }
}

/// 1, g, g^2, .. mod p for the smallest primitive root g of a prime p.
fn powers_of_primitive_root(p: usize) -> Option<Vec<usize>> {
    (1..p).find_map(|g| {
        let powers: Vec<usize> =
            std::iter::successors(Some(1), |&x| Some(x * g % p).filter(|&next| next > 1)).take(p).collect();
        (powers.len() == p - 1).then_some(powers)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_indices_are_indices_of_labels() {
        for (op, p) in [(Op::Add, 10), (Op::Sub, 9), (Op::Mul, 11), (Op::Mul, 5), (Op::Mul, 113), (Op::Div, 13)] {
            let group = Group::of(op, p).unwrap();
            for (a, &x) in group.elements.iter().enumerate() {
                for (b, &y) in group.elements.iter().enumerate() {
                    assert_eq!(group.elements[group.label(a, b)], op.label(x, y, p), "{x} {op:?} {y} mod {p}");
                }
            }
        }
        // The smallest primitive root of 7 is 3.
        assert_eq!(Group::of(Op::Mul, 7).unwrap().elements, [1, 3, 2, 6, 4, 5]);
    }

    #[test]
    fn what_is_no_cyclic_group_has_none() {
        for (op, p) in [(Op::Mul, 9), (Op::Mul, 4), (Op::Div, 9), (Op::Mul, 3), (Op::Squares, 11), (Op::S5, 120)] {
            assert_eq!(Group::of(op, p), None, "{op} {p}");
        }
    }
}
