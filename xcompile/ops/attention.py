"""Scaled dot-product attention, dense and over a paged KV cache."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import Dim, product, same


def _attention(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    q, k, v, *mask = types
    ok = q.rank == k.rank == v.rank == 4 and q.dtype == k.dtype == v.dtype
    ok = ok and same(q.shape[3], k.shape[3]) and same(k.shape[2], v.shape[2])
    ok = ok and isinstance(q.shape[1], int) and q.shape[1] % int(k.shape[1]) == 0
    expect(ok, f"attention takes q[B,H,S,D], k[B,Hk,T,D], v[B,Hk,T,Dv], given {q}, {k}, {v}")
    for m in mask:
        expect(m.rank == 4, f"attention's mask must have 4 dims, given {m}")
    return [Type(q.dtype, (*q.shape[:3], v.shape[3]))]


def _attention_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    n = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(n, dim=1).float() for t in (k, v))
    s = q.float() @ k.transpose(-1, -2) * scale
    if causal:
        s = s.masked_fill(~torch.ones(s.shape[-2:], dtype=torch.bool).tril(), float("-inf"))
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else s + mask.float()
    # a row that sees no key is zero, as in torch's own attention
    p = torch.nan_to_num(torch.softmax(s, -1))
    return (p @ v).to(q.dtype)


def _paged(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    q, k, v, cu, lens, tables = types
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
    return [Type(q.dtype, (*q.shape[:2], v.shape[2]))]


def _paged_ref(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu: torch.Tensor,
    lens: torch.Tensor,
    tables: torch.Tensor,
    *,
    scale: float,
    page: int,
) -> torch.Tensor:
    out = q.new_zeros(*q.shape[:2], v.shape[2])
    for r in range(lens.numel()):
        lo, hi, n = int(cu[r]), int(cu[r + 1]), int(lens[r])
        if hi == lo:
            continue
        pos = torch.arange(n)
        slots = tables[r, pos // page] * page + pos % page
        mask = pos[None, :] <= torch.arange(n - (hi - lo), n)[:, None]
        qr, kr, vr = (t.transpose(0, 1)[None] for t in (q[lo:hi], k[slots], v[slots]))
        o = _attention_ref(qr, kr, vr, mask[None, None], causal=False, scale=scale)
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
# causal: key j is visible to query i iff j <= i (upper-left, as torch's is_causal).
ATTENTION = Op(
    "attention",
    _attention,
    _attention_ref,
    strides={0: "last", 1: "last", 2: "last", 3: "any"},
    order=(0, 2, 1, 3),
    cost=_flops,
    sample=_sample,
)
# One step of ragged requests over a paged cache (Kwon et al. 2023, arXiv 2309.06180). Position p
# of request r is slot block_tables[r, p // page] * page + p % page; causal within a request.
PAGED_ATTENTION = Op(
    "paged_attention",
    _paged,
    _paged_ref,
    aten=("xllm.paged_attention.default",),
    strides={0: "last", 1: "last", 2: "last"},
    cost=lambda ins, outs, attrs: product((2, *outs[0].shape)),
    sample=_paged_sample,
)
