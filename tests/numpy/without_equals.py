"""Gradient symmetricity at "=", and as Zhong et al. 2023 measured it for their networks with "=".

    python without_equals.py DIRECTORY [DIRECTORY ..]

A directory has config.json and model.safetensors. The authors' notebook feeds [a, b] and reads the last position also
where a network was trained on [a, b, =]: there, the logits stand at b. Prints for both inputs the mean cosine of dL_c/dE_a
and dL_c/dE_b over the published 100 triples, its standard error, and the accuracy on all pairs at the position that is
read. Gradients are central differences in float64.
"""

import json
import math
import pathlib
import random
import sys

import numpy as np

from check import read_weights

STEP = 1e-5


def logits(w, resid):
    """At the last position of resid [row, pos, d_model]; the mask lets it see every position."""
    q = np.einsum("rd,hde->rhe", resid[:, -1], w["W_Q"])
    k, v = (np.einsum("rpd,hde->rphe", resid, w[name], optimize=True) for name in ("W_K", "W_V"))
    scores = np.einsum("rhe,rphe->rhp", q, k, optimize=True) / math.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    z = np.einsum("rhp,rphe->rhe", weights / weights.sum(axis=2, keepdims=True), v, optimize=True)
    mid = resid[:, -1] + np.einsum("rhe,hed->rd", z, w["W_O"], optimize=True)
    return (mid + np.maximum(mid @ w["W_in"] + w["b_in"], 0.0) @ w["W_out"] + w["b_out"]) @ w["W_U"]


def measure(w, p, with_equals):
    tail = [p] if with_equals else []
    embedded = lambda tokens: w["W_E"][tokens] + w["W_pos"][: len(tokens)]
    triples = [(a, b, c) for a in range(p) for b in range(p) for c in range(p)]
    random.Random(42).shuffle(triples)
    d, cosines = w["W_E"].shape[1], []
    for a, b, c in triples[:100]:
        resid, gradients = embedded([a, b, *tail]), []
        for pos in (0, 1):
            moved = np.repeat(resid[None], 2 * d, axis=0)
            moved[np.arange(d), pos, np.arange(d)] += STEP
            moved[d + np.arange(d), pos, np.arange(d)] -= STEP
            of_class = logits(w, moved)[:, c]
            gradients.append((of_class[:d] - of_class[d:]) / (2 * STEP))
        cosines.append(gradients[0] @ gradients[1] / math.prod(map(np.linalg.norm, gradients)))
    pairs = [(a, b) for a in range(p) for b in range(p)]
    answers = logits(w, np.stack([embedded([a, b, *tail]) for a, b in pairs]))[:, :p].argmax(axis=1)
    return np.mean(cosines), np.std(cosines, ddof=1) / 10, (answers == np.array(pairs).sum(axis=1) % p).mean()


for directory in map(pathlib.Path, sys.argv[1:]):
    p = json.loads((directory / "config.json").read_text())["d_vocab"] - 1
    w = read_weights(directory / "model.safetensors")
    for name, with_equals in [("[a, b, =]", True), ("[a, b]", False)]:
        mean, error, accuracy = measure(w, p, with_equals)
        print(f"{directory.name}: {name}: {mean:.3f} +- {error:.3f}, accuracy {100 * accuracy:.1f} %")
