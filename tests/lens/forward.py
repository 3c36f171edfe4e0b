"""A run in the real TransformerLens, whichever version is installed, beside what grokscope computes.

    python forward.py RUN ACTIVATIONS.npz

RUN is a directory that `grokscope train` or `import` wrote, ACTIVATIONS.npz what `grokscope export --activations` made of it. Logits on all
pairs, and the activations at "=" from run_with_cache, differ by 1e-5 of the largest at most.
"""

import importlib.metadata
import pathlib
import sys

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
from load_in_transformer_lens import load

TOLERANCE = 1e-5

# Where "=" stands in each: the axis of positions, counted after the batch.
AT_EQUALS = {
    "blocks.0.attn.hook_pattern": lambda x: x[:, :, -1],
    "blocks.0.attn.hook_z": lambda x: x[:, -1],
    "blocks.0.hook_resid_mid": lambda x: x[:, -1],
    "blocks.0.mlp.hook_pre": lambda x: x[:, -1],
    "blocks.0.mlp.hook_post": lambda x: x[:, -1],
    "blocks.0.hook_resid_post": lambda x: x[:, -1],
    "logits": lambda x: x[:, -1],
}


def main(run, archive):
    model, ours = load(run), np.load(archive)
    p = model.cfg.d_vocab - 1
    pairs = torch.tensor(ours["pairs"].astype(np.int64))
    tokens = torch.cat([pairs, torch.full((len(pairs), 1), p)], dim=1)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
    cache = {name: cache[name] for name in cache} | {"logits": logits}
    worst = (0.0, "none")
    for name, at_equals in AT_EQUALS.items():
        theirs = at_equals(cache[name]).numpy().astype(float)
        assert theirs.shape == ours[name].shape, f"{name}: {theirs.shape} there, {ours[name].shape} here"
        apart = float(np.abs(theirs - ours[name]).max() / max(1.0, np.abs(ours[name]).max()))
        assert apart <= TOLERANCE, f"{name}: {apart:.2g} of the largest apart, expected {TOLERANCE} at most"
        worst = max(worst, (apart, name))
    version = importlib.metadata.version("transformer-lens")
    print(f"TransformerLens {version}: {len(pairs)} pairs, {len(AT_EQUALS)} tensors, at most {worst[0]:.1e} apart ({worst[1]})")


if __name__ == "__main__":
    main(*sys.argv[1:])
