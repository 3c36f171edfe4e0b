"""Runs: directories that hold a network, how it was trained, and what was found in it."""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import os
import pathlib
import tempfile
import tomllib
from typing import Any, Mapping

import numpy as np
from safetensors.numpy import load_file
from tqdm import tqdm

from ._program import call

METRICS = ("step", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "weight_norm")


class Run:
    """The directory of a run.

    Every method reads the files anew, so a run may be looked at while it trains. `train` makes one; `Run("runs/default")` opens one that is there.
    `path` is absolute, so that it stands when the working directory changes.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = absolute(path)
        if not (self.path / "plan.toml").is_file():
            of_many = "; of an ensemble open its models, model-0 .." if (self.path / "model-0").is_dir() else ""
            raise FileNotFoundError(f"{self.path}: not a run: it has no plan.toml{of_many}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def plan(self) -> dict[str, Any]:
        """Everything needed to repeat the run, by the names of `plan.toml`. Files that the run keeps are told by their absolute paths."""
        plan = tomllib.loads(self._text("plan.toml"))
        for name in ("split", "init"):
            if plan[name].endswith((".csv", ".safetensors")):
                plan[name] = str((self.path / plan[name]).absolute())
        return plan

    def metrics(self) -> dict[str, np.ndarray]:
        """A value for each evaluation: `step` (int64; updates done), `train_loss` and `test_loss` (nats, means over pairs), `train_accuracy` and
        `test_accuracy` (shares), `weight_norm`. NaN where every pair is trained on, so that nothing is left to test on."""
        text = self._text("metrics.jsonl") if (self.path / "metrics.jsonl").exists() else ""
        # A last line that is not whole yet, or was torn off, is no row.
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        columns = {name: np.array([row[name] for row in rows], dtype=float) for name in METRICS}
        return columns | {"step": columns["step"].astype(np.int64)}

    def checkpoints(self) -> list[int]:
        """Steps of the checkpoints, in rising order."""
        names = [path.name for path in (self.path / "checkpoints").glob("step-*") if path.is_dir()]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def weights(self, step: int | None = None) -> dict[str, np.ndarray]:
        """The weights (float32) under TransformerLens's names and in its shapes: the final ones, or those of a checkpoint."""
        if step is None:
            return load_file(self._file("model.safetensors"))
        return load_file(self._file(f"checkpoints/step-{self._step(step):06}/model.safetensors"))

    def config(self) -> dict[str, Any]:
        """TransformerLens's configuration of the network."""
        return json.loads(self._text("config.json"))

    def summary(self) -> dict[str, Any]:
        """How the run ended: `grokked`, `grok_step`, losses, key frequencies."""
        return json.loads(self._text("summary.json"))

    def findings(self, step: int | None = None) -> dict[str, Any]:
        """Every number of the analysis, of the final network or of a checkpoint, which is analysed where it has not been yet."""
        if step is None:
            return json.loads(self._text("findings.json"))
        step = self._step(step)
        name = f"findings-{step:06}.json"
        if not (self.path / name).exists():
            call(["analyze", str(self.path), "--step", str(step), "--quiet"])
        return json.loads(self._text(name))

    def report(self) -> pathlib.Path:
        """The page about the run, one file that fetches nothing."""
        return self._file("report.html")

    def activations(self, step: int | None = None) -> dict[str, np.ndarray]:
        """What the final network, or a checkpoint's, computes on every pair that has a label: `pairs` and `labels` (int64), `logits`, and activations by the
        names of TransformerLens's hooks, of the position "=" alone."""
        if step is None:
            self._file("model.safetensors")
        at = [] if step is None else ["--step", str(self._step(step))]
        with tempfile.TemporaryDirectory() as directory:
            out = os.path.join(directory, "activations.npz")
            call(["export", str(self.path), "--format", "npz", "--activations", "--out", out, *at])
            with np.load(out) as arrays:
                return {name: array.astype(np.int64) if name in ("pairs", "labels") else array for name, array in arrays.items()}

    def resume(
        self, *, device: str = "auto", threads: int = 0, tensorboard: bool = False, progress: bool = True, **changes: Any
    ) -> Run:
        """Goes on from the last checkpoint. Only `steps` and the stop rules of the plan may change."""
        board = ["--tensorboard"] if tensorboard else []
        train_with(["--resume", str(self.path), *board, *fields(changes)], self.path, device, threads, progress)
        return self

    def _step(self, step: int) -> int:
        """A step of which there is a checkpoint."""
        if operator.index(step) not in (there := self.checkpoints()):
            raise ValueError(f"{self.path}: no checkpoint of step {step}: there are {', '.join(map(str, there))}")
        return operator.index(step)

    def _file(self, name: str) -> pathlib.Path:
        path = self.path / name
        if not path.is_file():
            ended = (self.path / "summary.json").is_file()
            why = "" if ended else ": the run still trains, has diverged, or was stopped, and then resume() goes on with it"
            raise FileNotFoundError(f"{path}: not there{why}")
        return path

    def _text(self, name: str) -> str:
        return self._file(name).read_text(encoding="utf-8")


def train(
    plan: Mapping[str, Any] | str | os.PathLike | None = None,
    *,
    preset: str | None = None,
    out: str | os.PathLike | None = None,
    device: str = "auto",
    threads: int = 0,
    tensorboard: bool = False,
    progress: bool = True,
    **changes: Any,
) -> Run:
    """Trains a network to the end of its plan, and analyses it.

    `plan` is a mapping of the plan's fields (such as another run's `plan`) or a TOML file, laid over `preset`; `changes` are fields laid over
    that: `train(preset="demo", seed=3, weight_decay=0.5)`. `out` is the run's directory, by default the next free name under runs/. `device` is
    "cpu", "auto" (a real GPU, else the CPU), or part of an adapter's name; `threads` of 0 takes one for each core.

    Raises `Error` for a plan that is none, `Diverged`, and `Stopped` where training can go on. Ctrl-C leaves a checkpoint.
    """
    arguments = ["--preset", preset] if preset is not None else []
    if isinstance(plan, Mapping):
        known = dict(plan)
        arguments += fields(plan)
    elif plan is not None:
        arguments += ["--plan", os.fspath(plan)]
        try:
            known = tomllib.loads(pathlib.Path(plan).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}  # the program says what is wrong with it
    else:
        known = {}
    if (known | changes).get("models", 1) != 1:
        raise ValueError("models: a Run is one network; train several in a loop over seeds, or side by side with the program itself")
    directory = free_name(preset or "default") if out is None else absolute(out)
    arguments += [*fields(changes), "--out", str(directory)]
    if tensorboard:
        arguments.append("--tensorboard")
    try:
        train_with(arguments, directory, device, threads, progress)
    except BaseException:
        if out is None:
            with contextlib.suppress(OSError):
                directory.rmdir()  # where nothing was begun in it
        raise
    return Run(directory)


def train_with(arguments: list[str], directory: pathlib.Path, device: str, threads: int, progress: bool) -> None:
    """`grokscope train` with a bar over the steps. How many there are at most is known once the run has begun."""
    with tqdm(unit="step", disable=not progress) as bar:

        def evaluated(line: str) -> None:
            row = json.loads(line)
            if "step" not in row:  # the summary
                return
            if bar.total is None:
                bar.total, bar.initial = Run(directory).plan["steps"], row["step"]
                bar.n = row["step"]
            figures = {name: row[name] for name in ("train_loss", "test_loss", "test_accuracy")}
            bar.set_postfix(figures, refresh=False)
            bar.update(row["step"] - bar.n)

        call(["train", *arguments, "--device", device, "--threads", str(threads), "--json"], evaluated)


def fields(changes: Mapping[str, Any]) -> list[str]:
    """Fields of a plan as arguments."""

    def text(name: str, value: Any) -> str:
        if value is None:
            raise ValueError(f"{name}: None is no value; expected the field to be left out, or a value of the plan")
        if isinstance(value, (bool, np.bool_)):
            return str(bool(value)).lower()
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            return str(int(value))  # steps=1e4; where a number is wanted, 1 is one too
        return os.fspath(value) if isinstance(value, os.PathLike) else str(value)

    return [part for name, value in changes.items() for part in ("--set", f"{name}={text(name, value)}")]


def absolute(path: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(path).expanduser().absolute()


def free_name(name: str) -> pathlib.Path:
    """The first of runs/NAME, runs/NAME-2, .. that is not there, as the program has it; made here, so that no other training takes it."""
    for k in itertools.count(1):
        path = absolute("runs") / (name if k == 1 else f"{name}-{k}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            pass
