"""Reads what `grokscope export --format npz` wrote with NumPy, and compares it with the safetensors: archives.py RUN"""

import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file

run = pathlib.Path(sys.argv[1])
weights, there = load_file(run / "model.safetensors"), np.load(run / "model.npz")
for name in there.files:
    assert there[name].dtype == np.float32 and there[name].shape == weights[name].shape, name
    assert (there[name] == weights[name]).all(), name
absent = set(weights) - set(there.files)
assert all(not weights[name].any() for name in absent), absent

act = np.load(run / "activations.npz")
pairs, labels = act["pairs"].astype(int), act["labels"].astype(int)
p = weights["embed.W_E"].shape[0] - 1
assert (pairs == [divmod(i, p) for i in range(p * p)]).all() and (labels == pairs.sum(axis=1) % p).all()
post = np.maximum(act["blocks.0.mlp.hook_pre"], 0)
assert np.allclose(post, act["blocks.0.mlp.hook_post"])
resid_post = act["blocks.0.hook_resid_mid"] + post @ weights["blocks.0.mlp.W_out"] + weights["blocks.0.mlp.b_out"]
assert np.allclose(resid_post, act["blocks.0.hook_resid_post"], atol=1e-5)
assert np.allclose(resid_post @ weights["unembed.W_U"], act["logits"], atol=1e-5)
assert np.allclose(act["blocks.0.attn.hook_pattern"].sum(axis=2), 1)
z = np.einsum("rhe,hed->rd", act["blocks.0.attn.hook_z"], weights["blocks.0.attn.W_O"])
equals = weights["embed.W_E"][p] + weights["pos_embed.W_pos"][2]
assert np.allclose(equals + z, act["blocks.0.hook_resid_mid"], atol=1e-5)
print(f"{run.name}: {len(there.files)} arrays and the activations of {len(pairs)} pairs as they should be")
