#!/usr/bin/env python3
"""Checks what the linker cannot: the traps of one source compiled for several instruction sets.

1. No function stands in the objects of two instruction sets under one name, other than the weak
   runtime functions of Embedded Swift: the linker would keep one of them for all.
2. No instruction on ymm or zmm registers, and no VEX encoding, outside the objects meant for it.
3. The library exports exactly the functions that the headers declare, needs libc and libm only, and
   is at most LARGEST bytes.

Usage: check_symbols.py --library LIB --headers HEADER... --objects OBJECT...
"""

import argparse
import collections
import os
import re
import subprocess
import sys

# Weak helpers that Embedded Swift puts into every object; none of them computes.
RUNTIME = re.compile(r"^(_?swift_\w+|\$es16_emptyBoxStorageSi_Sitvp)$")
# C that only runs where it has looked for the instructions first.
FOR_ONE_CPU = {"dots.c.o"}
# A little above what it has, so that growth shows here and is then said in the README.
LARGEST = 2350 * 1000
ALLOWED = {"libc.so.6", "libm.so.6"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def isa_of(path):
    match = re.search(r"Kernels(V\d|NEON)\.build", path)
    return match.group(1) if match else None


def defined(path):
    """Global and weak symbols that an object defines in its code."""
    for line in run("nm", "--defined-only", path).splitlines():
        _, kind, name = line.split(maxsplit=2)
        if kind in "TWV":
            yield name


def check_names(objects):
    homes = collections.defaultdict(set)
    for path in objects:
        if isa_of(path):
            for name in defined(path):
                homes[name].add(isa_of(path))
    for name, isas in sorted(homes.items()):
        if len(isas) > 1 and not RUNTIME.match(name):
            yield f"{name} is defined for {' and '.join(sorted(isas))}: the linker keeps only one"


def check_registers(objects):
    for path in objects:
        isa = isa_of(path)
        if isa in ("V4", "NEON") or os.path.basename(path) in FOR_ONE_CPU:
            continue
        wrong = r"%zmm|\{%k" if isa == "V3" else r"%ymm|%zmm|\tv[a-z]"
        for line in run("objdump", "-d", "--no-show-raw-insn", path).splitlines():
            if re.search(wrong, line):
                yield f"{os.path.basename(os.path.dirname(path))} uses: {line.strip()}"
                break


def declared_in(header):
    with open(header, encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    return set(re.findall(r"\b(smx_\w+)\s*\(", text))


def check_library(library, headers):
    declared = set().union(*map(declared_in, headers))
    exported = {
        line.split()[-1].split("@")[0]
        for line in run("nm", "-D", "--defined-only", library).splitlines()
        if line.split()[-2] != "A"
    }
    for name in sorted(declared - exported):
        yield f"{name} is declared but not exported"
    for name in sorted(exported - declared):
        yield f"{name} is exported but not declared"
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", library)))
    for name in sorted(needed - ALLOWED):
        yield f"the library needs {name}"
    size = os.path.getsize(library)
    if size > LARGEST:
        yield f"the library has {size} bytes, more than {LARGEST}"
    print(f"{os.path.basename(library)}: {size} bytes, {len(exported)} functions, needs "
          f"{', '.join(sorted(needed))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--headers", nargs="+", required=True)
    parser.add_argument("--objects", nargs="+", required=True)
    options = parser.parse_args()
    problems = list(check_names(options.objects)) + list(check_registers(options.objects))
    problems += check_library(options.library, options.headers)
    for problem in problems:
        print(f"check_symbols: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
