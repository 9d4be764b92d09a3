"""The libraries that are compared, each behind the same two methods.

`evaluate` is for accuracy: an array in, an array out. `prepare` is for speed: everything that can
be done once is done there (conversion, preallocated output, compilation), and the call it returns
does the operation alone. Both raise when the library has no such operation or dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

Call = Callable[[], Any]
OPERATIONS = ("softmax", "log_softmax", "logsumexp")


class Library:
    """One library. Constructing it imports it and sets its threads; ImportError if it is absent."""

    name = ""
    is_peer = True

    def __init__(self, threads: int | None) -> None:
        raise NotImplementedError

    @property
    def version(self) -> str:
        raise NotImplementedError

    def evaluate(self, operation: str, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def prepare(self, operation: str, x: np.ndarray, axis: int) -> Call:
        raise NotImplementedError


class Swiftmax(Library):
    """This library, with its output preallocated."""

    name = "swiftmax"
    is_peer = False

    def __init__(self, threads):
        import swiftmax

        self.module = swiftmax
        if threads:
            swiftmax.set_num_threads(threads)

    @property
    def version(self):
        return self.module.__version__

    def evaluate(self, operation, x, temperature=1.0):
        options = {} if temperature == 1.0 else {"temperature": temperature}
        return getattr(self.module, operation)(x, **options)

    def prepare(self, operation, x, axis):
        function = getattr(self.module, operation)
        out = np.empty_like(x)
        return lambda: function(x, axis, out=out)


class Torch(Library):
    """torch in inference mode, with out=."""

    name = "torch"

    def __init__(self, threads):
        import torch

        self.torch = torch
        if threads:
            torch.set_num_threads(threads)

    @property
    def version(self):
        return self.torch.__version__

    def tensor(self, x: np.ndarray):
        if x.dtype.name == "bfloat16":
            return self.torch.from_numpy(x.view(np.uint16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(x)

    def evaluate(self, operation, x):
        with self.torch.inference_mode():
            return getattr(self.torch, operation)(self.tensor(x), -1).numpy()

    def prepare(self, operation, x, axis):
        torch, tensor = self.torch, self.tensor(x)
        out = torch.empty_like(tensor)
        function = getattr(torch, operation)

        def call():
            # The mode is part of the timed call for want of a global one; it costs 1 µs.
            function(tensor, axis, out=out)

        torch.autograd.grad_mode._enter_inference_mode(True)
        return call


class Jax(Library):
    """JAX compiled for the shape. Its threads follow from the CPUs that the process may use."""

    name = "jax"

    def __init__(self, threads):
        import jax

        self.jax = jax
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_platforms", "cpu")
        functions = (jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp)
        self.compiled = {
            name: jax.jit(function, static_argnames="axis")
            for name, function in zip(OPERATIONS, functions, strict=True)
        }

    @property
    def version(self):
        return self.jax.__version__

    def evaluate(self, operation, x):
        return np.asarray(self.compiled[operation](x, axis=-1))

    def prepare(self, operation, x, axis):
        array = self.jax.device_put(x)
        compiled = self.compiled[operation].lower(array, axis=axis).compile()
        return lambda: compiled(array).block_until_ready()


class OnnxRuntime(Library):
    """onnxruntime with input and output bound, so that nothing is copied or allocated."""

    name = "onnxruntime"
    types: ClassVar = {
        "Softmax": "softmax",
        "LogSoftmax": "log_softmax",
        "ReduceLogSumExp": "logsumexp",
    }

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.runtime, self.threads = onnx, onnxruntime, threads
        onnxruntime.set_default_logger_severity(4)
        self.sessions: dict[tuple, Any] = {}

    @property
    def version(self):
        return self.runtime.__version__

    def session(self, operation: str, dtype: np.dtype, rank: int, axis: int):
        key = (operation, dtype.name, rank, axis)
        if key in self.sessions:
            return self.sessions[key]
        helper = self.onnx.helper
        element = helper.np_dtype_to_tensor_dtype(dtype)
        kind = next(k for k, v in self.types.items() if v == operation)
        reduces = operation == "logsumexp"
        options = {"axes": [axis], "keepdims": 0} if reduces else {"axis": axis}
        names = [f"d{k}" for k in range(rank)]
        graph = helper.make_graph(
            [helper.make_node(kind, ["x"], ["y"], **options)],
            "one",
            [helper.make_tensor_value_info("x", element, names)],
            [helper.make_tensor_value_info("y", element, names[:-1] if reduces else names)],
        )
        # Opset 13: the last in which ReduceLogSumExp has its axes as an attribute is 17.
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        settings = self.runtime.SessionOptions()
        if self.threads:
            settings.intra_op_num_threads = self.threads
        self.sessions[key] = self.runtime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
        return self.sessions[key]

    def evaluate(self, operation, x):
        return self.session(operation, x.dtype, x.ndim, x.ndim - 1).run(None, {"x": x})[0]

    def prepare(self, operation, x, axis):
        session = self.session(operation, x.dtype, x.ndim, axis % x.ndim)
        binding = session.io_binding()
        source = self.runtime.OrtValue.ortvalue_from_numpy(x)
        out = self.runtime.OrtValue.ortvalue_from_numpy(np.empty_like(x))
        binding.bind_ortvalue_input("x", source)
        binding.bind_ortvalue_output("y", out)
        return lambda: session.run_with_iobinding(binding)


class Scipy(Library):
    """scipy.special, which has neither out= nor threads."""

    name = "scipy"

    def __init__(self, threads):
        import scipy
        import scipy.special

        self.scipy = scipy

    @property
    def version(self):
        return self.scipy.__version__

    def evaluate(self, operation, x):
        return getattr(self.scipy.special, operation)(x, axis=-1)

    def prepare(self, operation, x, axis):
        function = getattr(self.scipy.special, operation)
        return lambda: function(x, axis=axis)


ALL: tuple[type[Library], ...] = (Swiftmax, Torch, Jax, OnnxRuntime, Scipy)


def available(threads: int | None = None, only: set[str] | None = None) -> dict[str, Library]:
    """Those that can be imported, in order. swiftmax itself must be there."""
    found: dict[str, Library] = {}
    for library in ALL:
        if only and library.name not in only and library.is_peer:
            continue
        try:
            found[library.name] = library(threads)
        except ImportError:
            if not library.is_peer:
                raise
    return found
