"""The manifest of `sweep emit kubernetes` against the published schemas, and what it says of codes, shards and paths.

Usage: python kubernetes.py GROKSCOPE
"""

import copy
import subprocess
import sys

import kubernetes_validate
import yaml


def require(condition, message):
    if not condition:
        raise SystemExit(f"kubernetes: {message}")


def emit(*arguments):
    done = subprocess.run([sys.argv[1], "sweep", "emit", "kubernetes", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def main():
    plan = '/data/a "b" sweep.toml'
    code, text, error = emit(plan, "--out", "/data/out", "--shards", "12", "--cpus", "4", "--image", "registry/grokscope:1", "--claim", "disk")
    require(code == 0, error)
    documents = list(yaml.safe_load_all(text))
    require(len(documents) == 1, f"{len(documents)} documents")
    job = documents[0]
    # podFailurePolicy has been stable since 1.31, backoffLimitPerIndex since 1.33.
    for version in ("1.33", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(job, version, strict=True)
        for broken in ("completions", "template"):
            wrong = copy.deepcopy(job)
            wrong["spec"][broken] = "twelve"
            try:
                kubernetes_validate.validate(wrong, version, strict=True)
            except kubernetes_validate.ValidationError:
                continue
            raise SystemExit(f"kubernetes: a wrong {broken} is not noticed")
    spec = job["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    require(spec["completionMode"] == "Indexed" and spec["completions"] == 12, "not an indexed job of 12")
    require(container["command"][:4] == ["grokscope", "sweep", "run", plan], container["command"])
    require(container["command"][container["command"].index("--shards") + 1] == "12", container["command"])
    actions = {rule["onExitCodes"]["values"][0]: rule["action"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule}
    require(actions == {75: "Ignore", 1: "FailJob"}, actions)
    require(pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "disk", pod["volumes"])
    code, _, error = emit("/elsewhere/sweep.toml", "--out", "/data/out")
    require(code == 1 and "outside of the volume" in error and error.count("\n") == 1, error)
    print(f"kubernetes: the manifest is one of batch/v1, {kubernetes_validate.latest_version()}")


main()
