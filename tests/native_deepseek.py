"""A small decoder in the style of DeepSeek's own inference code, written for these tests.

Caches are buffers that the forward pass writes, positions are Python ints, rotary embeddings are
complex numbers, and experts run in a loop over the ones that were hit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Gating:
    """How experts are chosen."""

    score: str = "softmax"
    bias: bool = False
    groups: int = 1
    kept: int = 1
    factor: float = 1.0


@dataclass(frozen=True)
class Sizes:
    vocabulary: int = 96
    width: int = 32
    inner: int = 48
    expert_inner: int = 24
    layers: int = 2
    dense_layers: int = 1
    heads: int = 4
    experts: int = 8
    shared: int = 1
    chosen: int = 3
    query_rank: int = 0
    rank: int = 16
    nope: int = 8
    rope: int = 8
    value: int = 12
    requests: int = 2
    positions: int = 48
    naive: bool = False
    scale: float = 0.3
    gating: Gating = field(default_factory=Gating)


CACHES = (("kv_cache", "pe_cache"), ("k_cache", "v_cache"))  # by Sizes.naive


class Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Norm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-6)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs of the last dim of ``[B, S, H, rope]``, as complex numbers, times their turns."""
    z = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    y = torch.view_as_real(z * turns.view(1, x.shape[1], 1, -1))
    return y.flatten(3).to(x.dtype)


class Attention(nn.Module):
    """MLA; parts and sizes have the names of DeepSeek's, by which the substitute knows them."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.naive, self.n_local_heads, self.softmax_scale = s.naive, s.heads, s.scale
        self.kv_lora_rank, self.q_lora_rank = s.rank, s.query_rank
        self.qk_nope_head_dim, self.qk_rope_head_dim = s.nope, s.rope
        self.qk_head_dim, self.v_head_dim = s.nope + s.rope, s.value
        if s.query_rank:
            self.wq_a, self.q_norm = Dense(s.width, s.query_rank), Norm(s.query_rank)
            self.wq_b = Dense(s.query_rank, s.heads * self.qk_head_dim)
        else:
            self.wq = Dense(s.width, s.heads * self.qk_head_dim)
        self.wkv_a, self.kv_norm = Dense(s.width, s.rank + s.rope), Norm(s.rank)
        self.wkv_b = Dense(s.rank, s.heads * (s.nope + s.value))
        self.wo = Dense(s.heads * s.value, s.width)
        keys = (s.heads, self.qk_head_dim) if s.naive else (s.rank,)
        values = (s.heads, s.value) if s.naive else (s.rope,)
        for name, each in zip(CACHES[s.naive], (keys, values), strict=True):
            cache = torch.zeros(s.requests, s.positions, *each)
            self.register_buffer(name, cache, persistent=False)

    def forward(self, x: Tensor, start_pos: int, freqs_cis: Tensor, mask: Tensor | None) -> Tensor:
        batch, count, _ = x.shape
        seen = slice(start_pos + count)
        new = slice(start_pos, start_pos + count)
        q = self.wq_b(self.q_norm(self.wq_a(x))) if self.q_lora_rank else self.wq(x)
        q = q.view(batch, count, self.n_local_heads, self.qk_head_dim)
        q, q_turned = q.split([self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        q_turned = rotate(q_turned, freqs_cis)
        c, r = self.wkv_a(x).split([self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        r = rotate(r.unsqueeze(2), freqs_cis)
        if self.naive:
            q = torch.cat([q, q_turned], dim=-1)
            both = self.wkv_b(self.kv_norm(c)).view(batch, count, self.n_local_heads, -1)
            k, v = both.split([self.qk_nope_head_dim, self.v_head_dim], dim=-1)
            k = torch.cat([k, r.expand(-1, -1, self.n_local_heads, -1)], dim=-1)
            self.k_cache[:batch, new] = k
            self.v_cache[:batch, new] = v
            scores = torch.einsum("bshd,bthd->bsht", q, self.k_cache[:batch, seen])
        else:
            up = self.wkv_b.weight.view(self.n_local_heads, -1, self.kv_lora_rank)
            q = torch.einsum("bshd,hdc->bshc", q, up[:, : self.qk_nope_head_dim])
            self.kv_cache[:batch, new] = self.kv_norm(c)
            self.pe_cache[:batch, new] = r.squeeze(2)
            scores = torch.einsum("bshc,btc->bsht", q, self.kv_cache[:batch, seen])
            scores += torch.einsum("bshr,btr->bsht", q_turned, self.pe_cache[:batch, seen])
        scores = scores * self.softmax_scale
        if mask is not None:
            scores += mask.unsqueeze(1)
        scores = scores.softmax(dim=-1, dtype=torch.float32).type_as(x)
        if self.naive:
            y = torch.einsum("bsht,bthd->bshd", scores, self.v_cache[:batch, seen])
        else:
            y = torch.einsum("bsht,btc->bshc", scores, self.kv_cache[:batch, seen])
            y = torch.einsum("bshc,hdc->bshd", y, up[:, -self.v_head_dim :])
        return self.wo(y.flatten(2))


class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = Dense(width, inner)
        self.back = Dense(inner, width)
        self.second = Dense(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(F.silu(self.first(x)) * self.second(x))


class Router(nn.Module):
    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.gating, self.chosen = s.gating, s.chosen
        self.weight = nn.Parameter(torch.randn(s.experts, s.width) / s.width**0.5)
        self.bias = nn.Parameter(torch.randn(s.experts) / 4) if s.gating.bias else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = self.gating
        logits = F.linear(x, self.weight)
        soft = g.score == "softmax"
        scores = logits.softmax(-1, dtype=torch.float32) if soft else logits.sigmoid()
        own = scores
        if self.bias is not None:
            scores = scores + self.bias
        if g.groups > 1:
            grouped = scores.view(len(x), g.groups, -1)
            if self.bias is None:
                best = grouped.amax(-1)
            else:
                best = grouped.topk(2, dim=-1)[0].sum(-1)
            index = best.topk(g.kept, dim=-1)[1]
            out = grouped.new_ones(len(x), g.groups, dtype=bool).scatter_(1, index, False)
            scores = grouped.masked_fill_(out.unsqueeze(-1), float("-inf")).flatten(1)
        index = torch.topk(scores, self.chosen, dim=-1)[1]
        weights = own.gather(1, index)
        if not soft:
            weights /= weights.sum(-1, keepdim=True)
        weights *= g.factor
        return weights.type_as(x), index


class Fixed(nn.Module):
    """A router that always chooses the same experts."""

    def __init__(self, chosen: list[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.tensor(chosen))
        self.register_buffer("weights", torch.linspace(1, 0.5, len(chosen)).to(dtype))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.weights.expand(len(x), -1), self.chosen.expand(len(x), -1)


class Mixture(nn.Module):
    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.router = Router(s)
        self.parts = nn.ModuleList(Gated(s.width, s.expert_inner) for _ in range(s.experts))
        self.common = Gated(s.width, s.shared * s.expert_inner)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        x = x.view(-1, shape[-1])
        weights, chosen = self.router(x)
        y = torch.zeros_like(x)
        hits = torch.bincount(chosen.flatten(), minlength=len(self.parts)).tolist()
        for e, part in enumerate(self.parts):
            if hits[e]:
                row, slot = torch.where(chosen == e)
                y[row] += part(x[row]) * weights[row, slot, None]
        return (y + self.common(x)).view(shape)


class Layer(nn.Module):
    def __init__(self, s: Sizes, at: int) -> None:
        super().__init__()
        self.attention, self.first_norm = Attention(s), Norm(s.width)
        self.mlp = Gated(s.width, s.inner) if at < s.dense_layers else Mixture(s)
        self.second_norm = Norm(s.width)

    def forward(self, x: Tensor, start: int, turns: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.first_norm(x), start, turns, mask)
        return x + self.mlp(self.second_norm(x))


class Decoder(nn.Module):
    """Tokens ``[B, S]`` from position `start` on -> logits ``[B, V]`` of the last one."""

    def __init__(self, s: Sizes) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(s.vocabulary, s.width))
        self.layers = nn.ModuleList(Layer(s, at) for at in range(s.layers))
        self.norm = Norm(s.width)
        self.head = Dense(s.width, s.vocabulary)
        speed = 10000.0 ** (-torch.arange(0, s.rope, 2).float() / s.rope)
        angle = torch.outer(torch.arange(s.positions).float(), speed)
        self.register_buffer("turns", torch.polar(torch.ones_like(angle), angle), persistent=False)

    @torch.inference_mode()
    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        count = tokens.shape[1]
        x = F.embedding(tokens, self.table)
        turns = self.turns[start : start + count]
        mask = None
        if count > 1:
            mask = torch.full((count, count), float("-inf"), device=tokens.device).triu_(1)
        for layer in self.layers:
            x = layer(x, start, turns, mask)
        return self.head(self.norm(x)[:, -1])


def decoder(dtype: torch.dtype = torch.float32, **sizes: object) -> Decoder:
    """A decoder with random weights; caches and weights in `dtype`."""
    torch.manual_seed(0)
    model = Decoder(replace(Sizes(), **sizes)).eval()  # type: ignore[arg-type]
    turns = model._buffers.pop("turns")  # stays complex
    model.to(dtype).register_buffer("turns", turns, persistent=False)
    return model
