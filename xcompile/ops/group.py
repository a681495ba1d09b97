"""The fusion node: several ops that one kernel computes; `body` holds them as a graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xcompile.ir import Attrs, Graph, Op, Type
from xcompile.ops.infer import expect


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    body = attrs["body"]
    ok = len(types) == len(body.inputs)
    expect(
        ok and all(t.same(v.type) for t, v in zip(types, body.inputs, strict=True)),
        f"group takes {[str(v.type) for v in body.inputs]}, given {list(map(str, types))}",
    )
    return [v.type for v in body.outputs]


def _ref(*args: torch.Tensor, body: Graph) -> list[torch.Tensor]:
    return body.eval(*args)


GROUP = Op("group", _infer, _ref)
