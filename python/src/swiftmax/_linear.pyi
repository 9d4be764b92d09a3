from typing import Any, Literal, SupportsFloat, SupportsIndex

from numpy.typing import ArrayLike

# The loss, or with return_lse or return_grad a tuple of two or three.
def linear_cross_entropy(
    hidden: ArrayLike,
    weight: ArrayLike,
    targets: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    ignore_index: SupportsIndex = -100,
    label_smoothing: SupportsFloat = 0.0,
    z_loss: SupportsFloat = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
    grad_scale: SupportsFloat = 1.0,
    return_lse: bool = False,
    return_grad: bool = False,
) -> Any: ...
