"""Processor time of a training step in two builds of the program, in interleaved rounds.

    python3 benches/compare_steps.py OLD NEW --device llvmpipe --preset default --rounds 7 --steps 40
    python3 benches/compare_steps.py OLD NEW --device llvmpipe --train "--models 16 --program layered"

Each round trains 1 step and 1 + STEPS steps with both programs, in alternating order; the difference is the time of STEPS
steps without start and end. Prints milliseconds of processor time per step and their ratio, round by round, then the median and
the lower quartile of the ratios, and the median ratio of the runs of one step (the start). Train once with both programs before, so that
no self-check is left.
"""

import argparse
import resource
import statistics
import subprocess
import tempfile
from pathlib import Path


def processor_seconds(program, steps, options):
    """Trains for some steps and returns the user and system time that it took."""
    with tempfile.TemporaryDirectory() as directory:
        command = [program, "train", "--quiet", "--preset", options.preset, "--device", options.device, "--steps", str(steps)]
        command += [*options.train.split(), "--eval-every", "100000", "--checkpoint-every", "100000", "--out", str(Path(directory) / "run")]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--train", default="", help="more arguments of train")
    options = parser.parse_args()
    ratios, starts = [], []
    for number in range(options.rounds):
        start, step = {}, {}
        programs = [("old", options.old), ("new", options.new)]
        for name, program in programs if number % 2 == 0 else reversed(programs):
            start[name] = processor_seconds(program, 1, options)
            step[name] = (processor_seconds(program, 1 + options.steps, options) - start[name]) / options.steps
        ratios.append(step["new"] / step["old"])
        starts.append(start["new"] / start["old"])
        print(f"{1e3 * step['old']:.2f} ms, {1e3 * step['new']:.2f} ms, ratio {ratios[-1]:.3f}", flush=True)
    quartile = sorted(ratios)[len(ratios) // 4]
    print(f"steps: median {statistics.median(ratios):.3f}, lower quartile {quartile:.3f}; starts: median {statistics.median(starts):.3f}")


if __name__ == "__main__":
    main()
