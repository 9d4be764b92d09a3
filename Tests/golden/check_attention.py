#!/usr/bin/env python3
"""Checks the golden cases of attention through ctypes and NumPy.

Usage: check_attention.py LIBRARY [--data FOLDER]
"""

import ctypes

import numpy as np
from attention_cases import (
    RESULTS,
    make_attention_structure,
    make_others,
    make_tensors,
    read_attention_case,
)
from check_golden import LAYOUTS, Mask, P, Tensor, linked, run, show
from golden_cases import TYPES, fnv1a, read_lines


class AttentionOptions(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t), ("layout", ctypes.c_int32), ("precision", ctypes.c_int32),
        ("has_scale", ctypes.c_int32), ("scale", ctypes.c_double), ("softcap", ctypes.c_double),
        ("mask", P), ("bias", P), ("structure", ctypes.POINTER(Mask)), ("alibi_slopes", P),
        ("sinks", P), ("past_key", P), ("past_value", P), ("block_table", P),
        ("query_starts", P), ("key_starts", P), ("lse", P), ("weights", P),
        ("workspace", ctypes.c_void_p), ("workspace_size", ctypes.c_size_t),
    ]  # fmt: skip


def call(library, case, tensors, results, others, structure, is_blhd=False):
    options = AttentionOptions(ctypes.sizeof(AttentionOptions), int(is_blhd))
    options.has_scale = "scale" in case.options
    options.scale = float(case.options.get("scale", 0))
    options.softcap = float(case.options.get("softcap", 0))
    given = dict(others, lse=(results[1], case.single), weights=(results[2], case.scores.dtype))
    for name, (array, dtype) in given.items():
        setattr(options, name, ctypes.pointer(Tensor.of(array, dtype)))
    options.structure = linked(structure)
    given = [ctypes.byref(Tensor.of(x, case.scores.dtype)) for x in (*tensors, results[0])]
    if library.smx_attention(*given, ctypes.byref(options)):
        raise RuntimeError(library.smx_last_error().decode())


def outputs(library, case):
    """(name of the variation, [out, lse, weights]) for each way to call."""
    tensors, others = make_tensors(case), make_others(case)
    structure = make_attention_structure(case)
    shape, dtype = case.scores.shape, TYPES[case.scores.dtype]

    def results(lay):
        return [
            lay(np.zeros((*shape[:3], case.value_size), dtype)),
            lay(np.zeros(shape[:3], TYPES[case.single])),
            lay(np.zeros(shape, dtype)),
        ]

    for threads in (1, 2, 3, 7):
        library.smx_set_num_threads(threads)
        for name, lay in LAYOUTS.items():
            found = results(lay)
            moved = {k: (lay(a), kind) for k, (a, kind) in others.items()}
            call(library, case, [lay(x) for x in tensors], found, moved, structure)
            yield f"{name}, threads {threads}", found
        # The same memory seen as BLHD, and memory that is BLHD.
        found = results(np.ascontiguousarray)
        turned = [x.swapaxes(1, 2) for x in tensors]
        seen = [found[0].swapaxes(1, 2), *found[1:]]
        call(library, case, turned, seen, others, structure, is_blhd=True)
        yield f"BLHD, strided, threads {threads}", found
        found = results(np.ascontiguousarray)
        out = np.zeros((shape[0], shape[2], shape[1], case.value_size), dtype)
        turned = [np.ascontiguousarray(x) for x in turned]
        call(library, case, turned, [out, *found[1:]], others, structure, is_blhd=True)
        yield f"BLHD, threads {threads}", [out.swapaxes(1, 2), *found[1:]]


def check(library, case, expected):
    """Yields a sentence for each result of each variation, empty where all is well."""
    first = known = None
    for name, found in outputs(library, case):
        data = [np.ascontiguousarray(x).tobytes() for x in found]
        if first is None:
            first, known = [x.copy() for x in found], data
            hashes = [fnv1a(x) for x in data]
            of_lines = [expected.get(f"{case.name}.{result}", 0) for result in RESULTS]
            wrong = [
                f"hash {value:#018x}, expected {line:#018x}" if value != line else ""
                for value, line in zip(hashes, of_lines, strict=True)
            ]
        else:
            wrong = [
                show(x, y) if a != b else ""
                for x, y, a, b in zip(first, found, known, data, strict=True)
            ]
        for result, sentence in zip(RESULTS, wrong, strict=True):
            where = f"{case.name}, {result} of {name}, seed {case.scores.seed}"
            yield f"{where}: {sentence}" if sentence else ""


def read(folder):
    lines = read_lines(f"{folder}/attention_expected.txt")
    expected = {words[0]: int(words[1], 16) for words in lines}
    cases = [read_attention_case(w) for w in read_lines(f"{folder}/attention_cases.txt")]
    return cases, expected


if __name__ == "__main__":
    run(__doc__, "golden attention in Python", read, check)
