"""Replaced Hugging Face modules against the originals, on random input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xcompile.errors import UnsupportedError
from xcompile.frontend.hf_attention import (
    PAGED,
    WINDOW,
    AttentionCall,
    PagedInputs,
    attention_forward,
    device_of,
    logits_without_attention,
)
from xcompile.frontend.hf_experts import experts_forward, experts_function, stacked
from xcompile.frontend.hf_loops import Substitute
from xcompile.runtime.generate import allocate as allocate_caches


class VerificationError(UnsupportedError):
    """A replaced module computes something else than the original."""


def bar_of(dtype: torch.dtype) -> float:
    """Largest relative L2 error between two correct implementations that round differently."""
    return max(1e-5, 2 * torch.finfo(dtype).eps)


def _relative_error(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    error = float((got - want).norm() / want.norm().clamp_min(1e-30))
    return error if torch.isfinite(got).all() else float("inf")


def expect_equal(path: str, what: str, got: Tensor, want: Tensor, bar: float) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise VerificationError(
            f"{path}: {what}: {got.dtype} {tuple(got.shape)} instead of "
            f"{want.dtype} {tuple(want.shape)}"
        )
    error = _relative_error(got, want)
    if not error <= bar:
        raise VerificationError(
            f"{path}: {what} differs from the original: relative L2 error {error:.2e}, "
            f"bar {bar:.0e} for {want.dtype}"
        )


def _routings(experts: int, k: int, tokens: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Forced choices ``[tokens, k]``, no expert twice in a row: even, skewed, the last experts."""
    scores = torch.rand(tokens, experts, generator=generator)
    skew = torch.linspace(2.0, 0.0, experts)
    last = torch.arange(experts - k, experts).expand(tokens, k)
    return {
        "even routing": scores.topk(k).indices,
        "skewed routing": (0.5 * scores + skew).topk(k).indices,
        "constant routing": last.flip(1).contiguous(),
    }


def verify_experts(path: str, module: Any) -> None:
    """Runs our implementation and the class's own forward on the same random tokens.

    Raises:
        VerificationError: naming path, error and bar.
    """
    gate_up, _ = stacked(module)
    experts, hidden, dtype = gate_up.shape[0], gate_up.shape[2], gate_up.dtype
    generator = torch.Generator().manual_seed(0)
    original = experts_function(module, "eager")
    k, tokens = min(experts, 3), 13
    x = torch.randn(tokens, hidden, generator=generator).to(gate_up.device, dtype)
    weight = torch.rand(tokens, k, generator=generator) + 0.1
    for name, index in _routings(experts, k, tokens, generator).items():
        for weight_dtype in {dtype, torch.float32}:
            inputs = (x, index.to(x.device), weight.to(x.device, weight_dtype))
            got, want = experts_forward(module, *inputs), original(module, *inputs)
            expect_equal(path, f"experts, {name}", got, want, bar_of(dtype))


def verify_loop(path: str, module: Any, known: Substitute) -> None:
    """Runs a substitute and the class's own forward on the same random tokens.

    Raises:
        VerificationError: naming path, error and bar.
    """
    args = known.sample(module, torch.Generator().manual_seed(0))
    args = tuple(t.to(device_of(module)) for t in args)
    got, want = known.forward(module, *args), type(module).forward(module, *args)
    pairs = zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]
    for a, b in pairs:
        expect_equal(path, "experts", a, b, bar_of(b.dtype))


def _eager_attention(module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """The family's own attention; every modeling file defines it under the same name."""
    modeling = sys.modules[type(module).__module__]
    eager = getattr(modeling, "eager_attention_forward", None)
    if eager is None:
        raise UnsupportedError(
            f"{type(module).__module__} has no eager_attention_forward to verify against"
        )
    return eager


def _without_window(call: AttentionCall) -> dict[str, Any]:
    """What a layer passes on, less the window: that is in the mask, and ours here has none."""
    return {k: v for k, v in call.kwargs.items() if k not in ("sliding_window", WINDOW)}


def verify_attention(path: str, call: AttentionCall, dtype: torch.dtype) -> None:
    """Compares our attention, dense with and without mask and paged, to the family's eager one.

    Raises:
        VerificationError: naming path, error and bar.
    """
    generator = torch.Generator().manual_seed(0)
    device = device_of(call.module)
    tokens = 9

    def draw(heads: int, size: int) -> Tensor:
        return torch.randn(2, heads, tokens, size, generator=generator).to(device, dtype)

    query = draw(call.heads, call.key_size)
    key, value = draw(call.kv_heads, call.key_size), draw(call.kv_heads, call.value_size)
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()[None, None]
    additive = torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    scaling = call.key_size**-0.5 if call.scaling is None else call.scaling
    kwargs = _without_window(call)

    def dense(function: Callable[..., Any], mask: Tensor | None) -> Tensor:
        return function(call.module, query, key, value, mask, scaling=scaling, **kwargs)[0]

    want = dense(_eager_attention(call.module), additive)
    bar = bar_of(dtype)
    expect_equal(path, "attention with a mask", dense(attention_forward, seen), want, bar)
    expect_equal(path, "attention without a mask", dense(attention_forward, None), want, bar)
    got = _paged_in_two_steps(call, query, key, value)
    expect_equal(path, "paged attention", got, want, bar)


def verify_tokens_meet_in_attention(model: nn.Module) -> None:
    """Checks that tokens act on each other only through the attention that a step replaces.

    A convolution over the sequence or a recurrent state would mix the requests of a step.

    Raises:
        VerificationError: if a token's logits change with another token while attention is off.
    """
    want, got = (logits_without_attention(model, ids) for ids in ([1, 2, 1], [1, 3, 1]))
    bar = 8 * bar_of(want.dtype)
    error = max(_relative_error(got[row], want[row]) for row in (0, 2))
    if not error <= bar:
        raise VerificationError(
            f"{type(model).__name__}: without attention a token still depends on the others "
            f"(relative L2 error {error:.2e}, bar {bar:.0e}): a convolution or a recurrent state, "
            "which a step does not keep per request"
        )


def _paged_in_two_steps(call: AttentionCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Two requests ``[2,H,9,D]`` fed raggedly over scattered pages -> ``[2,9,H,Dv]``."""
    page, tables = 4, torch.tensor([[5, 0, 3], [1, 6, 2]], device=query.device)
    tokens = query.shape[2]
    caches = allocate_caches(
        [(call.kv_heads, call.key_size, call.value_size)], 7 * page, query.dtype, query.device
    )
    out = query.new_zeros((2, tokens, call.heads, call.value_size))
    cuts = ((0, 5, tokens), (0, 2, tokens))
    for step in range(2):
        spans = [torch.arange(cut[step], cut[step + 1], device=query.device) for cut in cuts]
        slots = [
            table[span // page] * page + span % page
            for table, span in zip(tables, spans, strict=True)
        ]
        counts = torch.tensor([0, *(len(span) for span in spans)], device=query.device)
        paged = PagedInputs(
            slots=torch.cat(slots),
            cu_seqlens=counts.cumsum(0),
            context_lens=torch.tensor([cut[step + 1] for cut in cuts], device=query.device),
            block_tables=tables,
            k_caches=caches[0],
            v_caches=caches[1],
            cache_of_layer={call.module.layer_idx: 0},  # type: ignore[dict-item]
            page=page,
            max_context=tokens,
        )

        def pack(x: Tensor, spans: list[Tensor] = spans) -> Tensor:
            return torch.cat([x[i][:, span] for i, span in enumerate(spans)], dim=1)[None]

        inputs = (pack(query), pack(key), pack(value), None)
        kwargs = {**_without_window(call), PAGED: paged}
        rows = attention_forward(call.module, *inputs, scaling=call.scaling, **kwargs)[0][0]
        for index, part in enumerate(rows.split([len(span) for span in spans])):
            out[index, spans[index]] = part
    return out
