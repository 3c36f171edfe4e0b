"""The training step of grokscope's CPU engine beside the same step in PyTorch, in one run on one machine.

Usage: python benches/against_peers.py [--rounds 5] [--threads 2] [--peers torch-reference torch-careful]
Needs a Python with torch, and `cargo build --release` done. Rounds are interleaved, so that what else the machine
does falls on all of them; each figure is the median of its rounds, and the ratios are of medians.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile

a = argparse.ArgumentParser()
a.add_argument("--rounds", type=int, default=5)
a.add_argument("--threads", type=int, default=os.cpu_count())
a.add_argument("--peers", nargs="*", default=["torch-reference", "torch-careful"])
a = a.parse_args()
here = pathlib.Path(__file__).resolve().parent
program = here.parent / "target/release/grokscope"

def ours():
    with tempfile.TemporaryDirectory() as directory:
        run = [program, "train", "--device", "cpu", "--threads", str(a.threads), "--steps", "100", "--eval-every", "100",
               "--quiet", "--set", "stop_after_cleanup=false", "--out", f"{directory}/run"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        return json.load(open(f"{directory}/run/summary.json"))["ms_per_step"]

def peer(name):
    run = [sys.executable, here / "peers.py", "--threads", str(a.threads), "--only", name]
    line = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    if "skipped" in line:
        sys.exit(f"{name}: {line['skipped']}: expected a Python that has it")
    return line["ms_per_step"]

times = {"grokscope": []} | {name: [] for name in a.peers}
for _ in range(a.rounds):
    times["grokscope"].append(ours())
    for name in a.peers:
        times[name].append(peer(name))
base = statistics.median(times["grokscope"])
for name, rounds in times.items():
    median = statistics.median(rounds)
    print(f"{name:<18} {median:8.1f} ms a step  (of {', '.join(f'{t:.1f}' for t in sorted(rounds))})  {median / base:5.2f} x grokscope")
