"""`xcompile compile` and `xcompile opt`."""

from __future__ import annotations

import importlib.util
import re
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils import _pytree as pytree

from xcompile import artifact, hostcc
from xcompile.api import compile, is_language_model
from xcompile.compiler import make_target
from xcompile.errors import XCompileError
from xcompile.executable import Executable
from xcompile.passes import PIPELINE, pipeline, run_pass
from xcompile.report import number, summarise
from xcompile.text import parse, to_text

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_RANGE = (1, 1 << 20)  # of a dim that has a name and no --dynamic
STEP_DIMS = {"T": "max_tokens", "R": "max_requests", "context": "max_context"}


def run_compile(
    file: Path,
    out: Path,
    *,
    target: str,
    dtype: str | None,
    dynamic: list[str],
    strict: bool,
    quantize: str | None,
    emit: list[str],
    vendor_ops: Path | None,
    threads: int | None,
    examples: bool,
) -> None:
    """Compile `file` to the artifact `out`; progress and the summary go to stderr with --emit."""
    start = time.perf_counter()
    # what can be refused at once is refused before the long part
    chosen = make_target(target)
    chosen.prepare()
    pipeline(quantize)
    if vendor_ops is not None and (chosen.name != "ascend" or vendor_ops.suffix != ".py"):
        raise XCompileError(
            f"--vendor-ops {vendor_ops} --target {target}: expected a .py file and an ascend target"
        )
    ranges = dict(map(parse_range, dynamic))
    artifact.check_destination(out)
    module = load_module(file)
    model = get_model(module, file)
    if dtype is not None and isinstance(model, torch.nn.Module):
        cast(model, DTYPES[dtype])
    options: dict[str, Any] = {
        "target": target, "strict": strict, "quantize": quantize, "threads": threads,
    }  # fmt: skip
    if is_language_model(model) and not hasattr(module, "inputs"):
        limits: dict[str, Any] = step_limits(ranges)
        exe = compile(model, **options, **limits)
    else:
        args, kwargs = get_inputs(module, file, dtype)
        shapes, unused = named_dims(getattr(module, "dynamic_shapes", None), ranges)
        if unused:
            known = ", ".join(sorted(ranges.keys() - unused | dim_names(shapes))) or "none"
            raise XCompileError(
                f"--dynamic {unused[0]}: no such dim; dims named in dynamic_shapes: {known}"
            )
        exe = compile(model, args, kwargs, dynamic_shapes=shapes, **options)
    tokenizer = _tokenizer(getattr(module, "tokenizer", None))
    path = artifact.save(exe, out, examples=examples, tokenizer=tokenizer)
    _summary(exe, path, time.perf_counter() - start, sys.stderr if emit else sys.stdout)
    if vendor_ops is not None:
        _write_vendor_ops(exe, vendor_ops)
    for what in emit:
        _emit(exe, what)


def _write_vendor_ops(exe: Executable, path: Path) -> None:
    from safetensors.torch import save

    from xcompile import vendor_ops

    c = exe.compiled
    assert c is not None
    graph = vendor_ops.lower(c.imported.graph, c.target)
    weights = {k: t.contiguous() for k, t in vendor_ops.weights(graph).items()}
    hostcc.write_atomic(path.with_suffix(".safetensors"), save(weights))
    hostcc.write_atomic(path, vendor_ops.emit(graph).encode())


def _summary(exe: Executable, path: Path, seconds: float, to: Any) -> None:
    assert exe.compiled is not None
    s = summarise(exe.compiled)
    islands = sum(x.island for x in s.steps)
    eager = f", {islands} eager islands" if islands else ""
    launches = len(s.kernels) or len(s.steps) - islands
    print(
        f"{path}: {s.target}, {launches} launches{eager}, "
        f"{number(s.weight_bytes, 'B')} of weights, {seconds:.1f} s",
        file=to,
    )


def _emit(exe: Executable, what: str) -> None:
    c = exe.compiled
    assert c is not None
    if what == "ir":
        print(to_text(c.graph), end="")
    elif what == "plan":
        print(c.plan.text(), end="")
    else:
        for name, text in c.sources.items():
            print(f"// ==== {name}\n{text.rstrip()}\n")


def _tokenizer(tokenizer: Any) -> str | None:
    """tokenizer.json of a fast tokenizer of transformers or of the tokenizers library."""
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    return inner.to_str() if hasattr(inner, "to_str") else None


# -- model.py -----------------------------------------------------------------------------------
def load_module(file: Path) -> ModuleType:
    """Import a file by path. Raises XCompileError with the file's line for anything it raises."""
    if not file.is_file():
        raise XCompileError(f"{file}: no such file")
    spec = importlib.util.spec_from_file_location(f"xcompile_model_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise XCompileError(f"{file} is not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    sys.path.insert(0, str(file.resolve().parent))  # as `python model.py` has it
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except SyntaxError as e:
        where = f"{e.filename or file}:{e.lineno}"
        raise XCompileError(f"{where}: {e.msg}\n    {(e.text or '').strip()}") from None
    except BaseException as e:  # SystemExit too: a script that calls exit() is no model
        raise XCompileError(_located(e, file)) from None
    finally:
        sys.path.pop(0)
    return module


def _located(e: BaseException, file: Path) -> str:
    """``file:line: Type: message`` with the last line of `file` that was running."""
    frames = traceback.extract_tb(e.__traceback__)
    mine = [f for f in frames if f.filename == str(file.resolve())]
    where = f"{file}:{mine[-1].lineno}" if mine else str(file)
    line = f"\n    {mine[-1].line}" if mine and mine[-1].line else ""
    return f"{where}: {type(e).__name__}: {e}{line}"


def get_model(module: ModuleType, file: Path) -> Any:
    """The `model` of a file: a torch module or a function."""
    if not hasattr(module, "model"):
        names = [n for n in vars(module) if not n.startswith("_")]
        raise XCompileError(
            f"{file} defines no `model` (a torch module or function); it defines: "
            f"{', '.join(names[:12]) or 'nothing'}"
        )
    model = module.model
    if isinstance(model, torch.nn.Module):
        return model.eval()
    if not callable(model) or isinstance(model, type):
        raise XCompileError(
            f"{file}: `model` is {_kind(model)}, expected a torch module or a function"
        )
    return model


def _kind(x: Any) -> str:
    return f"the class {x.__name__}" if isinstance(x, type) else f"a {type(x).__name__}"


def get_inputs(
    module: ModuleType, file: Path, dtype: str | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) from a file's `inputs`."""
    if not hasattr(module, "inputs"):
        raise XCompileError(
            f"{file} defines no `inputs`: a tuple of arguments, a dict of keyword arguments, or a "
            "function that returns one (only a Hugging Face causal language model needs none)"
        )
    inputs = module.inputs
    if callable(inputs):
        try:
            inputs = inputs()
        except Exception as e:
            raise XCompileError(_located(e, file)) from None
    if isinstance(inputs, torch.Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, tuple | list | Mapping):
        raise XCompileError(f"{file}: `inputs` is {_kind(inputs)}, expected a tuple or a dict")
    if dtype is not None:
        want = DTYPES[dtype]
        inputs = pytree.tree_map_only(
            torch.Tensor, lambda t: t.to(want) if t.is_floating_point() else t, inputs
        )
    return ((), dict(inputs)) if isinstance(inputs, Mapping) else (tuple(inputs), {})


def cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Convert in place, but for what a Hugging Face model keeps in float32: rotary frequencies,
    router corrections and the modules that its class names."""
    keep = ["inv_freq", "e_score_correction_bias"] if hasattr(model, "config") else []
    for attribute in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"):
        keep += list(getattr(model, attribute, None) or [])
    saved = {
        name: t.data.clone()
        for name, t in [*model.named_parameters(), *model.named_buffers()]
        if t.dtype == torch.float32 and any(k in name for k in keep)
    }
    model.to(dtype)
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for name, t in saved.items():
        tensors[name].data = t


# -- dims ---------------------------------------------------------------------------------------
def parse_range(text: str) -> tuple[str, tuple[int, int]]:
    """``batch=1:64`` -> ("batch", (1, 64))."""
    m = re.fullmatch(r"([A-Za-z_]\w*)=(\d{1,18}):(\d{1,18})", text)
    if m is None or int(m[2]) > int(m[3]):
        raise XCompileError(f"--dynamic {text}: expected NAME=LO:HI with LO <= HI, as batch=1:64")
    return m[1], (int(m[2]), int(m[3]))


def step_limits(ranges: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Limits of a serving step from --dynamic T=1:512 and its like."""
    for name, (lo, hi) in ranges.items():
        if name not in STEP_DIMS:
            raise XCompileError(
                f"--dynamic {name}: no such dim; a serving step has {', '.join(STEP_DIMS)}"
            )
        if lo != 1 or hi < 2:
            raise XCompileError(f"--dynamic {name}={lo}:{hi}: a serving step's ranges are 1:HI")
    return {STEP_DIMS[name]: hi for name, (_, hi) in ranges.items()}


def named_dims(shapes: Any, ranges: Mapping[str, tuple[int, int]]) -> tuple[Any, list[str]]:
    """`dynamic_shapes` with Dims for names and with these ranges; and the names it lacks."""
    made: dict[str, Any] = {}

    def dim(name: str, default: Any) -> Any:
        if name not in made:
            made[name] = default
            if name in ranges or default is None:
                lo, hi = ranges.get(name, DEFAULT_RANGE)
                made[name] = torch.export.Dim(name, min=lo, max=hi)
        return made[name]

    def walk(x: Any) -> Any:
        if isinstance(x, str):
            if not x.isidentifier():
                raise XCompileError(f"dynamic_shapes: {x!r} cannot be the name of a dim")
            return dim(x, None)
        if type(x).__name__ == "Dim":
            return dim(x.__name__, x)
        if isinstance(x, Mapping):
            return {k: walk(v) for k, v in x.items()}
        if isinstance(x, list | tuple):
            return type(x)(walk(v) for v in x)
        return x

    return walk(shapes), [name for name in ranges if name not in made]


def dim_names(shapes: Any) -> set[str]:
    """Names of the Dims in `dynamic_shapes`."""
    if isinstance(shapes, Mapping):
        shapes = list(shapes.values())
    if isinstance(shapes, list | tuple):
        return {n for x in shapes for n in dim_names(x)}
    return {shapes.__name__} if type(shapes).__name__ == "Dim" else set()


# -- opt ----------------------------------------------------------------------------------------
def run_opt(file: Path, passes: list[str], out: Path | None, target: str) -> None:
    """Parse a graph, run passes, print it. Constants need no data."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise XCompileError(f"{file}: {getattr(e, 'strerror', None) or e}") from None
    names = [n for p in passes for n in (PIPELINE if p == "all" else [p])]
    graph = parse(text)
    for name in names:
        graph = run_pass(name, graph, make_target(target))
        graph.verify()
    if out is None:
        print(to_text(graph), end="")
        return
    try:
        hostcc.write_atomic(out, to_text(graph).encode())
    except OSError as e:
        raise XCompileError(f"cannot write {out}: {e.strerror}") from None
