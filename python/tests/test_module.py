"""The module itself: what a call goes through, signatures, docs, stubs, pickling, GIL, leaks."""

import ast
import contextlib
import doctest
import gc
import inspect
import os
import pickle
import sys
import threading
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
from reference import BF16, assert_same_bits, sample

import swiftmax as smx
from swiftmax import _core, _docs, _docs_attention

FOLDER = Path(smx.__file__).parent
SIGNATURES = {
    "softmax": "(x, axis=-1, *, temperature=1.0, mask=None, bias=None, out=None)",
    "log_softmax": "(x, axis=-1, *, temperature=1.0, mask=None, bias=None, out=None)",
    "logsumexp": "(x, axis=-1, *, b=None, mask=None, bias=None, keepdims=False, "
    "return_sign=False, out=None)",
    "attention": "(query, key, value, *, mask=None, bias=None, causal=False, query_offset=None, "
    "window=None, key_lengths=None, query_lengths=None, segment_ids=None, alibi_slopes=None, "
    "scale=None, softcap=None, sinks=None, past_key=None, past_value=None, block_table=None, "
    "query_starts=None, key_starts=None, layout='BHLD', precision='exact', out=None, "
    "return_lse=False, return_weights=False)",
    "merge_attention": "(out_a, lse_a, out_b, lse_b, *, layout='BHLD', out=None)",
    "set_num_threads": "(n, /)",
    "get_num_threads": "()",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    function = getattr(smx, name)
    assert isinstance(function, types.BuiltinFunctionType)
    assert str(inspect.signature(function)) == SIGNATURES[name]
    assert function is getattr(_core, name)


@pytest.mark.parametrize("prepare", [lambda x: x, np.asfortranarray], ids=["plain", "strided"])
def test_no_python_frame_for_arrays(function, prepare):
    x, frames = prepare(sample((4, 5))), []
    mask, out = np.ones((4, 5), bool), np.empty(4 if function is smx.logsumexp else (4, 5), "f4")
    sys.setprofile(lambda frame, event, _: frames.append(frame) if event == "call" else None)
    try:
        function(x)
        function(x, axis=-1, mask=mask, bias=x, out=out)
    finally:
        sys.setprofile(None)
    assert not frames


@pytest.mark.parametrize("layout", ["BHLD", "BLHD"])
def test_no_python_frame_for_arrays_of_attention(layout):
    x, starts, frames = sample((4, 4, 5)), np.array([0, 2, 4]), []
    mask, out, table = np.ones((4, 4), bool), np.empty_like(x), np.int32([[0, 1]])
    sys.setprofile(lambda frame, event, _: frames.append(frame) if event == "call" else None)
    try:
        smx.attention(x, x, x)
        smx.attention(x, x, x, causal=True, mask=mask, bias=x[:, :, :4], layout=layout, out=out)
        smx.attention(x, x, x, layout=layout, query_starts=starts, key_starts=starts)
        smx.attention(x[None, :2], x[:, None], x[:, None], block_table=table)
        smx.merge_attention(x, x[:, :, 0], x, x[:, :, 1], layout=layout, out=out)
    finally:
        sys.setprofile(None)
    assert not frames


def _is_name(name):
    """Whether a name is public; __version__ is."""
    return name == "__version__" or not name.startswith("_")


def test_public_names():
    assert sorted(smx.__all__) == smx.__all__
    assert all(getattr(smx, name).__doc__ for name in smx.__all__)
    public = {n for n, v in vars(smx).items() if _is_name(n) and not inspect.ismodule(v)}
    assert public == set(smx.__all__)


def test_public_names_of_the_stub():
    names = set()
    for node in ast.parse((FOLDER / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("swiftmax."):
            names.update(alias.asname or alias.name for alias in node.names)
    assert {n for n in names if _is_name(n)} == set(smx.__all__)


FUNCTIONS = [n for n in smx.__all__ if inspect.isroutine(getattr(smx, n))]
# What there is nothing to say about.
WITHOUT = {
    "get_num_threads": {"Parameters", "Notes"},
    "set_num_threads": {"Returns"},
    "show_config": {"Notes"},
}


def _has_parameter(text, name):
    """Whether a line such as "p, q : array_like" has the name."""
    lines = (line.partition(" : ") for line in text.splitlines())
    return any(colon and name in names.split(", ") for names, colon, _ in lines)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring_has_its_sections(name):
    text = inspect.getdoc(getattr(smx, name))
    sections = {"Parameters", "Returns", "Raises", "Notes", "Examples"}
    for section in sections - WITHOUT.get(name, set()):
        assert f"\n{section}\n{'-' * len(section)}\n" in text, section
    for parameter in inspect.signature(getattr(smx, name)).parameters:
        assert _has_parameter(text, parameter), parameter
    if name != "set_num_threads":
        assert "\nRuntimeError\n" in text


@pytest.mark.parametrize("name", ["causal", "window", "lengths", "segments", "to_array"])
def test_docstring_of_a_mask_has_its_parameters(name):
    text = inspect.getdoc(getattr(smx.Mask, name))
    for parameter in list(inspect.signature(getattr(smx.Mask, name)).parameters):
        assert parameter == "self" or _has_parameter(text, parameter), parameter


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="scalars print otherwise")
@pytest.mark.parametrize("name", smx.__all__)
def test_examples(name):
    found = doctest.DocTestFinder(recurse=False).find(getattr(smx, name), name, globs={})
    for test in found:
        assert doctest.DocTestRunner().run(test).failed == 0


def _parameters(node):
    a = node.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs) if p.arg not in ("self", "cls")]


def test_stubs_agree():
    assert (FOLDER / "py.typed").exists()
    stub = ast.parse((FOLDER / "_core.pyi").read_text())
    named = {n.name: _parameters(n) for n in stub.body if isinstance(n, ast.FunctionDef)}
    for name in _docs.TEXTS | _docs_attention.TEXTS:
        assert named[name] == list(inspect.signature(getattr(smx, name)).parameters)
    defined = {n for n, v in vars(_core).items() if isinstance(v, types.BuiltinFunctionType)}
    assert defined == set(named)
    # Each overload has all of them; `named` has seen the last.
    for node in stub.body:
        assert not isinstance(node, ast.FunctionDef) or _parameters(node) == named[node.name]
    stub = ast.parse((FOLDER / "_mask.pyi").read_text())
    mask = next(n for n in stub.body if isinstance(n, ast.ClassDef) and n.name == "Mask")
    for method in mask.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            real = list(inspect.signature(getattr(smx.Mask, method.name)).parameters)
            assert _parameters(method) == [p for p in real if p != "self"]
    exported = ast.parse((FOLDER / "__init__.pyi").read_text())
    names = next(n.value for n in exported.body if isinstance(n, ast.Assign))
    assert ast.literal_eval(names) == smx.__all__


def test_show_config(capsys):
    config = smx.show_config("dicts")
    assert config["version"] == smx.__version__
    assert config["isa"] in config["supported"]
    assert config["threads"] == smx.get_num_threads()
    assert Path(config["library"]).name == "libswiftmax.so.0"
    # The package uses the library beside it, whatever else is installed.
    assert Path(config["library"]).parent.samefile(FOLDER)
    assert smx.show_config() is None
    printed = capsys.readouterr().out
    assert all(key in printed for key in config) and config["library"] in printed
    with pytest.raises(ValueError, match="mode"):
        smx.show_config("xml")


MASKS = [
    smx.Mask(),
    smx.Mask.causal(),
    smx.Mask.causal(np.array([1, -1])),
    smx.Mask.window(1, None, 2),
    smx.Mask.lengths(np.array([[2], [5]]), 3),
    smx.Mask.segments([0, 0, 1, 1], [0, 1, 1, 0, 0]),
    smx.Mask.causal() & np.array([True, False, True, True, True]),
]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_masks_are_pickled(mask):
    again = pickle.loads(pickle.dumps(mask))
    assert repr(again) == repr(mask)
    x = sample((2, 1, 4, 5), seed=1)
    assert_same_bits(smx.softmax(x, mask=again), smx.softmax(x, mask=mask), "seed 1")
    assert (again.to_array(4, 5) == mask.to_array(4, 5)).all()


def test_masks_do_not_change_behind_ones_back():
    offset = np.array([0, 1])
    mask = smx.Mask.causal(offset)
    before = mask.to_array(3, 3)
    offset[:] = 7
    assert (mask.to_array(3, 3) == before).all()
    joined = mask & smx.Mask.lengths(1)
    assert (mask.to_array(3, 3) == before).all() and not (joined.to_array(3, 3) == before).all()


def test_functions_are_pickled():
    assert pickle.loads(pickle.dumps(smx.softmax)) is smx.softmax


@pytest.mark.parametrize("size, releases", [(16_000_000, True), (1_000, False)])
@pytest.mark.parametrize("plain", [True, False])
def test_gil_is_released_above_a_size(size, releases, plain):
    x = np.zeros(size, np.float32)
    work = (lambda: smx.softmax(x)) if plain else (lambda: smx.softmax(x, temperature=2.0))
    assert lets_others_run(work) == releases


@pytest.mark.parametrize("rows, releases", [(2_000, True), (5, False)])
@pytest.mark.parametrize("name", ["plain", "general", "packed", "merge", "gradient"])
def test_gil_is_released_above_a_size_of_attention(rows, releases, name):
    x, lse = np.zeros((1, rows, 64), np.float32), np.zeros((1, rows), np.float32)
    starts = np.array([0, rows])
    work = {
        "plain": lambda: smx.attention(x, x, x),
        "general": lambda: smx.attention(x, x, x, scale=1.0),
        "packed": lambda: smx.attention(x, x, x, query_starts=starts, key_starts=starts),
        "merge": lambda: [smx.merge_attention(x, lse, x, lse) for _ in range(50)],
        "gradient": lambda: smx.attention_vjp(x, x, x, x, x, lse),
    }[name]
    assert lets_others_run(work) == releases


def lets_others_run(work):
    ran, gate = [], threading.Lock()
    interval = sys.getswitchinterval()
    gate.acquire()

    def other():
        gate.acquire()
        ran.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        # Nobody is asked to give the GIL up now: `other` runs only if the call itself lets it.
        sys.setswitchinterval(1000)
        gate.release()
        # A call of milliseconds on a busy machine may be over before `other` is scheduled.
        for _ in range(20):
            work()
            if ran:
                break
        has_run = bool(ran)
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    return has_run


_X = sample((3, 5))
_OUT = np.zeros((3, 5), np.float32)
_RULES = smx.Mask.causal() & smx.Mask.lengths(3)
_QKV = dict.fromkeys(["query", "key", "value"], sample((2, 4, 5)))
_STARTS = dict.fromkeys(["query_starts", "key_starts"], np.array([1, 3, 4]))
_VJP = {**_QKV, "d_out": _QKV["query"], "out": _QKV["query"], "lse": _QKV["query"][..., 0]}
_MERGED = {"out_a": _X, "out_b": _X, "lse_a": _X[:, 0], "lse_b": _X[:, 1]}
LEAKS = [
    {},
    {"axis": None, "bias": _X, "out": _OUT},
    {"axis": (0, 1), "mask": np.ones((3, 5), bool)},
    {"mask": _RULES},
    {"mask": [[True]], "bias": 1.5},
    {"x": _X.astype(BF16)},
    {"x": _X.astype(">f4")},
    {"x": [1, 2]},
    {"x": _OUT[:, :4], "out": _OUT[:, 1:5]},
    {"x": "abc"},
    {"axis": 9},
    {"axis": "a"},
    {"mask": _X},
    {"mask": smx.Mask.lengths(99)},
    {"bias": "a"},
    {"out": 3},
    {"out": _X[0]},
    {"no": 1},
]


@pytest.mark.parametrize(
    "keywords",
    [
        *[(smx.softmax, k) for k in LEAKS],
        (smx.softmax, {"temperature": [[1.0], [2.0], [3.0]]}),
        (smx.softmax, {"temperature": -1.0}),
        (smx.logsumexp, {"b": _X, "return_sign": True}),
        (smx.logsumexp, {"b": _X[:2]}),
        (smx.logsumexp, {"keepdims": True, "mask": _RULES}),
        (smx.logsumexp, {"keepdims": True, "out": _X[0]}),
        (smx.attention, {**_QKV}),
        (smx.attention, {**_QKV, **_STARTS, "causal": True, "return_lse": True}),
        (smx.attention, {**_QKV, **_STARTS, "key_lengths": [1, 2], "out": _QKV["query"].copy()}),
        (smx.attention, {**_QKV, "query_starts": [0, 4], "key_starts": [1, 2]}),
        (smx.attention, {**_QKV, "query_starts": [0, 4]}),
        (smx.attention, {**_QKV, **_STARTS, "return_weights": True}),
        (smx.attention, {**_QKV, "query_starts": [4, 0], "key_starts": ["a"]}),
        (smx.attention_vjp, {**_VJP, "bias": np.ones(4, "f4"), "return_d_bias": True}),
        (
            smx.attention_vjp,
            {**_VJP, "sinks": [1, 2], "return_d_sinks": True, "key_lengths": [1, 2]},
        ),
        (smx.attention_vjp, {**_VJP, "lse": [1, 2], "mask": _RULES}),
        (smx.attention_vjp, {**_VJP, "return_d_bias": True}),
        (smx.merge_attention, {**_MERGED}),
        (smx.merge_attention, {**_MERGED, "lse_a": [1, 2, 3], "out": _OUT}),
        (smx.merge_attention, {**_MERGED, "lse_b": [1, 2]}),
        (smx.merge_attention, {**_MERGED, "lse_b": None}),
    ],
    ids=lambda k: f"{k[0].__name__} {' '.join(k[1]) or 'plain'}",
)
def test_no_leaks(keywords):
    function, keywords = keywords
    if "attention" not in function.__name__:
        keywords = {"x": _X, **keywords}
    calls = 200

    def work():
        for _ in range(calls):
            with contextlib.suppress(TypeError, ValueError):
                function(**keywords)

    # Small integers and None are shared with all the rest of the process.
    arrays = [v for v in keywords.values() if isinstance(v, np.ndarray)]
    # Nor is what other tests' exceptions still hold counted.
    gc.collect()
    counts = [sys.getrefcount(a) for a in arrays]
    work()
    growths = []
    # What other tests hold is not looked through again each time.
    gc.collect()
    gc.freeze()
    tracemalloc.start()
    try:
        # Caches fill at first; a leak grows every time.
        for _ in range(4):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            work()
            gc.collect()
            growths.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert [sys.getrefcount(a) for a in arrays] == counts
    # The smallest object has more than 16 bytes.
    assert min(growths) < 16 * calls, growths


def test_ml_dtypes_is_not_imported():
    program = "import sys, swiftmax; assert 'ml_dtypes' not in sys.modules"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", program]) == 0
