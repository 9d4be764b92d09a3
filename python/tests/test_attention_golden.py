"""The golden vectors of attention through the package: cases, operands and bits of Tests/golden."""

import sys
from pathlib import Path

import numpy as np
import pytest
from reference import BF16, assert_same_bits

import swiftmax as smx

FOLDER = Path(__file__).parents[2] / "Tests" / "golden"
sys.path.append(str(FOLDER))

import attention_cases as golden  # noqa: E402
from golden_cases import fnv1a, read_lines  # noqa: E402

CASES = [golden.read_attention_case(w) for w in read_lines(FOLDER / "attention_cases.txt")]
EXPECTED = {w[0]: int(w[1], 16) for w in read_lines(FOLDER / "attention_expected.txt")}
RESULTS = {"return_lse": True, "return_weights": True}


def typed(array, dtype):
    """bfloat16 comes as its 16 bits."""
    return array.view(BF16) if dtype == "bf16" else array


def operands(case):
    """(query, key, value), options without the structure."""
    tensors = [typed(x, case.scores.dtype) for x in golden.make_tensors(case)]
    made = golden.make_others(case)
    options = {name: typed(array, dtype) for name, (array, dtype) in made.items()}
    numbers = {n: float(case.options[n]) for n in ("scale", "softcap") if n in case.options}
    return tensors, options | numbers


def keywords(case):
    """The structure as keywords of attention."""
    found = {}
    for condition in golden.make_attention_structure(case):
        names = set(condition)
        assert not (names & set(found)), f"{case.name}: keywords say each condition once"
        if "window" in names:
            found["window"] = condition["window_left"], condition["window_right"]
        if "query_segments" in names:
            found["segment_ids"] = condition["query_segments"], condition["key_segments"]
        if "causal" in names:
            found["causal"] = True
        for name in names & {"query_offset", "key_lengths", "query_lengths"}:
            found[name] = condition[name]
    return found


def mask_of(case):
    """The same as a Mask, the boolean mask joined to it."""
    mask = smx.Mask()
    for condition in golden.make_attention_structure(case):
        if "causal" in condition:
            mask &= smx.Mask.causal(condition.get("query_offset"))
        elif "window" in condition:
            mask &= smx.Mask.window(condition["window_left"], condition["window_right"])
        elif "query_segments" in condition:
            mask &= smx.Mask.segments(condition["query_segments"], condition["key_segments"])
        else:
            keys = condition.get("key_lengths", case.scores.shape[3])
            mask &= smx.Mask.lengths(keys, condition.get("query_lengths"))
    return mask


def calls(case):
    """(what is said in a message, out, lse, weights) for ways to say the same call."""
    tensors, options = operands(case)
    given = options | keywords(case)
    with smx.num_threads(1):
        yield "keywords", *smx.attention(*tensors, **given, **RESULTS)
    with smx.num_threads(3):
        joined = options | {"mask": mask_of(case)}
        if "mask" in options:
            joined["mask"] &= options["mask"]
        yield "a Mask, 3 threads", *smx.attention(*tensors, **joined, **RESULTS)
    turned = [x.swapaxes(1, 2) for x in tensors]
    out, *others = smx.attention(*turned, **given, **RESULTS, layout="BLHD")
    yield "BLHD", out.swapaxes(1, 2), *others
    lse, weights = others
    with smx.num_threads(7):
        out = np.zeros((*case.scores.shape[:3], 2 * case.value_size), tensors[0].dtype)[..., ::2]
        assert smx.attention(*map(np.asfortranarray, tensors), **given, out=out) is out
        yield "Fortran order, out given, 7 threads", out, lse, weights


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bits(case):
    first = None
    for name, *results in calls(case):
        assert results[1].dtype == (np.float64 if case.single == "f64" else np.float32)
        if first is None:
            first = results
            for result, x in zip(golden.RESULTS, results, strict=True):
                line = f"{case.name}.{result}"
                found = fnv1a(np.ascontiguousarray(x).tobytes())
                isa = smx.show_config("dicts")["isa"]
                assert hex(found) == hex(EXPECTED[line]), f"{line}, isa {isa}"
        for result, x, y in zip(golden.RESULTS, results, first, strict=True):
            assert_same_bits(x, y, f"{result} of {case.name}, {name}, seed {case.scores.seed}")


def test_every_line_is_expected():
    lines = {f"{case.name}.{result}" for case in CASES for result in golden.RESULTS}
    assert lines == set(EXPECTED)
