"""The timeline of a simulated step on the page of `xcompile inspect`: a bar for each kernel launch,
and how busy each pipe is during it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from xcompile import inspect_graph
from xcompile.report import LABEL, number

WIDTH, BAR, TRACK, GAP, LEFT = 960, 26, 18, 5, 80


def section(report: Mapping[str, Any]) -> str:
    """The heading, the picture and the table of launches."""
    launches = report["launches"]
    if not launches:
        return ""
    sizes = ", ".join(f"{k}={v}" for k, v in report.get("sizes", {}).items())
    gaps = sum(x["launch_us"] for x in launches)
    note = (
        f"A step{' at ' + sizes if sizes else ''} by the simulator's cycle model of "
        f"{report['chip'].removeprefix('ascend').upper()}: {report['us']:.1f} us in "
        f"{len(launches)} launches; dispatching them one by one would add up to {gaps:.1f} us. "
        "Below each launch: the share of time that its cores' pipes work."
    )
    return (
        f"<h2>Simulated step</h2><p>{escape(note)}</p>{picture(launches)}"
        '<details><summary>every launch</summary><div class="scroll"><table class="list">'
        "<tr><th>kernel</th><th>start us</th><th>us</th><th>cores</th><th>HBM</th><th>L2 hits</th>"
        f'<th class="text">pipes</th></tr>{"".join(map(_row, launches))}</table></div></details>'
    )


def picture(launches: Sequence[Mapping[str, Any]]) -> str:
    """Launches in their order from left to right, as wide as they take long."""
    tracks = sorted({(kind, p) for x in launches for kind, f in x["kinds"].items()
                     for p in f["busy"]})  # fmt: skip
    end = max(launches[-1]["start_us"] + launches[-1]["us"], 1e-9)
    scale = WIDTH / end
    out = []
    for k, x in enumerate(launches):
        left, wide = x["start_us"] * scale, max(x["us"] * scale, 0.5)
        hue = inspect_graph.hue(LABEL.sub("", x["name"]))
        tip = f"{k}: {x['name']}, {x['us']:.2f} us from {x['start_us']:.2f}, {x['blocks']} blocks"
        out.append(
            f'<rect class="launch" style="--h:{hue}" x="{left:.1f}" width="{wide:.1f}" '
            f'height="{BAR}"><title>{escape(tip)}</title></rect>'
        )
        for t, (kind, pipe) in enumerate(tracks):
            share = x["kinds"].get(kind, {}).get("busy", {}).get(pipe, 0.0)
            if share > 0:
                tall = max(share, 0.04) * TRACK
                y = _top(t) + TRACK - tall
                what = escape(f"{x['name']}: {kind} {pipe} {share:.0%}")
                out.append(
                    f'<rect class="pipe" style="--h:{hue}" x="{left:.1f}" y="{y:.1f}" '
                    f'width="{wide:.1f}" height="{tall:.1f}"><title>{what}</title></rect>'
                )
    for t, (kind, pipe) in enumerate(tracks):
        y = _top(t)
        out.append(f'<rect class="track" y="{y}" width="{WIDTH}" height="{TRACK}"/>')
        out.append(f'<text x="-8" y="{y + 13}" text-anchor="end">{kind} {pipe}</text>')
    bottom = _top(len(tracks))
    return (
        f'<svg class="time" viewBox="{-LEFT} 0 {WIDTH + LEFT + 10} {bottom + 20}">'
        f'<text x="-8" y="17" text-anchor="end">launches</text>{"".join(out)}'
        f'<text x="0" y="{bottom + 14}">0</text>'
        f'<text x="{WIDTH}" y="{bottom + 14}" text-anchor="end">{end:.1f} us</text></svg>'
    )


def _top(track: int) -> int:
    return BAR + 8 + track * (TRACK + GAP)


def _row(x: Mapping[str, Any]) -> str:
    moved = x["bytes"]
    hbm = moved.get("HBM read", 0) + moved.get("HBM write", 0)
    pipes = ", ".join(
        f"{kind} {p} {share:.0%}"
        for kind, f in x["kinds"].items()
        for p, share in sorted(f["busy"].items(), key=lambda i: -i[1])[:3]
    )
    cores = " + ".join(f"{f['cores']} {kind}" for kind, f in x["kinds"].items())
    return (
        f"<tr><td><code>{escape(x['name'])}</code></td><td>{x['start_us']:.2f}</td>"
        f"<td>{x['us']:.2f}</td><td>{cores}</td><td>{number(hbm, 'B')}</td>"
        f"<td>{number(moved.get('L2 hit', 0), 'B')}</td>"
        f'<td class="text dim">{escape(pipes)}</td></tr>'
    )
