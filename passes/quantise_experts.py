"""moe_experts(x, .., W, V) ~ moe_experts_int8(x, .., q(W), s(W), q(V), s(V)): only on request.

Symmetric int8 for each output channel of the weights; rows of activations are quantised as they
come (W8A8, dynamic). It changes results, so it runs only for quantize="experts-w8a8" (QUANTISE).
"""

from __future__ import annotations

from functools import partial

import torch

from xcompile.errors import UnsupportedError
from xcompile.ir import Graph, Node, Type, Value, make
from xcompile.lazy import Lazy
from xcompile.ops.moe import MOE_EXPERTS
from xcompile.ops.moe_int8 import MOE_EXPERTS_INT8, levels, scales
from xcompile.rewrite import dce
from xcompile.targets import Target


def run(graph: Graph, target: Target) -> Graph:
    """Raises UnsupportedError where there are no routed experts, or some have weights that are not
    constants: a model that was asked for in int8 is not left as it was in silence."""
    found = [n for n in graph.nodes if n.op is MOE_EXPERTS]
    if not found:
        raise UnsupportedError(
            "quantize='experts-w8a8' found no routed experts that became moe_experts in this model"
        )
    loose = [n for n in found if any(w not in graph.consts for w in n.inputs[3:5])]
    if loose:
        raise UnsupportedError(
            "quantize='experts-w8a8' needs weights that are constants of the graph; those of "
            f"{', '.join(n.origin or 'an expert layer' for n in loose)} are inputs"
        )
    consts = dict(graph.consts)
    made: dict[Value, list[Value]] = {}  # layers may share weights

    def parts(w: Value) -> list[Value]:
        if w not in made:
            t = graph.consts[w]  # None in a graph that was read from text
            made[w] = []
            for name, shape, dtype, f in (
                ("int8", w.shape, torch.int8, levels),
                ("scale", w.shape[:2], torch.float32, scales),
            ):
                v = Value(Type(dtype, shape), f"{w.name}.{name}")
                consts[v] = None if t is None else Lazy(shape, dtype, t.device, partial(f, t))
                made[w].append(v)
        return made[w]

    nodes: list[Node] = []
    mapping: dict[Value, Value] = {}
    for n in graph.nodes:
        if n.op is not MOE_EXPERTS:
            nodes.append(n)
            continue
        x, expert, weight, up, down, *bias = n.inputs
        q = make(
            MOE_EXPERTS_INT8, x, expert, weight, *parts(up), *parts(down), *bias, origin=n.origin,
            **n.attrs,
        )  # fmt: skip
        nodes.append(q)
        mapping[n.out] = q.out
    out = graph.with_nodes(nodes, mapping)
    out.consts = consts
    return dce(out)
