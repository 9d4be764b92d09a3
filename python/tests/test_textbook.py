"""Worked examples of textbook pages, to the digits they print."""

import numpy as np
import pytest

import swiftmax as smx


def close(ours, page, digits=6):
    np.testing.assert_allclose(ours, page, atol=0.5 * 10**-digits, rtol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_scores(dtype):
    # Textbook page: softmax of (2, 1, 0).
    close(smx.softmax(np.array([2, 1, 0], dtype)), [0.665241, 0.244728, 0.090031])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_scores_do_not_overflow(dtype):
    # Textbook page: softmax of (1000, 1001, 999), the numerical stability example.
    close(smx.softmax(np.array([1000, 1001, 999], dtype)), [0.244728, 0.665241, 0.090031])


@pytest.mark.parametrize("temperature, page", [
    (2.0, [0.506480, 0.307196, 0.186324]),
    (1.0, [0.665241, 0.244728, 0.090031]),
    (0.5, [0.866813, 0.117310, 0.015876]),
])
def test_temperature_flattens_and_sharpens(temperature, page):
    # Textbook page: (2, 1, 0) at T = 2, 1, 0.5.
    close(smx.softmax([2.0, 1.0, 0.0], temperature=temperature), page)


def test_equal_scores_share_equally():
    # Textbook page: softmax of (0, 0, 0, 0); exactly a quarter each.
    assert smx.softmax([0.0, 0, 0, 0]).tolist() == [0.25] * 4


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_another_temperature(temperature):
    # Textbook page: (3, 1, -1) at T = 1, 2; each step divides by e**(2/T).
    p = smx.softmax([3.0, 1.0, -1.0], temperature=temperature)
    ratio = np.exp(-2 / temperature)
    close(p, np.array([1, ratio, ratio**2]) / (1 + ratio + ratio**2), 12)
    if temperature == 1:
        close(p, [0.866813, 0.117310, 0.015876])
    else:
        close(p, [0.665241, 0.244728, 0.090031])


@pytest.mark.parametrize("a, b", [(0, 0), (1, -1), (3, 5), (-700, 700), (0.1, 0.3)])
def test_two_classes_are_a_sigmoid(a, b):
    # Textbook page: softmax(a, b)[0] = 1 / (1 + exp(b - a)).
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(np.float64(b - a)))
    np.testing.assert_allclose(smx.softmax([float(a), float(b)])[0], sigmoid, rtol=1e-15)


def test_shift_invariance():
    # Textbook page: adding a constant to every score changes nothing (here exactly: no rounding).
    x = np.array([2.0, 1.0, 0.0])
    for shift in 1.0, -7.0, 1024.0:
        np.testing.assert_allclose(smx.softmax(x + shift), smx.softmax(x), rtol=1e-15)


def test_four_words():
    # Textbook page: a vocabulary of four words with scores 6, 3, 0.5, 0.5.
    p = smx.softmax([6.0, 3.0, 0.5, 0.5])
    close(p, [0.945, 0.047, 0.004, 0.004], 3)
    assert p[2] == p[3]


def test_one_score_that_grows_takes_from_all():
    # Textbook page: (4, 4, 2) against (4, 4, 12).
    before, after = smx.softmax([4.0, 4.0, 2.0]), smx.softmax([4.0, 4.0, 12.0])
    close(before, [0.468, 0.468, 0.063], 3)
    close(after, [0.000335, 0.000335, 0.999330])
    assert before[0] == before[1] and after[0] == after[1]


def test_jacobian_by_finite_differences():
    # Textbook page: d p_i / d x_j = p_i (delta_ij - p_j).
    x, h = np.array([2.0, 1.0, 0.0, -1.5]), 1e-5
    p = smx.softmax(x)
    steps = h * np.eye(4)
    numeric = (smx.softmax(x + steps) - smx.softmax(x - steps)).T / (2 * h)
    np.testing.assert_allclose(numeric, np.diag(p) - np.outer(p, p), atol=1e-10)


def test_gradient_of_cross_entropy_is_p_minus_y():
    # Textbook page: the gradient of -log p_k by the scores is p - y.
    x, h, k = np.array([0.5, -1.0, 2.0]), 1e-5, 1
    steps = h * np.eye(3)
    loss = lambda rows: -smx.log_softmax(rows)[:, k]  # noqa: E731
    numeric = (loss(x + steps) - loss(x - steps)) / (2 * h)
    np.testing.assert_allclose(numeric, smx.softmax(x) - np.eye(3)[k], atol=1e-10)
