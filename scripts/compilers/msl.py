"""g++ over the MSL that wgpu writes for Metal, with declarations of Metal's library (msl/metal_stdlib).

Finds syntax errors, unknown names and operands whose types do not fit. Does not check address spaces, registers or speed.
"""

from common import TOOLS, Missing, Verdict, for_each, run, version_line

FLAGS = ["-x", "c++", "-std=c++17", "-fsingle-precision-constant", "-fsyntax-only", "-w"]

# What must be rejected before anything is judged: unknown functions, type errors and a syntax error.
WRONG = [
    "return metal::frobnicate(x);",
    "return log1p(x);",
    "metal::float4 v = metal::uint4(1u); return v.x;",
    "return metal::float4(x) + metal::uint4(1u);",
    "return metal::min(x, 1u);",
    "return metal::float3(x)",
]
RIGHT = "metal::float4 v = metal::float4(x) * 2.0; return metal::dot(v, v);"


def judge(dump):
    for body in WRONG:
        if compile_msl("-", f"float f(float x) {{ {body} }}").code == 0:
            raise Missing(f"the declarations of Metal's library accept an invalid line: {body}")
    ended = compile_msl("-", f"float f(float x) {{ {RIGHT} }}")
    if ended.code:
        raise Missing(f"the declarations of Metal's library reject a valid line: {ended.output[:300]}")
    verdict = Verdict(version_line(["g++", "--version"]))

    def compile_one(pipeline):
        ended = compile_msl(dump.file(pipeline, "metal"))
        verdict.figures(pipeline["name"])
        if ended.code:
            errors = [line.split("error: ", 1)[1] for line in ended.output.splitlines() if "error: " in line]
            verdict.reject(pipeline["name"], errors[0] if errors else ended.output)

    for_each(compile_one, [pipeline for pipeline in dump.pipelines if not pipeline["software_only"]])
    return verdict


def compile_msl(path, text=None):
    declarations = TOOLS / "msl"
    return run(["g++", *FLAGS, "-I", declarations, "-include", "metal_stdlib", path], stdin=text)
