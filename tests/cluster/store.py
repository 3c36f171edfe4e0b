"""A sweep whose tasks share a bucket and no directory, on a real S3-compatible server.

Usage: python store.py GROKSCOPE S3S_FS DIRECTORY      GROKSCOPE has the feature s3; DIRECTORY is new

Three tasks have a disk each; one is told to stop in the middle and goes on on another disk; the server goes away for a while and comes
back. The table that comes of it, as CSV and Parquet, has to be that of a sweep in a single process, byte for byte, and so have the runs.
"""

import filecmp
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

PLAN = """
preset = "demo"
p = 23
d_model = 32
d_mlp = 64
steps = 3000
stop_at_test_loss = 0.0
eval_every = 250
checkpoint_every = 250
[grid]
weight_decay = [1, 2]
seed = { from = 0, to = 5 }
"""

grokscope, server, place = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
URL = "s3://sweeps/decay/first"
RUNS = 12


def require(condition, message):
    if not condition:
        raise SystemExit(f"store: {message}")


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Server:
    """s3s-fs, whose buckets are directories."""

    def __init__(self):
        self.root, self.port, self.process = place / "buckets", free_port(), None
        (self.root / "sweeps").mkdir(parents=True)

    def start(self):
        command = [server, "--access-key", "key", "--secret-key", "secret", "--host", "127.0.0.1", "--port", str(self.port), str(self.root)]
        self.process = subprocess.Popen(command, stdout=open(place / "server.log", "a"), stderr=subprocess.STDOUT)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise SystemExit("store: the server does not listen")

    def stop(self):
        self.process.kill()
        self.process.wait()

    def object(self, name):
        return self.root / "sweeps" / "decay" / "first" / name

    def markers(self):
        done = self.object("done")
        return len(list(done.glob("*.json"))) if done.exists() else 0


def environment(buckets, **more):
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("AWS_")}
    own |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    return own | {"AWS_ENDPOINT": f"http://127.0.0.1:{buckets.port}"} | more


def sweep(buckets, out, *more, store=URL, **env):
    command = [grokscope, "sweep", "run", place / "sweep.toml", "--out", place / out, "--device", "cpu", *more]
    command += ["--store", store] if store else []
    return subprocess.Popen(command, env=environment(buckets, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process, code):
    said, _ = process.communicate(timeout=300)
    require(process.returncode == code, f"ended with {process.returncode} and not {code}: {said}")
    return said


def same_runs(one, other):
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    require(names == sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file()), f"{one} and {other} have other files")
    # Clock values alone may differ.
    for name in names:
        if name.name not in ("timing.jsonl", "summary.json"):
            require(filecmp.cmp(one / name, other / name, shallow=False), f"{name} differs")


def main():
    place.mkdir(parents=True)
    (place / "sweep.toml").write_text(PLAN)
    buckets = Server()
    buckets.start()
    try:
        ended(sweep(buckets, "whole", "--quiet", store=None), 0)

        # What was asked for wrongly is an error of its own, at once.
        said = ended(sweep(buckets, "none", AWS_SECRET_ACCESS_KEY="wrong"), 1)
        require("refused, SignatureDoesNotMatch: expected" in said and said.count("\n") == 1, said)
        said = ended(sweep(buckets, "none", store="s3://nowhere/decay"), 1)
        require("NoSuchBucket" in said and said.count("\n") == 1, said)
        said = ended(sweep(buckets, "none", AWS_ALLOW_HTTP="no"), 1)
        require("has no TLS: expected https://, or AWS_ALLOW_HTTP=true" in said and said.count("\n") == 1, said)
        said = ended(sweep(buckets, "none", AWS_ENDPOINT="localhost"), 1)
        require("AWS_ENDPOINT=localhost: expected https://" in said and said.count("\n") == 1, said)
        require(not (place / "none").exists(), "something was written")

        # Two tasks at the same time; the second is told to stop.
        first, second = [sweep(buckets, f"disk-{shard}", "--quiet", "--shard", f"{shard}/3") for shard in (0, 1)]
        runs = place / "disk-1" / "runs"
        until = time.monotonic() + 60
        while not list(runs.glob("*/checkpoints/step-000500")):
            require(time.monotonic() < until and second.poll() is None, "the second task has no checkpoint")
            time.sleep(0.02)
        second.send_signal(signal.SIGTERM)
        ended(second, 75)
        parts = list(buckets.object("parts").glob("*.zip"))
        require(parts, "nothing was left to go on from")
        ended(first, 0)
        require(buckets.markers() == RUNS // 3, f"{buckets.markers()} markers")
        # Its disk is gone with it.
        shutil.rmtree(place / "disk-1")
        said = ended(sweep(buckets, "disk-1-again", "--shard", "1/3"), 0)
        require(f"{len(parts)} go on from their checkpoints" in said, said)
        require(not list(buckets.object("parts").glob("*.zip")), "parts are left of runs that have ended")
        require(buckets.markers() == 2 * RUNS // 3, f"{buckets.markers()} markers")

        # The server goes away under the third: nothing is lost, and the same command brings it there.
        third = sweep(buckets, "disk-2", "--shard", "2/3")
        until = time.monotonic() + 60
        while not list((place / "disk-2" / "runs").glob("*/checkpoints/step-000500")):
            require(time.monotonic() < until and third.poll() is None, "the third task has no checkpoint")
            time.sleep(0.02)
        buckets.stop()
        said = ended(third, 75)
        # Without it there is no table, and it is not a reason to give up.
        command = [grokscope, "sweep", "merge", place / "new", "--store", URL]
        done = subprocess.run(command, env=environment(buckets), capture_output=True, text=True)
        require(done.returncode == 75 and "Connection refused" in done.stderr, done)
        require("not in the store yet" in said and "the same command goes on" in said, said)
        buckets.start()
        said = ended(sweep(buckets, "disk-2", "--shard", "2/3"), 0)
        require(f"{RUNS // 3} were done before" in said, said)
        require(buckets.markers() == RUNS, f"{buckets.markers()} markers")

        # Whoever has the bucket has the table.
        for _ in range(2):
            command = [grokscope, "sweep", "merge", place / "merged", "--store", URL]
            subprocess.run(command, env=environment(buckets), check=True, capture_output=True)
        for name in ("sweep.csv", "sweep.parquet"):
            for other in (place / "merged" / name, buckets.object(name)):
                require(filecmp.cmp(place / "whole" / name, other, shallow=False), f"{other} is another table than that of a single process")
        same_runs(place / "whole" / "runs", place / "merged" / "runs")
        same_runs(place / "whole" / "runs", buckets.object("runs"))
        print(f"store: {RUNS} runs of 3 tasks, {len(parts)} went on on another disk; the table and the runs are those of a single process")
    finally:
        buckets.stop()


main()
