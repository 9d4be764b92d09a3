"""The number of threads within a `with` block."""

import threading

from swiftmax import _core
from swiftmax._arguments import as_integer


class num_threads:  # noqa: N801, a context manager is used like a function
    """Use `n` threads in calls from this thread, until the block ends.

    Other Python threads keep their number. Blocks nest, and one object may be entered again.
    The number never changes a bit of a result.

    Parameters
    ----------
    n : int
        From 1 to 256, as `set_num_threads` takes.

    Raises
    ------
    ValueError
        `n` is out of that range.
    TypeError
        `n` is not an integer.

    See Also
    --------
    set_num_threads : for the whole process.

    Examples
    --------
    >>> import swiftmax as smx
    >>> with smx.num_threads(1):
    ...     smx.get_num_threads()
    1
    """

    __slots__ = ("_before", "_n")

    def __init__(self, n):
        self._n = as_integer(n, "n")
        # The library takes 0 as "no number of its own", which is not for a block to ask.
        if not 1 <= self._n <= _core._MOST_THREADS:
            raise ValueError(f"n must be from 1 to {_core._MOST_THREADS}, but is {self._n}")
        # An object may be in use in several threads, each with numbers of its own.
        self._before = threading.local()

    def __reduce__(self):
        return num_threads, (self._n,)

    def __enter__(self):
        before = self._before.__dict__.setdefault("numbers", [])
        before.append(_core._set_num_threads_local(self._n))
        return self

    def __exit__(self, kind, error, traceback):
        _core._set_num_threads_local(self._before.numbers.pop())
