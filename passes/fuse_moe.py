"""sum_k weight down(unit(gate_up(x[token]))), rows sorted or weights gathered = moe_experts.

The regions that transformers' `grouped_mm` and `batched_mm` leave in a graph: two products by
experts' weights. Arithmetic is matched op by op (products, biases, one factor, one sum), what
stands between the products is compared with every known gated unit on values of all sizes, and the
whole region is then run against moe_experts, which also checks all index computations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from xcompile.ir import Graph, Node, Value, evaluate_node, make
from xcompile.ops.moe import ACTIVATIONS, CLAMPED, MOE_EXPERTS, gate
from xcompile.ops.view import PERMUTE, RESHAPE
from xcompile.rewrite import dce
from xcompile.symbolic import Range, evaluate, free_names, same
from xcompile.targets import Target

GROUPED = {"aten::_grouped_mm.default", "transformers::grouped_mm_fallback.default"}
ISLANDS = {*GROUPED, "aten::histc.default"}
PLACE = {"reshape", "expand", "embedding"}  # what may move rows and weights
INDEX = {"reshape", "where", "add", "lt", "sort", "cast", "cumsum", "full", "torch_call"}
ROWS, ROOM = 5, 1 << 32  # rows to compare, where the graph allows it, and bytes they may take


def run(graph: Graph, target: Target) -> Graph:
    made, users = graph.producers(), graph.users()
    new: dict[Node, list[Node]] = {}
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        region = find(n, graph, made, users)
        if region is not None and (nodes := recognise(region, graph.symbols)) is not None:
            new[made[region.result]] = nodes
            mapping[region.result] = nodes[-1].out
    nodes = [m for n in graph.nodes for m in (*new.get(n, ()), n)]
    return dce(graph.with_nodes(nodes, mapping)) if new else graph


@dataclass
class Product:
    """rows [S, in] times the experts' weight, [E, out, in] or turned; bias [E, out]?; result."""

    rows: Value
    weight: Value
    turned: bool
    index: Value
    out: Value
    bias: list[Value] = field(default_factory=list)


@dataclass
class Region:
    """Nodes, in order, that compute result[N,H] from x[N,H], expert[N,k], weight[N,k]; the unit
    is what they do from up.out to down.rows."""

    x: Value
    expert: Value
    weight: Value
    up: Product
    down: Product
    result: Value
    nodes: list[Node]
    consts: Mapping[Value, torch.Tensor]

    def eval(self, known: dict[Value, torch.Tensor], env: Mapping[str, int], out: Value) -> Any:
        known = {**self.consts, **known}
        for n in self.nodes:
            if all(v in known for v in n.inputs) and n.outputs[0] not in known:
                outs = evaluate_node(n, [known[v] for v in n.inputs], env)
                known.update(zip(n.outputs, outs, strict=True))
        return known[out]


# -- structure ----------------------------------------------------------------------------------
def find(
    n: Node, graph: Graph, made: Mapping[Value, Node], users: Mapping[Value, list[Node]]
) -> Region | None:
    """The region whose second product is n."""
    consts = {v: t for v, t in graph.consts.items() if t is not None}
    down = product(n, made, consts)
    if down is None:
        return None
    ups = [
        p
        for v in behind(down.rows, made, lambda m: _between(m) and not product(m, made, consts))
        if v in made and (p := product(made[v], made, consts)) is not None
    ]
    if len(ups) != 1:
        return None
    expert = _only(v for v in behind(down.index, made, _indexing) if _is_table(v))
    if expert is None:
        return None
    up = ups[0]
    _take_bias(up, made, users, consts)
    _take_bias(down, made, users, consts)
    tokens = expert.shape[0]
    x = next((v for v in _moved(up.rows, made) if v.type.rank == 2 and same(v.shape[0], tokens)
              and same(v.shape[1], up.weight.shape[1 if up.turned else 2])), None)  # fmt: skip
    end = _weighted(down.out, expert, x, made, users) if x is not None else None
    if x is None or end is None:
        return None
    weight, result = end
    edge = {x, expert, weight}
    inside = behind(result, made, lambda m: not edge & set(m.outputs), edge)
    nodes = [m for m in graph.nodes if set(m.outputs) & (inside - edge)]
    known = edge.union(consts, *(m.outputs for m in nodes))
    if any(v not in known for m in nodes for v in m.inputs) or any(
        m.op.name == "torch_call" and m.attrs["target"] not in ISLANDS for m in nodes
    ):
        return None
    used = {v: consts[v] for m in nodes for v in m.inputs if v in consts}
    return Region(x, expert, weight, up, down, result, nodes, used)


def product(n: Node, made: Mapping[Value, Node], consts: Mapping[Value, Any]) -> Product | None:
    """Rows by weights that an index chooses: a grouped product, or a batch of gathered weights."""
    if n.op.name == "torch_call" and n.attrs["target"] in GROUPED and len(n.inputs) == 3:
        rows, w, index = n.inputs
        src = made.get(w)
        if src is not None and src.op is PERMUTE and tuple(src.attrs["perm"]) == (0, 2, 1):
            return (
                Product(rows, src.inputs[0], False, index, n.out)
                if src.inputs[0] in consts
                else None
            )
        return Product(rows, w, True, index, n.out) if w in consts and w.type.rank == 3 else None
    if n.op.name != "matmul":
        return None
    for turned, (w, rows) in ((False, n.inputs), (True, n.inputs[::-1])):
        src = made.get(w)
        column = rows.shape[-2 if turned else -1]
        if src is not None and src.op.name == "embedding" and same(column, 1) and (
            src.inputs[0] in consts and src.inputs[0].type.rank == 3
        ):  # fmt: skip
            return Product(rows, src.inputs[0], turned, src.inputs[1], n.out)
    return None


def behind(
    start: Value,
    made: Mapping[Value, Node],
    through: Any,
    edge: Collection[Value] = (),
) -> set[Value]:
    """start and all values that it is computed from, as far as `through` and `edge` allow."""
    seen: set[Value] = set()
    todo = [start]
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        if v in made and v not in edge and through(made[v]):
            todo += made[v].inputs
    return seen


def _between(n: Node) -> bool:
    return n.op.name != "embedding" and n.out.dtype.is_floating_point


def _indexing(n: Node) -> bool:
    return n.op.name in INDEX and not (n.op.name == "reshape" and _is_table(n.out))


def _is_table(v: Value) -> bool:
    return v.type.rank == 2 and v.dtype == torch.int64


def _only(values: Iterator[Value]) -> Value | None:
    found = [*values]
    return found[0] if len(found) == 1 else None


def _moved(v: Value, made: Mapping[Value, Node]) -> Iterator[Value]:
    """v and what it is but rows of, nearest first."""
    yield v
    while v in made and made[v].op.name in PLACE:
        v = made[v].inputs[0]
        yield v


def _take_bias(
    p: Product,
    made: Mapping[Value, Node],
    users: Mapping[Value, list[Node]],
    consts: Mapping[Value, Any],
) -> None:
    """Moves a product's result over the reshape and the gathered bias that follow it."""
    while True:
        readers = users.get(p.out, [])
        if len(readers) != 1 or readers[0].op.name not in ("reshape", "add"):
            return
        n = readers[0]
        if n.op.name == "add":
            other = n.inputs[1] if n.inputs[0] is p.out else n.inputs[0]
            src = made.get(other)
            if src is None or src.op.name != "embedding" or src.inputs[0] not in consts or p.bias:
                return
            p.bias = [src.inputs[0]]
        elif n.out.type.rank != 2 or p.out.type.rank != 3:
            return
        p.out = n.out


def _weighted(
    y: Value, expert: Value, x: Value, made: Mapping[Value, Node], users: Mapping[Value, list[Node]]
) -> tuple[Value, Value] | None:
    """(weight, result) of the weighted sum over each token's rows y."""
    weight, summed = None, False
    while not (summed and y.type.same(x.type)):
        readers = users.get(y, [])
        if len(readers) != 1:
            return None
        n, name = readers[0], readers[0].op.name
        if name == "mul" and weight is None:
            other = n.inputs[1] if n.inputs[0] is y else n.inputs[0]
            table = (v for v in _moved(other, made) if v.type.rank == 2)
            weight = next((v for v in table if all(map(same, v.shape, expert.shape))), None)
        elif name == "sum" and not summed and same(n.inputs[0].shape[-1], expert.shape[1]):
            summed = True
        elif name not in ("reshape", "permute", "cast", "embedding") or n.inputs[0] is not y:
            return None
        if name == "mul" and weight is None:
            return None
        y = n.out
    return (weight, y) if weight is not None and weight.dtype in (x.dtype, torch.float32) else None


# -- meaning ------------------------------------------------------------------------------------
def recognise(r: Region, symbols: Mapping[str, Range]) -> list[Node] | None:
    """moe_experts, and the views of its weights, that do what the region does."""
    names = free_names(r.expert.shape[0])
    wish = math.ceil(ROWS ** (1 / max(1, len(names))))
    env = {name: min(max(wish, s.lo), s.hi) for name, s in symbols.items()}
    size = max((evaluate(v.type.nbytes, env) for n in r.nodes for v in n.outputs), default=0)
    if size > ROOM or len(r.up.bias) != len(r.down.bias):
        return None
    for attrs, mixed in units(r, env):
        nodes = replacement(r, attrs, mixed)
        if nodes is not None and _agree(r, nodes, env):
            return nodes
    return None


def units(r: Region, env: Mapping[str, int]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Attributes of the gated units that do what stands between the products; whether gate and up
    are interleaved."""
    rows = evaluate(r.up.out.shape[0], env)
    inner = int(r.down.weight.shape[1 if r.down.turned else 2])
    gated = int(r.up.weight.shape[2 if r.up.turned else 1]) == 2 * inner
    literals = {name: {*_numbers(name, r)} for name in ("min", "max", "mul")}
    given = _probe(rows, inner, sorted({*literals["min"], *literals["max"]}))
    if given is None:
        return
    g, u = given
    floats = [n.out.dtype for n in r.nodes if n.op.name == "cast"]
    bar = 1e-2 if any(d.is_floating_point and d.itemsize < 4 for d in floats) else 1e-5
    for mixed in (False, True) if gated else (False,):
        pair = torch.stack((g, u), -1).flatten(-2) if mixed else torch.cat((g, u), -1)
        try:
            got = r.eval({r.up.out: pair if gated else g}, env, r.down.rows)
        except (RuntimeError, KeyError):  # it reads more than the product, or in another shape
            return
        got = got.reshape(rows, -1).double()
        for attrs in _known(gated, literals):
            want = gate(u=u, g=g, **attrs) if gated else ACTIVATIONS[attrs["act"]](g)
            if got.shape == want.shape and torch.allclose(got, want, bar, 1e-9):
                yield attrs, mixed


def _known(gated: bool, literals: Mapping[str, set[float]]) -> Iterator[dict[str, Any]]:
    for act in ACTIVATIONS:
        yield {"act": act}
    for act in CLAMPED if gated else ():
        for limit in sorted(literals["min"]):
            for alpha in sorted(literals["mul"] | {1.0}) if act == "swiglu_oai" else [1.0]:
                yield {"act": act, "limit": limit, "alpha": alpha}


def _numbers(op: str, r: Region) -> Iterator[float]:
    made = {m.out: m.attrs["value"] for m in r.nodes if m.op.name == "full"}
    values = [made[v] for n in r.nodes if n.op.name == op for v in n.inputs if v in made]
    yield from (float(v) for v in values if isinstance(v, int | float) and math.isfinite(v))


def _probe(rows: int, inner: int, limits: list[float]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Gates and ups of all sizes and signs, and around every limit; None if there is no room."""
    rng = torch.Generator().manual_seed(0)
    sizes = 10.0 ** (torch.rand(2, rows * inner, generator=rng, dtype=torch.float64) * 6 - 3)
    g, u = sizes * torch.randn(sizes.shape, generator=rng).sign()
    near = [s * f * v for v in limits for f in (0.5, 0.999, 1.001, 2.0) for s in (1, -1)]
    if 2 * len(near) > len(g):
        return None
    g[: len(near)] = u[len(near) : 2 * len(near)] = torch.tensor(near, dtype=torch.float64)
    return g.view(rows, inner), u.view(rows, inner)


def replacement(r: Region, attrs: dict[str, Any], mixed: bool) -> list[Node] | None:
    nodes: list[Node] = []
    origin = r.nodes[-1].origin

    def add(op: Any, *args: Value, **given: Any) -> Value:
        nodes.append(make(op, *args, origin=origin, **given))
        return nodes[-1].out

    def natural(p: Product) -> Value:
        return add(PERMUTE, p.weight, perm=(0, 2, 1)) if p.turned else p.weight

    def apart(v: Value) -> Value:
        if not mixed:
            return v
        e, n, *rest = (int(d) for d in v.shape)
        v = add(RESHAPE, v, shape=(e, n // 2, 2, *rest))
        v = add(PERMUTE, v, perm=(0, 2, 1, *range(3, 3 + len(rest))))
        return add(RESHAPE, v, shape=(e, n, *rest))

    weights = [apart(natural(r.up)), natural(r.down)]
    biases = [*map(apart, r.up.bias), *r.down.bias]
    made = make(MOE_EXPERTS, r.x, r.expert, r.weight, *weights, *biases, origin=origin, **attrs)
    return [*nodes, made] if made.out.type.same(r.result.type) else None


def _agree(r: Region, nodes: Sequence[Node], env: Mapping[str, int]) -> bool:
    """Whether both give the same for an even and for a constant choice of experts."""
    rng = torch.Generator().manual_seed(0)
    (tokens, k), hidden = (evaluate(d, env) for d in r.expert.shape), r.x.shape[1]
    experts = int(r.up.weight.shape[0])
    x = torch.randn(tokens, int(hidden), generator=rng).to(r.x.dtype)
    weight = (torch.rand(tokens, k, generator=rng) + 0.1).to(r.weight.dtype)
    even = torch.rand(tokens, experts, generator=rng).argsort(-1)[:, :k]
    for expert in (even, torch.arange(experts - k, experts).flip(0).repeat(tokens, 1)):
        known = {r.x: x, r.expert: expert, r.weight: weight}
        want = r.eval(known, env, r.result).double()
        values = {**r.consts, **known}
        for n in nodes:
            outs = evaluate_node(n, [values[v] for v in n.inputs], env)
            values.update(zip(n.outputs, outs, strict=True))
        got = values[nodes[-1].out].double()
        bar = 1e-5 if r.x.dtype.itemsize >= 4 else 3e-2
        if not (got - want).norm() <= bar * want.norm():
            return False
    return True
