"""Judges the output of the parts of `scripts/gpu.sh run` and writes gpu.json.

Usage: python3 scripts/gpu/collect.py RAW gpu.json

RAW holds run.tsv (key, value), parts.tsv (name, exit code, milliseconds, budget in seconds, reason, command), build.json, and the
output of each part in NAME.out and NAME.err. Exits with 0 if every part passed; only the peers may be missing.
"""
import json, math, pathlib, re, sys, textwrap

SCHEMA = 1
PEERS = ["torch-reference", "torch-careful", "jax-careful-scan", "torch-reference-compiled", "torch-careful-compiled"]
PARTS = ["devices", "check", "adapter", "twins", "bench", "model", "at-once"] + [f"peer-{peer}" for peer in PEERS]
# Characters of a part's output that gpu.json keeps where it failed.
TAIL = 2000
NO_COMPILER = re.compile(r"Failed to find C compiler|No working C\+\+ compiler")
AT_ONCE = re.compile(r"(\d+) models? at once (?:is|are) fastest\. Milliseconds a step and model: (.*)")


class Failed(Exception):
    """Why a part failed, and what to do."""


class Missing(Exception):
    """What a part needs and this machine has not."""


class Part:
    """A line of parts.tsv with the part's output."""

    def __init__(self, raw, line):
        self.name, self.code, ms, budget, self.reason, self.command = line.split("\t")
        self.seconds, self.budget = int(ms) / 1000, int(budget)
        self.out, self.err = (text_of(raw / f"{self.name}.{stream}") for stream in ("out", "err"))

    def expect_success(self):
        """Fails unless the part's command ended with exit code 0."""
        if self.code in ("124", "137") and self.seconds >= self.budget:
            raise Failed(f"timed out after {self.budget} s")
        if self.code != "0":
            said = (self.err.strip() or self.out.strip() or "nothing was printed").splitlines()[-1]
            raise Failed(f"exit code {self.code}: {said}")

    def json(self):
        """What the command printed as JSON."""
        try:
            return json.loads(self.out, parse_constant=no_number)
        except ValueError as error:
            raise Failed(f"printed no JSON: {error}") from None


def no_number(name):
    """Refuses NaN and infinities."""
    raise ValueError(f"{name} where a number should be")


def text_of(path):
    """The text of a file, empty if there is none."""
    return path.read_text(errors="replace") if path.exists() else ""


def pairs_of(path):
    """The keys and values of run.tsv."""
    return dict(line.split("\t", 1) for line in text_of(path).splitlines())


def adapter_block(listing, adapter):
    """Type and driver of an adapter in the output of `grokscope devices`."""
    block, inside = {}, False
    for line in listing.splitlines():
        if not line.startswith(" "):
            inside = line == adapter and not block
        elif inside:
            key, value = (line.split(None, 1) + [""])[:2]
            block[key] = value
    return {"type": block.get("type", "unknown"), "driver": block.get("driver", "unknown")}


def judge_devices(part, run):
    part.expect_success()
    if not run["adapter"]:
        names = [line for line in part.out.splitlines() if line and not line.startswith((" ", "auto takes"))]
        wanted = f"no adapter is called '{run['asked']}'" if run["asked"] else "there is no GPU"
        raise Failed(
            f"{wanted}: there are {', '.join(names) or 'none'}. Give one with --adapter. If the GPU is missing, see that libvulkan.so.1 "
            "is installed and that VK_DRIVER_FILES, or /usr/share/vulkan/icd.d, names the driver's JSON file"
        )
    return {}


def judge_check(part, run):
    if part.code == "1" and part.out.strip():
        raise Failed(part.out.strip())
    part.expect_success()
    found = re.search(re.escape(run["adapter"]) + r": passed .*?(\d+) kernels, (\d+) cases", part.out)
    if not found:
        raise Failed(f"the self-check says nothing of {run['adapter']}: {part.out.strip() or 'nothing was printed'}")
    return {"kernels": int(found[1]), "cases": int(found[2])}


def tests_of(part):
    """Names of the tests that passed, failed and were ignored, from libtest's JSON lines."""
    ended = {"ok": [], "failed": [], "ignored": []}
    finished = False
    for line in part.out.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict):
            continue
        if event.get("type") == "test" and event.get("event") in ended:
            ended[event["event"]].append(event["name"])
        finished |= event.get("type") == "suite" and event.get("event") in ("ok", "failed")
    return ended, finished


def judge_tests(part, run):
    """Counts of tests; fails if a test did, if none ran, or if the suite did not end."""
    ended, finished = tests_of(part)
    part.tests = {"passed": len(ended["ok"]), "failed": len(ended["failed"]), "failures": ended["failed"]}
    if ended["failed"]:
        raise Failed(f"{len(ended['failed'])} of {len(ended['ok']) + len(ended['failed'])} tests failed, first {ended['failed'][0]}")
    part.expect_success()
    if not finished:
        raise Failed("the suite ended without a result")
    if ended["ignored"]:
        raise Failed(f"{len(ended['ignored'])} tests were ignored, first {ended['ignored'][0]}")
    if not ended["ok"]:
        raise Failed("no test has the name that was asked for. Give another one with --twins")
    return {"tests": len(ended["ok"])}


def judge_adapter(part, run):
    figures = judge_tests(part, run)
    ran = [line[len("adapter: "):] for line in part.out.splitlines() if line.startswith("adapter: ")]
    if not ran or not ran[0].startswith(run["adapter"]):
        raise Failed(f"the suite ran on '{ran[0] if ran else 'no adapter'}' instead of '{run['adapter']}'")
    return figures


def judge_bench(part, run):
    """Ceilings (GB/s, GFLOP/s, microseconds), and of each program the step in ms and its dispatches in us."""
    part.expect_success()
    devices = part.json()["devices"]
    names = [device["name"] for device in devices]
    if names != [run["adapter"]]:
        raise Failed(f"timed {names} instead of '{run['adapter']}'")
    programs = [timed["program"] for timed in devices[0]["runs"]]
    if programs != ["layered", "composed"]:
        raise Failed(f"timed the programs {programs} instead of layered and composed")
    shape = ["program", "p", "rows", "d_model", "n_heads", "d_mlp", "models", "first_step_s", "step_ms", "kernels_ms"]
    steps = [{**{key: timed[key] for key in shape}, "dispatches": dispatches(timed)} for timed in devices[0]["runs"]]
    return {"ceilings": devices[0]["ceilings"], "steps": steps}


def dispatches(timed):
    """Names and microseconds (median and quartiles) of a step's dispatches."""
    return [{"name": kernel["name"], "us": {key: 1e3 * ms for key, ms in kernel["ms"].items()}} for kernel in timed["kernels"]]


def judge_model(part, run):
    """Predicted microseconds of each program's step and dispatches, on the adapter if the model knows it, or else on an H200."""
    part.expect_success()
    steps = part.json()["steps"]
    if not steps:
        raise Failed("predicted no step")
    known = [prediction["device"] for prediction in steps[0]["predictions"]]
    device = next((name for name in known if name in run["adapter"]), "H200")
    return {"device": device, "steps": [predicted_step(step, device) for step in steps]}


def predicted_step(step, device):
    """Name and microseconds of a step and of its dispatches, without their launches."""
    prediction = next(prediction for prediction in step["predictions"] if prediction["device"] == device)
    times = zip(step["dispatches"], prediction["dispatches"])
    return {
        "program": step["title"].split()[0],
        "step_us": prediction["step_us"],
        "dispatches": [{"name": counts["title"], "us": time["us"]} for counts, time in times],
    }


def judge_at_once(part, run):
    """The number of models that is fastest, and milliseconds of a step and model by the number of models."""
    part.expect_success()
    if f"# on {run['adapter']}: " not in part.out:
        raise Failed(f"the dry run was not on '{run['adapter']}'")
    found = AT_ONCE.search(part.err)
    if not found:
        raise Failed("the dry run does not say how many models at once are fastest")
    times = dict(entry.split(": ") for entry in found[2].split(", "))
    if found[1] not in times:
        raise Failed(f"{found[1]} models at once are fastest, but have no time: {found[2]}")
    return {"best": int(found[1]), "ms_per_step_and_model": {models: float(ms) for models, ms in times.items()}}


def judge_peer(part, run):
    """Milliseconds of a peer's step, and the device that it ran on."""
    if NO_COMPILER.search(part.err):
        raise Missing("no C compiler, which torch.compile needs")
    part.expect_success()
    lines = part.out.splitlines()
    if not lines:
        raise Failed("the peer printed nothing")
    peer = json.loads(lines[-1])
    if "skipped" in peer:
        raise Missing(re.sub("^No module named '(.*)'$", r"no module \1", peer["skipped"]))
    if run["type"] != "Cpu" and peer["device"].lower().startswith("cpu"):
        raise Missing(f"the peer ran on {peer['device']}, although there is a GPU. Install PyTorch or JAX with CUDA")
    part.device = peer["device"]
    return {"ms_per_step": peer["ms_per_step"], "steps": peer["steps"]}


JUDGES = {
    "devices": judge_devices, "check": judge_check, "adapter": judge_adapter, "twins": judge_tests, "bench": judge_bench,
    "model": judge_model, "at-once": judge_at_once,
}


def sound(figures):
    """The same figures; fails if one is no finite positive number."""
    for at, number in numbers(figures, "figures"):
        if not positive(number):
            raise Failed(f"{at} is {number}, no finite positive number")
    return figures


def judged(part, run):
    """A part as gpu.json has it."""
    figures, why = {}, part.reason
    status = part.code if part.code in ("skipped", "missing") else "passed"
    if status == "passed":
        try:
            figures = sound(JUDGES.get(part.name, judge_peer)(part, run))
        except Failed as error:
            status, why = "failed", str(error)
        except Missing as error:
            status, why = "missing", str(error)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            status, why = "failed", f"its output is not as expected: {type(error).__name__}: {error}"
    entry = {"name": part.name, "status": status, "why": why, "seconds": part.seconds, "budget_seconds": part.budget,
             "command": part.command, "figures": figures}
    entry.update({key: getattr(part, key) for key in ("tests", "device") if hasattr(part, key)})
    if status == "failed":
        entry.update(stdout_tail=part.out[-TAIL:], stderr_tail=part.err[-TAIL:])
    return entry


def beside(measured, predicted):
    """The dispatches of a step, measured and, where the model has one of the same name, predicted; in microseconds."""
    times = {dispatch["name"]: dispatch["us"] for dispatch in predicted["dispatches"]} if predicted else {}
    rows = []
    for dispatch in measured["dispatches"]:
        row = {"name": dispatch["name"], "measured_us": dispatch["us"]["median"]}
        if dispatch["name"] in times:
            row["predicted_us"] = times[dispatch["name"]]
        rows.append(row)
    return rows


def comparison(parts):
    """Measured next to predicted, for each program: the step and its dispatches, in microseconds."""
    figures = {part["name"]: part["figures"] for part in parts}
    predicted = {step["program"]: step for step in figures.get("model", {}).get("steps", [])}
    steps = []
    for measured in figures.get("bench", {}).get("steps", []):
        step = predicted.get(measured["program"])
        row = {"program": measured["program"], "measured_us": 1e3 * measured["step_ms"]["median"],
               "kernels_us": 1e3 * measured["kernels_ms"]}
        if step:
            row["predicted_us"] = step["step_us"]
        steps.append({**row, "dispatches": beside(measured, step)})
    return steps


def collected(raw):
    """gpu.json of the output of a run."""
    run = pairs_of(raw / "run.tsv")
    block = adapter_block(text_of(raw / "devices.out"), run["adapter"])
    run["type"] = block["type"]
    parts = [judged(Part(raw, line), run) for line in text_of(raw / "parts.tsv").splitlines()]
    machine = {key: run[key] for key in ("system", "processor", "cores", "nvidia") if key in run}
    return {
        "schema": SCHEMA, "date": run["date"], "form": run["form"], "seconds": int(run["seconds"]),
        "deadline_seconds": int(run["deadline"]), "machine": machine, "build": json.loads(text_of(raw / "build.json")),
        "adapter": {"asked": run["asked"], "name": run["adapter"], **block}, "parts": parts, "steps": comparison(parts),
    }


def numbers(value, at):
    """Every number in a value with the place where it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{at}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{at}[{index}]")
    elif isinstance(value, (int, float)):
        yield at, value


def faults(result):
    """What gpu.json lacks or has wrong."""
    found = []
    names = [part["name"] for part in result["parts"]]
    if names != PARTS:
        found.append(f"the parts are {names} instead of {PARTS}")
    for part in result["parts"]:
        if part["status"] not in ("passed", "failed", "skipped", "missing"):
            found.append(f"{part['name']}: unknown status '{part['status']}'")
        if part["status"] == "missing" and not part["name"].startswith("peer-"):
            found.append(f"{part['name']} is missing, which only peers may be")
        if part["status"] == "passed" and not part["figures"] and part["name"] != "devices":
            found.append(f"{part['name']} passed without a figure")
        found += [f"{at} is {number}" for at, number in numbers(part["figures"], part["name"]) if not positive(number)]
    found += [f"{at} is {number}" for at, number in numbers(result["steps"], "steps") if not positive(number)]
    if bool(result["steps"]) != any(part["name"] == "bench" and part["status"] == "passed" for part in result["parts"]):
        found.append("the measured steps and the part 'bench' contradict each other")
    return found


def positive(number):
    """Whether a figure is a finite positive number."""
    return math.isfinite(number) and number > 0


def digits(value):
    """A number with three digits that count, as text."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def summary(part, result):
    """What a part found, in a few words; why, where it did not pass."""
    figures = part["figures"]
    if part["status"] != "passed":
        return part["why"]
    if part["name"] == "devices":
        return f"{result['adapter']['name']}, driver {result['adapter']['driver']}"
    if part["name"] == "check":
        return f"{figures['kernels']} kernels, {figures['cases']} cases"
    if part["name"] in ("adapter", "twins"):
        return f"tests passed: {figures['tests']}"
    if part["name"] == "bench":
        return "ms a step: " + ", ".join(f"{step['program']} {digits(step['step_ms']['median'])}" for step in figures["steps"])
    if part["name"] == "model":
        steps = ", ".join(f"{step['program']} {digits(step['step_us'])}" for step in figures["steps"])
        return f"us a step on {figures['device']}: {steps}"
    if part["name"] == "at-once":
        best = figures["best"]
        return f"fastest: {best}, {digits(figures['ms_per_step_and_model'][str(best)])} ms a step and model"
    return f"{digits(figures['ms_per_step'])} ms a step on {part['device']}"


def table(result):
    """The lines of each part, of 80 columns at most."""
    columns = f"{'part':<26}{'status':<9}{'seconds':>7}  "
    lines = [f"{columns}result"]
    for part in result["parts"]:
        first = f"{part['name'].replace('peer-', ''):<26}{part['status']:<9}{part['seconds']:>7.1f}  "
        said = textwrap.wrap(summary(part, result), 80 - len(columns)) or [""]
        lines += [first + said[0], *(" " * len(columns) + more for more in said[1:])]
    return "\n".join(line.rstrip() for line in lines)


def main():
    raw, file = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    result = collected(raw)
    found = faults(result)
    result["faults"] = found
    file.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    for fault in found:
        print(f"gpu.json is not as it should be: {fault}", file=sys.stderr)
    passed = not found and all(part["status"] in ("passed", "missing") for part in result["parts"])
    print(f"\n{'passed' if passed else 'FAILED'} after {result['seconds']} s: {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
