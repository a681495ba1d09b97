"""What a user holds: a compiled model that is called like the model it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils import _pytree as pytree

from xcompile.errors import ShapeError, XCompileError
from xcompile.runtime.executor import Executor
from xcompile.runtime.generate import ModelSpec, generate

if TYPE_CHECKING:
    from xcompile.check import Examples
    from xcompile.compiler import Compiled


@dataclass
class Signature:
    """How a call's arguments and results map to the graph; part of an artifact's manifest.

    inputs   for each graph input: its position among the flattened call arguments
    names    one name per flattened call argument, for keyword calls and messages
    results  per flattened result: ("value", graph output) or ("const", literal)
    keys     result names when the model returned a mapping or a ModelOutput, else None
    single   the model returned one tensor, not a tuple
    step     set for a language model's serving step: what `generate` needs to know
    """

    inputs: list[int]
    names: list[str]
    results: list[tuple[str, Any]]
    keys: list[str] | None = None
    single: bool = False
    step: ModelSpec | None = None
    eos: list[int] = field(default_factory=list)


class Executable:
    """A compiled model. Call it with the model's arguments; state inputs are updated in place."""

    def __init__(
        self,
        executor: Executor,
        signature: Signature,
        compiled: Compiled | None = None,
        path: Path | None = None,
    ) -> None:
        self.executor = executor
        self.signature = signature
        self.compiled = compiled
        self.path = path
        self.examples: Callable[[], Examples] | None = None  # what `xcompile run --check` compares

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The model's result: a tensor, a tuple, or a dict where the model gave a mapping.

        Raises ShapeError when arguments do not fit what was compiled.
        """
        results = self.flat(self._flatten(args, kwargs))
        if self.signature.keys is not None:
            return dict(zip(self.signature.keys, results, strict=True))
        return results[0] if self.signature.single else tuple(results)

    def flat(self, arguments: Sequence[Any]) -> list[Any]:
        """Results for flattened arguments."""
        outs = self.executor(*[arguments[i] for i in self.signature.inputs])
        return [outs[x] if kind == "value" else x for kind, x in self.signature.results]

    def _flatten(self, args: tuple, kwargs: dict) -> list[Any]:
        flat, _ = pytree.tree_flatten(args)
        names = self.signature.names
        if kwargs:
            rest = names[len(flat) :]
            unknown = sorted(kwargs.keys() - set(rest))
            if unknown:
                raise ShapeError(f"unknown arguments {unknown}; this graph takes {names}")
            flat += [kwargs[n] for n in rest if n in kwargs]
        if len(flat) != len(names):
            raise ShapeError(f"{len(flat)} arguments given, expected {len(names)}: {names}")
        return flat

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 32, **options: Any
    ) -> list[list[int]]:
        """Greedy continuations of token-id prompts, batched continuously over a paged KV cache.

        Only for a compiled language model. Options: see `xcompile.runtime.generate.generate`.
        """
        spec = self.signature.step
        if spec is None:
            raise XCompileError(
                "this executable is a plain function, not a language model's step; compile the "
                "causal LM itself: xcompile.compile(model)"
            )
        options.setdefault("eos", self.signature.eos or None)
        return generate(self, spec, prompts, max_new_tokens, **options)

    @property
    def spec(self) -> ModelSpec | None:
        """Cache shapes and limits of a language model's step."""
        return self.signature.step

    def save(self, path: str | Path, *, examples: bool = True) -> Path:
        """Write an artifact folder (atomically). Load it with `xcompile.load`.

        examples  record example inputs and eager's results, which `xcompile run --check` compares
        """
        from xcompile.artifact import save

        return save(self, Path(path), examples=examples)

    def report(self) -> str:
        """What was compiled: launches, flops, memory, islands, seconds per stage."""
        from xcompile.report import report

        return report(self)


def result_names(out_spec: pytree.TreeSpec) -> tuple[list[str] | None, bool]:
    """(keys, single) of a model's result structure."""
    if out_spec.is_leaf():
        return None, True
    context = out_spec.context
    children = [out_spec.child(i) for i in range(out_spec.num_children)]
    if isinstance(context, list) and context and all(isinstance(k, str) for k in context):
        keys = context
    elif hasattr(out_spec.type, "__dataclass_fields__") or "ModelOutput" in str(out_spec.type):
        keys = list(getattr(out_spec.type, "__dataclass_fields__", {}))[: len(children)]
    else:
        return None, False
    return (list(keys), False) if all(c.is_leaf() for c in children) else (None, False)
