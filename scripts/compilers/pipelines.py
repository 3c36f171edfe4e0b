"""wgpu on RADV: `grokscope bench` creates every pipeline of both programs for AMD GPUs without the hardware.

Nothing runs on them, so the times it prints mean nothing. What counts is that every pipeline is created on the adapter that was
asked for.
"""

import json
import os
import subprocess
import tempfile

from common import FAMILIES, HERE, ROOT, Verdict, mesa

PROGRAMS = ["composed", "layered"]


def judge(families=FAMILIES):
    verdict = Verdict(f"wgpu on Mesa {(HERE / 'mesa/version').read_text().strip()}")
    for family in families:
        command = [ROOT / "target/release/grokscope", "bench", "--device", "Null hardware", "--program", "both", "--seconds", "0.1", "--json"]
        # An empty cache, so that every pipeline is compiled again.
        with tempfile.TemporaryDirectory() as cache:
            env = {**os.environ, **mesa("radeon", family, null_layer=True), "GROKSCOPE_CACHE_DIR": cache}
            ended = subprocess.run(command, env=env, capture_output=True, text=True)
        if ended.returncode:
            verdict.reject(family, f"exit status {ended.returncode}: {ended.stderr.strip()[-300:]}")
            continue
        devices = json.loads(ended.stdout)["devices"]
        adapters = [device["name"] for device in devices]
        runs = [run for device in devices for run in device["runs"]]
        expected = f"Null hardware (RADV {family.upper()}) [vulkan]"
        if adapters != [expected]:
            verdict.reject(family, f"expected to run on {expected}, ran on {' and '.join(adapters) or 'nothing'}")
        elif sorted(run["program"] for run in runs) != PROGRAMS or not all(run["kernels"] for run in runs):
            verdict.reject(family, f"expected the kernels of {' and '.join(PROGRAMS)}")
        else:
            verdict.figures(family, adapter=expected, dispatches={run["program"]: len(run["kernels"]) for run in runs})
    return verdict
