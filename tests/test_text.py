"""The text form: round trips of all attributes, names and random graphs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text_example import F32, OPS, TEXT, R, T, example, same_graph
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Node, Type, Value, make
from xcompile.symbolic import Range, floordiv
from xcompile.text import parse, to_text, value_names


# -- round trips ----------------------------------------------------------------------------------
def test_the_text_is_as_documented():
    assert to_text(example()) == TEXT


def test_a_text_parses_to_the_same_graph():
    g = example()
    back = parse(TEXT)
    assert to_text(back) == TEXT
    assert back.symbols == g.symbols
    same_graph(g, back)


def test_names_are_unique_legal_and_stable():
    g = Graph()
    x = g.input(Type(F32, (2,)), "a b")
    y = g.add(OPS["exp"], x, name="a_b")
    z = g.add(OPS["exp"], y, name="a_b.1")
    w = g.add(OPS["exp"], z, name="7")
    g.outputs = [g.add(OPS["exp"], w)]
    assert list(value_names(g).values()) == ["a_b", "a_b.1", "a_b.1.1", "_7", "0"]
    assert to_text(parse(to_text(g))) == to_text(g)


def test_one_value_in_a_body_and_outside_has_a_name_in_each():
    g = Graph()
    x = g.input(Type(F32, (2,)), "x")
    body = Graph(inputs=[x])
    body.outputs = [body.add(OPS["exp"], x)]
    g.outputs = [g.add(OPS["group"], x, body=body), g.add(OPS["group"], x, body=body)]
    assert to_text(parse(to_text(g))) == to_text(g)


def test_an_output_that_is_returned_twice_keeps_its_state_index():
    g = example()
    g.outputs.append(g.outputs[2])
    for index in (2, 3):
        g.state = {index: 1}
        back = parse(to_text(g))
        assert back.state == g.state
        assert to_text(back) == to_text(g)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        2**63 - 1,
        0.0,
        1e-6,
        -1.5e300,
        float("inf"),
        float("-inf"),
        True,
        False,
        None,
        "",
        'a "quoted" \\ # { } ( ) , é \n \u2028 \ud800',
        F32,
        torch.bool,
        T,
        T * R + R,
        floordiv(T + 1, 2) * 3,
        (),
        (1,),
        (1, (2.5, (T, "x")), (), None),
        ((floordiv(T, 2),),),
    ],
    ids=lambda v: repr(v)[:20].encode("ascii", "replace").decode(),
)
def test_attributes_survive(value):
    g = Graph(symbols={"T": Range(1, 9, 4), "R": Range(1, 9, 4)})
    n = make(OPS["exp"], g.input(Type(F32, (T, R)), "x"))
    g.nodes.append(Node(n.op, n.inputs, {"value": value, "z": 1}, n.outputs))
    back = parse(to_text(g)).nodes[0].attrs
    assert back == {"value": value, "z": 1}
    assert type(back["value"]) is type(value)


def test_dims_print_in_one_form():
    g = Graph(symbols={"T": Range(1, 9, 4), "R": Range(1, 9, 4)})
    g.add(OPS["full"], shape=((T + 1) * R,), value=0.5, dtype=F32)
    assert "f32[R*T + R] = full() {dtype=f32, shape=(R*T + R,)" in to_text(g)
    assert to_text(parse(to_text(g))) == to_text(g)


def test_nan_survives():
    g = Graph()
    g.add(OPS["full"], shape=(2,), value=float("nan"), dtype=F32)
    value = parse(to_text(g)).nodes[0].attrs["value"]
    assert math.isnan(value)


def test_what_has_no_text_is_refused():
    g = Graph()
    n = make(OPS["exp"], g.input(Type(F32, (2,)), "x"))
    for value in ([1], {}, object(), 1j):
        g.nodes = [Node(n.op, n.inputs, {"a": value}, n.outputs)]
        with pytest.raises(XCompileError, match="no text form"):
            to_text(g)
    with pytest.raises(XCompileError, match="complex64 has no text form"):
        to_text(Graph(inputs=[Value(Type(torch.complex64, (2,)), "x")]))


def test_a_broken_graph_still_prints():
    g = example()
    g.nodes.reverse()
    assert "embedding" in to_text(g)


def test_constants_take_data_by_name():
    g = example()
    (w,) = g.consts.values()
    assert list(parse(TEXT).consts.values()) == [None]
    (data,) = parse(TEXT, {"model.embed.weight": w, "other": w}).consts.values()
    assert data is w
    for wrong in (w[:3], w.float()):
        with pytest.raises(XCompileError, match=r"line 7: constant %model\.embed"):
            parse(TEXT, {"model.embed.weight": wrong})


def test_constants_take_data_by_the_name_before_sanitising():
    g = Graph()
    w = torch.ones(2)
    g.outputs = [g.add(OPS["exp"], g.const(w, "a/b:0"))]
    assert parse(to_text(g), {"a/b:0": w}).eval()[0].equal(w.exp())


def test_node_results_may_be_none():
    g = Graph()
    spec = ((("t", 0),), ())
    n = make(OPS["torch_call"], g.input(Type(F32, (2,)), "x"), target="a::b", spec=spec,
             dtypes=(), shapes=())  # fmt: skip
    g.nodes.append(n)
    assert "() = torch_call(%x)" in to_text(g)
    assert to_text(parse(to_text(g))) == to_text(g)


def test_comments_and_blank_lines_are_free():
    text = TEXT.replace("  return", "\n  # why\n\n  return").replace("\n", "  \r\n")
    assert to_text(parse("# a dump\n" + text + "\n# end\n")) == TEXT


# -- random graphs --------------------------------------------------------------------------------
UNARY = ["exp", "tanh", "abs", "neg", "sigmoid", "softmax", "cumsum", "copy"]
BINARY = ["add", "mul", "max", "sub"]


class Builder:
    """A random graph from a random stream of choices; every value is float with a last dim."""

    def __init__(self, draw: st.DrawFn):
        self.draw = draw
        self.graph = Graph(symbols={"T": Range(1, 64, 3)})
        self.n = draw(st.integers(1, 4))
        self.values = [self.graph.input(Type(F32, (T, 4)), draw(NAMES)) for _ in range(self.n)]

    def pick(self) -> Value:
        return self.draw(st.sampled_from(self.values))

    def alike(self, x: Value) -> Value:
        return self.draw(st.sampled_from([v for v in self.values if v.type == x.type]))

    def step(self) -> None:
        x = self.pick()
        kind = self.draw(st.sampled_from(KINDS))
        n = getattr(self, kind)(x)
        self.graph.nodes.append(n)
        self.values += [v for v in n.outputs if v.dtype == F32]

    def node(self, op: str, *xs: Value, **attrs) -> Node:
        name, origin = self.draw(NAMES), self.draw(NAMES)
        return make(OPS[op], *xs, name=name, origin=origin, **attrs)

    def unary(self, x: Value) -> Node:
        return self.node(self.draw(st.sampled_from(UNARY)), x)

    def binary(self, x: Value) -> Node:
        return self.node(self.draw(st.sampled_from(BINARY)), x, self.alike(x))

    def topk(self, x: Value) -> Node:
        return self.node("topk", x, k=1)

    def linear(self, x: Value) -> Node:
        name = f"w{len(self.graph.consts)}"  # unique, as weights are
        n = self.draw(st.integers(1, 5))
        return self.node("linear", x, self.graph.const(torch.ones(n, x.shape[-1]) / 8, name))

    def reshape(self, x: Value) -> Node:
        return self.node("reshape", x, shape=(x.type.numel, 1))

    def transpose(self, x: Value) -> Node:
        head = self.node("permute", x, perm=(1, 0))
        self.graph.nodes.append(head)
        return self.node("permute", head.out, perm=(1, 0))

    def cat(self, x: Value) -> Node:
        return self.node("cat", x, self.alike(x), dim=-1)

    def full(self, x: Value) -> Node:
        value = self.draw(st.floats(width=32, allow_nan=False) | st.integers(-9, 9))
        return self.node("full", shape=x.shape, value=value, dtype=F32)

    def group(self, x: Value) -> Node:
        body = Graph()
        a = body.input(x.type, self.draw(NAMES))
        for op in self.draw(st.lists(st.sampled_from(UNARY), min_size=1, max_size=3)):
            a = body.add(OPS[op], a, name=self.draw(NAMES))
        body.outputs = [a]
        return self.node("group", x, body=body)


KINDS = [k for k in vars(Builder) if k not in {"pick", "alike", "step", "node"} and k[0] != "_"]
NAMES = st.sampled_from(["", "", "", "x", "x.1", "x.1.1", "0", "7", "a b", "a/b", "é", "."])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    b = Builder(draw)
    for _ in range(draw(st.integers(0, 8))):
        b.step()
    b.graph.outputs = draw(st.lists(st.sampled_from(b.values), max_size=3))
    return b.graph


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_random_graphs_survive(g: Graph):
    g.verify()
    names, text = value_names(g), to_text(g)
    back = parse(text, {names[v]: t for v, t in g.consts.items()})
    assert to_text(back) == text
    same_graph(g, back)
    args = [torch.linspace(-1, 1, 12).view(3, 4) for _ in g.inputs]
    torch.testing.assert_close(
        back.eval(*args, env={"T": 3}), g.eval(*args, env={"T": 3}), rtol=0, atol=0, equal_nan=True
    )
