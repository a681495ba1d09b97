"""Converters for functions made of logarithms, written so that nothing over- or underflows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from xcompile.frontend.aten_rows import _last
from xcompile.ir import Value
from xcompile.ops.pointwise import BY_NAME as P
from xcompile.ops.reduce import AMAX, SUM

if TYPE_CHECKING:
    from xcompile.frontend.fx import Importer


def _wide(i: Importer, x: Value) -> Value:
    return i.cast(x, torch.float32) if x.dtype.itemsize < 4 else x


def _log1p(i: Importer, x: Value) -> Value:
    """log(1 + x), exact where 1 + x rounds: log(u) x / (u - 1) with u = 1 + x."""
    one = i.scalar(1.0)
    u = i.add(P["add"], x, one)
    slope = i.add(P["div"], i.add(P["log"], u), i.add(P["sub"], u, one))
    large = i.add(P["gt"], x, i.scalar(1e30))
    rest = i.add(P["where"], large, i.add(P["log"], u), i.add(P["mul"], slope, x))
    return i.add(P["where"], i.add(P["eq"], u, one), x, rest)


def log1p(i: Importer, x: Value) -> Value:
    return i.cast(_log1p(i, _wide(i, x)), x.dtype)


def softplus(i: Importer, x: Value, beta: float = 1, threshold: float = 20) -> Value:
    """log(1 + exp(beta x)) / beta; x itself above the threshold, as torch has it."""
    y = i.add(P["mul"], _wide(i, x), i.scalar(float(beta)))
    soft = i.add(P["div"], _log1p(i, i.add(P["exp"], y)), i.scalar(float(beta)))
    out = i.add(P["where"], i.add(P["gt"], y, i.scalar(float(threshold))), _wide(i, x), soft)
    return i.cast(out, x.dtype)


def log_sigmoid(i: Importer, x: Value) -> Value:
    """min(x, 0) - log1p(exp(-|x|))"""
    y = _wide(i, x)
    tail = _log1p(i, i.add(P["exp"], i.add(P["neg"], i.add(P["abs"], y))))
    return i.cast(i.add(P["sub"], i.add(P["min"], y, i.scalar(0.0)), tail), x.dtype)


def logsumexp(
    i: Importer, x: Value, dim: int | Sequence[int], keepdim: bool = False
) -> Value | None:
    """m + log(sum exp(x - m)), m the largest, or 0 where that is infinite."""
    dims = [dim] if isinstance(dim, int) else list(dim)
    if not x.dtype.is_floating_point:
        return None
    y, _axes = _last(i, _wide(i, x), dims)
    top = i.add(AMAX, y)
    big = i.add(P["gt"], i.add(P["abs"], top), i.scalar(torch.finfo(y.dtype).max))
    top = i.add(P["where"], big, i.scalar(0.0), top)
    total = i.add(SUM, i.add(P["exp"], i.add(P["sub"], y, top)))
    out = i.cast(i.add(P["add"], i.add(P["log"], total), top), x.dtype)
    want = i.expected()
    assert want is not None
    return i.reshape(out, tuple(i.dim(d) for d in want.shape))


LOGS: dict[str, Callable] = {
    "log1p.default": log1p,
    "softplus.default": softplus,
    "log_sigmoid.default": log_sigmoid,
    "logsumexp.default": logsumexp,
}
