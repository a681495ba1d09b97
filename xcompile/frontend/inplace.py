"""In-place writes of a traced graph, made functional while importing.

torch's own functionalisation retraces the whole graph, which costs more than everything else in
the frontend. The writes that models really do are few: ops on a value of their own (a cache's
`index_copy_`, `scatter_`, `div_`), and `copy_` into slices of a fresh buffer. `simple(graph)` says
whether a graph holds nothing else; the importer then rebinds the written value, and other graphs
take torch's road.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
import torch.fx

from xcompile.errors import UnsupportedError
from xcompile.ops import aten_map

if TYPE_CHECKING:
    from xcompile.frontend.fx import Importer


def _name(n: torch.fx.Node) -> str:
    return str(n.target).removeprefix("aten.")


def _functional(n: torch.fx.Node) -> str:
    """The op that computes what an in-place op writes: "scatter_.value" -> "scatter.value"."""
    return _name(n).replace("_.", ".", 1)


def is_write(n: torch.fx.Node) -> bool:
    return isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable


def _fresh(n: Any) -> bool:
    """Whether the results of an op are tensors of their own."""
    return isinstance(n.target, torch._ops.OpOverload) and not any(
        r.alias_info is not None for r in n.target._schema.returns
    )


def _base(n: torch.fx.Node) -> torch.fx.Node | None:
    """The operand that n's result may share memory with."""
    if n.op != "call_function":
        return None
    if n.target is operator.getitem:
        # One of several fresh results: the same memory as an earlier node that takes the same one.
        source = n.all_input_nodes[0]
        first = next(u for u in source.users if u.target is n.target and u.args[1:] == n.args[1:])
        return source if not _fresh(source) else first if first is not n else None
    if not isinstance(n.target, torch._ops.OpOverload) or _fresh(n):
        return None
    return n.args[0] if isinstance(n.args[0], torch.fx.Node) else None


def simple(graph: torch.fx.Graph) -> bool:
    """Whether every write is one that `write` handles, and no view is read after its base was
    written behind its back."""
    from xcompile.frontend.aten import CONVERT

    order = {n: i for i, n in enumerate(graph.nodes)}
    roots: dict[torch.fx.Node, torch.fx.Node] = {}
    for n in graph.nodes:
        base = _base(n)
        roots[n] = roots.get(base, base) if base is not None else n
    for w in graph.nodes:
        if w.op != "call_function" or not is_write(w):
            continue
        target = w.args[0]
        if "_." not in _name(w) or not isinstance(target, torch.fx.Node):
            return False
        if not (_functional(w) in CONVERT or _functional(w) in aten_map()):
            return False
        root = roots[target]
        sliced = _name(target) == "slice.Tensor" and target.args[0] is root
        if target is not root and not (sliced and _name(w) == "copy_.default"):
            return False
        for v, r in roots.items():  # views made before this write must not be read after it
            if r is root and v is not root and order[v] < order[w]:
                for u in v.users:
                    if order[u] > order[w] and not (is_write(u) and u.args[0] is v):
                        return False
    return True


def write(imp: Importer, n: torch.fx.Node) -> None:
    """Rebind what an in-place op wrote; the op's own result is the written value."""
    from xcompile.frontend.aten import CONVERT

    target: Any = n.args[0]
    args = [imp.get(a) for a in n.args]
    kwargs = {k: imp.get(v) for k, v in n.kwargs.items()}
    name = _functional(n)
    if name in CONVERT:
        new = CONVERT[name](imp, *args, **kwargs)
    else:
        new = imp.pointwise(aten_map()[name], *args)
    if new is None:
        raise UnsupportedError(f"cannot import the in-place call {imp.where()}")
    imp.env[n] = imp.env[target] = new
    if target.op == "call_function" and _name(target) == "slice.Tensor":
        base, *bounds = target.args
        bounds = [imp.get(b) for b in bounds]
        imp.env[base] = CONVERT["slice_scatter.default"](imp, imp.env[base], new, *bounds)
