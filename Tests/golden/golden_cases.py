"""The golden cases and their operands, from the specification in README.md alone.

Written anew, not bound to the C program, so that the two do not share a mistake.
"""

from dataclasses import dataclass, field

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
OF_X, OF_MASK, OF_BIAS, OF_WEIGHTS, OF_STRUCTURE, OF_PLACE = range(6)
BITS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
# bfloat16 is kept as uint16.
TYPES = {
    "bool": "?",
    "i32": "<i4",
    "i64": "<i8",
    "f16": "<f2",
    "bf16": "<u2",
    "f32": "<f4",
    "f64": "<f8",
}


# -- the generator ---------------------------------------------------------------------------------


def stream(seed, which, index):
    """Number `index` (an array) of a case's stream `which`: SplitMix64."""
    with np.errstate(over="ignore"):
        z = (
            np.uint64(seed)
            + np.uint64(which << 32)
            + (np.asarray(index, np.uint64) + np.uint64(1)) * GOLDEN
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def signed_bits(z, bits):
    return (z >> np.uint64(64 - bits)).astype(np.int64) - (1 << (bits - 1))


def uniform(dtype, e, z):
    return np.ldexp(signed_bits(z, BITS[dtype]).astype(float), e - BITS[dtype] + 1)


def around(dtype, center, e, z):
    bits = BITS[dtype]
    return 2.0**center + np.ldexp(
        signed_bits(z, bits - center + e).astype(float), center - bits + 1
    )


def stored(values, dtype):
    """float64 values as elements of a dtype that holds them exactly."""
    if dtype != "bf16":
        return values.astype(TYPES[dtype])
    bits = (values.astype("<f4").view("<u4") >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), bits)


@dataclass
class Case:
    name: str
    operation: str
    dtype: str
    shape: tuple
    axes: tuple
    values: str
    seed: int
    options: dict = field(default_factory=dict)


def read_lines(path):
    with open(path, encoding="ascii") as file:
        for line in file:
            words = line.split("#")[0].split()
            if words:
                yield words


def read_case(words):
    name, operation, dtype, shape, axes, values, seed, *options = words
    shape = tuple(map(int, shape.split("x")))
    every = range(len(shape))
    axes = every if axes == "all" else [int(axis) % len(shape) for axis in axes.split(",")]
    options = dict(option.split("=") for option in options)
    return Case(name, operation, dtype, shape, tuple(axes), values, int(seed), options)


def make_x(case):
    count, cols = int(np.prod(case.shape)), case.shape[-1]
    row, col = np.divmod(np.arange(count), cols)
    z = stream(case.seed, OF_X, np.arange(count))
    base, *more = case.values.split("+")
    if base == "ties":
        x = (z >> np.uint64(62)).astype(float) - 1
    elif "@" in base:
        e, center = map(int, base[1:].split("@"))
        x = around(case.dtype, center, e, z)
    else:
        x = uniform(case.dtype, int(base[1:]), z)
    place = col == (stream(case.seed, OF_PLACE, row) % np.uint64(cols)).astype(np.int64)
    for peak in (word for word in more if word.startswith("peak")):
        x[place] = 2.0 ** int(peak[4:])
    if "ninf" in more:
        x[(row % 5 == 3) | (z & np.uint64(7) == 0)] = -np.inf
    if "nan" in more:
        x[place & (row % 5 == 1)] = np.nan
    if "inf" in more:
        x[place & (row % 5 == 2)] = np.inf
    return stored(x, case.dtype).reshape(case.shape)


def make_options(case):
    """The operands beside x, each with its dtype's name."""
    made, cols = {}, case.shape[-1]
    one_row = (1,) * (len(case.shape) - 1) + (cols,)

    def draw(which, kind):
        shape = one_row if kind == "cols" else case.shape
        index = np.arange(int(np.prod(shape)))
        return shape, index // cols, stream(case.seed, which, index)

    if kind := case.options.get("mask"):
        shape, row, z = draw(OF_MASK, kind)
        visible = z >> np.uint64(62) != 0
        if kind == "rows":
            visible &= row % 3 != 1
        made["mask"] = visible.reshape(shape), "bool"
    if kind := case.options.get("bias"):
        shape, row, z = draw(OF_BIAS, kind)
        dtype = "f32" if kind == "f32" else case.dtype
        bias = uniform(dtype, 1, z)
        if kind == "closed":
            bias[(z & np.uint64(7) == 0) | (row % 4 == 1)] = -np.inf
        made["bias"] = stored(bias, dtype).reshape(shape), dtype
    if kind := case.options.get("weights"):
        shape, _, z = draw(OF_WEIGHTS, kind)
        weights = uniform(case.dtype, 1, z)
        weights = np.abs(weights) if kind == "positive" else weights
        made["weights"] = stored(weights, case.dtype).reshape(shape), case.dtype
    if kind := case.options.get("temperature"):
        kept = tuple(1 if i in case.axes or kind != "rows" else n for i, n in enumerate(case.shape))
        of_rows = np.resize([0, 0.5, 1, 2, np.inf, 3], int(np.prod(kept)))
        numbers = of_rows if kind == "rows" else np.array([float(kind)])
        made["temperature"] = numbers.reshape(kept), "f64"
    return made


def make_structure(case):
    """The conditions of a structure, as fields of smx_mask."""
    queries, keys = case.shape[-2:] if len(case.shape) > 1 else (1, 1)
    leading = case.shape[:1] if len(case.shape) > 2 else ()
    entries = np.arange(int(np.prod(leading)))
    for text in case.options.get("structure", "").split("&"):
        word, *numbers = text.split(":")
        if word == "causal":
            made = {"causal": 1}
            if numbers == ["batch"]:
                offset = (stream(case.seed, OF_STRUCTURE, entries) % np.uint64(7)).astype("<i4") - 3
                made["query_offset"] = offset.astype("<i4").reshape(leading)
            elif numbers:
                made["query_offset"] = np.array(int(numbers[0]), "<i4")
            yield made
        elif word == "window":
            yield {"window": 1, "window_left": int(numbers[0]), "window_right": int(numbers[1])}
        elif word in ("lengths", "qlengths"):
            of_keys = word == "lengths"
            z = stream(case.seed, OF_STRUCTURE, entries + (0 if of_keys else 100))
            lengths = (
                (z % np.uint64((keys if of_keys else queries) + 1)).astype("<i4").reshape(leading)
            )
            yield {"key_lengths" if of_keys else "query_lengths": lengths}
        elif word == "segments":
            yield {
                "query_segments": (3 * np.arange(queries) // queries).astype("<i4"),
                "key_segments": (3 * np.arange(keys) // keys).astype("<i4"),
            }


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value
