"""Ops that read or write through an index tensor. Indices are int64 and bounds-checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Op, Type
from xcompile.ops.infer import expect
from xcompile.symbolic import same


def _embedding(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    table, ids = types
    expect(table.rank >= 1 and ids.dtype == torch.int64, f"embedding of {table} by {ids}")
    return [Type(table.dtype, (*ids.shape, *table.shape[1:]))]


def _gather(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, index = types
    ok = index.dtype == torch.int64 and x.rank == index.rank
    expect(
        ok and all(map(same, x.shape[:-1], index.shape[:-1])),
        f"gather along the last dim needs matching leading dims, given {x} and {index}",
    )
    return [Type(x.dtype, index.shape)]


def _scatter(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, index, src = types
    _gather([x, index], attrs)
    expect(src.dtype == x.dtype and src.same(Type(x.dtype, index.shape)), f"scatter src {src}")
    return [x]


def _index_copy(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    x, index, src = types
    d = attrs["dim"]
    want = Type(x.dtype, (*x.shape[:d], *index.shape, *x.shape[d + 1 :]))
    expect(
        index.rank == 1 and index.dtype == torch.int64 and src.same(want),
        f"index_copy into {x} along dim {d} at {index} takes {want}, given {src}",
    )
    return [x]


def _bmin(shape: tuple[int, ...], hi: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, hi, shape, generator=rng)


# y[..., D] = table[ids[...], D]
EMBEDDING = Op(
    "embedding",
    _embedding,
    lambda table, ids: table[ids],
    sample=lambda rng: ([torch.randn(11, 37, generator=rng), _bmin((2, 5), 11, rng)], {}),
)
# y[..., j] = x[..., index[..., j]]
GATHER = Op(
    "gather",
    _gather,
    lambda x, index: torch.gather(x, -1, index),
    sample=lambda rng: ([torch.randn(3, 11, generator=rng), _bmin((3, 5), 11, rng)], {}),
)
# y = x; y[..., index[..., j]] = src[..., j]
SCATTER = Op(
    "scatter",
    _scatter,
    lambda x, index, src: torch.scatter(x, -1, index, src),
    alias={0: 0},
    sample=lambda rng: (
        [
            torch.randn(3, 11, generator=rng),
            torch.stack([torch.randperm(11, generator=rng)[:4] for _ in range(3)]),
            torch.randn(3, 4, generator=rng),
        ],
        {},
    ),
)
# y = x; y[index[i]] = src[i] along dim {dim}: how a KV cache is written
INDEX_COPY = Op(
    "index_copy",
    _index_copy,
    lambda x, index, src, dim: x.index_copy(dim, index, src),
    alias={0: 0},
    sample=lambda rng: (
        [
            torch.randn(9, 4, 5, generator=rng),
            torch.randperm(9, generator=rng)[:3],
            torch.randn(3, 4, 5, generator=rng),
        ],
        {"dim": 0},
    ),
)
