"""Counts the FMA and workgroup-memory reads in the innermost loops of RADV's machine code, as RADV_DEBUG=shaders prints it."""

import re

# Reads of workgroup memory: ds_load_b128, ds_load_2addr_b64, ds_read2st64_b32 ..
LDS_READ = re.compile(r"ds_(?:load|read)(2?)(?:_2addr)?(?:_stride64|st64)?_[ubi](\d+)")
FMA = re.compile(r"v_(pk_)?(fma|mad|mac)(c|ak|mk)?_(legacy_)?f32")
WAITS = ("s_wait", "s_delay_alu", "s_nop", "s_clause", "s_barrier")
MIN_FMA = 16


def split(text):
    """Splits a log by kernel: {name: lines of machine code}. Before each kernel stands a line `@@@ NAME`."""
    kernels, name, in_code = {}, None, False
    for line in text.splitlines():
        if line.startswith("@@@ "):
            name, in_code = line[4:].strip(), False
            kernels[name] = []
        elif line.startswith("disasm:"):
            in_code = True
        elif in_code and (line.startswith("*") or line.startswith("Shader")):
            in_code = False
        elif in_code:
            kernels[name].append(line)
    return kernels


def blocks(lines):
    """Returns the basic blocks: [(number, [(opcode, operands)])]."""
    found = []
    for line in lines:
        if label := re.match(r"BB(\d+):", line):
            found.append((int(label[1]), []))
        elif found and (instruction := re.match(r"\s+([a-z_0-9]+)\s*(.*?)\s*(;.*)?$", line)):
            found[-1][1].append((instruction[1], instruction[2]))
    return found


def innermost_loops(basic_blocks):
    """Returns the innermost loops as pairs of places in the list of blocks. A loop is a branch back."""
    place = {number: n for n, (number, _) in enumerate(basic_blocks)}
    loops = {}
    for n, (_, instructions) in enumerate(basic_blocks):
        for opcode, operands in instructions:
            target = re.search(r"BB(\d+)", operands) if opcode.startswith(("s_cbranch", "s_branch")) else None
            begin = place.get(int(target[1])) if target else None
            if begin is not None and begin <= n:
                loops[begin] = max(n, loops.get(begin, 0))
    return [(b, e) for b, e in loops.items() if not any(b < other and end <= e for other, end in loops.items())]


def fmas(opcode, operands):
    """Multiply-adds of an instruction. A VOPD pair lists its second half in the operands."""
    if opcode.startswith("v_dual_"):
        return f"{opcode} {operands}".count("v_dual_fma")
    found = FMA.match(opcode)
    return 0 if not found else 2 if found[1] else 1


def lds_bytes(opcode):
    found = LDS_READ.match(opcode)
    return 0 if not found else int(found[2]) // 8 * (2 if found[1] or "2addr" in opcode else 1)


def hot_loop(lines):
    """Returns the FMA share and the bytes read from workgroup memory per FMA, or None for a kernel with few FMA.

    The share is the number of FMA divided by the number of instructions other than waits. A VOPD pair counts as two. The code
    counted is the innermost loop with the most FMA. If that loop has less than half of the kernel's FMA, the kernel's loop is
    unrolled, and the code from the first FMA to the last counts instead.
    """
    basic_blocks = blocks(lines)
    code = [i for _, instructions in basic_blocks for i in instructions]
    total = sum(fmas(*i) for i in code)
    if total < MIN_FMA:
        return None
    bodies = [[i for _, block in basic_blocks[b : e + 1] for i in block] for b, e in innermost_loops(basic_blocks)]
    body = max(bodies, key=lambda body: sum(fmas(*i) for i in body), default=[])
    if 2 * sum(fmas(*i) for i in body) < total:
        places = [n for n, i in enumerate(code) if fmas(*i)]
        body = code[places[0] : places[-1] + 1]
    count = sum(fmas(*i) for i in body)
    instructions = sum(2 if opcode.startswith("v_dual_") else 1 for opcode, _ in body if not opcode.startswith(WAITS))
    return {
        "fma": count,
        "instructions": instructions,
        "fma_share": round(100 * count / instructions, 1),
        "lds_bytes_per_fma": round(sum(lds_bytes(opcode) for opcode, _ in body) / count, 2),
    }
