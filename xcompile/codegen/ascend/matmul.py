"""Batched products of two computed matrices, as cube phases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcompile.codegen.ascend.builder import STORAGE
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import Node, Value
from xcompile.symbolic import Dim, c_expr, same
from xcompile.targets.ascend_tiling import in_place

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase

DIMS = 4  # of a batch, in matmul.h


def build(b: AscendBuilder, n: Node) -> Phase:
    left, right = n.inputs
    m, k = left.shape[-2:]
    cols = right.shape[-1]
    rows_of, cols_of = b.layouts[right].strides[-2:]
    across = not (same(cols_of, 1) or same(cols, 1))
    apart, size_of, run = (cols_of, cols, k) if across else (rows_of, k, cols)
    sizes, steps = _batch(b, n, (left, right, n.out))
    size = left.dtype.itemsize
    panel, tile = in_place(b.target.chip, size, cols if isinstance(cols, int) else None)
    text = render(
        b.target.template_path,
        "matmul.j2",
        ctype=STORAGE[left.dtype],
        panel=panel,
        tile=tile.c(),
        across=across,
        batch=[[c_expr(d) for d in dims] for dims in (sizes, *steps)],
        M=c_expr(m),
        N=c_expr(cols),
        K=c_expr(k),
        lda=c_expr(k if same(m, 1) else b.layouts[left].strides[-2]),
        ldb=c_expr(run if same(size_of, 1) else apart),
        ldc=c_expr(b.layouts[n.out].strides[-2]),
    )
    return b.phase("matmul", "cube", n, [left, right, n.out], text, ["matmul.h"])


def _batch(
    b: AscendBuilder, n: Node, operands: tuple[Value, ...]
) -> tuple[list[Dim], list[list[Dim]]]:
    """Sizes of DIMS batch dims and each operand's strides; dims that lie as one are merged."""
    sizes: list[Dim] = []
    steps: list[list[Dim]] = [[] for _ in operands]
    for d, size in enumerate(n.out.shape[:-2]):
        if same(size, 1):
            continue
        own = [0 if same(v.shape[d], 1) else b.layouts[v].strides[d] for v in operands]
        if sizes and all(same(s[-1], o * size) for s, o in zip(steps, own, strict=True)):
            sizes[-1] = sizes[-1] * size
            for s, o in zip(steps, own, strict=True):
                s[-1] = o
            continue
        sizes.append(size)
        for s, o in zip(steps, own, strict=True):
            s.append(o)
    if len(sizes) > DIMS:
        raise UnsupportedError(f"matmul with more than {DIMS} batch dims ({n.origin})")
    pad: list[Dim] = [1] * (DIMS - len(sizes))
    return [*pad, *sizes], [[*[0] * len(pad), *s] for s in steps]
