"""RADV, Mesa's driver for AMD GPUs, compiling for GPUs without the hardware: registers, memory and machine code."""

import json
import os
import subprocess

import isa
from common import FAMILIES, HERE, TOOLS, Missing, Verdict, mesa

# RADV's name of a statistic: ours.
STATISTICS = {
    "VGPRs": "vgprs",
    "SGPRs": "sgprs",
    "LDS size": "lds_bytes",
    "Subgroups per SIMD": "waves_per_simd",
    "Subgroup size": "subgroup_size",
    "Instructions": "instructions",
    "Scratch size": "scratch_bytes",
    "Spilled VGPRs": "spilled_vgprs",
    "Spilled SGPRs": "spilled_sgprs",
}


def judge(dump, families=FAMILIES):
    version = (HERE / "mesa/version").read_text().strip()
    verdict = Verdict(f"Mesa {version}")
    for family in families:
        statistics, code = compile_all(dump, family)
        for name, found in statistics.items():
            if "rejected" in found:
                verdict.reject(name, f"{family}: {found['rejected']}")
                continue
            figures = {ours: found[theirs] for theirs, ours in STATISTICS.items()}
            figures["hot_loop"] = isa.hot_loop(code.get(name, []))
            verdict.figures(name, **{family: figures})
    return verdict


def compile_all(dump, family):
    """Returns RADV's statistics by pipeline, and the machine code."""
    names = [pipeline["name"] for pipeline in dump.pipelines]
    python = HERE / "vulkan/bin/python"
    env = {**os.environ, **mesa("radeon", family), "RADV_DEBUG": "shaders,nocache"}
    command = [python, TOOLS / "vulkan_statistics.py", dump.dir, *names]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace")
    logs = HERE / "radv"
    logs.mkdir(exist_ok=True)
    (logs / f"{family}.txt").write_text(ended.stderr)
    if ended.returncode:
        raise Missing(f"RADV does not run for {family}: {ended.stderr.strip()[-300:]}")
    said = json.loads(ended.stdout.splitlines()[-1])
    if f"RADV {family.upper()}" not in said["device"]:
        raise Missing(f"expected RADV {family.upper()}, got {said['device']}")
    code = isa.split(ended.stderr)
    if not any(code.values()):
        raise Missing(f"RADV printed no machine code for {family}")
    return said["pipelines"], code
