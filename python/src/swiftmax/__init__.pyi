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
from swiftmax._linear import linear_cross_entropy
from swiftmax._mask import Mask as Mask

__all__ = [
    "Mask",
    "__version__",
    "attention",
    "get_num_threads",
    "linear_cross_entropy",
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
