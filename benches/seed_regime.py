"""How near a network is to the one of the seed article (docs/exchange.md).

    python3 benches/seed_regime.py RUN [RUN ..]

Needs NumPy and safetensors. A row a run: fields of the plan that a search varies, test accuracy, keys, Gini coefficient of W_E
(the article: 0.938), largest other component of W_E over the weakest key (0.025), sum of squares of W_E (3,550), neurons above
0.85 with their mean FVE over all (424, 0.914), attention to x and y together (0.995), the share of pairs on which every head
has a weight above 0.98 (near 1), and the shares of the mean 2D power spectrum in the keys' linear and quadratic terms
(0.844, 0.107).
"""

import json
import pathlib
import sys
import tomllib

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "numpy"))
import check

NAMES = ("run", "init_scale", "weight_decay", "lr", "test", "keys", "Gini W_E", "non-key / key", "|W_E|^2", "neurons > 0.85",
         "mean FVE", "x and y", "saturated", "linear", "quadratic")


def row(directory):
    plan = tomllib.loads((directory / "plan.toml").read_text())
    findings = json.loads((directory / "findings.json").read_text())
    task = check.make_task(*check.task_of(directory, None))
    w = check.in_group_order(check.read_weights(directory / "model.safetensors"), task)
    act = check.forward(w, task)
    keys, norms = findings["key_frequencies"], findings["spectra"]["W_E"]["components"]
    largest = {int(k): max(norms[i] for i in task.rows_of[k]) for k in task.frequencies}
    others = max(largest[k] for k in largest if k not in keys) / min(largest[k] for k in keys) if keys else None
    heads = np.moveaxis(act.pattern, 1, 0)  # [head, row, pos]
    mean = (check.planes(task, act.post) ** 2).mean(axis=0)
    mean[0, 0] = 0.0
    waves = [r for k in keys for r in task.rows_of[k]]
    linear = mean[0, waves].sum() + mean[waves, 0].sum()
    quadratic = sum(mean[np.ix_(task.rows_of[k], task.rows_of[k])].sum() for k in keys)
    neurons, share = findings["neurons"], lambda x: f"{x / mean.sum():.3f}"
    return (directory.name, plan.get("init_scale", 1.0), plan["weight_decay"], plan["lr"], f"{findings['scores']['test']['accuracy']:.4f}",
            keys if findings["keys"]["clear"] else f"{keys}, not clear", f"{findings['spectra']['W_E']['gini']:.3f}", others and f"{others:.3f}",
            f"{(w.W_E[:task.n] ** 2).sum():.0f}", neurons["explained"], f"{neurons['mean_fve']:.3f}",
            f"{1 - heads[:, :, 2].mean():.4f}", f"{(heads.max(axis=2).min(axis=0) > 0.98).mean():.4f}", share(linear), share(quadratic))


print("| " + " | ".join(NAMES) + " |\n|" + "---|" * len(NAMES))
for run in map(pathlib.Path, sys.argv[1:]):
    print("| " + " | ".join(map(str, row(run))) + " |", flush=True)
