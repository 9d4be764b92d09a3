"""What `sample` and its kin are defined to be, in Python integers and plain NumPy, row by row."""

import itertools
import math
from fractions import Fraction

import numpy as np

LOG2E = float.fromhex("0x1.71547652b82fep0")


def normal(shape, seed, scale=3.0, dtype=np.float32):
    """Logits for tests."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def philox(counter, key):
    """Philox4x32-10 from the paper (Salmon et al. 2011, section 3.3), four words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q % 2**32, p >> 32 ^ c[3] ^ k[1], p % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def words(seed, counter, low, high):
    counter %= 2**64
    return philox(
        (low % 2**32, high % 2**32, counter % 2**32, counter >> 32), (seed % 2**32, seed >> 32)
    )


def random_of_draw(seed, counter, draw):
    w = words(seed, counter, draw, draw >> 32)
    return w[0] | w[1] << 32


def left(x, temperature=1.0, top_k=None, top_p=None, min_p=None, mask=None):
    """Places that the filters leave, in the row's order, and the weight of each, an integer."""
    x = np.asarray(x).astype(np.float64)
    mask = np.ones(x.shape, bool) if mask is None else mask
    order = [i for i in np.lexsort((np.arange(x.size), -x)) if mask[i] and x[i] > -np.inf]
    if temperature == 0:
        top_k, temperature = 1, 1.0
    if top_k:
        order = order[:top_k]
    y = (x[order] - x[order[0]]) * (LOG2E / temperature)
    weights = [int(w) for w in np.rint(np.exp2(y) * 2.0**52)]
    if top_p is not None and top_p < 1:
        # As a multiple of 2^-64, rounded up.
        need = math.ceil(Fraction(float(top_p)) * 2**64) * sum(weights)
        sums = itertools.accumulate(weights)
        count = next(i for i, s in enumerate(sums, 1) if s * 2**64 >= need)
        order, weights = order[:count], weights[:count]
    if min_p:
        keep = y[: len(order)] >= np.log(min_p) * LOG2E
        order = [i for i, k in zip(order, keep, strict=True) if k]
        weights = [w for w, k in zip(weights, keep, strict=True) if k]
    pairs = sorted(zip(order, weights, strict=True))
    return [int(i) for i, _ in pairs], [w for _, w in pairs]


def draw_from(places, weights, random):
    target, sum_ = random * sum(weights) >> 64, 0
    for place, weight in zip(places, weights, strict=True):
        sum_ += weight
        if sum_ > target:
            return place
    raise AssertionError


def token(x, seed, counter, draw=0, **filters):
    return draw_from(*left(x, **filters), random_of_draw(seed, counter, draw))


def gumbel_noise(n, seed, counter, draw=0):
    """-log(-log(u)) in float64."""
    g = np.empty(n)
    for i in range(n):
        w = words(seed, counter, i >> 1, 2**31 + draw)
        r = w[2] | w[3] << 32 if i % 2 else w[0] | w[1] << 32
        g[i] = -np.log(-np.log(((r >> 12) + 0.5) * 2.0**-52))
    return g
