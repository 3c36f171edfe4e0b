"""Steps to grok by way of training: trains each with several seeds and prints the table of docs/methods.md.

    python3 benches/methods.py [--seeds 5] [--steps 6000] [--fraction 0.4] [--program target/release/grokscope] [METHOD ..]

The network and its other settings are those of `--preset demo`, with fewer pairs to train on. A run ends at a test loss
under 1e-3, or when its steps are used up. Settings differ from the preset's where a method's authors say so, or where the
preset's do not train at all. Muon has three settings: its steps to grok depend on both its learning rate and its weight decay.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

METHODS = {
    "AdamW": [],
    "AdamW without weight decay": ["--weight-decay", "0"],
    "Adam, L2 1e-3": ["--optimizer", "adam", "--weight-decay", "1e-3"],
    "SGD, momentum 0.9, lr 0.1, L2 1e-3": ["--optimizer", "sgd", "--lr", "0.1", "--weight-decay", "1e-3"],
    "Muon, lr 0.02, weight decay 0.5": ["--optimizer", "muon", "--weight-decay", "0.5"],
    "Muon, lr 0.02, weight decay 1": ["--optimizer", "muon", "--weight-decay", "1"],
    "Muon, lr 0.05, weight decay 0.5": ["--optimizer", "muon", "--weight-decay", "0.5", "--set", "muon_lr=0.05"],
    "Grokfast EMA, alpha 0.98, lamb 2": ["--grokfast", "ema"],
    "Grokfast MA, window 100, lamb 5": ["--grokfast", "ma", "--set", "grokfast_lamb=5"],
    "StableMax": ["--loss", "stablemax"],
    "StableMax without weight decay": ["--loss", "stablemax", "--weight-decay", "0"],
    "orthogonal gradient without weight decay": ["--set", "orthogonal_grad=true", "--weight-decay", "0"],
    "both, without weight decay": ["--set", "orthogonal_grad=true", "--loss", "stablemax", "--weight-decay", "0"],
}


def train(arguments, flags, seed, directory):
    out = pathlib.Path(directory) / str(seed)
    fixed = ["--preset", "demo", "--stop-at-test-loss", "1e-3", "--eval-every", "20", "--checkpoint-every", "2000"]
    given = ["--steps", str(arguments.steps), "--train-fraction", str(arguments.fraction), "--seed", str(seed)]
    command = [arguments.program, "train", "--quiet", "--device", "cpu", *fixed, *given, *flags, "--out", out]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode == 42:
        return None
    done.check_returncode()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    at = next((row["step"] for row in rows if row["test_accuracy"] >= 0.95), None)
    return {**json.loads((out / "summary.json").read_text()), "at_95": at}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--fraction", type=float, default=0.4)
    parser.add_argument("--program", default="target/release/grokscope")
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    arguments = parser.parse_args()
    print("| | 95 % of the test pairs at step | 99.9 % at step | test accuracy at the end, median |")
    print("|---|---|---|---|")
    for method in arguments.methods:
        with tempfile.TemporaryDirectory() as directory:
            runs = [train(arguments, METHODS[method], seed, directory) for seed in range(arguments.seeds)]
        step = lambda run, name: "diverged" if run is None else "-" if run[name] is None else f"{run[name]:,}"
        steps = lambda name: ", ".join(step(run, name) for run in runs)
        whole = [run for run in runs if run]
        accuracy = f"{100 * statistics.median(run['test_accuracy'] for run in whole):.1f} %" if whole else "-"
        print(f"| {method} | {steps('at_95')} | {steps('grok_step')} | {accuracy} |", flush=True)


if __name__ == "__main__":
    main()
