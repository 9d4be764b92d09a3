"""Softmax with its options, soft targets, divergences and rankings, against torch and SciPy.

Part of `python -m bench.learning`. Nothing is asked of these lines; a peer has the fewest calls in
which it can say the same, and room for what is as large as x where its calls take out=.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.lines import Line


def options(race, np, smx, torch, limits) -> list[Line]:
    try:
        from scipy import special
    except ImportError:
        special = None
    return [
        Line(name, race(calls))
        for rows, columns in ((512, 1024), (64, 32000), (16384, 32))
        for name, calls in _workloads(np, smx, torch, special, rows, columns)
    ]


def _workloads(np, smx, torch, special, rows, columns):
    """Names, and the contestants' calls."""
    generator = np.random.default_rng(0)
    x, b = (generator.standard_normal((rows, columns), np.float32) for _ in range(2))
    b = np.abs(b)
    y = smx.softmax(b)
    mask = generator.random((rows, columns)) < 0.7
    classes = generator.integers(0, columns, rows)
    k = min(50, columns // 2)
    ranking = np.argsort(-x, axis=-1)
    out = np.empty_like(x)
    own: dict[str, Callable] = {
        "softmax, mask": lambda: smx.softmax(x, mask=mask, out=out),
        "softmax, bias": lambda: smx.softmax(x, bias=b, out=out),
        "softmax, temperature": lambda: smx.softmax(x, temperature=0.7, out=out),
        "logsumexp, weights": lambda: smx.logsumexp(x, b=b),
        "cross-entropy, label smoothing": lambda: smx.cross_entropy(
            x, classes, label_smoothing=0.1
        ),
        "cross-entropy, probabilities": lambda: smx.cross_entropy(x, y),
        "the same and gradient": lambda: smx.cross_entropy(x, y, return_grad=True, out=out),
        "entropy of logits": lambda: smx.entropy(logits=x),
        "kl_divergence of logits": lambda: smx.kl_divergence(p_logits=x, q_logits=b),
        "kl_divergence": lambda: smx.kl_divergence(y, y),
        "top_k, k = 8": lambda: smx.top_k(x, 8),
        f"top_k, k = {k}": lambda: smx.top_k(x, k),
        "plackett_luce_log_prob": lambda: smx.plackett_luce_log_prob(x, ranking),
    }
    peers = {"torch": _torch(torch, x, b, y, mask, classes, ranking, k) if torch else {}}
    if special:
        peers["scipy"] = {
            "logsumexp, weights": lambda: special.logsumexp(x, axis=-1, b=b),
            "kl_divergence": lambda: special.rel_entr(y, y).sum(-1),
        }
    for name, call in own.items():
        others = {peer: calls[name] for peer, calls in peers.items() if name in calls}
        yield f"{name} {rows}×{columns}", {"swiftmax": call} | others


def _torch(torch, x, b, y, mask, classes, ranking, k) -> dict[str, Callable]:
    function = torch.nn.functional
    a, bias, targets = torch.from_numpy(x), torch.from_numpy(b), torch.from_numpy(y)
    places, visible = torch.from_numpy(ranking), torch.from_numpy(mask)
    labels = torch.from_numpy(classes)
    logits = torch.from_numpy(x.copy()).requires_grad_()
    room, more = torch.empty_like(a), torch.empty_like(a)
    closed = torch.tensor(-torch.inf)

    def backward():
        logits.grad = None
        function.cross_entropy(logits, targets).backward()

    def softmax_of_room():
        return torch.softmax(room, -1, out=more)

    def masked():
        torch.where(visible, a, closed, out=room)
        return softmax_of_room()

    def biased():
        torch.add(a, bias, out=room)
        return softmax_of_room()

    def warm():
        torch.div(a, 0.7, out=room)
        return softmax_of_room()

    def weighted():
        torch.log(bias, out=room)
        return torch.logsumexp(room.add_(a), -1)

    def entropy():
        torch.log_softmax(a, -1, out=room)
        return -torch.exp(room, out=more).mul_(room).sum(-1)

    def divergence():
        torch.log_softmax(a, -1, out=room)
        torch.log_softmax(bias, -1, out=more)
        torch.sub(room, more, out=more)
        return more.mul_(room.exp_()).sum(-1)

    def rank():
        torch.gather(a, -1, places, out=room)
        return (room - torch.logcumsumexp(room.flip(-1), -1).flip(-1)).sum(-1)

    return {
        "softmax, mask": masked,
        "softmax, bias": biased,
        "softmax, temperature": warm,
        "logsumexp, weights": weighted,
        "cross-entropy, label smoothing": lambda: function.cross_entropy(
            a, labels, label_smoothing=0.1
        ),
        "cross-entropy, probabilities": lambda: function.cross_entropy(a, targets),
        "the same and gradient": backward,
        "entropy of logits": entropy,
        "kl_divergence of logits": divergence,
        "kl_divergence": lambda: function.kl_div(
            torch.log(targets, out=room), targets, reduction="none"
        ).sum(-1),
        "top_k, k = 8": lambda: torch.topk(a, 8),
        f"top_k, k = {k}": lambda: torch.topk(a, k),
        "plackett_luce_log_prob": rank,
    }
