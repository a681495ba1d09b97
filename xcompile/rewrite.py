"""Rewrite rules: pairs of traced functions.

``Rule(find, put)``: both take a `Trace` and the rule's holes and build IR through it. `find` is
matched against the graph (commutative operands in either order, literals through `Trace.lit`);
`put` builds the replacement. Since both sides run, a rule is its own differential test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from xcompile.ir import Graph, Node, Op, Value, make
from xcompile.ops import registry

COMMUTATIVE = {"add", "mul", "max", "min", "and", "or", "eq"}


@dataclass(eq=False)
class Pat:
    """A pattern node: an op over patterns, a hole, or a captured literal."""

    op: str | None = None
    args: tuple[Pat, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    hole: str = ""
    lit: Any = None

    def __add__(self, other: Pat) -> Pat:
        return Pat("add", (self, other))

    def __sub__(self, other: Pat) -> Pat:
        return Pat("sub", (self, other))

    def __mul__(self, other: Pat) -> Pat:
        return Pat("mul", (self, other))

    def __truediv__(self, other: Pat) -> Pat:
        return Pat("div", (self, other))

    def __neg__(self) -> Pat:
        return Pat("neg", (self,))


class Find:
    """Builds the pattern: `p.rsqrt(x)` matches op rsqrt, `p.cast(x)` any cast, `p.lit("eps")` a
    0-d literal whose value is captured."""

    def __getattr__(self, op: str) -> Callable[..., Pat]:
        return lambda *args, **attrs: Pat(op.rstrip("_"), args, attrs)

    def lit(self, name: str) -> Pat:
        return Pat(lit=name)


@dataclass
class Match:
    """What a pattern bound: values by hole, literals by name, and the matched nodes."""

    root: Node
    values: dict[str, Value] = field(default_factory=dict)
    lits: dict[str, Any] = field(default_factory=dict)
    nodes: dict[Pat, Node] = field(default_factory=dict)

    def attr(self, op: str, name: str) -> Any:
        """Attribute of the first matched node of that op, in the pattern's order."""
        return next(n.attrs[name] for n in self.nodes.values() if n.op.name == op)

    def first(self, op: str) -> Node:
        return next(n for n in self.nodes.values() if n.op.name == op)


class Put:
    """Builds the replacement into a node list: `b.rms_norm(x, w, eps=...)`."""

    def __init__(self, origin: str = "") -> None:
        self.nodes: list[Node] = []
        self.origin = origin

    def __getattr__(self, op: str) -> Callable[..., Value]:
        def build(*args: Value, **attrs: Any) -> Value:
            n = make(registry()[op.rstrip("_")], *args, origin=self.origin, **attrs)
            self.nodes.append(n)
            return n.out

        return build


@dataclass(frozen=True)
class Rule:
    """find == put. `when(match)` adds conditions; `sample(rng)` gives tensors for the holes, and
    `build(put, *values)` the original form, from which the rule's own test starts."""

    name: str
    find: Callable[..., Pat]
    put: Callable[..., Value]
    when: Callable[[Match], bool] = lambda m: True
    sample: Callable[[torch.Generator], list[torch.Tensor]] | None = None
    build: Callable[..., Value] | None = None

    @cached_property
    def holes(self) -> list[str]:
        return list(inspect.signature(self.find).parameters)[1:]

    @cached_property
    def pattern(self) -> Pat:
        return self.find(Find(), *(Pat(hole=h) for h in self.holes))


def apply(graph: Graph, rules: list[Rule]) -> Graph:
    """Apply every rule wherever it matches, last node first, until nothing changes."""
    while True:
        made = graph.producers()
        taken: set[Node] = set()
        swaps: dict[Node, tuple[list[Node], Value]] = {}
        for n in reversed(graph.nodes):
            for rule in rules:
                m = _match_root(rule, n, made)
                if m is None or taken & set(m.nodes.values()) or not rule.when(m):
                    continue
                put = Put(n.origin)
                out = rule.put(put, m, *(m.values[h] for h in rule.holes))
                if out.type.same(n.out.type):
                    swaps[n] = (put.nodes, out)
                    taken |= set(m.nodes.values())
                    break
        if not swaps:
            return graph
        nodes: list[Node] = []
        mapping: dict[Value, Value] = {}
        for n in graph.nodes:
            if n in swaps:
                new, out = swaps[n]
                nodes += new
                mapping[n.out] = out
            else:
                nodes.append(n)
        graph = dce(graph.with_nodes(nodes, mapping))


def dce(graph: Graph) -> Graph:
    """Drop nodes and constants that no output needs."""
    live = set(graph.outputs)
    keep: list[Node] = []
    for n in reversed(graph.nodes):
        if live & set(n.outputs):
            keep.append(n)
            live.update(n.inputs)
    out = graph.with_nodes(keep[::-1])
    out.consts = {v: t for v, t in graph.consts.items() if v in live}
    return out


def _match_root(rule: Rule, n: Node, made: Mapping[Value, Node]) -> Match | None:
    if len(n.outputs) != 1 or n.op.name != rule.pattern.op:
        return None
    return next(_match(rule.pattern, n.out, Match(n), made), None)


def _match(p: Pat, v: Value, m: Match, made: Mapping[Value, Node]) -> Iterator[Match]:
    """All ways in which v fits p, extending m."""
    if p.hole:
        if m.values.get(p.hole, v) is v:
            yield Match(m.root, {**m.values, p.hole: v}, m.lits, m.nodes)
        return
    n = made.get(v)
    if n is None:
        return
    if p.lit is not None:
        if n.op.name == "full" and m.lits.get(p.lit, n.attrs["value"]) == n.attrs["value"]:
            yield Match(m.root, m.values, {**m.lits, p.lit: n.attrs["value"]}, m.nodes)
        return
    if p in m.nodes:
        if m.nodes[p] is n:
            yield m
        return
    if n.op.name != p.op or len(n.inputs) != len(p.args):
        return
    if any(n.attrs.get(k) != a for k, a in p.attrs.items()):
        return
    base = Match(m.root, m.values, m.lits, {**m.nodes, p: n})
    yield from _match_args(p.args, n.inputs, base, made)
    if n.op.name in COMMUTATIVE:
        yield from _match_args(p.args, n.inputs[::-1], base, made)


def _match_args(
    ps: tuple[Pat, ...], vs: tuple[Value, ...], m: Match, made: Mapping[Value, Node]
) -> Iterator[Match]:
    if not ps:
        yield m
        return
    for first in _match(ps[0], vs[0], m, made):
        yield from _match_args(ps[1:], vs[1:], first, made)


__all__ = ["Find", "Match", "Op", "Pat", "Put", "Rule", "apply", "dce"]
