"""Injects faults into a shader and shows which judge reports each. Fails if a judge misses a fault that it must report.

  faults.py [--missing JUDGE ..]

scripts/compilers.sh faults calls it. The shaders stay as they are: examples/dump_kernels.rs replaces text as it reads them, and the
tests of naga's IR (tests/suite/portable.rs) run in a copy of the project.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import criteria
from common import HERE, ROOT, Dump, Missing
from judges import JUDGES

# A kernel without other faults that binds few buffers and writes floats.
STEM, ENTRY, OUTPUT = "embed", "forward", "resid_pre"
# With the three buffers that the kernel binds, nine in all.
SPARE_TENSORS = ["W_Q", "W_K", "W_V", "W_O", "W_in", "b_in"]


@dataclass
class Fault:
    name: str
    # WGSL at module scope, and at the beginning of the entry point.
    declarations: str
    statements: str
    # Judges that have to report it.
    judges: list
    # The message of tests/suite/portable.rs.
    rule: str = ""


# AT stands for the first component of the entry point's global_invocation_id.
FAULTS = [
    Fault(
        "run-time index of a private array",
        "",
        "var planted = array<f32, 64>();"
        f" for (var n = 0u; n < 64u; n++) {{ planted[u32({OUTPUT}[AT + n]) % 64u] += f32(n); }}"
        f" {OUTPUT}[AT] = planted[u32({OUTPUT}[AT]) % 64u];",
        ["dxc", "fxc", "ptxas"],
        "private memory is indexed at run time",
    ),
    Fault(
        "barrier in non-uniform control flow",
        "",
        f"if ({OUTPUT}[AT] > 0.0) {{ workgroupBarrier(); }}",
        ["tint"],
    ),
    Fault(
        "operators without parentheses",
        "",
        f"{OUTPUT}[AT] = f32(u32({OUTPUT}[AT]) >> 2u & 1u);",
        ["tint"],
    ),
    Fault(
        "nine storage buffers",
        " ".join(f"@group(0) @binding({20 + n}) var<storage, read> {t}: array<f32>;" for n, t in enumerate(SPARE_TENSORS)),
        f"{OUTPUT}[AT] = " + " + ".join(f"{tensor}[AT]" for tensor in SPARE_TENSORS) + ";",
        ["tint"],
    ),
    Fault(
        "component write into a shared vec4",
        "var<workgroup> planted_shared: array<vec4<f32>, 64>;",
        f"planted_shared[AT % 64u].x = {OUTPUT}[AT]; {OUTPUT}[AT] = planted_shared[AT % 64u].x;",
        [],
        "a component of a vector in workgroup memory is written",
    ),
    Fault(
        "switch in a loop",
        "",
        f"for (var m = 0u; m < 4u; m++) {{ switch u32({OUTPUT}[AT]) {{ case 0u: {{ {OUTPUT}[AT] = f32(m); }} default: {{}} }} }}",
        [],
        "a switch in a loop",
    ),
    Fault(
        "NaN by comparison",
        "",
        f"let planted_value = {OUTPUT}[AT]; if (planted_value != planted_value) {{ {OUTPUT}[AT] = 0.0; }}",
        [],
        "a value is compared with itself",
    ),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--missing", nargs="+", default=[])
    missing = parser.parse_args().missing
    names = [name for name in JUDGES if name not in missing]
    for name in missing:
        print(f"FAILED {name}: missing: its installation failed")

    clean = reports(dump("clean", None), names)
    by_tests = portable_reports()
    failed = len(missing) + len(clean)
    for judge, message in clean.items():
        print(f"FAILED {judge} reports a fault where none is planted: {message}")
    for fault in FAULTS:
        found = reports(dump(fault.name.replace(" ", "-"), fault), names)
        if fault.name in by_tests:
            found["portable"] = by_tests[fault.name]
        print(f"{fault.name}: reported by {', '.join(found) or 'no judge'}", flush=True)
        for judge, message in found.items():
            print(f"    {message}")
        silent = [judge for judge in fault.judges + ["portable"] * bool(fault.rule) if judge not in found]
        failed += bool(silent)
        if silent:
            print(f"FAILED {fault.name}: not reported by {', '.join(silent)}")
    print(f"faults: {len(FAULTS)} planted, {failed} failures")
    sys.exit(1 if failed else 0)


def portable_reports():
    """Plants all faults at once in a copy of the project, and returns those that tests/suite/portable.rs reports."""
    copy = HERE / "faults/project"
    shutil.rmtree(copy, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in filter(None, listed.split("\0")):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path)
    shader = copy / f"shaders/{STEM}.wgsl"
    for fault in FAULTS:
        shader.write_text(shader.read_text().replace(*plant(fault), 1))

    # Hard links to the project's built dependencies save building them again.
    target = HERE / "faults/target"
    if not target.exists():
        (target / "release").mkdir(parents=True)
        for part in ["deps", "build", ".fingerprint"]:
            subprocess.run(["cp", "-al", ROOT / "target/release" / part, target / "release"], check=True)
        # Remove the links to the project's own build: cargo would write through them.
        for name in ["grokscope", "suite", "dump_kernels"]:
            for path in (target / "release").glob(f"*/*{name}-*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = ["cargo", "test", "--release", "--locked", "--test", "suite", "--", "portable"]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    ended = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
    if "portable_rules_find_planted_faults" not in ended.stdout:
        raise SystemExit(f"FAILED portable: missing: {ended.stdout[-300:]} {ended.stderr[-300:]}")
    said = next((line for line in ended.stdout.splitlines() if f"shaders/{STEM}.wgsl: " in line), "")
    parts = said.partition(f"shaders/{STEM}.wgsl: ")[2].split("; ")
    found = {fault.name: [part for part in parts if fault.rule and fault.rule in part] for fault in FAULTS}
    return {name: parts[0] for name, parts in found.items() if parts}


def plant(fault):
    """Returns a part of the shader's text and its replacement with the fault."""
    source = (ROOT / f"shaders/{STEM}.wgsl").read_text()
    head = re.search(rf"@compute[^{{]*?fn {ENTRY}\([^{{]*?global_invocation_id\) (\w+)[^{{]*{{", source)
    if not head:
        raise SystemExit(f"shaders/{STEM}.wgsl has no entry point {ENTRY} with a global_invocation_id")
    statements = fault.statements.replace("AT", f"{head[1]}.x")
    # A block of its own, so that several faults fit into one shader.
    return head[0], f"{fault.declarations}\n{head[0]} {{ {statements} }}"


def dump(name, fault):
    """Writes the pipelines with a fault into a directory of its own."""
    directory = HERE / "faults" / name
    shutil.rmtree(directory, ignore_errors=True)
    command = [ROOT / "target/release/examples/dump_kernels", directory]
    if fault:
        command += ["--replace", STEM, *plant(fault)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Dump.load(directory, [f"{STEM}.{ENTRY}"])


def reports(faulty, names):
    """Returns what each judge reports of the kernel."""
    found = {}
    for name in names:
        try:
            failures = criteria.failures(name, JUDGES[name](faulty), faulty)
        except Missing as reason:
            raise SystemExit(f"FAILED {name}: missing: {reason}")
        if failures:
            found[name] = failures[0]
    return found


main()
