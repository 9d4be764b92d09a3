"""Temperature scaling and the expected calibration error, with swiftmax's log_softmax.

A classifier is calibrated when of all its answers given with confidence 0.8, 80 % are right. One
number, a temperature fitted on held-out logits, repairs most of what training leaves:

    T = argmin over T of  mean over i of  -log softmax(logits_i / T)[label_i]

In s = 1/T this is convex, with derivative mean(E[z] - z_label) and second derivative mean(Var[z])
under the softmax at s, so Newton's method finds it; a bracket keeps each step safe.
"""

from dataclasses import dataclass

import numpy as np
import swiftmax as smx


def negative_log_likelihood(logits, labels, temperature=1.0):
    """The mean over rows, in nats."""
    log_p = smx.log_softmax(logits, temperature=temperature)
    return -log_p[np.arange(len(labels)), labels].mean(dtype=np.float64)


def fit_temperature(logits, labels, low=0.01, high=100.0):
    """The temperature in [low, high] with the least negative log-likelihood."""
    z = np.asarray(logits, np.float64)
    own = z[np.arange(len(labels)), labels]
    bottom, top = 1 / high, 1 / low
    s = 1.0
    for _ in range(100):
        p = smx.softmax(z, temperature=1 / s)
        mean = (p * z).sum(axis=1)
        slope = (mean - own).mean()
        curvature = ((p * z * z).sum(axis=1) - mean**2).mean()
        # The slope grows with s: its sign says on which side of s the minimum lies.
        if slope > 0:
            top = s
        else:
            bottom = s
        following = s - slope / curvature if curvature > 0 else bottom
        if not bottom < following < top:
            following = np.sqrt(bottom * top)
        if abs(following - s) <= 1e-12 * s:
            break
        s = following
    return 1 / s


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: for each bin of confidence, how often the answer was right."""

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self):
        """The mean of |accuracy - confidence| over all answers, bin by bin."""
        gap = np.abs(self.accuracy - self.confidence)
        return float((gap * self.count).sum() / self.count.sum())


def reliability(logits, labels, temperature=1.0, bins=10):
    """Bins of equal width over the confidence of the answer, the largest probability of its row."""
    p = smx.softmax(logits, temperature=temperature)
    best = p.max(axis=1).astype(np.float64)
    right = p.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    # A confidence of exactly 1 belongs to the last bin.
    place = np.minimum((best * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    divisor = np.maximum(count, 1)
    confidence = np.bincount(place, best, bins) / divisor
    accuracy = np.bincount(place, right, bins) / divisor
    return Reliability(edges, count, confidence, accuracy)


def main():
    """Logits that are right but three times too sure: the temperature found is 3."""
    generator = np.random.default_rng(7)
    honest = generator.standard_normal((20_000, 5)) * 2
    # Labels drawn from softmax(honest) by the Gumbel trick, so these logits are calibrated.
    labels = (honest + generator.gumbel(size=honest.shape)).argmax(axis=1)
    sure = 3 * honest
    t = fit_temperature(sure, labels)
    print(f"temperature {t:.3f} (logits were multiplied by 3)")
    for name, value in (("before", 1.0), ("after", t)):
        error = reliability(sure, labels, value).expected_calibration_error
        loss = negative_log_likelihood(sure, labels, value)
        print(f"{name:<7} expected calibration error {error:.4f}, log-loss {loss:.4f}")


if __name__ == "__main__":
    main()
