"""Dumps of passes: a text for each and a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.text_example import F32, OPS, TEXT, example
from xcompile.dump import Dumper
from xcompile.ir import Graph, Type, make
from xcompile.text import parse, to_text


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
