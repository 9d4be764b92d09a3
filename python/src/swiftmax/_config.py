"""What this installation of swiftmax is."""

from swiftmax import _core

_INSTRUCTION_SETS = ("v2", "v3", "v4", "neon")


def show_config(mode="stdout"):
    """Show the version, instruction set, threads and library in use.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print, or return a dictionary.

    Returns
    -------
    dict or None
        Keys ``version``, ``isa`` (the instruction set in use), ``supported`` (all that this CPU
        runs, oldest first), ``threads`` and ``library`` (path of the shared object).

    Raises
    ------
    ValueError
        `mode` is neither.
    RuntimeError
        SWIFTMAX_ISA or SWIFTMAX_NUM_THREADS cannot be used.

    Examples
    --------
    >>> import swiftmax as smx
    >>> sorted(smx.show_config("dicts"))
    ['isa', 'library', 'supported', 'threads', 'version']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', but is {mode!r}")
    config = {
        "version": _core.__version__,
        "isa": _core._isa(),
        "supported": [name for name in _INSTRUCTION_SETS if _core._isa_supported(name)],
        "threads": _core.get_num_threads(),
        "library": _core._library_path(),
    }
    if mode == "dicts":
        return config
    for key, value in config.items():
        print(f"{key:<10} {', '.join(value) if isinstance(value, list) else value}")
    return None
