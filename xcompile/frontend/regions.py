"""Routed-experts regions of an unprepared model, found in a Dynamo graph by `nn_module_stack`.

The nodes of one experts module become one `xllm::moe_experts` call. The region's boundary must be
exactly that op's (token rows, expert ids, weights, two stacked weight tensors, one result), and
the replacement is run against the region on random input before it is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from xcompile.frontend import torch_ops

log = logging.getLogger("xcompile")


@dataclass
class Region:
    """Nodes of one experts module and its boundary, in `xllm::moe_experts` order."""

    path: str
    nodes: list[torch.fx.Node]
    inputs: list[torch.fx.Node]  # x, expert, weight, gate_up, down
    sizes: list[torch.fx.Node]  # symbolic ints from outside
    result: torch.fx.Node


def replace_experts(gm: torch.fx.GraphModule, real: Mapping[torch.fx.Node, Any]) -> list[str]:
    """Replace every experts region in place; returns the module paths that were replaced.

    real: placeholder -> the tensor behind it (for the weights)
    """
    done = []
    for region in list(_regions(gm)):
        act = _matching_activation(gm, region, real)
        if act is None:
            log.warning("experts region %s differs from moe_experts; left as it is", region.path)
            continue
        with gm.graph.inserting_before(region.result):
            call = gm.graph.call_function(torch.ops.xllm.moe_experts.default, (*region.inputs, act))
        call.meta = dict(region.result.meta)
        region.result.replace_all_uses_with(call)
        for n in reversed(region.nodes):
            if not n.users:  # sizes computed here may serve later layers
                gm.graph.erase_node(n)
        done.append(region.path)
    if done:
        gm.graph.lint()
        gm.recompile()
    return done


def _module(n: torch.fx.Node) -> tuple[str, str] | None:
    """(path, class name) of the innermost experts module a node belongs to."""
    if n.op in ("placeholder", "output"):
        return None
    for path, cls in reversed(list((n.meta.get("nn_module_stack") or {}).values())):
        name = cls if isinstance(cls, str) else cls.__name__
        if name.rpartition(".")[2].endswith("Experts"):
            return str(path).replace("L['self'].", ""), name
    return None


LIMITS = {"clamp", "clip", "clamp_min", "clamp_max", "minimum", "maximum", "min", "max", "where",
          "hardtanh", "threshold"}  # fmt: skip


def _name(n: torch.fx.Node) -> str:
    name = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "")
    return name.partition(".")[0].rstrip("_")


def _value(n: torch.fx.Node) -> Any:
    return n.meta.get("example_value", n.meta.get("val"))


def _regions(gm: torch.fx.GraphModule) -> Iterator[Region]:
    by_path: dict[str, list[torch.fx.Node]] = {}
    for n in gm.graph.nodes:
        where = _module(n)
        if where is not None:
            by_path.setdefault(where[0], []).append(n)
    for path, nodes in by_path.items():
        region = _bounded(path, nodes)
        if region is not None:
            yield region


def _bounded(path: str, nodes: list[torch.fx.Node]) -> Region | None:
    if any(_name(n) in LIMITS for n in nodes):
        return None  # random input may not reach a limit; pass fuse_moe compares around it
    inside = set(nodes)
    outer = list(dict.fromkeys(i for n in nodes for i in n.all_input_nodes if i not in inside))
    results = [
        n
        for n in nodes
        if any(u not in inside for u in n.users) and isinstance(_value(n), torch.Tensor)
    ]
    tensors = [n for n in outer if isinstance(_value(n), torch.Tensor)]
    weights = [n for n in tensors if _value(n).dim() == 3]
    rows = [n for n in tensors if _value(n).dim() == 2 and _value(n).dtype.is_floating_point]
    ids = [n for n in tensors if _value(n).dim() == 2 and _value(n).dtype == torch.int64]
    if len(results) != 1 or len(weights) != 2 or len(rows) != 2 or len(ids) != 1:
        return None
    if len(tensors) != 5:
        return None
    up, down = weights
    if _value(up).shape[2] != _value(down).shape[1]:
        up, down = down, up
    hidden, inter = _value(down).shape[1:]
    if tuple(_value(up).shape[1:]) != (2 * inter, hidden):
        return None
    k = _value(ids[0]).shape[1]
    x, weight = rows if _value(rows[0]).shape[1] == hidden else rows[::-1]
    if _value(x).shape[1] != hidden or _value(weight).shape[1] != k:
        return None
    sizes = [n for n in outer if n not in tensors]
    return Region(path, nodes, [x, ids[0], weight, up, down], sizes, results[0])


def _matching_activation(
    gm: torch.fx.GraphModule, region: Region, real: Mapping[torch.fx.Node, Any]
) -> str | None:
    """The activation with which moe_experts equals the region on random input, if any."""
    generator = torch.Generator().manual_seed(0)
    x, expert, weight, up, down = region.inputs
    if up not in real or down not in real:
        return None
    experts = int(_value(up).shape[0])
    rows, k = (_concrete(d) for d in _value(expert).shape)
    dtype = _value(x).dtype
    given: dict[torch.fx.Node, Any] = {n: _concrete(_value(n)) for n in region.sizes}
    given[x] = torch.randn(rows, int(_value(x).shape[1]), generator=generator).to(dtype)
    given[expert] = torch.rand(rows, experts, generator=generator).topk(k).indices
    given[weight] = torch.rand(rows, k, generator=generator).to(_value(weight).dtype)
    given[up], given[down] = real[up], real[down]
    with torch.no_grad():
        want = _run(gm, region, given).float()
        bar = 1e-5 if dtype.itemsize >= 4 else 3e-2
        for act in torch_ops.ACTIVATIONS:
            got = torch_ops.moe_experts(*(given[n] for n in region.inputs), act).float()
            if (got - want).norm() <= bar * want.norm():
                return act
    return None


def _concrete(v: Any) -> Any:
    """The traced size of a symbolic int; int() would put a guard on it."""
    return v.node.hint if isinstance(v, torch.SymInt) else v


def _run(gm: torch.fx.GraphModule, region: Region, given: dict[torch.fx.Node, Any]) -> torch.Tensor:
    """The region's own nodes on concrete values."""
    interpreter = torch.fx.Interpreter(gm)
    interpreter.env.update(given)
    for n in region.nodes:
        interpreter.env[n] = interpreter.run_node(n)
    return interpreter.env[region.result]
