"""Recomputes every number of findings.json in NumPy, from the weights and the definitions alone, and compares.

    python check.py [--split FILE.csv] DIRECTORY [DIRECTORY ..]

A directory is a run (plan.toml, checkpoints/step-XXXXXX/model.safetensors) or a model made elsewhere (config.json,
model.safetensors; --split names its train pairs), with the findings.json that `grokscope analyze` wrote there. Needs
NumPy and safetensors, and Python 3.11 for tomllib.

Nothing is shared with the program that wrote the findings: attention runs over all three positions under a causal mask,
transforms are products with an explicit basis, gradients go forward through the Jacobian, principal components come from
the SVD. Taken from the findings are only choices: the step, the random sets of frequencies, the certificate's bounds, texts.

A number x of theirs agrees with ours where |ours - x| <= 1e-9 |x| + 1e-12 scale, the scale being that of the quantity: the
largest component of a spectrum, the largest logit, 1 for shares, max(1, loss) for losses. Sets, counts, frequencies and
steps are equal or wrong. Every leaf of findings.json must have been compared. Exit code 1 on any mismatch.

Shapes: n elements of the group (n = p, or p - 1 for products), row = a * n + b over all n * n pairs of indices, tokens and
classes in the group's order, so that the label's index is s = a + b, or a - b. Weights are named as in TransformerLens.
"""

import argparse
import json
import math
import random
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from safetensors.numpy import load_file

RELATIVE, ABSOLUTE = 1e-9, 1e-12
STANDS_OUT = 0.25  # of the largest component
EXPLAINED = 0.85  # FVE from which a neuron belongs to a cluster
CONTROLS = 5  # random sets of frequencies

NAMES = {
    "W_E": "embed.W_E", "W_pos": "pos_embed.W_pos", "W_U": "unembed.W_U",
    **{name: f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")},
    **{name: f"blocks.0.mlp.{name}" for name in ("W_in", "b_in", "W_out", "b_out")},
}  # fmt: skip

# --- Comparing ----------------------------------------------------------------------------------------------------------

Near = namedtuple("Near", "value scale")  # a number of ours that theirs must come near to
TEXT = object()  # a text for people, whatever it says
BOUND = object()  # a number that the certificate chose, or null
KINDS = {TEXT: "a text", BOUND: "a number or null"}


class Wrong(Exception):
    """Something without which nothing can be compared; the message begins with its path."""


def near(value, scale=1.0):
    return Near(float(value), float(scale))


def nears(values, scale=None):
    """Of a whole array, on the scale of its largest entry."""
    values = np.asarray(values, dtype=float)
    scale = np.abs(values).max(initial=0.0) if scale is None else scale
    return [near(value, scale) for value in values]


def is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def compare(ours, theirs, path, report):
    """Walks our tree beside theirs; a dict or list of ours must meet one with the same keys or as many entries."""
    if isinstance(ours, dict):
        if not isinstance(theirs, dict):
            return report.wrong(path, f"expected an object, found {theirs!r}")
        for key, value in ours.items():
            below = f"{path}.{key}" if path else key
            if key in theirs:
                compare(value, theirs[key], below, report)
            else:
                report.wrong(below, "missing")
    elif isinstance(ours, list):
        if not isinstance(theirs, list) or len(theirs) != len(ours):
            found = f"{len(theirs)} entries" if isinstance(theirs, list) else repr(theirs)
            return report.wrong(path, f"expected a list of {len(ours)} entries, found {found}")
        for i, (a, b) in enumerate(zip(ours, theirs)):
            compare(a, b, f"{path}[{i}]", report)
    else:
        report.checked.add(path)
        compare_leaf(ours, theirs, path, report)


def compare_leaf(ours, theirs, path, report):
    if isinstance(ours, Near):
        if not is_number(theirs):
            return report.wrong(path, f"ours {ours.value!r}, theirs {theirs!r}")
        error, tolerance = abs(ours.value - theirs), RELATIVE * abs(theirs) + ABSOLUTE * ours.scale
        # Written so that NaN fails.
        if not error <= tolerance:
            return report.wrong(
                path, f"ours {ours.value!r}, theirs {theirs!r}: they differ by {error:.3g}, tolerance {tolerance:.3g}"
            )
        report.numbers += 1
        report.worst = max(report.worst, (error / tolerance if tolerance > 0 else 0.0, path))
    elif ours is TEXT or ours is BOUND:
        fits = isinstance(theirs, str) if ours is TEXT else theirs is None or is_number(theirs) and math.isfinite(theirs)
        if not fits:
            report.wrong(path, f"expected {KINDS[ours]}, found {theirs!r}")
    elif type(ours) is not type(theirs) or ours != theirs:
        report.wrong(path, f"ours {ours!r}, theirs {theirs!r}: they must be equal")
    else:
        report.numbers += is_number(theirs)


class Report:
    def __init__(self):
        self.checked, self.mismatches, self.numbers, self.worst = set(), [], 0, (0.0, "none")

    def wrong(self, path, why):
        self.mismatches.append(f"{path}: {why}")


def leaves(tree, path=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path


def dig(tree, *keys):
    """What stands in the findings under some keys."""
    for i, key in enumerate(keys):
        if not isinstance(tree, dict) or key not in tree:
            raise Wrong(".".join(keys[: i + 1]) + ": missing")
        tree = tree[key]
    return tree


# --- Random numbers and splits ------------------------------------------------------------------------------------------


def philox(counters, seed):
    """Philox4x32-10: four words for each counter (c0, c1, c2, c3), each an array or an integer below 2^32."""
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counters))
    for i in range(10):
        k0 = np.uint64((seed + i * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64(((seed >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF)
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> np.uint64(32)) ^ c1 ^ k0, b & low, (a >> np.uint64(32)) ^ c3 ^ k1, a & low
    return c0, c1, c2, c3


def philox_permutation(seed, count):
    """Indices sorted by the 64-bit key of words 0 (low) and 1 (high) at counter (i, 0, 0, 0)."""
    words = philox((np.arange(count), 0, 0, 0), seed)
    return np.argsort(words[0] | words[1] << np.uint64(32), kind="stable")


def philox_normals(stream, count):
    """Box and Muller on two 53-bit uniforms of the block at counter (i / 2, 0, stream, 1), seed 0."""
    a, b, c, d = philox((np.arange((count + 1) // 2), 0, stream, 1), 0)
    uniform = lambda low, high: ((high << np.uint64(32) | low) >> np.uint64(11)).astype(float) / 2.0**53
    radius, angle = np.sqrt(-2.0 * np.log(1.0 - uniform(a, b))), 2.0 * np.pi * uniform(c, d)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:count]


def torch_permutation(seed, count):
    """torch.randperm: MT19937 by init_genrand of the seed's low 32 bits, and a swap with one of the rest."""
    state = [seed & 0xFFFFFFFF]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ state[-1] >> 30) + i) & 0xFFFFFFFF)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    order = list(range(count))
    for i in range(count - 1):
        j = i + twister.getrandbits(32) % (count - i)
        order[i], order[j] = order[j], order[i]
    return order


def python_permutation(seed, count):
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def train_pairs(rule, fraction, p):
    """Pairs of a split's rule, pair i of the permutation being (i // p, i % p)."""
    kind, _, seed = rule.partition(":")
    permutations = {"philox": philox_permutation, "torch": torch_permutation, "python": python_permutation}
    if kind not in permutations:
        raise Wrong(f"split: '{rule}' is no rule")
    order = permutations[kind](int(seed), p * p)
    return [(int(i) // p, int(i) % p) for i in order[: int(fraction * p * p)]]


def csv_pairs(path):
    lines = [line.replace(" ", "").split(",") for line in path.read_text().splitlines() if line.strip()]
    return [(int(x), int(y)) for x, y in lines if x.lower() != "x"]


# --- The task and the network -------------------------------------------------------------------------------------------


def group_elements(op, p):
    """Residues in the group's order: 0, 1, .. for sums, the powers of the smallest primitive root for products."""
    if op in ("add", "sub"):
        return list(range(p))
    for g in range(1, p):
        powers = [pow(g, i, p) for i in range(p - 1)]
        if len(set(powers)) == p - 1 and 0 not in powers:
            return powers
    raise Wrong(f"model.op: '{op}' mod {p} has no cyclic group")


def basis(n):
    """F [n, n]: the constant, then cos and sin of each frequency, each over its norm; no sine at n / 2."""
    t = np.arange(n)
    rows = [np.ones(n)]
    for k in range(1, n // 2 + 1):
        angle = 2 * np.pi * (k * t % n) / n
        rows += [np.cos(angle)] if 2 * k == n else [np.cos(angle), np.sin(angle)]
    return np.array([row / np.linalg.norm(row) for row in rows])


def make_task(op, p, pairs):
    elements = np.array(group_elements(op, p))
    n = len(elements)
    a, b = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    total, difference = (a + b) % n, (a - b) % n
    trained = None
    if pairs is not None:
        member = np.zeros((p, p), dtype=bool)
        member[tuple(np.array(pairs, dtype=int).reshape(-1, 2).T)] = True
        trained = member[elements[a], elements[b]]
    label, distance = (difference, total) if op == "sub" else (total, difference)
    frequencies = list(range(1, n // 2 + 1))
    rows_of = {k: [2 * k - 1] if 2 * k == n else [2 * k - 1, 2 * k] for k in frequencies}
    return SimpleNamespace(op=op, p=p, n=n, a=a, b=b, label=label, distance=distance, elements=elements, trained=trained,
                           F=basis(n), frequencies=frequencies, rows_of=rows_of)  # fmt: skip


def read_weights(path):
    """Float64 tensors under their short names; biases that the file leaves out are zero."""
    if not path.is_file():
        raise Wrong(f"{path}: missing")
    file = load_file(path)
    w = {name: file[long].astype(float) for name, long in NAMES.items() if long in file}
    w.setdefault("b_in", np.zeros(w["W_in"].shape[1]))
    w.setdefault("b_out", np.zeros(w["W_out"].shape[1]))
    return w


def in_group_order(raw, task):
    """Tokens in the group's order with "=" after them, classes in the group's order without "="."""
    tokens = [*task.elements, task.p]
    return SimpleNamespace(**{**raw, "W_E": raw["W_E"][tokens], "W_U": raw["W_U"][:, task.elements]})


def attend(w, v, pattern):
    """What each head writes at "=": z = sum over pos of pattern [row, head, pos] v [row, pos, head, d_head], times W_O."""
    z = np.einsum("rhk,rkhe->hre", pattern, v, optimize=True)
    return z @ w.W_O  # [head, row, d_model]


def mlp(w, resid_mid):
    return np.maximum(resid_mid @ w.W_in + w.b_in, 0.0)


def unembed(w, skip, post):
    return (skip + post @ w.W_out + w.b_out) @ w.W_U


def forward(w, task):
    """The network over the grid. Attention of all three positions, everything after it at "=", where logits are read."""
    n, d_head = task.n, w.W_Q.shape[2]
    tokens = np.stack([task.a, task.b, np.full(n * n, n)], axis=1)
    resid_pre = w.W_E[tokens] + w.W_pos  # [row, pos, d_model]
    q, k, v = (np.tensordot(resid_pre, W, ([2], [1])) for W in (w.W_Q, w.W_K, w.W_V))  # [row, pos, head, d_head]
    scores = np.einsum("rqhe,rkhe->rhqk", q, k, optimize=True) / math.sqrt(d_head)
    scores = np.where(np.tril(np.ones((3, 3), dtype=bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    pattern = (weights / weights.sum(axis=3, keepdims=True))[:, :, 2]
    heads = attend(w, v, pattern)
    equals = resid_pre[0, 2]
    resid_mid = equals + heads.sum(axis=0)
    post = mlp(w, resid_mid)
    difference = scores[:, :, 2, 0] - scores[:, :, 2, 1]
    return SimpleNamespace(equals=equals, q=q[0, 2], v=v, pattern=pattern, difference=difference, heads=heads,
                           resid_mid=resid_mid, post=post, logits=unembed(w, resid_mid, post))  # fmt: skip


def score(task, logits):
    """Loss and accuracy of logits [row, class] on the train pairs, the test pairs and all."""
    rows, y = np.arange(len(logits)), task.label
    top = logits.max(axis=1)
    others = np.exp(logits - top[:, None])
    others[rows, y] = 0.0
    rest, behind = others.sum(axis=1), top - logits[rows, y]
    # log1p keeps a loss of 1e-20, which 1 + x would swallow.
    losses = np.where(behind == 0.0, np.log1p(rest), behind + np.log(np.exp(-behind) + np.where(behind == 0.0, 1.0, rest)))
    # The first of the largest logits wins: where all are equal, class 0.
    correct = logits.argmax(axis=1) == y
    part = lambda mask: {
        "loss": near(losses[mask].mean(), max(1.0, losses[mask].mean())),
        "accuracy": near(correct[mask].mean()),
    } if mask.any() else None  # fmt: skip
    known = task.trained is not None
    return {
        "train": part(task.trained) if known else None,
        "test": part(~task.trained) if known else None,
        "all": part(np.ones(len(logits), dtype=bool)),
    }


def unseen(scores, what):
    return (scores["test"] or scores["all"])[what].value


def seen(scores, what):
    return (scores["train"] or scores["all"])[what].value


# --- Spectra, neurons, keys ---------------------------------------------------------------------------------------------


def gini(values):
    """1 - 2 sum of c_(i) (N - i + 1/2) / (N |c|_1), c ascending."""
    c = np.sort(values)
    N, i = len(c), np.arange(1, len(c) + 1)
    return 1.0 - 2.0 * (c * (N - i + 0.5)).sum() / (N * c.sum()) if c.sum() > 0 else 0.0


def components(task, table):
    """Norm of each row of F table, table [n, columns]."""
    return np.linalg.norm(task.F @ table, axis=1)


def spectrum(norms):
    """Gini coefficients leave the constant out."""
    return {
        "components": nears(norms),
        "gini": near(gini(norms[1:])),
        "gini_squares": near(gini(norms[1:] ** 2)),
    }


def planes(task, x):
    """G = F X F^T for each column of x [row, columns]: [column, n, n]."""
    return task.F @ np.ascontiguousarray(x.T).reshape(-1, task.n, task.n) @ task.F.T


def terms(task, keys):
    """Which entries of G [n, n] belong to some key: {0, cos_k, sin_k} squared, with the constant."""
    keep = np.zeros((task.n, task.n), dtype=bool)
    for k in keys:
        keep[np.ix_([0, *task.rows_of[k]], [0, *task.rows_of[k]])] = True
    keep[0, 0] = True
    return keep


def from_planes(task, G):
    """X = F^T G F, back to [row, column]."""
    return (task.F.T @ G @ task.F).reshape(len(G), -1).T


def neurons(task, post):
    """Clusters, and for each neuron its frequency (0 where it does not vary), FVE and how often it fires."""
    squares = planes(task, post - post.mean(axis=0)) ** 2
    total = squares.sum(axis=(1, 2)) - squares[:, 0, 0]
    share = np.zeros((len(task.frequencies), post.shape[1]))
    for i, k in enumerate(task.frequencies):
        share[i] = squares[:, terms(task, [k])].sum(axis=1) - squares[:, 0, 0]
    # Rounding leaves something of a constant neuron: 1e-12 of its value is nothing.
    dead = total <= 1e-24 * task.n**2 * post.mean(axis=0) ** 2
    fve = np.where(dead, 0.0, share.max(axis=0) / np.where(dead, 1.0, total))
    frequency = np.where(dead, 0, np.array(task.frequencies)[share.argmax(axis=0)])
    fires = (post > 0).mean(axis=0)
    members = {k: np.flatnonzero((frequency == k) & (fve > EXPLAINED)) for k in task.frequencies}
    members = {k: own for k, own in members.items() if len(own)}
    clusters = [
        {
            "frequency": k,
            "neurons": len(own),
            "mean_fve": near(fve[own].mean()),
            "mean_fires": near(fires[own].mean()),
        }
        for k, own in sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    found = {
        "frequency": frequency.tolist(),
        "fve": nears(fve, 1.0),
        "fires": nears(fires, 1.0),
        "mean_fve": near(fve.mean()),
        "explained": int((fve > EXPLAINED).sum()),
        "dead": int(dead.sum()),
        "clusters": clusters,
    }
    return found, members


def stand_out(task, norms):
    largest = norms[1:].max()
    return [k for k in task.frequencies if norms[task.rows_of[k]].max() > STANDS_OUT * largest]


def above_the_gap(task, norms):
    """Frequencies above the largest ratio between neighbours in the sorted first half, cos and sin merged."""
    merged = sorted(((np.linalg.norm(norms[task.rows_of[k]]), k) for k in task.frequencies), reverse=True)
    candidates = range(min((len(merged) + 1) // 2, len(merged) - 1))
    ratios = [merged[i][0] / merged[i + 1][0] for i in candidates]
    return sorted(k for _, k in merged[: int(np.argmax(ratios)) + 1]) if ratios else []


def folded(task, k):
    return min(k % task.n, -k % task.n)


def multiples(task, keys, factors):
    """Folded multiples of keys that are not keys themselves."""
    return sorted({folded(task, k * factor) for k in keys for factor in factors} - {0, *keys})


def control_sets(task, keys, findings, report):
    """The random sets as the findings have them, held to their rule: as many as there are keys, no key, no harmonic."""
    rest = set(task.frequencies) - {*keys, *multiples(task, keys, (2, 3, 4))}
    controls = dig(findings, "restricted", "controls")
    sets = [dig(control, "frequencies") for control in controls]
    wanted = CONTROLS if keys and len(rest) >= len(keys) else 0
    if len(sets) != wanted:
        report.wrong("restricted.controls", f"expected {wanted} sets, found {len(sets)}")
    for i, own in enumerate(sets):
        if own != sorted(set(own) & rest) or len(own) != len(keys):
            report.wrong(f"restricted.controls[{i}].frequencies", f"{own}: expected {len(keys)} of {sorted(rest)}, sorted")
    return [own for own in sets if set(own) <= set(task.frequencies)]


# --- What simpler models cost -------------------------------------------------------------------------------------------


def attention(w, task, act):
    def with_pattern(pattern):
        resid_mid = act.equals + attend(w, act.v, pattern).sum(axis=0)
        return score(task, unembed(w, resid_mid, mlp(w, resid_mid)))

    two = lambda A: np.stack([A, 1.0 - A, np.zeros_like(A)], axis=2)  # [row, head, pos]
    A, D = act.pattern[:, :, 0], act.difference
    slope = ((D - D.mean(axis=0)) * (A - A.mean(axis=0))).mean(axis=0) / D.var(axis=0)
    line = A.mean(axis=0) + slope * (D - D.mean(axis=0))
    r2 = 1.0 - ((A - line) ** 2).mean(axis=0) / A.var(axis=0)
    mean = act.pattern.mean(axis=0)
    heads = [
        {
            "mean": nears(mean[h], 1.0),
            "intercept": near(A.mean(axis=0)[h] - slope[h] * D.mean(axis=0)[h]),
            "slope": near(slope[h], max(1.0, abs(slope[h]))),
            "r2": near(r2[h]),
            "difference_std": near(D.std(axis=0)[h], max(1.0, np.abs(D).max())),
        }
        for h in range(A.shape[1])
    ]
    return {
        "heads": heads,
        "equals_zeroed": with_pattern(act.pattern * [1.0, 1.0, 0.0]),
        "sigmoid": with_pattern(two(1.0 / (1.0 + np.exp(-D)))),
        "linear": with_pattern(two(line)),
        "mean_pattern": with_pattern(np.broadcast_to(mean, act.pattern.shape)),
    }


def ablations(w, task, act):
    from_mid = lambda mid: score(task, unembed(w, mid, mlp(w, mid)))
    round_mlp = lambda skip: score(task, unembed(w, skip, act.post))
    through_mlp = lambda post: score(task, unembed(w, act.resid_mid, post))
    attn_out = act.heads.sum(axis=0)
    nothing = np.zeros_like(attn_out)
    paths = [
        ("skip round the MLP", round_mlp(nothing), round_mlp(act.resid_mid.mean(axis=0))),
        ("MLP", through_mlp(np.zeros_like(act.post)), through_mlp(act.post.mean(axis=0))),
        ("all heads", from_mid(act.equals + nothing), from_mid(act.equals + nothing + attn_out.mean(axis=0))),
    ]
    for h in range(len(act.heads)):
        others = act.equals + np.delete(act.heads, h, axis=0).sum(axis=0)
        paths.append((f"head {h}", from_mid(others), from_mid(others + act.heads[h].mean(axis=0))))
    # resid_pre at "=" is the same for all pairs, and so is its mean.
    paths.append(("skip round the attention", from_mid(attn_out), None))
    return [{"path": path, "zeroed": zeroed, "mean": mean} for path, zeroed, mean in paths]


def deviation(task, logits, other):
    scale = np.abs(logits).max()
    rms = math.sqrt(((logits - other) ** 2).mean())
    return {
        "rms": near(rms, scale),
        "relative": near(rms / math.sqrt(((logits - logits.mean(axis=0)) ** 2).mean())),
        "largest": near(np.abs(logits - other).max(), scale),
        "scores": score(task, other),
    }


def effective_weights(w, task, act):
    """Products of weights, the network composed of them, and the article's simplified one."""
    n, m, heads = task.n, w.W_in.shape[1], w.W_Q.shape[0]
    OV = w.W_V @ w.W_O  # [head, d_model, d_model]
    u = np.einsum("hde,he->hd", w.W_K, act.q) / math.sqrt(w.W_Q.shape[2])
    W_attn, W_neur, W_logit = u @ w.W_E[:n].T, w.W_E[:n] @ OV @ w.W_in, w.W_out @ w.W_U
    slots = [w.W_E[:n] + w.W_pos[0], w.W_E[:n] + w.W_pos[1], act.equals[None]]  # x, y, "="
    pre = np.zeros((n, n, m)) + (act.equals @ w.W_in + w.b_in)
    skip = np.zeros((n, n, n)) + (act.equals + w.b_out) @ w.W_U
    simple = np.zeros((n, n, m))
    # A slot's table [n or 1, columns] spread over (a, b, column): x along a, y along b.
    spread = [lambda T: T[:, None], lambda T: T[None, :], lambda T: T[None, :]]
    for h in range(heads):
        weights = np.stack([wide(np.exp(slot @ u[h])) + np.zeros((n, n)) for wide, slot in zip(spread, slots)])
        weights /= weights.sum(axis=0)
        for pos in range(3):
            written = slots[pos] @ OV[h]
            pre += weights[pos, :, :, None] * spread[pos](written @ w.W_in)
            skip += weights[pos, :, :, None] * spread[pos](written @ w.W_U)
        A = (1.0 / (1.0 + np.exp(W_attn[h][None, :] - W_attn[h][:, None])))[:, :, None]
        simple += A * W_neur[h][:, None] + (1.0 - A) * W_neur[h][None, :]
    exact = (skip + np.maximum(pre, 0.0) @ W_logit).reshape(n * n, n)
    simplified = (np.maximum(simple, 0.0) @ W_logit + w.b_out @ w.W_U).reshape(n * n, n)
    restored = simplified - simplified.mean(axis=0) + act.logits.mean(axis=0)
    return {
        "W_attn": [spectrum(components(task, W_attn[h][:, None])) for h in range(heads)],
        "W_neur": [spectrum(components(task, W_neur[h])) for h in range(heads)],
        "exact": deviation(task, act.logits, exact),
        "simplified": deviation(task, act.logits, simplified),
        "simplified_mean_restored": deviation(task, act.logits, restored),
    }


def embedding(w, task, keys, controls):
    def without(frequencies):
        rows = task.F[[row for k in frequencies for row in task.rows_of[k]]]
        W_E = w.W_E.copy()
        W_E[: task.n] -= rows.T @ (rows @ W_E[: task.n])  # "=" stays
        logits = forward(SimpleNamespace(**{**vars(w), "W_E": W_E}), task).logits
        return {"frequencies": list(frequencies), "scores": score(task, logits)}

    doubles = multiples(task, keys, (2,))
    return {
        "all_keys": without(keys),
        "each_key": [without([k]) for k in keys],
        "all_doubles": without(doubles),
        "each_double": [without([k]) for k in doubles],
        "controls": [without(own) for own in controls],
    }


# --- The logits and the waves in them -----------------------------------------------------------------------------------


def waves(task, keys):
    """cos and sin of w_k s over the grid, each with norm 1: [row, wave]."""
    columns = task.F[[row for k in keys for row in task.rows_of[k]]][:, task.label].T
    return columns / np.linalg.norm(columns, axis=0)


def project(task, keys, x):
    """P_K x for x [row, columns]."""
    W = waves(task, keys)
    return W @ (W.T @ x)


def restricted(w, task, act, keys, controls):
    def at_logits(frequencies):
        P = project(task, frequencies, act.logits)
        kept, rest = act.logits.mean(axis=0) + P, act.logits - P
        return {"frequencies": list(frequencies), "restricted": score(task, kept), "excluded": score(task, rest)}

    def at_neurons(frequencies):
        P = project(task, frequencies, act.post)
        kept, rest = act.post.mean(axis=0) + P, act.post - P
        through = lambda post: score(task, unembed(w, act.resid_mid, post))
        return {"frequencies": list(frequencies), "restricted": through(kept), "excluded": through(rest)}

    return {
        "logits": {"all": at_logits(keys), "each": [at_logits([k]) for k in keys]},
        "neurons": {"all": at_neurons(keys), "each": [at_neurons([k]) for k in keys]},
        "controls": [at_logits(own) for own in controls],
    }


def logit_formula(w, task, act, keys):
    n, L, t = task.n, act.logits, np.arange(task.n)
    angles = 2 * np.pi * (np.outer(task.frequencies, t) % n) / n
    cos, sin = np.cos(angles), np.sin(angles)  # [frequency, t]
    # cos w(s - c) = cos ws cos wc + sin ws sin wc; its mean square is 1/2, and 1 at n / 2.
    inner = ((L @ cos.T) * cos[:, task.label].T + (L @ sin.T) * sin[:, task.label].T).sum(axis=0)
    alpha = inner * np.where(2 * np.array(task.frequencies) == n, 1.0, 2.0) / n**3
    wave = sum((alpha[k - 1] * cos[k - 1] for k in keys), np.zeros(n))
    formula = wave[(task.label[:, None] - t) % n]  # [row, class]
    total, left = ((L - L.mean()) ** 2).sum(), ((L - L.mean() - formula) ** 2).sum()
    return {
        "alpha": nears(alpha),
        "explained": near(1.0 - left / total),
        "residual": near(math.sqrt(left / total)),
        "formula": score(task, formula),
        "key_terms": score(task, from_planes(task, planes(task, L) * terms(task, keys))),
        "directions": [direction(w, task, act, k) for k in keys],
    }


def direction(w, task, act, k):
    """How W_L reads cos w_k c and sin w_k c from the neurons, and how much of what it reads is cos w_k s and sin w_k s."""
    directions = w.W_out @ w.W_U @ task.F[task.rows_of[k]].T  # u and v: [d_mlp, 2], one column at n / 2
    read = act.post @ directions
    read -= read.mean(axis=0)
    shares = (waves(task, [k]) * read).sum(axis=0) ** 2 / (read**2).sum(axis=0)
    norms = np.linalg.norm(directions, axis=0)
    sine = len(norms) == 2
    return {
        "frequency": k,
        "u_norm": near(norms[0], norms.max()),
        "v_norm": near(norms[1] if sine else 0.0, norms.max()),
        "u_explained": near(shares[0]),
        "v_explained": near(shares[1]) if sine else None,
    }


def dropped(w, task, act, keys, members):
    """Each key's cluster reduced to its nine terms, the other neurons as they are, no skip, the mean restored."""
    reduced = act.post.copy()
    for k in keys:
        own = members[k]
        reduced[:, own] = from_planes(task, planes(task, act.post[:, own]) * terms(task, [k]))

    def through(post):
        logits = post @ w.W_out @ w.W_U
        return score(task, logits - logits.mean(axis=0) + act.logits.mean(axis=0))

    def without(k):
        post = reduced.copy()
        post[:, members[k]] = 0.0
        return {"frequency": k, "scores": through(post)}

    return {"none": through(reduced), "each": [without(k) for k in keys]}


# --- Clock or Pizza -----------------------------------------------------------------------------------------------------


def gradient_cosines(w, act, row):
    """cos of the angle between dL_c/dE_a and dL_c/dE_b for each class c; 0 where one of them is 0.

    With E_pos an input of its own, A = softmax of scores, score_pos = E_pos . u, z = sum of A v:
    dz/dE_pos = A_pos (W_V + u (v_pos - z)^T), dlogits/dresid_mid = W_U + W_in diag(post > 0) W_out W_U.
    """
    u = np.einsum("hde,he->hd", w.W_K, act.q) / math.sqrt(w.W_Q.shape[2])
    A, v = act.pattern[row], act.v[row]  # [head, pos], [pos, head, d_head]
    z = np.einsum("hk,khe->he", A, v)
    after = w.W_U + (w.W_in * (act.post[row] > 0)) @ w.W_out @ w.W_U
    gradients = []
    for pos in (0, 1):
        dz = A[:, pos, None, None] * (w.W_V + u[:, :, None] * (v[pos] - z)[:, None, :])  # [head, d_model, d_head]
        gradients.append(np.tensordot(dz, w.W_O, ([0, 2], [0, 1])) @ after)  # [d_model, class]
    a, b = gradients
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.where(norms > 0, (a * b).sum(axis=0) / np.where(norms > 0, norms, 1.0), 0.0)


def clock_or_pizza(w, task, act):
    n, d_model = task.n, w.W_E.shape[1]
    published = None
    if n**3 <= 2**26:
        # The triples (a, b, c) of itertools.product(range(n), repeat=3), in its order.
        triples = np.array(python_permutation(42, n**3)[:100])
        published = near(np.mean([gradient_cosines(w, act, i // n)[i % n] for i in triples]))
    wide = np.mean([gradient_cosines(w, act, row).mean() for row in philox_permutation(0, n * n)[:256]])
    irrelevance = None
    if n % 2 == 1:
        correct = np.zeros((n, n))  # [distance, label]
        correct[task.distance, task.label] = act.logits[np.arange(n * n), task.label]
        irrelevance = near(correct.std(axis=1).mean() / correct.std())
    circularity = None
    if min(n - 1, d_model) >= 4:
        tokens = w.W_E[:n] - w.W_E[:n].mean(axis=0)
        v = np.linalg.svd(tokens, full_matrices=False)[0][:, :4]
        phase = np.exp(2j * np.pi * (np.outer(task.frequencies, np.arange(n)) % n) / n)
        power = np.abs(phase @ v) ** 2 * np.where(2 * np.array(task.frequencies) == n, 1.0, 2.0)[:, None] / n
        circularity = near(power.max(axis=0).mean())
    return {
        "gradient_symmetricity": published,
        "gradient_symmetricity_wide": near(wide),
        "distance_irrelevance": irrelevance,
        "circularity": circularity,
    }


# --- Progress and certificate -------------------------------------------------------------------------------------------


def squares(raw):
    sums = {name: float((tensor**2).sum()) for name, tensor in raw.items()}
    total = sum(sums.values())
    return {"total": near(total, total), "tensors": {name: near(value, value) for name, value in sums.items()}}


def measures(raw, task, step, keys):
    """One checkpoint, with the key frequencies of the analysed network."""
    w = in_group_order(raw, task)
    logits = forward(w, task).logits
    P = project(task, keys, logits)
    return {
        "step": step,
        "scores": score(task, logits),
        "restricted": score(task, logits.mean(axis=0) + P) if keys else None,
        "excluded": score(task, logits - P) if keys else None,
        "W_E": spectrum(components(task, w.W_E[: task.n])),
        "W_L": spectrum(components(task, (w.W_out @ w.W_U).T)),
        "squares": squares(raw),
    }


def phases(checkpoints):
    """Steps at which the excluded loss is lowest, and where log test loss has its knee above and elbow below its chord."""
    none = {"circuit_formation": None, "cleanup": None, "end": None}
    if len(checkpoints) < 3 or any(c["excluded"] is None or c["scores"]["test"] is None for c in checkpoints):
        return none
    steps = np.array([float(c["step"]) for c in checkpoints])
    excluded = np.array([seen(c["excluded"], "loss") for c in checkpoints])
    curve = np.log([max(unseen(c["scores"], "loss"), sys.float_info.min) for c in checkpoints])
    last, lowest = len(curve) - 1, int(excluded.argmin())
    # Of equal values the last is the highest, the first the lowest.
    latest = lambda values: len(values) - 1 - int(np.argmax(values[::-1]))
    peak = lowest + latest(curve[lowest:])
    if not curve[peak] - curve[last] > 1.0:
        return none
    above = curve - curve[peak] - (curve[last] - curve[peak]) * (steps - steps[peak]) / (steps[last] - steps[peak])
    knee = peak + latest(above[peak:last])
    elbow = knee + int(above[knee:].argmin())
    step = lambda i: checkpoints[i]["step"]
    end = step(elbow) if above[elbow] < 0.0 else None
    return {"circuit_formation": step(lowest), "cleanup": step(knee), "end": end}


def certificate(ours, theirs):
    """Each claim's value and control from our numbers; whether it passed from their values and bounds."""
    keys, n, accuracy = ours["key_frequencies"], ours["model"]["order"], unseen(ours["scores"], "accuracy")
    lost = lambda scores: accuracy - unseen(scores, "accuracy")
    guessing = lambda scores: seen(scores, "loss") / math.log(n)
    own, removed = ours["restricted"], ours["embedding"]
    found = ours["neurons"]
    varying = len(found["fve"]) - found["dead"]
    shares = [d[name].value for d in ours["logits"]["directions"] for name in ("u_explained", "v_explained") if d[name]]
    largest = lambda values: max(values, default=None)
    restricted_accuracy = lambda loss: unseen(loss["restricted"], "accuracy")
    excluded_loss = lambda loss: guessing(loss["excluded"])
    no_skip = next(path["mean"] for path in ours["ablations"] if path["path"] == "skip round the MLP")
    # Claim, whether it is one about keys, value, values of its control (the largest counts).
    claims = [
        ("The network generalises", False, accuracy, None),
        ("A few frequencies carry it", False, len(keys), None),
        ("The embedding is sparse in the Fourier basis", False, ours["spectra"]["W_E"]["gini"].value,
         [ours["random_gini"].value]),
        ("Neurons compute one frequency each", False, found["explained"] / varying if varying else None, None),
        ("The key frequencies of W_E carry the computation", True, lost(removed["all_keys"]["scores"]),
         [lost(control["scores"]) for control in removed["controls"]]),
        ("The key frequencies of the logits are enough", True, restricted_accuracy(own["logits"]["all"]),
         [restricted_accuracy(control) for control in own["controls"]]),
        ("Without the key frequencies even what was memorised is gone", True, excluded_loss(own["logits"]["all"]),
         [excluded_loss(control) for control in own["controls"]]),
        ("The logits are a sum of cosines of a + b - c", True, unseen(ours["logits"]["formula"], "accuracy"), None),
        ("Neuron space holds cos and sin of a + b", True, min(shares, default=None), None),
        ('Attention to "=" does not matter', False, lost(ours["attention"]["equals_zeroed"]), None),
        ("The skip connection round the MLP does not matter", False, lost(no_skip), None),
    ]  # fmt: skip
    listed = dig(theirs, "certificate", "claims")
    number = lambda value: None if value is None else near(value, max(1.0, abs(value)))
    expected = {"at_least": BOUND, "at_most": BOUND}
    trees = []
    for i, (claim, of_keys, value, controls) in enumerate(claims):
        there = keys or not of_keys
        control = {"what": TEXT, "value": number(largest(controls)), "expected": expected} if controls is not None else None
        passed = i < len(listed) and kept(listed[i]) and (not listed[i].get("control") or kept(listed[i]["control"]))
        trees.append({"claim": claim, "measure": TEXT, "value": number(value) if there else None, "expected": expected,
                      "control": control if there else None, "passed": passed})  # fmt: skip
    return {"passed": all(tree["passed"] for tree in trees), "claims": trees}


def kept(theirs):
    """Whether a claim or control of theirs has a value inside its bounds; no bound at all is none that can be kept."""
    value, bounds = theirs.get("value"), theirs.get("expected") or {}
    low, high = bounds.get("at_least"), bounds.get("at_most")
    if not is_number(value) or low is None and high is None:
        return False
    return (low is None or value >= low) and (high is None or value <= high)


# --- A directory --------------------------------------------------------------------------------------------------------


def train_pairs_of(directory, split):
    """Operation and train pairs as plan or config have them."""
    if (directory / "plan.toml").is_file():
        plan = tomllib.loads((directory / "plan.toml").read_text())
        op, p, rule, fraction = plan["op"], plan["p"], plan["split"], plan["train_fraction"]
        split = directory / "split.csv"
        split = split if split.is_file() else None
    else:
        config = json.loads((directory / "config.json").read_text())
        own = config.get("grokscope", {})
        op, p, rule, fraction = own.get("op", "add"), config["d_vocab"] - 1, own.get("split"), own.get("train_fraction")
        # A file that a config names is not there to be read.
        rule = None if rule is None or fraction is None or rule.endswith(".csv") else rule
    if split is not None:
        return op, csv_pairs(split)
    return op, None if rule is None else train_pairs(rule, fraction, p)


def checkpoint(directory, step):
    return directory / f"checkpoints/step-{step:06d}/model.safetensors"


def steps_of(directory, step):
    """Checkpoints up to the analysed one."""
    steps = sorted(int(path.name.removeprefix("step-")) for path in directory.glob("checkpoints/step-*") if path.suffix == "")
    return [other for other in steps if other <= step]


def check(directory, split, report):
    findings = json.loads((directory / "findings.json").read_text())
    op, pairs = train_pairs_of(directory, split)
    step = dig(findings, "model", "step")
    raw = read_weights(directory / "model.safetensors" if step is None else checkpoint(directory, step))
    task = make_task(op, raw["W_E"].shape[0] - 1, pairs)
    w = in_group_order(raw, task)
    act = forward(w, task)

    W_E, W_L = components(task, w.W_E[: task.n]), components(task, (w.W_out @ w.W_U).T)
    found, members = neurons(task, act.post)
    counts = {k: found["frequency"].count(k) for k in task.frequencies}
    rules = {
        "W_E": stand_out(task, W_E),
        "W_L": stand_out(task, W_L),
        "neurons": [{"frequency": k, "neurons": count} for k, count in counts.items() if count],
        "gap": above_the_gap(task, W_E),
    }
    keys = [k for k in rules["W_L"] if k in members]
    controls = control_sets(task, keys, findings, report)
    normals = philox_normals(2**32 - 1, task.n * w.W_E.shape[1]).reshape(task.n, -1)

    steps = [] if step is None else steps_of(directory, step)
    checkpoints = [measures(read_weights(checkpoint(directory, s)), task, s, keys) for s in steps] if len(steps) > 1 else []
    ours = {
        "schema": 1,
        "model": {
            "op": op,
            "p": task.p,
            "order": task.n,
            "d_model": w.W_E.shape[1],
            "n_heads": w.W_Q.shape[0],
            "d_mlp": w.W_in.shape[1],
            "d_vocab_out": raw["W_U"].shape[1],
            "parameters": sum(tensor.size for tensor in raw.values()),
            "step": step,
            "train_pairs": None if pairs is None else len(pairs),
        },
        "key_frequencies": keys,
        "key_rules": rules,
        "scores": score(task, act.logits),
        "spectra": {"W_E": spectrum(W_E), "W_L": spectrum(W_L)},
        "random_gini": near(gini(components(task, normals)[1:])),
        "neurons": found,
        "attention": attention(w, task, act),
        "ablations": ablations(w, task, act),
        "effective_weights": effective_weights(w, task, act),
        "embedding": embedding(w, task, keys, controls),
        "logits": logit_formula(w, task, act, keys),
        "restricted": restricted(w, task, act, keys, controls),
        "dropped": dropped(w, task, act, keys, members),
        "clock_or_pizza": clock_or_pizza(w, task, act),
        "squares": squares(raw),
        "progress": {"phases": phases(checkpoints), "checkpoints": checkpoints} if checkpoints else None,
    }
    ours["certificate"] = certificate(ours, findings)
    compare(ours, findings, "", report)
    for path in leaves(findings):
        if path not in report.checked:
            report.wrong(path, "never checked")


def main():
    parser = argparse.ArgumentParser(description="Recomputes every number of findings.json and compares.")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIRECTORY")
    parser.add_argument("--split", type=Path, metavar="FILE.csv", help="train pairs of models without a plan.toml")
    arguments = parser.parse_args()
    failed = False
    for directory in arguments.directories:
        report = Report()
        try:
            check(directory, arguments.split, report)
        except (Wrong, OSError, ValueError) as problem:
            report.wrong(str(problem), "nothing more could be checked")
        for mismatch in report.mismatches:
            print(f"{directory}: {mismatch}")
        ratio, path = report.worst
        tail = f"{report.numbers} numbers agree, largest error {ratio:.2g} of its tolerance ({path})"
        print(f"{directory}: {len(report.mismatches)} mismatches; {tail}" if report.mismatches else f"{directory}: {tail}")
        failed = failed or bool(report.mismatches)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
