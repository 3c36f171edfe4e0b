"""Which operations grok, and when: trains each with several seeds and prints the table of docs/tasks.md.

    python3 benches/tasks.py [--seeds 3] [--steps 5000] [--fraction 0.3] [--program target/release/grokscope] [OP ..]

Everything but the operation is that of `--preset default` (S5 has p = 120). A run ends at a test loss under 1e-4, or when its steps are used up.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

OPS = ["add", "sub", "mul", "div", "squares", "quadratic", "cubic", "s5", "random"]


def train(arguments, op, seed, directory):
    out = pathlib.Path(directory) / f"{op}-{seed}"
    p = ["--p", "120"] if op == "s5" else []
    fixed = ["--stop-at-test-loss", "1e-4", "--set", "stop_after_cleanup=false", "--checkpoint-every", "1000"]
    given = ["--steps", str(arguments.steps), "--train-fraction", str(arguments.fraction), "--seed", str(seed)]
    command = [arguments.program, "train", "--quiet", "--device", "cpu", "--op", op, *p, *fixed, *given, "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((out / "summary.json").read_text())
    findings = json.loads((out / "findings.json").read_text())
    return summary, findings


def found(summary, findings):
    """What the analysis says in a word or two."""
    if "representations" not in findings:
        return "{" + ", ".join(map(str, summary["key_frequencies"])) + "}"
    parts = findings["representations"]
    shares = parts["logits"]["shares"]
    largest = max(range(len(shares)), key=shares.__getitem__)
    return f"{parts['names'][largest]} {100 * shares[largest]:.0f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--fraction", type=float, default=0.3)
    parser.add_argument("--program", default="target/release/grokscope")
    parser.add_argument("ops", nargs="*", default=OPS, metavar="OP")
    arguments = parser.parse_args()
    print("| op | 99.9 % of the test pairs at step | test accuracy at the end | keys, or the largest share of the logits' variance |")
    print("|---|---|---|---|")
    for op in arguments.ops:
        with tempfile.TemporaryDirectory() as directory:
            runs = [train(arguments, op, seed, directory) for seed in range(arguments.seeds)]
        steps = ", ".join("-" if s["grok_step"] is None else f"{s['grok_step']:,}" for s, _ in runs)
        accuracy = statistics.median(s["test_accuracy"] for s, _ in runs)
        told = "; ".join(found(*run) for run in runs)
        print(f"| {op} | {steps} | {100 * accuracy:.1f} % | {told} |", flush=True)


if __name__ == "__main__":
    main()
