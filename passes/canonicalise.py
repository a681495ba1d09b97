"""f(const) = const';  f(x), f(x) = f(x) once;  view(view(x)) = view(x);  slice(cat(a, b)) = a."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sympy

from xcompile.ir import Graph, Node, Value, evaluate_node, make
from xcompile.ops.leaf import FULL, IOTA
from xcompile.ops.matmul import LINEAR
from xcompile.ops.pointwise import BY_NAME
from xcompile.ops.view import EXPAND, PERMUTE, RESHAPE, SLICE
from xcompile.rewrite import dce
from xcompile.symbolic import Dim, free_names, same, simplify
from xcompile.targets import Target

FOLD_LIMIT = 1 << 16  # elements a fold may create out of smaller constants


def run(graph: Graph, target: Target) -> Graph:
    previous = -1
    while len(graph.nodes) != previous:
        previous = len(graph.nodes)
        graph = dce(_sweep(graph))
    return graph


def _sweep(graph: Graph) -> Graph:
    made = graph.producers()
    known: dict[Any, Node] = {}
    new: list[Node] = []
    mapping: dict[Value, Value] = {}
    consts = dict(graph.consts)

    def emit(n: Node) -> Value:
        new.append(n)
        made.update(dict.fromkeys(n.outputs, n))
        return n.out

    for old in graph.nodes:
        n = Node(
            old.op,
            tuple(mapping.get(v, v) for v in old.inputs),
            old.attrs,
            old.outputs,
            old.origin,
        )
        made.update(dict.fromkeys(n.outputs, n))
        unique = n.body is not None or n.op.name == "torch_call"
        key = n if unique else (n.op, n.inputs, _key(n.attrs))
        simpler = _simplify(n, made, emit)
        if simpler is not None:
            mapping[n.out] = simpler
        elif _foldable(n, consts):
            values = [consts[v] for v in n.inputs]
            t = evaluate_node(n, values, {})[0].contiguous()  # type: ignore[arg-type]
            v = Value(n.out.type, n.inputs[0].name)
            consts[v] = t
            mapping[n.out] = v
        elif key in known:
            mapping.update(zip(n.outputs, known[key].outputs, strict=True))
        else:
            known[key] = n
            new.append(n)
    out = graph.with_nodes(new, mapping)
    out.consts = consts
    return out


def _key(attr: Any) -> Any:
    if isinstance(attr, dict):
        return tuple((k, _key(v)) for k, v in sorted(attr.items()))
    if isinstance(attr, float | bool | int):
        return (type(attr), repr(attr))  # 1, 1.0 and True are equal but not the same
    return attr


def _foldable(n: Node, consts: dict[Value, Any]) -> bool:
    if not n.inputs or len(n.outputs) != 1 or any(consts.get(v) is None for v in n.inputs):
        return False
    if n.op is EXPAND or any(free_names(d) for d in n.out.shape) or n.op.name == "torch_call":
        return False
    if any(free_names(a) for a in n.attrs.values()):
        return False  # a slice of fixed size at an unknown place
    size, given = n.out.type.numel, max(int(v.type.numel) for v in n.inputs)
    return n.op.name in ("reshape", "permute", "slice", "cast") or size <= max(given, FOLD_LIMIT)


def _simplify(n: Node, made: dict[Value, Node], emit: Any) -> Value | None:
    """A simpler value equal to n's single result, or None."""
    if len(n.outputs) != 1 or not n.inputs:
        return None
    x = n.inputs[0]
    src = made.get(x)
    name = n.op.name
    if name == "cast":
        if n.out.dtype == x.dtype:
            return x
        if src is not None and src.op.name == "full":
            return emit(make(FULL, shape=src.attrs["shape"], dtype=n.out.dtype,
                             value=_literal(src.attrs["value"], n.out.dtype)))  # fmt: skip
        if src is not None and src.op.name == "cast" and _widens(src.inputs[0].dtype, x.dtype):
            return src.inputs[0] if src.inputs[0].dtype == n.out.dtype else None
        return None
    if n.op is LINEAR and len(n.inputs) == 3:
        product = emit(make(LINEAR, *n.inputs[:2], origin=n.origin))
        return emit(make(BY_NAME["add"], product, n.inputs[2], origin=n.origin))
    if name == "mul" and (other := _times_one(n, made)) is not None:
        return other
    if not n.op.view:
        return None
    if n.out.type.same(x.type) and _identity(n):
        return x
    if src is None:
        return None
    if src.op is FULL:
        return emit(make(FULL, shape=n.out.shape, dtype=x.dtype, value=src.attrs["value"]))
    if n.op is RESHAPE and src.op is RESHAPE:
        return emit(make(RESHAPE, src.inputs[0], origin=n.origin, shape=n.out.shape))
    if n.op is PERMUTE and src.op is PERMUTE:
        perm = tuple(src.attrs["perm"][p] for p in n.attrs["perm"])
        return emit(make(PERMUTE, src.inputs[0], origin=n.origin, perm=perm))
    if src.op is IOTA and n.op in (RESHAPE, EXPAND):
        return _ramp(n, src, emit)
    if n.op is SLICE and n.attrs["step"] == 1:
        return _slice_of(n, src, emit)
    return None


def _identity(n: Node) -> bool:
    if n.op is PERMUTE:
        return tuple(n.attrs["perm"]) == tuple(range(n.out.type.rank))
    return n.op is not SLICE or (same(n.attrs["start"], 0) and n.attrs["step"] == 1)


def _literal(value: Any, dtype: Any) -> Any:
    if isinstance(value, sympy.Expr):
        return value
    return bool(value) if str(dtype) == "torch.bool" else (
        float(value) if dtype.is_floating_point else int(value)
    )  # fmt: skip


def _widens(small: Any, wide: Any) -> bool:
    order = ["torch.bfloat16", "torch.float16"]
    return (str(small) in order and str(wide) in ("torch.float32", "torch.float64")) or (
        str(small) == "torch.float32" and str(wide) == "torch.float64"
    )


def _times_one(n: Node, made: dict[Value, Node]) -> Value | None:
    for a, b in (n.inputs, n.inputs[::-1]):
        lit = made.get(b)
        if lit is not None and lit.op is FULL and lit.attrs["value"] == 1 and a.type == n.out.type:
            return a
    return None


def _ramp(n: Node, src: Node, emit: Any) -> Value | None:
    """A ramp whose dims of size 1 come, go or grow."""
    old, shape, d = src.attrs["shape"], n.out.shape, src.attrs["dim"]
    if any(not same(s, 1) for k, s in enumerate(old) if k != d) or old[d] == 1:
        return None
    at = [k for k, s in enumerate(shape) if same(s, old[d])]
    if n.op is EXPAND:
        at = [len(shape) - len(old) + d]
    elif len(at) != 1 or any(not same(s, 1) for k, s in enumerate(shape) if k != at[0]):
        return None
    attrs = {**src.attrs, "shape": shape, "dim": at[0]}
    return emit(replace(src, attrs=attrs, outputs=(Value(n.out.type),)))


def _slice_of(n: Node, src: Node, emit: Any) -> Value | None:
    d, start, stop = n.attrs["dim"], n.attrs["start"], n.attrs["stop"]
    if src.op is SLICE and src.attrs["dim"] == d and src.attrs["step"] == 1:
        at = src.attrs["start"]
        bounds: dict[str, Any] = {"start": simplify(at + start), "stop": simplify(at + stop)}
        return emit(make(SLICE, src.inputs[0], origin=n.origin, dim=d, step=1, **bounds))
    if src.op.name != "cat" or src.attrs["dim"] != d:
        return None
    ends: list[Dim] = [0]
    for v in src.inputs:
        ends.append(simplify(ends[-1] + v.shape[d]))
    first = [k for k, e in enumerate(ends) if same(e, start)]
    last = [k for k, e in enumerate(ends) if same(e, stop)]
    if not first or not last or last[-1] <= first[0]:
        return None
    parts = src.inputs[first[0] : last[-1]]
    if len(parts) == len(src.inputs):
        return None
    return parts[0] if len(parts) == 1 else emit(make(src.op, *parts, origin=n.origin, dim=d))
