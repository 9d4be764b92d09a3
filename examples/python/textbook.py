"""The worked examples of the textbook pages, computed by swiftmax and checked.

    python examples/python/textbook.py

Each line prints what a page says and what the library gives; the program ends with an error if one
differs.
"""

import numpy as np
import swiftmax as smx


def show(title, got, expected, tolerance=5e-7):
    """One line; `expected` has the digits that the page prints."""
    got, expected = np.asarray(got), np.asarray(expected)
    print(f"  {title:<44} {np.array2string(got, precision=6, suppress_small=True)}")
    if not np.allclose(got, expected, rtol=0, atol=tolerance):
        raise SystemExit(f"{title}: expected {expected}, got {got}")


def plain(x):
    """The formula as it is written, in float64, for small numbers."""
    e = np.exp(np.asarray(x, np.float64))
    return e / e.sum()


def basics():
    print("Softmax, and why its formula is not its algorithm")
    show("softmax([2, 1, 0])", smx.softmax([2, 1, 0]), [0.665241, 0.244728, 0.090031])
    # exp(1001) overflows; the result depends on differences only.
    show("softmax([1000, 1001, 999])", smx.softmax([1000, 1001, 999]), plain([1, 2, 0]))
    show("softmax([0, 0, 0, 0])", smx.softmax([0, 0, 0, 0]), [0.25] * 4)
    x = np.array([0.3, -1.2, 2.5])
    show("softmax(x) - softmax(x + 100)", smx.softmax(x) - smx.softmax(x + 100), [0, 0, 0], 1e-14)


def temperature():
    print("Temperature: low sharpens, high flattens")
    for t in (2.0, 1.0, 0.5):
        expected = plain(np.array([2, 1, 0]) / t)
        show(f"softmax([2, 1, 0]), T = {t:g}", smx.softmax([2, 1, 0], temperature=t), expected)
    for t in (1.0, 2.0):
        expected = plain(np.array([3, 1, -1]) / t)
        show(f"softmax([3, 1, -1]), T = {t:g}", smx.softmax([3, 1, -1], temperature=t), expected)
    show("T -> 0: the largest takes all", smx.softmax([2, 1, 0], temperature=0), [1, 0, 0])
    show("... and ties share", smx.softmax([2, 2, 0], temperature=0), [0.5, 0.5, 0])
    show("T -> inf: uniform", smx.softmax([2, 1, 0], temperature=np.inf), [1 / 3] * 3)


def two_classes():
    print("Two classes: softmax is the sigmoid of the difference")
    a, b = 1.7, 0.4
    sigmoid = 1 / (1 + np.exp(-(a - b)))
    show("softmax([a, b]) against sigmoid(a - b)", smx.softmax([a, b]), [sigmoid, 1 - sigmoid])


def scores():
    print("Scores of words")
    show(
        "four words, scores 6, 3, 0.5, 0.5", smx.softmax([6, 3, 0.5, 0.5]), plain([6, 3, 0.5, 0.5])
    )
    # The same gap to the runner-up says little: what counts is the gap to all others.
    show("[4, 4, 2]", smx.softmax([4, 4, 2]), plain([4, 4, 2]))
    show("[4, 4, 12]", smx.softmax([4, 4, 12]), plain([4, 4, 12]))


def log_space():
    print("In log space nothing is lost")
    small = np.array([0, -20], np.float32)
    show("log_softmax([0, -20]) in float32, times 1e9", smx.log_softmax(small)[0] * 1e9, -2.0611537)
    show("logsumexp([0, -20]) in float32, times 1e9", smx.logsumexp(small) * 1e9, 2.0611537)
    # 1000 words of probability 0.1 each: the product underflows, the sum of logarithms does not.
    logs = smx.log_softmax(np.zeros((1000, 10)))[:, 0]
    show("product of 1000 probabilities of 0.1", np.prod(np.full(1000, 0.1)), 0)
    show("sum of their logarithms", logs.sum(), 1000 * np.log(0.1), 1e-9)


def derivatives():
    print("Derivatives, by finite differences")
    x, step = np.array([2.0, 1.0, 0.0]), 1e-6
    p = smx.softmax(x)
    jacobian = np.diag(p) - np.outer(p, p)
    moved = x + step * np.array([np.eye(3), -np.eye(3)])
    up, down = smx.softmax(moved)
    deviation = np.abs((up - down) / (2 * step) - jacobian).max()
    show("Jacobian diag(p) - ppT, largest deviation", deviation, 0, 1e-9)
    # Cross-entropy of class 0: its gradient by the scores is p - y.
    up, down = -smx.log_softmax(moved)[..., 0]
    y = np.array([1, 0, 0])
    deviation = np.abs((up - down) / (2 * step) - (p - y)).max()
    show("gradient p - y, largest deviation", deviation, 0, 1e-9)


def main():
    for part in (basics, temperature, two_classes, scores, log_space, derivatives):
        part()
    print("All as the textbook has it.")


if __name__ == "__main__":
    main()
