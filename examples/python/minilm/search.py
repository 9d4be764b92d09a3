"""Semantic search in a real text by all-MiniLM-L6-v2, with swiftmax attention (`make demo`).

    python examples/python/minilm/search.py

Each sentence becomes a vector, each question too; the best hits are those whose vectors point the
same way, whether or not they share a word. The program then checks what it used, and ends with an
error if a check fails: the vectors against the same encoder in float64 with plain NumPy attention,
and the bits of a sentence alone against its bits in padded batches.
"""

import argparse
import textwrap
import time

import corpus
import numpy as np
from encoder import Encoder, embed, padded, plain_attention
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizer import Tokenizer
from weights import model_folder, read_safetensors

QUESTIONS = (
    "How do I recognise a person in a photo?",
    "Which animals live in the jungle?",
    "How much does a house cost?",
)
HITS = 3
# Largest difference of an element of a vector from the float64 reference. The elements are about
# 0.05; what is asked of float32 here is its own rounding and no more.
TOLERANCE = 1e-5
# How many sentences are checked, spread over the text.
CHECKED = 8


def embed_text(encoder, sentences):
    """The vectors of the text, with a progress bar and then the time."""
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=len(sentences))
        start = time.perf_counter()
        vectors = embed(encoder, sentences, advance=lambda count: progress.advance(task, count))
        seconds = time.perf_counter() - start
    tokens = sum(map(len, sentences))
    print(f"{len(sentences)} sentences, {tokens} tokens: {seconds:.2f} s", end=", ")
    print(f"{1000 * seconds / len(sentences):.1f} ms a sentence")
    return vectors


def answer(question, vector, vectors, text):
    """The sentences nearest to the question; of unit vectors the product is the cosine."""
    scores = vectors @ vector
    print(f"\n{question}")
    for place in np.argsort(-scores)[:HITS]:
        source, sentence = text[place]
        hit = f"{scores[place]:.3f} {source}: {sentence}"
        lines = textwrap.wrap(hit, 96, subsequent_indent=" " * 6, max_lines=2, placeholder=" ...")
        print(textwrap.indent("\n".join(lines), "  "))


def check_accuracy(tensors, sentences, vectors):
    """Against float64, each sentence alone and unpadded, so that the masks are checked as well."""
    reference = Encoder(tensors, plain_attention, np.float64)
    expected = np.concatenate([reference(*padded([ids])) for ids in sentences])
    difference = np.abs(vectors - expected).max()
    print(f"against float64 NumPy      {difference:.1e} apart at most, {TOLERANCE:.0e} allowed")
    # Negated, so that NaN fails too.
    if not difference <= TOLERANCE:
        raise SystemExit("the vectors differ from the float64 reference")


def check_bits(encoder, sentences):
    """Each sentence alone, and amid all the others, at one width."""
    width = max(map(len, sentences))
    together = encoder(*padded(sentences, width))
    alone = np.concatenate([encoder(*padded([ids], width)) for ids in sentences])
    same = (together.view(np.uint32) == alone.view(np.uint32)).all(axis=1).sum()
    print(f"alone and in a batch       {same} of {len(sentences)} sentences have the same bits")
    if same < len(sentences):
        raise SystemExit("a sentence's vector depends on the batch it is in")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", default=QUESTIONS, help="instead of the demo's own")
    questions = parser.parse_args().questions

    folder = model_folder()
    tensors = read_safetensors(folder / "model.safetensors")
    tokenizer = Tokenizer(folder / "vocab.txt")
    encoder = Encoder(tensors)
    text = corpus.sentences()
    sentences = [tokenizer(sentence) for _, sentence in text]
    print("MiniLM: semantic search in scikit-learn's descriptions of its data sets")
    vectors = embed_text(encoder, sentences)

    asked = embed(encoder, [tokenizer(question) for question in questions])
    for question, vector in zip(questions, asked, strict=True):
        answer(question, vector, vectors, text)

    print()
    spread = np.linspace(0, len(sentences) - 1, CHECKED).astype(int)
    checked = [sentences[number] for number in spread]
    check_accuracy(tensors, checked, vectors[spread])
    check_bits(encoder, checked)


if __name__ == "__main__":
    main()
