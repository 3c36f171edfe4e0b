//! Twin of `rows.wgsl`: what of the composed program is done for every row.

use super::compose::Wide;
use super::{Context, Real, Twin, rows, rows2, twin, vectorised};
use rayon::prelude::*;

pub fn twin<T: Real>(entry: &str) -> Option<Twin<T>> {
    Some(match entry {
        "forward_pattern" => twin!(forward_pattern, index[slots], read[slot_score], write[pattern]),
        "forward" => {
            twin!(forward, index [slots], read [pattern, head_read, base_read], write [post4, logits4])
        }
        "backward_pattern" => {
            twin!(backward_pattern, index [slots], read [pattern, d_pre4, d_logits4, head_read], write [d_score])
        }
        "backward" => {
            twin!(backward, index [slot_edges, slot_rows], read [pattern, d_pre4, d_logits4], write [d_head_read, d_slot_read])
        }
        _ => return None,
    })
}

/// Neighbouring elements that stay in registers while lines of tables are added up.
const LANES: usize = 16;

/// pattern = softmax over pos of slot_score, 0 at "="
fn forward_pattern<T: Real>(cx: &Context, slots: &[u32], slot_score: &[T], pattern: &mut [T]) {
    let heads = cx.shape.n_heads;
    rows(&mut pattern[..cx.rows * heads * 3], heads * 3, |row, out| {
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            let score = |pos: usize| slot_score[slots[row * 3 + pos] as usize * heads + head];
            let scores = [score(0), score(1), T::zero()];
            let top = scores[0].max(scores[1]).max(scores[2]);
            let weights = scores.map(|score| (score - top).exp());
            let total = weights[0] + weights[1] + weights[2];
            out.copy_from_slice(&weights.map(|weight| weight / total));
        }
    });
}

/// out = base + sum of the weights times the lines
#[inline(always)]
fn add_up<T: Real>(base: &[T], lines: impl Iterator<Item = (T, usize)> + Clone, table: &[T], at: usize, out: &mut [T]) {
    let mut block = at;
    for (out, base) in out.chunks_mut(LANES).zip(base.chunks(LANES)) {
        let n = out.len();
        let mut sum = [T::zero(); LANES];
        sum[..n].copy_from_slice(base);
        for (weight, line) in lines.clone() {
            if n == LANES {
                let line: &[T; LANES] = table[line + block..][..LANES].try_into().expect("a whole block");
                for (sum, &x) in sum.iter_mut().zip(line) {
                    *sum += weight * x;
                }
            } else {
                for (sum, &x) in sum.iter_mut().zip(&table[line + block..][..n]) {
                    *sum += weight * x;
                }
            }
        }
        out.copy_from_slice(&sum[..n]);
        block += LANES;
    }
}

/// [post | logits] = base_read + sum over heads and pos of pattern head_read[slot], relu on the neurons
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn forward<T: Real>(
    cx: &Context,
    slots: &[u32],
    pattern: &[T],
    head_read: &[T],
    base_read: &[T],
    post4: &mut [T],
    logits4: &mut [T],
) {
    let (wide, heads, n_slots) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.n_slots());
    let (m, c) = (wide.d_mlp, wide.d_vocab_out);
    let (of_neurons, of_classes) = base_read.split_at(m);
    rows2(&mut post4[..cx.rows * m], m, &mut logits4[..cx.rows * c], c, |row, post, logits| {
        let pattern = &pattern[row * heads * 3..][..heads * 3];
        let slots = &slots[row * 3..][..2];
        let lines = (0..2 * heads).map(|n| {
            let (head, pos) = (n / 2, n % 2);
            (pattern[head * 3 + pos], (head * n_slots + slots[pos] as usize) * wide.reader)
        });
        add_up(of_neurons, lines.clone(), head_read, 0, post);
        post.iter_mut().for_each(|x| *x = x.max(T::zero()));
        add_up(of_classes, lines, head_read, m, logits);
    });
}

/// Sums of products in [`LANES`] lanes.
#[inline(always)]
fn dot_lanes<T: Real>(sum: &mut [T; LANES], a: &[T], b: &[T]) {
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_blocks.remainder().iter().zip(b_blocks.remainder());
    for (sum, (&a, &b)) in sum.iter_mut().zip(rest) {
        *sum += a * b;
    }
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
}

/// d_score[pos] = pattern[pos] (d_pattern[pos] - sum of pattern d_pattern), with
/// d_pattern[pos] = [d_pre | d_logits] . head_read[slot], 0 at "="
#[allow(clippy::too_many_arguments, reason = "the tensors of the kernel, each by its name")]
fn backward_pattern<T: Real>(
    cx: &Context,
    slots: &[u32],
    pattern: &[T],
    d_pre4: &[T],
    d_logits4: &[T],
    head_read: &[T],
    d_score: &mut [T],
) {
    let (wide, heads, n_slots) = (Wide::of(&cx.shape), cx.shape.n_heads, cx.shape.n_slots());
    let (m, c) = (wide.d_mlp, wide.d_vocab_out);
    rows(&mut d_score[..cx.rows * heads * 3], heads * 3, |row, out| {
        let (d_pre, d_logits) = (&d_pre4[row * m..][..m], &d_logits4[row * c..][..c]);
        for (head, out) in out.chunks_exact_mut(3).enumerate() {
            let pattern = &pattern[(row * heads + head) * 3..][..3];
            let mut d_pattern = [T::zero(); 2];
            for (pos, d_pattern) in d_pattern.iter_mut().enumerate() {
                let line = (head * n_slots + slots[row * 3 + pos] as usize) * wide.reader;
                let mut sum = [T::zero(); LANES];
                dot_lanes(&mut sum, d_pre, &head_read[line..][..m]);
                dot_lanes(&mut sum, d_logits, &head_read[line + m..][..c]);
                *d_pattern = sum.into_iter().sum();
            }
            let mean = pattern[0] * d_pattern[0] + pattern[1] * d_pattern[1];
            out[0] = pattern[0] * (d_pattern[0] - mean);
            out[1] = pattern[1] * (d_pattern[1] - mean);
            out[2] = -pattern[2] * mean;
        }
    });
}

/// Heads whose sums are made in one go over the rows of a slot.
const HEADS: usize = 4;

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
        vectorised(|| {
            for (group, of_heads) in of_heads.chunks_mut(HEADS).enumerate() {
                let weights_at = |row: usize| (row * heads + group * HEADS) * 3 + slot / p;
                let mut gather = |d: &[T], width: usize, first: usize| {
                    for start in (0..width).step_by(LANES) {
                        let n = LANES.min(width - start);
                        let mut sums = [[T::zero(); LANES]; HEADS];
                        let mut all = [T::zero(); LANES];
                        for &row in rows {
                            let row = row as usize;
                            let mut x = [T::zero(); LANES];
                            x[..n].copy_from_slice(&d[row * width + start..][..n]);
                            for (l, sum) in sums.iter_mut().enumerate().take(of_heads.len()) {
                                let weight = pattern[weights_at(row) + 3 * l];
                                for (sum, &x) in sum.iter_mut().zip(&x) {
                                    *sum += weight * x;
                                }
                            }
                            for (all, &x) in all.iter_mut().zip(&x) {
                                *all += x;
                            }
                        }
                        for (line, sum) in of_heads.iter_mut().zip(&sums) {
                            line[first + start..][..n].copy_from_slice(&sum[..n]);
                        }
                        plain[first + start..][..n].copy_from_slice(&all[..n]);
                    }
                };
                gather(d_pre4, wide.d_mlp, 0);
                gather(d_logits4, wide.d_vocab_out, wide.d_mlp);
            }
        });
    });
}
