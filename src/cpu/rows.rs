//! Twin of `rows.wgsl`: what of the composed program is done for every row.

use super::compose::Wide;
use super::wide::{AddLines, LINES, SIDE, sum_rows};
use super::{Context, Real, TASK, Twin, rows, twin};
use rayon::prelude::*;

/// The twin of an entry point of `rows.wgsl`.
pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward_pattern" => twin!(forward_pattern, index[slots], read[slot_score4], write[pattern]).by_rows(),
        "forward" => {
            twin!(forward, index [slots], read [pattern, head_read, equals_read, heads_read], write [post4, logits4])
                .by_rows()
        }
        "backward" => {
            twin!(backward, index [slot_edges, slot_rows], read [pattern, d_pre4, d_logits4], write [d_head_read, d_slot_read])
        }
        _ => return None,
    })
}

/// Heads that are done in one go over a row's elements.
const HEADS: usize = SIDE;

/// pattern = softmax over pos of slot_score4, 0 at "="
fn forward_pattern<T: Real>(cx: &Context, slots: &[u32], slot_score4: &[T], pattern: &mut [T]) {
    let (heads, wide) = (cx.shape.n_heads, Wide::of(&cx.shape).heads);
    rows(&mut pattern[..cx.rows * heads * 3], heads * 3, |row, out| {
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            let score = |pos: usize| slot_score4[slots[row * 3 + pos] as usize * wide + head];
            let scores = [score(0), score(1), T::zero()];
            let top = scores[0].max(scores[1]).max(scores[2]);
            let weights = scores.map(|score| (score - top).portable_exp());
            let total = weights[0] + weights[1] + weights[2];
            out.copy_from_slice(&weights.map(|weight| weight / total));
        }
    });
}

/// [post | logits] = equals_read + heads_read + sum over heads and pos of pattern head_read[slot], relu on the neurons
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn forward<T: Real>(
    cx: &Context,
    slots: &[u32],
    pattern: &[T],
    head_read: &[T],
    equals_read: &[T],
    heads_read: &[T],
    post4: &mut [T],
    logits4: &mut [T],
) {
    let (wide, heads, n_slots) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.n_slots());
    let (m, c) = (wide.d_mlp, wide.d_vocab_out);
    // The classes get b_out too, which stands in the second row.
    let (of_neurons, of_classes) = (&equals_read[..m], &equals_read[wide.reader + m..]);
    let sum = |equals: &[T], heads: &[T]| equals.iter().zip(heads).map(|(&x, &y)| x + y).collect::<Vec<T>>();
    let (of_neurons, of_classes) = (sum(of_neurons, &heads_read[..m]), sum(of_classes, &heads_read[m..]));
    let blocks = post4[..cx.rows * m].par_chunks_mut(TASK * m).zip(logits4[..cx.rows * c].par_chunks_mut(TASK * c));
    blocks.enumerate().for_each(|(block, (post, logits))| {
        let first_row = block * TASK;
        let n = post.len() / m;
        for first in (0..heads).step_by(SIDE) {
            let count = 2 * SIDE.min(heads - first);
            let mut lines = [[(T::zero(), 0); LINES]; TASK];
            for (row, lines) in (first_row..).zip(&mut lines[..n]) {
                for (k, line) in lines[..count].iter_mut().enumerate() {
                    let (head, pos) = (first + k / 2, k % 2);
                    let slot = slots[row * 3 + pos] as usize;
                    *line = (pattern[(row * heads + head) * 3 + pos], (head * n_slots + slot) * wide.reader);
                }
            }
            let (lines, base) = (&lines[..n], |base| (first == 0).then_some(base));
            let (table, relu) = (head_read, first + SIDE >= heads);
            AddLines { lines, count, table, base: base(&of_neurons[..]), relu, width: m, out: &mut *post }.run();
            let (table, relu) = (&head_read[m..], false);
            AddLines { lines, count, table, base: base(&of_classes[..]), relu, width: c, out: &mut *logits }.run();
        }
    });
}

/// Over the rows of a slot: d_head_read[head, slot] = sum of pattern [d_pre | d_logits];  d_slot_read[slot] = sum of it alone
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward<T: Real>(
    cx: &Context,
    slot_edges: &[u32],
    slot_rows: &[u32],
    pattern: &[T],
    d_pre4: &[T],
    d_logits4: &[T],
    d_head_read: &mut [T],
    d_slot_read: &mut [T],
) {
    let (wide, heads, p) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.p);
    let of_head = cx.shape.n_slots() * wide.reader;
    // A slot's lines, one in each head's table: disjoint for different slots.
    let mut tables: Vec<_> =
        d_head_read.chunks_exact_mut(of_head).map(|table| table.chunks_exact_mut(wide.reader)).collect();
    let lines = d_slot_read.chunks_exact_mut(wide.reader).take(2 * p);
    let work: Vec<(&mut [T], Vec<&mut [T]>)> = lines
        .map(|plain| (plain, tables.iter_mut().map(|table| table.next().expect("a line for each slot")).collect()))
        .collect();
    work.into_par_iter().enumerate().for_each(|(slot, (plain, mut of_heads))| {
        let rows = &slot_rows[slot_edges[slot] as usize..slot_edges[slot + 1] as usize];
        for (group, of_heads) in of_heads.chunks_mut(HEADS).enumerate() {
            let weights_of = |row: u32| {
                let at = (row as usize * heads + group * HEADS) * 3 + slot / p;
                std::array::from_fn(|n| if n < of_heads.len() { pattern[at + 3 * n] } else { T::zero() })
            };
            let weights: Vec<[T; HEADS]> = rows.iter().map(|&row| weights_of(row)).collect();
            let (of_neurons, of_classes) = plain.split_at_mut(wide.d_mlp);
            let (mut neurons, mut classes): (Vec<_>, Vec<_>) =
                of_heads.iter_mut().map(|line| line.split_at_mut(wide.d_mlp)).unzip();
            sum_rows(d_pre4, rows, &weights, &mut neurons, of_neurons);
            sum_rows(d_logits4, rows, &weights, &mut classes, of_classes);
        }
    });
}
