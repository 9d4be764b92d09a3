from typing import Any, Literal, SupportsIndex, overload

from numpy.typing import ArrayLike, NDArray

@overload
def sample(
    logits: ArrayLike,
    *,
    temperature: float | ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    size: SupportsIndex | None = None,
    seed: SupportsIndex | None = None,
    counter: ArrayLike | None = None,
    draw: ArrayLike = 0,
    return_log_probs: Literal[True],
) -> tuple[Any, Any]: ...
@overload
def sample(
    logits: ArrayLike,
    *,
    temperature: float | ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    size: SupportsIndex | None = None,
    seed: SupportsIndex | None = None,
    counter: ArrayLike | None = None,
    draw: ArrayLike = 0,
    return_log_probs: bool = False,
) -> Any: ...
def filtered_softmax(
    logits: ArrayLike,
    *,
    temperature: float | ArrayLike = 1.0,
    top_k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def top_k(
    logits: ArrayLike,
    k: SupportsIndex,
    *,
    temperature: float | ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    log: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def gumbel_softmax(
    logits: ArrayLike,
    *,
    temperature: float | ArrayLike = 1.0,
    hard: bool = False,
    mask: ArrayLike | None = None,
    seed: SupportsIndex | None = None,
    counter: ArrayLike | None = None,
    draw: ArrayLike = 0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
