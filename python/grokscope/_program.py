"""The program: where it is, how it is run, and what its exit codes mean."""

from __future__ import annotations

import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from typing import Callable, Sequence

from tqdm import tqdm


class Error(RuntimeError):
    """What the program said on standard error. `code` is its exit code: 1 for a usage or input error."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message, code)  # both, or it could not be pickled
        self.code = code

    def __str__(self) -> str:
        return self.args[0]


class Diverged(Error):
    """A number was not finite (exit code 42). The message names the tensor and the step; the last good checkpoint is kept."""


class Stopped(Error):
    """Training ended before its time (exit code 75, or killed). `Run(directory).resume()` goes on from its last checkpoint."""


KINDS = {42: Diverged, 75: Stopped}


def program() -> str:
    """Path of the program: the one that was installed with this module, else one on PATH."""
    name = "grokscope" + (sysconfig.get_config_var("EXE") or "")
    beside = pathlib.Path(__file__).parents[1] / "bin"  # pip install --target
    user = sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user"))
    for directory in [beside, sysconfig.get_path("scripts"), user]:
        path = pathlib.Path(directory) / name
        if path.is_file():
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name}: neither beside this module nor on PATH; expected it from  pip install .")
    return found


OWN_GROUP = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}


def ask_to_stop(process: subprocess.Popen) -> None:
    """Asks the program to write a checkpoint and end: SIGTERM, or Ctrl-Break on Windows, where terminate() would end it at once."""
    if sys.platform != "win32":
        process.terminate()
        return
    try:
        process.send_signal(signal.CTRL_BREAK_EVENT)
    except OSError:  # without a console the event cannot be sent
        process.terminate()


def call(arguments: Sequence[str], on_line: Callable[[str], None] = lambda line: None) -> None:
    """Runs the program to its end and hands over each line of its standard output as it comes.

    The error that ends it is raised; what else it says on standard error is passed on. On Ctrl-C, or another exception here, it is asked to stop,
    writes a checkpoint, and is waited for.
    """
    command = [program(), *arguments]
    # Runs in its own session (on Windows: process group), so that a terminal's Ctrl-C reaches only this process, which asks the program to
    # stop once. A second request would end it at once.
    # What a driver writes to standard error need not be UTF-8, and must be read, or the pipe fills up.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        **OWN_GROUP,
    )
    ends: list[str] = []

    def listen() -> None:
        for line in process.stderr:
            if line.startswith(("error: ", "diverged: ", "stopped at step")):
                ends.append(line.removeprefix("error: ").rstrip("\n"))
            else:
                tqdm.write(line, file=sys.stderr, end="")

    listener = threading.Thread(target=listen, daemon=True)
    with process:
        try:
            listener.start()
            for line in process.stdout:
                on_line(line)
        except BaseException:
            ask_to_stop(process)
            # A pipe that nobody reads would keep it from ending.
            for _ in process.stdout:
                pass
            raise
        finally:
            code = process.wait()
            listener.join()
    if code == 0:
        return
    trained = arguments[0] == "train"
    if code < 0:
        ends.append(f"the program was ended by signal {-code}" + ("; resume() goes on from its last checkpoint" if trained else ""))
    kind = Stopped if code < 0 and trained else KINDS.get(code, Error)
    raise kind("; ".join(ends) or f"the program ended with code {code}", code)
