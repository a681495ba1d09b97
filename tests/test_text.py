"""The text form: round trips, strictness against any text, and the page of a dump."""

from __future__ import annotations

import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xcompile.dump import Dumper
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Node, Type, Value, make
from xcompile.ops import registry
from xcompile.symbolic import Range, floordiv, symbol
from xcompile.text import MAX_DEPTH, parse, to_text, value_names

pytest_plugins = ["pytester"]

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


# -- malformed texts ------------------------------------------------------------------------------
def body(*lines: str) -> str:
    head = "graph {\n  symbol T in [1, 8] hint 2\n  input %x: f32[T, 4]\n"
    return head + "".join(f"  {line}\n" for line in lines) + "}\n"


MALFORMED = [
    ("", "line 1: found the end of the line, expected 'graph'"),
    ("graph", "line 1: .* expected '{'"),
    ("graph {", "line 1: .*'return'"),
    ("graph {\n  return\n", "line 3: .* expected 'state' or '}'"),
    (TEXT + "}\n", "line 23: found '}', expected nothing after the graph"),
    (TEXT.replace("\n  return", "\n  return %0\n  return"), "line 21: found 'return'"),
    (body("%0: f32[T, 4] = exp(%y)", "return"), "line 4: found %y, expected a value that is def"),
    (body("%0: f32[T, 4] = exp(%0)", "return"), "line 4: found %0"),
    (body("%x: f32[T, 4] = exp(%x)", "return"), "line 4: %x is defined twice"),
    (body("%0: f32[T, 4], %0: i64[T] = topk(%x) {k=1}", "return"), "line 4: %0 is defined twice"),
    (body("%0: f32[T, 4] = expp(%x)", "return"), "line 4: found 'expp'.*no such op"),
    (body("%0: f32[T, 5] = exp(%x)", "return"), r"line 4: .*f32\[T, 5\], expected f32\[T, 4\]"),
    (body("%0: f99[T, 4] = exp(%x)", "return"), "line 4: found 'f99', expected a dtype"),
    (body("%0: f32[S, 4] = exp(%x)", "return"), "line 4: found 'S' in 'S', expected a symbol"),
    (body("%0: f32[-1] = exp(%x)", "return"), "line 4: found size -1"),
    (body("%0: f32[1/2] = exp(%x)", "return"), "line 4: .*expected a whole number"),
    (body("%0: f32[T, 4 = exp(%x)", "return"), "line 4: "),
    (body("%0: f32[T, 4] = exp(%x", "return"), "line 4: found the end of the line, expected ','"),
    (body("%0: f32[T, 4] = exp(%x, %x)", "return"), "line 4: exp takes 1 operands, given 2"),
    (body("%0: f32[T, 4] = exp(%x) 7", "return"), "line 4: found '7'"),
    (body("%0: f32[T, 4] = exp(%x) {k}", "return"), "line 4: found '}', expected '='"),
    (body("%0: f32[T, 4] = exp(%x) {k=1, k=2}", "return"), "line 4: found attribute 'k'"),
    (body("%0: f32[T, 4] = exp(%x) {body=1}", "return"), "line 4: found attribute 'body'"),
    (body("%0: f32[T, 4] = exp(%x) {k=}", "return"), "line 4: .*expected an attribute's value"),
    (body('%0: f32[T, 4] = exp(%x) {k="a}', "return"), "line 4: "),
    (body('%0: f32[T, 4] = exp(%x) {k="\\x"}', "return"), "line 4: .*JSON"),
    (body("%0: f32[T, 4] = exp(%x) {k=__import__('os')}", "return"), "line 4: "),
    (body("%0: f32[T, 4] = exp(%x) {k=T.a}", "return"), "line 4: "),
    (body("%0: f32[T, 4] = exp(%x) {k=abs(T)}", "return"), "line 4: dim 'abs"),
    (body(f"%0: f32[T, 4] = exp(%x) {{k={'9' * 40}}}", "return"), "line 4: "),
    (body(f"%0: f32[T, 4] = exp(%x) {{k={'(1, ' * 99}{')' * 99}}}", "return"), "line 4: .*nested"),
    (body(f"%0: f32[T, 4] = exp(%x) {{k={'(' * 50000}", "return"), "line 4: "),
    (body("%0: f32[T, 4] = topk(%x)", "return"), "line 4: topk does not take these"),
    (body("%0: f32[T, 4] = exp(%x) {", "return", "}", "return"), "line 4: .* after group only"),
    (body("%0: f32[T, 4] = group(%x)", "return"), "line 4: group does not take these"),
    (body("%0: f32[T, 4] = group(%x) {", "return %x", "}", "return"), "line 5: found %x"),
    (body("return %x %x"), "line 4: found '%x', expected ','"),
    (body("return %x", "state %x -> %y"), "line 5: found %y"),
    (body("return", "state %x -> %x"), "line 5: .*not returned"),
    (body("return %x", "state %x@1 -> %x"), "line 5: found output 1"),
    (body("return %x", "state %x -> %x", "state %x -> %x"), "line 6: "),
    (body("input %y: f32[T]", "symbol R in [1, 2] hint 1", "return"), "line 5: "),
    (TEXT.replace("state %6", "state %5"), "line 21: found an update of"),
    (TEXT.replace("-> %k_cache_0", "-> %0"), "line 21: .*not an input"),
    ("graph {\n  symbol T in [5, 4] hint 2\n", r"line 2: found range \[5, 4\]"),
    ("graph {\n  symbol f32 in [1, 4] hint 2\n", "line 2: found 'f32'"),
    ("graph {\n  symbol in in [1, 4] hint 2\n", "line 2: found 'in'"),
    ("graph {\n  input %x: f32[Max(1)**9]\n", "line 2: .*exponent"),
    ("graph {\n  input %x: f32[" + "1, " * 99 + "1]\n", "line 2: found 100 dims"),
    ("graph {\n  \x00\n", "line 2: found '.x00'"),
    ("graph {\n  input %é: f32[1]\n", "line 2: "),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_text_is_refused_with_its_line(text, message):
    with pytest.raises(XCompileError) as e:
        parse(text)
    assert re.match(message, str(e.value)), str(e.value)


def test_a_hazard_is_refused_with_a_line():
    text = TEXT.replace("\n  return", "\n  %7: bf16[64, 8] = exp(%k_cache_0)\n  return")
    with pytest.raises(XCompileError, match=r"line \d+: .*overwrote it in place"):
        parse(text)


def test_deep_bodies_are_refused():
    g = Graph()
    x = g.input(Type(F32, (2,)), "x")
    g.outputs = [x]
    for _ in range(MAX_DEPTH + 1):
        outer = Graph()
        x = outer.input(Type(F32, (2,)), "x")
        outer.outputs = [outer.add(OPS["group"], x, body=g)]
        g = outer
    with pytest.raises(XCompileError, match="nested deeper"):
        parse(to_text(g))
    inner = g.nodes[0].body
    assert to_text(parse(to_text(inner))) == to_text(inner)


def test_a_shape_cannot_take_time():
    dims = ", ".join(["(T + 1)"] * 40)
    with pytest.raises(XCompileError, match="terms"):
        parse(body(f"%0: f32[{dims}] = exp(%x)", "return"))


# -- mutations ------------------------------------------------------------------------------------
NOISE = [
    "-1", "0", "1e999", "99999999999999999999999", "T", "**", "//", "%", "nan", "none", "()", '""',
    "\\", "\0", "é", "\u2028", "\r", "\t", "\n", "{", "}", "(", ")", "[", ",", "=", "#", "@", '"',
    "Max(T, 3)", "(T + 1)**4", "f32", "true", "return", "state", "group", "%x", "-> %input_ids",
]  # fmt: skip


def tokens(text: str) -> list[str]:
    return re.findall(r"[\w.]+|\n|[^\S\n]+|[^\w\s]", text)


def mutate(text: str, r: random.Random) -> str:
    """A few random edits: of tokens, or of whole lines."""
    for _ in range(r.choice([1, 1, 1, 2, 3, 8])):
        parts = text.splitlines(keepends=True) if r.random() < 0.25 else tokens(text)
        if not parts:
            return text
        i, j = r.randrange(len(parts)), r.randrange(len(parts))
        match r.randrange(6):
            case 0:
                del parts[i]
            case 1:
                parts.insert(i, parts[j])
            case 2:
                parts[i] = parts[j]
            case 3:
                parts[i] = r.choice(NOISE)
            case 4:
                parts[i], parts[j] = parts[j], parts[i]
            case 5 if r.random() < 0.2:
                del parts[i:]
        text = "".join(parts)
    return text


def refused_or_stable(text: str) -> None:
    """The one promise for an arbitrary text."""
    try:
        g = parse(text)
    except XCompileError as e:
        assert re.match(r"line \d+: ", str(e)), str(e)
        return
    again = to_text(g)
    assert to_text(parse(again)) == again


@pytest.mark.parametrize("seed", range(4))
def test_mutations_are_refused_or_parse(seed):
    r = random.Random(seed)
    for _ in range(250):
        refused_or_stable(mutate(TEXT, r))


@pytest.mark.slow
def test_many_mutations_are_refused_or_parse():
    r = random.Random(99)
    for _ in range(40000):
        refused_or_stable(mutate(TEXT, r))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from('graph {}\n%x:f32[]=exp()T,1"\\#->@')))
def test_arbitrary_texts_are_refused_or_parse(text: str):
    refused_or_stable(text)
    refused_or_stable(body(text, "return"))


# -- dumps ----------------------------------------------------------------------------------------
class Page(HTMLParser):
    """Collects the open tags and the text; fails on a tag that is closed out of order."""

    def __init__(self, html: str):
        super().__init__()
        self.stack: list[str] = []
        self.seen: list[str] = []
        self.data = ""
        self.feed(html)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not {"src", "onclick", "onerror"} & {k for k, _ in attrs}
        if tag != "meta":
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.data += data


def test_a_dump_holds_a_text_per_pass_and_a_page(tmp_path):
    g = example()
    with Dumper(tmp_path) as d:
        d.add("import", g, 0.5)
        d.add("nothing", g, 0.001)
        d.add("drop <b>dead</b> & 'more'", g.with_nodes([*g.nodes[:3], *g.nodes[5:]]), 2.0, "<i>")
    files = sorted(p.name for p in d.path.iterdir())
    assert files == ["00-import.xir", "01-nothing.xir", "02-drop-b-dead-b-more.xir", "index.html"]
    assert to_text(parse((d.path / files[0]).read_text())) == TEXT
    html = (d.path / "index.html").read_text()
    page = Page(html)
    assert not {"b ", "i", "script", "link", "img", "iframe"} & {*page.seen}
    for part in ("drop <b>dead</b> & 'more'", "<i>", "2.00 s", "1.0 ms", "7 → 5 nodes"):
        assert part in page.data, part
    assert html.count('<section id="p1" class="same">') == 1
    assert page.data.count("no change") == 1
    assert re.search(r'<pre class="del">\s+%\d+: f32', html)


def test_a_dump_shows_only_what_changed(tmp_path):
    g = Graph()
    x = g.input(Type(F32, (2,)), "x")
    for _ in range(50):
        x = g.add(OPS["exp"], x)
    g.outputs = [x]
    with Dumper(tmp_path) as d:
        d.add("import", g, 0)
        new = make(OPS["neg"], g.nodes[0].out)
        d.add("swap", g.with_nodes([g.nodes[0], new, *g.nodes[2:]], {g.nodes[1].out: new.out}), 0)
    html = (d.path / "index.html").read_text()
    assert (html.count('class="del"'), html.count('class="add"')) == (2, 2)
    assert "unchanged lines" in html
    parse((d.path / "01-swap.xir").read_text())


def test_dumps_never_share_a_folder(tmp_path):
    paths = [Dumper(tmp_path / "deep" / "er").path.name for _ in range(3)]
    assert paths == ["0", "1", "2"]


def test_a_failing_pass_leaves_the_page(tmp_path):
    with pytest.raises(RuntimeError), Dumper(tmp_path):
        raise RuntimeError
    assert "no passes ran" in (tmp_path / "0" / "index.html").read_text()


# -- the shared fixtures --------------------------------------------------------------------------
def test_golden_compares_and_updates(pytester):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())

    def run(text: str, *args: str) -> str:
        pytester.makepyfile(test_it=f"def test_it(golden):\n    golden('a.txt', {text!r})\n")
        return pytester.runpytest_inprocess(*args).stdout.str()

    assert "there is no tests/golden/a.txt" in run("one\n")
    assert "1 passed" in run("one\n", "--update-golden")
    assert "1 passed" in run("one\n")
    out = run("other\n")
    assert "-one" in out
    assert "+other" in out
    assert "--update-golden" in out


def test_slow_tests_wait_until_asked_for(pytester):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(
        "import pytest\ndef test_a(): pass\n@pytest.mark.slow\ndef test_b(): pass\n"
    )
    for args, outcome in [
        ((), {"passed": 1, "deselected": 1}),
        (("--slow",), {"passed": 2}),
        (("-m", "slow"), {"passed": 1, "deselected": 1}),
    ]:
        pytester.runpytest_inprocess(*args).assert_outcomes(**outcome)
