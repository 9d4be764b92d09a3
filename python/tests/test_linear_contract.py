"""Cross-entropy of a linear layer: the same bits in any company, memory, the GIL."""

import hashlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from linear_reference import RESULTS, everything, problem
from reference import DTYPES, assert_same_bits

import swiftmax as smx

# -- the same bits -----------------------------------------------------------------------------


def run_all(**options):
    """Every result of problems over two groups, three spans, the dtypes."""
    for n, dtype in enumerate(DTYPES):
        hidden, weight, bias, targets = problem(211, 18, 4200, dtype, 20 + n)
        for reduction in "mean", "none":
            yield from everything(hidden, weight, targets, bias=bias, label_smoothing=0.1,
                                  z_loss=1e-3, reduction=reduction, **options)


def digest(results):
    text = hashlib.sha256()
    for x in results:
        text.update(np.ascontiguousarray(x).tobytes())
    return text.hexdigest()


def test_threads():
    with smx.num_threads(1):
        expected = list(run_all())
    for count in 2, 3, 7:
        with smx.num_threads(count):
            for i, (x, y) in enumerate(zip(run_all(), expected, strict=True)):
                assert_same_bits(x, y, f"{count} threads, result {i}")


def test_instruction_sets():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_linear_contract import digest, run_all\n"
        "print(digest(run_all()))"
    )
    expected = digest(run_all())
    for isa in smx.show_config("dicts")["supported"]:
        run = subprocess.run(
            [sys.executable, "-c", code, os.path.dirname(__file__)],
            env={**os.environ, "SWIFTMAX_ISA": isa}, capture_output=True, text=True, check=False)
        assert run.stdout.strip() == expected, f"{isa}: {run.stdout}{run.stderr}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_token_alone(dtype):
    hidden, weight, bias, targets = problem(230, 18, 2100, dtype, 6)
    options = {"bias": bias, "label_smoothing": 0.1, "z_loss": 1e-3, "reduction": "none"}
    whole = everything(hidden, weight, targets, **options)
    for part in [slice(i, i + 1) for i in (0, 1, 47, 48, 191, 192, 229)] + [slice(5, 200)]:
        got = everything(hidden[part], weight, targets[part], **options)
        for name, x, y in zip(RESULTS[:3], got, whole, strict=False):
            assert_same_bits(x, y[part].copy(), f"{name} of {part}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_leading_axes_and_strides(dtype):
    hidden, weight, bias, targets = problem(60, 18, 210, dtype, 7)
    options = {"bias": bias, "reduction": "none"}
    expected = everything(hidden, weight, targets, **options)
    shaped = everything(hidden.reshape(3, 4, 5, 18), weight, targets.reshape(3, 4, 5), **options)
    spread = np.zeros((60, 40), dtype)[:, 3:39:2]
    spread[:] = hidden
    turned = np.ascontiguousarray(hidden.reshape(4, 15, 18).swapaxes(0, 1)).swapaxes(0, 1)
    backwards = np.ascontiguousarray(weight[::-1, ::-1])[::-1, ::-1]
    strided = everything(spread, backwards, targets.astype(np.int32), **options)
    copied = everything(turned, weight, targets.reshape(4, 15).astype("u2"), ignore_index=65436,
                        **options)
    for other in shaped, strided, copied:
        for name, x, y in zip(RESULTS, other, expected, strict=True):
            assert_same_bits(x.reshape(y.shape), y, name)
    assert [x.shape for x in shaped[:3]] == [(3, 4, 5), (3, 4, 5), (3, 4, 5, 18)]
    assert copied[2].shape == (4, 15, 18)


def test_one_token_without_leading_axes():
    hidden, weight, _, targets = problem(1, 8, 5, np.float32, 8)
    whole = everything(hidden, weight, targets, reduction="none")
    loss, lse, d_hidden, d_weight = everything(hidden[0], weight, targets[0], reduction="none")
    assert type(loss) is np.float32 and type(lse) is np.float32 and d_hidden.shape == (8,)
    for x, y in zip((loss, lse, d_hidden, d_weight), whole, strict=True):
        assert_same_bits(np.reshape(x, y.shape), y)


# -- the GIL and memory ------------------------------------------------------------------------


def test_the_gil_is_released():
    hidden, weight, _, targets = problem(400, 64, 5000)
    ticks, stop = [], threading.Event()

    def count():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        start = time.perf_counter()
        smx.linear_cross_entropy(hidden, weight, targets, return_grad=True)
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    # Within the middle half, where neither entering nor leaving gives the GIL away.
    quarter = (end - start) / 4
    assert any(start + quarter < t < end - quarter for t in ticks)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_logits_are_never_in_memory():
    # All logits are 128 MiB; a group of 192 tokens has 12.
    code = """
import numpy as np, swiftmax as smx
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) >> 10
smx.set_num_threads(2)
hidden, weight = np.ones((2048, 16), np.float32), np.ones((16384, 16), np.float32)
targets = np.arange(2048)
smx.linear_cross_entropy(hidden[:1], weight[:64], targets[:1], return_grad=True)
before = peak()
smx.linear_cross_entropy(hidden, weight, targets, return_grad=True)
print(peak() - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 8 <= int(run.stdout) < 32, f"{run.stdout} MiB"
