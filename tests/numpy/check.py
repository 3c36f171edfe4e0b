"""Recomputes every number of findings.json in NumPy, from the weights and the definitions alone, and compares.

    python check.py [--split FILE.csv] DIRECTORY [DIRECTORY ..]

A directory is a run (plan.toml, checkpoints/step-XXXXXX/model.safetensors) or a model made elsewhere (config.json,
model.safetensors; --split names its train pairs), with the findings.json that `grokscope analyze` wrote there. Needs
NumPy and safetensors, and Python 3.11 for tomllib.

Nothing is shared with the program that wrote the findings: attention runs over all three positions under a causal
mask, transforms are products with an explicit basis, gradients go forward through the Jacobian, principal components
come from the SVD. From the findings come choices alone: the step, the random sets of frequencies, the certificate's
bounds, texts, and a frequency where several are equally good.

A number x of theirs agrees with ours where |ours - x| <= 1e-9 |x| + 1e-12 scale. The scale is that of the quantity: the
largest component of a spectrum, the largest logit, 1 for shares, max(1, loss) for losses. Sets, counts, frequencies and
steps are equal or wrong. Every leaf of findings.json has to be compared. Exit code 1 on any mismatch.

Shapes: n elements of the group (p, or p - 1 for products); row = a * n + b over the n * n pairs of indices; tokens and
classes in the group's order, so that the label's index is s = a + b or a - b. Weights are named as in TransformerLens.
"""

import argparse, hashlib, json, math, pathlib, random, sys, tomllib
from collections import namedtuple
from types import SimpleNamespace
import numpy as np
from safetensors.numpy import load_file

import causes, certificate, survey

RELATIVE, ABSOLUTE = 1e-9, 1e-12
STANDS_OUT = 0.25  # of the largest component
EXPLAINED = 0.85  # FVE above which a neuron belongs to a cluster
CONTROLS = 5  # random sets of frequencies
FLOOR, CONTRIBUTES = 1e-3, 0.01  # of the largest contribution: what smaller ones count as, and what no random set holds
CLEAR_RATIO = 8.0  # of a clear cut

NAMES = {"W_E": "embed.W_E", "W_pos": "pos_embed.W_pos", "W_U": "unembed.W_U",
         **{name: f"blocks.0.attn.{name}" for name in ("W_Q", "W_K", "W_V", "W_O")},
         **{name: f"blocks.0.mlp.{name}" for name in ("W_in", "b_in", "W_out", "b_out")}}

# --- Comparing

Near = namedtuple("Near", "value scale")  # a number of ours that theirs has to come near to
TEXT = object()  # stands for any text

class Wrong(Exception):
    """Something without which nothing else can be compared; the message begins with its path."""

def near(value, scale=1.0):
    return Near(float(value), float(scale))

def nears(values, scale=None):
    """A whole array, on the scale of its largest entry."""
    scale = np.abs(values).max() if scale is None else scale
    return [near(value, scale) for value in values]

def is_number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)

def wrong(report, path, why):
    report.mismatches.append((path, why))

def compare(ours, theirs, path, report):
    """Walks our tree beside theirs. An object has to have all our keys, a list as many entries as ours."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            below = f"{path}.{key}" if path else key
            if key in theirs:
                compare(value, theirs[key], below, report)
            else:
                wrong(report, below, "missing")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (a, b) in enumerate(zip(ours, theirs)):
            compare(a, b, f"{path}[{i}]", report)
    else:
        report.checked.add(path)
        compare_leaf(ours, theirs, path, report)

def compare_leaf(ours, theirs, path, report):
    error, tolerance, agrees = 0.0, 1.0, False
    if isinstance(ours, Near):
        if is_number(theirs):
            error, tolerance = abs(ours.value - theirs), RELATIVE * abs(theirs) + ABSOLUTE * ours.scale
            agrees = error <= tolerance  # NaN is not
        ours = ours.value
    else:
        agrees = isinstance(theirs, str) if ours is TEXT else type(ours) is type(theirs) and ours == theirs
    if agrees:
        report.numbers += is_number(theirs)
        report.worst = max(report.worst, (error / tolerance if error > 0 else 0.0, path))
    else:
        apart = f": {error:.3g} apart, tolerance {tolerance:.3g}" if error > 0 else ""
        wrong(report, path, f"ours {str(ours):.120}, theirs {str(theirs):.120}{apart}")

def leaves(tree, path=""):
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, list):
        return [leaf for i, value in enumerate(tree) for leaf in leaves(value, f"{path}[{i}]")]
    return [path]

def dig(tree, *keys):
    """What the findings have under some keys."""
    for i, key in enumerate(keys):
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            raise Wrong(".".join(map(str, keys[: i + 1])) + ": missing") from None
    return tree

# --- Random numbers and splits

def philox(counters, seed):
    """Philox4x32-10: four words for each counter (c0, c1, c2, c3), each an array or an integer below 2^32."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) for c in counters))
    for i in range(10):
        k0 = np.uint64((seed + i * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64(((seed >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF)
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
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
    twister, order = random.Random(), list(range(count))
    twister.setstate((3, (*state, 624), None))
    for i in range(count - 1):
        j = i + twister.getrandbits(32) % (count - i)
        order[i], order[j] = order[j], order[i]
    return order

def python_permutation(seed, count):
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order

def train_pairs(rule, fraction, op, p):
    """The head of a rule's permutation of the pairs that have a label, by x and then by y."""
    kind, _, seed = rule.partition(":")
    permutation = {"philox": philox_permutation, "torch": torch_permutation, "python": python_permutation}[kind]
    grid = [(x, y) for x in range(p) for y in range(p) if op != "div" or math.gcd(y, p) == 1]
    return [grid[int(i)] for i in permutation(int(seed), len(grid))[: int(fraction * len(grid))]]

def csv_pairs(path):
    lines = [line.replace(" ", "").split(",") for line in path.read_text().splitlines() if line.strip()]
    return [(int(x), int(y)) for x, y in lines if x.lower() != "x"]

def task_of(directory, split):
    """Operation, p and train pairs as plan or config have them; no pairs where they are not known."""
    if (directory / "plan.toml").is_file():
        own, split = tomllib.loads((directory / "plan.toml").read_text()), directory / "split.csv"
        p, split = own["p"], split if split.is_file() else None
    else:
        config = json.loads((directory / "config.json").read_text())
        own, p = config.get("grokscope", {}), config["d_vocab"] - 1
    if split is not None:
        return own.get("op", "add"), p, csv_pairs(split)
    # A model's config may name a file that is not there.
    known = "split" in own and "train_fraction" in own and not own["split"].endswith(".csv")
    return own.get("op", "add"), p, train_pairs(own["split"], own["train_fraction"], own.get("op", "add"), p) if known else None

# --- The task and the network

def group_elements(op, p):
    """Residues in the group's order: 0, 1, .. for sums, the powers of the smallest primitive root for products.

    None where the operation is no cyclic group of three elements or more.
    """
    if op in ("add", "sub"):
        return list(range(p))
    powers = ([pow(g, i, p) for i in range(p - 1)] for g in range(1, p) if op in ("mul", "div") and p > 3)
    return next((found for found in powers if sorted(found) == list(range(1, p))), None)

def basis(n):
    """F [n, n]: the constant, then cos and sin of each frequency, each over its norm; no sine at n / 2."""
    rows = [np.ones(n)]
    for k in range(1, n // 2 + 1):
        angle = 2 * np.pi * (k * np.arange(n) % n) / n
        rows += [np.cos(angle)] if 2 * k == n else [np.cos(angle), np.sin(angle)]
    return np.array([row / np.linalg.norm(row) for row in rows])

def make_task(op, p, pairs):
    elements = np.array(group_elements(op, p))
    n = len(elements)
    a, b = np.repeat(np.arange(n), n), np.tile(np.arange(n), n)
    label, distance = ((a - b) % n, (a + b) % n) if op in ("sub", "div") else ((a + b) % n, (a - b) % n)
    trained = None
    if pairs is not None:
        member = np.zeros((p, p), dtype=bool)
        member[tuple(np.array(pairs).T)] = True
        trained = member[elements[a], elements[b]]
    return task_of_rows(p, n, a, b, label, distance, elements, np.ones(n * n, dtype=bool), trained)

def task_of_rows(p, n, a, b, label, distance, elements, graded, trained):
    """`graded` rows are those that have a label."""
    frequencies = np.arange(1, n // 2 + 1)
    rows_of = {int(k): [2 * k - 1] if 2 * k == n else [2 * k - 1, 2 * k] for k in frequencies}
    return SimpleNamespace(p=p, n=n, a=a, b=b, label=label, distance=distance, elements=elements, graded=graded, trained=trained,
                           F=basis(n), frequencies=frequencies, rows_of=rows_of)

def read_weights(path):
    """Float64 tensors under their short names; MLP biases that the file leaves out are zero."""
    file = load_file(path)
    w = {name: file[long].astype(float) for name, long in NAMES.items() if long in file}
    return {"b_in": np.zeros(w["W_in"].shape[1]), "b_out": np.zeros(w["W_out"].shape[1]), **w}

def sha256(raw):
    """Of the parameters as float32, in the order of the program's arenas."""
    order = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_in", "b_in", "W_out", "b_out", "W_U")
    return hashlib.sha256(b"".join(raw[name].astype("<f4").tobytes() for name in order)).hexdigest()

def in_group_order(raw, task):
    """Tokens in the group's order with "=" after them, classes in the group's order without "="."""
    tokens = [*task.elements, task.p]
    return SimpleNamespace(**{**raw, "W_E": raw["W_E"][tokens], "W_U": raw["W_U"][:, task.elements]})

def attend(w, v, pattern):
    """What each head writes at "=" [head, row, d_model]: pattern [row, head, pos] on v [row, pos, head, d_head]."""
    return np.einsum("rhk,rkhe->hre", pattern, v, optimize=True) @ w.W_O

def mlp(w, resid_mid):
    return np.maximum(resid_mid @ w.W_in + w.b_in, 0.0)

def unembed(w, skip, post):
    """Logits; `skip` goes round the MLP and is resid_mid in the network itself."""
    return (skip + post @ w.W_out + w.b_out) @ w.W_U

def forward(w, task):
    """The network over the grid: attention of all three positions, what follows at "=", where logits are read."""
    n = task.n
    tokens = np.stack([task.a, task.b, np.full(n * n, n)], axis=1)
    resid_pre = w.W_E[tokens] + w.W_pos  # [row, pos, d_model]
    q, k, v = (np.tensordot(resid_pre, W, ([2], [1])) for W in (w.W_Q, w.W_K, w.W_V))  # [row, pos, head, d_head]
    scores = np.einsum("rqhe,rkhe->rhqk", q, k, optimize=True) / math.sqrt(q.shape[3])
    scores = np.where(np.tril(np.ones((3, 3), dtype=bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=3, keepdims=True))
    pattern = (weights / weights.sum(axis=3, keepdims=True))[:, :, 2]
    heads, equals = attend(w, v, pattern), resid_pre[0, 2]
    resid_mid = equals + heads.sum(axis=0)
    post = mlp(w, resid_mid)
    u = np.einsum("hde,he->hd", w.W_K, q[0, 2]) / math.sqrt(q.shape[3])  # score = resid_pre . u
    return SimpleNamespace(equals=equals, u=u, v=v, pattern=pattern, heads=heads, resid_mid=resid_mid, post=post,
                           difference=scores[:, :, 2, 0] - scores[:, :, 2, 1], logits=unembed(w, resid_mid, post))

def score(task, logits):
    """Loss and accuracy of logits [row, class] on the train pairs, the test pairs and all."""
    rows, y = np.arange(len(logits)), task.label
    top = logits.max(axis=1)
    others = np.exp(logits - top[:, None])
    others[rows, y] = 0.0
    rest, behind = others.sum(axis=1), top - logits[rows, y]
    # log1p keeps a loss of 1e-20, which 1 + x swallows.
    losses = np.log1p(rest)
    missed = behind > 0
    losses[missed] = behind[missed] + np.log(np.exp(-behind[missed]) + rest[missed])
    correct = logits.argmax(axis=1) == y  # the first of the largest logits wins

    def over(mask):
        if not mask.any():
            return None
        loss = losses[mask].mean()
        return {"loss": near(loss, max(1.0, loss)), "accuracy": near(correct[mask].mean())}

    train, test = (None, None) if task.trained is None else (over(task.graded & task.trained), over(task.graded & ~task.trained))
    return {"train": train, "test": test, "all": over(task.graded)}

def unseen(scores, what):
    return (scores["test"] or scores["all"])[what].value

def seen(scores, what):
    return (scores["train"] or scores["all"])[what].value

# --- Spectra, neurons, keys

def gini(values):
    """1 - 2 sum of c_(i) (N - i + 1/2) / (N |c|_1), c ascending."""
    c, N = np.sort(values), len(values)
    return 1.0 - 2.0 * (c * (N - np.arange(1, N + 1) + 0.5)).sum() / (N * c.sum()) if c.sum() > 0 else 0.0

def components(task, table):
    """Norm of each row of F table, for a table [n, columns]."""
    return np.linalg.norm(task.F @ table, axis=1)

def spectrum(norms):
    """The constant is left out of the Gini coefficients."""
    return {"components": nears(norms), "gini": near(gini(norms[1:])), "gini_squares": near(gini(norms[1:] ** 2))}

def both_axes(F, X):
    """F X F^T for each X of [column, n, n]."""
    n = len(F)
    along_b = (X.reshape(-1, n) @ F.T).reshape(X.shape)
    return (along_b.swapaxes(1, 2).reshape(-1, n) @ F.T).reshape(X.shape).swapaxes(1, 2)

def planes(task, x):
    """G = F X F^T of each column of x [row, columns]: [column, n, n]."""
    return both_axes(task.F, np.ascontiguousarray(x.T).reshape(-1, task.n, task.n))

def reduce(task, x, keys):
    """x [row, columns] with only the terms of some keys."""
    G = planes(task, x) * terms(task, keys)
    return both_axes(task.F.T, G).reshape(len(G), -1).T

def terms(task, keys):
    """Which entries of G belong to some key: {0, cos_k, sin_k} squared. The constant always stays."""
    keep = np.zeros((task.n, task.n), dtype=bool)
    keep[0, 0] = True
    for k in keys:
        keep[np.ix_([0, *task.rows_of[k]], [0, *task.rows_of[k]])] = True
    return keep

def neurons(task, post, theirs):
    """Clusters, and for each neuron its frequency (0 where it does not vary), FVE and how often it fires.

    A neuron that fires on a single pair has the same FVE at every frequency, and rounding decides: ours is `theirs`
    where that is as good to 1e-12.
    """
    squares = planes(task, post - post.mean(axis=0)) ** 2
    squares[:, 0, 0] = 0.0
    total = squares.sum(axis=(1, 2))
    # Rounding leaves something of a constant neuron; 1e-12 of its value is nothing.
    dead = total <= 1e-24 * task.n**2 * post.mean(axis=0) ** 2
    share = np.stack([squares[:, terms(task, [k])].sum(axis=1) for k in task.rows_of]) / np.where(dead, 1.0, total)
    fve, fires = np.where(dead, 0.0, share.max(axis=0)), (post > 0).mean(axis=0)
    frequency = np.where(dead, 0, task.frequencies[share.argmax(axis=0)])
    for i, k in enumerate(theirs if isinstance(theirs, list) and len(theirs) == len(frequency) else []):
        if isinstance(k, int) and k in task.rows_of and not dead[i] and share[k - 1, i] >= (1 - 1e-12) * fve[i]:
            frequency[i] = k
    members = {k: np.flatnonzero((frequency == k) & (fve > EXPLAINED)) for k in task.rows_of}
    members = {k: own for k, own in members.items() if len(own)}
    clusters = [{"frequency": k, "neurons": len(own), "mean_fve": near(fve[own].mean()),
                 "mean_fires": near(fires[own].mean())}
                for k, own in sorted(members.items(), key=lambda item: -len(item[1]))]
    return members, {"frequency": frequency.tolist(), "fve": nears(fve, 1), "fires": nears(fires, 1),
                     "mean_fve": near(fve.mean()), "explained": int((fve > EXPLAINED).sum()), "dead": int(dead.sum()),
                     "clusters": clusters}

def no_answers(n):
    """Accuracy up to which a network does not answer: five times chance, at most a half."""
    return min(5 / n, 0.5)

def along_classes(task, logits, keys):
    """The components of some frequencies of logits [row, class] along the classes."""
    own = task.F[[row for k in keys for row in task.rows_of[k]]]
    return logits @ own.T @ own

def key_frequencies(task, logits):
    """Each frequency's mean contribution to the correct logit, cut at the largest ratio; the keys, and what is left out of random sets."""
    rows = np.arange(len(logits))
    contributions = np.array([along_classes(task, logits, [k])[rows, task.label].mean() for k in task.frequencies])
    largest = contributions.max()
    order = np.argsort(-contributions, kind="stable")
    value = np.maximum(contributions[order], FLOOR * largest)
    cosines = np.cos(2 * np.pi * np.outer(task.frequencies, np.arange(1, task.n)) / task.n)
    def cut(count):
        """After the first `count`; overturned where the next wave can exceed their margin."""
        chosen, after = order[:count], contributions[order[count]]
        margin = (contributions[chosen] @ (1 - cosines[chosen])).min()
        return {"frequencies": sorted(int(k) + 1 for k in chosen), "ratio": near(value[count - 1] / value[count], value[count - 1] / value[count]),
                "overturned": bool(margin <= 2 * max(after, 0.0))}
    without = lambda found: score(task, logits - along_classes(task, logits, found["frequencies"]))
    carry = lambda found: not found["overturned"] and without(found)["all"]["accuracy"].value <= no_answers(task.n)
    cuts, clear = [], False
    if largest > 0 and score(task, logits)["all"]["accuracy"].value > no_answers(task.n) and len(value) > 1:
        by_ratio = [int(i) + 1 for i in np.argsort(-(value[:-1] / value[1:]), kind="stable")]
        count = by_ratio[0]
        while cut(by_ratio[0])["ratio"].value >= CLEAR_RATIO and not carry(cut(count)) and count < len(value) // 2:
            count += 1
        cuts = [cut(c) for c in [count, *(other for other in by_ratio if other != count)][:2]]
        clear = cuts[0]["ratio"].value >= CLEAR_RATIO and carry(cuts[0])
    keys = cuts[0]["frequencies"] if cuts else []
    own = along_classes(task, logits, keys)
    kept, removed = score(task, own), score(task, logits - own)
    # The smallest margin of the keys' part beside the largest that the rest can add.
    others = task.label[:, None] != np.arange(task.n)
    margin = np.where(others, own[rows, task.label][:, None] - own, np.inf).min(axis=1)
    rest = logits - own
    reach = np.where(others, np.abs(rest - rest[rows, task.label][:, None]), 0.0).max(axis=1)
    contributing = [int(k) + 1 for k in np.flatnonzero(contributions > CONTRIBUTES * max(largest, 0.0))]
    return keys, contributing, {"contributions": nears(contributions), "cuts": cuts, "clear": clear, "kept": kept, "removed": removed,
                                "decided": near((margin > reach).mean())}

def key_rules(task, W_E, W_L, frequency):
    """From the spectra's components and each neuron's frequency."""
    largest = lambda norms, rows: norms[rows].max() / norms[1:].max()
    stand_out = lambda norms: [k for k, rows in task.rows_of.items() if largest(norms, rows) > STANDS_OUT]
    counts = [{"frequency": k, "neurons": frequency.count(k)} for k in task.rows_of if k in frequency]
    # Above the largest ratio between neighbours in the sorted first half, cos and sin merged.
    merged = sorted(((np.linalg.norm(W_E[rows]), k) for k, rows in task.rows_of.items()), reverse=True)
    ratios = [merged[i][0] / merged[i + 1][0] for i in range(min((len(merged) + 1) // 2, len(merged) - 1))]
    gap = sorted(k for _, k in merged[: int(np.argmax(ratios)) + 1]) if ratios else []
    return {"W_E": stand_out(W_E), "W_L": stand_out(W_L), "neurons": counts, "gap": gap}

def power(task, norms, keys):
    """Share of the squares of a spectrum, the constant left out, at some frequencies."""
    total = (norms[1:] ** 2).sum()
    return sum((norms[task.rows_of[k]] ** 2).sum() for k in keys) / total if total > 0 else 0.0

def multiples(task, keys, factors):
    """Folded multiples of keys that are not keys themselves."""
    found = {k * factor % task.n for k in keys for factor in factors}
    return sorted({min(k, task.n - k) for k in found} - {0, *keys})

def control_sets(task, keys, contributing, findings, report):
    """The random sets of the findings, held to their rule: as many as there are keys, sorted, no key, no harmonic, nothing that contributes."""
    rest = sorted(set(task.rows_of) - {*keys, *contributing, *multiples(task, keys, (2, 3, 4))})
    count, possible = len(dig(findings, "restricted", "controls")), math.comb(len(rest), len(keys)) if keys else 0
    # Random draws may miss one of few sets, but not one of many.
    if count > min(CONTROLS, possible) or count < min(CONTROLS, (possible + 1) // 2):
        wrong(report, "restricted.controls", f"{count} sets: {possible} are possible")
    drawn = [dig(findings, "restricted", "controls", i, "frequencies") for i in range(count)]
    sets = [[k for k in rest if k in own] for own in drawn]
    if len({tuple(own) for own in sets}) < count:
        wrong(report, "restricted.controls", f"{sets}: a set stands there twice")
    for i, own in enumerate(sets):
        if len(own) != len(keys):
            wrong(report, f"restricted.controls[{i}].frequencies", f"{drawn[i]}: expected {len(keys)} of {rest}")
    return sets

# --- What simpler models cost

def attention(w, task, act):
    def with_pattern(pattern):
        resid_mid = act.equals + attend(w, act.v, pattern).sum(axis=0)
        return score(task, unembed(w, resid_mid, mlp(w, resid_mid)))

    two = lambda A: np.stack([A, 1.0 - A, np.zeros_like(A)], axis=2)  # [row, head, pos]
    A, D, mean = act.pattern[:, :, 0], act.difference, act.pattern.mean(axis=0)
    slope = ((D - D.mean(axis=0)) * (A - A.mean(axis=0))).mean(axis=0) / D.var(axis=0)
    line = A.mean(axis=0) + slope * (D - D.mean(axis=0))
    intercept = A.mean(axis=0) - slope * D.mean(axis=0)
    r2 = 1.0 - ((A - line) ** 2).mean(axis=0) / A.var(axis=0)
    share = np.stack([(planes(task, A) ** 2 * terms(task, [k])).sum(axis=(1, 2)) - planes(task, A)[:, 0, 0] ** 2 for k in task.rows_of])
    share /= A.var(axis=0) * task.n**2
    heads = [{"frequency": int(task.frequencies[share[:, h].argmax()]), "explained": near(share[:, h].max()), "mean": nears(mean[h], 1), "intercept": near(intercept[h]), "slope": near(slope[h]), "r2": near(r2[h]),
              "difference_std": near(D.std(axis=0)[h])} for h in range(len(slope))]
    return {"heads": heads,
            "equals_zeroed": with_pattern(act.pattern * [1.0, 1.0, 0.0]),
            "sigmoid": with_pattern(two(1.0 / (1.0 + np.exp(-D)))),
            "linear": with_pattern(two(line)),
            "mean_pattern": with_pattern(np.broadcast_to(mean, act.pattern.shape))}

def ablations(w, task, act):
    from_mid = lambda mid: score(task, unembed(w, mid, mlp(w, mid)))
    round_mlp = lambda skip: score(task, unembed(w, skip, act.post))
    through_mlp = lambda post: score(task, unembed(w, act.resid_mid, post))
    attn_out, none = act.heads.sum(axis=0), np.zeros_like(act.resid_mid)
    paths = [("skip round the MLP", round_mlp(none), round_mlp(act.resid_mid.mean(axis=0))),
             ("MLP", through_mlp(np.zeros_like(act.post)), through_mlp(act.post.mean(axis=0))),
             ("all heads", from_mid(act.equals + none), from_mid(act.equals + attn_out.mean(axis=0) + none))]
    for h, own in enumerate(act.heads):
        others = act.equals + np.delete(act.heads, h, axis=0).sum(axis=0)
        paths.append((f"head {h}", from_mid(others), from_mid(others + own.mean(axis=0))))
    # resid_pre at "=" is the same for all pairs, and so is its mean.
    paths.append(("skip round the attention", from_mid(attn_out), None))
    return [{"path": path, "zeroed": zeroed, "mean": mean} for path, zeroed, mean in paths]

def deviation(task, logits, other):
    scale, rms = np.abs(logits).max(), math.sqrt(((logits - other) ** 2).mean())
    spread = math.sqrt(((logits - logits.mean(axis=0)) ** 2).mean())
    return {"rms": near(rms, scale), "relative": near(rms / spread),
            "largest": near(np.abs(logits - other).max(), scale), "scores": score(task, other)}

def effective_weights(w, task, act):
    """Spectra of products of weights, and how far models made of them are from the network.

    The composed model that drops nothing is the network: its distance is 0 but for rounding. The article's model has
    A = sigma(W_attn[x] - W_attn[y]), post = relu(sum over heads of A W_neur[x] + (1 - A) W_neur[y]),
    logits = post W_logit and a bias.
    """
    n, tokens = task.n, w.W_E[: task.n]
    W_attn, W_neur, W_logit = act.u @ tokens.T, tokens @ (w.W_V @ w.W_O) @ w.W_in, w.W_out @ w.W_U
    pre = 0.0  # [a, b, d_mlp]
    for score_of, neur in zip(W_attn, W_neur):
        A = 1.0 / (1.0 + np.exp(score_of[None, :, None] - score_of[:, None, None]))
        pre = pre + A * neur[:, None] + (1.0 - A) * neur[None, :]
    simplified = (np.maximum(pre, 0.0) @ W_logit + w.b_out @ w.W_U).reshape(-1, n)
    restored = simplified - simplified.mean(axis=0) + act.logits.mean(axis=0)
    return {"W_attn": [spectrum(components(task, of_head[:, None])) for of_head in W_attn],
            "W_neur": [spectrum(components(task, of_head)) for of_head in W_neur],
            "exact": deviation(task, act.logits, act.logits),
            "simplified": deviation(task, act.logits, simplified),
            "simplified_mean_restored": deviation(task, act.logits, restored)}

def embedding(w, task, keys, controls):
    def without(frequencies):
        rows = task.F[[row for k in frequencies for row in task.rows_of[k]]]
        W_E = w.W_E.copy()
        W_E[: task.n] -= rows.T @ (rows @ W_E[: task.n])  # "=" stays
        logits = forward(SimpleNamespace(**{**vars(w), "W_E": W_E}), task).logits
        return {"frequencies": list(frequencies), "scores": score(task, logits)}

    doubles = multiples(task, keys, (2,))
    return {"all_keys": without(keys), "each_key": [without([k]) for k in keys], "all_doubles": without(doubles),
            "each_double": [without([k]) for k in doubles], "controls": [without(own) for own in controls]}

# --- The logits and the waves in them

def waves(task, keys):
    """cos and sin of w_k s over the grid, each with norm 1: [row, wave]."""
    columns = task.F[[row for k in keys for row in task.rows_of[k]]][:, task.label].T
    return columns / np.linalg.norm(columns, axis=0)

def key_losses(task, x, keys, to_logits=lambda x: x):
    """Restricted and excluded: x [row, columns] is the logits, or something that `to_logits` makes logits of."""
    W = waves(task, keys)
    P = W @ (W.T @ x)
    return {"frequencies": list(keys), "restricted": score(task, to_logits(x.mean(axis=0) + P)),
            "excluded": score(task, to_logits(x - P))}

def restricted(w, task, act, keys, controls):
    through = lambda post: unembed(w, act.resid_mid, post)
    at_logits = lambda keys: key_losses(task, act.logits, keys)
    at_neurons = lambda keys: key_losses(task, act.post, keys, through)
    return {"logits": {"all": at_logits(keys), "each": [at_logits([k]) for k in keys]},
            "neurons": {"all": at_neurons(keys), "each": [at_neurons([k]) for k in keys]},
            "controls": [at_logits(own) for own in controls],
            "variants": [variant(w, task, act, *case)
                         for case in [*((which, place, keys) for which in ("products", "all") for place in ("logits", "neurons")),
                                      *(("products", "logits", [k]) for k in keys)]]}

def variant(w, task, act, which, place, keys):
    """Losses with the 2D terms of some keys alone, and without them: four products of a wave of a and one of b, or all eight."""
    keep = terms(task, keys)
    if which == "products":
        keep[0, 1:] = keep[1:, 0] = False
    x = act.logits if place == "logits" else act.post
    part = both_axes(task.F.T, planes(task, x - x.mean(axis=0)) * keep)
    part = part.reshape(len(part), -1).T
    to_logits = (lambda x: x) if place == "logits" else (lambda x: unembed(w, act.resid_mid, x))
    return {"terms": which, "place": place,
            "loss": {"frequencies": list(keys), "restricted": score(task, to_logits(x.mean(axis=0) + part)),
                     "excluded": score(task, to_logits(x - part))}}

def logit_formula(w, task, act, keys, controls):
    n, L, t = task.n, act.logits, np.arange(task.n)
    angles = 2 * np.pi * (np.outer(task.frequencies, t) % n) / n
    cos, sin = np.cos(angles), np.sin(angles)  # [frequency, t]
    # cos w(s - c) = cos ws cos wc + sin ws sin wc. Its mean square is 1/2, and 1 at n / 2.
    inner = ((L @ cos.T) * cos[:, task.label].T + (L @ sin.T) * sin[:, task.label].T).sum(axis=0)
    alpha = inner * np.where(2 * task.frequencies == n, 1.0, 2.0) / n**3

    def of(keys):
        """The sum of cosines [row, class], and the share of variance that it leaves."""
        wave = sum((alpha[k - 1] * cos[k - 1] for k in keys), np.zeros(n))
        formula = wave[(task.label[:, None] - t) % n]
        return formula, ((L - L.mean() - formula) ** 2).sum() / ((L - L.mean()) ** 2).sum()

    formula, left = of(keys)
    return {"alpha": nears(alpha), "explained": near(1.0 - left),
            "controls": [near(1.0 - of(own)[1]) for own in controls], "residual": near(math.sqrt(left)),
            "formula": score(task, formula), "key_terms": score(task, reduce(task, L, keys)),
            "directions": [direction(w, task, act, k) for k in keys]}

def direction(w, task, act, k):
    """How W_L reads cos w_k c and sin w_k c from the neurons, and how much of that is cos w_k s and sin w_k s."""
    directions = w.W_out @ w.W_U @ task.F[task.rows_of[k]].T  # u and v [d_mlp, 2]; u alone at n / 2
    read = act.post @ directions
    read -= read.mean(axis=0)
    shares = (waves(task, [k]) * read).sum(axis=0) ** 2 / (read**2).sum(axis=0)
    (u, *v), (u_share, *v_share) = nears(np.linalg.norm(directions, axis=0)), nears(shares, 1)
    return {"frequency": k, "u_norm": u, "v_norm": v[0] if v else near(0), "u_explained": u_share,
            "v_explained": v_share[0] if v else None}

def dropped(w, task, act, keys, members):
    """Each cluster reduced to its nine terms, the other neurons as they are, no skip, the mean restored."""
    post = act.post.copy()
    for k in members:
        post[:, members[k]] = reduce(task, post[:, members[k]], [k])

    def without(own):
        rest = post.copy()
        rest[:, own] = 0.0
        logits = rest @ w.W_out @ w.W_U
        return score(task, logits - logits.mean(axis=0) + act.logits.mean(axis=0))

    return {"none": without([]), "each": [{"frequency": k, "scores": without(members.get(k, []))} for k in keys]}

# --- Clock or Pizza

def gradient_cosines(w, act, row):
    """cos of the angle between dL_c/dE_a and dL_c/dE_b for each class c; 0 where one of them is 0.

    With E_pos an input of its own, A = softmax of scores, score_pos = E_pos . u, z = sum of A v:
    dz/dE_pos = A_pos (W_V + u (v_pos - z)^T), dlogits/dresid_mid = W_U + W_in diag(post > 0) W_out W_U.
    """
    u, A, v = act.u, act.pattern[row], act.v[row]  # [head, d_model], [head, pos], [pos, head, d_head]
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
    n, published, published_error, irrelevance, circularity = task.n, None, None, None, None
    error = lambda sample: near(np.std(sample, ddof=1) / math.sqrt(len(sample)))
    if n**3 <= 2**26:
        # Triples (a, b, c) in the order of itertools.product.
        triples = python_permutation(42, n**3)[:100]
        cosines = [gradient_cosines(w, act, i // n)[i % n] for i in triples]
        published, published_error = near(np.mean(cosines)), error(cosines)
    means = [gradient_cosines(w, act, row).mean() for row in philox_permutation(0, n * n)[:256]]
    if n % 2 == 1:
        correct = np.zeros((n, n))  # [distance, label]
        correct[task.distance, task.label] = act.logits[np.arange(n * n), task.label]
        irrelevance = near(correct.std(axis=1).mean() / correct.std())
    if min(n - 1, w.W_E.shape[1]) >= 4:
        v = np.linalg.svd(w.W_E[:n] - w.W_E[:n].mean(axis=0), full_matrices=False)[0][:, :4]
        power = np.abs(np.exp(2j * np.pi * np.outer(task.frequencies, np.arange(n)) / n) @ v) ** 2
        power *= np.where(2 * task.frequencies == n, 1.0, 2.0)[:, None] / n
        circularity = near(power.max(axis=0).mean())
    # Bounds: 5th and 95th percentiles of the published networks (assets/clock_pizza.csv), and 0.95 for a Pizza's gradients.
    wide, margin = np.mean(means), 2 * np.std(means, ddof=1) / math.sqrt(len(means))
    near_clock, near_pizza = irrelevance is None or irrelevance.value >= 0.7111, irrelevance is None or irrelevance.value <= 0.8087
    is_clock, is_pizza = wide + margin <= 0.6522, wide - margin >= 0.95
    algorithm = ("does-not-apply" if score(task, act.logits)["all"]["accuracy"].value <= no_answers(n) else "clock" if is_clock and near_clock
                 else "pizza" if is_pizza and near_pizza else "neither" if is_clock or is_pizza else "between")
    return {"gradient_symmetricity": published, "gradient_symmetricity_error": published_error, "gradient_symmetricity_wide": near(wide),
            "gradient_symmetricity_wide_error": error(means), "distance_irrelevance": irrelevance, "circularity": circularity,
            "algorithm": algorithm}

# --- Progress

def squares(raw):
    sums = {name: (tensor**2).sum() for name, tensor in raw.items()}
    total = sum(sums.values())
    return {"total": near(total, total), "tensors": {name: near(value, value) for name, value in sums.items()}}

def spectra(w, task):
    """Components of W_E along the tokens and of W_L along the classes."""
    return components(task, w.W_E[: task.n]), components(task, (w.W_out @ w.W_U).T)

def measures(raw, task, step, keys):
    """One checkpoint, with the key frequencies of the analysed network."""
    w = in_group_order(raw, task)
    logits, (W_E, W_L) = forward(w, task).logits, spectra(w, task)
    losses = key_losses(task, logits, keys) if keys else {"restricted": None, "excluded": None}
    return {"step": step, "scores": score(task, logits), "restricted": losses["restricted"],
            "excluded": losses["excluded"], "W_E": spectrum(W_E), "W_L": spectrum(W_L), "squares": squares(raw)}

def phases(checkpoints):
    """Steps of the lowest excluded loss, and of the knee above and the elbow below the chord of the log test loss."""
    none = {"circuit_formation": None, "cleanup": None, "end": None}
    if len(checkpoints) < 3 or any(c["excluded"] is None or c["scores"]["test"] is None for c in checkpoints):
        return none
    steps = np.array([c["step"] for c in checkpoints], dtype=float)
    lowest = int(np.argmin([seen(c["excluded"], "loss") for c in checkpoints]))
    curve = np.log([max(unseen(c["scores"], "loss"), sys.float_info.min) for c in checkpoints])
    highest = lambda values: len(values) - 1 - int(np.argmax(values[::-1]))  # the last of several
    peak = lowest + highest(curve[lowest:])
    if not curve[peak] - curve[-1] > 1.0:  # a test loss within a factor e of its peak has not fallen
        return none
    above = curve - curve[peak] - (curve[-1] - curve[peak]) * (steps - steps[peak]) / (steps[-1] - steps[peak])
    knee = peak + highest(above[peak:-1])
    if not 0 < lowest < knee:  # never lower than at the start, or lowest when it was over
        return none
    elbow = knee + int(np.argmin(above[knee:]))
    step = lambda i: checkpoints[i]["step"]
    return {"circuit_formation": step(lowest), "cleanup": step(knee), "end": step(elbow) if above[elbow] < 0 else None}

# --- A directory

def check(directory, split, report):
    findings = json.loads((directory / "findings.json").read_text())
    op, p, pairs = task_of(directory, split)
    step = dig(findings, "model", "step")
    if step is not None and type(step) is not int:
        raise Wrong(f"model.step: {step!r}: expected an integer or null")
    weights_of = lambda step: read_weights(directory / f"checkpoints/step-{step:06d}/model.safetensors")
    raw = read_weights(directory / "model.safetensors") if step is None else weights_of(step)
    # Checkpoints up to the analysed one; where it is the only one there is no progress.
    there = sorted(int(path.name[5:]) for path in directory.glob("checkpoints/step-*") if path.name[5:].isdigit())
    steps = [] if step is None else [other for other in there if other <= step]
    model = {"op": op, "p": p, "order": p, "d_model": raw["W_E"].shape[1], "n_heads": len(raw["W_Q"]),
             "d_mlp": raw["W_in"].shape[1], "d_vocab_out": raw["W_U"].shape[1],
             "parameters": sum(tensor.size for tensor in raw.values()), "step": step, "weights_sha256": sha256(raw),
             "train_pairs": None if pairs is None else len(pairs)}
    if group_elements(op, p) is None:
        ours = survey.survey(sys.modules[__name__], model, op, p, pairs, raw, steps, weights_of)
    else:
        ours = analysis(make_task(op, p, pairs), model, raw, steps, weights_of, findings, report)
    compare(ours, findings, "", report)
    reported = tuple(path for path, _ in report.mismatches)
    for path in leaves(findings):
        if path not in report.checked and not path.startswith(reported):
            wrong(report, path, "never checked")

def analysis(task, model, raw, steps, weights_of, findings, report):
    """All of findings.json for a cyclic group."""
    w = in_group_order(raw, task)
    act = forward(w, task)
    W_E, W_L = spectra(w, task)
    members, found = neurons(task, act.post, dig(findings, "neurons", "frequency"))
    rules = key_rules(task, W_E, W_L, found["frequency"])
    keys, contributing, contributions = key_frequencies(task, act.logits)
    controls = control_sets(task, keys, contributing, findings, report)
    normals = philox_normals(2**32 - 1, task.n * w.W_E.shape[1]).reshape(task.n, -1)
    checkpoints = [measures(weights_of(s), task, s, keys) for s in steps if len(steps) > 1]
    ours = {"schema": 2, "model": model | {"order": task.n}, "key_frequencies": keys, "keys": contributions, "key_rules": rules, "scores": score(task, act.logits),
            "key_power": {"W_E": near(power(task, W_E, keys)), "W_L": near(power(task, W_L, keys))},
            "rotation": causes.rotation(sys.modules[__name__], w, task, keys, rules["W_E"]),
            "paths": causes.paths(sys.modules[__name__], w, task, act),
            "coherence": causes.coherence(sys.modules[__name__], w, task, act, keys, found["frequency"]),
            "spectra": {"W_E": spectrum(W_E), "W_L": spectrum(W_L)},
            "random_gini": near(gini(components(task, normals)[1:])),
            "neurons": found,
            "attention": attention(w, task, act),
            "ablations": ablations(w, task, act),
            "effective_weights": effective_weights(w, task, act),
            "embedding": embedding(w, task, keys, controls),
            "logits": logit_formula(w, task, act, keys, controls),
            "restricted": restricted(w, task, act, keys, controls),
            "dropped": dropped(w, task, act, keys, members),
            "clock_or_pizza": clock_or_pizza(w, task, act),
            "squares": squares(raw),
            "progress": {"phases": phases(checkpoints), "checkpoints": checkpoints} if checkpoints else None}
    ours["certificate"] = certificate.certificate(sys.modules[__name__], ours, findings)
    return ours

def main():
    parser = argparse.ArgumentParser(description="Recomputes every number of findings.json and compares.")
    parser.add_argument("directories", nargs="+", type=pathlib.Path, metavar="DIRECTORY")
    parser.add_argument("--split", type=pathlib.Path, metavar="FILE.csv", help="train pairs of a model without a plan")
    arguments = parser.parse_args()
    failed = False
    for directory in arguments.directories:
        report = SimpleNamespace(checked=set(), mismatches=[], numbers=0, worst=(0.0, "none"))
        try:
            check(directory, arguments.split, report)
        except (Wrong, OSError, ValueError, KeyError, TypeError) as problem:
            wrong(report, f"{type(problem).__name__}: {problem}", "nothing more could be checked")
        for path, why in report.mismatches:
            print(f"{directory}: {path}: {why}")
        ratio, path = report.worst
        wrongs = f"{len(report.mismatches)} MISMATCHES, " if report.mismatches else ""
        largest = f"largest error {ratio:.2g} of its tolerance ({path})"
        print(f"{directory}: {wrongs}{report.numbers} numbers agree, {largest}")
        failed = failed or bool(report.mismatches)
    return 1 if failed else 0

if __name__ == "__main__":
    sys.exit(main())
