//! The permutations of five things, S5: 120 elements, numbered in the order of their rows.
//!
//! Element 0 is the identity (0 1 2 3 4), element 119 is (4 3 2 1 0), as Python's `itertools.permutations(range(5))` lists them.

/// Things that are permuted.
pub const THINGS: usize = 5;
/// Permutations of them.
pub const ORDER: usize = 120;

/// Where the element takes each thing. Its digits in the factorial number system choose among what is left.
pub fn element(mut index: usize) -> [usize; THINGS] {
    let mut left: Vec<usize> = (0..THINGS).collect();
    let mut block = ORDER;
    std::array::from_fn(|place| {
        block /= THINGS - place;
        let digit = index / block;
        index %= block;
        left.remove(digit)
    })
}

/// The number of an element.
pub fn index(element: &[usize; THINGS]) -> usize {
    (0..THINGS).fold(0, |index, place| {
        let smaller_after = element[place + 1..].iter().filter(|&&thing| thing < element[place]).count();
        index * (THINGS - place) + smaller_after
    })
}

/// x after y: takes i to x(y(i)).
pub fn compose(x: usize, y: usize) -> usize {
    let (x, y) = (element(x), element(y));
    index(&y.map(|thing| x[thing]))
}

/// The element that undoes x.
pub fn inverse(x: usize) -> usize {
    let mut undone = [0; THINGS];
    element(x).into_iter().enumerate().for_each(|(from, to)| undone[to] = from);
    index(&undone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_their_numbers_and_make_a_group() {
        assert_eq!((element(0), element(1), element(119)), ([0, 1, 2, 3, 4], [0, 1, 2, 4, 3], [4, 3, 2, 1, 0]));
        assert_eq!(element(33), [1, 2, 3, 4, 0]);
        for x in 0..ORDER {
            assert_eq!(index(&element(x)), x);
            assert_eq!((compose(x, 0), compose(0, x), compose(x, inverse(x))), (x, x, 0));
            let row: std::collections::HashSet<usize> = (0..ORDER).map(|y| compose(x, y)).collect();
            assert_eq!(row.len(), ORDER);
        }
        // First the swap of 3 and 4, then 0 -> 1 -> 2 -> 0: another order, another permutation.
        let (cycle, swap) = (index(&[1, 2, 0, 3, 4]), 1);
        assert_eq!(element(compose(cycle, index(&[1, 0, 2, 3, 4]))), [2, 1, 0, 3, 4]);
        assert_eq!(compose(cycle, swap), compose(swap, cycle));
        assert_ne!(compose(5, 30), compose(30, 5));
    }
}
