"""What moves the logits, in NumPy: the rotation test, contributions by path, phase coherence.

`check` is the module check.py, whose forward pass, basis and permutations are used. The network runs whole with other
embeddings; nothing is composed first.
"""

import math
from types import SimpleNamespace
import numpy as np

PAIRS, FOLLOWS = 256, 0.5

def read_at_equals(w, resid_pre):
    """Logits [row, class] of resid_pre [row, pos, d_model]."""
    q = np.einsum("rd,hde->rhe", resid_pre[:, 2], w.W_Q)
    k, v = (np.einsum("rpd,hde->rphe", resid_pre, W, optimize=True) for W in (w.W_K, w.W_V))
    scores = np.einsum("rhe,rphe->rhp", q, k, optimize=True) / math.sqrt(q.shape[2])
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    pattern = weights / weights.sum(axis=2, keepdims=True)
    z = np.einsum("rhp,rphe->rhe", pattern, v, optimize=True)
    mid = resid_pre[:, 2] + np.einsum("rhe,hed->rd", z, w.W_O, optimize=True)
    return (mid + np.maximum(mid @ w.W_in + w.b_in, 0.0) @ w.W_out + w.b_out) @ w.W_U

def rotation(check, w, task, keys, others):
    n, rows = task.n, [int(i) for i in check.philox_permutation(0, task.n**2)[:PAIRS]]
    a, b = task.a[rows], task.b[rows]
    plain = np.stack([w.W_E[a], w.W_E[b], np.broadcast_to(w.W_E[n], (len(rows), w.W_E.shape[1]))], axis=1) + w.W_pos
    component = lambda logits, k: logits @ task.F[task.rows_of[k]].T @ task.F[task.rows_of[k]]
    old = read_at_equals(w, plain)

    def rotate(j):
        plane = task.F[task.rows_of[j]].T @ (task.F[task.rows_of[j]] @ w.W_E[:n])  # [token, d_model]
        left, changed, norm = (np.zeros(len(keys)) for _ in range(3))
        for d in range(1, n):
            turned = plain.copy()
            turned[:, 0] += plane[(a + d) % n] - plane[a]
            new = read_at_equals(w, turned)
            for i, k in enumerate(keys):
                before, after = component(old, k), component(new, k)
                left[i] += ((after - np.roll(before, d, axis=1)) ** 2).sum()
                changed[i] += ((after - before) ** 2).sum()
                norm[i] += (before**2).sum()
        norm = np.where(norm > 0, norm, 1.0)
        return 1.0 - left / norm, changed / norm

    planes = list(keys)
    found = {j: rotate(j) for j in planes}
    if any(found[k][0][i] < FOLLOWS for i, k in enumerate(keys)):
        fold = lambda k: min(k % n, n - k % n)
        more = {fold(2 * k) for k in keys} | {int(j) for j in task.frequencies if fold(2 * j) in keys} | set(others)
        for j in sorted(more - {0, *keys}):
            planes.append(j)
            found[j] = rotate(j)
    near = lambda values: [check.near(x, max(1.0, abs(x))) for x in values]
    return {"planes": planes, "components": list(keys), "explained": [near(found[j][0]) for j in planes],
            "changed": [near(found[j][1]) for j in planes]}

def paths(check, w, task, act):
    """Mean contribution of each path to the correct logit, by frequency."""
    constant = np.broadcast_to(act.equals + w.b_out, act.resid_mid.shape) @ w.W_U
    parts = [own @ w.W_U for own in act.heads] + [act.post @ w.W_out @ w.W_U, constant]
    names = [f"head {h}" for h in range(len(act.heads))] + ["MLP", "constant"]
    rows = np.arange(task.n**2)
    of = lambda part, k: check.along_classes(task, part, [k])[rows, task.label].mean()
    table = np.array([[of(part, k) for part in parts] for k in task.frequencies])
    scale = np.abs(table).max()
    return {"paths": names, "contributions": [[check.near(x, scale) for x in row] for row in table]}

def coherence(check, w, task, act, keys, frequency):
    """How well psi = phi_x + phi_y - phi_out agrees among the neurons of each key, weighted by the norm of their row of W_L."""
    n, W_L, found = task.n, w.W_out @ w.W_U, []
    G = check.planes(task, act.post - act.post.mean(axis=0))
    sign = -1.0 if (task.label[1] != 1) else 1.0  # of b, in the label
    for k in keys:
        own = [i for i, other in enumerate(frequency) if other == k]
        if len(task.rows_of[k]) < 2 or not own:
            continue
        c, s = task.rows_of[k]
        phi_x = np.angle(G[own, c, 0] + 1j * G[own, s, 0])
        phi_y = np.angle(G[own, 0, c] + 1j * G[own, 0, s])
        written = W_L[own] @ task.F.T
        phi_out, weight = np.angle(written[:, c] + 1j * written[:, s]), np.linalg.norm(W_L[own], axis=1)

        def resultant(order):
            total = (weight[order] * np.exp(1j * (phi_x + sign * phi_y - phi_out[order]))).sum()
            return abs(total) / weight.sum(), np.angle(total)

        size, angle = resultant(np.arange(len(own)))
        permuted, _ = resultant(check.philox_permutation(k, len(own)))
        found.append({"frequency": k, "neurons": len(own), "coherence": check.near(size), "angle": check.near(angle),
                      "permuted": check.near(permuted), "unrelated": check.near(1.0 / math.sqrt(len(own)))})
    return found
