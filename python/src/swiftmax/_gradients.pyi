from typing import Any, SupportsIndex

from numpy.typing import ArrayLike, NDArray

from swiftmax._mask import Mask

def softmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
def softmax_jvp(
    y: ArrayLike,
    dx: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
def log_softmax_vjp(
    y: ArrayLike,
    dy: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    out: NDArray[Any] | None = None,
) -> Any: ...
def logsumexp_vjp(
    x: ArrayLike,
    dy: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    mask: ArrayLike | Mask | None = None,
    bias: ArrayLike | None = None,
    keepdims: bool = False,
    out: NDArray[Any] | None = None,
) -> Any: ...
def softmax_jacobian(
    p: ArrayLike,
    axis: SupportsIndex | tuple[SupportsIndex, ...] | None = -1,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | Mask | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
