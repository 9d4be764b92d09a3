from types import TracebackType
from typing import Any, Literal, SupportsIndex, overload

from numpy.typing import ArrayLike, NDArray

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
from swiftmax._mask import Mask as Mask

__all__ = [
    "Mask",
    "__version__",
    "additive_attention",
    "attention",
    "get_num_threads",
    "log_softmax",
    "logsumexp",
    "merge_attention",
    "num_threads",
    "set_num_threads",
    "show_config",
    "softmax",
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
    causal: bool = False,
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
    causal: bool = False,
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
