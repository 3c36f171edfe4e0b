"""glslangValidator over the GLSL that wgpu writes for OpenGL."""

from common import Verdict, for_each, run, version_line


def judge(dump):
    verdict = Verdict(version_line(["glslangValidator", "--version"]))

    def validate(pipeline):
        ended = run(["glslangValidator", "-S", "comp", dump.file(pipeline, "comp")])
        verdict.figures(pipeline["name"], cpu_s=round(ended.cpu_s, 2))
        if ended.code:
            verdict.reject(pipeline["name"], ended.output)

    for_each(validate, dump.pipelines)
    return verdict
