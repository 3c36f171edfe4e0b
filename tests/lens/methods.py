"""Updates of every method of training, from the packages and the formulas of their authors, in float64.

    python methods.py            prints what tests/golden/methods.json holds
    python methods.py GOLDEN     compares: every number agrees to 1e-9, relative

AdamW, Adam and SGD are PyTorch's own. Grokfast (Lee et al. 2024), the orthogonal gradient and StableMax (Prieto et al. 2025) and Muon (Jordan
et al. 2024) are written after what their authors published. Muon is also held against torch.optim.Muon, which works in bfloat16.
"""

import json
import math
import sys
from collections import deque

import torch

torch.set_default_dtype(torch.float64)

P, D_MODEL, HEADS, D_MLP = 5, 4, 2, 6
D_HEAD = D_MODEL // HEADS
# In the order of the arenas.
SHAPES = {
    "W_E": (P + 1, D_MODEL),
    "W_pos": (3, D_MODEL),
    "W_Q": (HEADS, D_MODEL, D_HEAD),
    "W_K": (HEADS, D_MODEL, D_HEAD),
    "W_V": (HEADS, D_MODEL, D_HEAD),
    "W_O": (HEADS, D_HEAD, D_MODEL),
    "W_in": (D_MODEL, D_MLP),
    "b_in": (D_MLP,),
    "W_out": (D_MLP, D_MODEL),
    "b_out": (D_MODEL,),
    "W_U": (D_MODEL, P),
}
MATRICES = ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"]
STEPS, LR, MUON_LR, DECAY, BETAS, MOMENTUM, ALPHA, LAMB, WINDOW = 4, 1e-2, 2e-2, 0.5, (0.9, 0.98), 0.9, 0.98, 2.0, 2


def waves(shape, phase, pitch):
    return torch.sin(phase + pitch * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)


def weights():
    return {name: waves(shape, 1.0 + rank, 0.37).requires_grad_() for rank, (name, shape) in enumerate(SHAPES.items())}


def gradient(rank, shape, step):
    return waves(shape, 2.0 * rank + 1.7 * step, 0.61)


def ema(grads, memory):
    """gradfilter_ema: the average begins as the first gradient."""
    for name, g in grads.items():
        memory[name] = memory[name] * ALPHA + g * (1 - ALPHA) if name in memory else g.clone()
        grads[name] = g + memory[name] * LAMB


def ma(grads, memory):
    """gradfilter_ma with warmup: nothing before the window is full."""
    for name, g in grads.items():
        memory.setdefault(name, deque(maxlen=WINDOW)).append(g.clone())
        if len(memory[name]) == WINDOW:
            grads[name] = g + sum(memory[name]) / len(memory[name]) * LAMB


def orthogonal(grads, params):
    for name, g in grads.items():
        w, g = params[name].detach().reshape(-1), g.reshape(-1)
        o = g - torch.dot(w, g) / (torch.dot(w, w) + 1e-30) * w
        grads[name] = (o * (g.norm(2) / (o.norm(2) + 1e-30))).reshape(SHAPES[name])


def newton_schulz(u, to=torch.float64):
    """Of one matrix, [out, in] as PyTorch has it."""
    x = u.to(to)
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if u.shape[0] > u.shape[1] else x).to(torch.float64)


def muon(params, grads, momenta, nesterov):
    for name in MATRICES:
        m = momenta.setdefault(name, torch.zeros(SHAPES[name]))
        m.lerp_(grads[name], 1 - MOMENTUM)
        u = torch.lerp(grads[name], m, MOMENTUM) if nesterov else m
        for_each = u if u.dim() == 3 else u[None]
        # x W is W^T x, so rows and columns change places.
        turned = [newton_schulz(w.T) * max(1, w.shape[1] / w.shape[0]) ** 0.5 for w in for_each]
        direction = torch.stack([w.T for w in turned]).reshape(SHAPES[name])
        with torch.no_grad():
            params[name].mul_(1 - MUON_LR * DECAY).sub_(MUON_LR * direction)


def train(method, nesterov=False):
    params, memory, momenta = weights(), {}, {}
    by_adam = [name for name in SHAPES if method != "muon" or name not in MATRICES]
    list_ = [params[name] for name in by_adam]
    optimizer = {
        "adam": lambda: torch.optim.Adam(list_, lr=LR, betas=BETAS, weight_decay=DECAY),
        "sgd": lambda: torch.optim.SGD(list_, lr=LR, momentum=MOMENTUM, nesterov=nesterov, weight_decay=DECAY),
    }.get(method, lambda: torch.optim.AdamW(list_, lr=LR, betas=BETAS, weight_decay=DECAY))()
    for step in range(STEPS):
        grads = {name: gradient(rank, shape, step) for rank, (name, shape) in enumerate(SHAPES.items())}
        if method in ("ema", "ma"):
            {"ema": ema, "ma": ma}[method](grads, memory)
        if method == "orthogonal":
            orthogonal(grads, params)
        if method == "muon":
            muon(params, grads, momenta, nesterov)
        for name in by_adam:
            params[name].grad = grads[name]
        optimizer.step()
    return {name: tensor.detach().flatten().tolist() for name, tensor in params.items()}


def stablemax():
    """Gradient of -log of the label's share of s(l), by autograd."""
    logits = (5 * waves((6, P), 0.3, 0.91)).requires_grad_()
    labels = torch.arange(6) % P
    s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits))
    losses = -torch.log(s[torch.arange(6), labels] / s.sum(-1))
    losses.mean().backward()
    return {"d_logits": logits.grad.flatten().tolist()}


def against_torch_muon():
    """torch.optim.Muon on one matrix, whose bfloat16 is some thousandths off."""
    w = waves((D_MLP, D_MODEL), 1.0, 0.37).float().requires_grad_()
    optimizer = torch.optim.Muon([w], lr=MUON_LR, weight_decay=DECAY, momentum=MOMENTUM, nesterov=False, adjust_lr_fn="original")
    own, m = w.detach().double().clone(), torch.zeros(D_MLP, D_MODEL)
    for step in range(STEPS):
        g = gradient(0, (D_MLP, D_MODEL), step)
        w.grad = g.float()
        optimizer.step()
        m.lerp_(g, 1 - MOMENTUM)
        own = own * (1 - MUON_LR * DECAY) - MUON_LR * max(1, D_MLP / D_MODEL) ** 0.5 * newton_schulz(m)
    far = (own - w.detach().double()).abs().max().item()
    assert far < 1e-2, f"torch.optim.Muon is {far} away"
    return far


def golden():
    runs = {name: train(name) for name in ("adamw", "adam", "sgd", "muon", "ema", "ma", "orthogonal")}
    runs |= {f"{name} nesterov": train(name, nesterov=True) for name in ("sgd", "muon")}
    return {"runs": runs, "stablemax": stablemax()}


def compare(ours, theirs, place="golden"):
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), place
        return sum(compare(ours[key], theirs[key], f"{place}.{key}") for key in ours)
    assert len(ours) == len(theirs), place
    for a, b in zip(ours, theirs):
        assert abs(a - b) <= 1e-9 * max(1.0, abs(b)), f"{place}: {a} and {b}"
    return len(ours)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        count = compare(golden(), json.load(open(sys.argv[1])))
        print(f"{count} numbers agree; torch.optim.Muon is {against_torch_muon():.1e} away")
    else:
        print(json.dumps(golden(), indent=1))
