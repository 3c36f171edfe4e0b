"""Reads a sweep's table as polars does, holds Parquet against CSV: names, types, every value; and steps and phases against the rows of
each run.

Usage: python tables.py SWEEP_DIR
"""

import collections
import json
import pathlib
import sys
import tomllib

import polars

place = pathlib.Path(sys.argv[1])
parquet = polars.read_parquet(place / "sweep.parquet")
csv = polars.read_csv(place / "sweep.csv", schema=parquet.schema)
# An empty field of a CSV is no text or an empty one: a network without key frequencies has the empty set.
texts = [name for name, kind in parquet.schema.items() if kind == polars.String]
plain = parquet.with_columns(polars.col(texts).replace("", None))
if not plain.equals(csv.with_columns(polars.col(texts).replace("", None)), null_equal=True):
    sys.exit(f"tables: they differ:\n{parquet}\n{csv}")
kinds = {"run": polars.String, "status": polars.String, "seed": polars.Int64, "lr": polars.Float64, "grokked": polars.Boolean, "test_loss": polars.Float64}
for name, kind in kinds.items():
    if parquet.schema[name] != kind:
        sys.exit(f"tables: {name} is {parquet.schema[name]}, expected {kind}")
if parquet["run"].n_unique() != len(parquet):
    sys.exit("tables: a run stands twice")
delay = tomllib.loads((place / "sweep.toml").read_text()).get("delay", 1000)
phases = collections.Counter()
for run in parquet.to_dicts():
    rows = [json.loads(line) for line in (place / "runs" / run["run"] / "metrics.jsonl").read_text().splitlines()]
    known = run["status"] == "done"
    tested = known and rows[-1]["test_accuracy"] is not None
    for name in ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm"):
        if run[name] != (rows[-1][name] if known else None):
            sys.exit(f"tables: {run['run']} has {name} = {run[name]}, its last row {rows[-1]}")
    if not known:
        phase = None
    else:
        first = {}
        for what, name, least in (("fitted", "train_accuracy", 0.9), ("generalised", "test_accuracy", 0.9), ("grok", "test_accuracy", 0.999)):
            first[what] = next((row["step"] for row in rows if row[name] is not None and row[name] >= least), None)
            if run[f"{what}_step"] != first[what]:
                sys.exit(f"tables: {run['run']} has {what}_step = {run[f'{what}_step']}, its rows say {first[what]}")
        if run["ended_at_step"] != rows[-1]["step"]:
            sys.exit(f"tables: {run['run']} ended at {run['ended_at_step']}, its last row is of {rows[-1]['step']}")
        fitted, generalised = first["fitted"], first["generalised"]
        if not tested:
            phase = None
        elif fitted is None:
            phase = "confusion"
        elif generalised is None:
            phase = "memorisation"
        else:
            phase = "grokking" if generalised - fitted >= delay else "comprehension"
    directory = place / "runs" / run["run"]
    if run["status"] == "diverged" and run["ended_at_step"] != json.loads((directory / "diverged.json").read_text())["step"]:
        sys.exit(f"tables: {run['run']} did not diverge at {run['ended_at_step']}")
    if known:
        summary = json.loads((directory / "summary.json").read_text())
        keys = summary["key_frequencies"]
        findings = json.loads((directory / "findings.json").read_text()) if keys is not None else {}
        measures = findings.get("clock_or_pizza", {})
        expected = {
            "stopped_by": summary["stopped_by"],
            "key_frequencies": None if keys is None else " ".join(map(str, keys)),
            "keys": None if keys is None else len(keys),
            "gradient_symmetricity": measures.get("gradient_symmetricity_wide"),
            "distance_irrelevance": measures.get("distance_irrelevance"),
        }
        for name, value in expected.items():
            if run[name] != value:
                sys.exit(f"tables: {run['run']} has {name} = {run[name]!r}, its files say {value!r}")
    if run["grokked"] != (rows[-1]["test_accuracy"] >= 0.999 if tested else None):
        sys.exit(f"tables: {run['run']} has grokked = {run['grokked']}, its last row {rows[-1]}")
    if run["phase"] != phase:
        sys.exit(f"tables: {run['run']} has the phase {run['phase']}, its rows say {phase}")
    phases[phase or "without"] += 1
counts = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
print(f"tables: {len(parquet)} rows, {len(parquet.columns)} columns; {counts}")
