"""Gradients in float64, and how far from them two libraries are (line C8)."""

from __future__ import annotations


def relative(np, got, exact) -> float:
    return float(np.abs(np.asarray(got, np.float64) - exact).max() / np.abs(exact).max())


def row_gradients(np, smx, torch) -> list[tuple[str, float, float]]:
    generator = np.random.default_rng(1)
    x = 4 * generator.standard_normal((256, 4096))
    dy = generator.standard_normal((256, 4096)).astype(np.float32)
    x = x.astype(np.float32)
    e = np.exp(x - x.max(-1, keepdims=True).astype(np.float64))
    p = e / e.sum(-1, keepdims=True)
    exact = {
        "softmax": p * (dy - (p * dy).sum(-1, keepdims=True)),
        "log_softmax": dy - p * dy.sum(-1, keepdims=True, dtype=np.float64),
    }
    found = []
    for name, gradient in exact.items():
        own = getattr(smx, f"{name}_vjp")(getattr(smx, name)(x), dy)
        t = torch.from_numpy(x).requires_grad_()
        getattr(torch, name)(t, -1).backward(torch.from_numpy(dy))
        found.append((f"{name}_vjp", relative(np, own, gradient), relative(np, t.grad, gradient)))
    y = generator.integers(0, 4096, 256)
    gradient = p.copy()
    gradient[np.arange(256), y] -= 1
    own = smx.cross_entropy(x, y, return_grad=True, reduction="sum")[1]
    t = torch.from_numpy(x).requires_grad_()
    torch.nn.functional.cross_entropy(t, torch.from_numpy(y), reduction="sum").backward()
    found.append(("cross_entropy", relative(np, own, gradient), relative(np, t.grad, gradient)))
    return found


def attention_gradients(np, smx, torch) -> list[tuple[str, float, float]]:
    found = []
    for size, causal in ((64, False), (64, True), (128, False), (128, True)):
        generator = np.random.default_rng(2)
        q, k, v, d = (generator.standard_normal((1, 4, 1024, size), np.float32) for _ in range(4))
        wide = [t.astype(np.float64) for t in (q, k, v)]
        out, lse = smx.attention(*wide, causal=causal, return_lse=True)
        exact = smx.attention_vjp(d.astype(np.float64), *wide, out, lse, causal=causal)
        out, lse = smx.attention(q, k, v, causal=causal, return_lse=True)
        own = smx.attention_vjp(d, q, k, v, out, lse, causal=causal)
        tensors = [torch.from_numpy(t).requires_grad_() for t in (q, k, v)]
        result = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=causal)
        peers = torch.autograd.grad(result, tensors, torch.from_numpy(d))
        for name, a, b, e in zip(("d_query", "d_key", "d_value"), own, peers, exact, strict=True):
            text = f"attention_vjp D{size}{' causal' if causal else ''} {name}"
            found.append((text, relative(np, a, e), relative(np, b, e)))
    return found
