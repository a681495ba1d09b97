"""The command line. Heavy imports happen inside the commands: `--help` answers at once."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from xcompile import __version__, cli_kernels, cli_plan
from xcompile.cli_app import BAD_INPUT, INTERRUPTED, app, fail, handled
from xcompile.errors import SimulationError, XCompileError

__all__ = ["BAD_INPUT", "INTERRUPTED", "app", "cli_kernels", "cli_plan", "fail", "handled", "main"]


class DType(str, Enum):
    """What `--dtype` takes."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Where(str, Enum):
    """What `run --target` takes."""

    cpu = "cpu"
    sim = "sim"
    cann = "cann"


class Emit(str, Enum):
    """What `--emit` takes."""

    sources = "sources"
    ir = "ir"
    plan = "plan"


def _version(on: bool) -> None:
    if on:
        print(f"xcompile {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    """A graph compiler for mixture-of-experts and MLA language models.

    \b
    xcompile model.py -o out        compile; model.py defines `model` and `inputs`
    xcompile run out --check        compare with what eager computed
    xcompile run out --prompt "The capital of France is"
    xcompile inspect out            kernels, memory, symbols
    xcompile bench out              how fast it is here
    xcompile model.py -o npu --target ascend910b && xcompile run npu

    `xcompile COMMAND --help` has more examples.
    """


@app.command("compile")
@handled
def compile_command(
    file: Annotated[Path, typer.Argument(metavar="MODEL.PY", help="Python file with `model`.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write.  [default: name of the file]"),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="cpu, or cpu/LEVEL: amx, avx512bf16, avx512, avx2, portable; or ascend910b, "
            "ascend910b1 to b4, ascend910_93, each also /phase, /pair or /step."
        ),
    ] = "cpu",
    dtype: Annotated[
        DType | None, typer.Option(help="Convert the model and its float inputs.")
    ] = None,
    dynamic: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LO:HI", help="Range of a named dim; may be repeated."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse operations that would run in eager torch.")
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="experts-w8a8: weights of routed experts as int8 with a scale for each channel, "
            "their inputs as int8 as they come. Half of the memory of bf16, and up to twice as "
            "fast; results move by 1 to 2%, and `run --check` tells by how much.",
        ),
    ] = None,
    emit: Annotated[
        list[Emit] | None,
        typer.Option(help="Also print the C++ sources, the graph or the plan; may be repeated."),
    ] = None,
    vendor_ops: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.PY",
            help="For ascend: also write the graph as eager calls of torch_npu's operators, and "
            "its weights beside it (.safetensors).",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads that record the examples.")
    ] = None,
    no_examples: Annotated[
        bool, typer.Option("--no-examples", help="Do not record examples for `run --check`.")
    ] = False,
) -> None:
    """Compile a model to a folder that runs without the model's source.

    MODEL.PY defines `model`, a torch module or function, and `inputs`: a tuple or list of
    arguments, a dict of keyword arguments, or a function that returns one of these. Optional:
    `dynamic_shapes`, as for torch.export, where a text such as {"x": {0: "batch"}} names a dim;
    and `tokenizer`. A Hugging Face causal language model needs no `inputs`: its serving step is
    compiled, with the dims T (tokens of a step), R (requests) and context.

    \b
    xcompile mlp.py                             writes the folder mlp
    xcompile mlp.py -o out --dynamic batch=1:64
    xcompile deepseek.py -o out --dtype bf16 --dynamic T=1:512
    xcompile mlp.py --target cpu/avx2 --strict
    xcompile mixtral.py --quantize experts-w8a8
    xcompile mlp.py --target ascend910b         Ascend C, for the simulator and CANN
    xcompile mlp.py --emit plan | less
    """
    from xcompile.cli_compile import run_compile

    run_compile(
        file,
        out or Path(file.stem),
        target=target,
        dtype=dtype.value if dtype else None,
        dynamic=dynamic or [],
        strict=strict,
        quantize=quantize,
        emit=[e.value for e in emit or []],
        vendor_ops=vendor_ops,
        threads=threads,
        examples=not no_examples,
    )


@app.command("run")
@handled
def run_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a compiled model.")],
    inputs: Annotated[
        Path | None, typer.Option(help=".npz with arrays named like the inputs.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the results to this .npz.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with eager's results; exit code 1 if worse.")
    ] = False,
    prompt: Annotated[str | None, typer.Option(help="Text to continue.")] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Token ids to continue.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of the continuation.")] = 32,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Size of the team.")] = None,
    target: Annotated[
        Where | None,
        typer.Option(help="Where an ascend artifact runs: sim (the simulator) or cann (a device)."),
    ] = None,
    chip: Annotated[
        str | None, typer.Option(help="Simulated chip: 910B1 to 910B4, 910_93.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Simulator: order in which cores run.")] = None,
    no_checks: Annotated[
        bool, typer.Option("--no-checks", help="Simulator: without its checks, faster.")
    ] = False,
    capture: Annotated[
        bool, typer.Option("--capture", help="Ascend: replay a captured graph.")
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Simulator: write a Perfetto trace of the step.")
    ] = None,
) -> None:
    """Run a compiled model: on its example, on your inputs, or to continue a text.

    An ascend artifact runs in the simulator, with all checks; its simulated time is printed too.
    Exit code 1: a result is worse than the bar, or a check of the simulator found a mistake.

    \b
    xcompile run out                            the recorded example
    xcompile run out --check                    the same, compared with eager
    xcompile run out --inputs x.npz --output y.npz
    xcompile run out --tokens 1,15,27 --max-new-tokens 16
    xcompile run out --prompt "Once upon a time"
    xcompile run npu --target sim --seed 7 --trace trace.json
    """
    from xcompile import cli_ascend, cli_run

    if sum([inputs is not None, check, prompt is not None, tokens is not None]) > 1:
        raise XCompileError("give one of --inputs, --check, --prompt and --tokens")
    exe = cli_run.load(path, threads)
    cli_ascend.configure(
        exe,
        target=target.value if target else None,
        chip=chip,
        seed=seed,
        checks=not no_checks,
        capture=capture,
        trace=trace,
    )
    passed = True
    try:
        if check:
            passed = cli_run.check_examples(exe)
        elif prompt is not None or tokens is not None:
            cli_run.generate(exe, prompt, tokens, max_new_tokens)
        else:
            cli_run.call(exe, inputs, output)
    except SimulationError as e:
        cli_ascend.show_errors(e)
        passed = False
    cli_ascend.show_simulation(exe)
    if not passed:
        raise typer.Exit(1)


@app.command("inspect")
@handled
def inspect_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a compiled model.")],
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page: graph, kernels, memory.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the graph as a picture.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Ascend: run the example in the simulator, write a Perfetto trace."),
    ] = None,
) -> None:
    """Show what was compiled: kernels by share of bytes and flops, memory, symbols, islands.

    Of an ascend artifact also: launches, by layer too, bytes moved against the minimum, and, on
    the page, the timeline of a simulated step.

    \b
    xcompile inspect out
    xcompile inspect out --html out.html --svg graph.svg
    xcompile inspect npu --html npu.html --trace trace.json
    """
    from xcompile.cli_ascend import show_errors
    from xcompile.cli_run import inspect

    try:
        inspect(path, html, svg, trace)
    except SimulationError as e:
        show_errors(e)
        raise typer.Exit(1) from None


@app.command("bench")
@handled
def bench_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a compiled model.")],
    repeat: Annotated[int, typer.Option(min=3, help="Timed runs.")] = 50,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Language model: requests that decode together.")
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, help="Language model: tokens that each request has so far.")
    ] = 64,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Size of the team.")] = None,
) -> None:
    """Measure: median and range of repeated runs, bytes per second, tokens per second.

    \b
    xcompile bench out                          at the example's sizes
    xcompile bench out --requests 8 --context 512 --threads 2
    """
    from xcompile import cli_run

    cli_run.bench(cli_run.load(path, threads), repeat, requests, context)


@app.command("opt")
@handled
def opt_command(
    file: Annotated[Path, typer.Argument(metavar="G.XIR", help="Graph in text form.")],
    passes: Annotated[
        list[str] | None, typer.Option("-p", "--pass", help="A pass, or `all`; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write here, not to stdout.")
    ] = None,
    target: Annotated[str, typer.Option(help="Target that the passes may ask.")] = "cpu",
) -> None:
    """Run passes on a graph in text form, such as one that XC_DUMP wrote, and print the result.

    \b
    XC_DUMP=dump xcompile model.py
    xcompile opt dump/0/00-import.xir -p canonicalise -p lift
    xcompile opt dump/0/00-import.xir -p all -o all.xir
    """
    from xcompile.cli_compile import run_opt

    run_opt(file, passes or [], out, target)


def main() -> None:
    """Entry point."""
    try:
        app(prog_name="xcompile")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
