"""The module as it is installed: what it trains and reads, against the program and its files. Runs in a directory of its own.

    python tests/python/module.py
"""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

import grokscope
from grokscope import _program

SMALL = dict(p=13, steps=60, eval_every=20, checkpoint_every=20)


def raises(kind, says, f, *arguments, **named):
    try:
        f(*arguments, **named)
    except kind as error:
        assert says in str(error), f"{error!r} does not say {says!r}"
        return error
    raise AssertionError(f"expected {kind.__name__}: {says}")


def of_the_program(*arguments):
    return subprocess.run([grokscope.program(), *arguments], capture_output=True, text=True)


def a_run_is_that_of_the_program():
    run = grokscope.train(preset="demo", seed=3, device="cpu", progress=False, **SMALL)
    assert run.path == pathlib.Path("runs/demo").absolute() and run == grokscope.Run("runs/demo"), run
    fields = [f"--set={name}={value}" for name, value in (SMALL | {"seed": 3}).items()]
    done = of_the_program("train", "--preset", "demo", *fields, "--device", "cpu", "--quiet", "--out", "theirs")
    assert done.returncode == 0, done.stderr
    for name in ("plan.toml", "metrics.jsonl", "model.safetensors", "findings.json"):
        assert (run.path / name).read_bytes() == pathlib.Path("theirs", name).read_bytes(), name

    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    metrics = run.metrics()
    assert set(metrics) == set(rows[0]) and metrics["step"].tolist() == [0, 20, 40, 60]
    assert metrics["step"].dtype == np.int64 and metrics["test_loss"].dtype == np.float64
    for name, column in metrics.items():
        assert column.tolist() == [row[name] for row in rows], name

    assert run.checkpoints() == [0, 20, 40, 60]
    p, weights = 13, run.weights()
    assert weights["embed.W_E"].shape == (p + 1, run.plan["d_model"]) and weights["embed.W_E"].dtype == np.float32
    last = run.weights(step=60)
    assert weights.keys() == last.keys() and all(np.array_equal(weights[name], last[name]) for name in weights)
    assert not np.array_equal(run.weights(step=0)["embed.W_E"], weights["embed.W_E"])
    for of_step in (run.weights, run.findings, run.activations):
        raises(ValueError, "there are 0, 20, 40, 60", of_step, step=30)

    assert run.summary()["steps"] == 60 and run.config()["d_vocab"] == p + 1
    assert run.findings() == json.loads((run.path / "findings.json").read_text())
    assert run.findings(step=20)["model"]["step"] == 20
    activations = run.activations()
    logits = activations["logits"]
    x, y = np.divmod(np.arange(p * p), p)
    assert np.array_equal(activations["pairs"], np.stack([x, y], axis=1))
    accuracy = np.mean(np.argmax(logits, axis=1) == (x + y) % p)
    assert np.mean(logits[np.arange(p * p), activations["labels"]] == logits.max(axis=1)) == accuracy
    assert not list(run.path.glob("*.npz"))
    assert not np.array_equal(run.activations(step=0)["logits"], logits)
    assert abs(accuracy - run.findings()["scores"]["all"]["accuracy"]) < 1e-12
    assert run.report().read_text().startswith("<!DOCTYPE html>")

    again = grokscope.train(run.plan, progress=False, device="cpu", out="again")
    assert again.plan == run.plan and (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()
    from_file = grokscope.train(run.path / "plan.toml", progress=False, device="cpu", out="from-file", seed=4)
    assert from_file.plan == run.plan | {"seed": 4}

    # Files that a run keeps are found from wherever its plan is trained again.
    pathlib.Path("pairs.csv").write_text("".join(f"{x},{y}\n" for x in range(10) for y in range(13)))
    of_pairs = grokscope.train(preset="demo", split=pathlib.Path("pairs.csv"), device="cpu", out="of-pairs", progress=False, **SMALL)
    pathlib.Path("split.csv").write_text("1,1\n")
    same = grokscope.train(of_pairs.plan, device="cpu", out="of-pairs-2", progress=False)
    assert (same.path / "metrics.jsonl").read_bytes() == (of_pairs.path / "metrics.jsonl").read_bytes()

    metrics_file = of_pairs.path / "metrics.jsonl"
    metrics_file.write_text(metrics_file.read_text() + '{"step":80,"tra')
    assert of_pairs.metrics()["step"].tolist() == [0, 20, 40, 60], "a row that was torn off is none"

    everything = grokscope.train(preset="demo", train_fraction=1, device="cpu", out="all", progress=False, **SMALL)
    assert np.isnan(everything.metrics()["test_loss"]).all() and np.isfinite(everything.metrics()["train_loss"]).all()

    assert run.resume(steps=80, device="cpu", progress=False) is run
    assert run.metrics()["step"].tolist() == [0, 20, 40, 60, 80]
    assert grokscope.Run("runs/demo").plan["steps"] == 80


def errors_are_those_of_the_program():
    error = raises(grokscope.Error, 'p = "x": expected an integer', grokscope.train, p="x", progress=False)
    assert error.code == 1 and not pathlib.Path("runs/default").exists(), "nothing was begun"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is grokscope.Error and str(again) == str(error) and again.code == 1
    raises(ValueError, "lr: None is no value", grokscope.train, lr=None, progress=False)
    raises(grokscope.Error, "none.toml", grokscope.train, "none.toml", progress=False)
    pathlib.Path("bad.toml").write_text("p = ")
    raises(grokscope.Error, "bad.toml:1: not TOML", grokscope.train, pathlib.Path("bad.toml"), progress=False)
    raises(grokscope.Error, "unknown field", grokscope.train, {"sed": 3}, progress=False)
    raises(grokscope.Error, "holds something already", grokscope.train, preset="demo", out="theirs", progress=False)
    raises(grokscope.Error, "no such device", grokscope.train, preset="demo", device="no such device", progress=False)
    raises(FileNotFoundError, "has no plan.toml", grokscope.Run, "nowhere")
    raises(ValueError, "a Run is one network", grokscope.train, models=2)
    raises(grokscope.Diverged, "not finite", grokscope.train, preset="demo", lr=1e30, out="far", progress=False, **SMALL)


TRAINS = """
import signal
import grokscope
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
fields = dict(steps=10**9, checkpoint_every=10**9, stop_after_cleanup=False, stop_at_test_loss=0)
try:
    grokscope.train(preset="demo", out="DIRECTORY", device="cpu", progress=False, **fields)
except grokscope.Stopped as stopped:
    print("Stopped", stopped.code, stopped)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


def once_it_trains(directory, act):
    """What Python says of a training that never ends by itself, when `act` is done to its process in the midst of it."""
    command = [sys.executable, "-c", TRAINS.replace("DIRECTORY", directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    rows = pathlib.Path(directory, "metrics.jsonl")
    try:
        while not rows.exists() or rows.read_text().count("\n") < 2:
            assert process.poll() is None, "it ended before it had begun"
            time.sleep(0.01)
        assert len(grokscope.Run(directory).metrics()["step"]) >= 2, "a run that trains can be looked at"
        act(process.pid)
        return process.communicate(timeout=300)[0]
    finally:
        process.kill()  # the program sees that its reader is gone, and stops by itself


def end_the_program(pid, by=signal.SIGTERM):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    programs = [int(child) for child in children if pathlib.Path(f"/proc/{child}/comm").read_text() == "grokscope\n"]
    os.kill(programs[0], by)


def what_is_stopped_goes_on():
    # A terminal's Ctrl-C goes to every process of its group; a second signal would end the program without a checkpoint.
    assert once_it_trains("long", lambda pid: os.killpg(pid, signal.SIGINT)) == "KeyboardInterrupt\n"
    told = once_it_trains("ended", end_the_program)
    assert told.startswith("Stopped 75 ") and "--resume" in told, told
    told = once_it_trains("killed", lambda pid: end_the_program(pid, signal.SIGKILL))
    assert told.startswith("Stopped -9 ") and "resume() goes on" in told, told
    grokscope.Run("killed").resume(steps=20, device="cpu", progress=False)
    for directory in ("long", "ended"):
        run = grokscope.Run(directory)
        step = run.checkpoints()[-1]
        assert step > 0, "no checkpoint of the moment at which it was stopped"
        raises(FileNotFoundError, "resume() goes on with it", run.weights)
        raises(FileNotFoundError, "resume() goes on with it", run.activations)
        run.resume(steps=step + 20, device="cpu", progress=False)
        assert run.summary()["steps"] == step + 20


def an_exception_leaves_a_checkpoint():
    class Enough(Exception):
        pass

    def count(line):
        rows.append(json.loads(line))
        if len(rows) == 2:
            raise Enough

    rows = []
    fields = ["--preset", "demo", "--steps", "1000000", "--stop-at-test-loss", "0", "--checkpoint-every", "1000000"]
    raises(Enough, "", _program.call, ["train", *fields, "--device", "cpu", "--json", "--out", "enough"], count)
    assert len(rows) == 2 and grokscope.Run("enough").checkpoints()[-1] >= rows[1]["step"] > 0, rows


def a_bar_shows_how_far_it_is():
    train = f"import grokscope; grokscope.train(preset='demo', device='cpu', threads=1, tensorboard=True, out='bar', **{SMALL})"
    shown = subprocess.run([sys.executable, "-c", train], capture_output=True, text=True, check=True)
    assert shown.stdout == "" and "60/60" in shown.stderr and "test_loss=" in shown.stderr, shown
    assert len(list(pathlib.Path("bar/tensorboard").iterdir())) == 1
    grokscope.Run("bar").resume(steps=80, tensorboard=True, device="cpu", progress=False)
    assert len(list(pathlib.Path("bar/tensorboard").iterdir())) == 2


def the_program_comes_with_it():
    by_module = subprocess.run([sys.executable, "-m", "grokscope", "--version"], capture_output=True, text=True)
    assert by_module.stdout == of_the_program("--version").stdout and by_module.stdout.startswith("grokscope ")
    assert pathlib.Path(grokscope.program()).parent == pathlib.Path(sys.executable).parent
    assert subprocess.run([sys.executable, "-m", "grokscope", "train", "--p", "x"], capture_output=True).returncode == 1


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    for test in (a_run_is_that_of_the_program, errors_are_those_of_the_program, what_is_stopped_goes_on, an_exception_leaves_a_checkpoint, a_bar_shows_how_far_it_is, the_program_comes_with_it):
        test()
        print(f"{test.__name__.replace('_', ' ')}: ok")
