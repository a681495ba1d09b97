"""A linear of its own for every head, with constant weights, as a cube phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcompile.codegen.ascend.builder import STORAGE
from xcompile.codegen.ascend.linear import stream, tiles
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import Node
from xcompile.plan import Packed
from xcompile.symbolic import c_expr
from xcompile.targets.ascend_tiling import Product

if TYPE_CHECKING:
    from xcompile.codegen.ascend.builder import AscendBuilder, Phase


def build(b: AscendBuilder, n: Node) -> Phase:
    x, w = n.inputs
    if w not in b.graph.consts:
        raise UnsupportedError(f"head_linear with a weight that is not a constant ({n.origin})")
    heads, cols, k = (int(d) for d in w.shape)
    choice = tiles(b, x.shape[0], Product(cols, k, w.dtype.itemsize, count=heads))
    x_strides, y_strides = b.layouts[x].strides, b.layouts[n.out].strides
    text = render(
        b.target.template_path,
        "linear.j2",
        ctype=STORAGE[x.dtype],
        panel=choice.panel,
        tiling=choice.c("rows_"),
        count=heads,
        panels=-(-cols // choice.panel),
        M=c_expr(x.shape[0]),
        N=cols,
        K=k,
        lda=c_expr(x_strides[0]),
        x_step=c_expr(x_strides[1]),
        ldc=c_expr(y_strides[0]),
        y_step=c_expr(y_strides[1]),
        stream=stream(b),
    )
    args = [x, Packed(f"nz{choice.panel}", (w,)), n.out]
    return b.phase("head_linear", "cube", n, args, text, ["gemm.h"])
