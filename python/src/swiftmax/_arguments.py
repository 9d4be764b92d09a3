"""Arguments that the C module does not take as they are, made into arrays that it does.

The module calls these for what is rare: array-likes, integers, other byte orders, dtypes to be
cast, `Mask` objects. Each raises a TypeError or ValueError that names the argument.
"""

import sys

import numpy as np

from swiftmax._mask import Mask

_FLOATS = (np.float16, np.float32, np.float64)


def _is_bfloat16(dtype):
    # The type object decides. If ml_dtypes was never imported, no array has its dtype.
    ml_dtypes = sys.modules.get("ml_dtypes")
    return ml_dtypes is not None and dtype.type is ml_dtypes.bfloat16


def _as_array(value, name):
    """A base-class array in native byte order."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; give {name}.data, and "
            f"mask=~numpy.ma.getmaskarray({name}) to leave its masked elements out"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def as_float(value, name):
    """An array of one of the four float dtypes; integers and bool become float64."""
    array = _as_array(value, name)
    if array.dtype.type in _FLOATS or _is_bfloat16(array.dtype):
        return array
    if array.dtype.kind in "biu":
        return array.astype(np.float64)
    raise TypeError(
        f"{name} has dtype {array.dtype}, but must have float16, bfloat16, float32 or float64, "
        "or integers or bool"
    )


def as_bias(value, is_wide):
    """A bias in the precision of its sum with x: float64 for float64, float32 for the rest."""
    array = _as_array(value, "bias")
    if array.dtype.kind == "b":
        raise TypeError("bias has dtype bool; a boolean array that selects goes to mask=")
    # Such as -1e300, meant as minus infinity, becomes just that.
    with np.errstate(over="ignore"):
        return as_float(array, "bias").astype(np.float64 if is_wide else np.float32, copy=False)


def as_weights(b, x):
    """b in the dtype of x, and x broadcast against it (a view) where b has the larger shape."""
    weights = as_float(b, "b").astype(x.dtype, copy=False)
    try:
        shape = np.broadcast_shapes(x.shape, weights.shape)
    except ValueError:
        raise ValueError(
            f"b of shape {weights.shape} does not broadcast with x of shape {x.shape}"
        ) from None
    return weights, x if shape == x.shape else np.broadcast_to(x, shape)


def as_mask(mask, x):
    """The boolean array (or None) and the conditions (_core_mask.c has their form) of mask=."""
    if isinstance(mask, Mask):
        return mask._parts(x.shape)
    array = _as_array(mask, "mask")
    if array.dtype.kind != "b":
        raise TypeError(
            f"mask has dtype {array.dtype}, but must be a boolean array (True takes part) or a "
            "swiftmax.Mask; numbers to add to x go to bias="
        )
    return array, ()


def shares_memory(a, b):
    """Whether two arrays have a byte in common; in doubt they have."""
    try:
        # Enough for any views that slicing makes; contrived strides could take for ever.
        return np.shares_memory(a, b, max_work=1000)
    except (np.exceptions if hasattr(np, "exceptions") else np).TooHardError:
        return True
