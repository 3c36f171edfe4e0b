"""Microsoft's compilers DXC and FXC under Wine, over the HLSL that wgpu writes for Direct3D 12."""

import json
import re
import subprocess

from common import HERE, Missing, Verdict, for_each, run

WINE = "/usr/lib/wine/wine64"
ENV = {"WINEPREFIX": str(HERE / "wine/prefix"), "WINEDEBUG": "-all"}
EXTENSIONS = {"dxc": "sm60.hlsl", "fxc": "sm51.hlsl"}
# A kernel that takes longer to compile counts as rejected.
CPU_LIMIT_S = 60
OK, REJECTED = 0, 1
# Wine's server may exit between two programs; the second then never starts.
ATTEMPTS = 3


def judge(which, dump):
    # Keeps Wine's server running between the programs.
    subprocess.run(["/usr/lib/wine/wineserver", "-p30"], env=ENV, stderr=subprocess.DEVNULL)
    package = json.loads((HERE / "dawn/node_modules/webgpu/package.json").read_text())
    wine = run([WINE, "--version"]).output.strip()
    library = {"dxc": "dxcompiler.dll", "fxc": "d3dcompiler_47.dll"}[which]
    verdict = Verdict(f"{library} of webgpu {package['version']}, {wine}")
    listings = HERE / which
    listings.mkdir(exist_ok=True)

    def compile_one(pipeline):
        name = pipeline["name"]
        listing = listings / f"{name}.txt"
        listing.unlink(missing_ok=True)
        ended = compile_hlsl(which, dump.file(pipeline, EXTENSIONS[which]), entry_point(dump, pipeline, which), listing)
        verdict.figures(name, cpu_s=round(ended.cpu_s, 2))
        if ended.code == OK:
            verdict.figures(name, array_bytes=ARRAY_BYTES[which](listing.read_text(errors="replace")))
        elif ended.code == REJECTED:
            verdict.reject(name, first_error(ended.output))
        elif ended.cpu_s > CPU_LIMIT_S - 1:
            verdict.reject(name, f"does not end within {CPU_LIMIT_S} CPU seconds")
        else:
            raise Missing(f"{which} does not run for {name}: exit status {ended.code}: {ended.output.strip()[-300:]}")

    for_each(compile_one, [pipeline for pipeline in dump.pipelines if which == "dxc" or not pipeline["software_only"]])
    return verdict


def compile_hlsl(which, source, entry, listing):
    for attempt in range(ATTEMPTS):
        command = [WINE, "compile_hlsl.exe", which, f"Z:{source}", entry, f"Z:{listing}"]
        ended = run(command, env=ENV, cwd=HERE / "wine", cpu_limit_s=CPU_LIMIT_S)
        if ended.code in (OK, REJECTED) or "cannot run" in ended.output or ended.cpu_s > CPU_LIMIT_S - 1:
            break
    return ended


def entry_point(dump, pipeline, which):
    """Returns the entry point's name in HLSL: naga appends `_` to keywords of HLSL and after a digit, and numbers repeated names."""
    text = dump.file(pipeline, EXTENSIONS[which]).read_text()
    names = re.findall(r"\[numthreads\([^)]*\)\]\s*void (\w+)\(", text)
    if pipeline["entry"] in names:
        return pipeline["entry"]
    return next(name for name in names if re.fullmatch(rf"{pipeline['entry']}_\d*", name))


def first_error(output):
    errors = [line for line in output.splitlines() if "error" in line]
    message = errors[0] if errors else output
    return re.sub(r"^.*[\\/]", "", message)


def dxil_array_bytes(listing):
    """Adds up the local arrays that DXIL keeps in memory: those that are indexed at run time."""
    return sum(type_bytes(found) for found in re.findall(r"= alloca (.+?)(?:, align \d+)?$", listing, re.MULTILINE))


def type_bytes(text):
    """Bytes of an LLVM type: i32, float, [4 x [4 x float]], <4 x float>. A struct counts as its members."""
    text = text.strip()
    if found := re.fullmatch(r"[\[<](\d+) x (.+)[\]>]", text):
        return int(found[1]) * type_bytes(found[2])
    widths = {"i1": 4, "i16": 2, "half": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}
    if text not in widths:
        raise ValueError(f"unknown type in DXIL: {text}")
    return widths[text]


def dxbc_array_bytes(listing):
    """Adds up `dcl_indexableTemp x0[16], 4`: 16 arrays of 4 numbers."""
    return sum(4 * int(n) * int(m) for n, m in re.findall(r"dcl_indexableTemp x\d+\[(\d+)\], (\d+)", listing))


ARRAY_BYTES = {"dxc": dxil_array_bytes, "fxc": dxbc_array_bytes}
