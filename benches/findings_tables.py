"""The tables of docs/analysis.md, from the findings.json of runs.

Usage: python findings_tables.py harmonics RUN ..     the keys of each run, and what they and their doubles cost in W_E
       python findings_tables.py paper RUN ..         the figures of trained paper-sized networks side by side
"""

import json
import pathlib
import sys


def load(run):
    return json.loads((pathlib.Path(run) / "findings.json").read_text())


def braces(frequencies):
    return "{" + ", ".join(map(str, frequencies)) + "}"


def lost(findings, removed):
    test = removed["scores"]["test"]
    return f"{100 * (findings['scores']['test']['accuracy'] - test['accuracy']):.2f} % ({test['loss']:.1e})"


def harmonics(runs):
    print("| run | headline | W_E | each key | all doubles | each double | worst random set |\n|---|---|---|---|---|---|---|")
    for run in runs:
        findings = load(run)
        of = findings["embedding"]
        each = lambda name: "<br>".join(f"{r['frequencies'][0]}: {lost(findings, r)}" for r in of[name])
        worst = min(of["controls"], key=lambda r: r["scores"]["test"]["accuracy"] - r["scores"]["test"]["loss"])
        print(f"| {pathlib.Path(run).name} | {braces(findings['key_frequencies'])} | {braces(findings['key_rules']['W_E'])} | {each('each_key')} "
              f"| {braces(of['all_doubles']['frequencies'])}: {lost(findings, of['all_doubles'])} | {each('each_double')} | {lost(findings, worst)} |")


def paper(runs):
    all_findings = [load(run) for run in runs]

    def row(name, guide, of):
        print(f"| {name} | {guide} | " + " | ".join(of(f) for f in all_findings) + " |")

    def span(values, form):
        values = list(values)
        return f"{form(min(values))} to {form(max(values))}" if len(values) > 1 else form(values[0])

    loss = lambda x: f"{x:.1e}"
    percent = lambda x: f"{100 * x:.1f} %"
    small = lambda x: f"{100 * x:.2f} %"
    path = lambda f, name: next(a for a in f["ablations"] if a["path"] == name)
    print("| | guide | " + " | ".join(pathlib.Path(run).name for run in runs) + " |\n|---|---" + "|---" * len(runs) + "|")
    row("key frequencies", "{14, 35, 41, 42, 52}", lambda f: braces(f["key_frequencies"]))
    row("test loss", "", lambda f: loss(f["scores"]["test"]["loss"]))
    row("loss on all pairs, \"=\" dropped", "2.4e-7", lambda f: loss(f["scores"]["all"]["loss"]))
    row("neurons above 0.85, of 512", "433", lambda f: str(f["neurons"]["explained"]))
    row("mean FVE of those above", "0.914 (all)", lambda f: f"{sum(x for x in f['neurons']['fve'] if x > 0.85) / max(1, f['neurons']['explained']):.3f} ({f['neurons']['mean_fve']:.3f} all)")
    row("attention to \"=\"", "0.1 to 0.5 %", lambda f: span((h["mean"][2] for h in f["attention"]["heads"]), small))
    row("u_k, v_k explained", "93 to 98 %", lambda f: span((x for d in f["logits"]["directions"] for x in (d["u_explained"], d["v_explained"])), percent))
    row("restricted, all pairs", "5.5e-8", lambda f: loss(f["restricted"]["logits"]["all"]["restricted"]["all"]["loss"]))
    row("excluded, train", "", lambda f: f"{f['restricted']['logits']['all']['excluded']['train']['loss']:.2f}")
    row("key terms of the logits", "7.2e-8", lambda f: loss(f["logits"]["key_terms"]["all"]["loss"]))
    row("formula, share of variance", "", lambda f: percent(f["logits"]["explained"]))
    row("one key dropped at the neurons", "2e-4 to 2.4e-2", lambda f: span((d["scores"]["all"]["loss"] for d in f["dropped"]["each"]), loss))
    row("MLP skip zeroed", "9.1e-7", lambda f: loss(path(f, "skip round the MLP")["zeroed"]["all"]["loss"]))
    row("MLP skip, mean", "7.3e-7", lambda f: loss(path(f, "skip round the MLP")["mean"]["all"]["loss"]))
    row("heads zeroed", "24 (8 to 27)", lambda f: f"{path(f, 'all heads')['zeroed']['all']['loss']:.1f}")
    row("attention skip zeroed", "19 (1e-4 to 3e-2)", lambda f: loss(path(f, "skip round the attention")["zeroed"]["all"]["loss"]))
    row("keys out of W_E, test accuracy", "destroyed", lambda f: percent(f["embedding"]["all_keys"]["scores"]["test"]["accuracy"]))
    row("random sets out of W_E, worst", "about none lost", lambda f: percent(min(r["scores"]["test"]["accuracy"] for r in f["embedding"]["controls"])))
    row("simplified model, mean restored", "", lambda f: f"{loss(f['effective_weights']['simplified_mean_restored']['scores']['all']['loss'])}, {percent(f['effective_weights']['simplified_mean_restored']['scores']['all']['accuracy'])}")
    row("gradient symmetricity", "", lambda f: f"{f['clock_or_pizza']['gradient_symmetricity']:.2f}")
    row("distance irrelevance", "", lambda f: f"{f['clock_or_pizza']['distance_irrelevance']:.2f}")
    row("circularity", "", lambda f: f"{f['clock_or_pizza']['circularity']:.3f}")
    phases = lambda f: ", ".join(str(f["progress"]["phases"][name]) for name in ("circuit_formation", "cleanup", "end"))
    row("phases begin (end of cleanup last)", "1.4k, 9.4k, 14k", phases)
    row("certificate", "", lambda f: "passed" if f["certificate"]["passed"] else "failed: " + "; ".join(c["claim"] for c in f["certificate"]["claims"] if not c["passed"]))


if __name__ == "__main__":
    {"harmonics": harmonics, "paper": paper}[sys.argv[1]](sys.argv[2:])
