"""The encoder of all-MiniLM-L6-v2 in NumPy: BERT with 6 layers, 12 heads, 384 wide.

A sentence of n tokens goes in as ids, and comes out as one vector of length 1: the mean of what the
last layer says of its n tokens. Two sentences mean the same as far as the product of their vectors
is near 1.

Shapes: B sentences in a batch, W the width to which each is padded, H = 12 heads of D = 32.

Bits. swiftmax gives a sentence the same attention alone and in any batch, whatever the padding
holds. So do NumPy's functions of single elements and its sums along one row. Its matrix product
does not: the BLAS behind it may sum in another order when the number of rows changes. So each
product here is (W, inputs) by (inputs, outputs), one for each sentence, and a sentence has the same
bits in every batch of one width W.

What remains NumPy's to break: that a product of the same shape and values has the same bits each
time. It has so far, within one process; another BLAS, CPU or number of BLAS threads may round
otherwise, and two widths need not agree.
"""

import math

import numpy as np
import swiftmax as smx
from scipy.special import erf

LAYERS = 6
HEADS = 12
# The variance below which LayerNorm stops magnifying, from the model's config.json.
EPSILON = 1e-12
# Widths are multiples of this, so that a sentence has its own width, not that of its neighbours.
# Of the rows of the demo's text 19 % are then padding; 34 % at 32; 11 % at 8, in smaller batches.
WIDTH_STEP = 16


def fused_attention(query, key, value, lengths):
    """swiftmax: no (W, W) array of scores is ever stored, no key beyond its length is used."""
    return smx.attention(query, key, value, key_lengths=lengths, layout="BLHD")


def plain_attention(query, key, value, lengths):
    """The formula as it is written, in NumPy alone; the reference when the arrays are float64."""
    # query, key, value are (B, W, H, D), here made (B, H, W, D); score is (B, H, W, W)
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    score = query @ key.swapaxes(2, 3) / math.sqrt(query.shape[-1])
    padding = np.arange(key.shape[2]) >= lengths[:, None]
    score = np.where(padding[:, None, None, :], -np.inf, score)
    weight = np.exp(score - score.max(axis=-1, keepdims=True))
    weight /= weight.sum(axis=-1, keepdims=True)
    return (weight @ value).swapaxes(1, 2)


def gelu(x):
    """x times the normal distribution function of x: the exact one, not its tanh approximation."""
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def mean_of_tokens(x, lengths):
    """The mean over each sentence's own tokens, brought to length 1."""
    # x is (B, W, 384). Rows of padding are cut off, not multiplied by 0: they do not count at all.
    mean = np.stack([row[:n].sum(axis=0) / n for row, n in zip(x, lengths.tolist(), strict=True)])
    return mean / np.sqrt((mean * mean).sum(axis=1, keepdims=True))


def padded(sentences, width=None):
    """(ids, lengths): lists of ids as a (B, W) array, 0 beyond their ends, and (B,) lengths."""
    lengths = np.array([len(ids) for ids in sentences])
    ids = np.zeros((len(sentences), width or lengths.max()), np.int64)
    for row, sentence in zip(ids, sentences, strict=True):
        row[: len(sentence)] = sentence
    return ids, lengths


class Encoder:
    """`encoder(ids, lengths)` is (B, 384); computed in `dtype`, with the attention given."""

    def __init__(self, tensors, attention=fused_attention, dtype=np.float32):
        # float32 is what the file holds: then these are views of it, and nothing is copied.
        floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype.kind == "f"}
        self.tensors = {name: np.asarray(tensor, dtype) for name, tensor in floats.items()}
        self.attention = attention

    def __call__(self, ids, lengths):
        words, positions, types = (
            self.tensors[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        x = words[ids] + positions[: ids.shape[1]] + types[0]
        x = self.normalise(x, "embeddings.LayerNorm")
        for number in range(LAYERS):
            x = self.layer(x, lengths, f"encoder.layer.{number}")
        return mean_of_tokens(x, lengths)

    def layer(self, x, lengths, name):
        """Attention, then two matrices on each token; each step adds to what it was given."""
        # 1. What each token takes from the others. The heads are the last axis seen as (H, D),
        #    which is layout BLHD: nothing is transposed.
        query, key, value = (
            self.linear(x, f"{name}.attention.self.{part}").reshape(*x.shape[:2], HEADS, -1)
            for part in ("query", "key", "value")
        )
        taken = self.attention(query, key, value, lengths).reshape(x.shape)
        x = x + self.linear(taken, f"{name}.attention.output.dense")
        x = self.normalise(x, f"{name}.attention.output.LayerNorm")
        # 2. What each token makes of it.
        inner = gelu(self.linear(x, f"{name}.intermediate.dense"))
        x = x + self.linear(inner, f"{name}.output.dense")
        return self.normalise(x, f"{name}.output.LayerNorm")

    def linear(self, x, name):
        """x times the matrix, plus the bias; the matrix is stored as (outputs, inputs)."""
        matrix = self.tensors[f"{name}.weight"].T
        out = np.empty((*x.shape[:2], matrix.shape[1]), x.dtype)
        # One product a sentence, so that no product's shape depends on the batch. A product of all
        # rows at once gives other bits (seen on AVX-512 with OpenBLAS, in every sentence tried).
        for sentence, place in zip(x, out, strict=True):
            np.matmul(sentence, matrix, out=place)
        out += self.tensors[f"{name}.bias"]
        return out

    def normalise(self, x, name):
        """LayerNorm: each token's vector brought to mean 0 and variance 1, scaled and shifted."""
        x = x - x.mean(axis=-1, keepdims=True)
        variance = (x * x).mean(axis=-1, keepdims=True)
        x /= np.sqrt(variance + EPSILON)
        return x * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]


def embed(encoder, sentences, batch=16, advance=lambda count: None):
    """(N, 384), a vector for each list of ids, in their order; `advance` is told of each batch.

    Sentences of one width go together, so that a vector depends on its own sentence and on nothing
    else: the same bits alone, in any order and in any batch.
    """
    groups = {}
    for number, ids in enumerate(sentences):
        groups.setdefault(-(-len(ids) // WIDTH_STEP) * WIDTH_STEP, []).append(number)
    vectors = [None] * len(sentences)
    for width, numbers in groups.items():
        for first in range(0, len(numbers), batch):
            part = numbers[first : first + batch]
            found = encoder(*padded([sentences[number] for number in part], width))
            for number, vector in zip(part, found, strict=True):
                vectors[number] = vector
            advance(len(part))
    return np.stack(vectors)
