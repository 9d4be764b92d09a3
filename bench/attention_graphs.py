"""The peers that run graphs: onnxruntime and OpenVINO, with inputs and output bound beforehand."""

from __future__ import annotations

import numpy as np

from bench.attention_peers import Peer, Prepared, additive_mask, expanded, folded


def joined(x: np.ndarray) -> np.ndarray:
    """(batch, heads, length, D) as (batch, length, heads D)."""
    batch, heads, length, head = x.shape
    return np.ascontiguousarray(x.swapaxes(1, 2)).reshape(batch, length, heads * head)


class OnnxRuntime(Peer):
    """onnxruntime's operators for attention, as a graph of one node:

    MHA  com.microsoft MultiHeadAttention; key and value with heads outside for decode, as there a
         cache is kept, otherwise joined
    Att  ONNX Attention, opset 23
    GQA  com.microsoft GroupQueryAttention, the last key and value being those of this step
    """

    name = "onnxruntime"

    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.helper, self.runtime, self.threads = onnx.helper, onnxruntime, threads
        self.version = onnxruntime.__version__
        onnxruntime.set_default_logger_severity(4)

    def session(self, kind: str, domain: str, inputs: dict, outputs: dict, attributes: dict):
        """Inputs that are None are left out, and those behind them keep their places."""

        def values(arrays):
            element = self.helper.np_dtype_to_tensor_dtype
            make = self.helper.make_tensor_value_info
            given = {name: x for name, x in arrays.items() if x is not None}
            return [make(name, element(x.dtype), x.shape) for name, x in given.items()]

        names = [name if x is not None else "" for name, x in inputs.items()]
        node = self.helper.make_node(kind, names, list(outputs), domain=domain, **attributes)
        graph = self.helper.make_graph([node], "one", values(inputs), values(outputs))
        opsets = [self.helper.make_opsetid("", 23), self.helper.make_opsetid("com.microsoft", 1)]
        model = self.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        settings = self.runtime.SessionOptions()
        if self.threads:
            settings.intra_op_num_threads = self.threads
        providers = ["CPUExecutionProvider"]
        return self.runtime.InferenceSession(model.SerializeToString(), settings, providers)

    def prepare(self, kind, layers, inputs_of, out, result, domain="", reused=(), **attributes):
        """`inputs_of` makes a layer's inputs by name; `reused` pairs an output with the input whose
        memory it is."""
        ordinary = inputs_of(*layers[0])
        outputs = {"out": out, **{name: ordinary[source] for name, source in reused}}
        session = self.session(kind, domain, ordinary, outputs, attributes)
        from_numpy = self.runtime.OrtValue.ortvalue_from_numpy
        first = from_numpy(out)

        def call(layer, place):
            binding = session.io_binding()
            given = inputs_of(*layer)
            bound = {name: from_numpy(x) for name, x in given.items() if x is not None}
            for name, value in bound.items():
                binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output("out", place)
            for name, source in reused:
                binding.bind_ortvalue_output(name, bound[source])
            return lambda kept=(bound, place): session.run_with_iobinding(binding)

        calls = [call(layer, first) for layer in layers]

        def see():
            calls[0]()
            return result(first.numpy())

        return Prepared(calls, see)

    def variants(self, work, layers):
        # Memory of their own: onnxruntime wraps arrays, and `joined` copies only where it must.
        out = np.empty_like(layers[0][0])
        flat, microsoft = np.empty_like(joined(out)), "com.microsoft"

        def split(y):
            return y.reshape(work.batch, work.queries, work.heads, -1).swapaxes(1, 2)

        def mha():
            shown = np.arange(work.keys) >= work.padding
            padding = np.tile(shown.astype(np.int32), (work.batch, 1))
            mask = {"bias": None, "m": padding} if work.padding else {}

            def inputs(q, k, v):
                k, v = (k, v) if work.is_decode else (joined(k), joined(v))
                return {"q": joined(q), "k": k, "v": v, **mask}

            options = {"num_heads": work.heads, "unidirectional": int(work.causal)}
            kind, used = "MultiHeadAttention", expanded(layers) if work.is_grouped else layers
            return self.prepare(kind, used, inputs, flat, split, microsoft, **options)

        def attention():
            mask = {"m": work.visible(np.arange(work.queries))} if work.has_array else {}

            def inputs(q, k, v):
                return {"q": q, "k": k, "v": v, **mask}

            causal = int(work.causal)
            return self.prepare("Attention", layers, inputs, out, np.copy, is_causal=causal)

        def grouped():
            lengths = {
                "before": np.full(work.batch, work.keys - 1, np.int32),
                "total": np.array(work.keys, np.int32),
            }

            def inputs(q, k, v):
                step = {"q": joined(q), "k": joined(k[:, :, -1:]), "v": joined(v[:, :, -1:])}
                return {**step, "past_k": k, "past_v": v, **lengths}

            options = {"num_heads": work.heads, "kv_num_heads": work.key_heads}
            kind, reused = "GroupQueryAttention", (("all_k", "past_k"), ("all_v", "past_v"))
            return self.prepare(kind, layers, inputs, flat, split, microsoft, reused, **options)

        if work.window:
            return {"Att": attention}
        has_step = work.is_decode and not work.padding
        return {"MHA": mha, "Att": attention, **({"GQA": grouped} if has_step else {})}


class OpenVino(Peer):
    """OpenVINO's ScaledDotProductAttention on shared memory, in the precision of the workload."""

    name = "openvino"

    def __init__(self, threads):
        import openvino
        from openvino import opset13

        self.openvino, self.opset, self.threads = openvino, opset13, threads
        self.version = openvino.__version__.partition("-")[0]
        self.core = openvino.Core()

    def tensor(self, x: np.ndarray):
        if x.dtype.name == "bfloat16":
            return self.openvino.Tensor(x.view(np.uint16), x.shape, self.openvino.Type.bf16)
        return self.openvino.Tensor(x, shared_memory=True)

    def compiled(self, work, shapes):
        narrow = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[work.dtype]
        element = getattr(self.openvino.Type, narrow)
        inputs = [self.opset.parameter(shape, element) for shape in shapes]
        node = self.opset.scaled_dot_product_attention(*inputs, causal=work.causal)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": narrow}
        if self.threads:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        model = self.openvino.Model([node], inputs)
        return self.core.compile_model(model, "CPU", settings)

    def variants(self, work, layers):
        def make(layers, dynamic: bool) -> Prepared:
            masks = [additive_mask(work).astype(layers[0][0].dtype)] if work.has_array else []
            arrays = [[*layer, *masks] for layer in layers]
            shapes = [[-1] * 4 if dynamic else list(x.shape) for x in arrays[0]]
            model = self.compiled(work, shapes)
            out = np.empty_like(layers[0][0])

            def call(arrays):
                request = model.create_infer_request()
                for place, x in enumerate(arrays):
                    request.set_input_tensor(place, self.tensor(x))
                request.set_output_tensor(0, self.tensor(out))
                # The tensors do not own their memory: the call keeps the arrays alive.
                return lambda kept=(arrays, out): request.infer()

            calls = [call(each) for each in arrays]

            def see():
                calls[0]()
                return out

            return Prepared(calls, see)

        if not work.is_decode:
            return {"": lambda: make(layers, False)}
        # Shapes left open lead to a kernel meant for decoding, which is mostly the faster.
        step = folded(layers) if work.is_grouped else layers
        return {"fixed": lambda: make(step, False), "open": lambda: make(step, True)}
