from types import TracebackType
from typing import Any, Literal, NamedTuple, SupportsIndex, overload

import numpy as np
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
    "ReliabilityDiagram",
    "TemperatureFit",
    "__version__",
    "attention",
    "calibration_error",
    "fit_temperature",
    "get_num_threads",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "merge_attention",
    "num_threads",
    "plackett_luce_log_prob",
    "sequence_log_prob",
    "set_num_threads",
    "show_config",
    "sigmoid",
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
    return_token_log_probs: Literal[False] = False,
) -> Any: ...
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
    temperature: float = 1.0,
    bins: SupportsIndex = 15,
    from_probabilities: bool = False,
    return_diagram: Literal[False] = False,
) -> float: ...
@overload
def calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: float = 1.0,
    bins: SupportsIndex = 15,
    from_probabilities: bool = False,
    return_diagram: Literal[True],
) -> tuple[float, ReliabilityDiagram]: ...
def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bounds: tuple[float, float] = (0.001, 1000.0),
    bins: SupportsIndex = 15,
) -> TemperatureFit: ...
