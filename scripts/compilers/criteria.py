"""The criteria that a verdict must meet."""

# Seconds that FXC may take for a pipeline, and for all pipelines of a training run with the default plan.
FXC_LIMIT_S = 10
FXC_RUN_LIMIT_S = 60
# Percent of the instructions in the hot loop of a matrix product that are FMA, on RDNA 3.
MIN_FMA_SHARE = 68
FMA_FAMILY = "navi31"
# Figures that are bytes or registers kept in memory: 0 on every GPU.
MEMORY = ["array_bytes", "stack_bytes", "spill_bytes", "scratch_bytes", "spilled_vgprs", "spilled_sgprs"]


def failures(judge, verdict, dump):
    """Returns a line for each criterion that a judge's verdict does not meet."""
    found = []
    if not verdict.pipelines:
        found.append(f"{judge}: judged nothing")
    for name, said in verdict.pipelines.items():
        if "rejected" in said:
            found.append(f"{judge}: {name}: {said['rejected']}")
    for pipeline in dump.pipelines:
        said = verdict.pipelines.get(pipeline["name"], {})
        name = f"{judge}: {pipeline['name']}"
        if not pipeline["software_only"]:
            found += [f"{name}: {what}" for what in in_memory(said)]
        if judge == "fxc" and said.get("cpu_s", 0) > FXC_LIMIT_S:
            found.append(f"{name}: {said['cpu_s']} CPU seconds, at most {FXC_LIMIT_S} are allowed")
        if judge == "radv" and pipeline["is_product"] and not pipeline["software_only"]:
            share = fma_share(said)
            if "rejected" not in said and (share is None or share < MIN_FMA_SHARE):
                found.append(f"{name}: FMA share {share} %, at least {MIN_FMA_SHARE} % is required")
    if judge == "fxc" and run_seconds(verdict, dump) > FXC_RUN_LIMIT_S:
        found.append(f"fxc: {run_seconds(verdict, dump):.0f} CPU seconds for a training run, at most {FXC_RUN_LIMIT_S} are allowed")
    return found


def grouped(failures):
    """Joins failures of a judge that differ in the pipeline only, as those of a whole shader do."""
    names = {}
    for failure in failures:
        judge, _, rest = failure.partition(": ")
        name, _, message = rest.partition(": ")
        names.setdefault((judge, message), []).append(name)
    return [f"{judge}: {', '.join(found)}" + (f": {message}" if message else "") for (judge, message), found in names.items()]


def in_memory(said):
    """Returns what a pipeline keeps in memory instead of registers: `stack_bytes 576`, `navi31 scratch_bytes 16384`."""
    found = [f"{figure} {said[figure]}" for figure in MEMORY if said.get(figure)]
    for family, figures in said.items():
        if isinstance(figures, dict):
            found += [f"{family} {figure} {figures[figure]}" for figure in MEMORY if figures.get(figure)]
    return found


def fma_share(said):
    loop = said.get(FMA_FAMILY, {}).get("hot_loop")
    return loop["fma_share"] if loop else None


def run_seconds(verdict, dump):
    names = [pipeline["name"] for pipeline in dump.pipelines if pipeline["in_default_run"]]
    return sum(verdict.pipelines.get(name, {}).get("cpu_s", 0) for name in names)


def summary(judge, verdict, dump):
    rejected = sum("rejected" in said for said in verdict.pipelines.values())
    hardware = [p["name"] for p in dump.pipelines if not p["software_only"]]
    spilling = sum(bool(in_memory(verdict.pipelines.get(name, {}))) for name in hardware)
    line = f"{len(verdict.pipelines) - rejected} passed, {rejected} rejected"
    if judge in ("radv", "dxc", "fxc", "ptxas"):
        line += f", {spilling} use memory for variables"
    if judge == "fxc":
        line += f", {run_seconds(verdict, dump):.0f} CPU seconds for a training run"
    return line
