"""The rotation test of a network whose W_out has its rows permuted among the neurons of each frequency.

    python permuted.py DIRECTORY [DIRECTORY ..]

A directory has config.json, model.safetensors and findings.json. Embedding, attention and neurons stay as they are, so a
measure of them cannot notice; the logits no longer follow the embedding. Prints for every key frequency the share of the
shifted component that rotating its own plane explains, before and after, over the pairs that the analysis samples.
"""

import json
import pathlib
import sys
from types import SimpleNamespace

import numpy as np

import causes
import check

for directory in map(pathlib.Path, sys.argv[1:]):
    findings = json.loads((directory / "findings.json").read_text())
    keys, task = findings["key_frequencies"], check.make_task(*check.task_of(directory, None))
    w = check.in_group_order(check.read_weights(directory / "model.safetensors"), task)
    frequency, draw = np.array(findings["neurons"]["frequency"]), np.random.default_rng(0)
    rows = np.arange(len(frequency))
    for k in set(frequency):
        own = np.flatnonzero(frequency == k)
        rows[own] = draw.permutation(own)
    for name, weights in [("as trained", w), ("W_out permuted", SimpleNamespace(**{**vars(w), "W_out": w.W_out[rows]}))]:
        found = causes.rotation(check, weights, task, keys, [])
        own = [found["explained"][found["planes"].index(k)][i].value for i, k in enumerate(keys)]
        print(f"{directory.name}: {name}:", ", ".join(f"{k}: {x:.3f}" for k, x in zip(keys, own)))
