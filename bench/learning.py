"""Gradients, losses, sampling, options: `python -m bench.learning`, part of `make bench`.

Against torch, two threads, float32. Each contestant gets its best case: torch in eager mode with
gradients by autograd, or its own backward operator where it has one in public; swiftmax with out=
and preallocated results. Limits: copies and reads of the same array, and fused multiply-adds as
many as a gradient has, all in turn with what they limit.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from bench.limits import multiplier, reader
from bench.lines import Line
from bench.options import options

THREADS = 2


def cross_entropy(race, np, smx, torch, limits) -> list[Line]:
    found = []
    for rows, classes in ((2048, 32000), (64, 131072)):
        generator = np.random.default_rng(0)
        x = generator.standard_normal((rows, classes), np.float32)
        y = generator.integers(0, classes, rows)
        out = np.empty_like(x)
        calls: dict[str, Callable] = {
            "copy": lambda x=x, out=out: np.copyto(out, x),
            "swiftmax": lambda x=x, y=y, out=out: smx.cross_entropy(
                x, y, out=out, return_grad=True
            ),
            "swiftmax forward": lambda x=x, y=y: smx.cross_entropy(x, y),
            "swiftmax logsumexp": lambda x=x: smx.logsumexp(x),
        }
        if limits.read:
            calls["read"] = reader(x, THREADS)
        if torch:
            logits = torch.from_numpy(x).requires_grad_()
            targets = torch.from_numpy(y)
            copied, source = torch.from_numpy(out), torch.from_numpy(x)
            calls["copy"] = lambda a=copied, b=source: a.copy_(b)

            def both(logits=logits, targets=targets):
                logits.grad = None
                torch.nn.functional.cross_entropy(logits, targets).backward()

            calls["torch"] = both
        seconds = race(calls)
        line = Line(f"C1 cross-entropy and gradient {rows}×{classes}", seconds)
        if torch:
            line.at_least("times torch", 8, line.times("torch"))
        line.at_most("of copy", 1.6, line.share("copy"))
        second = Line(f"C2 forward, logsumexp {rows}×{classes}", seconds)
        if limits.read:
            for own in ("forward", "logsumexp"):
                second.at_most(f"{own}, of read", 1.2, second.share("read", f"swiftmax {own}"))
        found += [line, second]
    return found


def few_classes(race, np, smx, torch, limits) -> list[Line]:
    """Where a row costs more than its elements; nothing is asked of these."""
    found = []
    for rows, classes in ((60000, 10), (16384, 21), (4096, 128), (1024, 1000)):
        generator = np.random.default_rng(0)
        x = generator.standard_normal((rows, classes), np.float32)
        y = generator.integers(0, classes, rows)
        out = np.empty_like(x)
        alone: dict[str, Callable] = {"swiftmax": lambda x=x, y=y: smx.cross_entropy(x, y)}
        both: dict[str, Callable] = {
            "swiftmax": lambda x=x, y=y, out=out: smx.cross_entropy(x, y, out=out, return_grad=True)
        }
        if torch:
            function = torch.nn.functional.cross_entropy
            a, b = torch.from_numpy(x), torch.from_numpy(y)
            alone["torch"] = lambda f=function, a=a, b=b: f(a, b)
            logits = torch.from_numpy(x.copy()).requires_grad_()

            def backward(f=function, logits=logits, b=b):
                logits.grad = None
                f(logits, b).backward()

            both["torch"] = backward
        found.append(Line(f"cross-entropy {rows}×{classes}", race(alone)))
        found.append(Line(f"cross-entropy and gradient {rows}×{classes}", race(both)))
    return found


def images(race, np, smx, torch, limits) -> list[Line]:
    """Classes in the middle, (images, classes, places); nothing is asked of these."""
    found = []
    for shape in ((8, 21, 16384), (8, 150, 4096)):
        generator = np.random.default_rng(0)
        x = generator.standard_normal(shape, np.float32)
        y = generator.integers(0, shape[1], (shape[0], shape[2]))
        p = smx.softmax(x, 1)
        out = np.empty_like(x)
        calls: dict[str, dict[str, Callable]] = {
            "cross-entropy": {"swiftmax": lambda x=x, y=y: smx.cross_entropy(x, y, axis=1)},
            "cross-entropy and gradient": {
                "swiftmax": lambda x=x, y=y, out=out: smx.cross_entropy(
                    x, y, axis=1, out=out, return_grad=True
                )
            },
            "softmax_vjp": {
                "swiftmax": lambda x=x, p=p, out=out: smx.softmax_vjp(p, x, axis=1, out=out)
            },
        }
        if torch:
            function = torch.nn.functional.cross_entropy
            a, b, c = (torch.from_numpy(v) for v in (x, y, p))
            calls["cross-entropy"]["torch"] = lambda f=function, a=a, b=b: f(a, b)
            logits = torch.from_numpy(x.copy()).requires_grad_()

            def backward(f=function, logits=logits, b=b):
                logits.grad = None
                f(logits, b).backward()

            calls["cross-entropy and gradient"]["torch"] = backward
            operator = torch.ops.aten._softmax_backward_data
            calls["softmax_vjp"]["torch"] = lambda f=operator, a=a, c=c: f(a, c, 1, torch.float32)
        name = "×".join(map(str, shape))
        found += [Line(f"{what} {name} axis 1", race(them)) for what, them in calls.items()]
    return found


def row_gradients(race, np, smx, torch, limits) -> list[Line]:
    found = []
    for rows, columns in ((512, 1024), (2048, 32000)):
        generator = np.random.default_rng(0)
        x = generator.standard_normal((rows, columns), np.float32)
        dy = generator.standard_normal((rows, columns), np.float32)
        out = np.empty_like(x)
        for name in ("softmax", "log_softmax"):
            y = getattr(smx, name)(x)
            vjp = getattr(smx, f"{name}_vjp")
            calls = {"swiftmax": lambda vjp=vjp, y=y, dy=dy, out=out: vjp(y, dy, out=out)}
            if torch:
                operator = getattr(torch.ops.aten, f"_{name}_backward_data")
                a, b = torch.from_numpy(dy), torch.from_numpy(y)
                calls["torch"] = lambda f=operator, a=a, b=b: f(a, b, -1, torch.float32)
                copied = torch.from_numpy(out)
                calls["copy"] = lambda a=copied, b=b: a.copy_(b)
            seconds = race(calls)
            line = Line(f"C3 {name}_vjp {rows}×{columns}", seconds)
            if torch:
                line.at_least("times torch", 1, line.times("torch"))
                if columns > 10000:
                    # Two arrays read, one written; a copy moves two.
                    of_copy = line.share("copy")
                    line.at_most("of 3/2 copy", 1.2, lambda f=of_copy: f() / 1.5)
            found.append(line)
    return found


def attention(race, np, smx, torch, limits) -> list[Line]:
    found = []
    for heads, length, size in ((8, 1024, 64), (8, 2048, 128)):
        for causal in (False, True):
            generator = np.random.default_rng(0)
            q, k, v, d_out = (
                generator.standard_normal((1, heads, length, size), np.float32) for _ in range(4)
            )
            out, lse = smx.attention(q, k, v, causal=causal, return_lse=True)
            calls = {
                "swiftmax": lambda a=(d_out, q, k, v, out, lse), c=causal: smx.attention_vjp(
                    *a, causal=c
                )
            }
            if torch:
                tensors = [torch.from_numpy(t).requires_grad_() for t in (q, k, v)]
                result = torch.nn.functional.scaled_dot_product_attention(
                    *tensors, is_causal=causal
                )
                given = torch.from_numpy(d_out)
                calls["torch"] = lambda r=result, t=tensors, g=given: torch.autograd.grad(
                    r, t, g, retain_graph=True
                )
            pairs = length * (length + 1) / 2 if causal else length * length
            operations = 10 * heads * pairs * size
            if limits.fma:
                calls["fma"] = multiplier(operations, limits.width(None), THREADS)
            seconds = race(calls, slow=0.2)
            line = Line(
                f"C4 attention_vjp H{heads} L{length} D{size}{' causal' if causal else ''}",
                seconds,
                operations=operations,
            )
            if limits.fma:
                share = line.times("fma")
                line.at_least("of the FMA peak", 0.52 if causal else 0.60, share)
            if torch:
                line.at_least("times torch", 2.5, line.times("torch"))
            found.append(line)
    return found


def linear(race, np, smx, torch, limits) -> list[Line]:
    tokens, width, classes = 1024, 768, 32000
    generator = np.random.default_rng(0)
    h = generator.standard_normal((tokens, width), np.float32)
    w = 0.03 * generator.standard_normal((classes, width), np.float32)
    y = generator.integers(0, classes, tokens)

    def two_steps():
        logits = h @ w.T
        loss, gradient = smx.cross_entropy(logits, y, out=logits, return_grad=True)
        return loss, gradient @ w, gradient.T @ h

    calls = {
        "swiftmax": lambda: smx.linear_cross_entropy(h, w, y, return_grad=True),
        "numpy": two_steps,
    }
    if torch:
        a, b = (torch.from_numpy(t).requires_grad_() for t in (h, w))
        targets = torch.from_numpy(y)

        def step():
            a.grad = b.grad = None
            torch.nn.functional.cross_entropy(torch.nn.functional.linear(a, b), targets).backward()

        calls["torch"] = step
    seconds = race(calls)
    line = Line(
        f"C6 linear_cross_entropy {tokens}×{width}×{classes}", seconds, 6 * tokens * width * classes
    )
    peer = min(s for n, s in seconds.items() if n != "swiftmax")
    line.at_most("of the fastest peer", 1, lambda: seconds["swiftmax"] / peer)
    return [line]


def sampling(race, np, smx, torch, limits) -> list[Line]:
    rows, classes = 64, 128000
    x = np.random.default_rng(0).standard_normal((rows, classes), np.float32) * 3
    calls = {"swiftmax": lambda: smx.sample(x, temperature=0.8, top_k=50, top_p=0.9, seed=1)}
    if torch:
        logits = torch.from_numpy(x)

        def draw():
            p = torch.softmax(logits / 0.8, -1)
            best, places = torch.topk(p, 50)
            best[(best.cumsum(-1) - best) / best.sum(-1, keepdim=True) > 0.9] = 0
            return places.gather(1, torch.multinomial(best, 1))

        calls["torch"] = draw
    seconds = race(calls)
    line = Line(f"C7 sample {rows}×{classes}, top-k 50, top-p 0.9", seconds)
    if torch:
        line.at_least("times torch", 5, line.times("torch"))
    return [line, nucleus(race, np, smx, torch)]


def nucleus(race, np, smx, torch) -> Line:
    """top_p alone, of logits near one another: nothing is asked."""
    rows, classes = 1024, 1000
    x = np.random.default_rng(0).standard_normal((rows, classes), np.float32)
    calls = {"swiftmax": lambda: smx.sample(x, top_p=0.9, seed=1)}
    if torch:
        logits = torch.from_numpy(x)

        def draw():
            p, places = torch.sort(torch.softmax(logits, -1), -1, descending=True)
            p[p.cumsum(-1) - p > 0.9] = 0
            return places.gather(1, torch.multinomial(p, 1))

        calls["torch"] = draw
    return Line(f"sample {rows}×{classes}, top-p 0.9", race(calls))


def errors(np, smx, torch) -> list[tuple[str, float, float]]:
    """(name, own, torch's) largest error, relative to the largest gradient (line C8)."""
    from bench.learning_reference import attention_gradients, row_gradients

    return row_gradients(np, smx, torch) + attention_gradients(np, smx, torch)


PARTS = {
    "cross-entropy": cross_entropy,
    "few classes": few_classes,
    "images": images,
    "rows": row_gradients,
    "attention": attention,
    "linear": linear,
    "sampling": sampling,
    "options": options,
}


def show(console, lines: list[Line], limits) -> None:
    from rich.table import Table

    made = Table(
        title=f"float32, {THREADS} threads; {limits}", title_justify="left", header_style="bold"
    )
    for name in ("workload", "milliseconds", "GFLOP/s", "asked"):
        made.add_column(name)
    for line in lines:
        times = ", ".join(f"{n} {s * 1e3:.3g}" for n, s in line.seconds.items())
        rate = f"{line.operations / line.seconds['swiftmax'] * 1e-9:.0f}" if line.operations else ""
        goals = "\n".join(map(str, line.goals))
        made.add_row(line.name, times, rate, goals)
    console.print(made)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SWIFTMAX_NUM_THREADS"):
        os.environ[variable] = str(THREADS)
    import numpy as np
    import swiftmax as smx
    from rich.console import Console

    from bench import limits as machine
    from bench.measure import race

    try:
        import torch

        torch.set_num_threads(THREADS)
    except ImportError:
        torch = None
        print("bench: torch is not installed, its column is empty", file=sys.stderr)
    limits = machine.Limits()
    can_measure = machine.build()
    lines = []
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            if can_measure:
                for _ in range(3):
                    limits.include(machine.run(THREADS))
            lines += part(race, np, smx, torch, limits)
    console = Console(width=None if sys.stdout.isatty() else 190)
    show(console, lines, limits)
    if torch and arguments.only is None:
        for name, own, peer in errors(np, smx, torch):
            verdict = "met" if own <= peer else "missed"
            console.print(f"C8 {name}: {own:.3g}, torch {peer:.3g}: {verdict}", highlight=False)


if __name__ == "__main__":
    main()
