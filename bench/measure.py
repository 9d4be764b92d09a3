"""The clock: contestants take turns, each keeps its best.

    python -m bench.measure --threads N

is a process of its own for each number of threads: it may use exactly N CPUs, set before any
library is imported, because JAX cannot be told later and the others guess less. It writes one line
of JSON for each workload to standard output; bench/__main__.py reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.limits import Limit

# A turn begins with a pause and an untimed call: the idle workers of one library must not spin into
# the turn of the next, on its CPUs. OpenMP's (torch) spin for 10 to 20 ms after a call,
# onnxruntime's for 60. The pause lasts until a step of it costs the process next to nothing.
STEP = 0.004
QUIET = 0.1
LONGEST_PAUSE = 0.25
# A turn lasts about this long, by repeating calls: long enough for threads and caches to settle.
TURN = 0.012
ROUNDS = 15
# Calls slower than this get fewer rounds: their noise is small beside them.
SLOW = 0.03
SLOW_ROUNDS = 6

Call = Callable[[], Any]


def rest() -> None:
    """Lets the workers of the contestant that ran before fall asleep."""
    for _ in range(round(LONGEST_PAUSE / STEP)):
        used = time.process_time()
        time.sleep(STEP)
        if time.process_time() - used < QUIET * STEP:
            return


def once(call: Call, repeats: int) -> float:
    """Seconds of one of `repeats` calls in a row."""
    if isinstance(call, Limit):
        return sum(call() for _ in range(repeats)) / repeats
    clock = time.perf_counter
    turns = range(repeats)
    start = clock()
    for _ in turns:
        call()
    return (clock() - start) / repeats


def race(contestants: dict[str, Call], slow: float = SLOW) -> dict[str, float]:
    """The best time of each in seconds, all in turn within each round; slow ones have fewer."""
    repeats, best = {}, {}
    for name, call in contestants.items():
        rest()
        call()
        first = min(once(call, 1) for _ in range(3))
        repeats[name] = max(1, min(20_000, int(TURN / first)))
        best[name] = first
    for turn in range(ROUNDS):
        for name, call in contestants.items():
            if turn >= SLOW_ROUNDS and best[name] > slow:
                continue
            rest()
            call()
            best[name] = min(best[name], once(call, repeats[name]))
    return best


def copies(x, threads: int, libraries) -> dict[str, Call]:
    """Ways to copy x: NumPy on one thread; on several torch, or else Python threads with NumPy."""
    import numpy as np

    source, out = x.reshape(-1).view(np.uint8), np.empty(x.nbytes, np.uint8)
    found: dict[str, Call] = {"copy (numpy)": lambda: np.copyto(out, source)}
    if threads == 1:
        return found
    if "torch" in libraries:
        torch = libraries["torch"].torch
        # As float32: torch moves bytes with another loop.
        kind = np.float32 if x.nbytes % 4 == 0 else np.uint8
        from_tensor = torch.from_numpy(source.view(kind))
        to_tensor = torch.empty_like(from_tensor)
        found["copy (torch)"] = lambda: to_tensor.copy_(from_tensor)
        return found
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    pairs = list(zip(np.array_split(source, threads), np.array_split(out, threads), strict=True))
    found["copy (threads)"] = lambda: list(
        pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs)
    )
    return found


def measure(workload, threads: int, libraries) -> dict[str, float]:
    """Best seconds by contestant: libraries by name, copies, and np.exp for a single call."""
    import numpy as np

    x = workload.input()
    contestants: dict[str, Call] = {}
    for name, library in libraries.items():
        try:
            call = library.prepare(workload.operation, x, workload.axis)
            call()
        except Exception as error:
            if not library.is_peer:
                raise
            # No such dtype or operation there: the cell stays empty.
            print(f"{name}: no {workload.name}: {str(error)[:100]}", file=sys.stderr)
            continue
        contestants[name] = call
    if workload.target(threads).numpy_exp:
        contestants["np.exp"] = lambda: np.exp(x)
        # The call as it is written, without out=: np.exp allocates its result too.
        function = getattr(libraries["swiftmax"].module, workload.operation)
        contestants["swiftmax"] = lambda: function(x)
    else:
        contestants.update(copies(x, threads, libraries))
    return race(contestants)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    options = parser.parse_args()
    threads = options.threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SWIFTMAX_NUM_THREADS"):
        os.environ[variable] = str(threads)

    from bench.peers import available
    from bench.workloads import registered

    libraries = available(threads)

    def tell(**line):
        print(json.dumps(line), flush=True)

    tell(versions={name: library.version for name, library in libraries.items()})
    for workload in registered(options.only):
        if threads in workload.threads:
            tell(begin=workload.name)
            tell(name=workload.name, seconds=measure(workload, threads, libraries))


if __name__ == "__main__":
    main()
