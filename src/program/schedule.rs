//! Which calls are done together: the order of a program as far as its tensors demand it, and no further.

use super::Call;
use crate::model::{Axis, PARAMETERS, Role, Sizes, Tensor};

/// What calls of a kind have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Together {
    /// Each is done by itself.
    Never,
    /// Those are done together that do not need each other.
    Independent,
    /// Those are done together that follow each other, each in its turn.
    Chain,
}

/// Groups of calls by their places in the program. Every call comes after those that it depends on.
///
/// Calls that go together with none are taken as early as possible, and others as late, so that many of them come together: a kind is
/// taken when nothing else can be done, or when it waits for nothing. Calls of a kind keep the order of the program: those behind one that
/// has to wait wait too, so that the program says what a group is filled up with.
pub fn groups<K: PartialEq + Copy>(
    calls: &[Call],
    sizes: &Sizes,
    kind: impl Fn(&Call) -> (K, Together),
) -> Vec<Vec<usize>> {
    let needs: Vec<Vec<usize>> = (0..calls.len())
        .map(|later| (0..later).filter(|&call| depends(&calls[later], &calls[call], sizes)).collect())
        .collect();
    let kinds: Vec<(K, Together)> = calls.iter().map(&kind).collect();
    let mut done = vec![false; calls.len()];
    let mut groups = Vec::new();
    while let Some(first) = (0..calls.len()).find(|&call| !done[call]) {
        let is_ready = |call: usize, done: &[bool]| !done[call] && needs[call].iter().all(|&other| done[other]);
        let ready: Vec<usize> = (0..calls.len()).filter(|&call| is_ready(call, &done)).collect();
        // The first call that is left is always ready.
        debug_assert!(ready.contains(&first));
        let alone = ready.iter().copied().find(|&call| kinds[call].1 == Together::Never);
        let waits_for_nothing = |&call: &usize| {
            (0..calls.len())
                .filter(|&other| !done[other] && kinds[other].0 == kinds[call].0)
                .all(|other| is_ready(other, &done))
        };
        // The first of its kind that is left is ready, if any is: what it needs stands before it.
        let leads = |&call: &usize| (0..call).all(|other| done[other] || kinds[other].0 != kinds[call].0);
        let chosen = alone.or_else(|| ready.iter().copied().filter(leads).find(waits_for_nothing)).unwrap_or(first);
        let (kind, together) = kinds[chosen];
        let mut group = match together {
            Together::Never => vec![chosen],
            _ => {
                let of_kind = (0..calls.len()).filter(|&call| !done[call] && kinds[call].0 == kind);
                of_kind.take_while(|call| ready.contains(call)).collect()
            }
        };
        group.iter().for_each(|&call| done[call] = true);
        if together == Together::Chain {
            let next = |done: &[bool]| (0..calls.len()).find(|&call| !done[call] && kinds[call].0 == kind);
            while let Some(next) = next(&done).filter(|&call| is_ready(call, &done)) {
                done[next] = true;
                group.push(next);
            }
        }
        groups.push(group);
    }
    groups
}

/// Whether a call has to come after an earlier one: one of them writes what the other touches.
fn depends(later: &Call, earlier: &Call, sizes: &Sizes) -> bool {
    let meet = |a: &[&'static str], b: &[&'static str]| a.iter().any(|a| b.iter().any(|b| overlap(a, b, sizes)));
    let touched = |call: &Call| [&call.reads[..], &call.written()].concat();
    meet(&earlier.written(), &touched(later)) || meet(&later.written(), &touched(earlier))
}

/// Whether two names have elements in common: the same tensor, overlapping views of one, or an arena and what lies in it.
pub fn overlap(a: &str, b: &str, sizes: &Sizes) -> bool {
    let holds = |arena: &str, name: &str| match arena {
        "params" => PARAMETERS.iter().any(|parameter| parameter.name == name),
        "grads" => PARAMETERS.iter().any(|parameter| parameter.gradient == name),
        _ => false,
    };
    if a == b || holds(a, b) || holds(b, a) {
        return true;
    }
    match (Tensor::find(a), Tensor::find(b)) {
        (Some(a), Some(b)) if a.role == Role::View || b.role == Role::View => {
            let ((whole_a, rows_a, columns_a), (whole_b, rows_b, columns_b)) = (region(a, sizes), region(b, sizes));
            let meet = |a: [usize; 2], b: [usize; 2]| a[0] < b[1] && b[0] < a[1];
            whole_a == whole_b && meet(rows_a, rows_b) && meet(columns_a, columns_b)
        }
        _ => false,
    }
}

/// The tensor that holds a tensor's elements, and which of its rows and columns they are.
fn region(tensor: &'static Tensor, sizes: &Sizes) -> (&'static str, [usize; 2], [usize; 2]) {
    let size = |axis: Option<&Axis>| axis.map_or(1, |axis| axis.size(sizes));
    let axes = tensor.summed_axes();
    let (rows, columns) = (size(axes.len().checked_sub(2).map(|i| &axes[i])), size(axes.last()));
    let [row, column] =
        tensor.within.map_or([0; 2], |within| [within.row, within.column].map(|start| start.place(sizes)));
    (tensor.whole().name, [row, row + rows], [column, column + columns])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;
    use crate::program::{Over, run};

    const SIZES: Sizes = Sizes { shape: Shape { p: 5, d_model: 4, n_heads: 2, d_mlp: 8, d_vocab_out: 5 }, rows: 9 };

    fn call(entry: &'static str, reads: &[&'static str], writes: &[&'static str]) -> Call {
        run("slots", entry, Over::Models).reads(reads).writes(writes)
    }

    fn of(calls: &[Call], together: Together) -> Vec<Vec<usize>> {
        let kind = |call: &Call| if call.entry == "alone" { (0, Together::Never) } else { (1, together) };
        groups(calls, &SIZES, kind)
    }

    #[test]
    fn calls_wait_for_what_they_need_and_for_who_needs_what_they_write() {
        let pairs = [
            // Written and then read; read and then written; written twice.
            (call("a", &[], &["u"]), call("b", &["u"], &["q4"]), false),
            (call("a", &["u"], &["q4"]), call("b", &[], &["u"]), false),
            (call("a", &[], &["u"]), call("b", &[], &["u"]), false),
            (call("a", &["u"], &["q4"]), call("b", &["u"], &["v4"]), true),
            // Views of the same tensor side by side, one that overlaps, and the whole of it.
            (call("a", &[], &["W_in4"]), call("b", &[], &["W_U4"]), true),
            (call("a", &[], &["W_in4"]), call("b", &["W_read"], &["u"]), false),
            (call("a", &[], &["v4"]), call("b", &["v_equals"], &["u"]), false),
            // An arena, and a tensor that lies in it.
            (call("a", &[], &["d_W_E"]), call("b", &["grads"], &["u"]), false),
            (call("a", &["W_E"], &["u"]), call("b", &["grads"], &["params"]), false),
        ];
        for (first, second, together) in pairs {
            let calls = [first, second];
            let expected = if together { vec![vec![0, 1]] } else { vec![vec![0], vec![1]] };
            assert_eq!(of(&calls, Together::Independent), expected, "{calls:?}");
            assert_eq!(of(&calls, Together::Chain), [[0, 1]], "{calls:?}");
            assert_eq!(of(&calls, Together::Never), [[0], [1]], "{calls:?}");
        }
    }

    #[test]
    fn what_can_be_done_together_waits_for_the_others() {
        // Call 2 needs call 1, which is never grouped. Call 0 is put off so that it can be grouped with call 2.
        let calls = [call("a", &[], &["u"]), call("alone", &[], &["q4"]), call("a", &["q4"], &["v4"])];
        assert_eq!(of(&calls, Together::Independent), [vec![1], vec![0, 2]]);
        // If call 1 needs call 0, call 0 is not put off.
        let calls = [call("a", &[], &["u"]), call("alone", &["u"], &["q4"]), call("a", &["q4"], &["v4"])];
        assert_eq!(of(&calls, Together::Independent), [[0], [1], [2]]);
    }
}
