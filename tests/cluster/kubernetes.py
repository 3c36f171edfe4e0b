"""The manifest of `sweep emit kubernetes` against the published schemas, and what it says of codes, shards and paths.

Usage: python kubernetes.py GROKSCOPE
"""

import base64
import copy
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml


def require(condition, message):
    if not condition:
        raise SystemExit(f"kubernetes: {message}")


def emit(*arguments):
    done = subprocess.run([sys.argv[1], "sweep", "emit", "kubernetes", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def check(document, *breakable):
    # podFailurePolicy has been stable since 1.31, backoffLimitPerIndex since 1.33.
    for version in ("1.33", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(document, version, strict=True)
        for part, broken in breakable:
            wrong = copy.deepcopy(document)
            wrong[part][broken] = ["twelve"]
            try:
                kubernetes_validate.validate(wrong, version, strict=True)
            except kubernetes_validate.ValidationError:
                continue
            raise SystemExit(f"kubernetes: a wrong {broken} is not noticed")
    # What a schema does not say: names are labels of DNS.
    name = document["metadata"]["name"]
    require(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), f"{name} is no name")


def check_job(job):
    check(job, ("spec", "completions"), ("spec", "template"))
    spec = job["spec"]
    pod = spec["template"]["spec"]
    require(spec["completionMode"] == "Indexed" and spec["completions"] == 12, "not an indexed job of 12")
    container = pod["containers"][0]
    require(container["command"][container["command"].index("--shards") + 1] == "12", container["command"])
    rules = [rule["onExitCodes"] | {"action": rule["action"]} for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    require([(rule["action"], rule["values"], rule["containerName"]) for rule in rules] == [("FailJob", [1], container["name"])], rules)
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    require(mounted == {volume["name"] for volume in pod["volumes"]}, f"{mounted} of {pod['volumes']}")
    return pod, container


def with_a_store(directory):
    plan = '[grid]\nseed = [0, 1]\ninit = ["first.safetensors"]\nsplit = ["pairs.csv"] # "quoted": & \\ umlauts ä\n'
    files = {"Über_all.sweep.toml": plan.encode(), "first.safetensors": bytes(range(256)), "pairs.csv": b"0,1\n"}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    path = directory / "Über_all.sweep.toml"
    more = ["--out", "/data/out", "--shards", "12", "--store", "s3://bucket/a b", "--secret", "keys"]
    code, _, error = emit(str(path), *more)
    require(code == 1 and "is no name in a ConfigMap" in error and error.count("\n") == 1, error)
    path = path.rename(directory / "all.sweep.toml")
    files["all.sweep.toml"] = files.pop("Über_all.sweep.toml")
    code, text, error = emit(str(path), *more)
    require(code == 0 and not error, error)
    plan_map, job = yaml.safe_load_all(text)
    check(plan_map, ("data", "all.sweep.toml"))
    held = {name: text.encode() for name, text in plan_map["data"].items()}
    held |= {name: base64.b64decode(text) for name, text in plan_map["binaryData"].items()}
    require(held == files, f"the ConfigMap holds {held}")
    pod, container = check_job(job)
    require(container["command"][:4] == ["grokscope", "sweep", "run", "/plan/all.sweep.toml"], container["command"])
    require(container["command"][container["command"].index("--store") + 1] == "s3://bucket/a b", container["command"])
    require(container["envFrom"] == [{"secretRef": {"name": "keys"}}], container["envFrom"])
    named = {volume["name"]: volume for volume in pod["volumes"]}
    require(named["plan"]["configMap"]["name"] == plan_map["metadata"]["name"] and named["sweep"]["emptyDir"] == {}, named)
    (directory / "pairs.csv").write_bytes(b"0,1\n" * 300_000)
    code, _, error = emit(str(path), *more)
    require(code == 1 and "a ConfigMap may have" in error and error.count("\n") == 1, error)


def main():
    plan = '/data/a "b" sweep.toml'
    code, text, error = emit(plan, "--out", "/data/out", "--shards", "12", "--cpus", "4", "--image", "registry/grokscope:1", "--claim", "disk")
    require(code == 0 and "it has to be where the tasks run" in error, error)
    documents = list(yaml.safe_load_all(text))
    require(len(documents) == 1, f"{len(documents)} documents")
    pod, container = check_job(documents[0])
    require(container["command"][:4] == ["grokscope", "sweep", "run", plan], container["command"])
    require(pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "disk", pod["volumes"])
    code, _, error = emit("/elsewhere/sweep.toml", "--out", "/data/out")
    require(code == 1 and "outside of the volume" in error and error.count("\n") == 1, error)
    with tempfile.TemporaryDirectory() as directory:
        with_a_store(pathlib.Path(directory))
    print(f"kubernetes: the manifest is one of batch/v1, {kubernetes_validate.latest_version()}")


main()
