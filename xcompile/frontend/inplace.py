"""In-place writes of a traced graph, made functional while importing.

torch's own functionalisation retraces the whole graph, which costs more than everything else in
the frontend. The writes that models really do are few: a cache's `index_copy_`, and `copy_` into
slices of a fresh buffer. `simple(graph)` says whether a graph holds nothing else; the importer
then rebinds the written value, and other graphs take torch's road.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.fx

if TYPE_CHECKING:
    from xcompile.frontend.fx import Importer

WRITES = {"index_copy_.default", "copy_.default"}


def _name(n: torch.fx.Node) -> str:
    return str(n.target).removeprefix("aten.")


def is_write(n: torch.fx.Node) -> bool:
    return isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable


def _base(n: torch.fx.Node) -> torch.fx.Node | None:
    """The operand that n's result may share memory with."""
    if n.op != "call_function" or not isinstance(n.target, torch._ops.OpOverload):
        return n.args[0] if n.target.__name__ == "getitem" else None  # type: ignore[union-attr,return-value]
    if any(r.alias_info is not None for r in n.target._schema.returns):
        return n.args[0] if isinstance(n.args[0], torch.fx.Node) else None
    return None


def simple(graph: torch.fx.Graph) -> bool:
    """Whether every write is one that `write` handles, and no view is read after its base was
    written behind its back."""
    order = {n: i for i, n in enumerate(graph.nodes)}
    roots: dict[torch.fx.Node, torch.fx.Node] = {}
    for n in graph.nodes:
        base = _base(n) if n.op == "call_function" else None
        roots[n] = roots.get(base, base) if base is not None else n
    for w in graph.nodes:
        if w.op != "call_function" or not is_write(w):
            continue
        target = w.args[0]
        if _name(w) not in WRITES or w.users or not isinstance(target, torch.fx.Node):
            return False
        root = roots[target]
        direct = target is root
        sliced = _name(target) == "slice.Tensor" and target.args[0] is root
        fresh = root.op == "placeholder" or _name(root).startswith(("new_", "empty", "zeros"))
        if not (fresh and (direct or (sliced and _name(w) == "copy_.default"))):
            return False
        for v, r in roots.items():  # views made before this write must not be read after it
            if r is root and v is not root and order[v] < order[w]:
                for u in v.users:
                    if order[u] > order[w] and not (is_write(u) and u.args[0] is v):
                        return False
    return True


def write(imp: Importer, n: torch.fx.Node) -> None:
    """Rebind what an in-place op wrote."""
    from xcompile.frontend.aten import CONVERT

    target: Any = n.args[0]
    src = [imp.get(a) for a in n.args[1:]]
    if _name(n) == "index_copy_.default":
        imp.env[target] = CONVERT["index_copy.default"](imp, imp.env[target], *src)
        return
    new = CONVERT["copy.default"](imp, imp.env[target], *src)
    imp.env[target] = new
    if target.op == "call_function" and _name(target) == "slice.Tensor":
        base, *bounds = target.args
        bounds = [imp.get(b) for b in bounds]
        imp.env[base] = CONVERT["slice_scatter.default"](imp, imp.env[base], new, *bounds)
