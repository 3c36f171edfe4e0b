"""The part of check.py for operations that are no cyclic group: scores, and shares of variance by representation.

The parts of Z_p are told by an FFT, those of S5 by projecting on every representation in turn: its character comes from counting
what a permutation leaves in place (points, pairs), not from a table.
"""

import itertools
import math

import numpy as np

PERMUTATIONS = list(itertools.permutations(range(5)))
NUMBER = {permutation: i for i, permutation in enumerate(PERMUTATIONS)}


def after(x, y):
    return tuple(x[i] for i in y)


def random_label(philox, x, y, p):
    return int(philox((x * p + y, 0, 0, 2), 0)[0]) * p >> 32


def label(check, op, x, y, p):
    """None where the pair has no label."""
    if op in ("div",):
        return x * pow(y, -1, p) % p if math.gcd(y, p) == 1 else None
    return {
        "mul": lambda: x * y % p,
        "squares": lambda: (x**2 + y**2) % p,
        "quadratic": lambda: (x**2 + x * y + y**2) % p,
        "cubic": lambda: (x**3 + x * y) % p,
        "random": lambda: random_label(check.philox, x, y, p),
        "s5": lambda: NUMBER[after(PERMUTATIONS[x], PERMUTATIONS[y])],
    }[op]()


def characters():
    """chi(g) of the representations of S5 but the trivial one, for each g."""
    points = np.array([sum(g[i] == i for i in range(5)) for g in PERMUTATIONS])
    couples = [frozenset(c) for c in itertools.combinations(range(5), 2)]
    pairs = np.array([sum(frozenset(g[i] for i in c) == c for c in couples) for g in PERMUTATIONS])
    sign = np.array([round(np.linalg.det(np.eye(5)[list(g)])) for g in PERMUTATIONS])
    squares = np.array([NUMBER[after(g, g)] for g in PERMUTATIONS])
    standard = points - 1
    of_pairs = pairs - points
    alternating = (standard**2 - standard[squares]) // 2
    return {"[1^5] sign": sign, "[4,1] standard": standard, "[2,1^3]": standard * sign, "[3,2]": of_pairs,
            "[2^2,1]": of_pairs * sign, "[3,1^2]": alternating}


class S5:
    group = "S5"

    def __init__(self):
        undo = [NUMBER[tuple(np.argsort(g))] for g in PERMUTATIONS]
        quotient = np.array([[NUMBER[after(g, PERMUTATIONS[undo[h]])] for h in range(120)] for g in PERMUTATIONS])
        self.projectors = {name: chi[0] / 120 * chi[quotient] for name, chi in characters().items()}
        self.names = list(self.projectors)
        self.dimensions = [round(np.trace(projector)) for projector in self.projectors.values()]

    def squares(self, table):
        return np.array([((projector @ table) ** 2).sum() for projector in self.projectors.values()])


class Residues:
    def __init__(self, p):
        self.group, self.p = f"Z_{p}", p
        self.names = [f"k = {k}" for k in range(1, p // 2 + 1)]
        self.dimensions = [1 if 2 * k == p else 2 for k in range(1, p // 2 + 1)]

    def squares(self, table):
        power = (np.abs(np.fft.fft(table, axis=0)) ** 2).sum(axis=1) / self.p
        return np.array([power[k] + (power[self.p - k] if 2 * k != self.p else 0.0) for k in range(1, self.p // 2 + 1)])


def survey(check, model, op, p, pairs, raw, steps, weights_of):
    """What findings.json says of such a network."""
    labels = [label(check, op, x, y, p) for x in range(p) for y in range(p)]
    graded = np.array([y is not None for y in labels])
    trained = None
    if pairs is not None:
        trained = np.zeros((p, p), dtype=bool)
        trained[tuple(np.array(pairs).T)] = True
        trained = trained.ravel()
    a, b = np.repeat(np.arange(p), p), np.tile(np.arange(p), p)
    task = check.task_of_rows(p, p, a, b, np.array([y or 0 for y in labels]), None, np.arange(p), graded, trained)
    basis = S5() if op == "s5" else Residues(p)

    def shares(table):
        squares = basis.squares(table)
        share = squares / squares.sum() if squares.sum() > 1e-24 * (table**2).sum() else 0 * squares
        each = np.repeat(share / basis.dimensions, basis.dimensions)
        return share, {"shares": check.nears(share, 1.0), "gini": check.near(check.gini(each))}

    def tables(w):
        return shares(w.W_E[:p])[1], shares((w.W_out @ w.W_U).T)[1]

    def squares(raw):
        return check.squares(raw)

    def checkpoint(step):
        raw = weights_of(step)
        w = check.in_group_order(raw, task)
        w_e, w_l = tables(w)
        return {"step": step, "scores": check.score(task, check.forward(w, task).logits), "W_E": w_e, "W_L": w_l,
                "squares": squares(raw)}

    w = check.in_group_order(raw, task)
    act = check.forward(w, task)
    w_e, w_l = tables(w)
    largest = [int(np.argmax(shares(line[:, None])[0])) for line in w.W_out @ w.W_U]
    return {
        "schema": 2, "model": model, "task": check.TEXT, "key_frequencies": [], "scores": check.score(task, act.logits),
        "representations": {
            "group": basis.group, "names": basis.names, "dimensions": basis.dimensions, "W_E": w_e, "W_L": w_l,
            "logits": shares(act.logits.T)[1],
            "neurons": [largest.count(i) for i in range(len(basis.names))],
        },
        "attention": [check.nears(head, 1.0) for head in act.pattern.mean(axis=0)],
        "squares": squares(raw),
        "progress": [checkpoint(step) for step in steps] if len(steps) > 1 else None,
    }
