"""Random calls of attention: any options together, keys and values handed over in any form.

A call is a few small numbers, which hypothesis shrinks, and a seed for all that is large.
"""

from dataclasses import dataclass

import numpy as np
from attention_reference import visible_keys
from hypothesis import strategies as st

INF, NAN = np.inf, np.nan
MASKS = ["mask", "causal", "query_offset", "window", "key_lengths", "query_lengths", "segment_ids"]
OTHERS = ["bias", "alibi_slopes", "scale", "softcap", "sinks"]
# How keys and values are handed over; at most one of them.
FORMS = ["plain", "past", "paged", "shared"]


@dataclass(frozen=True)
class Call:
    """What makes a call, all of it: its repr is what a failing test prints."""

    seed: int
    batch: int
    key_heads: int
    group: int
    lq: int
    lk: int
    head_size: int
    value_size: int
    rank: int = 4
    layout: str = "BHLD"
    form: str = "plain"
    block: int = 1
    spread: float = 1.0
    options: tuple = ()

    def build(self, dtype=np.float32, poison=False):
        """(query, key, value), options. With `poison`, keys that no query sees hold NaN and inf."""
        c, rng = self, np.random.default_rng(self.seed)
        heads = c.key_heads * c.group
        key_batch = 1 if c.form == "shared" else c.batch
        query = c.normal(rng, (c.batch, heads, c.lq, c.head_size)).astype(dtype)
        key = c.normal(rng, (key_batch, c.key_heads, c.lk, c.head_size)).astype(dtype)
        value = c.normal(rng, (key_batch, c.key_heads, c.lk, c.value_size)).astype(dtype)
        options = {name: getattr(self, f"_{name}")(rng, dtype) for name in c.options}
        if c.layout != "BHLD":
            options["layout"] = c.layout
        if poison:
            visible = visible_keys((c.batch, heads, c.lq, c.lk), c.rank, **options)
            seen = visible.reshape(c.batch, c.key_heads, c.group * c.lq, c.lk).any(2)
            hidden = ~(seen.any(0, keepdims=True) if key_batch == 1 else seen)
            key[hidden] = np.resize([NAN, INF, -INF], key[hidden].shape)
            value[hidden] = np.resize([INF, NAN, -INF], value[hidden].shape)
        if c.form == "past":
            cut = int(rng.integers(0, c.lk + 1))
            options["past_key"], key = key[:, :, :cut], key[:, :, cut:]
            options["past_value"], value = value[:, :, :cut], value[:, :, cut:]
        tensors = [query, key, value]
        if c.form == "paged":
            table = rng.permutation(c.batch * c.lk // c.block + 3)[3:].astype(np.int32)
            options["block_table"] = table.reshape(c.batch, -1)
            tensors[1:] = (self._pool(x, options["block_table"]) for x in tensors[1:])
        for name in "past_key", "past_value":
            if name in options:
                options[name] = self._laid_out(options[name])
        return [self._laid_out(x) for x in tensors], options

    def normal(self, rng, shape):
        return rng.standard_normal(shape) * self.spread

    def _laid_out(self, x):
        if self.rank == 2:
            return x[0, 0]
        x = np.copy(x.swapaxes(1, 2)) if self.layout == "BLHD" else x
        return x[0] if self.rank == 3 else x

    def _pool(self, x, table):
        """Blocks in any order, three that no table names holding NaN."""
        heads, size = x.shape[1], x.shape[3]
        pool = np.full((table.size + 3, heads, self.block, size), NAN, x.dtype)
        for b, n in np.ndindex(table.shape):
            pool[table[b, n]] = x[b, :, n * self.block : (n + 1) * self.block]
        return pool

    def _over_scores(self, rng):
        """A shape that broadcasts to the scores: some axes of length 1, or left away."""
        shape = (self.batch, self.key_heads * self.group, self.lq, self.lk)[4 - self.rank :]
        shape = tuple(n if rng.random() < 0.7 else 1 for n in shape)
        return shape[int(rng.integers(0, self.rank)) :]

    def _leading(self, rng):
        """A shape of one number for each of the first leading axes."""
        axes = (self.batch, self.key_heads * self.group)[4 - self.rank :]
        return axes[: int(rng.integers(0, len(axes) + 1))]

    def _mask(self, rng, dtype):
        return rng.random(self._over_scores(rng)) < 0.8

    def _bias(self, rng, dtype):
        bias = rng.standard_normal(self._over_scores(rng)) * 2
        return np.where(rng.random(bias.shape) < 0.1, -INF, bias).astype(dtype)

    def _causal(self, rng, dtype):
        return True

    def _query_offset(self, rng, dtype):
        return rng.integers(-5, max(self.lk, 1) + 5, self._leading(rng))

    def _window(self, rng, dtype):
        sides = [None, -1, 0, 1, 7, 40, 2**40]
        return tuple(sides[int(rng.integers(0, len(sides)))] for _ in range(2))

    def _key_lengths(self, rng, dtype):
        return rng.integers(0, self.lk + 1, self._leading(rng))

    def _query_lengths(self, rng, dtype):
        return rng.integers(0, self.lq + 1, self._leading(rng))

    def _segment_ids(self, rng, dtype):
        leading = self._leading(rng)
        return tuple(rng.integers(0, 3, (*leading, n)) for n in (self.lq, self.lk))

    def _per_head(self, rng, dtype, with_batch):
        heads = self.key_heads * self.group
        shape = (self.batch, heads) if with_batch and rng.random() < 0.5 else (heads,)
        return rng.standard_normal(shape).astype(np.float64 if dtype == np.float64 else np.float32)

    def _alibi_slopes(self, rng, dtype):
        return abs(self._per_head(rng, dtype, self.rank == 4)) * np.float32(0.25)

    def _sinks(self, rng, dtype):
        return 2 * self._per_head(rng, dtype, False)

    def _scale(self, rng, dtype):
        return float(rng.choice([0.0, -0.5, 0.1, 1.0]))

    def _softcap(self, rng, dtype):
        return float(rng.choice([0.5, 5.0, 50.0]))


# -- for hypothesis --------------------------------------------------------------------------

LENGTHS = st.sampled_from([1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 65, 127, 128, 129, 130, 0])
SIZES = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 64, 65, 128, 130])


@st.composite
def calls(draw):
    rank = draw(st.sampled_from([4, 4, 4, 4, 4, 4, 3, 3, 2]))
    lq, lk = draw(LENGTHS | st.integers(0, 200)), draw(LENGTHS | st.integers(0, 200))
    # Short queries may have many heads: the reference is a loop over rows.
    most = 3 if lq < 50 else 2
    forms = FORMS if rank == 4 else FORMS[:2]
    form, block = draw(st.sampled_from(forms)), 1
    if form == "paged":
        block = draw(st.sampled_from([1, 3, 16, 64]))
        lk = block * min(lk // block, 40)
    # Two axes have no place for numbers for each head.
    others = [name for name in OTHERS if rank > 2 or name not in ("alibi_slopes", "sinks")]
    # More masks at once would leave little to see.
    chosen = draw(st.sets(st.sampled_from(MASKS), max_size=3))
    chosen |= draw(st.sets(st.sampled_from(others)))
    return Call(
        seed=draw(st.integers(0, 2**16)),
        batch=draw(st.integers(1, most)) if rank == 4 else 1,
        key_heads=draw(st.integers(1, most)) if rank > 2 else 1,
        group=draw(st.integers(1, 4 if lq < 50 else 2)) if rank > 2 else 1,
        lq=lq, lk=lk,
        head_size=draw(SIZES | st.integers(1, 130)), value_size=draw(SIZES | st.integers(1, 130)),
        rank=rank, layout=draw(st.sampled_from(["BHLD", "BLHD"])) if rank > 2 else "BHLD",
        form=form, block=block, spread=draw(st.sampled_from([1.0, 0.1, 3.0, 10.0])),
        options=tuple(sorted(chosen)),
    )
