"""How fast and how exact swiftmax is, measured beside the libraries that one would use instead.

    python -m bench              speed: tables, build/bench.json, build/bench.png and
                                 build/bench-attention.png; --only attention for that alone
    python -m bench.accuracy     errors against an exact reference; --attention for that alone

Run from the root of the repository. Peers (torch, JAX, onnxruntime, OpenVINO, SciPy) are optional:
one that cannot be imported leaves its column empty.
"""
