"""`xcompile plan`: how attention over ragged contexts is dealt to cores, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from xcompile.cli_app import app, handled
from xcompile.errors import XCompileError
from xcompile.hostcc import write_atomic
from xcompile.runtime.attention_plan import MODES, AttentionPlan, plan_attention

ROW, WIDTH = 10, 900
HUES = 47  # degrees between neighbouring requests
STEPS = [m * 10**e for e in range(9) for m in (1, 2, 5)]  # of the axis, in blocks


@app.command("plan")
@handled
def plan_command(
    lengths: Annotated[
        str,
        typer.Option(help="Context lengths, comma separated; NxK repeats: 2048x24,32768."),
    ],
    cores: Annotated[int, typer.Option(help="Cores to deal the work to.")] = 24,
    block: Annotated[int, typer.Option(help="KV tokens per block.")] = 128,
    overhead: Annotated[float, typer.Option(help="Cost of an item's start, in blocks.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write a Gantt chart (SVG) of all modes.")
    ] = None,
) -> None:
    """Compare ways to deal ragged contexts to cores: balanced, lpt, round_robin, xllm.

    \b
    xcompile plan --lengths 2048x24,32768 --cores 24 -o plan.svg
    """
    from rich.console import Console
    from rich.table import Table

    sizes = parse_lengths(lengths)
    try:
        plans = [
            plan_attention(sizes, cores, block=block, overhead=overhead, mode=m) for m in MODES
        ]
    except ValueError as e:
        raise XCompileError(str(e)) from None
    base = next(p for p in plans if p.mode == "round_robin").makespan
    total = sum(-(-n // block) + overhead for n in sizes if n)
    table = Table("mode", "makespan (blocks)", "of round_robin", "split requests", "cores at work")
    for p in plans:
        ratio = f"{p.makespan / base:.2f}" if base else "-"
        busy = sum(load > 0 for load in p.loads)
        table.add_row(p.mode, f"{p.makespan:g}", ratio, str(len(p.merge)), str(busy))
    console = Console()
    console.print(table)
    console.print(f"equal shares of {total:g} blocks: {total / cores:.1f} per core")
    if out is not None:
        write_atomic(out, gantt(plans).encode())
        console.print(f"wrote {out}")


def parse_lengths(text: str) -> list[int]:
    """ "2048x24,32768" -> 25 lengths. Raises XCompileError."""
    sizes: list[int] = []
    for word in text.split(","):
        n, repeated, times = word.strip().partition("x")
        if not n.isdigit() or not (times if repeated else "1").isdigit():
            raise XCompileError(
                f"--lengths: {word.strip()!r} is not a length like 2048 or 2048x24 (24 times)"
            )
        sizes += [int(n)] * int(times or 1)
    return sizes


def gantt(plans: Sequence[AttentionPlan]) -> str:
    """One chart per plan on one time axis: a row per core, a colour per request. A core idles where
    its row is grey; the line marks equal shares of the whole cost."""
    longest = max((p.makespan for p in plans), default=0.0) or 1.0
    scale = WIDTH / longest
    parts, y = [], 0.0
    for p in plans:
        y += 22
        height = ROW * len(p.cores)
        parts.append(f'<text x="0" y="{y - 6:g}">{p.mode}: {p.makespan:g} blocks</text>')
        parts.append(f'<rect y="{y:g}" width="{WIDTH}" height="{height - 1}" fill="#eee"/>')
        for core, items in enumerate(p.cores):
            x = 0.0
            for i in items:
                w = p.cost(i) * scale
                label = f"core {core}, request {i.request}: tokens {i.begin} to {i.end}"
                parts.append(
                    f'<rect x="{x:.1f}" y="{y + core * ROW:g}" width="{max(w - 1, 1):.1f}" '
                    f'height="{ROW - 1}" fill="hsl({i.request * HUES % 360} 60% 60%)">'
                    f"<title>{label}</title></rect>"
                )
                x += w
        share = sum(p.loads) / max(len(p.cores), 1) * scale
        parts.append(f'<path d="M{share:.1f} {y - 3:g}v{height + 4}" stroke="#000"/>')
        y += height
    step = next((s for s in STEPS if longest / s <= 12), longest)
    for n in range(int(longest / step) + 1):
        parts.append(f'<text x="{n * step * scale:.1f}" y="{y + 16:g}">{n * step:g}</text>')
    style = "font: 13px system-ui, sans-serif"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {WIDTH + 40} {y + 26:g}" '
        f'style="{style}"><rect x="-4" y="-4" width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )
