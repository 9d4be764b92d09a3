from typing import Any, Literal, SupportsFloat, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swiftmax._mask import Mask

__version__: str
_MOST_THREADS: int

def softmax(
    x: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
def log_softmax(
    x: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
@overload
def logsumexp(
    x: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    b: ArrayLike | None = None,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    keepdims: bool | np.bool_ = False,
    return_sign: Literal[True],
    out: NDArray[Any] | None = None,
) -> tuple[Any, Any]: ...
@overload
def logsumexp(
    x: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    b: ArrayLike | None = None,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    keepdims: bool | np.bool_ = False,
    return_sign: bool = False,
    out: NDArray[Any] | None = None,
) -> Any: ...
@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    causal: bool | np.bool_ = False,
    query_offset: ArrayLike | None = None,
    window: tuple[SupportsIndex | None, SupportsIndex | None] | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    segment_ids: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    alibi_slopes: ArrayLike | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sinks: ArrayLike | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    block_table: ArrayLike | None = None,
    query_starts: ArrayLike | None = None,
    key_starts: ArrayLike | None = None,
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    precision: Literal["exact", "fast"] = "exact",
    out: NDArray[Any] | None = None,
    return_lse: Literal[False] = False,
    return_weights: Literal[False] = False,
) -> NDArray[Any]: ...

# An array, or with return_lse or return_weights a tuple of two or three.
@overload
def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    causal: bool | np.bool_ = False,
    query_offset: ArrayLike | None = None,
    window: tuple[SupportsIndex | None, SupportsIndex | None] | None = None,
    key_lengths: ArrayLike | None = None,
    query_lengths: ArrayLike | None = None,
    segment_ids: ArrayLike | tuple[ArrayLike, ArrayLike] | None = None,
    alibi_slopes: ArrayLike | None = None,
    scale: SupportsFloat | None = None,
    softcap: SupportsFloat | None = None,
    sinks: ArrayLike | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    block_table: ArrayLike | None = None,
    query_starts: ArrayLike | None = None,
    key_starts: ArrayLike | None = None,
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    precision: Literal["exact", "fast"] = "exact",
    out: NDArray[Any] | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
) -> Any: ...
def _attention_vjp(*args: Any) -> tuple[NDArray[Any], ...]: ...
def merge_attention(
    out_a: ArrayLike,
    lse_a: ArrayLike,
    out_b: ArrayLike,
    lse_b: ArrayLike,
    *,
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def _softmax_vjp(
    y: Any, dy: Any, axis: Any, temperature: Any, mask: Any, out: Any, /
) -> Any: ...
def _softmax_jvp(
    y: Any, dx: Any, axis: Any, temperature: Any, mask: Any, out: Any, /
) -> Any: ...
def _log_softmax_vjp(
    y: Any, dy: Any, axis: Any, temperature: Any, mask: Any, out: Any, /
) -> Any: ...
def _logsumexp_vjp(
    x: Any, dy: Any, axis: Any, bias: Any, mask: Any, out: Any, /
) -> Any: ...
def _softmax_jacobian(
    p: Any, unused: None, axis: Any, temperature: Any, mask: Any, out: Any, /
) -> Any: ...
def _cross_entropy(*args: Any) -> tuple[Any, Any, Any]: ...
def _divergence(*args: Any) -> Any: ...
def _sample(
    logits: NDArray[Any],
    out: NDArray[np.int64],
    log_probs: NDArray[np.float64] | None,
    temperature: NDArray[Any] | None,
    top_k: NDArray[Any] | None,
    top_p: NDArray[Any] | None,
    min_p: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    counter: NDArray[Any] | None,
    draw: NDArray[Any] | None,
    seed: int,
    /,
) -> None: ...
def _filtered_softmax(
    logits: NDArray[Any],
    out: NDArray[Any],
    temperature: NDArray[Any] | None,
    top_k: NDArray[Any] | None,
    top_p: NDArray[Any] | None,
    min_p: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    /,
) -> None: ...
def _top_k(
    logits: NDArray[Any],
    probabilities: NDArray[Any],
    indices: NDArray[np.int64],
    temperature: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    log: bool,
    /,
) -> None: ...
def _gumbel_softmax(
    logits: NDArray[Any],
    out: NDArray[Any],
    temperature: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    counter: NDArray[Any] | None,
    draw: NDArray[Any] | None,
    seed: int,
    hard: bool,
    /,
) -> None: ...
def _linear_cross_entropy(
    hidden: Any,
    weight: Any,
    targets: Any,
    bias: Any,
    loss: Any,
    lse: Any,
    d_hidden: Any,
    d_weight: Any,
    d_bias: Any,
    reduction: int,
    ignore_index: int,
    label_smoothing: Any,
    z_loss: Any,
    grad_scale: Any,
    /,
) -> None: ...
def _additive_attention(*args: Any) -> Any: ...
def _sigmoid(x: ArrayLike, out: NDArray[Any] | None, /) -> Any: ...
def _log_sigmoid(x: ArrayLike, out: NDArray[Any] | None, /) -> Any: ...
def _sequence_log_prob(
    logits: ArrayLike,
    tokens: ArrayLike,
    lengths: ArrayLike | None,
    temperature: float | ArrayLike,
    mask: ArrayLike | None,
    normalize: bool,
    return_token_log_probs: bool,
    /,
) -> Any: ...
def _plackett_luce_log_prob(scores: ArrayLike, ranking: ArrayLike, /) -> Any: ...
def _calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    temperature: float,
    bins: SupportsIndex,
    from_probabilities: bool,
    /,
) -> tuple[Any, ...]: ...
def _fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    lowest: float,
    highest: float,
    bins: SupportsIndex,
    /,
) -> tuple[Any, ...]: ...
def set_num_threads(n: SupportsIndex, /) -> None: ...
def get_num_threads() -> int: ...
def _set_num_threads_local(n: SupportsIndex, /) -> int: ...
def _isa() -> str: ...
def _isa_supported(name: str, /) -> bool: ...
def _library_path() -> str | None: ...
def _set_doc(name: str, text: str, /) -> None: ...
