"""Views: the result is operand 0 read with other strides. They cost no launch where the strides
can express them; otherwise codegen copies first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import axis, expect
from xcompile.symbolic import Dim, dim_str, same, simplify


def _reshape(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    out = Type(t.dtype, attrs["shape"])
    expect(
        same(t.numel, out.numel),
        f"cannot reshape {t} to {out}: {dim_str(t.numel)} elements, wanted {dim_str(out.numel)}",
    )
    return [out]


def _permute(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    perm = attrs["perm"]
    expect(sorted(perm) == list(range(t.rank)), f"{perm} is not a permutation of {t}'s dims")
    return [Type(t.dtype, tuple(t.shape[p] for p in perm))]


def _expand(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    shape = attrs["shape"]
    padded = (1,) * (len(shape) - t.rank) + t.shape
    ok = len(padded) == len(shape) and all(
        same(a, b) or same(a, 1) for a, b in zip(padded, shape, strict=True)
    )
    expect(ok, f"cannot expand {t} to {[dim_str(d) for d in shape]}")
    return [Type(t.dtype, shape)]


def _slice(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    (t,) = types
    d = axis(attrs["dim"], t.rank)
    return [Type(t.dtype, (*t.shape[:d], slice_size(attrs), *t.shape[d + 1 :]))]


def slice_size(attrs: Attrs) -> Dim:
    """Length of slice {start, stop, step}; bounds are already clamped to the dim."""
    span = attrs["stop"] - attrs["start"]
    if attrs["step"] == 1:
        return simplify(span)
    expect(isinstance(span, int), "a slice with a step needs a fixed length")
    return (span + attrs["step"] - 1) // attrs["step"]


def _slice_ref(x: torch.Tensor, dim: int, start: int, stop: int, step: int) -> torch.Tensor:
    return x[(slice(None),) * dim + (slice(start, stop, step),)]


def _x(rng: torch.Generator) -> torch.Tensor:
    return torch.randn(4, 6, 10, generator=rng)


RESHAPE = Op(
    "reshape",
    _reshape,
    lambda x, shape: x.reshape(shape),
    view=True,
    sample=lambda rng: ([_x(rng)], {"shape": (4, 2, 30)}),
)
PERMUTE = Op(
    "permute",
    _permute,
    lambda x, perm: x.permute(perm),
    view=True,
    sample=lambda rng: ([_x(rng)], {"perm": (2, 0, 1)}),
)
EXPAND = Op(
    "expand",
    _expand,
    lambda x, shape: x.expand(shape),
    view=True,
    sample=lambda rng: ([_x(rng)[:, :1]], {"shape": (4, 5, 10)}),
)
SLICE = Op(
    "slice",
    _slice,
    _slice_ref,
    view=True,
    sample=lambda rng: ([_x(rng)], {"dim": 2, "start": 1, "stop": 10, "step": 2}),
)
