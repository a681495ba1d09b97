"""The graph of launches as a picture: one box per layer of the model, equal layers drawn once.

Inside a box the launches stand in rows by their longest path (networkx), ordered so that edges
cross little. Edges between boxes would cover the picture; a launch that reads from, or is read by,
another box has a stub instead.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

import networkx as nx

from xcompile.plan import layer_of
from xcompile.report import LABEL, Step, number

WIDTH, HEIGHT, GAP_X, GAP_Y, PAD, HEAD = 168, 38, 14, 24, 16, 30
CHARS = 21  # that fit into a node
HUES = {
    "linear": 212,
    "moe_experts": 28,
    "paged_attention": 275,
    "mla_attention": 275,
    "attention": 275,
    "loop": 150,
}


@dataclass
class Box:
    """A run of launches that belong to one layer, and how many layers look the same."""

    title: str
    first: int
    steps: list[Step]
    prefix: str = ""
    repeats: list[str] = field(default_factory=list)


# -- grouping ---------------------------------------------------------------------------------
def boxes(steps: Sequence[Step]) -> list[Box]:
    """Launches in runs of one layer; consecutive runs of equal structure become one box."""
    runs: list[Box] = []
    layer = ""
    keys = []
    for s in steps:
        layer = layer_of(s.origin) if s.origin else layer  # a launch of no module stays where it is
        keys.append(layer)
    at = 0
    for key, group in groupby(keys):
        size = len(list(group))
        runs.append(Box(key or "around the layers", at, list(steps[at : at + size]), key))
        at += size
    out: list[Box] = []
    seen = None
    for run in runs:
        form = _form(run)
        if out and run.prefix and form == seen:
            out[-1].repeats.append(run.prefix)
        else:
            out.append(run)
        seen = form
    for b in out:
        if b.repeats:
            last = b.repeats[-1].rpartition(".")[2]
            b.title += f" to {last}: {len(b.repeats) + 1} times the same"
    return out


def _form(b: Box) -> list[tuple]:
    """What makes two layers equal: kinds of kernels, places and edges, all relative to the layer.

    Fills that read nothing do not count: the first layer that needs one computes it for all.
    """
    kept = [k for k, s in enumerate(b.steps, b.first) if s.after or "full" not in s.op.split("+")]
    number = {k: i for i, k in enumerate(kept)}
    return [
        (
            LABEL.sub("", s.kernel),
            s.op,
            s.origin.removeprefix(b.prefix),
            tuple(number[a] for a in s.after if a in number),
        )
        for s in (b.steps[k - b.first] for k in kept)
    ]


# -- layout -----------------------------------------------------------------------------------
def place(b: Box) -> tuple[dict[int, tuple[float, float]], float, float]:
    """Upper left corners of a box's nodes, and the size of what they cover."""
    g = nx.DiGraph()
    last = b.first + len(b.steps)
    g.add_nodes_from(range(b.first, last))
    for k, s in enumerate(b.steps, b.first):
        g.add_edges_from((a, k) for a in s.after if b.first <= a < last)
    rows = _rows(g)
    column: dict[int, float] = {}
    for row in rows:
        middle = {
            n: sum(column[p] for p in g.predecessors(n)) / max(g.in_degree(n), 1) for n in row
        }
        row.sort(key=lambda n: (middle[n], n))
        column |= {n: k - (len(row) - 1) / 2 for k, n in enumerate(row)}
    widest = max((len(r) for r in rows), default=1)
    width = widest * (WIDTH + GAP_X) - GAP_X
    middle_x = width / 2
    at: dict[int, tuple[float, float]] = {
        n: (middle_x + column[n] * (WIDTH + GAP_X) - WIDTH / 2, y * (HEIGHT + GAP_Y))
        for y, row in enumerate(rows)
        for n in row
    }
    return at, width, len(rows) * (HEIGHT + GAP_Y) - GAP_Y


def _rows(g: nx.DiGraph) -> list[list[int]]:
    """Nodes by their longest path; those that read nothing stand right above their first reader."""
    rank = {n: k for k, row in enumerate(nx.topological_generations(g)) for n in row}
    for n in g:
        if g.in_degree(n) == 0 and g.out_degree(n):
            rank[n] = max(0, min(rank[m] for m in g.successors(n)) - 1)
    return [sorted(n for n in g if rank[n] == k) for k in range(max(rank.values(), default=-1) + 1)]


# -- drawing ----------------------------------------------------------------------------------
# Plain colours, no variables: pictures are also opened by programs that are not browsers.
STYLE = """
svg { font: 12px system-ui, sans-serif; } .page { fill: #fff; } text { fill: #1f2328; }
.dim { fill: #57606a; font-size: 10.5px; } .title { font-weight: 600; font-size: 13px; }
.box { fill: #f6f8fa; stroke: #d0d7de; } .node { stroke: #d0d7de; }
.island { stroke: #cf222e; stroke-width: 2; } .edge { fill: none; stroke: #8c959f; }
.stub { stroke: #8c959f; stroke-dasharray: 2 2; }
@media (prefers-color-scheme: dark) { .page { fill: #14181d; } text { fill: #d8dee6; }
  .dim { fill: #a3abb4; } .box { fill: #1b2027; stroke: #30363d; }
  .node { fill-opacity: .25; stroke: #444c56; } .island { stroke: #ff7b72; } }
"""


def draw(steps: Sequence[Step], costs: Sequence[tuple[int, int]]) -> str:
    """The picture as an SVG element with its own style."""
    parts: list[str] = []
    outside = _read_outside(steps)
    y, right = 0.0, 0.0
    for b in boxes(steps):
        at, width, height = place(b)
        right = max(right, width)
        parts.append(_box(b, at, width, height, y, costs, outside))
        y += height + HEAD + 2 * PAD + GAP_Y
    w, h = right + 2 * PAD + 2, max(y - GAP_Y, 1) + 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {w:.0f} {h:.0f}" '
        f'width="{w:.0f}" height="{h:.0f}"><style>{STYLE}</style>'
        f'<rect class="page" x="-1" y="-1" width="{w:.0f}" height="{h:.0f}"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _read_outside(steps: Sequence[Step]) -> set[int]:
    """Launches that another layer reads."""
    layer = [layer_of(s.origin) for s in steps]
    return {a for k, s in enumerate(steps) for a in s.after if layer[a] != layer[k]}


def _box(
    b: Box,
    at: dict[int, tuple[float, float]],
    width: float,
    height: float,
    y: float,
    costs: Sequence[tuple[int, int]],
    outside: set[int],
) -> str:
    total = sum(costs[k][1] for k in at)
    title = f"{len(b.steps)} launches, {number(total, 'B')}"
    tall = height + HEAD + 2 * PAD
    out = [
        f'<g transform="translate(0 {y:.0f})">'
        f'<rect class="box" rx="8" width="{width + 2 * PAD:.0f}" height="{tall:.0f}"/>',
        f'<text class="title" x="{PAD}" y="21">{escape(b.title)} '
        f'<tspan class="dim">{title}</tspan></text><g transform="translate({PAD} {HEAD + PAD})">',
    ]
    for k, s in enumerate(b.steps, b.first):
        x1, y1 = at[k]
        top = x1 + WIDTH / 2
        inner = [a for a in s.after if a in at]
        for a in inner:
            between = [x for x, y in at.values() if at[a][1] < y < y1]
            out.append(_edge(at[a], (top, y1), min(between, default=0.0) - GAP_X / 2))
        if len(inner) < len(s.after):
            out.append(_line(top + 12, y1 - 10, y1))
        if k in outside:
            out.append(_line(top + 12, y1 + HEIGHT, y1 + HEIGHT + 10))
    out += [_node(k, s, at[k], b.prefix, costs[k]) for k, s in enumerate(b.steps, b.first)]
    return "".join([*out, "</g></g>"])


def _line(x: float, y1: float, y2: float) -> str:
    return f'<line class="stub" x1="{x:.0f}" x2="{x:.0f}" y1="{y1:.0f}" y2="{y2:.0f}"/>'


def _edge(start: tuple[float, float], end: tuple[float, float], side: float) -> str:
    """From a node's corner to the middle of another's top; `side` is left of all between."""
    x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT
    x2, y2 = end
    if y2 - y1 <= GAP_Y:
        bend = (y2 - y1) / 2
        return (
            f'<path class="edge" d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + bend:.0f} '
            f'{x2:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"/>'
        )
    side = min(side, min(x1, x2) - WIDTH / 2 - GAP_X / 2)
    return (
        f'<path class="edge" d="M{x1:.0f} {y1:.0f}C{x1:.0f} {y1 + 14:.0f} {side:.0f} {y1:.0f} '
        f"{side:.0f} {y1 + 24:.0f}V{y2 - 24:.0f}C{side:.0f} {y2:.0f} {x2:.0f} {y2 - 14:.0f} "
        f'{x2:.0f} {y2:.0f}"/>'
    )


def hue(kind: str) -> int:
    """The colour of a kind of kernel: the same in every picture."""
    return HUES.get(kind, hashlib.sha256(kind.encode()).digest()[0] * 360 // 256)


def _tint(kind: str) -> str:
    r, g, b = colorsys.hls_to_rgb(hue(kind) / 360, 0.88, 0.65)
    return f"#{round(255 * r):02x}{round(255 * g):02x}{round(255 * b):02x}"


def _node(k: int, s: Step, at: tuple[float, float], prefix: str, cost: tuple[int, int]) -> str:
    kind = LABEL.sub("", s.kernel)
    place = s.origin.removeprefix(prefix).lstrip(".")
    tip = (
        f"{k}: {s.kernel}\n{s.op}\n{s.origin}\n{s.result}\n"
        f"{number(cost[0], 'flop')}, {number(cost[1], 'B')}"
    )
    island = " island" if s.island else ""
    return (
        f'<g transform="translate({at[0]:.0f} {at[1]:.0f})"><title>{escape(tip)}</title>'
        f'<rect class="node{island}" rx="4" width="{WIDTH}" height="{HEIGHT}" '
        f'fill="{_tint(kind)}"/>'
        f'<text x="8" y="16">{escape(_short(s.op if kind in ("loop", "linear") else kind))}</text>'
        f'<text class="dim" x="8" y="30">{escape(_short(place or s.result, CHARS + 3))}</text></g>'
    )


def _short(text: str, limit: int = CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
