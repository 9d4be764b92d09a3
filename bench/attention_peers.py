"""The libraries that attention is compared with, each behind one method.

`variants` gives the ways to have a workload done by a library, by name ("" where there is only
one); the fastest counts. Each is a function that makes everything that can be made beforehand
(conversion, layout, compilation, output) for every (query, key, value) of `layers` and returns the
calls to time. It raises where the library has no such operation or dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.attention import Attention

Layers = list[tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Prepared:
    """One call for each layer, and how to see what the first of them computes: any shape with the
    elements in the order (batch, heads, queries, D)."""

    calls: list[Callable[[], Any]]
    result: Callable[[], np.ndarray]


Variants = dict[str, Callable[[], Prepared]]


class Peer:
    """One library. Constructing it imports it and sets its threads; ImportError if it is absent."""

    name = ""
    is_peer = True
    version = ""

    def __init__(self, threads: int | None) -> None:
        raise NotImplementedError

    def variants(self, work: Attention, layers: Layers) -> Variants:
        raise NotImplementedError


def folded(layers: Layers) -> Layers:
    """Grouped heads as queries: the (batch, heads, 1, D) of a decode step seen as
    (batch, key heads, group, D), which any attention computes without expanding K and V."""
    return [
        (q.reshape(k.shape[0], k.shape[1], q.shape[1] // k.shape[1], q.shape[3]), k, v)
        for q, k, v in layers
    ]


def expanded(layers: Layers) -> Layers:
    """Keys and values repeated for every query head."""
    group = layers[0][0].shape[1] // layers[0][1].shape[1]
    return [(q, np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)) for q, k, v in layers]


def additive_mask(work: Attention) -> np.ndarray:
    """0 where a key is seen, -inf where not: a boolean would be turned into this in every call."""
    visible = work.visible(np.arange(work.queries))
    return np.where(visible, np.float32(0), np.float32(-np.inf))[None, None]


class Swiftmax(Peer):
    """This library, with its output preallocated, but for the single call: as it is written."""

    name = "swiftmax"
    is_peer = False

    def __init__(self, threads):
        import swiftmax

        self.attention, self.version = swiftmax.attention, swiftmax.__version__
        if threads:
            swiftmax.set_num_threads(threads)

    def variants(self, work, layers):
        given = {"causal": work.causal, "window": work.window, "precision": work.precision}
        usual = {"causal": False, "window": None, "precision": "exact"}
        options = {name: value for name, value in given.items() if value != usual[name]}
        if work.padding:
            options["mask"] = np.arange(work.keys) >= work.padding
        has_call = any(goal.kind == "call" for goal in work.goals)
        attention = self.attention

        def make() -> Prepared:
            def call(q, k, v):
                if has_call:
                    return lambda: attention(q, k, v)
                out = np.empty_like(q)
                return lambda: attention(q, k, v, out=out, **options)

            calls = [call(*layer) for layer in layers]
            return Prepared(calls, calls[0])

        return {"": make}


class Torch(Peer):
    """torch's scaled_dot_product_attention in inference mode."""

    name = "torch"

    def __init__(self, threads):
        import torch

        self.torch, self.version = torch, torch.__version__
        if threads:
            torch.set_num_threads(threads)

    def tensor(self, x: np.ndarray):
        if x.dtype.name == "bfloat16":
            return self.torch.from_numpy(x.view(np.uint16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(x)

    def variants(self, work, layers):
        def make(layers: Layers, **options) -> Prepared:
            if work.has_array:
                mask = self.torch.from_numpy(additive_mask(work))
                options["attn_mask"] = mask.to(self.tensor(layers[0][0]).dtype)
            elif work.causal:
                options["is_causal"] = True
            # The mode costs 1 µs to enter; left on, it is not part of the timed call.
            self.torch.autograd.grad_mode._enter_inference_mode(True)
            function = self.torch.nn.functional.scaled_dot_product_attention

            def call(q, k, v):
                q, k, v = self.tensor(q), self.tensor(k), self.tensor(v)
                return lambda: function(q, k, v, **options)

            calls = [call(*layer) for layer in layers]
            return Prepared(calls, lambda: calls[0]().float().numpy())

        if not work.is_grouped:
            return {"": lambda: make(layers)}
        return {
            "gqa": lambda: make(layers, enable_gqa=True),
            "expanded": lambda: make(expanded(layers)),
            "folded": lambda: make(folded(layers)),
        }


class Jax(Peer):
    """JAX compiled for the shape: its own function, and the formula in einsum, mostly the faster.
    Its threads follow from the CPUs that the process may use."""

    name = "jax"

    def __init__(self, threads):
        import jax

        self.jax, self.version = jax, jax.__version__
        jax.config.update("jax_platforms", "cpu")

    def prepare(self, function, layers: Layers, result) -> Prepared:
        shapes = [self.jax.ShapeDtypeStruct(x.shape, x.dtype) for x in layers[0]]
        compiled = self.jax.jit(function).lower(*shapes).compile()

        def call(*arrays):
            arrays = [self.jax.device_put(x) for x in arrays]
            return lambda: compiled(*arrays).block_until_ready()

        calls = [call(*layer) for layer in layers]
        return Prepared(calls, lambda: result(np.asarray(calls[0]())))

    def variants(self, work, layers):
        jax, numpy = self.jax, self.jax.numpy

        def own(q, k, v):
            options = {"is_causal": work.causal, "local_window_size": work.window}
            if work.padding:
                options["mask"] = (numpy.arange(work.keys) >= work.padding)[None, None, None]
            return jax.nn.dot_product_attention(q, k, v, **options)

        def einsum(q, k, v):
            batch, key_heads, _, head = k.shape
            q = q.reshape(batch, key_heads, -1, work.queries, head)
            scores = numpy.einsum("bhgqd,bhkd->bhgqk", q, k) * head**-0.5
            if not work.sees_all:
                query, key = numpy.arange(work.queries)[:, None], numpy.arange(work.keys)
                left, right = work.window or (work.keys, 0 if work.causal else work.keys)
                visible = (key >= query - left) & (key <= query + right)
                seen = visible & (key >= work.padding)
                scores = numpy.where(seen, scores, -numpy.inf)
            return numpy.einsum("bhgqk,bhkd->bhgqd", jax.nn.softmax(scores), v)

        def swapped() -> Layers:
            return [tuple(np.ascontiguousarray(x.swapaxes(1, 2)) for x in q) for q in layers]

        return {
            "": lambda: self.prepare(own, swapped(), lambda x: x.swapaxes(1, 2)),
            "einsum": lambda: self.prepare(einsum, layers, lambda x: x),
        }


def available(threads: int | None = None, with_peers: bool = True) -> dict[str, Peer]:
    """Those that can be imported, in order. swiftmax itself must be there."""
    from bench.attention_graphs import OnnxRuntime, OpenVino

    found: dict[str, Peer] = {Swiftmax.name: Swiftmax(threads)}
    for peer in (Torch, Jax, OnnxRuntime, OpenVino) if with_peers else ():
        try:
            found[peer.name] = peer(threads)
        except ImportError:
            continue
    return found
