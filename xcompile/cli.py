"""The command line. Heavy imports happen inside the commands: `--help` answers at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from xcompile import __version__
from xcompile.errors import XCompileError

BAD_INPUT, INTERRUPTED = 2, 130


class DType(str, Enum):
    """What `--dtype` takes."""

    fp32 = "fp32"
    bf16 = "bf16"


class Emit(str, Enum):
    """What `--emit` takes."""

    sources = "sources"
    ir = "ir"
    plan = "plan"


class _CompileByDefault(TyperGroup):
    """`xcompile model.py` means `xcompile compile model.py`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help", "-h", "--version"}
        if args and args[0] not in known:
            args = ["compile", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_CompileByDefault,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def fail(message: object, code: int = BAD_INPUT) -> typer.Exit:
    """Print an error and give the exception that ends the command."""
    print(f"error: {message}", file=sys.stderr)
    return typer.Exit(code)


def handled(f: Callable[..., None]) -> Callable[..., None]:
    """Errors of the user's making become one message and exit code 2, Ctrl-C becomes 130."""

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> None:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            f(*args, **kwargs)
        except XCompileError as e:
            raise fail(e) from None
        except KeyboardInterrupt:
            raise fail("interrupted", INTERRUPTED) from None
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return call


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
        str, typer.Option(help="cpu, or cpu/LEVEL: amx, avx512bf16, avx512, avx2, portable.")
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
    emit: Annotated[
        list[Emit] | None,
        typer.Option(help="Also print the C++ sources, the graph or the plan; may be repeated."),
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
        emit=[e.value for e in emit or []],
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
) -> None:
    """Run a compiled model: on its example, on your inputs, or to continue a text.

    \b
    xcompile run out                            the recorded example
    xcompile run out --check                    the same, compared with eager
    xcompile run out --inputs x.npz --output y.npz
    xcompile run out --tokens 1,15,27 --max-new-tokens 16
    xcompile run out --prompt "Once upon a time"
    """
    from xcompile import cli_run

    if sum([inputs is not None, check, prompt is not None, tokens is not None]) > 1:
        raise XCompileError("give one of --inputs, --check, --prompt and --tokens")
    exe = cli_run.load(path, threads)
    if check:
        if not cli_run.check_examples(exe):
            raise typer.Exit(1)
    elif prompt is not None or tokens is not None:
        cli_run.generate(exe, prompt, tokens, max_new_tokens)
    else:
        cli_run.call(exe, inputs, output)


@app.command("inspect")
@handled
def inspect_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a compiled model.")],
    html: Annotated[
        Path | None, typer.Option(help="Write one self-contained page: graph, kernels, memory.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write the graph as a picture.")] = None,
) -> None:
    """Show what was compiled: kernels by share of bytes and flops, memory, symbols, islands.

    \b
    xcompile inspect out
    xcompile inspect out --html out.html --svg graph.svg
    """
    from xcompile.cli_run import inspect

    inspect(path, html, svg)


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


@app.command(
    "simcc",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@handled
def simcc_command(ctx: typer.Context) -> None:
    """Build an Ascend C program for the simulator: a g++ that understands kernels and launches."""
    from xcompile.sim.simcc import simcc

    if code := simcc(ctx.args):
        raise typer.Exit(code)


sim_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run Ascend C kernels.")
app.add_typer(sim_app, name="sim")


@sim_app.command("run")
@handled
def sim_run_command(
    source: Annotated[Path, typer.Argument(metavar="KERNEL.ASC", help="Source with kernels.")],
    args: Annotated[Path, typer.Option(help="JSON file with the kernel's name and arguments.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the outputs.")] = Path(),
    chip: Annotated[
        str | None, typer.Option(help="910B1, 910B3, 910B4, 910_93 or 950.  [default: 910B1]")
    ] = None,
    checks: Annotated[str | None, typer.Option(help="all, none or a comma list.")] = None,
    seed: Annotated[int | None, typer.Option(help="Order in which the cores run.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Write a Perfetto trace.")] = None,
    flag: Annotated[
        list[str] | None, typer.Option(help="Option for g++, such as -DN=8; may be repeated.")
    ] = None,
) -> None:
    """Run one kernel on simulated cores with all checks; no main and no ACL calls are needed.

    \b
    {
      "kernel": "add_custom",            may be left out if there is only one
      "blocks": 8, "tiling_key": 0,
      "args": [
        {"shape": [8, 2048], "dtype": "float16", "random": [-1, 1]},
        {"dtype": "bfloat16", "file": "y.bin", "shape": [8, 2048]},
        {"shape": [16384], "dtype": "float32", "out": true, "name": "z"},
        {"value": 16384},
        {"struct": [["uint32", 16384], ["float32", 0.5]]}
      ]
    }

    \b
    tensors   dtype, shape, and one of: file (.npy, or raw), fill, random: [low, high],
              arange: [start, step]; without one it is zero, with out: true not yet written.
              Those with out: true are written to OUT/NAME.npy (bfloat16 as float32).
    numbers   value; converted to the type of the parameter
    structs   struct: [[dtype, value], ...] with natural alignment, or hex, or bytes (base64)

    \b
    xcompile sim run add.asc --args add.json -o out
    xcompile sim run add.asc --args add.json --checks race,bounds --seed 7 --trace trace.json
    """
    from xcompile.cli_sim import run_kernel

    run_kernel(
        source,
        args,
        out=out,
        chip=chip,
        checks=checks,
        seed=seed,
        trace=trace,
        flags=flag or [],
    )


def main() -> None:
    """Entry point."""
    try:
        app(prog_name="xcompile")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
