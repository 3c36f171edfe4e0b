"""Writes what a run of `scripts/gpu.sh` measured into a page.

Usage: python3 scripts/gpu/report.py gpu.json [PAGE]

Replaces the section between the marks in PAGE, by default docs/performance.md, which takes full runs on a GPU only.
"""
import json, pathlib, sys

from collect import digits

BEGIN, END = "<!-- gpu: written by scripts/gpu.sh -->\n", "<!-- end of gpu -->\n"
PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/performance.md"
SLOWEST = 10
LAUNCHES = "The prediction of a step includes its launches, that of a dispatch does not. The slowest dispatches:"


def row(*cells):
    """A line of a table."""
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def head(*titles):
    """The first two lines of a table."""
    return [row(*titles), "|" + "---|" * len(titles)]


def predicted(entry):
    """Predicted microseconds, and the measured over them; dashes where there is no prediction."""
    if "predicted_us" not in entry:
        return "-", "-"
    return digits(entry["predicted_us"]), f"{entry['measured_us'] / entry['predicted_us']:.2f}"


def conditions(result):
    """Where, when and with what."""
    machine, adapter, build = result["machine"], result["adapter"], result["build"]
    form = "" if result["form"] == "full" else "; the short form, on small shapes"
    return [
        f"{result['date'][:10]}, commit {build['commit']}, {adapter['name']}, driver {adapter['driver']}{form}.",
        f"{machine['processor'] or 'unknown processor'}, {machine['cores']} cores, {machine['system']}.",
    ]


def unsound(result):
    """A sentence for each part that failed or was skipped."""
    return [
        f"**{part['name']} {part['status']}**: {part['why']}"
        for part in result["parts"] if part["status"] in ("failed", "skipped")
    ]


def correctness(parts):
    """What the self-check and the twin tests found."""
    check, twins = parts["check"], parts["twins"]
    said = []
    if check["status"] == "passed":
        said.append(f"The self-check passed: {check['figures']['kernels']} kernels, {check['figures']['cases']} cases.")
    if "tests" in twins:
        said.append(f"Twin tests: {twins['tests']['passed']} passed, {twins['tests']['failed']} failed.")
    return [" ".join(said)] if said else []


def steps(result, device):
    """A table of whole steps."""
    lines = head("program", "measured, us a step", "of it in kernels", f"predicted for {device}", "measured / predicted")
    return lines + [row(s["program"], digits(s["measured_us"]), digits(s["kernels_us"]), *predicted(s)) for s in result["steps"]]


def slowest(step, device):
    """A table of a step's slowest dispatches."""
    by_time = sorted(step["dispatches"], key=lambda dispatch: -dispatch["measured_us"])
    lines = head(f"dispatch of {step['program']}", "measured, us", f"predicted for {device}", "measured / predicted")
    return lines + [row(d["name"], digits(d["measured_us"]), *predicted(d)) for d in by_time[:SLOWEST]]


def at_once(figures):
    """A table of milliseconds by the number of models."""
    lines = [f"Fastest number of models at once: {figures['best']}.", "", *head("models at once", "ms a step and model")]
    return lines + [row(models, digits(ms)) for models, ms in figures["ms_per_step_and_model"].items()]


def peers(parts, ours_us):
    """A table of the peers, beside our composed step in microseconds."""
    lines = head("peer", "device", "ms a step", "its time / that of grokscope composed")
    for name, part in parts.items():
        if not name.startswith("peer-"):
            continue
        if part["status"] == "passed":
            ms = part["figures"]["ms_per_step"]
            lines.append(row(name[5:], part["device"], digits(ms), f"{1e3 * ms / ours_us:.2f}" if ours_us else "-"))
        else:
            lines.append(row(name[5:], f"{part['status']}: {part['why']}", "-", "-"))
    return lines


def section(result):
    """The text between the marks."""
    parts = {part["name"]: part for part in result["parts"]}
    device = parts["model"]["figures"].get("device", "no device")
    composed = next((step for step in result["steps"] if step["program"] == "composed"), None)
    blocks = [conditions(result), unsound(result), correctness(parts)]
    if composed:
        blocks += [steps(result, device), [LAUNCHES], slowest(composed, device)]
    if parts["at-once"]["status"] == "passed":
        blocks.append(at_once(parts["at-once"]["figures"]))
    # The peers train the network of --preset default, which the short form does not time.
    ours_us = composed["measured_us"] if composed and result["form"] == "full" else None
    blocks.append(peers(parts, ours_us))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def refused(result, page):
    """Why a result does not belong on a page, empty if it does."""
    if page.resolve() != PAGE:
        return ""
    if result["form"] != "full":
        return "is of the short form"
    if result["adapter"]["type"] == "Cpu":
        return f"is of a software adapter, {result['adapter']['name']}"
    return "" if result["adapter"]["name"] else "names no adapter"


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: scripts/gpu.sh report gpu.json [PAGE]")
    file, page = sys.argv[1], pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else PAGE
    try:
        result, text = json.loads(pathlib.Path(file).read_text()), page.read_text()
    except (OSError, ValueError) as error:
        sys.exit(f"report: {error}. Give the gpu.json of a run, and a page that exists")
    why = refused(result, page)
    if why:
        sys.exit(f"report: {file} {why}. Give a full run on a GPU, or name another page to write into")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        sys.exit(f"report: {page} has no section of its own for this. Add these two lines to it:\n{BEGIN}{END}")
    before, rest = text.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{section(result)}\n\n{END}{rest.split(END)[1]}")
    print(f"wrote the section of {page}")


if __name__ == "__main__":
    main()
