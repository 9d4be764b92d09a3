"""Calls at the edges: results that once lost their digits, arguments that once were taken wrongly.

Expected values are computed here in longer arithmetic (mpmath), or are those of the definition.
"""

import threading
import warnings

import mpmath
import numpy as np
import pytest

import swiftmax as smx

mpmath.mp.prec = 200


def softmax_of(x):
    e = [mpmath.exp(mpmath.mpf(float(v))) for v in x]
    return [v / sum(e) for v in e]


def divergence_of(p, q):
    return sum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True) if a)


# -- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_divergences_of_narrow_logits_are_computed_in_float64(dtype):
    rng = np.random.default_rng(5)
    for scale in (1.0, 8.0):
        x = (scale * rng.standard_normal((20, 37))).astype(dtype)
        y = (x + scale / 64 * rng.standard_normal(x.shape)).astype(dtype)
        wide = smx.kl_divergence(p_logits=x.astype(np.float64), q_logits=y.astype(np.float64))
        narrow = smx.kl_divergence(p_logits=x, q_logits=y)
        # One rounding of a number that both have to 2**-40.
        np.testing.assert_allclose(narrow, wide, rtol=2**-23.9, atol=2**-45)
        wide = smx.entropy(logits=x.astype(np.float64))
        np.testing.assert_allclose(smx.entropy(logits=x), wide, rtol=2**-23.9)


def test_the_divergence_of_near_logits():
    x = np.float32([0.5, 1, 2])
    y = x + np.float32([2**-20, 0, 0])
    exact = divergence_of(softmax_of(x), softmax_of(y))
    assert abs(smx.kl_divergence(p_logits=x, q_logits=y) - float(exact)) < 2**-49
    assert smx.kl_divergence(p_logits=x, q_logits=x + np.float32(1)) == 0


def test_a_negative_probability_is_nan_also_where_the_other_is_0():
    assert np.isnan(smx.kl_divergence([1.0, 0.0], [2.0, -1.0]))
    assert np.isnan(smx.kl_divergence(p_logits=[0.0, -np.inf], q=[2.0, -1.0]))
    assert np.isnan(smx.kl_divergence([2.0, -1.0], [1.0, 1.0]))


def test_subnormal_probabilities():
    assert smx.entropy([5e-324, 5e-324]) == pytest.approx(np.log(2), rel=1e-15)
    exact = smx.entropy([2024.0, 6072.0])
    assert smx.entropy([2024 * 5e-324, 6072 * 5e-324]) == pytest.approx(exact, rel=1e-15)
    exact = 0.5 * np.log(0.5 / 0.2) + 0.5 * np.log(0.5 / 0.8)
    assert smx.kl_divergence([5e-324] * 2, [0.2, 0.8]) == pytest.approx(exact, rel=1e-14)
    tiny = [2 * 5e-324, 8 * 5e-324]
    assert smx.kl_divergence([0.5, 0.5], tiny) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("dtype, limit", [(np.float32, 2.0**-18), (np.float64, 2.0**-46)])
def test_the_loss_of_a_sure_token_keeps_its_digits(dtype, limit):
    rng = np.random.default_rng(3)
    classes = 2500
    bias = rng.standard_normal(classes).astype(dtype)
    for gap in (9.0, 12.0, 20.0, 40.0, 80.0):
        bias[7] = gap
        loss = smx.linear_cross_entropy(
            np.zeros((1, 3), dtype), np.zeros((classes, 3), dtype), [7], bias=bias
        )
        others = mpmath.fsum(
            mpmath.exp(mpmath.mpf(float(b)) - gap) for j, b in enumerate(bias) if j != 7
        )
        exact = mpmath.log1p(others)
        assert abs(loss - exact) <= limit * exact, gap
    assert smx.linear_cross_entropy(np.ones((1, 1), dtype), np.ones((1, 1), dtype), [0]) == 0


def test_a_shut_target_is_inf_also_where_all_is_smoothed():
    loss = smx.linear_cross_entropy(
        np.zeros((2, 1)), np.zeros((2, 1)), [0, 1], bias=[-np.inf, 0], label_smoothing=1.0,
        reduction="none",
    )
    assert loss.tolist() == [np.inf, np.inf]


def test_cross_entropy_beyond_the_range():
    loss, lse = smx.cross_entropy(np.array([[1e308, 0.0]]), [0], temperature=1e-6, return_lse=True)
    assert loss == 0 and lse[0] == np.inf
    loss, lse = smx.cross_entropy(np.array([[1.7e308, 0]]), [1], temperature=0.5, return_lse=True)
    assert loss == np.inf and lse[0] == np.inf
    grad = smx.cross_entropy(
        np.float32([[1, 2, -200]]), [1], z_loss=1.0, temperature=1e-36, return_grad=True
    )[1]
    assert grad.tolist() == [[0, np.inf, 0]]


def test_the_gradient_keeps_subnormals():
    for x in (-700.0, -720.0, -735.0, -744.0):
        grad = smx.cross_entropy(np.array([[0.0, x]]), [0], return_grad=True)[1][0]
        exact = float(mpmath.exp(x) / (1 + mpmath.exp(x)))
        assert abs(grad[1] - exact) <= max(2**-51 * exact, 5e-324)
        assert abs(grad[0] + exact) <= max(2**-51 * exact, 1e-323)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_nan_gradient_is_the_positive_quiet_one_in_every_layout(dtype):
    x = np.array([[1, 2, 3], [3, 4, -np.inf]], dtype)
    quiet = np.array(np.nan, dtype).tobytes()
    for order in "CF":
        for options in (
            {"weight": [0.0, 0.0, 0.0]}, {"grad_scale": np.nan}, {"grad_scale": np.inf},
        ):
            given = np.asarray(x, order=order)
            grad = smx.cross_entropy(given, [0, 1], return_grad=True, **options)[1]
            found = np.ascontiguousarray(grad).ravel()
            assert all(v.tobytes() == quiet for v in found[np.isnan(found)])
            if "grad_scale" not in options:
                assert np.isnan(found).all()


def ulps(got, exact):
    return abs(mpmath.mpf(float(got)) - exact) / mpmath.mpf(float(np.spacing(abs(float(exact)))))


def test_float64_cross_entropy_within_its_bounds():
    """The worst rows that 19 million random ones had: 1.64, 5.38 and 2.45 ulp."""
    row = [-0.04836707469558357, -0.39196643618537175]
    lse = smx.cross_entropy([row], [0], return_lse=True)[1][0]
    exact = mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v)) for v in row))
    assert ulps(lse, exact) <= 2
    row = [
        0.33127043212331947, -0.40603452714709964, -0.28631205990895686, -0.36210849270888984,
        -0.25591584266219536, -0.06546432640099917, 0.02136581704287613, 0.24571623764909528,
        -0.24008741852024038, -0.19126139846384624, -0.08316245859246485, 0.15444392847244415,
        -0.16218511751656, 0.077177075315861, -0.35463257562640005, 0.0978427605768453,
        -0.13143348307183125,
    ]
    grad = smx.cross_entropy([row], [1], return_grad=True)[1][0]
    exact = softmax_of(row)
    assert max(ulps(g, p) for j, (g, p) in enumerate(zip(grad, exact, strict=True)) if j != 1) <= 6
    row, weight = [-1.7960872765330476, 0.25108342636308323], 0.30958718523368767
    loss = smx.cross_entropy(
        [row], [0], temperature=0.7, weight=[weight, 0.1743426741734381], reduction="none"
    )[0]
    scaled = [mpmath.mpf(v) / mpmath.mpf(0.7) for v in row]
    exact = mpmath.mpf(weight) * (mpmath.log(sum(mpmath.exp(v) for v in scaled)) - scaled[0])
    assert ulps(loss, exact) <= 3


def test_windows_that_no_int64_holds():
    numbers = [-(2**63), -(2**62), -5, 0, 3, 2**61, 2**62, 2**63 - 1]
    sides = [None, 0, 2, 2**62, 2**63 - 1]
    for offset in numbers:
        for left in sides:
            for right in sides:
                mask = smx.Mask.window(left, right, offset)
                expected = [
                    [
                        (left is None or j >= i + offset - left)
                        and (right is None or j <= i + offset + right)
                        for j in range(3)
                    ]
                    for i in range(2)
                ]
                assert mask.to_array(2, 3).tolist() == expected, mask
                seen = smx.softmax(np.zeros((2, 3)), mask=mask) > 0
                assert seen.tolist() == expected, mask


# -- arguments ---------------------------------------------------------------------------------


def test_a_block_of_threads_is_shared_by_threads():
    smx.set_num_threads(8)
    try:
        shared, inside, left = smx.num_threads(2), threading.Event(), threading.Event()
        seen = []

        def other():
            with smx.num_threads(5):
                with shared:
                    inside.set()
                    left.wait(10)
                seen.append(smx.get_num_threads())

        thread = threading.Thread(target=other)
        with shared:
            thread.start()
            inside.wait(10)
        seen.append(smx.get_num_threads())
        left.set()
        thread.join()
        assert seen == [8, 5]
        with shared, shared:
            assert smx.get_num_threads() == 2
        assert smx.get_num_threads() == 8
    finally:
        smx.set_num_threads(2)


def test_the_shape_of_an_argument_may_change_on_the_way():
    class Changing:
        def __init__(self, x):
            self.x = x

        def __array__(self, dtype=None, copy=None):
            self.x.shape = (2,) * 7
            self.views = [self.x[0] for _ in range(50)]
            return np.array(0.0)

    for _ in range(20):
        x = np.arange(128.0).reshape(8, 16)
        expected = smx.logsumexp(x.copy())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert np.array_equal(smx.logsumexp(x, bias=Changing(x)), expected)


def test_the_largest_rank():
    rank = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32
    x = np.ones((1,) * (rank - 1) + (3,))
    assert smx.softmax(x).shape == x.shape
    assert smx.logsumexp(x, b=2.0).ravel()[0] == pytest.approx(1 + np.log(6))
    assert smx.kl_divergence(x, np.ones(3)).ravel()[0] == 0


def test_masks_that_join_arrays():
    empty = np.array(True)
    result = smx.softmax(np.zeros((2, 2)), mask=smx.Mask() & empty & empty)
    assert result.tolist() == [[0.5, 0.5]] * 2
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        smx.softmax(np.ones(3), mask=smx.Mask() & np.ones(2, bool) & np.ones(3, bool))


MASKED = np.ma.array([0, 1], mask=[0, 1])
Q = np.ones((1, 1, 2, 2))


@pytest.mark.parametrize(
    "name, call",
    [
        ("joins with", lambda: smx.Mask() & np.ma.array([True, True], mask=[0, 1])),
        ("labels", lambda: smx.calibration_error([[1.0, 0], [0, 1]], MASKED)),
        ("top_k", lambda: smx.sample([[1.0, 2], [3, 4]], top_k=MASKED)),
        ("tokens", lambda: smx.sequence_log_prob(np.ones((2, 3)), MASKED)),
        ("ranking", lambda: smx.plackett_luce_log_prob([1.0, 2], MASKED)),
        ("key_lengths", lambda: smx.attention(Q, Q, Q, key_lengths=np.ma.array([1], mask=[1]))),
        ("label_smoothing", lambda: smx.cross_entropy([[1.0]], [0], label_smoothing="0.5")),
        ("temperature", lambda: smx.cross_entropy([[1.0]], [0], temperature="2")),
        ("z_loss", lambda: smx.cross_entropy([[1.0]], [0], z_loss=b"1")),
        ("z_loss", lambda: smx.linear_cross_entropy([[1.0]], [[1.0]], [0], z_loss="1")),
        ("grad_scale", lambda: smx.linear_cross_entropy([[1.0]], [[1.0]], [0], grad_scale=Q)),
        ("temperature", lambda: smx.calibration_error([[1.0]], [0], temperature="1")),
        ("bins", lambda: smx.calibration_error([[1.0]], [0], bins=1.5)),
        ("bins", lambda: smx.fit_temperature([[1.0]], [0], bins=None)),
        ("n must", lambda: smx.num_threads("2")),
        ("n must", lambda: smx.set_num_threads("2")),
        ("out has dtype", lambda: smx.softmax_vjp(Q, Q, out=np.float32(Q))),
    ],
)
def test_wrong_kinds_are_named(name, call):
    with pytest.raises(TypeError, match=name):
        call()


@pytest.mark.parametrize(
    "name, call",
    [
        ("block_table", lambda: smx.attention(Q, Q, Q, block_table=0)),
        ("temperature", lambda: smx.softmax([1.0], temperature=10**400)),
        ("temperature", lambda: smx.cross_entropy([[1.0]], [0], temperature=10**400)),
        ("n must be from 1", lambda: smx.num_threads(-1)),
        ("n .*1099511627776", lambda: smx.set_num_threads(2**40)),
        ("bounds", lambda: smx.fit_temperature([[1.0, 2]], [0], bounds=(2, 1))),
        ("reduction", lambda: smx.linear_cross_entropy([[1.0]], [[1.0]], [0], reduction=[])),
        ("q_logits.*p_logits", lambda: smx.kl_divergence(p_logits=[1, 2], q_logits=[1, 2, 3])),
        ("out of shape", lambda: smx.softmax_vjp(Q, Q, out=np.ones(3))),
        ("out of shape", lambda: smx.softmax_jvp(Q, Q, out=np.ones(3))),
        ("out of shape", lambda: smx.cross_entropy([[1.0]], [0], return_grad=True, out=np.ones(3))),
        ("out has stride 0", lambda: smx.log_softmax_vjp(Q, Q, out=np.lib.stride_tricks.as_strided(
            np.ones(1), Q.shape, (0,) * 4))),
        ("scale", lambda: smx.attention(*[np.float32(Q)] * 3, scale=1e39)),
        ("softcap", lambda: smx.attention(*[np.float32(Q)] * 3, softcap=1e-46)),
    ],
)
def test_wrong_values_are_named(name, call):
    with pytest.raises(ValueError, match=name):
        call()


def test_a_hidden_class_has_no_gradient_also_beside_nan():
    for dtype in (np.float16, np.float32, np.float64):
        grad = smx.cross_entropy(
            np.array([[np.nan, 1, 2]], dtype), [1], mask=[[True, True, False]], return_grad=True
        )[1]
        assert np.isnan(grad[0, :2]).all() and grad[0, 2] == 0


def test_empty_lists_of_integers():
    assert smx.plackett_luce_log_prob([1.0, 2.0], []) == 0
    assert smx.sequence_log_prob(np.ones((0, 3)), []) == 0
    assert smx.cross_entropy(np.zeros((0, 3)), []) == 0
    assert smx.linear_cross_entropy(np.zeros((0, 3)), np.zeros((4, 3)), []) == 0


@pytest.mark.parametrize(
    "words, call",
    [
        ("scale .*but is inf", lambda: smx.attention(Q, Q, Q, scale=np.inf)),
        ("softcap .*but is -2.5", lambda: smx.attention(Q, Q, Q, softcap=-2.5)),
        ("softcap .*but is 1e-46", lambda: smx.attention(*[np.float32(Q)] * 3, softcap=1e-46)),
        ("temperature .*holds -0.5", lambda: smx.softmax(np.float16([1]), temperature=-0.5)),
        ("temperature .*holds nan", lambda: smx.softmax([1.0], temperature=[np.nan])),
        ("top_p .*holds 1.25", lambda: smx.sample([1.0], top_p=1.25)),
        ("label_smoothing .*is 2", lambda: smx.cross_entropy([[1.0]], [0], label_smoothing=2)),
        ("z_loss .*is nan", lambda: smx.cross_entropy([[1.0]], [0], z_loss=np.nan)),
        ("temperature .*is 1e-300", lambda: smx.perplexity([[1.0]], [0], temperature=1e-300)),
        ("z_loss .*is -1", lambda: smx.linear_cross_entropy([[1.0]], [[1.0]], [0], z_loss=-1)),
        ("temperature .*is -1", lambda: smx.calibration_error([[1.0]], [0], temperature=-1)),
    ],
)
def test_sentences_hold_the_number_that_was_given(words, call):
    with pytest.raises(ValueError, match=words):
        call()


def test_out_may_be_the_bias():
    x, bias = np.ones((2, 3)), np.arange(6.0).reshape(2, 3)
    expected = smx.softmax(x, bias=bias)
    assert smx.softmax(x, bias=bias, out=bias) is bias
    assert np.array_equal(bias, expected)


def test_divergences_of_huge_numbers():
    assert smx.entropy([1e307, 1e307]) == pytest.approx(np.log(2), rel=1e-14)
    assert smx.entropy([1e308, 1e308]) == pytest.approx(np.log(2), rel=1e-14)
    exact = float(mpmath.log(mpmath.mpf(10) ** 308) / 2 - mpmath.log(2))
    assert smx.kl_divergence([1.0, 1.0], [1e308, 1.0]) == pytest.approx(exact, rel=1e-14)
    assert np.isnan(smx.entropy([np.inf, 1.0]))


def test_truth_values_that_are_none():
    q = np.zeros((2, 4), np.float32)
    for causal in ("no", [False], smx.Mask.causal(), {}):
        with pytest.raises(TypeError, match="causal must be True or False"):
            smx.attention(q, q, q, causal=causal)
    for causal in (True, 1, np.True_, np.array(True)):
        assert_equal = np.testing.assert_array_equal
        assert_equal(smx.attention(q, q, q, causal=causal), smx.attention(q, q, q, causal=True))


def test_empty_results_take_an_empty_out():
    # NumPy gives an empty array strides of 0.
    e = np.empty((0, 4), np.float32)
    for function in (smx.softmax_vjp, smx.log_softmax_vjp):
        assert function(e, e, out=e) is e
    _, grad = smx.cross_entropy(e, np.empty(0, int), return_grad=True, out=e)
    assert grad is e


@pytest.mark.parametrize("function", ["attention", "additive_attention"])
def test_a_later_argument_that_sets_an_earlier_shape(function):
    q = np.ones((2, 1, 3, 4), np.float32)

    class Evil:
        def __array__(self, dtype=None, copy=None):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                q.shape = (1,) * 20 + (24,)
            return np.ones((2, 1, 3, 4), np.float32)

    # Whatever it does, it does not write beyond its own memory.
    if function == "attention":
        assert smx.attention(q, Evil(), np.ones((2, 1, 3, 4), np.float32)).size == 24
    else:
        w = np.ones((4, 4), np.float32)
        value = np.ones((2, 1, 3, 4), np.float32)
        assert smx.additive_attention(q, Evil(), value, w, w, np.ones(4, np.float32)).size == 24


def test_integers_that_no_int64_holds():
    q = np.zeros((2, 4), np.float32)
    for given in ({"query_offset": 2**70}, {"key_lengths": -(2**64)}, {"window": (2**70, 0)}):
        with pytest.raises(ValueError, match="more than an int64"):
            smx.attention(q, q, q, **given)
