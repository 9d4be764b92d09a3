from types import TracebackType
from typing import Any, Literal, NamedTuple, SupportsFloat, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swiftmax._attention_vjp import attention_vjp as attention_vjp
from swiftmax._core import (
    __version__,
    attention,
    get_num_threads,
    log_softmax,
    logsumexp,
    merge_attention,
    set_num_threads,
    softmax,
)
from swiftmax._gradients import (
    log_softmax_vjp,
    logsumexp_vjp,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from swiftmax._linear import linear_cross_entropy
from swiftmax._mask import Mask as Mask
from swiftmax._sampling import filtered_softmax, gumbel_softmax, sample, top_k

__all__ = [
    "Mask",
    "ReliabilityDiagram",
    "TemperatureFit",
    "__version__",
    "additive_attention",
    "attention",
    "attention_vjp",
    "calibration_error",
    "cross_entropy",
    "entropy",
    "filtered_softmax",
    "fit_temperature",
    "get_num_threads",
    "gumbel_softmax",
    "kl_divergence",
    "linear_cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "merge_attention",
    "nll_from_log_probs",
    "num_threads",
    "perplexity",
    "plackett_luce_log_prob",
    "sample",
    "sequence_log_prob",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "top_k",
]

class num_threads:  # noqa: N801
    def __init__(self, n: SupportsIndex) -> None: ...
    def __enter__(self) -> num_threads: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...

_Reduction = Literal["mean", "sum", "none"]

# The loss, or with return_lse or return_grad a tuple of two or three.
def cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    temperature: SupportsFloat = 1.0,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: SupportsFloat = 0.0,
    z_loss: SupportsFloat = 0.0,
    reduction: _Reduction = "mean",
    mask: ArrayLike | None = None,
    grad_scale: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    return_lse: bool = False,
    return_grad: bool = False,
) -> Any: ...
def nll_from_log_probs(
    log_probs: ArrayLike,
    targets: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: SupportsFloat = 0.0,
    reduction: _Reduction = "mean",
) -> Any: ...
def perplexity(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: SupportsIndex = -1,
    temperature: SupportsFloat = 1.0,
    weight: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    mask: ArrayLike | None = None,
) -> Any: ...
def entropy(
    p: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    axis: SupportsIndex = -1,
) -> Any: ...
def kl_divergence(
    p: ArrayLike | None = None,
    q: ArrayLike | None = None,
    *,
    p_logits: ArrayLike | None = None,
    q_logits: ArrayLike | None = None,
    axis: SupportsIndex = -1,
) -> Any: ...
@overload
def additive_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    w_query: ArrayLike,
    w_key: ArrayLike,
    v: ArrayLike,
    *,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    causal: bool | np.bool_ = False,
    query_offset: ArrayLike | None = None,
    window: tuple[SupportsIndex | None, SupportsIndex | None] | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    segment_ids: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    out: NDArray[Any] | None = None,
    return_lse: Literal[False] = False,
    return_weights: Literal[False] = False,
) -> NDArray[Any]: ...

# An array, or with return_lse or return_weights a tuple of two or three.
@overload
def additive_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    w_query: ArrayLike,
    w_key: ArrayLike,
    v: ArrayLike,
    *,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    causal: bool | np.bool_ = False,
    query_offset: ArrayLike | None = None,
    window: tuple[SupportsIndex | None, SupportsIndex | None] | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    segment_ids: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    out: NDArray[Any] | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
) -> Any: ...
def sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
def log_sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> Any: ...
@overload
def sequence_log_prob(
    logits: ArrayLike,
    tokens: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    normalize: bool = False,
    return_token_log_probs: Literal[True],
) -> tuple[Any, NDArray[Any]]: ...
@overload
def sequence_log_prob(
    logits: ArrayLike,
    tokens: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    normalize: bool = False,
    return_token_log_probs: bool = False,
) -> Any: ...
def plackett_luce_log_prob(scores: ArrayLike, ranking: ArrayLike) -> Any: ...

class ReliabilityDiagram(NamedTuple):
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

class TemperatureFit(NamedTuple):
    temperature: float
    nll_before: float
    nll_after: float
    iterations: int
    bound: int
    calibration_error_before: float
    calibration_error_after: float
    diagram_before: ReliabilityDiagram
    diagram_after: ReliabilityDiagram

@overload
def calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: SupportsFloat = 1.0,
    bins: SupportsIndex = 15,
    from_probabilities: bool = False,
    return_diagram: Literal[False] = False,
) -> float: ...
@overload
def calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: SupportsFloat = 1.0,
    bins: SupportsIndex = 15,
    from_probabilities: bool = False,
    return_diagram: Literal[True],
) -> tuple[float, ReliabilityDiagram]: ...
@overload
def calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: SupportsFloat = 1.0,
    bins: SupportsIndex = 15,
    from_probabilities: bool = False,
    return_diagram: bool,
) -> Any: ...
def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bounds: tuple[SupportsFloat, SupportsFloat] = (0.001, 1000.0),
    bins: SupportsIndex = 15,
) -> TemperatureFit: ...
