"""How fast and how exact swiftmax is, measured beside the libraries that one would use instead.

    python -m bench              speed: a table, build/bench.json, build/bench.png
    python -m bench.accuracy     errors in ulp against an exact reference

Run from the root of the repository. Peers (torch, JAX, onnxruntime, SciPy) are optional: one that
cannot be imported leaves its column empty.
"""
