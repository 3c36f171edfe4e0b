"""NVIDIA's ptxas for sm_90: naga's HLSL by Slang into CUDA C++, which nvcc compiles.

This is not NVIDIA's Vulkan compiler. The same back end decides what stays in registers. Load widths mean nothing, because Slang
reads buffers byte by byte.
"""

import ctypes
import re
import threading

from common import HERE, Missing, Verdict, for_each, run, version_line
from hlsl import entry_point

ARCHITECTURE = "sm_90"
# SlangCompileTarget, SlangSourceLanguage and SlangStage of slang.h.
CUDA_SOURCE, HLSL, COMPUTE = 17, 2, 6


class Slang:
    """Slang's C interface. One call at a time."""

    def __init__(self, packages):
        libraries = list(packages.glob("slangpy/libslang-compiler.so*"))
        if not libraries:
            raise Missing("slangpy has no libslang-compiler.so")
        self.library = ctypes.CDLL(str(libraries[0]))
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        signatures = {
            "spCreateSession": (pointer, [text]),
            "spCreateCompileRequest": (pointer, [pointer]),
            "spDestroyCompileRequest": (None, [pointer]),
            "spSetCodeGenTarget": (None, [pointer, number]),
            "spAddTranslationUnit": (number, [pointer, number, text]),
            "spAddTranslationUnitSourceFile": (None, [pointer, number, text]),
            "spAddEntryPoint": (number, [pointer, number, text, number]),
            "spCompile": (number, [pointer]),
            "spGetDiagnosticOutput": (text, [pointer]),
            "spGetEntryPointSource": (text, [pointer, number]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.session = self.library.spCreateSession(None)
        self.lock = threading.Lock()

    def to_cuda(self, path, entry):
        """Returns the CUDA source or None, and Slang's messages."""
        with self.lock:
            request = self.library.spCreateCompileRequest(self.session)
            self.library.spSetCodeGenTarget(request, CUDA_SOURCE)
            unit = self.library.spAddTranslationUnit(request, HLSL, b"kernel")
            self.library.spAddTranslationUnitSourceFile(request, unit, str(path).encode())
            place = self.library.spAddEntryPoint(request, unit, entry.encode(), COMPUTE)
            failed = self.library.spCompile(request)
            messages = (self.library.spGetDiagnosticOutput(request) or b"").decode(errors="replace")
            source = None if failed else self.library.spGetEntryPointSource(request, place)
            self.library.spDestroyCompileRequest(request)
        return source, messages


def judge(dump):
    packages = next((HERE / "cuda/lib").glob("python*/site-packages"))
    toolkits = list(packages.glob("nvidia/cu1?"))
    if not toolkits:
        raise Missing("nvidia-cuda-nvcc has no toolkit")
    toolkit = toolkits[0]
    nvcc = toolkit / "bin/nvcc"
    slang = Slang(packages)
    release = re.search(r"V[\d.]+", run([nvcc, "--version"]).output)
    slangpy = version_line([HERE / "cuda/bin/python", "-c", "from importlib.metadata import version; print(version('slangpy'))"])
    verdict = Verdict(f"nvcc {release[0] if release else 'unknown'}, {ARCHITECTURE}, slangpy {slangpy}")
    output = HERE / "ptxas"
    output.mkdir(exist_ok=True)

    def compile_one(pipeline):
        name = pipeline["name"]
        path = dump.file(pipeline, "sm60.hlsl")
        source, messages = slang.to_cuda(path, entry_point(dump, pipeline, "dxc"))
        if source is None:
            return verdict.reject(name, f"Slang: {messages}")
        cuda = output / f"{name}.cu"
        cuda.write_bytes(source)
        flags = ["-cubin", f"-arch={ARCHITECTURE}", "-O3", "-w", "--ptxas-options=-v", "-I", toolkit / "include"]
        ended = run([nvcc, *flags, "-o", cuda.with_suffix(".cubin"), cuda])
        if ended.code:
            return verdict.reject(name, ended.output)
        verdict.figures(name, **figures(ended.output))

    for_each(compile_one, [pipeline for pipeline in dump.pipelines if not pipeline["software_only"]])
    return verdict


def figures(output):
    """Reads what `ptxas -v` prints."""
    registers = re.search(r"Used (\d+) registers", output)
    memory = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", output)
    if not registers or not memory:
        raise Missing(f"ptxas prints no statistics: {output[-300:]}")
    stack, stores, loads = map(int, memory.groups())
    return {"registers": int(registers[1]), "stack_bytes": stack, "spill_bytes": stores + loads}
