"""`xcompile inspect --html`: one self-contained page. No script, nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from xcompile import inspect_graph, inspect_timeline
from xcompile.report import LABEL, Summary, by_label, lines_of, number
from xcompile.runtime.program import Program

MEMORY_WIDTH, MEMORY_HEIGHT = 960, 280


def picture(s: Summary, program: Program) -> str:
    """The graph alone, as an SVG file."""
    return inspect_graph.draw(s.steps, s.costs(program.hints()))


def page(
    name: str, s: Summary, program: Program, simulated: Mapping[str, Any] | None = None
) -> str:
    """The whole page; `simulated` is the cycle model's report of a step."""
    env = program.hints()
    facts = lines_of(s, program)
    facts = facts[: facts.index("")]
    return _PAGE.format(
        style=_STYLE,
        name=escape(name),
        facts="".join(_fact(f) for f in facts),
        kinds=_kinds(s, env),
        kernels=_kernels(s, env),
        simulated=inspect_timeline.section(simulated) if simulated else "",
        memory=memory(program),
        graph=picture(s, program),
    )


def _fact(line: str) -> str:
    """A line of the report: eleven columns of title, then the text."""
    return f"<tr><th>{escape(line[:11])}</th><td>{escape(line[11:])}</td></tr>"


# -- kernels ----------------------------------------------------------------------------------
def _bar(share: float, hue: int) -> str:
    return f'<td class="bar"><i style="width:{100 * share:.1f}%;--h:{hue}"></i></td>'


def _kinds(s: Summary, env: Mapping[str, int]) -> str:
    """One row per kind of kernel."""
    groups = by_label(s, env)
    flops = max(sum(g.flops for g in groups), 1)
    nbytes = max(sum(g.nbytes for g in groups), 1)
    rows = []
    for g in groups:
        hue = inspect_graph.hue(g.name)
        rows.append(
            f"<tr><td>{escape(g.name)}</td><td>{len(g.kernels)}</td><td>{g.launches}</td>"
            f"<td>{number(g.flops)}</td><td>{g.flops / flops:.1%}</td>{_bar(g.flops / flops, hue)}"
            f"<td>{number(g.nbytes, 'B')}</td><td>{g.nbytes / nbytes:.1%}</td>"
            f"{_bar(g.nbytes / nbytes, hue)}</tr>"
        )
    return "".join(rows)


def _kernels(s: Summary, env: Mapping[str, int]) -> str:
    """One row per kernel: its launches and the place of the first."""
    rows: dict[str, list] = {}
    for step, (flops, nbytes) in zip(s.steps, s.costs(env), strict=True):
        r = rows.setdefault(step.kernel, [0, 0, 0, step])
        r[0] += 1
        r[1] += flops
        r[2] += nbytes
    total = max(sum(r[2] for r in rows.values()), 1)
    out = []
    for name, (count, flops, nbytes, step) in sorted(rows.items(), key=lambda x: -x[1][2]):
        hue = inspect_graph.hue(LABEL.sub("", name))
        out.append(
            f"<tr><td><code>{escape(name)}</code></td><td>{count}</td><td>{number(flops)}</td>"
            f"<td>{number(nbytes, 'B')}</td>{_bar(nbytes / total, hue)}"
            f'<td class="text">{escape(step.op)}</td>'
            f'<td class="text dim">{escape(step.origin)}</td></tr>'
        )
    return "".join(out)


# -- memory -----------------------------------------------------------------------------------
def memory(program: Program) -> str:
    """The arena over time: a rectangle per buffer, offset against step; the line is the sum of
    what is alive, which no plan can go below."""
    caps = program.capacity(program.hints())
    offsets, peak = program.offsets(caps)
    if not peak:
        return "<p>no arena: every value is an input, an output or a constant</p>"
    sx, sy = MEMORY_WIDTH / max(program.steps, 1), MEMORY_HEIGHT / peak
    rects = []
    for k, b in enumerate(program.buffers):
        size = b.size(caps)
        tip = f"{b.name}: {number(size, 'B')} at {offsets[k]}, steps {b.first} to {b.last}"
        if b.shares is not None:
            tip += f", in place of {program.buffers[b.shares].name}"
        hue = (k * 137) % 360  # the golden angle: neighbours differ
        rects.append(
            f'<rect class="buffer" style="--h:{hue}" x="{b.first * sx:.1f}" '
            f'width="{(b.last - b.first + 1) * sx:.1f}" '
            f'y="{MEMORY_HEIGHT - (offsets[k] + size) * sy:.1f}" height="{size * sy:.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
    points = _live(program, [b.size(caps) for b in program.buffers])
    line = " ".join(
        f"{x * sx:.1f},{MEMORY_HEIGHT - y * sy:.1f}"
        for k, y in enumerate(points)
        for x in (k, k + 1)
    )
    return (
        f'<svg class="memory" viewBox="-70 -12 {MEMORY_WIDTH + 80} {MEMORY_HEIGHT + 40}">'
        f'<text x="-8" y="4" text-anchor="end">{number(peak, "B")}</text>'
        f'<text x="-8" y="{MEMORY_HEIGHT}" text-anchor="end">0</text>'
        f'<rect class="frame" width="{MEMORY_WIDTH}" height="{MEMORY_HEIGHT}"/>{"".join(rects)}'
        f'<polyline class="live" points="{line}"/>'
        f'<text x="0" y="{MEMORY_HEIGHT + 18}">step 0</text>'
        f'<text x="{MEMORY_WIDTH}" y="{MEMORY_HEIGHT + 18}" text-anchor="end">'
        f"step {program.steps - 1}</text></svg>"
    )


def _live(program: Program, sizes: Sequence[int]) -> list[int]:
    """Bytes alive at each step; buffers that share memory count once."""
    change = [0] * (program.steps + 1)
    for root, (first, last) in program.spans().items():
        change[first] += sizes[root]
        change[last + 1] -= sizes[root]
    out, now = [], 0
    for c in change[:-1]:
        now += c
        out.append(now)
    return out


_STYLE = """
:root { color-scheme: light dark; --fg: #1f2328; --bg: #fff; --dim: #6e7781; --line: #d8dee4; }
@media (prefers-color-scheme: dark) { :root { --fg: #d8dee6; --bg: #14181d; --dim: #8b949e;
  --line: #30363d; } }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1.5rem 4rem; color: var(--fg);
  background: var(--bg); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.facts th { text-align: left; padding-right: 1.5rem; color: var(--dim); font-weight: normal;
  vertical-align: top; }
.list { width: 100%; } .list td, .list th { padding: .15rem .6rem; text-align: right;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.list td:first-child, .list th:first-child, .list .text { text-align: left; }
.list th { color: var(--dim); font-weight: normal; }
.list .text { max-width: 18rem; overflow: hidden; text-overflow: ellipsis; }
.bar { width: 8rem; } .bar i { display: block; height: .8rem; border-radius: 2px;
  background: hsl(var(--h) 55% 55%); min-width: 1px; }
.dim, p { color: var(--dim); } code { font-size: 13px; }
.scroll { overflow-x: auto; } summary { cursor: pointer; }
.memory { width: 100%; font: 12px system-ui, sans-serif; }
.memory text { fill: var(--dim); } .frame { fill: none; stroke: var(--line); }
.buffer { fill: hsl(var(--h) 55% 60% / .75); stroke: var(--bg); stroke-width: .5; }
.live { fill: none; stroke: var(--fg); stroke-width: 1.5; }
.time { width: 100%; font: 12px system-ui, sans-serif; } .time text { fill: var(--dim); }
.launch { fill: hsl(var(--h) 55% 60%); stroke: var(--bg); stroke-width: .5; }
.pipe { fill: hsl(var(--h) 55% 50%); } .track { fill: none; stroke: var(--line); }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>{style}</style>
</head>
<body>
<h1>{name}</h1>
<table class="facts">{facts}</table>
<h2>Kernels</h2>
<table class="list"><tr><th>kind</th><th>kernels</th><th>launches</th><th>flops</th><th></th>
<th></th><th>bytes</th><th></th><th></th></tr>{kinds}</table>
<details><summary>every kernel</summary><div class="scroll"><table class="list"><tr><th>kernel</th>
<th>launches</th><th>flops</th><th>bytes</th><th></th><th class="text">operations</th>
<th class="text">first place</th></tr>{kernels}</table></div></details>
{simulated}<h2>Memory</h2>
<p>The arena during a step, one rectangle for each buffer. The line is what is alive.</p>
{memory}
<h2>Graph</h2>
<p>One box for each layer; equal layers are drawn once. A dotted stub leads to another box.</p>
<div class="scroll">{graph}</div>
</body>
</html>
"""
