"""A character language model: one attention layer, trained in NumPy; then it writes (`make demo`).

The text is what `help()` prints of Python's own language reference (pydoc_data, which every Python
carries). The model predicts the next character from up to 96 before it:

    x      = embedding[character] + position
    x      = x + attention(x Wq, x Wk, x Wv) Wo        causal, 4 heads
    x      = x + relu(x W1) W2
    logits = x unembeddingᵀ

swiftmax computes attention and its gradient, the loss with the gradients of its linear layer, and
draws the characters; NumPy multiplies the other matrices. Every number comes from a seed. What
swiftmax computes has the same bits for any number of threads, which the end of the run shows.
"""

import argparse
import hashlib
import time
from pydoc_data.topics import topics

import numpy as np
import swiftmax as smx
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

CONTEXT, WIDTH, HEADS, HIDDEN = 96, 128, 4, 256


def load():
    """(characters, the text as indices into them)."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    # What is rare becomes a question mark.
    text = "".join(c if c == "\n" or " " <= c <= "~" else "?" for c in text)
    characters = sorted(set(text))
    index = {c: i for i, c in enumerate(characters)}
    return characters, np.array([index[c] for c in text], np.int64)


def times(x, weights):
    """x · weights over the last axis, as one product of two matrices."""
    return (x.reshape(-1, x.shape[-1]) @ weights).reshape(*x.shape[:-1], -1)


def heads_of(x):
    """(B, L, WIDTH) seen as (B, HEADS, L, size), a view."""
    return x.reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)


def merged(x):
    """(B, HEADS, L, size) as (B, L, WIDTH)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


class Model:
    """Weights, and the gradient of the loss by each of them."""

    def __init__(self, characters, seed):
        generator = np.random.default_rng(seed)

        def matrix(*shape, scale=None):
            scale = shape[0] ** -0.5 if scale is None else scale
            return (scale * generator.standard_normal(shape)).astype(np.float32)

        self.weights = {
            "embedding": matrix(characters, WIDTH, scale=0.5),
            "position": matrix(CONTEXT, WIDTH, scale=0.5),
            "qkv": matrix(WIDTH, 3 * WIDTH),
            "output": matrix(WIDTH, WIDTH),
            "up": matrix(WIDTH, HIDDEN),
            "down": matrix(HIDDEN, WIDTH),
            "unembedding": matrix(characters, WIDTH, scale=WIDTH**-0.5),
        }

    def hidden(self, tokens):
        """The last hidden states (B, L, WIDTH), and what the way back needs."""
        w = self.weights
        x = w["embedding"][tokens] + w["position"][: tokens.shape[1]]
        q, k, v = (heads_of(part) for part in np.split(times(x, w["qkv"]), 3, axis=-1))
        out, lse = smx.attention(q, k, v, causal=True, return_lse=True)
        mixed = merged(out)
        y = x + times(mixed, w["output"])
        up = times(y, w["up"])
        z = y + times(np.maximum(up, 0), w["down"])
        return z, (tokens, x, q, k, v, out, lse, mixed, y, up)

    def loss_and_gradients(self, tokens, targets):
        w = self.weights
        z, (tokens, x, q, k, v, out, lse, mixed, y, up) = self.hidden(tokens)
        loss, (dz, d_unembedding) = smx.linear_cross_entropy(
            z, w["unembedding"], targets, return_grad=True
        )
        # Each line is the transpose of one of `hidden`.
        d_up = times(dz, w["down"].T) * (up > 0)
        dy = dz + times(d_up, w["up"].T)
        d_out = heads_of(times(dy, w["output"].T))
        d_qkv = smx.attention_vjp(d_out, q, k, v, out, lse, causal=True)
        d_qkv = np.concatenate([merged(part) for part in d_qkv], axis=-1)
        dx = dy + times(d_qkv, w["qkv"].T)
        d_embedding = np.zeros_like(w["embedding"])
        np.add.at(d_embedding, tokens, dx)
        d_position = np.zeros_like(w["position"])
        d_position[: tokens.shape[1]] = dx.sum(axis=0)

        def by_weights(inputs, gradients):
            return inputs.reshape(-1, inputs.shape[-1]).T @ gradients.reshape(
                -1, gradients.shape[-1]
            )

        return loss, {
            "embedding": d_embedding,
            "position": d_position,
            "qkv": by_weights(x, d_qkv),
            "output": by_weights(mixed, dy),
            "up": by_weights(y, d_up),
            "down": by_weights(np.maximum(up, 0), dz),
            "unembedding": d_unembedding,
        }


class Adam:
    """Kingma and Ba, 2015."""

    def __init__(self, weights, rate, decay=(0.9, 0.99)):
        self.rate, self.decay, self.steps = rate, decay, 0
        self.first = {name: np.zeros_like(w) for name, w in weights.items()}
        self.second = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, weights, gradients):
        self.steps += 1
        a, b = self.decay
        for name, g in gradients.items():
            self.first[name] = a * self.first[name] + (1 - a) * g
            self.second[name] = b * self.second[name] + (1 - b) * g * g
            mean = self.first[name] / (1 - a**self.steps)
            size = np.sqrt(self.second[name] / (1 - b**self.steps)) + 1e-8
            weights[name] -= self.rate * mean / size


def batch_of(text, rows, generator):
    """Random pieces of the text, and the same one character on."""
    starts = generator.integers(0, len(text) - CONTEXT - 1, rows)
    places = starts[:, None] + np.arange(CONTEXT)
    return text[places], text[places + 1]


def train(model, text, steps, rows, seed, rate=6e-3):
    """The loss of each step."""
    generator = np.random.default_rng(seed)
    optimizer = Adam(model.weights, rate)
    losses = []
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=steps)
        for step in range(steps):
            # The rate falls to a tenth along half a cosine.
            optimizer.rate = rate * (0.55 + 0.45 * np.cos(np.pi * step / steps))
            loss, gradients = model.loss_and_gradients(*batch_of(text, rows, generator))
            optimizer.step(model.weights, gradients)
            losses.append(float(loss))
            recent = np.mean(losses[-20:])
            progress.update(task, advance=1, description=f"step {step + 1:>4}  loss {recent:.3f}")
    return losses


def write(model, characters, prompt, length, seed, temperature=0.7, top_p=0.95):
    """The prompt and `length` characters that the model goes on with."""
    index = {c: i for i, c in enumerate(characters)}
    tokens = [index[c] for c in prompt]
    for place in range(length):
        z, _ = model.hidden(np.array(tokens[-CONTEXT:])[None])
        logits = model.weights["unembedding"] @ z[0, -1]
        token = smx.sample(logits, temperature=temperature, top_p=top_p, seed=seed, draw=place)
        tokens.append(int(token))
    return "".join(characters[t] for t in tokens)


def fingerprint(model, text, threads, seed):
    """A hash of what swiftmax computes in one step, on the same inputs."""
    _tokens, targets = batch_of(text, 8, np.random.default_rng(seed))
    generator = np.random.default_rng(seed)
    q, k, v, d_out = generator.standard_normal((4, 8, HEADS, CONTEXT, WIDTH // HEADS), np.float32)
    z = generator.standard_normal((8, CONTEXT, WIDTH), np.float32)
    with smx.num_threads(threads):
        out, lse = smx.attention(q, k, v, causal=True, return_lse=True)
        results = [out, lse, *smx.attention_vjp(d_out, q, k, v, out, lse, causal=True)]
        loss, gradients = smx.linear_cross_entropy(
            z, model.weights["unembedding"], targets, return_grad=True
        )
        results += [
            loss,
            *gradients,
            smx.sample(times(z, model.weights["unembedding"].T), seed=seed),
        ]
    hashed = hashlib.sha256()
    for array in results:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=16, help="pieces of text in a batch")
    parser.add_argument("--length", type=int, default=400, help="characters to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    characters, text = load()
    model = Model(len(characters), options.seed)
    print(
        f"{len(text)} characters of Python's language reference, {len(characters)} different ones"
    )
    begun = time.perf_counter()
    losses = train(model, text, options.steps, options.rows, options.seed)
    spent = time.perf_counter() - begun
    first, last = losses[0], np.mean(losses[-20:])
    print(
        f"loss {first:.3f} -> {last:.3f} nats a character in {options.steps} steps, {spent:.1f} s"
    )
    print("-" * 80)
    print(write(model, characters, "The ", options.length, options.seed))
    print("-" * 80)
    hashes = {n: fingerprint(model, text, n, options.seed) for n in (1, 2, 3)}
    same = len({*hashes.values(), fingerprint(model, text, 1, options.seed)}) == 1
    print(f"bits of what swiftmax computes: {hashes[1]}, the same on 1, 2 and 3 threads: {same}")
    if not (last < first - 1 and same):
        raise SystemExit("the loss has not fallen, or the bits differ")


if __name__ == "__main__":
    main()
