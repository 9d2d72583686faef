"""Checks the machine code of a binary with the kernels of the CPU encoder (x86-64). No kernel may call `fma`, which computes
in software what a single instruction of the processor computes. None may call a small function that should be inlined.

    disassembly.py BINARY
"""

import re
import subprocess
import sys

# Functions that contain kernels: those of pulp, which have the target features, and those that need no target features.
KERNEL = re.compile(r"pulp::.*::vectorize|^<?forebay_cpu_encoder::(simd::run|simd::Level::run|bf16|matrix|rows)")
FORBIDDEN = re.compile(r"\bfmaf?\b|fma_with|fused_multiply|core::ops::function|forebay_cpu_encoder::.*(polynomial|multiply_add|exp|erf)\b")
MULTIPLY_ADD = re.compile(r"\tvfn?m(add|sub)\w+ps |\tvdpbf16ps ")


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pointed_to(binary):
    """Returns the functions to which the binary's table of addresses points, by the address of the entry. A call through the
    table shows only this address."""
    names = {}
    for line in output("nm", "-C", binary).splitlines():
        parts = line.split(maxsplit=2)
        if len(parts) == 3:
            names[int(parts[0], 16)] = parts[2]
    table = {}
    for line in output("readelf", "-rW", binary).splitlines():
        relative = re.match(r"([0-9a-f]+)\s+[0-9a-f]+\s+R_X86_64_RELATIVE\s+([0-9a-f]+)", line)
        if relative:
            table[int(relative[1], 16)] = names.get(int(relative[2], 16), "")
        named = re.match(r"([0-9a-f]+)\s+[0-9a-f]+\s+R_X86_64_\w+\s+[0-9a-f]+\s+(\S+)", line)
        if named:
            table[int(named[1], 16)] = named[2]
    return table


def main(binary):
    table = pointed_to(binary)
    function, kernels, multiply_adds, calls = "", set(), 0, []
    for line in output("objdump", "-dC", "--no-show-raw-insn", binary).splitlines():
        begins = re.match(r"[0-9a-f]+ <(.*)>:$", line)
        if begins:
            function = begins[1]
        elif KERNEL.search(function):
            kernels.add(function)
            multiply_adds += bool(MULTIPLY_ADD.search(line))
            if re.search(r"\t(call|jmp) ", line):
                address = re.search(r"# ([0-9a-f]+) <", line)
                target = table.get(int(address[1], 16), "") if address else line
                if address is None:
                    named = re.search(r"<(.*?)(\+0x[0-9a-f]+)?>$", line)
                    target = named[1] if named and named[1] != function else ""
                if FORBIDDEN.search(target):
                    calls.append(f"{function} calls {target}")
    print(f"{binary}: {len(kernels)} kinds of kernels, {multiply_adds} fused multiplications")
    if calls:
        sys.exit("\n".join(sorted(set(calls))))
    if multiply_adds < 100:
        sys.exit("too few fused multiplications: the kernels are not compiled for the processor's instructions")


main(sys.argv[1])
