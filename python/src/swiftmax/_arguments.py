"""Arguments that the C module does not take as they are, made into arrays that it does.

The module calls these for what is rare: array-likes, integers, other byte orders, dtypes to be
cast, `Mask` objects. Each raises a TypeError or ValueError that names the argument.
"""

import operator
import sys

import numpy as np

from swiftmax._mask import Mask, as_array, as_integers, integers, over_leading, shown, side

_FLOATS = (np.float16, np.float32, np.float64)
_TEXT = (str, bytes, bytearray)
_MOST_CONDITIONS = 64  # of a list of smx_mask


def _is_bfloat16(dtype):
    # The type object decides. If ml_dtypes was never imported, no array has its dtype.
    ml_dtypes = sys.modules.get("ml_dtypes")
    return ml_dtypes is not None and dtype.type is ml_dtypes.bfloat16


def _as_array(value, name):
    """A base-class array in native byte order."""
    return _native(as_array(value, name))


def _native(array):
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


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


def cast(array, dtype):
    """An array in another dtype. What that cannot hold, such as -1e300, becomes inf or 0."""
    if array.dtype == dtype:
        return array
    # Along a broadcast axis one number is cast, not each.
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)
    with np.errstate(all="ignore"):
        return np.broadcast_to(array[once].astype(dtype), array.shape)


def as_wide(value, name, is_wide):
    """An array in the precision of its sum with x: float64 for float64, float32 for the rest."""
    return cast(as_float(value, name), np.float64 if is_wide else np.float32)


def is_float_array(value):
    """Whether it is an array that is read as it is, or refused for its dtype; nothing to cast."""
    return isinstance(value, np.ndarray) and value.dtype.kind not in "biuO"


def beside(given, other, name):
    """An array of floats as it is; of anything else one in the dtype of `other`."""
    return given if is_float_array(given) else cast(as_float(given, name), other.dtype)


def as_bias(value, is_wide):
    """A bias; a boolean array is refused, because it is likely to be a mask."""
    array = _as_array(value, "bias")
    if array.dtype.kind == "b":
        raise TypeError("bias has dtype bool; a boolean array that selects goes to mask=")
    return as_wide(array, "bias", is_wide)


def as_weights(b, x):
    """b in the dtype of x, and x broadcast against it (a view) where b has the larger shape."""
    weights = cast(as_float(b, "b"), x.dtype)
    shape = joint_shape(weights, "b", x, "x")
    return weights, x if shape == x.shape else np.broadcast_to(x, shape)


def joint_shape(a, name, other, other_name):
    """The shape that two arrays broadcast to."""
    shape = joint_lengths(a.shape, other.shape)
    if shape is None:
        raise ValueError(
            f"{name} of shape {a.shape} does not broadcast with {other_name} of shape {other.shape}"
        )
    return shape


def joint_lengths(shape, other):
    """The shape that two broadcast to, None for none. (NumPy's own function stops at 32 axes.)"""
    rank = max(len(shape), len(other))
    pairs = zip(
        (1,) * (rank - len(shape)) + shape, (1,) * (rank - len(other)) + other, strict=True
    )
    lengths = [b if a == 1 else a if b in (1, a) else None for a, b in pairs]
    return None if None in lengths else tuple(lengths)


def as_mask(mask, x):
    """The boolean array (or None) and the conditions (_core_mask.c has their form) of mask=."""
    return _mask_parts(mask, x.shape, "x")


def _mask_parts(mask, shape, of):
    """The parts of mask= over an array of this shape, which messages call `of`."""
    if isinstance(mask, Mask):
        array, conditions = mask._parts(shape, of)
        return array, _few(conditions)
    array = _as_array(mask, "mask")
    if array.dtype.kind != "b":
        help_with_it = (
            "if 1 takes part, mask.astype(bool) is one"
            if array.dtype.kind in "iu"
            else f"numbers to add to {of} are a bias, which softmax and attention take as bias="
        )
        raise TypeError(
            f"mask has dtype {array.dtype}, but must be a boolean array (True takes part) or a "
            f"swiftmax.Mask; {help_with_it}"
        )
    return array, ()


def _few(conditions):
    """As many as the library takes."""
    if len(conditions) > _MOST_CONDITIONS:
        raise ValueError(
            f"mask joins {len(conditions)} conditions with those of other arguments, but "
            f"{_MOST_CONDITIONS} are the most"
        )
    return conditions


def as_boolean_mask(mask):
    """mask= of functions that know of classes alone; None stays None."""
    if mask is None:
        return None
    if isinstance(mask, Mask):
        raise TypeError(
            "mask must be a boolean array (True takes part); a swiftmax.Mask speaks of queries and "
            "keys, not of classes"
        )
    array = _as_array(mask, "mask")
    if array.dtype.kind != "b":
        raise TypeError(
            f"mask has dtype {array.dtype}, but must be a boolean array (True takes part)"
        )
    return array


def as_structure(shape, mask, causal, query_offset, window, key_lengths, query_lengths,
                 segment_ids):
    """The parts, as of `as_mask`, of all arguments of attention that mask scores of this shape."""
    array, conditions = (None, ()) if mask is None else _mask_parts(mask, shape, "the scores")
    arguments = query_offset, window, key_lengths, query_lengths, segment_ids
    if not causal and all(a is None for a in arguments):
        return array, conditions

    def spread(value, name, own=()):
        return over_leading(integers(value, name), name, shape, "the scores", own)

    def spread_if_given(value, name):
        return None if value is None else spread(value, name)

    segments = None, None
    if segment_ids is not None:
        is_pair = isinstance(segment_ids, tuple) and len(segment_ids) == 2
        query_ids, key_ids = segment_ids if is_pair else (segment_ids, segment_ids)
        segments = (
            spread(query_ids, "segment_ids of the queries", shape[-2:-1]),
            spread(key_ids, "segment_ids of the keys", shape[-1:]),
        )
    own = (
        int(causal),
        int(window is not None),
        *_sides(window),
        spread_if_given(query_offset, "query_offset"),
        spread_if_given(key_lengths, "key_lengths"),
        spread_if_given(query_lengths, "query_lengths"),
        *segments,
    )
    # In front: ALiBi takes the first offset that the library finds.
    return array, _few((own, *conditions))


def _sides(window):
    """(left, right) of window=, -1 where open."""
    try:
        left, right = (0, 0) if window is None else window
    except (TypeError, ValueError) as error:
        raise type(error)(f"window must be a pair (left, right), but is {shown(window)}") from None
    return side(left, "the left side of window"), side(right, "the right side of window")


def as_int64_array(value, name):
    """Integers of other dtypes than int32 and int64, or of no array, as the library reads them."""
    return integers(value, name)


def shares_memory(a, b):
    """Whether two arrays have a byte in common; in doubt they have."""
    try:
        # Enough for any views that slicing makes; contrived strides could take for ever.
        return np.shares_memory(a, b, max_work=1000)
    except (np.exceptions if hasattr(np, "exceptions") else np).TooHardError:
        return True


def as_integer(value, name):
    """A Python int; a float is refused, even a whole one."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, but is {shown(value)}") from None


def as_number(value, name):
    """A Python float; text is refused, even that of a number."""
    if type(value) is float:
        return value
    if not isinstance(value, _TEXT):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is larger than a float can be") from None
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{name} must be a real number, but is {shown(value)}")


def as_flag(value, name):
    """A Python bool of what has a truth value and is no text."""
    if isinstance(value, _TEXT):
        raise TypeError(f"{name} must be True or False, but is {shown(value)}")
    try:
        return bool(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be True or False, but is {shown(value)}") from None


def as_int64(value, name):
    """An integer that an int64 can hold."""
    number = as_integer(value, name)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{name} is {number}, which is more than an int64 can be")
    return number


def as_int64s(value, name):
    """An array of int32 or int64, other integers as int64."""
    array = _native(as_integers(value, name))
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}, but must have integers")
    if array.dtype == np.int32 or array.dtype == np.int64:
        return array
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds {array.max()}, which is more than an int64 can be")
    return array.astype(np.int64)


def as_axis(axis):
    """An axis as an int32, the library judging its range."""
    axis = as_integer(axis, "axis")
    if not -(2**31) <= axis < 2**31:
        raise ValueError(f"axis {axis} is out of range")
    return axis
