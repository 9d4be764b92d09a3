#!/usr/bin/env python3
"""Checks the golden cases through ctypes and NumPy: calls as a user of NumPy makes them.

Usage: check_golden.py LIBRARY [--data FOLDER]
"""

import argparse
import ctypes
import os
import sys

import numpy as np
from golden_cases import fnv1a, make_options, make_structure, make_x, read_case, read_lines

CODES = {"bool": 1, "i32": 2, "i64": 3, "f16": 16, "bf16": 17, "f32": 18, "f64": 19}
OPERATIONS = {
    "softmax": "smx_softmax",
    "log_softmax": "smx_log_softmax",
    "logsumexp": "smx_logsumexp",
}


# -- calls -----------------------------------------------------------------------------------------


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("dtype", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
    ]  # fmt: skip

    @classmethod
    def of(cls, array, dtype):
        shape, strides = ((ctypes.c_int64 * array.ndim)(*t) for t in (array.shape, array.strides))
        return cls(array.ctypes.data, CODES[dtype], array.ndim, shape, strides)


P = ctypes.POINTER(Tensor)


class Mask(ctypes.Structure):
    pass


Mask._fields_ = [
    ("size", ctypes.c_size_t), ("also", ctypes.POINTER(Mask)),
    ("causal", ctypes.c_int32), ("window", ctypes.c_int32),
    ("window_left", ctypes.c_int64), ("window_right", ctypes.c_int64),
    ("query_offset", P), ("key_lengths", P), ("query_lengths", P),
    ("query_segments", P), ("key_segments", P),
]  # fmt: skip

HEAD = [
    ("size", ctypes.c_size_t), ("axes", ctypes.POINTER(ctypes.c_int32)),
    ("axis_count", ctypes.c_int32), ("all_axes", ctypes.c_int32),
]  # fmt: skip


class SoftmaxOptions(ctypes.Structure):
    _fields_ = HEAD + [
        ("temperature", P),
        ("mask", P),
        ("bias", P),
        ("structure", ctypes.POINTER(Mask)),
    ]


class LogSumExpOptions(ctypes.Structure):
    _fields_ = HEAD + [
        ("weights", P), ("mask", P), ("bias", P), ("structure", ctypes.POINTER(Mask)), ("sign", P),
    ]  # fmt: skip


def linked(conditions):
    """The conditions of a structure as structs, the first of them; None for none."""
    following = None
    for condition in reversed(conditions):
        mask = Mask(ctypes.sizeof(Mask))
        for name, value in condition.items():
            is_array = isinstance(value, np.ndarray)
            setattr(mask, name, ctypes.pointer(Tensor.of(value, "i32")) if is_array else value)
        mask.also = following
        following = ctypes.pointer(mask)
    return following


def call(library, case, x, out, made, conditions, axes):
    kind = LogSumExpOptions if case.operation == "logsumexp" else SoftmaxOptions
    options = kind(ctypes.sizeof(kind), (ctypes.c_int32 * len(axes))(*axes), len(axes))
    for name, (array, dtype) in made.items():
        setattr(options, name, ctypes.pointer(Tensor.of(array, dtype)))
    options.structure = linked(conditions)
    function = getattr(library, OPERATIONS[case.operation])
    status = function(
        ctypes.byref(Tensor.of(x, case.dtype)),
        ctypes.byref(Tensor.of(out, case.dtype)),
        ctypes.byref(options),
    )
    if status:
        raise RuntimeError(library.smx_last_error().decode())


# -- variations ------------------------------------------------------------------------------------


def spread(a):
    wide = np.zeros(a.shape[:-1] + (2 * a.shape[-1],), a.dtype)
    view = wide[..., ::2]
    view[...] = a
    return view


def backwards(a):
    every = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[every])[every]


def unaligned(a):
    view = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 1), 1)
    view[...] = a
    return view


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "first axis fastest": np.asfortranarray,
    "every second element": spread,
    "backwards": backwards,
    "byte offset 1": unaligned,
}


def outputs(library, case):
    """(name of the variation, out) for each way to call."""
    x, made, conditions = make_x(case), make_options(case), list(make_structure(case))
    shape = tuple(1 if i in case.axes else n for i, n in enumerate(x.shape))
    is_sum = case.operation == "logsumexp"
    for threads in (1, 2, 3, 7):
        library.smx_set_num_threads(threads)
        for name, lay in LAYOUTS.items():
            moved = {k: (lay(a), dtype) for k, (a, dtype) in made.items()}
            xs = lay(x.copy())
            out = lay(np.zeros(shape if is_sum else x.shape, x.dtype))
            call(library, case, xs, out, moved, conditions, case.axes)
            yield f"{name}, threads {threads}", out
            if not is_sum:
                call(library, case, xs, xs, moved, conditions, case.axes)
                yield f"{name}, in place, threads {threads}", xs
    if not conditions:
        # The reduced axes first; they and the kept ones keep their order.
        kept = [i for i in range(x.ndim) if i not in case.axes]
        order = sorted(case.axes) + kept
        out = np.zeros(shape if is_sum else x.shape, x.dtype)
        moved = {k: (a.transpose(order), dtype) for k, (a, dtype) in made.items()}
        call(
            library,
            case,
            x.transpose(order),
            out.transpose(order),
            moved,
            [],
            range(len(case.axes)),
        )
        yield "reduced axes first, threads 7", out


def show(first, out):
    """Where two results part, both in hexadecimal."""
    a, b = (np.ascontiguousarray(v).view(f"u{v.itemsize}").ravel() for v in (first, out))
    differing = np.flatnonzero(a != b)
    if not differing.size:
        return "equal to the first result"
    i = differing[0]
    return f"first differing index {i} of {a.size}: {hex(b[i])}, the first result has {hex(a[i])}"


def check(library, case, expected):
    """Yields a sentence for each variation, empty where all is well."""
    first = known = None
    for name, out in outputs(library, case):
        data = np.ascontiguousarray(out).tobytes()
        # The hash is slow in Python: once for each case, then the bytes themselves.
        if first is None:
            first, known = out.copy(), data
            value, line = fnv1a(data), expected.get(case.name, 0)
            wrong = f"hash {value:#018x}, expected {line:#018x}" if value != line else ""
        else:
            wrong = show(first, out) if data != known else ""
        yield f"{case.name}, {name}, seed {case.seed}: {wrong}" if wrong else ""


def read(folder):
    lines = read_lines(f"{folder}/expected.txt")
    expected = {words[0]: int(words[1], 16) for words in lines}
    return [read_case(words) for words in read_lines(f"{folder}/cases.txt")], expected


def run(usage, title, read, check):
    """A check's command line: the cases of a folder, and a tally at the end."""
    parser = argparse.ArgumentParser(description=usage.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--data", default=os.path.dirname(os.path.abspath(__file__)))
    arguments = parser.parse_args()
    library = ctypes.CDLL(os.path.abspath(arguments.library))
    library.smx_last_error.restype = ctypes.c_char_p
    name = ctypes.c_char_p()
    if library.smx_isa(ctypes.byref(name)):
        sys.exit(library.smx_last_error().decode())
    isa = name.value.decode()
    cases, expected = read(arguments.data)
    passed = failed = 0
    for case in cases:
        for wrong in check(library, case, expected):
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if wrong:
                print(f"FAILED isa {isa}, {wrong}")
    total = passed + failed
    print(f"{title}, isa {isa}: {len(cases)} cases, {total} equalities checked")
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed != 0)


if __name__ == "__main__":
    run(__doc__, "golden in Python", read, check)
