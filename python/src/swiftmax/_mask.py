"""Structured masks: which keys a query sees, said by a rule instead of an array."""

import numpy as np

# The range of the int64 that the library reads.
_LEAST, _LARGEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def as_array(value, name):
    """A base-class array."""
    if isinstance(value, np.ma.MaskedArray):
        advice = f"give {name}.data"
        if name == "x":
            advice += ", and mask=~numpy.ma.getmaskarray(x) to leave its masked elements out"
        raise TypeError(f"{name} is a masked array, whose mask would be lost; {advice}")
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array: {error}") from None
    except (TypeError, RuntimeError) as error:
        # Such as a tensor of another library that requires its gradient.
        raise TypeError(f"{name} cannot be made an array: {error}") from None


def as_integers(value, name):
    """A base-class array; an empty list, float64 to NumPy, holds integers."""
    array = as_array(value, name)
    return array if array.size or isinstance(value, np.ndarray) else array.astype(np.int64)


def shown(value):
    """What a sentence prints of a value that is refused: of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def integers(value, name):
    """An int64 array of its own, so that a later change of `value` does not reach the mask."""
    array = as_integers(value, name)
    if array.dtype.kind == "O" and all(isinstance(n, int) for n in array.flat):
        worst = max(array.flat, key=abs)
        raise ValueError(f"{name} holds {worst}, which is more than an int64 can be")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer or an array of integers, but is {shown(value)}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > _LARGEST:
        raise ValueError(f"{name} holds {array.max()}, which is more than an int64 can be")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def side(value, name):
    """A side of a window; -1 is open."""
    if value is None:
        return -1
    number = integers(value, name)
    if number.ndim or number < -1:
        sentence = f"{name} must be None, -1 (open) or a number of keys, but is {shown(value)}"
        raise ValueError(sentence)
    return int(number)


class _Condition:
    """One rule. Integers stand over the leading axes of x; ids have one axis more."""

    __slots__ = ("causal", "keys", "left", "offset", "queries", "right", "segments", "window")

    def __init__(self, *, causal=False, window=None, offset=None, keys=None, queries=None,
                 segments=None):
        self.causal = causal
        self.window = window is not None
        self.left, self.right = window or (0, 0)
        self.offset = offset
        self.keys = keys
        self.queries = queries
        self.segments = segments

    def arrays(self):
        """Each array with its name in messages and how many axes it has beside the leading ones."""
        yield self.offset, "offset", 0
        yield self.keys, "keys", 0
        yield self.queries, "queries", 0
        yield (self.segments[0] if self.segments else None), "query_ids", 1
        yield (self.segments[1] if self.segments else None), "key_ids", 1

    def leading_rank(self):
        return max((a.ndim - own for a, _, own in self.arrays() if a is not None), default=0)

    def parts(self, shape, of):
        """The tuple that the C module reads, its arrays spread over the axes of x.

        `of` is what messages call x.
        """
        lengths = {"query_ids": shape[-2:-1], "key_ids": shape[-1:]}
        arrays = [
            None if a is None else over_leading(a, f"mask {name}", shape, of, lengths.get(name, ()))
            for a, name, _ in self.arrays()
        ]
        return int(self.causal), int(self.window), self.left, self.right, *arrays

    def visible(self, leading, queries, keys):
        """The rule as a boolean array, over `leading` axes of any length."""

        def at(values, own):
            """Axes of length 1 between the leading axes and (queries, keys)."""
            rank = values.ndim - own
            shape = values.shape[:rank] + (1,) * (leading - rank)
            return values.reshape(shape + (values.shape[rank:] or (1,)))

        i = np.arange(queries)[:, None]
        j = np.arange(keys)[None, :]
        result = np.ones((1,) * leading + (queries, keys), bool)
        if self.causal or self.window:
            offset = keys - queries if self.offset is None else at(self.offset, 0)[..., None]
            # Sums that an int64 cannot hold stay at its end, further away than any key.
            if self.causal:
                result = result & (j - i <= offset)
            if self.window and self.left >= 0:
                first = np.maximum(offset, _LEAST + self.left) - self.left
                result = result & (j - i >= first)
            if self.window and self.right >= 0:
                last = np.minimum(offset, _LARGEST - self.right) + self.right
                result = result & (j - i <= last)
        if self.keys is not None:
            result = result & (j < at(self.keys, 0)[..., None])
        if self.queries is not None:
            result = result & (i < at(self.queries, 0)[..., None])
        if self.segments is not None:
            of_queries, of_keys = self.segments
            _require_length(of_queries, "query_ids", queries)
            _require_length(of_keys, "key_ids", keys)
            result = result & (at(of_queries, 1)[..., :, None] == at(of_keys, 1)[..., None, :])
        return result

    def __repr__(self):
        if self.segments is not None:
            return f"segments({self.segments[0].tolist()}, {self.segments[1].tolist()})"
        if self.keys is not None:
            queries = "" if self.queries is None else f", {self.queries.tolist()}"
            return f"lengths({self.keys.tolist()}{queries})"
        offset = "" if self.offset is None else f"offset={self.offset.tolist()}"
        if self.causal:
            return f"causal({offset})"
        return f"window({self.left}, {self.right}{', ' if offset else ''}{offset})"


def _require_length(ids, name, length):
    if ids.shape[-1] != length:
        raise ValueError(f"{name} of shape {ids.shape} must end in {length} ids")


def over_leading(array, name, shape, of, own=()):
    """`array` as a view over the first axes of x, then `own`; axes of length 1 are stretched."""
    leading = shape[:-2]
    rank = array.ndim - len(own)
    if 0 <= rank <= len(leading):
        if array.shape == leading[:rank] + own:
            return array
        try:
            return np.broadcast_to(array, leading[:rank] + own)
        except ValueError:
            pass
    beside = f", then {own[0]} ids," if own else ""
    raise ValueError(
        f"{name} of shape {array.shape} must have the leading axes {leading}{beside} "
        f"of {of} of shape {shape}, or the first of them"
    )


class Mask:
    """Which keys each query sees, as rules that cost no memory.

    The last two axes of x are queries and keys, of lengths Lq and Lk; ``True`` means that the
    query sees the key. Rules are made by `causal`, `window`, `lengths` and `segments` and joined by
    ``&``, also with a boolean array. ``Mask()`` is the rule without exception.

    Integers in a rule are one number for all or an array over the *leading* axes of x: shape (B,)
    for one per batch entry, (B, H) for one per batch entry and head. Ids of segments have one axis
    more.

    Examples
    --------
    >>> import swiftmax as smx
    >>> smx.Mask.causal().to_array(3, 5).astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 1, 1, 1, 0],
           [1, 1, 1, 1, 1]])
    >>> (smx.Mask.causal() & smx.Mask.window(1, None)).to_array(3, 3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 1, 1]])
    """

    __slots__ = ("_conditions", "_masks")
    # So that `array & mask` comes here instead of to each element of the array.
    __array_ufunc__ = None

    def __init__(self):
        self._conditions = ()
        self._masks = ()

    @classmethod
    def _of(cls, conditions=(), masks=()):
        self = cls()
        self._conditions, self._masks = tuple(conditions), tuple(masks)
        return self

    @classmethod
    def causal(cls, offset=None):
        """Query i sees key j if ``j <= i + offset``.

        Parameters
        ----------
        offset : int or array_like of int, optional
            One for all, or shape (B,), (B, H) and so on over the leading axes of x. The default
            ``Lk - Lq`` lets the last query see every key. It may be negative: the first queries
            then see nothing.
        """
        return cls._of([_Condition(
            causal=True, offset=None if offset is None else integers(offset, "offset"))])

    @classmethod
    def window(cls, left, right, offset=None):
        """Query i sees key j if ``i + offset - left <= j <= i + offset + right``.

        Parameters
        ----------
        left, right : int or None
            How many keys on each side of its own place a query sees, one number for all. None or
            -1 leaves the side open.
        offset : int or array_like of int, optional
            As in `causal`; ``Lk - Lq`` if None.
        """
        sides = side(left, "left"), side(right, "right")
        return cls._of([_Condition(
            window=sides, offset=None if offset is None else integers(offset, "offset"))])

    @classmethod
    def lengths(cls, keys, queries=None):
        """Only the first `keys` keys are seen, and only the first `queries` queries see.

        Parameters
        ----------
        keys : int or array_like of int
            From 0 to Lk: one for all, or shape (B,), (B, H) and so on over the leading axes of x.
        queries : int or array_like of int, optional
            From 0 to Lq, likewise; all queries see if None.
        """
        return cls._of([_Condition(
            keys=integers(keys, "keys"),
            queries=None if queries is None else integers(queries, "queries"))])

    @classmethod
    def segments(cls, query_ids, key_ids=None):
        """A query sees the keys that have its id.

        Parameters
        ----------
        query_ids : array_like of int, shape (..., Lq)
            Before the last axis come the first of the leading axes of x: (Lq,) for all, (B, Lq),
            (B, H, Lq).
        key_ids : array_like of int, shape (..., Lk), optional
            Likewise; `query_ids` if None.
        """
        of_queries = integers(query_ids, "query_ids")
        of_keys = of_queries if key_ids is None else integers(key_ids, "key_ids")
        for ids, name in (of_queries, "query_ids"), (of_keys, "key_ids"):
            if ids.ndim == 0:
                raise ValueError(f"{name} must have an id for each place, but is {int(ids)}")
        return cls._of([_Condition(segments=(of_queries, of_keys))])

    def __and__(self, other):
        if isinstance(other, Mask):
            return self._of(self._conditions + other._conditions, self._masks + other._masks)
        if not isinstance(other, np.ndarray):
            return NotImplemented
        array = as_array(other, "the array that a Mask joins with")
        if array.dtype.kind != "b":
            raise TypeError(f"a Mask joins with a boolean array, but this has dtype {array.dtype}")
        return self._of(self._conditions, (*self._masks, array))

    __rand__ = __and__

    def to_array(self, Lq, Lk):  # noqa: N803
        """The mask as a boolean array, to look at.

        Integers of rules count the leading axes of x from the front: (B,) is the first one. An
        array that is part of the mask is aligned on the right, against (..., Lq, Lk), as NumPy
        broadcasts. Both stand here over the same leading axes, as for an x of just these. For an x
        with more of them give arrays all of its leading axes.

        Parameters
        ----------
        Lq, Lk : int
            The numbers of queries and keys.

        Returns
        -------
        ndarray of bool, shape (..., Lq, Lk)
            Before the last two come as many axes as the rule or array that has most.
        """
        leading = max((c.leading_rank() for c in self._conditions), default=0)
        leading = max([leading] + [m.ndim - 2 for m in self._masks])
        result = np.ones((1,) * leading + (Lq, Lk), bool)
        for condition in self._conditions:
            result = result & condition.visible(leading, Lq, Lk)
        for mask in self._masks:
            result = result & mask
        return result

    def _parts(self, shape, of="x"):
        """The boolean array, or None, and the conditions for an x of this shape.

        `of` is what messages call it.
        """
        if self._conditions and len(shape) < 2:
            raise ValueError(
                f"mask needs queries and keys as the last two axes of {of}, but {of} has shape "
                f"{shape}"
            )
        array = self._masks[0] if self._masks else None
        for mask in self._masks[1:]:
            try:
                # Of arrays without axes NumPy makes a scalar.
                array = np.asarray(array & mask)
            except ValueError:
                raise ValueError(
                    f"the arrays of a Mask, of shapes {array.shape} and {mask.shape}, do not "
                    "broadcast with one another"
                ) from None
        return array, tuple(c.parts(shape, of) for c in self._conditions)

    def __repr__(self):
        rules = [f"Mask.{c!r}" for c in self._conditions]
        rules += [f"<bool array of shape {m.shape}>" for m in self._masks]
        return " & ".join(rules) or "Mask()"
