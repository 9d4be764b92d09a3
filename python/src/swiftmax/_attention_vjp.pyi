from typing import Any, Literal, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swiftmax._mask import Mask

# Three arrays, with return_d_bias and return_d_sinks up to five.
def attention_vjp(
    d_out: ArrayLike,
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    out: ArrayLike,
    lse: ArrayLike,
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
    layout: Literal["BHLD", "BLHD"] = "BHLD",
    return_d_bias: bool = False,
    return_d_sinks: bool = False,
) -> tuple[NDArray[Any], ...]: ...
