"""The claims of the certificate, from our own numbers: value, range, control, verdict.

`check` is the module check.py. A verdict is judged on their value, so that a value within rounding of its bound is not
judged twice.
"""

import numpy as np

# Claims with the smallest order at which they apply, the range of the value, and that of the control.
CLAIMS = {
    "generalises": (3, (0.999, None), None), "few": (12, None, None), "sparse": (5, (0.35, None), (None, 0.25)),
    "neurons": (5, (0.5, None), None), "embedding": (10, (0.5, None), (None, 0.05)),
    "restricted": (10, (0.999, None), (None, 0.2)), "excluded": (10, (None, 0.25), (0.9, None)),
    "cosines": (10, (0.8, None), (None, 0.1)), "directions": (5, (0.8, None), None),
    "no-equals": (3, (None, 0.01), None), "no-skip": (3, (None, 0.01), None)}
SIMPLIFICATIONS = ("no-equals", "no-skip")

def certificate(check, ours, theirs):
    accuracy, n = check.unseen(ours["scores"], "accuracy"), ours["model"]["order"]
    keys, found, own, removed = (ours[key] for key in ("key_frequencies", "neurons", "restricted", "embedding"))
    lost = lambda of: accuracy - check.unseen(of, "accuracy")
    lost_of_all = lambda of: ours["scores"]["all"]["accuracy"].value - of["all"]["accuracy"].value
    kept = lambda of: check.unseen(of["restricted"], "accuracy")
    remembered = lambda of: check.seen(of["excluded"], "accuracy")
    varying = len(found["fve"]) - found["dead"]
    shares = [d[name].value for d in ours["logits"]["directions"] for name in ("u_explained", "v_explained") if d[name]]
    positive = np.sort([c.value for c in ours["keys"]["contributions"] if c.value > 0])[::-1]
    making = int((np.cumsum(positive) - positive < 0.95 * positive.sum()).sum())
    if_keys = lambda value: value if keys else None
    largest = lambda values: max(values, default=None)
    values = {
        "generalises": ours["scores"]["test"] and ours["scores"]["test"]["accuracy"].value, "few": if_keys(making),
        "sparse": ours["spectra"]["W_E"]["gini"].value, "neurons": found["explained"] / varying if varying else None,
        "embedding": if_keys(lost(removed["all_keys"]["scores"])), "restricted": if_keys(kept(own["logits"]["all"])),
        "excluded": if_keys(remembered(own["logits"]["all"])), "cosines": if_keys(ours["logits"]["explained"].value),
        "directions": min(shares, default=None), "no-equals": lost_of_all(ours["attention"]["equals_zeroed"]),
        "no-skip": lost_of_all(ours["ablations"][0]["mean"])}
    controls = {
        "sparse": ours["random_gini"].value, "embedding": largest([lost(control["scores"]) for control in removed["controls"]]),
        "restricted": largest([kept(control) for control in own["controls"]]),
        "excluded": min([remembered(control) for control in own["controls"]], default=None),
        "cosines": largest([x.value for x in ours["logits"]["controls"]])}
    unknown = ours["scores"]["train"] is None or ours["scores"]["test"] is None
    trees = []
    for i, (name, (smallest, bounds, control_bounds)) in enumerate(CLAIMS.items()):
        if name == "few":
            bounds = (1.0, max(1.0, float(n // 2 // 3)))
        tree, within = measured(check, values[name], bounds, theirs, "certificate", "claims", i)
        control, refuted, missing = None, False, False
        if control_bounds is not None:
            control, kept_control = measured(check, controls[name], control_bounds, theirs, "certificate", "claims", i, "control")
            control |= {"what": check.TEXT}
            missing = controls[name] is None
            refuted = not missing and not kept_control
        verdict = ("does-not-apply" if n < smallest else "unknown" if name == "generalises" and unknown
                   else "fails" if not within or refuted else "unknown" if missing else "holds")
        kind = "simplification" if name in SIMPLIFICATIONS else "computation"
        trees.append(tree | {"name": name, "kind": kind, "claim": check.TEXT, "measure": check.TEXT, "control": control,
                             "smallest_n": smallest, "verdict": verdict, "passed": verdict == "holds",
                             "why": check.TEXT if verdict in ("unknown", "does-not-apply") else None})
    order = ["does-not-apply", "holds", "unknown", "fails"]
    verdict = max((tree["verdict"] for tree in trees if tree["kind"] == "computation"), key=order.index)
    return {"passed": verdict == "holds", "verdict": verdict, "claims": trees}

def measured(check, value, bounds, findings, *path):
    """A value beside its range, and whether their value lies within it."""
    theirs, (low, high) = check.dig(findings, *path, "value"), bounds
    within = check.is_number(theirs) and (low is None or theirs >= low) and (high is None or theirs <= high)
    number = lambda x: None if x is None else check.near(float(x), max(1.0, abs(x)))
    return {"value": number(value), "expected": {"at_least": number(low), "at_most": number(high)}}, within
