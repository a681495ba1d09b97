"""torch.einsum of two operands as one product: linear, head_linear or matmul between views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xcompile.frontend.aten_views import permute
from xcompile.frontend.fx import Importer
from xcompile.ir import Value
from xcompile.ops.matmul import HEAD_LINEAR, LINEAR, MATMUL
from xcompile.symbolic import Dim, product


def einsum(i: Importer, equation: Any, operands: Sequence[Any], **_: Any) -> Value | None:
    """None for other forms: an ellipsis, a letter twice in one operand, a letter only summed."""
    text = str(equation).replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if not arrow or "." in text or len(terms) != 2:
        return None
    (a, b), (x, y) = terms, operands
    if any(len({*t}) != len(t) for t in (a, b, out)) or not {*out} <= {*a, *b}:
        return None
    if ({*a} ^ {*b}) - {*out} or any(not isinstance(v, Value) for v in (x, y)):
        return None
    if _is_weight(i, x) and not _is_weight(i, y):
        (a, x), (b, y) = (b, y), (a, x)
    size: dict[str, Dim] = {}
    for letter, n in [*zip(a, x.shape, strict=True), *zip(b, y.shape, strict=True)]:
        if size.setdefault(letter, n) != n:
            return None  # one of them is 1 and broadcasts
    batch = [c for c in a if c in b and c in out]
    inner = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    n, m, k = (product(size[c] for c in part) for part in (columns, rows, inner))
    shape = tuple(size[c] for c in batch)

    def ordered(v: Value, letters: str, wanted: list[str], to: tuple[Dim, ...]) -> Value:
        return i.reshape(permute(i, v, [letters.index(c) for c in wanted]), to)

    if _is_weight(i, y) and len(batch) < 2:
        got = [*rows, *batch, *columns]
        rest = ordered(x, a, [*rows, *batch, *inner], (m, *shape, k))
        weight = ordered(y, b, [*batch, *columns, *inner], (*shape, n, k))
        z = i.add(HEAD_LINEAR if batch else LINEAR, rest, weight)
    else:
        got = [*batch, *rows, *columns]
        first = ordered(x, a, [*batch, *rows, *inner], (*shape, m, k))
        second = ordered(y, b, [*batch, *inner, *columns], (*shape, k, n))
        z = i.add(MATMUL, first, second)
    z = i.reshape(z, tuple(size[c] for c in got))
    return permute(i, z, [got.index(c) for c in out])


def _is_weight(i: Importer, v: Value) -> bool:
    """Whether v is a constant, or a view of one."""
    made = i.graph.producers()
    while (n := made.get(v)) is not None and n.op.view:
        v = n.inputs[0]
    return v in i.graph.consts


__all__ = ["einsum"]
