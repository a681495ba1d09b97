"""`xcompile run`, `inspect` and `bench`: what needs only an artifact."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xcompile import artifact
from xcompile.check import Examples, Row, check, names_of
from xcompile.errors import ShapeError, XCompileError
from xcompile.executable import Executable
from xcompile.hostcc import write_atomic
from xcompile.ir import bind_shapes
from xcompile.report import by_label, number, summary
from xcompile.runtime.generate import allocate

load = artifact.load


def console() -> Console:
    """Made on each use: tests and pipes replace stdout. A pipe has room for wide tables."""
    width = None if sys.stdout.isatty() else 160
    return Console(highlight=False, soft_wrap=True, width=width)


def examples(exe: Executable) -> Examples:
    if exe.examples is None:
        raise XCompileError("no examples were recorded (compiled with --no-examples)")
    return exe.examples()


def _guarded(call: Callable[[], Any]) -> Any:
    """The runtime's own errors about bad arguments, as ours."""
    try:
        return call()
    except (ValueError, IndexError, MemoryError) as e:
        raise XCompileError(str(e)) from None


# -- run ----------------------------------------------------------------------------------------
def call(exe: Executable, inputs: Path | None, output: Path | None) -> None:
    """Run once, show the results, and write them where asked."""
    given = examples(exe).inputs if inputs is None else _read_inputs(exe, inputs)
    outs = _guarded(lambda: exe.executor(*given))
    program = exe.executor.program
    results = outs + [given[i] for i in program.state]
    table = Table(box=None, pad_edge=False)
    for title in ("result", "type", "min", "mean", "max"):
        table.add_column(title, justify="left" if title in ("result", "type") else "right")
    for name, t in zip(names_of(exe), results, strict=True):
        kind = f"{str(t.dtype).removeprefix('torch.')} {list(t.shape)}"
        table.add_row(Text(name), Text(kind), *_extent(t))
    console().print(table)
    if output is not None:
        _write_npz(output, dict(zip(names_of(exe), results, strict=True)))


def _extent(t: torch.Tensor) -> list[str]:
    if not t.numel():
        return ["-"] * 3
    t = t.double()
    return [f"{float(x):.5g}" for x in (t.min(), t.mean(), t.max())]


def _read_inputs(exe: Executable, path: Path) -> list[torch.Tensor]:
    """Inputs from a .npz, by name; floats are converted, since numpy has no bf16."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {k: data[k] for k in data.files}
    except Exception as e:  # numpy raises what zipfile and zlib raise
        raise XCompileError(f"{path} is not a .npz of arrays: {e}") from None
    specs = exe.executor.program.inputs
    names = [exe.signature.names[i] for i in exe.signature.inputs]
    if wrong := sorted({*names} ^ arrays.keys()):
        what = "is missing" if wrong[0] in names else "is no input"
        raise ShapeError(f"{path}: {wrong[0]!r} {what}; inputs: {', '.join(names)}")
    out = []
    for name, spec in zip(names, specs, strict=True):
        try:
            t = torch.from_numpy(np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape))
        except TypeError:
            raise XCompileError(f"{path}: {name!r} has dtype {arrays[name].dtype}") from None
        want = spec.type.dtype
        out.append(t.to(want) if t.is_floating_point() and want.is_floating_point else t)
    return out


def _write_npz(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    import io

    wide = {k: t.float() if t.dtype == torch.bfloat16 else t for k, t in tensors.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{k: t.numpy() for k, t in wide.items()})  # type: ignore[arg-type]
    write_text(path, buffer.getvalue())


def write_text(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data)
    except OSError as e:
        raise XCompileError(f"cannot write {path}: {e.strerror}") from None


def check_examples(exe: Executable) -> bool:
    """Compare with eager; print a table; True when every bar holds."""
    recorded = examples(exe)
    rows = _guarded(lambda: check(exe, recorded))
    table = Table(box=None, pad_edge=False)
    for title in ("", "result", "error", "limit", "measure"):
        table.add_column(title, justify="right" if title in ("error", "limit") else "left")
    for r in rows:
        table.add_row(_mark(r), Text(r.name), f"{r.error:.3g}", f"{r.limit:.3g}", r.measure)
    out = console()
    out.print(table)
    for r in rows:
        if r.note:
            out.print(f"! {r.name}: {r.note}", style="yellow", markup=False)
    if recorded.decisions:
        out.print(
            f"{recorded.decisions} choices of experts, {recorded.ties} of them near a tie in "
            "the model's dtype; the reference takes the choices of the model's dtype"
        )
    if recorded.drift is not None:
        out.print(
            f"compared with the quantised model run op by op; quantisation moved its results by "
            f"{recorded.drift:.2%} from the model's own"
        )
    bad, marked = [r for r in rows if not r.ok], [r for r in rows if r.ok and r.note]
    if bad:
        out.print(f"[red]failed[/]: {len(bad)} of {len(rows)} results are worse than the limit")
    elif marked:
        out.print(f"[yellow]passed with exceptions[/]: see the notes on {len(marked)} results")
    else:
        out.print("[green]passed[/]")
    return not bad


def _mark(r: Row) -> str:
    return "[red]✗[/]" if not r.ok else "[yellow]![/]" if r.note else "[green]✓[/]"


def generate(exe: Executable, prompt: str | None, tokens: str | None, max_new_tokens: int) -> None:
    """Continue a text or a list of token ids, and print what was generated."""
    if exe.signature.step is None:
        raise XCompileError("this is no language model's step; run it with --inputs")
    tokenizer = _tokenizer(exe) if prompt is not None else None
    ids = tokenizer.encode(prompt).ids if tokenizer else _ids(tokens or "")
    start = time.perf_counter()
    (new,) = _guarded(lambda: exe.generate([ids], max_new_tokens))
    seconds = time.perf_counter() - start
    print(prompt + tokenizer.decode(new) if tokenizer else ",".join(map(str, new)))
    Console(stderr=True, highlight=False).print(
        f"{len(new)} tokens in {seconds:.2f} s, {len(new) / seconds:.1f} tokens/s", style="dim"
    )


def _ids(text: str) -> list[int]:
    try:
        return [int(x) for x in text.split(",")]
    except ValueError:
        raise XCompileError(f"--tokens {text!r}: expected token ids such as 1,15,27") from None


def _tokenizer(exe: Executable) -> Any:
    file = (exe.path or Path()) / artifact.TOKENIZER
    if exe.path is None or not file.is_file():
        raise XCompileError(
            "the artifact holds no tokenizer: define `tokenizer` in model.py, or give --tokens"
        )
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise XCompileError("--prompt needs the package tokenizers; or give --tokens") from None
    try:
        return Tokenizer.from_file(str(file))
    except Exception as e:
        raise XCompileError(f"{file}: {e}") from None


# -- inspect ------------------------------------------------------------------------------------
def inspect(path: Path, html: Path | None, svg: Path | None, trace: Path | None) -> None:
    """Tables on the terminal; the page, the picture and the trace where asked."""
    from xcompile import cli_ascend

    exe = load(path)
    s, program = summary(exe), exe.executor.program
    env = program.hints()
    caps = program.capacity(env)
    ascend, simulated = cli_ascend.on_ascend(exe), None
    if trace is not None and not ascend:
        raise XCompileError(f"--trace is of the simulator; this artifact is for {s.target}")
    if ascend and (trace is not None or (html is not None and exe.examples is not None)):
        simulated = cli_ascend.simulate_example(exe, trace)
    if html is not None or svg is not None:
        from xcompile import inspect_page

        if html is not None:
            text = inspect_page.page(path.resolve().name, s, program, simulated)
            write_text(html, text.encode())
        if svg is not None:
            write_text(svg, inspect_page.picture(s, program).encode())
    groups = by_label(s, env)
    flops, nbytes = (max(sum(x), 1) for x in zip(*s.costs(env), strict=True)) if s.steps else (1, 1)
    table = Table(box=None, pad_edge=False, title=None)
    table.add_column("phase" if ascend else "kernel")
    counted = ("phases", "runs") if ascend else ("kernels", "launches")
    for title in (*counted, "flops", "share", "bytes", "share"):
        table.add_column(title, justify="right")
    table.add_column("")
    for g in groups:
        cells = [str(len(g.kernels)), str(g.launches), number(g.flops), f"{g.flops / flops:.1%}"]
        cells += [number(g.nbytes, "B"), f"{g.nbytes / nbytes:.1%}"]
        table.add_row(Text(g.name), *cells, Text("█" * round(24 * g.nbytes / nbytes), "cyan"))
    out = console()
    sizes = ", ".join(f"{k}={v}" for k, v in env.items())
    out.print(f"[bold]{path}[/]  {s.target}" + (f"  at {sizes}" if sizes else ""))
    out.print(table)
    _, arena = program.offsets(caps)
    facts = [
        ("weights", number(s.weight_bytes, "B")),
        ("arena", f"{number(arena, 'B')}, at least {number(program.live_bytes(caps), 'B')} live"),
        ("symbols", ", ".join(f"{k} {r.lo}..{r.hi}" for k, r in program.symbols.items())),
        ("inputs", ", ".join(f"{i.name}: {i.type}" for i in program.inputs[:8])),
        ("outputs", ", ".join(f"{o.name}: {o.type}" for o in program.outputs[:8])),
        ("islands", ", ".join(f"{x.kernel} {x.origin}" for x in s.steps if x.island) or "none"),
    ]
    if ascend:
        facts = [*cli_ascend.inspect_facts(exe, s), *facts[:-1]]
    extra = len(program.inputs) - 8
    for name, text in facts:
        more = f", ... {extra} more" if name == "inputs" and extra > 0 else ""
        out.print(f"{name:8} {text or 'none'}{more}", markup=False)


# -- bench --------------------------------------------------------------------------------------
def bench(exe: Executable, repeat: int, requests: int | None, context: int) -> None:
    """Median and range of runs, and what moves through memory meanwhile."""
    from xcompile import cli_ascend

    if cli_ascend.on_ascend(exe):
        raise XCompileError(
            "bench measures this machine, and an ascend artifact runs in the simulator here; "
            "xcompile run prints the simulated time, src/main.cpp measures on a device"
        )
    if requests is None:
        given = examples(exe).inputs
    else:
        given = decode_inputs(exe, requests, context)
    program = exe.executor.program
    try:
        specs = [(i.name, i.type) for i in program.inputs]
        env = bind_shapes(specs, program.symbols, [t.shape for t in given])
        times = _guarded(lambda: _times(exe, given, repeat))
    except ShapeError as e:
        raise ShapeError(f"{e} (of --requests and --context)" if requests else str(e)) from None
    median = statistics.median(times)
    nbytes = sum(b for _, b in summary(exe).costs(env))
    flops = sum(f for f, _ in summary(exe).costs(env))
    out = console()
    sizes = ", ".join(f"{k}={v}" for k, v in env.items())
    where = f"{exe.executor.threads} threads" + (f", {sizes}" if sizes else "")
    out.print(f"{repeat} runs, {where}", markup=False)
    out.print(f"time     {_ms(median)}  ({_ms(min(times))} .. {_ms(max(times))})", markup=False)
    out.print(f"memory   {number(nbytes / median, 'B/s')}, {number(nbytes, 'B')} a run")
    out.print(f"compute  {number(flops / median, 'flop/s')}")
    if exe.signature.step is not None:
        count = given[0].shape[0]
        out.print(f"tokens   {count / median:.1f} tokens/s, {count} a step")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _times(exe: Executable, given: Sequence[torch.Tensor], repeat: int) -> list[float]:
    times = []
    for k in range(repeat + 2):
        start = time.perf_counter()
        exe.executor(*given)
        if k >= 2:  # the first runs touch the memory
            times.append(time.perf_counter() - start)
    return times


def decode_inputs(exe: Executable, requests: int, context: int) -> list[torch.Tensor]:
    """Inputs of a step in which every request decodes one token."""
    spec = exe.signature.step
    if spec is None:
        raise XCompileError("--requests is for a language model's step")
    if context > spec.max_context:
        raise XCompileError(f"--context {context}: the model was compiled for {spec.max_context}")
    width = -(-context // spec.page)
    tables = torch.arange(requests * width).view(requests, width)
    slots = tables[:, (context - 1) // spec.page] * spec.page + (context - 1) % spec.page
    keys, values = allocate(spec.kv_shapes, requests * width * spec.page, spec.dtype)
    rows = torch.arange(requests)
    flat = [
        torch.ones(requests, dtype=torch.int64),
        torch.full((requests,), context - 1),
        slots,
        torch.arange(requests + 1),
        torch.full((requests,), context),
        tables,
        rows,
        *keys,
        *values,
    ]
    return [flat[i] for i in exe.signature.inputs]
