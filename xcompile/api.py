"""`xcompile.compile` and `xcompile.load`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from xcompile.check import recorder, step_inputs
from xcompile.compiler import compile_graph, executor
from xcompile.errors import XCompileError
from xcompile.executable import Executable, Signature, result_names
from xcompile.frontend.fx import from_export
from xcompile.targets import Target


def compile(
    model: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    target: str | Target = "cpu",
    dynamic_shapes: Any = None,
    strict: bool = False,
    quantize: str | None = None,
    threads: int | None = None,
    max_tokens: int = 8192,
    max_requests: int = 1024,
    max_context: int | None = None,
) -> Executable:
    """Compile a model to one whole-graph library.

    Args:
        model: a torch module or function, a Hugging Face causal language model, or an
            ExportedProgram. A language model without `args` becomes its serving step: packed
            ragged tokens over paged KV caches, prefill and decode in one graph; the result then
            has `.generate`.
        args, kwargs: example inputs, as for `torch.export.export`.
        target: "cpu" (the best level of this CPU) or "cpu/LEVEL": amx, avx512bf16, avx512, avx2,
            portable.
        dynamic_shapes: as for `torch.export.export`; `torch.export.Dim` names become the symbols.
        strict: refuse operations that would run as eager islands.
        quantize: None, or "experts-w8a8": weights of routed experts as int8 with a scale for each
            output channel, made now; their inputs as int8 with a scale for each row, at run time.
            Half of the bytes of bf16. Results change by about 1%: compare before you serve it.
        threads: size of the thread team (default XC_NUM_THREADS, else torch's).
        max_tokens, max_requests, max_context: upper bounds of a language model's step.

    Raises:
        XCompileError: with what was given, what was expected and what to do.
    """
    if args is None and kwargs is None and is_language_model(model):
        return _compile_step(
            model, target, strict, quantize, threads, max_tokens, max_requests, max_context
        )
    if isinstance(model, torch.export.ExportedProgram):
        program, names = model, None
    else:
        if args is None and kwargs is None:
            raise XCompileError(
                "compile(model, args): example inputs are missing (only a Hugging Face causal "
                "language model can be compiled without)"
            )
        dynamic_shapes = _in_order(model, dynamic_shapes)
        program = _export(model, tuple(args or ()), dict(kwargs or {}), dynamic_shapes)
        names = _dim_names(dynamic_shapes, program)
    imported = from_export(program, names)
    compiled = compile_graph(
        imported,
        target,
        strict=strict,
        quantize=quantize,
        examples=_examples(program, imported.inputs),
    )
    keys, single = result_names(program.call_spec.out_spec)
    signature = Signature(imported.inputs, _argument_names(program), imported.outputs, keys, single)
    exe = Executable(executor(compiled, threads), signature, compiled)
    exe.examples = recorder(program, imported, quantised=compiled.quantised)
    return exe


def is_language_model(model: Any) -> bool:
    """A transformers model with a generation head."""
    return (
        isinstance(model, torch.nn.Module)
        and hasattr(model, "config")
        and getattr(model, "get_output_embeddings", lambda: None)() is not None
    )


def _compile_step(
    model: Any,
    target: str | Target,
    strict: bool,
    quantize: str | None,
    threads: int | None,
    max_tokens: int,
    max_requests: int,
    max_context: int | None,
) -> Executable:
    from xcompile.frontend import huggingface as hf

    was_prepared = hf.preparation(model) is not None
    step = hf.StepModel(model, max_context=max_context)
    try:
        with _without_stack_traces():
            program = hf.export_step(
                step, max_tokens=max_tokens, max_requests=max_requests, functional=False
            )
            imported = from_export(program, step_names(program))
        compiled = compile_graph(
            imported,
            target,
            strict=strict,
            quantize=quantize,
            examples=_examples(program, imported.inputs),
        )
    finally:
        if not was_prepared:
            hf.restore(model)
    eos = getattr(model.generation_config, "eos_token_id", None)
    signature = Signature(
        imported.inputs,
        _argument_names(program),
        imported.outputs,
        single=True,
        step=step.spec,
        eos=[eos] if isinstance(eos, int) else list(eos or []),
    )
    exe = Executable(executor(compiled, threads), signature, compiled)
    vocabulary = model.config.get_text_config().vocab_size
    exe.examples = recorder(
        program,
        imported,
        lambda: step_inputs(step.spec, vocabulary, max_tokens, max_requests),
        compiled.quantised,
    )
    return exe


def step_names(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Torch's symbols of a serving step -> T, R, M, slots."""
    where = {"input_ids": (0, "T"), "context_lens": (0, "R"), "block_tables": (1, "M"),
             "k_caches_0": (0, "slots")}  # fmt: skip
    names = {}
    for n in program.graph.nodes:
        if n.op == "placeholder" and n.name in where:
            dim, name = where[n.name]
            names[str(n.meta["val"].shape[dim].node.expr)] = name
    return names


def _export(
    model: Any, args: tuple, kwargs: dict, dynamic_shapes: Any
) -> torch.export.ExportedProgram:
    module = model if isinstance(model, torch.nn.Module) else _Function(model)
    if (
        isinstance(module, _Function)
        and not module.named
        and isinstance(dynamic_shapes, list | tuple)
    ):
        dynamic_shapes = (dynamic_shapes,)  # of the one parameter *args
    try:
        with torch.no_grad(), _without_stack_traces(), _experts_ready(model):
            return torch.export.export(
                module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
            )
    except XCompileError:
        raise
    except Exception as e:
        raise XCompileError(
            f"torch.export could not trace {type(model).__name__}: {type(e).__name__}: {e}\n"
            "Data-dependent Python control flow cannot be traced; for Hugging Face "
            "mixture-of-experts models call xcompile.prepare(model) first."
        ) from e


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """torch notes the source lines behind every traced node, which nothing here reads, and which
    takes a sixth of the time of an export."""
    from torch.fx import config

    before = config.do_not_emit_stack_traces
    config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


def _experts_ready(model: Any) -> AbstractContextManager[Any]:
    """Hugging Face experts cannot be traced as they are; ours stand in during the export."""
    if not (isinstance(model, torch.nn.Module) and hasattr(model, "set_experts_implementation")):
        return nullcontext()
    from xcompile.frontend import huggingface as hf

    return nullcontext() if hf.preparation(model) else hf.prepared(model, attention=False)


class _Function(torch.nn.Module):
    """A function as torch.export wants it; `forward` is the function, so that arguments and
    dynamic_shapes go by its own parameter names."""

    def __init__(self, f: Any) -> None:
        super().__init__()
        self.named = inspect.isfunction(f) or inspect.ismethod(f)  # others have no code to trace
        self.forward = f if self.named else lambda *args, **kwargs: f(*args, **kwargs)


def _in_order(model: Any, dynamic_shapes: Any) -> Any:
    """`dynamic_shapes` by name, in the order of the parameters, as torch flattens the inputs."""
    if not isinstance(dynamic_shapes, Mapping):
        return dynamic_shapes
    f = model.forward if isinstance(model, torch.nn.Module) else model
    if not (inspect.isfunction(f) or inspect.ismethod(f)):
        return dynamic_shapes
    names = [n for n in inspect.signature(f).parameters if n in dynamic_shapes]
    return {n: dynamic_shapes[n] for n in [*names, *(dynamic_shapes.keys() - names)]}


def _dim_names(dynamic_shapes: Any, program: torch.export.ExportedProgram) -> dict[str, str]:
    """Torch's symbol -> the name that the user gave the dim."""
    if not dynamic_shapes:
        return {}
    leaves = pytree.tree_leaves(
        dynamic_shapes,
        is_leaf=lambda x: (
            x is None
            or (isinstance(x, dict) and all(isinstance(k, int) for k in x))
            or (isinstance(x, list | tuple) and any(_is_dim(d) for d in x))
        ),
    )
    inputs = [
        n.meta["val"]
        for n in program.graph.nodes
        if n.op == "placeholder" and n.name in set(program.graph_signature.user_inputs)
    ]
    names: dict[str, str] = {}
    if len(leaves) != len(inputs):
        return names
    for spec, val in zip(leaves, inputs, strict=True):
        if not isinstance(val, torch.Tensor) or spec is None:
            continue
        pairs = spec.items() if isinstance(spec, dict) else enumerate(spec)
        for k, d in pairs:
            size = val.shape[k]
            if _is_dim(d) and isinstance(size, torch.SymInt) and size.node.expr.is_Symbol:
                names[str(size.node.expr)] = d.__name__
    return names


def _is_dim(d: Any) -> bool:
    return isinstance(getattr(d, "__name__", None), str) and type(d).__name__ == "Dim"


def _argument_names(program: torch.export.ExportedProgram) -> list[str]:
    return [str(n) for n in program.graph_signature.user_inputs]


def _examples(
    program: torch.export.ExportedProgram, inputs: list[int]
) -> list[torch.Tensor] | None:
    """The example inputs the program was traced with, by graph input."""
    if program.example_inputs is None:
        return None
    flat = pytree.tree_leaves(program.example_inputs)
    return [flat[i] for i in inputs]


def load(path: str | Path, *, threads: int | None = None) -> Executable:
    """Load a saved artifact. Needs neither a compiler nor the model's source.

    Raises:
        ArtifactError: names the file that is missing, changed, or for another CPU or version.
    """
    from xcompile.artifact import load as load_artifact

    return load_artifact(Path(path), threads)


__all__ = ["compile", "is_language_model", "load"]
