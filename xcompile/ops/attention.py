"""Scaled dot-product attention, dense and over a paged KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim, product, same

T = TypeVar("T", bound=Any)


def split_extra(extra: Sequence[T]) -> tuple[T | None, T | None]:
    """Mask (4 dims) and sinks (one) among the operands behind q, k and v of attention."""
    sinks = extra[-1] if extra and len(extra[-1].shape) == 1 else None
    mask = extra[0] if len(extra) > (sinks is not None) else None
    expect(
        len(extra) == (mask is not None) + (sinks is not None),
        f"attention takes q, k, v, a mask and sinks[H], given {len(extra)} more operands",
    )
    return mask, sinks


def _expect_sinks(sinks: Type | None, q: Type) -> None:
    ok = sinks is None or sinks.same(Type(torch.float32, (q.shape[1],)))
    expect(ok, f"attention takes sinks f32[{q.shape[1]}], given {sinks}")


def _attention(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    q, k, v = types[:3]
    mask, sinks = split_extra(types[3:])
    ok = q.rank == k.rank == v.rank == 4 and q.dtype == k.dtype == v.dtype
    ok = ok and same(q.shape[3], k.shape[3]) and same(k.shape[2], v.shape[2])
    ok = ok and isinstance(q.shape[1], int) and q.shape[1] % int(k.shape[1]) == 0
    expect(ok, f"attention takes q[B,H,S,D], k[B,Hk,T,D], v[B,Hk,T,Dv], given {q}, {k}, {v}")
    expect(mask is None or mask.rank == 4, f"attention's mask must have 4 dims, given {mask}")
    _expect_sinks(sinks, q)
    return [Type(q.dtype, (*q.shape[:3], v.shape[3]))]


def _attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *extra: torch.Tensor,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    mask, sinks = split_extra(extra)
    n = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(n, dim=1).float() for t in (k, v))
    s = q.float() @ k.transpose(-1, -2) * scale
    if causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), float("-inf"))
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask.float()
    # a row that sees no key is zero, as in torch's own attention
    if sinks is not None:
        sink = sinks.float()[None, :, None, None].expand(*s.shape[:-1], 1)
        s = torch.cat((s, sink), -1)
    p = torch.nan_to_num(torch.softmax(s, -1))[..., : k.shape[2]]
    return (p @ v).to(q.dtype)


def _paged(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    q, k, v, cu, lens, tables = types[:6]
    ok = q.rank == k.rank == v.rank == 3 and q.dtype == k.dtype == v.dtype
    ok = ok and same(q.shape[2], k.shape[2]) and all(map(same, k.shape[:2], v.shape[:2]))
    ok = ok and int(q.shape[1]) % int(k.shape[1]) == 0 and tables.rank == 2
    ok = ok and all(t.dtype == torch.int64 for t in (cu, lens, tables))
    expect(
        ok,
        "paged_attention takes q[T,H,D], k_cache[slots,Hk,D], v_cache[slots,Hk,Dv], "
        "cu_seqlens[R+1], context_lens[R], block_tables[R,M] (int64), given "
        f"{list(map(str, types))}",
    )
    expect(len(types) <= 7, f"paged_attention takes at most 7 operands, given {len(types)}")
    _expect_sinks(types[6] if len(types) > 6 else None, q)
    window = attrs.get("window", 1)
    expect(isinstance(window, int) and window > 0, f"a window is a positive number, given {window}")
    return [Type(q.dtype, (*q.shape[:2], v.shape[2]))]


def _paged_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu: torch.Tensor,
    lens: torch.Tensor,
    tables: torch.Tensor,
    *sinks: torch.Tensor,
    scale: float,
    page: int,
    window: int | None = None,
) -> torch.Tensor:
    out = q.new_zeros(*q.shape[:2], v.shape[2])
    for r in range(lens.numel()):
        lo, hi, n = int(cu[r]), int(cu[r + 1]), int(lens[r])
        if hi == lo:
            continue
        pos = torch.arange(n)
        slots = tables[r, pos // page] * page + pos % page
        age = torch.arange(n - (hi - lo), n)[:, None] - pos[None, :]
        mask = (age >= 0) & (age < (window or n))
        qr, kr, vr = (t.transpose(0, 1)[None] for t in (q[lo:hi], k[slots], v[slots]))
        o = _attention_ref(qr, kr, vr, mask[None, None], *sinks, causal=False, scale=scale)
        out[lo:hi] = o[0].transpose(0, 1)
    return out


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    q, k, v = ins[:3]
    return product((2, *q.shape[:3], k.shape[2], 1)) * (q.shape[3] + v.shape[3])


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    q = torch.randn(2, 4, 7, 24, generator=rng)
    k, v = torch.randn(2, 2, 9, 24, generator=rng), torch.randn(2, 2, 9, 20, generator=rng)
    return [q, k, v, torch.rand(2, 1, 7, 9, generator=rng) > 0.3], {"causal": False, "scale": 0.2}


def _paged_sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    k, v = torch.randn(40, 2, 24, generator=rng), torch.randn(40, 2, 20, generator=rng)
    pages = torch.randperm(10, generator=rng)[:8].view(2, 4)
    q, cu, lens = torch.randn(6, 4, 24, generator=rng), [0, 5, 6], [7, 14]
    return [q, k, v, torch.tensor(cu), torch.tensor(lens), pages], {"scale": 0.2, "page": 4}


# o[B,H,S,Dv] = softmax(scale q k^T + mask) v; head h reads kv head h // (H / Hk); fp32 softmax.
# causal: key j is visible to query i iff j <= i (upper-left, as torch's is_causal). Operands behind
# v: a mask [.,.,.,.], then sinks[H], a logit per head that joins the softmax's sum without a value
# (Xiao et al. 2023, arXiv 2309.17453, as gpt_oss learns it).
ATTENTION = Op(
    "attention",
    _attention,
    _attention_ref,
    strides={0: "last", 1: "last", 2: "last", 3: "any"},
    order=(0, 2, 1, 3),
    aten=("xllm.sink_attention.default",),
    cost=_flops,
    sample=_sample,
)
# One step of ragged requests over a paged cache (Kwon et al. 2023, arXiv 2309.06180). Position p
# of request r is slot block_tables[r, p // page] * page + p % page; causal within a request. With a
# window W a token sees itself and the W - 1 tokens before it. A seventh operand: sinks, as above.
PAGED_ATTENTION = Op(
    "paged_attention",
    _paged,
    _paged_ref,
    aten=("xllm.paged_attention.default",),
    strides={0: "last", 1: "last", 2: "last"},
    cost=lambda ins, outs, attrs: product((2, *outs[0].shape)),
    sample=_paged_sample,
)
