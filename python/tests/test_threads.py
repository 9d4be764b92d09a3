"""Many Python threads at once, numbers of threads, and fork."""

import multiprocessing
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from reference import assert_same_bits, bits, sample

import swiftmax as smx

# Rows shared among threads, chunks of a row shared among threads, and one thread.
SHAPES = [(600, 300), (1, 200_000), (3, 90_000), (5, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_for_every_number_of_threads(function, shape):
    x = sample(shape, seed=1)
    with smx.num_threads(1):
        expected = function(x)
    for n in 2, 3, 7:
        with smx.num_threads(n):
            assert_same_bits(function(x), expected, f"seed 1, {n} threads")


@pytest.mark.parametrize("shape", [(1000, 8), (1000, 15), (2, 600, 9)], ids=str)
def test_more_threads_than_rows_side_by_side(function, shape):
    x = sample(shape, seed=4)
    with smx.num_threads(1):
        expected = function(x, axis=-2)
    for n in 9, 16, 17, 256:
        with smx.num_threads(n):
            assert_same_bits(function(x, axis=-2), expected, f"seed 4, {n} threads")


@pytest.mark.parametrize("n", [40_000, 65_537, 1 << 20])
def test_same_bits_of_long_float64_rows(function, n):
    """Terms of very different size: partial sums whose high parts are 0 once met."""
    x = np.random.default_rng(n).standard_normal((1, n)) * 80
    results = []
    for threads in 1, 2, 3:
        with smx.num_threads(threads):
            results.append(np.array(function(x)))
    assert_same_bits(results[1], results[0], "2 threads")
    assert_same_bits(results[2], results[0], "3 threads")


def test_same_bits_while_small_calls_follow_closely(function):
    """After a few calls of this size the workers are woken and take part."""
    x = sample((64, 128), seed=2)
    with smx.num_threads(1):
        expected = np.array(function(x))
    with smx.num_threads(3):
        for call in range(300):
            assert_same_bits(function(x), expected, f"call {call}")


def test_many_python_threads_at_once(function):
    inputs = [sample(shape, seed=seed) for seed, shape in enumerate(SHAPES * 4)]
    expected = [np.array(function(x)) for x in inputs]

    def work(i):
        with smx.num_threads(1 + i % 3):
            return function(inputs[i % len(inputs)])

    with ThreadPoolExecutor(8) as pool:
        for i, result in enumerate(pool.map(work, range(96))):
            assert_same_bits(result, expected[i % len(inputs)], f"call {i}")


def test_num_threads_is_of_this_thread_and_block():
    outside = smx.get_num_threads()
    seen = []
    with smx.num_threads(outside + 3) as block:
        other = threading.Thread(target=lambda: seen.append(smx.get_num_threads()))
        other.start()
        other.join()
        assert smx.get_num_threads() == outside + 3
        with smx.num_threads(1):
            assert smx.get_num_threads() == 1
            with block:
                assert smx.get_num_threads() == outside + 3
            assert smx.get_num_threads() == 1
        assert smx.get_num_threads() == outside + 3
    assert seen == [outside] and smx.get_num_threads() == outside
    with pytest.raises(ZeroDivisionError), smx.num_threads(5):
        raise ZeroDivisionError
    assert smx.get_num_threads() == outside


def test_set_num_threads_is_of_the_process():
    before, seen = smx.get_num_threads(), []
    try:
        smx.set_num_threads(5)
        other = threading.Thread(target=lambda: seen.append(smx.get_num_threads()))
        other.start()
        other.join()
        assert seen == [5] and smx.get_num_threads() == 5
    finally:
        smx.set_num_threads(before)


def _child(x):
    """The bits as bytes: what another process should find."""
    return bits(smx.softmax(x)).tobytes()


def test_fork_in_a_loop():
    x = sample((600, 300), seed=2)
    expected = _child(x)  # workers are up before the fork
    for _ in range(5):
        with warnings.catch_warnings():
            # Of 3.12 on: that the process has several threads. It has none of ours.
            warnings.simplefilter("error")
            pid = os.fork()
        if pid == 0:
            os._exit(0 if _child(x) == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert _child(x) == expected


def test_fork_in_a_fork():
    x = sample((600, 300), seed=3)
    expected = _child(x)
    pid = os.fork()
    if pid == 0:
        good = _child(x) == expected
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if _child(x) == expected else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1])
        os._exit(0 if good and status == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_multiprocessing_fork():
    inputs = [sample((600, 300), seed=seed) for seed in range(6)]
    expected = [_child(x) for x in inputs]
    with warnings.catch_warnings():
        # multiprocessing's own thread, in 3.12 on.
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(_child, inputs) == expected
