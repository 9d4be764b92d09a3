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
from swiftmax._gradients import (
    log_softmax_vjp,
    logsumexp_vjp,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from swiftmax._mask import Mask as Mask

__all__ = [
    "Mask",
    "__version__",
    "attention",
    "get_num_threads",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "merge_attention",
    "num_threads",
    "set_num_threads",
    "show_config",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
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
