"""The number of threads within a `with` block."""

from swiftmax import _core


class num_threads:  # noqa: N801, a context manager is used like a function
    """Use `n` threads in calls from this thread, until the block ends.

    Other Python threads keep their number. Blocks nest, and one object may be entered again.
    The number never changes a bit of a result.

    Parameters
    ----------
    n : int
        From 1 to the largest number that `set_num_threads` takes.

    Examples
    --------
    >>> import swiftmax as smx
    >>> with smx.num_threads(1):
    ...     smx.get_num_threads()
    1
    """

    __slots__ = ("_before", "_n")

    def __init__(self, n):
        if n == 0:
            # The library takes 0 as "no number of its own", which is not for a block to ask.
            raise ValueError("n must be 1 or more, but is 0")
        self._n = n
        self._before = []

    def __enter__(self):
        self._before.append(_core._set_num_threads_local(self._n))
        return self

    def __exit__(self, kind, error, traceback):
        _core._set_num_threads_local(self._before.pop())
