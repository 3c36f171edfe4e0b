"""A sweep on a real Slurm: an array of 8 tasks on a node of two CPUs, of which one is requeued in the middle and one is killed.

Usage: python slurm.py GROKSCOPE DIRECTORY      as root; DIRECTORY is new, and what the daemons say stays there

Starts munged, slurmctld and slurmd on the loopback, without systemd and without touching /etc. The merged table, as CSV and Parquet,
has to be that of a sweep in a single process, byte for byte.
"""

import csv
import json
import os
import pathlib
import re
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
steps = 16000
stop_at_test_loss = 0.0
eval_every = 500
checkpoint_every = 500
[grid]
weight_decay = [1, 2]
seed = { from = 0, to = 11 }
"""

CONFIG = """
ClusterName=grokscope
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
SchedulerParameters=sched_interval=2,batch_sched_delay=0,requeue_delay=1,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def require(condition, message):
    if not condition:
        raise SystemExit(f"slurm: {message}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, seconds, until):
    end = time.time() + seconds
    while time.time() < end:
        found = until()
        if found:
            return found
        time.sleep(0.2)
    raise SystemExit(f"slurm: waited {seconds} s for {what}")


class Cluster:
    """The three daemons, for as long as a with-block lasts."""

    def __init__(self, place):
        self.place, self.daemons = place, []
        for name in ("state", "spool"):
            (place / name).mkdir()
        os.chmod(place, 0o755)
        host = socket.gethostname().split(".")[0]
        self.config = place / "slurm.conf"
        self.config.write_text(CONFIG.format(host=host, place=place, controller=free_port(), node=free_port()))
        self.env = {**os.environ, "SLURM_CONF": str(self.config)}
        # A task of an array that runs this itself must not hand its number on.
        for name in [name for name in self.env if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            del self.env[name]

    def start(self, name, *arguments):
        log = open(self.place / f"{name}.out", "w")
        self.daemons.append(subprocess.Popen([shutil.which(name) or f"/usr/sbin/{name}", *arguments], env=self.env, stdout=log, stderr=log))

    def __enter__(self):
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self.start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.place}/munge.socket",
                   f"--pid-file={self.place}/munged.pid", f"--log-file={self.place}/munged.log", f"--seed-file={self.place}/munge.seed")
        wait("munged", 20, lambda: (self.place / "munge.socket").exists())
        self.start("slurmctld", "-D", "-f", str(self.config))
        self.start("slurmd", "-D", "-f", str(self.config))
        wait("an idle node", 60, lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T", check=False))
        return self

    def __exit__(self, *_):
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *command, check=True):
        dead = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
        require(not dead, f"{dead} ended: {''.join(log.read_text() for log in self.place.glob('*.out'))[-2000:]}")
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        require(done.returncode == 0 or not check, f"{command} ended with {done.returncode}: {done.stderr}{self.place}")
        return done.stdout


def main():
    grokscope, place = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    require(os.geteuid() == 0, "the daemons are started as root: expected to be called by root")
    place.mkdir(parents=True)
    plan, out, alone = place / "sweep.toml", place / "out", place / "alone"
    plan.write_text(PLAN)
    with Cluster(place) as cluster:
        cluster.env["PATH"] = f"{grokscope.parent}:{cluster.env['PATH']}"
        script = place / "sweep.sbatch"
        script.write_text(cluster.ask(str(grokscope), "sweep", "emit", "slurm", str(plan), "--out", str(out), "--shards", "8", "--cpus", "1"))
        job = re.search(r"(\d+)", cluster.ask("sbatch", f"--chdir={place}", str(script))).group(1)

        def states():
            lines = cluster.ask("squeue", "-h", "-r", "-j", job, "-o", "%K %T", check=False).split("\n")
            return dict(line.split() for line in lines if line)

        def details(task):
            return cluster.ask("scontrol", "show", "job", f"{job}_{task}", check=False)

        def begun(task):
            """Whether the runs of the task's shard have a checkpoint beyond their first, and none is done."""
            if states().get(str(task)) != "RUNNING" or not (out / "sweep.toml").exists():
                return False
            cluster.ask(str(grokscope), "sweep", "merge", str(out))
            with open(out / "sweep.csv", newline="") as table:
                mine = [out / "runs" / row["run"] for number, row in enumerate(csv.DictReader(table)) if number % 8 == task]
            return all(not (run / "summary.json").exists() and len(list(run.glob("checkpoints/step-*"))) > 2 for run in mine)

        # Requeued by an administrator in the middle: TERM, a checkpoint, and from there on again.
        wait("task 0 to be under way", 120, lambda: begun(0))
        cluster.ask("scontrol", "requeue", f"{job}_0")
        # Killed: the step dies by KILL and the script ends with 137, which it does not queue again.
        wait("task 1 to be under way", 240, lambda: begun(1))
        cluster.ask("scancel", "--signal=KILL", f"{job}_1")
        # Told that its time is up: USR1, a checkpoint, code 75, and the script queues itself again.
        wait("task 2 to be under way", 240, lambda: begun(2))
        # To the step, as --signal=USR1@60 of the script does.
        cluster.ask("scancel", "--signal=USR1", f"{job}_2.0")
        wait("the array to end", 900, lambda: not [task for task, state in states().items() if state not in ("COMPLETED", "FAILED", "CANCELLED")])
        logs = {task: (place / f"grokscope-sweep-{job}_{task}.log").read_text() for task in range(8)}
        restarts = {task: int(re.search(r"Restarts=(\d+)", details(task)).group(1)) for task in (0, 1, 2)}
        ended = {task: re.search(r"JobState=(\S+).*?ExitCode=(\S+)", details(task), re.S).groups() for task in range(8)}
        print(json.dumps({"restarts": restarts, "ended": ended}))
        require(restarts == {0: 1, 1: 0, 2: 1}, f"restarts {restarts}; the log of task 2: {logs[2]}")
        require(ended[1][0] != "COMPLETED", f"the killed task ended as {ended[1]}")
        others = {task: end for task, end in ended.items() if task != 1}
        require(all(end == ("COMPLETED", "0:0") for end in others.values()), f"tasks ended as {others}")
        before = cluster.ask(str(grokscope), "sweep", "merge", str(out))
        require("24 runs: 2" in before and "begun" in before, f"after the killed task: {before}")
        # What the killed one left is done by queueing its shard once more.
        again = re.search(r"(\d+)", cluster.ask("sbatch", f"--chdir={place}", "--array=1", "--wait", str(script))).group(1)
        require(again != job, "a second job")
    subprocess.run([grokscope, "sweep", "merge", out], check=True)
    subprocess.run([grokscope, "sweep", "merge", out], check=True)
    subprocess.run([grokscope, "sweep", "run", plan, "--out", alone, "--quiet"], check=True)
    for name in ("sweep.csv", "sweep.parquet"):
        require((out / name).read_bytes() == (alone / name).read_bytes(), f"{name} of the array is not that of a single process")
    rows = (out / "sweep.csv").read_text().splitlines()
    require(len(rows) == 25 and all(",done," in row for row in rows[1:]), "not every run is done")
    print(f"slurm: 24 runs in 8 tasks, restarts {restarts}, one killed: the table is that of a single process")


main()
