"""The commands on kernels: those of ascend artifacts, and the simulator's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xcompile.cli_app import app, handled
from xcompile.errors import XCompileError


@app.command("verify")
@handled
def verify_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of an ascend artifact.")],
    kernel: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only kernels whose name contains this.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Orders in which the cores run.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Random inputs for each size and seed.")] = 1,
    chip: Annotated[
        str | None, typer.Option(help="Simulated chip.  [default: that of the artifact]")
    ] = None,
) -> None:
    """Run every kernel of an ascend artifact against the reference of what it computes.

    Each phase is launched alone, from the artifact's own sources, in the simulator with all
    checks: at several sizes, with random and extreme values, under several orders of the cores,
    on few cores and on all. Exit code 1 if one is wrong. Sources may be edited by hand before.

    \b
    xcompile verify npu
    xcompile verify npu --kernel rms_norm --seeds 8 --rounds 4
    """
    from xcompile.cli_ascend import run_verify

    if not run_verify(path, seeds, rounds, kernel, chip):
        raise typer.Exit(1)


@app.command("build")
@handled
def build_command(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of an ascend artifact.")],
    cann: Annotated[
        bool, typer.Option("--cann", help="With CANN's compiler, for a device.")
    ] = False,
    sim: Annotated[bool, typer.Option("--sim", help="With g++, for the simulator.")] = False,
    build_dir: Annotated[
        Path | None, typer.Option(help="Folder for the build.  [default: OUT.build]")
    ] = None,
) -> None:
    """Build an ascend artifact's sources: libstep.so, and run_step, a program that needs no Python.

    \b
    xcompile build npu --sim && npu.build/run_step --weights npu/weights.safetensors --inputs x.st
    source /usr/local/Ascend/cann/set_env.sh && xcompile build npu --cann
    """
    from xcompile.cli_ascend import build

    if cann == sim:
        raise XCompileError("give one of --cann and --sim")
    build(path, cann, build_dir)


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
