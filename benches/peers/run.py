"""The training step of grokscope beside the same step in PyTorch and JAX, in one run on one machine.

Usage: python3 benches/peers/run.py [--rounds 5] [--threads 2] [--peers NAME ..] [--device NAME ..] [--write]

Needs `cargo build --release` done, and for llvmpipe Mesa's Vulkan drivers (what is not there is left out, with the reason); makes a virtual environment in target/peers-venv and installs requirements.txt there. Rounds
are interleaved, so that what else the machine does falls on all of them. In a round each does stretches of steps for three seconds, whose
median counts; each figure is the median of its rounds, and the ratios are of medians. --write puts the table between the marks of docs/performance.md.
"""
import argparse, datetime, json, os, pathlib, platform, statistics, subprocess, sys, venv

PEERS = ["torch-reference", "torch-reference-compiled", "torch-careful", "torch-careful-compiled", "jax-careful-scan"]

a = argparse.ArgumentParser()
a.add_argument("--rounds", type=int, default=5)
a.add_argument("--threads", type=int, default=os.cpu_count())
a.add_argument("--steps", type=int, default=10, help="steps of a peer in a stretch")
a.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
a.add_argument("--device", nargs="*", default=["cpu", "llvmpipe"], help="devices of grokscope's")
a.add_argument("--write", action="store_true")
a = a.parse_args()
here = pathlib.Path(__file__).resolve().parent
root = here.parent.parent
program = root / "target/release/grokscope"
page = root / "docs/performance.md"

def environment():
    """The Python of a virtual environment with what requirements.txt lists."""
    directory, wanted = root / "target/peers-venv", (here / "requirements.txt").read_text()
    stamp = directory / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(directory, clear=True, with_pip=True)
        subprocess.run([directory / "bin/pip", "install", "--quiet", "-r", here / "requirements.txt"], check=True)
        stamp.write_text(wanted)
    return directory / "bin/python"

def asked(command):
    """What a command says in JSON, or none and the last line of its complaint."""
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        return None, (ran.stderr.strip().splitlines() or [f"ended with code {ran.returncode} and said nothing"])[-1]
    return json.loads(ran.stdout), ""

def ours(device, name):
    """Milliseconds of a step on a device, or why there are none; and what the device is."""
    said, why = asked([program, "bench", "--device", device, "--program", name, "--threads", str(a.threads), "--seconds", "3", "--json"])
    if said is None:
        return None, why
    device = said["devices"][0]
    return device["runs"][0]["step_ms"]["median"], f"{device['name']}, {device['driver']}"

def peer(python, name):
    """The same of a peer."""
    said, why = asked([python, here / "peers.py", "--threads", str(a.threads), "--steps", str(a.steps), "--only", name])
    if said is None:
        return None, why
    return (None, said["skipped"]) if "skipped" in said else (said["ms_per_step"], said["device"])

def when_what_and_where():
    """The day, the commit and the machine."""
    try:
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        commit = ""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    return f"{datetime.date.today()}, commit {commit or 'unknown'}, {models[0] if models else platform.processor() or platform.machine()}, {a.threads} threads, {a.rounds} rounds"

if not program.exists():
    sys.exit(f"{program} is not there: build it with `cargo build --release`")
if hasattr(os, "sched_setaffinity"):
    # JAX takes as many threads as the process has cores: all that is timed gets the same ones.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:a.threads])
python, conditions = environment(), when_what_and_where()
runs = {}
for device in a.device:
    for name in ["composed", "layered"]:
        runs[f"grokscope {name}, {device}"] = lambda device=device, name=name: ours(device, name)
for name in a.peers:
    runs[name] = lambda name=name: peer(python, name)
times, notes = {name: [] for name in runs}, {}
for round_ in range(a.rounds):
    for name, run in runs.items():
        if name in notes and not times[name]:
            continue
        # The layered program on a software adapter takes seconds a step and is no peer: once is enough.
        if name.startswith("grokscope layered") and not name.endswith("cpu") and round_:
            continue
        ms, note = run()
        if ms is None:
            notes.setdefault(name, note)
            print(f"{name}: not run: {note}", file=sys.stderr)
        else:
            notes[name] = note
            times[name].append(ms)
            print(f"round {round_ + 1} of {a.rounds}: {name}: {ms:.1f} ms", file=sys.stderr, flush=True)

median = {name: statistics.median(rounds) for name, rounds in times.items() if rounds}
reference = median.get("torch-reference")
careful = min((median[name] for name in ["torch-careful", "torch-careful-compiled", "jax-careful-scan"] if name in median), default=None)
ratio = lambda of, ms: "-" if of is None else f"{of / ms:.2f}"
table = "| | ms a step | rounds | times as fast as torch-reference | as the best careful peer |\n|---|---|---|---|---|\n"
for name, ms in median.items():
    rounds = sorted(times[name])
    fewer = f", {len(rounds)} of them" if len(rounds) < a.rounds else ""
    table += f"| {name} | {ms:.1f} | {rounds[0]:.1f} to {rounds[-1]:.1f}{fewer} | {ratio(reference, ms)} | {ratio(careful, ms)} |\n"
for name in runs:
    if name not in median:
        table += f"| {name} | not run: {notes[name]} | | | |\n"
devices = sorted({notes[name] for name in median if name.startswith("grokscope")})
table += f"\n{conditions}; {'; '.join(devices)}; Python {platform.python_version()}, {', '.join((here / 'requirements.txt').read_text().split())}.\n"
print(table)
if not any(name.startswith("grokscope") for name in median):
    sys.exit("nothing of grokscope's could be timed")
if a.write:
    begin, end = "<!-- peers: written by benches/peers/run.py -->\n", "<!-- end of peers -->\n"
    text = page.read_text()
    before, rest = text.split(begin)
    page.write_text(before + begin + "\n" + table + "\n" + end + rest.split(end)[1])
