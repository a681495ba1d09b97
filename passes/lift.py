"""x * rsqrt(mean(x^2) + eps) * w = rms_norm(x, w);  x cos + rotate_half(x) sin = rope(x)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from xcompile.ir import Value
from xcompile.rewrite import Find, Match, Pat, Put, Rule
from xcompile.symbolic import same


# -- RMSNorm, as Llama and its children write it ------------------------------------------------
def _rms_find(p: Find, x: Pat, w: Pat) -> Pat:
    h = p.cast(x)
    mean = p.sum(p.square(h)) / p.lit("n")
    return w * p.cast(h * p.rsqrt(mean + p.lit("eps")))


def _rms32_find(p: Find, x: Pat, w: Pat) -> Pat:
    mean = p.sum(p.square(x)) / p.lit("n")
    return w * (x * p.rsqrt(mean + p.lit("eps")))


def _rms_put(b: Put, m: Match, x: Value, w: Value) -> Value:
    return b.rms_norm(x, w, eps=float(m.lits["eps"]))


def _rms_when(m: Match) -> bool:
    x, w = m.values["x"], m.values["w"]
    return (
        same(m.lits["n"], x.shape[-1])
        and w.type.rank == 1
        and same(w.shape[0], x.shape[-1])
        and w.dtype == x.dtype == m.root.out.dtype
        and m.first("square").out.dtype == torch.float32
    )


def _rms_build(b: Put, x: Value, w: Value) -> Value:
    h = b.cast(x, dtype=torch.float32) if x.dtype != torch.float32 else x
    n, eps = (b.full(shape=(), value=v, dtype=torch.float32) for v in (float(x.shape[-1]), 1e-6))
    h = b.mul(h, b.rsqrt(b.add(b.div(b.sum(b.square(h)), n), eps)))
    return b.mul(w, h if x.dtype == torch.float32 else b.cast(h, dtype=x.dtype))


def _rms_sample(dtype: torch.dtype) -> Callable[[torch.Generator], list[torch.Tensor]]:
    def sample(rng: torch.Generator) -> list[torch.Tensor]:
        return [torch.randn(s, generator=rng).to(dtype) for s in ((3, 5, 32), (32,))]

    return sample


# -- rotary embedding ---------------------------------------------------------------------------
def _rope_find(p: Find, x: Pat, cos: Pat, sin: Pat) -> Pat:
    return x * cos + p.cat(-p.slice(x), p.slice(x)) * sin


def _rope_when(m: Match) -> bool:
    x = m.values["x"]
    d, last = x.shape[-1], x.type.rank - 1
    slices = [n.attrs for n in m.nodes.values() if n.op.name == "slice"]
    return (
        isinstance(d, int)
        and all(a["dim"] == last and a["step"] == 1 for a in slices)
        and sorted((a["start"], a["stop"]) for a in slices) == [(0, d // 2), (d // 2, d)]
        and m.first("slice").attrs["start"] == d // 2  # the negated one comes first
        and m.attr("cat", "dim") == last
        and m.root.out.type.same(x.type)
    )


def _rope_put(b: Put, m: Match, x: Value, cos: Value, sin: Value) -> Value:
    return b.rope(x, cos, sin, interleaved=False)


def _rope_build(b: Put, x: Value, cos: Value, sin: Value) -> Value:
    d, last = int(x.shape[-1]), x.type.rank - 1
    lo = b.slice(x, dim=last, start=0, stop=d // 2, step=1)
    hi = b.slice(x, dim=last, start=d // 2, stop=d, step=1)
    return b.add(b.mul(x, cos), b.mul(b.cat(b.neg(hi), lo, dim=last), sin))


def _rope_sample(rng: torch.Generator) -> list[torch.Tensor]:
    angle = torch.randn(2, 1, 5, 8, generator=rng)
    return [torch.randn(2, 3, 5, 8, generator=rng), angle.cos(), angle.sin()]


# -- rope over pairs: permuted to halves first (DeepSeek) ---------------------------------------
def _pairs_find(p: Find, x: Pat, cos: Pat, sin: Pat) -> Pat:
    return p.rope(p.reshape(p.permute(p.reshape(x))), cos, sin)


def _pairs_when(m: Match) -> bool:
    x = m.values["x"]
    pairs = m.first("permute").inputs[0].type
    perm = tuple(m.attr("permute", "perm"))
    r = pairs.rank
    return (
        not m.root.attrs["interleaved"]
        and r == x.type.rank + 1
        and pairs.shape[-1] == 2
        and all(map(same, pairs.shape[:-2], x.shape[:-1]))
        and perm == (*range(r - 2), r - 1, r - 2)
        and m.root.out.type.same(x.type)
    )


def _pairs_put(b: Put, m: Match, x: Value, cos: Value, sin: Value) -> Value:
    return b.rope(x, cos, sin, interleaved=True)


def _pairs_build(b: Put, x: Value, cos: Value, sin: Value) -> Value:
    pairs = b.reshape(x, shape=(*x.shape[:-1], x.shape[-1] // 2, 2))
    r = pairs.type.rank
    halves = b.permute(pairs, perm=(*range(r - 2), r - 1, r - 2))
    return b.rope(b.reshape(halves, shape=x.shape), cos, sin, interleaved=False)


# -- x[..., ::2] and x[..., 1::2] as the two halves (DeepSeek V3) --------------------------------
def _evens_find(p: Find, x: Pat, cos: Pat, sin: Pat) -> Pat:
    return p.rope(p.cat(p.slice(x, start=0, step=2), p.slice(x, start=1, step=2)), cos, sin)


def _evens_when(m: Match) -> bool:
    x = m.values["x"]
    last = x.type.rank - 1
    return (
        not m.root.attrs["interleaved"]
        and m.attr("cat", "dim") == last
        and all(
            n.attrs["dim"] == last and n.attrs["stop"] >= x.shape[-1] - 1
            for n in m.nodes.values()
            if n.op.name == "slice"
        )
        and m.root.out.type.same(x.type)
    )


def _evens_build(b: Put, x: Value, cos: Value, sin: Value) -> Value:
    last, d = x.type.rank - 1, x.shape[-1]
    parts = [b.slice(x, dim=last, start=k, stop=d, step=2) for k in (0, 1)]
    return b.rope(b.cat(*parts, dim=last), cos, sin, interleaved=False)


# -- both halves written out: cat(a c - b s, b c + a s) with a, b = x[..., ::2], x[..., 1::2] -----
def _halves_find(p: Find, x: Pat, cos: Pat, sin: Pat) -> Pat:
    a, b = p.slice(x, start=0, step=2), p.slice(x, start=1, step=2)
    return p.cat(a * cos - b * sin, b * cos + a * sin)


def _halves_when(m: Match) -> bool:
    x, out = m.values["x"], m.root.out
    last, half = x.type.rank - 1, m.values["cos"].shape[-1]
    slices = [n.attrs for n in m.nodes.values() if n.op.name == "slice"]
    return (
        m.root.attrs["dim"] == last
        and all(a["dim"] == last and a["stop"] >= x.shape[-1] - 1 for a in slices)
        and same(half * 2, x.shape[-1])
        and out.type.same(x.type)
    )


def _halves_build(b: Put, x: Value, cos: Value, sin: Value) -> Value:
    last, d = x.type.rank - 1, int(x.shape[-1])
    lo, hi = (b.slice(x, dim=last, start=k, stop=d, step=2) for k in (0, 1))
    c, s = (b.slice(v, dim=last, start=0, stop=d // 2, step=1) for v in (cos, sin))
    first = b.sub(b.mul(lo, c), b.mul(hi, s))
    return b.cat(first, b.add(b.mul(hi, c), b.mul(lo, s)), dim=last)


RULES = [
    Rule("rms_norm", _rms_find, _rms_put, _rms_when, _rms_sample(torch.bfloat16), _rms_build),
    Rule("rms_norm_f32", _rms32_find, _rms_put, _rms_when, _rms_sample(torch.float32), _rms_build),
    Rule("rope", _rope_find, _rope_put, _rope_when, _rope_sample, _rope_build),
    Rule("rope_pairs", _pairs_find, _pairs_put, _pairs_when, _rope_sample, _pairs_build),
    Rule("rope_evens", _evens_find, _pairs_put, _evens_when, _rope_sample, _evens_build),
    Rule("rope_halves", _halves_find, _pairs_put, _halves_when, _rope_sample, _halves_build),
]
