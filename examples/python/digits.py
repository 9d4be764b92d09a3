"""Softmax regression on handwritten digits, its calibration, and a picture of both (`make demo`).

scikit-learn's digits: 1797 images of 8 × 8 pixels. The model is one matrix and one bias, logits = x
W + b, trained by gradient descent with momentum; swiftmax gives the loss (log_softmax), and from it
the gradient by the logits, p - y, is made by hand (cross_entropy can give both). Deterministic: the
same seed gives the same figures.

Few images, little regularisation and a long training make the model too sure of itself. A
temperature fitted on held-out images repairs that without changing one answer.
"""

import argparse
from pathlib import Path

import numpy as np
import swiftmax as smx
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sklearn.datasets import load_digits

CLASSES = 10
# Pixels are counts from 0 to 16.
PIXEL_MAXIMUM = 16
# Of the reliability diagrams.
BINS = 10


def load(seed):
    """(images, labels) for training, for the temperature, and for the test: 40, 20, 40 %."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = (images[order] / PIXEL_MAXIMUM).astype(np.float32)
    labels = labels[order]
    first, second = int(0.4 * len(labels)), int(0.6 * len(labels))
    parts = np.split(np.arange(len(labels)), [first, second])
    return [(images[part], labels[part]) for part in parts]


class Model:
    """logits = x W + b."""

    def __init__(self, inputs, classes):
        self.weights = np.zeros((inputs, classes), np.float32)
        self.bias = np.zeros(classes, np.float32)
        self.moments = [np.zeros_like(self.weights), np.zeros_like(self.bias)]

    def logits(self, x):
        return x @ self.weights + self.bias

    def step(self, x, labels, rate, momentum=0.9):
        """One step on one batch; returns the mean cross-entropy before it."""
        rows = np.arange(len(labels))
        log_p = smx.log_softmax(self.logits(x))
        loss = -log_p[rows, labels].mean(dtype=np.float64)
        # The gradient of the cross-entropy by the logits is p - y.
        gradient = np.exp(log_p)
        gradient[rows, labels] -= 1
        gradient /= len(labels)
        for value, moment, slope in zip(
            (self.weights, self.bias),
            self.moments,
            (x.T @ gradient, gradient.sum(axis=0)),
            strict=True,
        ):
            moment *= momentum
            moment -= rate * slope
            value += moment
        return loss


def train(model, training, validation, epochs, seed, batch=32, rate=0.5):
    """Mean loss of each epoch on the training and the held-out images."""
    x, labels = training
    generator = np.random.default_rng(seed)
    curve = []
    text = TextColumn("{task.description}")
    columns = (TextColumn("training"), BarColumn(), text, TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=epochs)
        for epoch in range(epochs):
            order = generator.permutation(len(labels))
            batches = [order[i : i + batch] for i in range(0, len(order), batch)]
            losses = [model.step(x[rows], labels[rows], rate) for rows in batches]
            held_out = smx.cross_entropy(model.logits(validation[0]), validation[1])
            curve.append((np.mean(losses), held_out))
            text = f"epoch {epoch + 1:>4}  loss {curve[-1][0]:.4f}, held out {held_out:.4f}"
            progress.update(task, advance=1, description=text)
    return np.array(curve)


def draw(path, curve, before, after, temperature):
    """The loss curve, and the calibration error and reliability diagram before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    left.plot(curve[:, 0], color="#f05138", label="training")
    left.plot(curve[:, 1], color="#5b8db8", label="held out")
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    left.set_title("Softmax regression", fontsize=11)
    left.legend()
    titles = ("Before: T = 1", f"After: T = {temperature:.2f}")
    for panel, title, (error, data) in zip((middle, right), titles, (before, after), strict=True):
        width = np.diff(data.edges)
        filled = data.counts > 0
        panel.bar(
            data.edges[:-1], data.accuracy, width, align="edge", color="#5b8db8", edgecolor="white"
        )
        panel.plot([0, 1], [0, 1], "--", color="grey", lw=1)
        panel.plot(data.confidence[filled], data.accuracy[filled], "o-", color="#f05138", ms=4)
        for edge, count in zip(data.edges[:-1], data.counts, strict=True):
            if count:
                panel.text(edge + width[0] / 2, 0.02, str(count), ha="center", fontsize=7)
        panel.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of right answers")
        panel.set_title(f"{title}   (calibration error {error:.4f})", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, default=Path("build/digits.png"))
    options = parser.parse_args()

    training, held_out, test = load(options.seed)
    counts = [len(labels) for _, labels in (training, held_out, test)]
    print("digits: {} to train, {} held out, {} to test".format(*counts))
    model = Model(training[0].shape[1], CLASSES)
    curve = train(model, training, held_out, options.epochs, options.seed)

    temperature = smx.fit_temperature(model.logits(held_out[0]), held_out[1]).temperature
    logits, labels = model.logits(test[0]), test[1]
    before, after = (
        smx.calibration_error(logits, labels, temperature=t, bins=BINS, return_diagram=True)
        for t in (1.0, temperature)
    )
    accuracy = (logits.argmax(axis=1) == labels).mean()
    loss = smx.cross_entropy(logits, labels)
    loss_after = smx.cross_entropy(logits, labels, temperature=temperature)

    first, last = curve[[0, -1], 0]
    print(f"loss                         {first:.4f} in the first epoch, {last:.4f} in the last")
    print(f"test accuracy                {accuracy:.4f}")
    print(f"temperature                  {temperature:.4f}, fitted on the held-out images")
    print("on the test images           before    after")
    errors = before[0], after[0]
    print(f"  expected calibration error {errors[0]:.4f}    {errors[1]:.4f}")
    print(f"  negative log-likelihood    {loss:.4f}    {loss_after:.4f}")
    draw(options.picture, curve, before, after, temperature)
    print(f"wrote {options.picture}")
    if accuracy <= 0.9:
        raise SystemExit("the test accuracy should be above 0.9")
    if errors[1] >= errors[0]:
        raise SystemExit("the temperature should lower the calibration error")


if __name__ == "__main__":
    main()
