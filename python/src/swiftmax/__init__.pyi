from types import TracebackType
from typing import Any, Literal, SupportsIndex, overload

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
from swiftmax._sampling import filtered_softmax, gumbel_softmax, sample, top_k

__all__ = [
    "Mask",
    "__version__",
    "attention",
    "filtered_softmax",
    "get_num_threads",
    "gumbel_softmax",
    "log_softmax",
    "logsumexp",
    "merge_attention",
    "num_threads",
    "sample",
    "set_num_threads",
    "show_config",
    "softmax",
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
