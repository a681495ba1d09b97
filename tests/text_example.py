"""A graph that uses most of the text form, and its text."""

from __future__ import annotations

import torch

from xcompile.ir import Graph, Type, make
from xcompile.ops import registry
from xcompile.symbolic import Range, floordiv, symbol

OPS = registry()
T, R = symbol("T"), symbol("R")
F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64


def example() -> Graph:
    """Most of what a text can say: symbols, state, several results, a body, all attributes."""
    g = Graph(symbols={"T": Range(1, 4096, 16), "R": Range(1, 64, 2)})
    ids, cache = g.input(Type(I64, (T,)), "input_ids"), g.input(Type(BF16, (64, 8)), "k/cache:0")
    g.input(Type(I64, (R + 1,)), "0")
    table = g.const(torch.randn(11, 8).bfloat16(), "model.embed.weight")
    x = g.add(OPS["embedding"], table, ids, origin="model.embed")
    top = make(OPS["topk"], x, origin="model.layers.0.gate\n(again)", k=2)
    g.nodes.append(top)
    body = Graph()
    a = body.input(Type(BF16, (T, 2)), "x")
    body.outputs = [body.add(OPS["mul"], a, body.add(OPS["exp"], a))]
    y = g.add(OPS["group"], top.out, name="fused", origin="model", body=body)
    half = (floordiv(T + 1, 2), T * R)
    g.add(OPS["full"], shape=half, value=float("-inf"), dtype=F32)
    g.add(OPS["full"], shape=(), value=True, dtype=torch.bool)
    z = g.add(OPS["reshape"], x, shape=(8 * T,))
    new = g.add(OPS["index_copy"], cache, ids, x, dim=0)
    g.outputs, g.state = [y, z, new], {2: 1}
    return g


TEXT = """\
graph {
  symbol T in [1, 4096] hint 16
  symbol R in [1, 64] hint 2
  input %input_ids: i64[T]
  input %k_cache_0: bf16[64, 8]
  input %_0: i64[R + 1]
  const %model.embed.weight: bf16[11, 8]
  %0: bf16[T, 8] = embedding(%model.embed.weight, %input_ids)    # model.embed
  %1: bf16[T, 2], %2: i64[T, 2] = topk(%0) {k=2}    # model.layers.0.gate (again)
  %fused: bf16[T, 2] = group(%1) {    # model
    input %x: bf16[T, 2]
    %0: bf16[T, 2] = exp(%x)
    %1: bf16[T, 2] = mul(%x, %0)
    return %1
  }
  %3: f32[(T + 1) // (2), R*T] = full() {dtype=f32, shape=((T + 1) // (2), R*T), value=-inf}
  %4: bool[] = full() {dtype=bool, shape=(), value=true}
  %5: bf16[8*T] = reshape(%0) {shape=(8*T,)}
  %6: bf16[64, 8] = index_copy(%k_cache_0, %input_ids, %0) {dim=0}
  return %fused, %5, %6
  state %6 -> %k_cache_0
}
"""


def same_graph(a: Graph, b: Graph) -> None:
    """Equal up to the names and identities of values."""
    index = [
        {
            v: k
            for k, v in enumerate((*g.inputs, *g.consts, *(v for n in g.nodes for v in n.outputs)))
        }
        for g in (a, b)
    ]
    assert [v.type for v in index[0]] == [v.type for v in index[1]]
    for m, n in zip(a.nodes, b.nodes, strict=True):
        assert (m.op, " ".join(m.origin.split())) == (n.op, n.origin)
        assert [index[0][v] for v in m.inputs] == [index[1][v] for v in n.inputs]
        assert {k: v for k, v in m.attrs.items() if k != "body"} == {
            k: v for k, v in n.attrs.items() if k != "body"
        }
        if m.body is not None and n.body is not None:
            same_graph(m.body, n.body)
    assert [index[0][v] for v in a.outputs] == [index[1][v] for v in b.outputs]
    assert a.state == b.state
