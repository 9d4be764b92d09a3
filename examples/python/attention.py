"""Causal attention with a KV cache: prefill, chunks and decode steps give the same bits.

    python examples/python/attention.py

Eight query heads share two key heads. The program ends with an error if a line does not hold.
"""

import numpy as np
import swiftmax as smx

LENGTH, ROOM, HEADS, KEY_HEADS, SIZE = 60, 96, 8, 2, 32


def check(title, holds):
    print(f"  {title:<72} {'yes' if holds else 'no'}")
    if not holds:
        raise SystemExit(f"does not hold: {title}")


def same_bits(a, b):
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


rng = np.random.default_rng(0)
query = rng.standard_normal((HEADS, LENGTH, SIZE), np.float32)
key, value = rng.standard_normal((2, KEY_HEADS, LENGTH, SIZE), np.float32)

print(f"A sequence of {LENGTH} tokens at once, and through a cache of {ROOM} places")
whole = smx.attention(query, key, value, causal=True)

# What the cache does not hold yet is never used, so it may be anything.
cached_key, cached_value = np.full((2, KEY_HEADS, ROOM, SIZE), np.nan, np.float32)


def step(start, end):
    """Puts tokens start..<end into the cache and attends from them."""
    cached_key[:, start:end], cached_value[:, start:end] = key[:, start:end], value[:, start:end]
    rules = {"causal": True, "query_offset": start, "key_lengths": end}
    return smx.attention(query[:, start:end], cached_key, cached_value, **rules)


check("prefill of the first 40 tokens", same_bits(step(0, 40), whole[:, :40]))
check("a chunk of 7 more", same_bits(step(40, 47), whole[:, 40:47]))
steps = [step(i, i + 1) for i in range(47, LENGTH)]
check("the others one by one", same_bits(np.concatenate(steps, axis=1), whole[:, 47:]))

# Past keys and new ones may lie in two places, too.
past = {"past_key": cached_key[:, :59], "past_value": cached_value[:, :59]}
last = smx.attention(query[:, 59:], key[:, 59:], value[:, 59:], **past)
check("the last token beside past keys, without joining them", same_bits(last, whole[:, 59:]))

print("Two sequences of 60 and 25 tokens, padded: each as if it were alone")
twice = [np.stack([x, x]) for x in (query, key, value)]
padded = smx.attention(*twice, causal=True, query_offset=0, key_lengths=[60, 25])
alone = smx.attention(query[:, :25], key[:, :25], value[:, :25], causal=True)
check("key lengths", same_bits(padded[0], whole) and same_bits(padded[1, :, :25], alone))

print("Rules are joined by &; this one lets a token see itself and the two before it:")
rule = smx.Mask.causal() & smx.Mask.window(2, None)
for row in rule.to_array(5, 5).astype(int):
    print("   ", *row)
array = rule.to_array(LENGTH, LENGTH)
by_rule, by_array = (smx.attention(query, key, value, mask=mask) for mask in (rule, array))
check("a rule and the array that says the same", same_bits(by_rule, by_array))
