"""Tint, Chrome's WGSL compiler, called through Dawn on llvmpipe: every pipeline with WebGPU's default limits."""

import json

from common import HERE, TOOLS, Missing, Verdict, mesa, run

# WebGPU's default for storage buffers of a shader stage.
STORAGE_BUFFERS = 8


def judge(dump):
    names = [pipeline["name"] for pipeline in dump.pipelines]
    ended = run(["node", TOOLS / "tint.mjs", dump.dir, *names], env=mesa("lvp"), cwd=HERE / "dawn")
    lines = [line for line in ended.output.splitlines() if line.startswith("{")]
    if ended.code or not lines:
        raise Missing(f"Dawn does not run: {ended.output.strip()[-300:]}")
    said = json.loads(lines[-1])
    if "Mesa" not in said["adapter"] or "LLVM" not in said["adapter"]:
        raise Missing(f"Dawn ran on {said['adapter']} instead of Mesa's llvmpipe")
    if said["storageBuffers"] != STORAGE_BUFFERS:
        raise Missing(f"Dawn allows {said['storageBuffers']} storage buffers instead of {STORAGE_BUFFERS}")

    package = json.loads((HERE / "dawn/node_modules/webgpu/package.json").read_text())
    verdict = Verdict(f"webgpu {package['version']} on llvmpipe, {said['adapter']}")
    for pipeline in dump.pipelines:
        name = pipeline["name"]
        verdict.figures(name, storage_buffers=sum(not binding["uniform"] for binding in pipeline["bindings"]))
        message = said["pipelines"][name]
        if message is not None:
            verdict.reject(name, message)
    return verdict
