"""How long an analysis takes, and how much memory: the final model alone, and a run with all its checkpoints.

Usage: python analysis.py RUN [--rounds 3]

RUN is a run directory of grokscope train; it is analysed again, and its findings and page are replaced by the same ones.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "target/release/grokscope"


def measure(directory):
    """Seconds and MiB at most of one analysis."""
    began = time.perf_counter()
    process = subprocess.Popen([PROGRAM, "analyze", "--quiet", directory], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{directory}: the analysis ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("run", type=pathlib.Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as alone:
        for name in ("config.json", "model.safetensors"):
            shutil.copy(arguments.run / name, alone)
        checkpoints = len(list((arguments.run / "checkpoints").glob("step-*")))
        print("| analysed | seconds, median | rounds | MiB at most |\n|---|---|---|---|")
        for what, directory in (("the final model", alone), (f"{checkpoints} checkpoints", arguments.run)):
            rounds = [measure(directory) for _ in range(arguments.rounds)]
            seconds, memory = zip(*rounds)
            print(f"| {what} | {statistics.median(seconds):.1f} | {min(seconds):.1f} to {max(seconds):.1f} | {max(memory):.0f} |")


if __name__ == "__main__":
    main()
