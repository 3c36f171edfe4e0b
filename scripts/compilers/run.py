"""Runs judges over the dump of all pipelines, and says whether every criterion holds.

  run.py JUDGE .. [--ci] [--only STEM ..] [--missing JUDGE ..] [--write-docs]

scripts/compilers.sh calls it. Writes target/compilers/results.json. The exit status is 0 only if all judges ran and passed.
"""

import argparse
import json
import sys
from dataclasses import asdict

import criteria
import pipelines
import table
from common import HERE, Dump, Missing, stopwatch
from judges import JUDGES


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("judges", nargs="*")
    parser.add_argument("--ci", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--missing", nargs="+", default=[])
    parser.add_argument("--write-docs", action="store_true")
    arguments = parser.parse_args()

    if arguments.only and arguments.write_docs:
        parser.error("the table needs every kernel: use --write-docs without --only")
    dump = Dump.load(HERE / "dump", arguments.only)
    verdicts, failures = {}, [f"{judge}: missing: its installation failed" for judge in arguments.missing]
    judges = {judge: (lambda judge=judge: JUDGES[judge](dump)) for judge in JUDGES}
    judges["pipelines"] = lambda: pipelines.judge(["navi31"] if arguments.ci else pipelines.FAMILIES)
    for name in [name for name in judges if name in arguments.judges]:
        seconds = stopwatch()
        try:
            verdict = judges[name]()
        except Missing as reason:
            failures.append(f"{name}: missing: {reason}")
            print(f"{name}: missing", flush=True)
            continue
        verdicts[name] = verdict
        failures += criteria.failures(name, verdict, dump)
        print(f"{name}: {criteria.summary(name, verdict, dump)} [{seconds():.0f} s; {verdict.version}]", flush=True)

    if arguments.write_docs and len(verdicts) < len(judges):
        failures.append("docs: missing: the table needs every judge")
    elif arguments.write_docs:
        table.write_docs(verdicts, dump)

    results = {"versions": {name: v.version for name, v in verdicts.items()}, "failures": failures}
    results["judges"] = {name: asdict(verdict)["pipelines"] for name, verdict in verdicts.items()}
    (HERE / "results.json").write_text(json.dumps(results, indent=1))
    for failure in criteria.grouped(failures):
        print(f"FAILED {failure}")
    judged = sum(len(verdict.pipelines) for verdict in verdicts.values())
    print(f"compilers: {judged} verdicts, {len(failures)} failures")
    sys.exit(1 if failures or not judged else 0)


main()
