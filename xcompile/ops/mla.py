"""Multi-head latent attention (MLA) over a paged cache of latents."""

from __future__ import annotations

from collections.abc import Sequence

import sympy
import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.attention import PAGED_ATTENTION
from xcompile.ops.infer import expect
from xcompile.ops.matmul import HEAD_LINEAR
from xcompile.symbolic import Dim, product, same

TOKENS = 512  # kMlaTokens of templates/cpu/lib/mla.hpp


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    nope, rot, cache, cu, lens, tables, absorb, up, value = types
    ok = all(t.rank == 3 for t in (nope, rot, cache, absorb, up, value)) and tables.rank == 2
    ok = ok and all(t.dtype == nope.dtype for t in (rot, cache, absorb, up, value))
    ok = ok and all(t.dtype == torch.int64 for t in (cu, lens, tables))
    if ok:
        heads, _, rank = up.shape
        ok = all(map(same, nope.shape[:2], rot.shape[:2])) and same(nope.shape[1], heads)
        ok = ok and all(map(same, absorb.shape, (heads, rank, nope.shape[2])))
        ok = ok and same(up.shape[1], nope.shape[2])
        ok = ok and all(map(same, (value.shape[0], value.shape[2]), (heads, rank)))
        ok = ok and same(cache.shape[1], 1) and same(cache.shape[2], rank + rot.shape[2])
    expect(
        ok,
        "mla_attention takes q_nope[T,H,nope], q_rot[T,H,rope], cache[slots,1,rank+rope], "
        "cu_seqlens[R+1], context_lens[R], block_tables[R,M] (int64), U^T[H,rank,nope], "
        f"U[H,nope,rank], V[H,v,rank], given {list(map(str, types))}",
    )
    return [Type(nope.dtype, (*nope.shape[:2], value.shape[1]))]


def _ref(
    nope: torch.Tensor,
    rot: torch.Tensor,
    cache: torch.Tensor,
    cu: torch.Tensor,
    lens: torch.Tensor,
    tables: torch.Tensor,
    absorb: torch.Tensor,
    up: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    page: int,
) -> torch.Tensor:
    query = torch.cat((HEAD_LINEAR.ref(nope, absorb), rot), -1)
    latents = cache[..., : up.shape[2]]
    result = PAGED_ATTENTION.ref(query, cache, latents, cu, lens, tables, scale=scale, page=page)
    return HEAD_LINEAR.ref(result, value)


def _workspace(ins: Sequence[Type], attrs: Attrs) -> Dim:
    """As xc::MlaAttention wants it: lengths, absorbed queries and results of some tokens."""
    nope, rot, _, _, lens, _, _, up, _ = ins
    row = nope.shape[1] * (2 * up.shape[2] + rot.shape[2]) * nope.dtype.itemsize
    tokens = sympy.Min(nope.shape[0], TOKENS)
    return 16 * (lens.shape[0] + 1) + 64 + row * tokens


def _flops(ins: Sequence[Type], outs: Sequence[Type], attrs: Attrs) -> Dim:
    nope, value = ins[0], ins[8]
    return product((2, *nope.shape[:2], ins[7].shape[2])) * (nope.shape[2] + value.shape[1])


def _sample(rng: torch.Generator) -> tuple[list[torch.Tensor], dict]:
    heads, nope, rope, rank, v = 4, 20, 8, 36, 24
    q, rot = (torch.randn(43, heads, d, generator=rng) for d in (nope, rope))
    cache = torch.randn(112, 1, rank + rope, generator=rng)
    pages = torch.randperm(28, generator=rng)[:24].view(2, 12)
    up, value = (torch.randn(heads, d, rank, generator=rng) / 6 for d in (nope, v))
    cu, lens = torch.tensor([0, 40, 43]), torch.tensor([47, 14])
    weights = [up.transpose(1, 2).contiguous(), up, value]
    return [q, rot, cache, cu, lens, pages, *weights], {"scale": 0.2, "page": 4}


# o_h = softmax(scale (q_nope,h . U_h c_j + q_rot,h . r_j)) V_h c_j over the rows [c, r] of a paged
# cache (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1); requests as in paged_attention. U comes
# in both orders, each packed for one of the two ways to compute this: with U on the query and V on
# the result (absorbed), or with keys U c and values V c made (expanded).
MLA_ATTENTION = Op(
    "mla_attention",
    _infer,
    _ref,
    strides={0: "last", 1: "last", 2: "last"},
    workspace=_workspace,
    cost=_flops,
    sample=_sample,
)
