"""Where each value lies: a strided window into the memory of a root value.

Views get their window by stride arithmetic; `None` means that strides cannot express the view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xcompile.ir import Graph, Node, Value
from xcompile.symbolic import Dim, product, same, simplify


@dataclass(frozen=True)
class Layout:
    """Element (i0, i1, ...) of a value is element offset + sum(i * strides) of `root`."""

    root: Value
    offset: Dim
    strides: tuple[Dim, ...]


def contiguous_strides(
    shape: tuple[Dim, ...], order: tuple[int, ...] | None = None
) -> tuple[Dim, ...]:
    order = order or tuple(range(len(shape)))
    strides: list[Dim] = [0] * len(shape)
    step: Dim = 1
    for d in reversed(order):
        strides[d] = step
        step = simplify(step * shape[d])
    return tuple(strides)


def fresh(v: Value, order: tuple[int, ...] | None = None) -> Layout:
    return Layout(v, 0, contiguous_strides(v.shape, order))


def is_contiguous(shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> bool:
    want = contiguous_strides(shape)
    return all(same(n, 1) or same(a, b) for n, a, b in zip(shape, strides, want, strict=True))


def collapse(shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> tuple[list[Dim], list[Dim]]:
    """Fewest dims that walk the same elements in the same order."""
    dims: list[Dim] = []
    steps: list[Dim] = []
    for n, s in zip(shape, strides, strict=True):
        if same(n, 1):
            continue
        if dims and same(steps[-1], s * n):
            dims[-1], steps[-1] = simplify(dims[-1] * n), s
        else:
            dims.append(n)
            steps.append(s)
    return dims, steps


def accepts(kind: str | None, shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> bool:
    """Whether an operand of this layout meets a kernel's demand (see `Op.strides`)."""
    if kind is None:
        return is_contiguous(shape, strides)
    if kind == "any" or (same(shape[-1], 1) and kind == "last"):
        return True
    if kind in ("matrix", "turned"):
        straight = _lines(shape[-2:], strides[-2:])
        return straight or (kind == "turned" and _lines(shape[:-3:-1], strides[:-3:-1]))
    if not (same(strides[-1], 1) or same(shape[-1], 1)):
        return False
    step = row_stride(shape, strides)
    again = step is not None and same(step, 0) and not same(product(shape[:-1]), 1)
    return kind == "last" or (step is not None and not again)


def _lines(shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> bool:
    """Whether the rows of a matrix are runs of memory, and not one row again and again."""
    again = same(strides[0], 0) and not same(shape[0], 1)
    return not again and (same(strides[1], 1) or same(shape[1], 1))


def row_stride(shape: tuple[Dim, ...], strides: tuple[Dim, ...]) -> Dim | None:
    """The one stride between rows when all leading dims collapse, else None."""
    dims, steps = collapse(shape[:-1], strides[:-1])
    if not dims:
        return shape[-1]
    return steps[0] if len(dims) == 1 else None


def view_layout(n: Node, x: Layout) -> Layout | None:
    """Layout of a view op's result from its operand's."""
    v, out = n.inputs[0], n.out
    match n.op.name:
        case "permute":
            return Layout(x.root, x.offset, tuple(x.strides[p] for p in n.attrs["perm"]))
        case "expand":
            pad = out.type.rank - v.type.rank
            shape = (1,) * pad + v.shape
            steps = (0,) * pad + x.strides
            return Layout(
                x.root,
                x.offset,
                tuple(
                    0 if same(a, 1) and not same(b, 1) else s
                    for a, b, s in zip(shape, out.shape, steps, strict=True)
                ),
            )
        case "slice":
            d = n.attrs["dim"]
            offset = simplify(x.offset + n.attrs["start"] * x.strides[d])
            strides = list(x.strides)
            strides[d] = simplify(strides[d] * n.attrs["step"])
            return Layout(x.root, offset, tuple(strides))
        case "reshape":
            found = _reshape(v.shape, x.strides, out.shape)
            return None if found is None else Layout(x.root, x.offset, found)
    raise AssertionError(n.op.name)


def _reshape(
    shape: tuple[Dim, ...], strides: tuple[Dim, ...], new: tuple[Dim, ...]
) -> tuple[Dim, ...] | None:
    """Strides of a reshape without a copy, from the innermost dim outwards."""
    if is_contiguous(shape, strides):
        return contiguous_strides(new)
    dims, steps = collapse(shape, strides)
    out: list[Dim] = [0] * len(new)
    left: Dim | None = None  # elements of dims[-1] not yet dealt to new dims
    step: Dim = 1
    for k in reversed(range(len(new))):
        if same(new[k], 1):
            out[k] = 0
            continue
        if left is None:
            if not dims:
                return None
            left, step = dims.pop(), steps.pop()
        out[k] = step
        if same(left, new[k]):
            left = None
            continue
        quotient = _divide(left, new[k])
        if quotient is None:
            return None
        left, step = quotient, simplify(step * new[k])
    return tuple(out) if left is None and not dims else None


def _divide(a: Dim, b: Dim) -> Dim | None:
    """a / b when exact for every value of the symbols."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    q = simplify(a / b)
    if isinstance(q, int):
        return q
    whole = q.is_polynomial() and all(c.is_Integer for c in q.as_coefficients_dict().values())
    return q if whole else None


def layouts(graph: Graph) -> dict[Value, Layout]:
    """Layouts of all values of a graph that has been through the layout pass."""
    out = {v: fresh(v) for v in [*graph.inputs, *graph.consts]}
    for n in graph.nodes:
        if n.op.view:
            lay = view_layout(n, out[n.inputs[0]])
            assert lay is not None, n.op
            out[n.out] = lay
            continue
        for k, v in enumerate(n.outputs):
            operand = n.op.alias.get(k)
            if operand is not None:
                out[v] = out[n.inputs[operand]]
            else:
                out[v] = fresh(v, n.op.order if k == 0 else None)
    made = graph.producers()
    for n in reversed(graph.nodes):  # outer concatenations first
        if n.op.name == "cat":
            _pieces(n, out, made)
    return out


def _pieces(n: Node, out: dict[Value, Layout], made: Mapping[Value, Node]) -> None:
    """The operands of a cat are written straight into its result."""
    whole, d = out[n.out], n.attrs["dim"]
    at: Dim = 0
    for v in n.inputs:
        offset = simplify(whole.offset + at * whole.strides[d])
        out[v] = Layout(whole.root, offset, whole.strides)
        at = simplify(at + v.shape[d])


__all__ = ["Layout", "accepts", "collapse", "layouts", "product", "row_stride", "view_layout"]
