"""The compiler matrix as Markdown, one row for each entry point, written into docs/kernels.md."""

from common import ROOT
from criteria import FMA_FAMILY, fma_share, run_seconds

DOCS = ROOT / "docs/kernels.md"
BEGIN, END = "<!-- compilers: begin -->", "<!-- compilers: end -->"
VALIDATORS = ["tint", "spirv-val", "glslang", "msl"]


def write_docs(verdicts, dump):
    text = DOCS.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n{markdown(verdicts, dump)}\n{END}{after}")


def markdown(verdicts, dump):
    lines = ["| kernel | " + " | ".join(VALIDATORS) + " | RADV VGPRs, waves | RADV B | FMA % | DXC B | FXC s | FXC B | sm_90 regs, stack B |"]
    lines.append("|---" * (len(VALIDATORS) + 8) + "|")
    for name, variants in entry_points(dump).items():
        cells = [name] + [accepted(verdicts.get(judge), variants) for judge in VALIDATORS]
        cells += [registers(verdicts, variants), radv_memory(verdicts, variants), share(verdicts, variants)]
        cells += [worst(verdicts, "dxc", variants, "array_bytes"), worst(verdicts, "fxc", variants, "cpu_s")]
        cells += [worst(verdicts, "fxc", variants, "array_bytes"), ptxas(verdicts, variants)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *totals(verdicts, dump)]
    return "\n".join(lines)


def entry_points(dump):
    """Groups the pipelines of an entry point, which differ in override values only."""
    found = {}
    for pipeline in dump.pipelines:
        name = f"{pipeline['shader'].removesuffix('.wgsl')}.{pipeline['entry']}"
        found.setdefault(name, []).append(pipeline["name"])
    return found


def says(verdicts, judge, variants):
    verdict = verdicts.get(judge)
    return [verdict.pipelines[name] for name in variants if verdict and name in verdict.pipelines]


def accepted(verdict, variants):
    said = [verdict.pipelines[name] for name in variants if verdict and name in verdict.pipelines]
    return "" if not said else "**no**" if any("rejected" in one for one in said) else "yes"


def registers(verdicts, variants):
    figures = [one[FMA_FAMILY] for one in says(verdicts, "radv", variants) if FMA_FAMILY in one]
    if not figures:
        return ""
    return f"{max(f['vgprs'] for f in figures)}, {min(f['waves_per_simd'] for f in figures)}"


def radv_memory(verdicts, variants):
    """Returns the most that a wave keeps in scratch or spills, on any of the GPUs."""
    figures = [family for one in says(verdicts, "radv", variants) for family in one.values() if isinstance(family, dict)]
    used = [family["scratch_bytes"] + 4 * (family["spilled_vgprs"] + family["spilled_sgprs"]) for family in figures]
    return str(max(used)) if used else ""


def share(verdicts, variants):
    shares = [fma_share(one) for one in says(verdicts, "radv", variants)]
    shares = [one for one in shares if one is not None]
    return f"{min(shares):.0f}" if shares else ""


def worst(verdicts, judge, variants, figure):
    said = says(verdicts, judge, variants)
    if any("rejected" in one for one in said):
        return "**rejected**"
    values = [one[figure] for one in said if figure in one]
    return "" if not values else f"{max(values):.1f}" if figure == "cpu_s" else str(max(values))


def ptxas(verdicts, variants):
    said = says(verdicts, "ptxas", variants)
    if any("rejected" in one for one in said):
        return "**rejected**"
    if not said:
        return ""
    return f"{max(one['registers'] for one in said)}, {max(one['stack_bytes'] + one['spill_bytes'] for one in said)}"


def totals(verdicts, dump):
    lines = ["| judge | pipelines | rejected | version |", "|---|---|---|---|"]
    for judge, verdict in verdicts.items():
        rejected = sum("rejected" in one for one in verdict.pipelines.values())
        lines.append(f"| {judge} | {len(verdict.pipelines)} | {rejected} | {verdict.version} |")
    if "fxc" in verdicts:
        lines += ["", f"FXC takes {run_seconds(verdicts['fxc'], dump):.0f} CPU seconds for all pipelines of a training run with the default plan."]
    return lines
