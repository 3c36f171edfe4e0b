"""The first losses of a run, once more in PyTorch in float64 from the same weights.

    python experiment.py RUN

RUN has a row of metrics.jsonl for every step. The model and the training loop are those of the source of the preset, written after it: the code of
Nanda et al. 2023 (all positions, a mask, 114 classes, warm-up from 0) or TransformerLens's Grokking_Demo (biases that stay zero, no warm-up).
Losses on train and test pairs agree to 1e-4, relative.
"""

import json
import pathlib
import random
import sys
import tomllib

import torch
from safetensors.torch import load_file

TOLERANCE = 1e-4


def pairs_of(plan):
    """Train and test pairs as the sources make them."""
    p = plan["p"]
    everything = [(i, j) for i in range(p) for j in range(p)]
    rule, _, seed = plan["split"].partition(":")
    cutoff = int(plan["train_fraction"] * p * p)
    if rule == "python":
        random.seed(int(seed))
        random.shuffle(everything)
        return everything[:cutoff], everything[cutoff:]
    assert rule == "torch", rule
    torch.manual_seed(int(seed))
    order = torch.randperm(p * p).tolist()
    return [everything[i] for i in order[:cutoff]], [everything[i] for i in order[cutoff:]]


def forward(w, tokens):
    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"]
    q, k, v = (torch.einsum("bpd,hde->bhpe", x, w[f"blocks.0.attn.W_{name}"]) for name in "QKV")
    scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
    scores = scores.masked_fill(torch.ones(3, 3, dtype=torch.bool).triu(1), float("-inf"))
    x = x + torch.einsum("bhpe,hed->bpd", scores.softmax(dim=3) @ v, w["blocks.0.attn.W_O"])
    post = torch.relu(x @ w["blocks.0.mlp.W_in"] + w["blocks.0.mlp.b_in"])
    x = x + post @ w["blocks.0.mlp.W_out"] + w["blocks.0.mlp.b_out"]
    return (x @ w["unembed.W_U"])[:, -1]


def main(run):
    run = pathlib.Path(run)
    plan = tomllib.loads((run / "plan.toml").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(len(rows))) and len(rows) > 40, "a row for every step, 40 and more"
    w = {name: x.double() for name, x in load_file(run / "checkpoints/step-000000/model.safetensors").items()}
    names = ["embed.W_E", "pos_embed.W_pos", "unembed.W_U", *(f"blocks.0.attn.W_{name}" for name in "QKVO"),
             "blocks.0.mlp.W_in", "blocks.0.mlp.W_out"]
    names += ["blocks.0.mlp.b_in", "blocks.0.mlp.b_out"] if plan["train_biases"] else []
    parameters = [w[name].requires_grad_() for name in names]
    optimizer = torch.optim.AdamW(parameters, lr=plan["lr"], weight_decay=plan["weight_decay"], betas=(plan["beta1"], plan["beta2"]))
    ramp = {(10, True): lambda step: min(step / 10, 1), (0, False): lambda step: 1.0}[plan["warmup"], plan["warmup_from_zero"]]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    p = plan["p"]
    batches = []
    for pairs in pairs_of(plan):
        pairs = torch.tensor(pairs)
        batches.append((torch.cat([pairs, torch.full((len(pairs), 1), p)], dim=1), pairs.sum(dim=1) % p))
    worst = 0.0
    for row in rows:
        with torch.no_grad():
            test = torch.nn.functional.cross_entropy(forward(w, batches[1][0]), batches[1][1]).item()
        loss = torch.nn.functional.cross_entropy(forward(w, batches[0][0]), batches[0][1])
        for name, ours, theirs in [("train", row["train_loss"], loss.item()), ("test", row["test_loss"], test)]:
            apart = abs(ours - theirs) / theirs
            assert apart <= TOLERANCE, f"step {row['step']}: {name} loss {ours} here, {theirs} in PyTorch: {apart:.1e} apart"
            worst = max(worst, apart)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if not plan["train_biases"]:
        last = load_file(sorted(run.glob("checkpoints/step-*"))[-1] / "model.safetensors")
        assert not last["blocks.0.mlp.b_in"].any() and not last["blocks.0.mlp.b_out"].any(), "biases have moved"
    print(f"{run.name}: losses of {len(rows)} steps agree with PyTorch in float64, at most {worst:.1e} apart")


if __name__ == "__main__":
    main(*sys.argv[1:])
