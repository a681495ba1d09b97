"""The parser's strictness: malformed, mutated and arbitrary texts."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text_example import F32, OPS, TEXT
from xcompile.errors import XCompileError
from xcompile.ir import Graph, Type
from xcompile.text import MAX_DEPTH, parse, to_text


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
