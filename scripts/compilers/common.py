"""What all judges share: where things are, the list of pipelines, and running programs."""

import json
import os
import resource
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent.parent
HERE = ROOT / "target/compilers"

# The AMD GPUs that RADV compiles for: RDNA 2, RDNA 3, GCN 5 and CDNA 3.
FAMILIES = ["navi21", "navi31", "vega20", "gfx940"]

TIMEOUT_S = 1800


class Missing(Exception):
    """A judge cannot run here. It never counts as a pass."""


@dataclass
class Dump:
    """The output of examples/dump_kernels.rs."""

    dir: Path
    pipelines: list

    @classmethod
    def load(cls, directory, stems=()):
        """Reads the list of pipelines: all, or those of some shaders or entry points (`product`, `product.nn`)."""
        pipelines = json.loads((directory / "kernels.json").read_text())
        wanted = [p for p in pipelines if not stems or any(f"{p['name']}.".startswith(f"{s}.") for s in stems)]
        if not wanted:
            raise SystemExit(f"no pipeline is called {' or '.join(stems)}")
        return cls(directory, wanted)

    def file(self, pipeline, extension):
        return self.dir / f"{pipeline['name']}.{extension}"


@dataclass
class Verdict:
    """What a judge says: its version, and for each pipeline `rejected` with a message, or figures."""

    version: str
    pipelines: dict = field(default_factory=dict)

    def reject(self, name, message):
        self.pipelines.setdefault(name, {})["rejected"] = " ".join(message.split())[:400] or "no message"

    def figures(self, name, **values):
        self.pipelines.setdefault(name, {}).update(values)


@dataclass
class Ended:
    """How a program ended."""

    code: int
    output: str
    cpu_s: float


def run(command, *, env=None, cwd=None, cpu_limit_s=None, stdin=None):
    """Runs a program and returns its exit status, its output (stdout and stderr together) and its CPU seconds.

    Kills it after half an hour: a program under Wine may wait for a server that is gone.
    """
    limit = None
    if cpu_limit_s:
        def limit():
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_limit_s, cpu_limit_s + 5))
    # A file instead of a pipe: Wine's services keep inherited handles open after the program has ended.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )
        killer = threading.Timer(TIMEOUT_S, process.kill)
        killer.start()
        if stdin is not None:
            process.stdin.write(stdin.encode())
            process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Ended(process.returncode, text, usage.ru_utime + usage.ru_stime)


def version_line(command):
    """Returns the first line that a program prints about its version."""
    lines = [line.strip() for line in run(command).output.splitlines() if line.strip()]
    return lines[0] if lines else "unknown version"


def for_each(judge, pipelines):
    """Calls judge(pipeline) for all pipelines, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(judge, pipelines))


def mesa(driver, family=None, null_layer=False):
    """Returns the environment in which Vulkan is this Mesa's `radeon` (for a GPU family without the hardware) or `lvp`."""
    directory = HERE / "mesa"
    libraries = next((directory / "usr/lib").glob("*-linux-gnu"))
    env = {
        "LD_LIBRARY_PATH": str(libraries),
        "VK_DRIVER_FILES": str(directory / f"{driver}.json"),
        "VK_ICD_FILENAMES": str(directory / f"{driver}.json"),
        "MESA_SHADER_CACHE_DISABLE": "true",
        "NODEVICE_SELECT": "1",
    }
    if family:
        env["RADV_FORCE_FAMILY"] = family
    if null_layer:
        env["VK_LAYER_PATH"] = str(HERE / "layers")
        env["VK_INSTANCE_LAYERS"] = "VK_LAYER_GROKSCOPE_null"
    return env


def stopwatch():
    began = time.monotonic()
    return lambda: time.monotonic() - began
