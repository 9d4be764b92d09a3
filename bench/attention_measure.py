"""The clock of attention: contestants take turns, each keeps its best.

    python -m bench.attention_measure --threads N [--isa v3]

is a process of its own, for the reasons given in measure.py, and one for each forced instruction
set, which swiftmax reads once. Lines of JSON to standard output: the times of each workload, and
after each the limits of the machine; bench/attention_run.py reads them.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys

from bench.measure import (
    ROUNDS,
    SLOW_ROUNDS,
    TURN,
    Call,
    once,
    rest,
)

# A contestant this many times slower than the fastest peer after two rounds does not become the
# fastest: it keeps what it has. Swiftmax always runs all rounds.
OUT_OF_REACH = 1.5
# Calls slower than this get fewer rounds. It is longer than for rows: the clock rate moves by a
# tenth, and whoever has few tries may have none at the higher one.
SLOW = 0.2
# The contestants that are limits: reading READ_IN_TURN bytes of memory, and the workload's
# operations without anything else.
READ = "read"
FMA = "fma"


def race(contestants: dict[str, Call]) -> dict[str, float]:
    """The best time of each in seconds, all in turn within each round. Every call has run once."""
    repeats, best = {}, {}
    for name, call in contestants.items():
        rest()
        best[name] = once(call, 1)
        if best[name] < SLOW:
            best[name] = min(best[name], once(call, 1), once(call, 1))
        repeats[name] = max(1, min(20_000, int(TURN / best[name])))
    peers = [name for name in contestants if not name.startswith(("swiftmax", READ, FMA))]
    for turn in range(ROUNDS):
        reach = OUT_OF_REACH * min((best[name] for name in peers), default=0.0)
        for name, call in contestants.items():
            is_hopeless = turn >= 2 and name in peers and best[name] > reach
            if is_hopeless or (turn >= SLOW_ROUNDS and best[name] > SLOW):
                continue
            rest()
            call()
            best[name] = min(best[name], once(call, repeats[name]))
    return best


def in_turn(calls: list[Call]) -> Call:
    """One call that makes the next of several."""
    if len(calls) == 1:
        return calls[0]
    following = itertools.cycle(calls).__next__
    return lambda: following()()


def entered(work, peers, prefix: str = "") -> dict[str, Call]:
    """The contestants of a workload whose first result is right, by library and variant."""
    import numpy as np

    from bench.attention_reference import LOOSE, reference, sampled_rows

    layers = work.inputs()
    rows = sampled_rows(work)
    exact = reference(work, *layers[0], rows)
    contestants: dict[str, Call] = {}
    for peer in peers:
        for variant, make in peer.variants(work, layers).items():
            name = f"{peer.name} {prefix or variant}".strip()
            try:
                prepared = make()
                got = np.asarray(prepared.result(), np.float64).reshape(layers[0][0].shape)
            except Exception as error:
                if not peer.is_peer:
                    raise
                # No such dtype or operation there: the cell stays empty.
                print(f"{name}: no {work.name}: {str(error)[:200]}", file=sys.stderr)
                continue
            error = np.abs(got[:, :, rows] - exact).max()
            # Written so that NaN fails.
            if not error <= LOOSE[work.dtype]:
                if not peer.is_peer:
                    raise SystemExit(f"{name}: {work.name} is wrong by {error:.2g}")
                print(f"{name}: {work.name} is wrong by {error:.2g}", file=sys.stderr)
                continue
            contestants[name] = in_turn(prepared.calls)
    return contestants


def measure(work, libraries, limit: Call | None) -> dict[str, float]:
    """Best seconds by contestant: "swiftmax", "swiftmax beside", peers with their variants, and the
    workload's limit."""
    contestants = entered(work, libraries.values())
    if work.beside:
        contestants |= entered(work.beside, [libraries["swiftmax"]], "beside")
    if limit:
        contestants[READ if work.is_decode else FMA] = limit
    return race(contestants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--isa", help="the workloads of this instruction set, forced")
    options = parser.parse_args()
    threads = options.threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SWIFTMAX_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if options.isa:
        os.environ["SWIFTMAX_ISA"] = options.isa

    import numpy as np

    from bench import limits
    from bench.attention import READ_IN_TURN, registered
    from bench.attention_peers import available

    libraries = available(threads, with_peers=options.isa is None)
    has_limits = limits.build()
    machine = limits.Limits()
    if has_limits:
        memory = np.ones(READ_IN_TURN, np.uint8)
        machine.include(limits.run(threads))

    def limit(work) -> Call | None:
        """What bounds the workload, if it is one that is held against it."""
        if not has_limits or not work.has_limit:
            return None
        if work.is_decode:
            return limits.reader(memory, threads)
        width = machine.width(work.isa)
        return limits.multiplier(work.operations, width, threads) if width else None

    def tell(**line):
        print(json.dumps(line), flush=True)

    tell(versions={name: library.version for name, library in libraries.items()})
    for work in registered(options.only):
        if work.isa == options.isa:
            tell(begin=work.name)
            tell(name=work.name, seconds=measure(work, libraries, limit(work)))
            gc.collect()
            if has_limits:
                rest()
                tell(limits=limits.run(threads))


if __name__ == "__main__":
    main()
