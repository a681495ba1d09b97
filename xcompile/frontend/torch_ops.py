"""Operators of namespace ``xllm``: the regions of a language model that are kept whole on import.

Each operator is functional (it mutates nothing), has a reference implementation in plain PyTorch
that follows the arithmetic of ``transformers``' eager code, dtype point by dtype point, and a shape
function that works with symbolic sizes.  Importing this module registers the operators; importing
it twice is harmless.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xcompile.ops.moe import ACTIVATIONS, ACTS, gate, is_gated

__all__ = ["ACTIVATIONS", "head_linear", "moe_experts", "paged_attention", "sink_attention"]


def _require(condition: bool, op: str, message: str) -> None:
    if not condition:
        raise ValueError(f"xllm::{op}: {message}")


# -- mixture of experts ---------------------------------------------------------------------------


def _check_moe(
    x: Tensor,
    expert: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    act: str,
    biases: tuple[Tensor | None, Tensor | None],
) -> None:
    """Ranks, dtypes and the static sizes; sizes that may be symbolic are not compared."""
    op = "moe_experts"
    _require(x.dim() == 2, op, f"x must be [N, H], got {tuple(x.shape)}")
    _require(expert.dim() == 2, op, f"expert must be [N, k], got {tuple(expert.shape)}")
    _require(weight.dim() == 2, op, f"weight must be [N, k], got {tuple(weight.shape)}")
    _require(gate_up.dim() == 3, op, f"gate_up must be [E, 2I, H], got {tuple(gate_up.shape)}")
    _require(down.dim() == 3, op, f"down must be [E, H, I], got {tuple(down.shape)}")
    inter = down.shape[2]
    fits = gate_up.shape[1] in (2 * inter, inter) and gate_up.shape[2] == down.shape[1]
    _require(
        bool(fits) and gate_up.shape[0] == down.shape[0],
        op,
        f"gate_up {tuple(gate_up.shape)} and down {tuple(down.shape)} do not belong together",
    )
    _require(
        x.dtype == gate_up.dtype == down.dtype,
        op,
        f"x, gate_up and down differ in dtype: {x.dtype}, {gate_up.dtype}, {down.dtype}",
    )
    _require(expert.dtype == torch.int64, op, f"expert must be int64, got {expert.dtype}")
    _require(
        weight.dtype in (x.dtype, torch.float32),
        op,
        f"weight must be {x.dtype} or float32, got {weight.dtype}",
    )
    _require(act in ACTS, op, f"unknown activation {act!r}; known: {sorted(ACTS)}")
    plain = gate_up.shape[1] == inter
    _require(not plain or act in ACTIVATIONS, op, f"{act} needs a gate, gate_up has only [E, I, H]")
    given = [b for b in biases if b is not None]
    _require(len(given) != 1, op, "biases are given for both products or for none")
    for b, w in zip(given, (gate_up, down), strict=False):
        _require(
            tuple(b.shape) == tuple(w.shape[:2]) and b.dtype == x.dtype,
            op,
            f"a bias must be {x.dtype} {tuple(w.shape[:2])}, got {b.dtype} {tuple(b.shape)}",
        )


@torch.library.custom_op("xllm::moe_experts", mutates_args=())
def moe_experts(
    x: Tensor,
    expert: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    act: str,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    limit: float = 0.0,
    alpha: float = 1.0,
) -> Tensor:
    """Weighted sum of the expert MLPs that a router chose for each token.

    ``y[n] = sum_j weight[n,j] * (down[e] @ h + down_bias[e])`` with ``e = expert[n,j]`` and
    ``h = act(gate[e] @ x[n]) * (up[e] @ x[n])``; the two products of ``h`` have their bias added.

    Args:
        x: ``[N, H]``, float.
        expert: ``[N, k]`` int64, each in ``[0, E)``.
        weight: ``[N, k]``, dtype of ``x`` or float32; not normalised here.
        gate_up: ``[E, 2I, H]``; rows ``0..I`` are the gate projection, rows ``I..2I`` the up one.
            ``[E, I, H]`` for experts without a gate, whose ``h = act(up[e] @ x[n])``.
        down: ``[E, H, I]``.
        act: a key of :data:`ACTIVATIONS`, or of :data:`xcompile.ops.moe.CLAMPED` (with a gate).
        gate_up_bias, down_bias: ``[E, 2I]`` (or ``[E, I]``) and ``[E, H]``; both or none.
        limit, alpha: of the units in ``CLAMPED``, see :func:`xcompile.ops.moe.gate`.

    Returns:
        ``[N, H]`` in the dtype of ``x``.

    Raises:
        ValueError: on shapes, dtypes or an activation outside of the above, or (reference only) an
            expert index out of range.

    Source: the eager ``forward`` shared by the ``*Experts`` classes of transformers 5.23: products
    are scaled in the promoted dtype of activation and weight, rounded to the dtype of ``x``, and
    accumulated in that dtype in the order of the expert indices.
    """
    _check_moe(x, expert, weight, gate_up, down, act, (gate_up_bias, down_bias))
    tokens, k = expert.shape
    _require(
        x.shape[0] == tokens == weight.shape[0] and weight.shape[1] == k,
        "moe_experts",
        f"x {tuple(x.shape)}, expert {tuple(expert.shape)}, weight {tuple(weight.shape)} disagree",
    )
    _require(x.shape[1] == down.shape[1], "moe_experts", "hidden sizes of x and down differ")
    experts = gate_up.shape[0]
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    if expert.numel() == 0:
        return out
    low, high = (int(bound) for bound in expert.aminmax())
    _require(
        low >= 0 and high < experts,
        "moe_experts",
        f"expert indices reach from {low} to {high}, there are {experts} experts",
    )
    gated = is_gated(gate_up.shape, down.shape)
    for index in expert.unique().tolist():
        # Slot-major, as in the original: its tokens come out of a [k, N] mask.
        slot, token = torch.where(expert.t() == index)
        hidden = F.linear(x[token], gate_up[index], _row(gate_up_bias, index))
        if gated:
            g, u = hidden.chunk(2, dim=-1)
            hidden = gate(act, g, u, limit, alpha)
        else:
            hidden = ACTIVATIONS[act](hidden)
        hidden = F.linear(hidden, down[index], _row(down_bias, index))
        out.index_add_(0, token, (hidden * weight[token, slot, None]).to(x.dtype))
    return out


def _row(bias: Tensor | None, index: int) -> Tensor | None:
    return None if bias is None else bias[index]


@moe_experts.register_fake
def _moe_experts_fake(
    x: Tensor,
    expert: Tensor,
    weight: Tensor,
    gate_up: Tensor,
    down: Tensor,
    act: str,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    limit: float = 0.0,
    alpha: float = 1.0,
) -> Tensor:
    _check_moe(x, expert, weight, gate_up, down, act, (gate_up_bias, down_bias))
    return x.new_empty((x.shape[0], down.shape[1]))


# -- paged attention ------------------------------------------------------------------------------


def _check_paged(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cu_seqlens: Tensor,
    context_lens: Tensor,
    block_tables: Tensor,
    page: int,
) -> None:
    op = "paged_attention"
    _require(q.dim() == 3, op, f"q must be [T, H, D], got {tuple(q.shape)}")
    _require(k_cache.dim() == 3, op, f"k_cache must be [slots, Hk, D], got {tuple(k_cache.shape)}")
    _require(v_cache.dim() == 3, op, f"v_cache must be [slots, Hk, Dv], got {tuple(v_cache.shape)}")
    heads, kv_heads = q.shape[1], k_cache.shape[1]
    _require(
        kv_heads == v_cache.shape[1] and heads % kv_heads == 0,
        op,
        f"{heads} query heads do not group over {kv_heads}/{v_cache.shape[1]} key/value heads",
    )
    _require(q.shape[2] == k_cache.shape[2], op, "head sizes of q and k_cache differ")
    _require(
        q.dtype == k_cache.dtype == v_cache.dtype,
        op,
        f"q, k_cache and v_cache differ in dtype: {q.dtype}, {k_cache.dtype}, {v_cache.dtype}",
    )
    for name, tensor, rank in (
        ("cu_seqlens", cu_seqlens, 1),
        ("context_lens", context_lens, 1),
        ("block_tables", block_tables, 2),
    ):
        _require(
            tensor.dim() == rank and tensor.dtype == torch.int64,
            op,
            f"{name} must be int64 of rank {rank}, got {tensor.dtype} {tuple(tensor.shape)}",
        )
    _require(page > 0, op, f"page must be positive, got {page}")


@torch.library.custom_op("xllm::paged_attention", mutates_args=())
def paged_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cu_seqlens: Tensor,
    context_lens: Tensor,
    block_tables: Tensor,
    scale: float,
    page: int,
    sinks: Tensor | None = None,
    window: int | None = None,
) -> Tensor:
    """Causal attention of packed new tokens over keys and values kept in pages.

    Request ``r`` owns the query rows ``cu_seqlens[r] .. cu_seqlens[r+1]`` (``n_r`` of them, may be
    none).  Row ``i`` of the request has position ``p = context_lens[r] - n_r + i`` and sees the
    keys at positions ``0..p``; position ``p`` is stored in slot
    ``block_tables[r, p // page] * page + p % page``.  The rows of the new tokens are already in the
    caches.  Query head ``h`` reads key/value head ``h // (H // Hk)``.  Rows from ``cu_seqlens[R]``
    on belong to no request and give zeros.

    Args:
        q: ``[T, H, D]``, float.
        k_cache: ``[slots, Hk, D]``, dtype of ``q``.
        v_cache: ``[slots, Hk, Dv]``, dtype of ``q``.
        cu_seqlens: ``[R + 1]`` int64, non-decreasing, starts at 0.
        context_lens: ``[R]`` int64, number of keys of each request including the new ones.
        block_tables: ``[R, M]`` int64 page numbers; entries past the context are not read.
        scale: factor on the scores.
        page: rows per page.
        sinks: ``[H]`` float32, a logit per head that joins the softmax's sum without a value.
        window: a row sees its own key and those of the ``window - 1`` positions before it.

    Returns:
        ``[T, H, Dv]`` in the dtype of ``q``.

    Raises:
        ValueError: on shapes and dtypes outside of the above, or (reference only) on a request
            with more new tokens than context or more context than pages.

    Source: ``sdpa_attention_forward`` of transformers 5.23, one request at a time.
    """
    _check_paged(q, k_cache, v_cache, cu_seqlens, context_lens, block_tables, page)
    _check_sinks("paged_attention", q, sinks)
    out = q.new_zeros((q.shape[0], q.shape[1], v_cache.shape[2]))
    starts, contexts = cu_seqlens.tolist(), context_lens.tolist()
    _require(
        len(starts) == len(contexts) + 1 and block_tables.shape[0] == len(contexts),
        "paged_attention",
        f"cu_seqlens [{len(starts)}], context_lens [{len(contexts)}] and block_tables "
        f"{tuple(block_tables.shape)} disagree on the number of requests",
    )
    for request, context in enumerate(contexts):
        first, last = starts[request], starts[request + 1]
        new = last - first
        if new == 0:
            continue
        _require(
            0 < new <= context <= block_tables.shape[1] * page,
            "paged_attention",
            f"request {request}: {new} new tokens, context {context}, "
            f"{block_tables.shape[1]} pages of {page}",
        )
        position = torch.arange(context, device=q.device)
        slots = block_tables[request, position // page] * page + position % page
        out[first:last] = _attend(
            q[first:last], k_cache[slots], v_cache[slots], scale, sinks, window
        )
    return out


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, sinks: Tensor | None, window: int | None
) -> Tensor:
    """``q[n,H,D]`` over ``k[c,Hk,D]``, ``v[c,Hk,Dv]``; the last query sees the last key."""
    new, context, groups = q.shape[0], k.shape[0], q.shape[1] // k.shape[1]
    # A mask is spelt out because is_causal aligns to the upper left when new != context.
    mask = torch.ones(new, context, dtype=torch.bool, device=q.device).tril(context - new)
    if window is not None:
        mask = mask.triu(context - new - window + 1)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    if sinks is not None:
        return sink_attention(q, k, v, mask[None, None], sinks, False, scale)[0].transpose(0, 1)
    out = F.scaled_dot_product_attention(
        q,
        k.repeat_interleave(groups, 1),
        v.repeat_interleave(groups, 1),
        attn_mask=mask,
        scale=scale,
    )
    return out[0].transpose(0, 1)


def _check_sinks(op: str, q: Tensor, sinks: Tensor | None) -> None:
    _require(
        sinks is None or (sinks.dtype == torch.float32 and sinks.shape == q.shape[1:2]),
        op,
        f"sinks must be float32 [{q.shape[1]}], got "
        f"{None if sinks is None else (sinks.dtype, tuple(sinks.shape))}",
    )


@torch.library.custom_op("xllm::sink_attention", mutates_args=())
def sink_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    sinks: Tensor,
    causal: bool,
    scale: float,
) -> Tensor:
    """Attention whose softmax has one more logit per head in its sum, without a value.

    Args:
        q: ``[B, H, S, D]``, float.
        k: ``[B, Hk, K, D]``, dtype of ``q``; query head h reads head ``h // (H // Hk)``.
        v: ``[B, Hk, K, Dv]``, dtype of ``q``.
        mask: boolean (true: visible) or additive, broadcast to ``[B, H, S, K]``.
        sinks: ``[H]`` float32.
        causal: query i sees keys ``0..i``.
        scale: factor on the scores.

    Returns:
        ``[B, H, S, Dv]`` in the dtype of ``q``.

    Raises:
        ValueError: on shapes and dtypes outside of the above.

    Source: ``eager_attention_forward`` of gpt_oss in transformers 5.23, the softmax in float32.
    """
    _check_sink_attention(q, k, v, sinks)
    groups = q.shape[1] // k.shape[1]
    score = (q @ k.repeat_interleave(groups, 1).transpose(2, 3)).float() * scale
    if causal:
        above = torch.ones(score.shape[2:], dtype=torch.bool, device=q.device).triu(1)
        score = score.masked_fill(above, float("-inf"))
    if mask is not None:
        boolean = mask.dtype == torch.bool
        score = score.masked_fill(~mask, float("-inf")) if boolean else score + mask.float()
    sink = sinks[None, :, None, None].expand(*score.shape[:-1], 1)
    p = torch.cat((score, sink), -1).softmax(-1)[..., :-1]
    return p.to(v.dtype) @ v.repeat_interleave(groups, 1)


def _check_sink_attention(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> None:
    op = "sink_attention"
    ok = q.dim() == k.dim() == v.dim() == 4 and q.dtype == k.dtype == v.dtype
    ok = ok and q.shape[1] % k.shape[1] == 0 and q.shape[3] == k.shape[3]
    ok = ok and k.shape[:3] == v.shape[:3]
    given = [(str(x.dtype), tuple(x.shape)) for x in (q, k, v)]
    _require(ok, op, f"takes q[B,H,S,D], k[B,Hk,K,D], v[B,Hk,K,Dv] of one dtype, got {given}")
    _check_sinks(op, q, sinks)


@sink_attention.register_fake
def _sink_attention_fake(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    sinks: Tensor,
    causal: bool,
    scale: float,
) -> Tensor:
    _check_sink_attention(q, k, v, sinks)
    return q.new_empty((*q.shape[:3], v.shape[3]))


@paged_attention.register_fake
def _paged_attention_fake(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    cu_seqlens: Tensor,
    context_lens: Tensor,
    block_tables: Tensor,
    scale: float,
    page: int,
    sinks: Tensor | None = None,
    window: int | None = None,
) -> Tensor:
    _check_paged(q, k_cache, v_cache, cu_seqlens, context_lens, block_tables, page)
    _check_sinks("paged_attention", q, sinks)
    return q.new_empty((q.shape[0], q.shape[1], v_cache.shape[2]))


# -- products per head -----------------------------------------------------------------------------


@torch.library.custom_op("xllm::head_linear", mutates_args=())
def head_linear(x: Tensor, w: Tensor) -> Tensor:
    """``y[t, h] = w[h] x[t, h]``: a linear layer of its own for every head.

    Args:
        x: ``[T, H, K]``, float.
        w: ``[H, N, K]``, dtype of ``x``.

    Returns:
        ``[T, H, N]`` in the dtype of ``x``.

    Raises:
        ValueError: on shapes and dtypes outside of the above.
    """
    _check_heads(x, w)
    return torch.matmul(x.transpose(0, 1), w.transpose(1, 2)).transpose(0, 1).contiguous()


@head_linear.register_fake
def _head_linear_fake(x: Tensor, w: Tensor) -> Tensor:
    _check_heads(x, w)
    return x.new_empty((x.shape[0], x.shape[1], w.shape[1]))


def _check_heads(x: Tensor, w: Tensor) -> None:
    fits = x.dim() == w.dim() == 3 and x.shape[1] == w.shape[0] and x.shape[2] == w.shape[2]
    _require(
        bool(fits) and x.dtype == w.dtype,
        "head_linear",
        f"x must be [T, H, K] and w [H, N, K] of one dtype, got {tuple(x.shape)} {x.dtype} and "
        f"{tuple(w.shape)} {w.dtype}",
    )
