"""spirv-val over the SPIR-V that wgpu writes for Vulkan 1.3."""

from common import Verdict, for_each, run, version_line


def judge(dump):
    verdict = Verdict(version_line(["spirv-val", "--version"]))

    def validate(pipeline):
        ended = run(["spirv-val", "--target-env", "vulkan1.3", dump.file(pipeline, "spv")])
        verdict.figures(pipeline["name"])
        if ended.code:
            verdict.reject(pipeline["name"], ended.output)

    for_each(validate, dump.pipelines)
    return verdict
