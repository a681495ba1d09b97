"""V paged_attention([U^T q_n, q_r], [c, r], c) = mla_attention(q_n, q_r, [c, r], U, V).

Written as three ops, attention over a cache of latents is absorbed for every request. The one op
may expand the keys and values of a request instead, which costs less for many new tokens; a graph
has no branches. For targets that have it; the others keep the three ops.
"""

from __future__ import annotations

from collections.abc import Mapping

from xcompile.ir import Graph, Node, Value
from xcompile.ops.attention import PAGED_ATTENTION
from xcompile.ops.cat import CAT
from xcompile.ops.matmul import HEAD_LINEAR
from xcompile.ops.view import SLICE
from xcompile.rewrite import Put, dce
from xcompile.symbolic import same
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    if not target.chooses_mla:
        return graph
    made, users = graph.producers(), graph.users()
    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        found = _match(n, graph, made, users)
        if found is None:
            nodes.append(n)
            continue
        attention, nope, rot, absorb = found
        put = Put(n.origin)
        _, cache, _, *rest = attention.inputs
        up = put.permute(absorb, perm=(0, 2, 1))
        mapping[n.out] = put.mla_attention(
            nope, rot, cache, *rest, absorb, up, n.inputs[1], **attention.attrs
        )
        nodes += put.nodes
    return dce(graph.with_nodes(nodes, mapping)) if mapping else graph


def _match(
    n: Node, graph: Graph, made: Mapping[Value, Node], users: Mapping[Value, list[Node]]
) -> tuple[Node, Value, Value, Value] | None:
    """The attention, q_n, q_r and U^T of a product of heads with V."""

    def source(v: Value, op: object) -> Node | None:
        m = made.get(v)
        alone = len(users.get(v, ())) == 1 and v not in graph.outputs
        return m if m is not None and m.op is op and alone else None

    if n.op is not HEAD_LINEAR or n.inputs[1] not in graph.consts:
        return None
    attention = source(n.inputs[0], PAGED_ATTENTION)
    query = source(attention.inputs[0], CAT) if attention is not None else None
    if attention is None or len(attention.inputs) > 6 or "window" in attention.attrs:
        return None
    if query is None or len(query.inputs) != 2 or query.attrs["dim"] != 2:
        return None
    absorbed = source(query.inputs[0], HEAD_LINEAR)
    latent = made.get(attention.inputs[2])
    if absorbed is None or latent is None or latent.op is not SLICE:
        return None
    cache, weight = attention.inputs[1], absorbed.inputs[1]
    rank = n.inputs[1].shape[2]
    fits = latent.inputs[0] is cache and latent.attrs["dim"] == 2 and latent.attrs["start"] == 0
    fits = fits and latent.attrs["step"] == 1 and same(cache.shape[1], 1)
    fits = fits and all(same(d, rank) for d in (latent.out.shape[2], weight.shape[1]))
    if not fits or weight not in graph.consts:
        return None
    return attention, absorbed.inputs[0], query.inputs[1], weight
