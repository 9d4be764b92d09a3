"""Softmax, attention, losses and sampling for CPUs, with the same bits everywhere.

An element of a result has the same bits on every instruction set, for every number of threads,
every batch and memory layout, and whatever floating-point mode the caller is in.
"""

from swiftmax import _core, _docs, _docs_attention
from swiftmax._additive import additive_attention
from swiftmax._attention_vjp import attention_vjp
from swiftmax._calibration import (
    ReliabilityDiagram,
    TemperatureFit,
    calibration_error,
    fit_temperature,
)
from swiftmax._config import show_config
from swiftmax._core import (
    __version__,
    attention,
    get_num_threads,
    log_softmax,
    logsumexp,
    merge_attention,
    set_num_threads,
    softmax,
)
from swiftmax._divergences import entropy, kl_divergence
from swiftmax._gradients import (
    log_softmax_vjp,
    logsumexp_vjp,
    softmax_jacobian,
    softmax_jvp,
    softmax_vjp,
)
from swiftmax._linear import linear_cross_entropy
from swiftmax._losses import cross_entropy, nll_from_log_probs, perplexity
from swiftmax._mask import Mask
from swiftmax._sampling import filtered_softmax, gumbel_softmax, sample, top_k
from swiftmax._scoring import log_sigmoid, plackett_luce_log_prob, sequence_log_prob, sigmoid
from swiftmax._threads import num_threads

for _name, _text in (_docs.TEXTS | _docs_attention.TEXTS).items():
    _core._set_doc(_name, _text)
del _name, _text

__all__ = [
    "Mask",
    "ReliabilityDiagram",
    "TemperatureFit",
    "__version__",
    "additive_attention",
    "attention",
    "attention_vjp",
    "calibration_error",
    "cross_entropy",
    "entropy",
    "filtered_softmax",
    "fit_temperature",
    "get_num_threads",
    "gumbel_softmax",
    "kl_divergence",
    "linear_cross_entropy",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "merge_attention",
    "nll_from_log_probs",
    "num_threads",
    "perplexity",
    "plackett_luce_log_prob",
    "sample",
    "sequence_log_prob",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
    "softmax_vjp",
    "top_k",
]
