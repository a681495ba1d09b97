"""attention(q, [U c, r], V c) = V attention([U^T q_n, q_r], [c, r], c), where that costs less.

Multi-head latent attention as models write it expands the latents c of the whole context to keys
and values of every head. Absorbed (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1), U goes to the
query and V to the result, so that one key head of rank + rope values serves all query heads. Scale,
masks and causality stay: the scores are the same numbers. See docs/mla.md.

Few queries over a long context gain; a whole prompt does not, its scores cost more over latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xcompile.ir import Graph, Node, Value
from xcompile.ops.matmul import LINEAR
from xcompile.ops.view import PERMUTE, RESHAPE, SLICE
from xcompile.rewrite import Put, dce
from xcompile.symbolic import Dim, evaluate, product, same
from xcompile.targets import Target

TURN = (0, 2, 1, 3)  # [B, H, T, d] <-> [B, T, H, d]
LARGE = 4096  # sizes without a smaller bound must gain there as well
CPU_BALANCE = 16.0  # flops of a matmul in the time of reading one byte, per core


def run(graph: Graph, target: Target) -> Graph:
    made, users = graph.producers(), graph.users()
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        found = match(n, graph, made, users) if n.op.name == "attention" else None
        if found is not None and _pays(found, graph, balance(target)):
            put = Put(n.origin)
            mapping[n.out] = _absorbed(found, put, made)
            nodes += put.nodes
        else:
            nodes.append(n)
    return dce(graph.with_nodes(nodes, mapping)) if mapping else graph


@dataclass(frozen=True)
class Expanded:
    """An attention over expanded latents.

    latent   c, [..., rank], one row per batch row and key, in that order
    rotated  r, [B, 1, T, rope]
    turned   whether r is [B, T, 1, rope] instead
    weight   [H * width, rank], of each head's `width` columns
    nope     where the columns of the keys start and stop;  value: likewise
    first    whether the expanded part of a key comes before r
    """

    node: Node
    latent: Value
    rotated: Value
    turned: bool
    weight: Value
    width: int
    nope: tuple[int, int]
    value: tuple[int, int]
    first: bool

    @property
    def sizes(self) -> tuple[Dim, int, Dim, Dim, int, int, int, int]:
        """B, H, S, T, rank, nope, rope, v."""
        batch, heads, queries, _ = self.node.inputs[0].shape
        rank, rope = int(self.weight.shape[1]), int(self.rotated.shape[3])
        nope, value = self.nope[1] - self.nope[0], self.value[1] - self.value[0]
        return batch, int(heads), queries, self.node.inputs[1].shape[2], rank, nope, rope, value


def match(
    n: Node, graph: Graph, made: Mapping[Value, Node], users: Mapping[Value, list[Node]]
) -> Expanded | None:
    """What an attention node attends to, if that is expanded latents which nobody else reads."""
    walk = _Walk(made)
    key, turned = walk.unturned(n.inputs[1], False)
    joint = made.get(key)
    if joint is None or joint.op.name != "cat" or joint.attrs["dim"] != 3:
        return None
    if len(joint.inputs) != 2 or any(not isinstance(v.shape[3], int) for v in joint.inputs):
        return None
    walk.passed.append(joint)
    heads = n.inputs[0].shape[1]
    value = walk.heads_of(n.inputs[2], False, heads)
    for first in (True, False):
        own, shared = joint.inputs if first else joint.inputs[::-1]
        nope, rotated = walk.heads_of(own, turned, heads), walk.shared(shared, turned)
        if value is None or nope is None or rotated is None or value[0] is not nope[0]:
            continue
        linear, weight = value[0], value[0].inputs[1]
        if graph.consts.get(weight) is None or len(linear.inputs) != 2:
            return None
        chain = {n, *walk.passed}
        inner = [v for m in walk.passed for v in m.outputs]
        if any(v in graph.outputs or {*users.get(v, ())} - chain for v in inner):
            return None  # somebody needs the expanded form
        width = int(weight.shape[0]) // int(heads)
        return Expanded(
            n, linear.inputs[0], rotated[0], rotated[1], weight, width, nope[1], value[1], first
        )
    return None


class _Walk:
    """Follows views back to what they look at. `turned`: the value is [B, T, H, d]."""

    def __init__(self, made: Mapping[Value, Node]) -> None:
        self.made = made
        self.passed: list[Node] = []  # what only serves the expanded form

    def unturned(self, v: Value, turned: bool) -> tuple[Value, bool]:
        while (n := self.made.get(v)) is not None and _turns(n):
            self.passed.append(n)
            v, turned = n.inputs[0], not turned
        return v, turned

    def heads_of(self, v: Value, turned: bool, heads: Dim) -> tuple[Node, tuple[int, int]] | None:
        """The linear whose columns `(start, stop)` of each head v holds."""
        start, size = 0, v.shape[3]
        passed: list[Node] = []
        n = self.made.get(v)
        while n is not None and (_turns(n) or _columns(n)):
            passed.append(n)
            if _turns(n):
                turned = not turned
            else:
                start += n.attrs["start"]
            n = self.made.get(n.inputs[0])
        if n is None or n.op is not RESHAPE or not turned or n.out.type.rank != 4:
            return None
        linear, shape = self.made.get(n.inputs[0]), n.out.shape
        if linear is None or linear.op is not LINEAR or not same(shape[2], heads):
            return None
        rows = (shape[0], shape[1])
        c = linear.inputs[0].shape
        fits = c[:-1] in (rows, (rows[0], 1, rows[1])) and isinstance(size, int)
        fits = fits and same(product(shape[2:]), linear.inputs[1].shape[0])
        if not fits:
            return None
        self.passed += [*passed, n, linear]
        return linear, (start, start + int(size))

    def shared(self, v: Value, turned: bool) -> tuple[Value, bool] | None:
        """What is the same for all heads, before it is repeated for them."""
        passed: list[Node] = []
        while not same(v.shape[2 if turned else 1], 1):
            n = self.made.get(v)
            if n is None or not (_turns(n) or n.op.name == "expand") or n.inputs[0].type.rank != 4:
                return None
            turned ^= _turns(n)
            passed.append(n)
            if n.op.name == "expand" and not _only_heads(n, 2 if turned else 1):
                return None
            v = n.inputs[0]
        return v, turned


def _turns(n: Node) -> bool:
    return n.op is PERMUTE and tuple(n.attrs["perm"]) == TURN


def _columns(n: Node) -> bool:
    return n.op is SLICE and n.attrs["dim"] == 3 and n.attrs["step"] == 1


def _only_heads(n: Node, axis: int) -> bool:
    old, new = n.inputs[0].shape, n.out.shape
    return all(same(a, b) for k, (a, b) in enumerate(zip(old, new, strict=True)) if k != axis)


# -- the choice ------------------------------------------------------------------------------------
def balance(target: Target) -> float:
    """Flops that the target's matmuls do while memory gives one byte."""
    chip: Any = getattr(target, "chip", None)
    return CPU_BALANCE if chip is None else chip.aic * 2 * 16**3 * chip.clock / chip.hbm


def costs(found: Expanded, env: Mapping[str, int], flops_per_byte: float) -> tuple[float, float]:
    """Expanded and absorbed, in the time of one byte."""
    batch, heads, queries, keys, *rest = found.sizes
    b, s, t = (evaluate(d, env) for d in (batch, queries, keys))
    rank, nope, rope, v = rest
    each = found.weight.type.dtype.itemsize
    pairs = heads * s * t * (0.5 if found.node.attrs["causal"] else 1)
    # The expanded values are written once and read by the copy of keys and by attention.
    flops = t * rank * heads * (nope + v) + pairs * (nope + rope + v)
    moved = t * (rank + heads * (2 * (nope + v) + 2 * (nope + rope))) + heads * s * (
        nope + rope + v
    )
    expanded = b * (2 * flops / flops_per_byte + each * moved)
    flops = s * heads * rank * (nope + v) + pairs * (2 * rank + rope)
    moved = 3 * t * (rank + rope) + heads * s * (nope + 3 * rank + rope + v)
    absorbed = b * (2 * flops / flops_per_byte + each * moved)
    return expanded, absorbed


def _pays(found: Expanded, graph: Graph, flops_per_byte: float) -> bool:
    for env in (
        {name: r.hint for name, r in graph.symbols.items()},
        {name: max(r.lo, min(r.hi, LARGE)) for name, r in graph.symbols.items()},
    ):
        expanded, absorbed = costs(found, env, flops_per_byte)
        if absorbed >= expanded:
            return False
    return True


# -- the absorbed form -----------------------------------------------------------------------------
def _absorbed(x: Expanded, b: Put, made: Mapping[Value, Node]) -> Value:
    batch, heads, queries, keys, rank, nope, rope, _ = x.sizes
    q, mask = x.node.inputs[0], x.node.inputs[3:]
    per_head = b.reshape(x.weight, shape=(heads, x.width, rank))
    at = (0, nope) if x.first else (rope, nope + rope)
    rest = (nope, nope + rope) if x.first else (0, rope)

    def weight(columns: tuple[int, int]) -> Value:
        start, stop = columns
        return b.slice(per_head, dim=1, start=start, stop=stop, step=1)

    def each_head(rows: Value, w: Value) -> Value:  # [B, H, S, K], [H, N, K] -> [B, H, S, N]
        flat = b.reshape(b.permute(rows, perm=TURN), shape=(batch * queries, heads, w.shape[2]))
        out = b.reshape(b.head_linear(flat, w), shape=(batch, queries, heads, w.shape[1]))
        return b.permute(out, perm=TURN)

    up = b.permute(weight(x.nope), perm=(0, 2, 1))
    query = b.cat(each_head(_part(q, at, b, made), up), _part(q, rest, b, made), dim=3)
    latent = b.reshape(x.latent, shape=(batch, 1, keys, rank))
    rotated = b.permute(x.rotated, perm=TURN) if x.turned else x.rotated
    key = b.cat(latent, rotated, dim=3)
    # The values are the keys' leading columns: read from the same rows.
    value = b.slice(key, dim=3, start=0, stop=rank, step=1)
    return each_head(b.attention(query, key, value, *mask, **x.node.attrs), weight(x.value))


def _part(q: Value, at: tuple[int, int], b: Put, made: Mapping[Value, Node]) -> Value:
    """q[..., at]; a part of the concatenation that made q, where that is one."""
    n = made.get(q)
    if n is not None and n.op.name == "cat" and n.attrs["dim"] == 3:
        start = 0
        for part in n.inputs:
            if start == at[0] and part.shape[3] == at[1] - at[0]:
                return part
            start += int(part.shape[3])
    return b.slice(q, dim=3, start=at[0], stop=at[1], step=1)


__all__ = ["Expanded", "balance", "costs", "match", "run"]
