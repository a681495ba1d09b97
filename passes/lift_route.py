"""The ops between a router's logits and the (weights, experts) of moe_experts = moe_route.

Families write the same routing in many ways. So parameters are guessed from the ops in that slice
and taken only if moe_route then chooses the same experts, in the same order, with the same weights,
on inputs made to tell routings apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as combinations
from math import prod
from typing import Any

import torch

from xcompile.errors import ShapeError
from xcompile.ir import Graph, Node, Value, evaluate_node, make
from xcompile.ops.moe import ROUTED
from xcompile.ops.route import DEFAULTS, MOE_ROUTE, probes
from xcompile.ops.view import RESHAPE
from xcompile.passes.grouping import is_leaf
from xcompile.rewrite import dce
from xcompile.symbolic import Range, evaluate, free_names, product, same
from xcompile.targets import Target

# All that a slice may hold: what has its place in moe_route.
OPS = {"softmax", "sigmoid", "topk", "gather", "scatter", "reshape", "expand", "permute", "slice",
       "full", "cast", "not", "where", "add", "mul", "div", "max", "sum", "amax"}  # fmt: skip
NONE = float("-inf")
ROWS = 512  # rows to compare at once, where the graph allows it
ULPS = 4


def run(graph: Graph, target: Target) -> Graph:
    at = {n: i for i, n in enumerate(graph.nodes)}
    made, users = graph.producers(), graph.users()
    known: dict[Any, dict[str, Any] | None] = {}
    new: dict[Node, list[Node]] = {}
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        if n.op.name not in ROUTED or n.inputs[1] in mapping:
            continue
        for s in slices(n, graph, made, users, at):
            if (key := s.key()) not in known:
                known[key] = recognise(s, graph.symbols)
            if (attrs := known[key]) is not None:
                # here all that moe_route reads is there, and nobody has read its results yet
                new[made[s.expert]] = nodes = s.replacement(attrs, n.origin)
                mapping.update(zip((s.weight, s.expert), nodes[-1].outputs, strict=True))
                break
    nodes = [m for n in graph.nodes for m in (*new.get(n, ()), n)]
    return dce(graph.with_nodes(nodes, mapping)) if new else graph


@dataclass
class Slice:
    """Nodes, in order, that compute weight and expert from [logits, bias?]."""

    nodes: list[Node]
    operands: list[Value]
    weight: Value
    expert: Value
    experts: int

    def key(self) -> tuple:  # equal for slices that do the same with their operands
        names = {v: k for k, v in enumerate(self.operands)}
        rows: list[Any] = [str(v.type) for v in self.operands]
        for n in self.nodes:
            rows.append((n.op.name, *(names[v] for v in n.inputs), str(sorted(n.attrs.items()))))
            names.update({v: len(names) + k for k, v in enumerate(n.outputs)})
        return (*rows, names[self.weight], names[self.expert])

    def replacement(self, attrs: dict[str, Any], origin: str) -> list[Node]:
        shapes = [(self.expert.shape[0], self.experts), (self.experts,)]
        views = {
            v: make(RESHAPE, v, shape=shape, origin=origin)
            for v, shape in zip(self.operands, shapes, strict=False)
            if v.type.rank != len(shape)
        }
        args = [views[v].out if v in views else v for v in self.operands]
        return [*views.values(), make(MOE_ROUTE, *args, origin=origin, **attrs)]

    def eval(self, args: Sequence[torch.Tensor], env: Mapping[str, int]) -> list[torch.Tensor]:
        known = dict(zip(self.operands, args, strict=True))
        for n in self.nodes:
            outs = evaluate_node(n, [known[v] for v in n.inputs], env)
            known.update(zip(n.outputs, outs, strict=True))
        return [known[self.weight], known[self.expert]]


def slices(
    experts: Node,
    graph: Graph,
    made: Mapping[Value, Node],
    users: Mapping[Value, list[Node]],
    at: Mapping[Node, int],
) -> Iterator[Slice]:
    """What ends in the operands of moe_experts, with no other reader inside; the longest first."""
    expert, weight, size = experts.inputs[1], experts.inputs[2], experts.inputs[3].shape[0]
    ends = {expert, weight}

    def cut(head: Value | None) -> tuple[list[Node], set[Value]]:
        """Nodes behind the ends, as far as `head` and other ops allow, and what they read."""
        nodes: set[Node] = set()
        outside: set[Value] = set()
        todo = [*ends]
        while todo:
            v = todo.pop()
            n = made.get(v)
            if v is head or n is None or n.op.name not in OPS:
                outside.add(v)
            elif n not in nodes:
                nodes.add(n)
                todo += n.inputs
        return sorted(nodes, key=at.__getitem__), outside

    def is_head(v: Value) -> bool:  # may be logits
        rows = product(v.shape[:-1]) if v.type.rank > 1 and same(v.shape[-1], size) else 0
        return v.dtype.is_floating_point and same(rows, expert.shape[0]) and v not in graph.consts

    nodes, outside = cut(None)
    for head in filter(is_head, [*outside, *(v for n in nodes for v in n.outputs)]):
        nodes, outside = cut(head)
        inner = {v for n in nodes if not is_leaf(n) for v in n.outputs} - ends
        seen = any(v in graph.outputs or {*users.get(v, ())} - {*nodes} for v in inner)
        bias = [v for v in outside if v is not head]
        fits = all(b.dtype.is_floating_point and same(b.type.numel, size) for b in bias)
        early = all(at[made[b]] < at[made[expert]] for b in bias if b in made and expert in made)
        if not seen and fits and early and not outside & ends and len(bias) < 2 and head in outside:
            yield Slice(nodes, [head, *bias], weight, expert, size)


def guesses(s: Slice) -> Iterator[dict[str, Any]]:
    """Parameters that the ops of the slice suggest."""
    ops, k = {n.op.name for n in s.nodes}, s.expert.shape[1]
    fills = {n.out: n.attrs["value"] for n in s.nodes if n.op.name == "full"}
    fills = {v: float(x) for v, x in fills.items() if isinstance(x, int | float)}
    scores, groups, chosen, scale = [], {(1, "max")}, {1}, 1.0
    literals: dict[str, set[float]] = {"add": set(), "max": set(), "where": set()}
    for n in s.nodes:
        name, values = n.op.name, [fills[v] for v in n.inputs if v in fills]
        shape = n.inputs[0].shape if n.inputs else ()
        literals.get(name, set()).update(values)
        if name == "sigmoid" or (name == "softmax" and same(shape[-1], s.experts)):
            scores.append((name, n.out.dtype))
        if name == "softmax" and same(shape[-1], k):
            scores.append(("softmax_topk", n.out.dtype))
        if name in ("topk", "amax") and len(shape) > 2 and isinstance(shape[-2], int):
            groups.add((shape[-2], "top2sum" if n.attrs.get("k") == 2 else "max"))
        if name == "topk":
            chosen.add(n.attrs["k"])
        if name == "mul" and values and same(n.out.shape[-1], k):
            scale *= values[0]
    fixed = {"k": k, "renorm": "div" in ops, "scale": scale, "dtype": s.weight.dtype}
    ways = [(g, t, kind) for g, kind in sorted(groups) for t in sorted(chosen)]
    where, add, floors = (sorted(literals[name]) for name in ("where", "add", "max"))
    for (score, compute), (g, t, kind), mask, eps, floor in combinations(
        scores, ways, where or [NONE], add or [0.0], floors or [NONE]
    ):
        found = {"score": score, "compute": compute, "eps": eps, "floor": floor}
        if g > 1:
            found |= {"groups": g, "topk_group": t, "group_score": kind, "mask": mask}
        biased = "gather" not in ops and (g > 1 or len(s.operands) > 1)
        yield {**DEFAULTS, **fixed, **found, "biased": biased}


def recognise(s: Slice, symbols: Mapping[str, Range]) -> dict[str, Any] | None:
    """Parameters with which moe_route does what the slice does."""
    wish = round(ROWS ** (1 / max(1, len(free_names(s.expert.shape[0])))))
    env = {name: min(max(wish, r.lo), r.hi) for name, r in symbols.items()}
    examples = list(_examples(s, env))
    want = [s.eval(args, env) for args in examples]
    for attrs in guesses(s):
        try:
            s.replacement(attrs, "")
        except ShapeError:
            continue
        if all(_agree(s, attrs, a, w) for a, w in zip(examples, want, strict=True)):
            return attrs
    return None


def _agree(s: Slice, attrs: dict[str, Any], args: Sequence[torch.Tensor], want: Any) -> bool:
    flat = [args[0].reshape(-1, s.experts), *(b.flatten() for b in args[1:])]
    weight, expert = MOE_ROUTE.ref(*flat, **attrs)
    info, a, b = torch.finfo(weight.dtype), weight.double(), want[0].double()
    close = torch.allclose(a, b, rtol=ULPS * info.eps, atol=info.tiny, equal_nan=True)
    return close and torch.equal(expert, want[1])


def _examples(s: Slice, env: Mapping[str, int]) -> Iterator[list[torch.Tensor]]:
    logits, biases = probes(s.experts)
    shapes = [[evaluate(d, env) for d in v.shape] for v in s.operands]
    rows = max(1, prod(shapes[0][:-1]))
    for first in range(0, len(logits), rows):
        x = logits[torch.arange(first, first + rows) % len(logits)]
        for args in [(x, b) for b in biases] if len(shapes) > 1 else [(x,)]:
            given = zip(args, shapes, s.operands, strict=True)
            yield [a.reshape(shape).to(v.dtype) for a, shape, v in given]
