"""The torch.compile backend "xllm" (entry point `torch_dynamo_backends`).

torch.compile(model, backend="xllm", options={"strict": True, "threads": 4})
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.fx

from xcompile.compiler import Compiled, compile_graph, executor
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.frontend import modes
from xcompile.frontend.fx import Imported, from_dynamo, part_of, size_argument
from xcompile.frontend.regions import replace_experts
from xcompile.runtime import npu

log = logging.getLogger("xcompile")

OPTIONS = {"target", "strict", "quantize", "threads"}


def xllm(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    mode: str | None = None,
) -> Callable[..., Any]:
    """Compile one Dynamo graph.

    options: target ("cpu", "cpu/LEVEL", an ascend chip), strict (refuse eager islands), quantize
    (None or "experts-w8a8"), threads (team size). NPU tensors run on their device, through
    torch_npu and CANN; the target is then that of the device unless it is given.

    Inference only: a graph whose inputs need gradients runs eagerly, with a warning.
    """
    options = dict(options or {})
    if unknown := sorted(options.keys() - OPTIONS):
        raise XCompileError(f"unknown options {unknown}; the xllm backend takes {sorted(OPTIONS)}")
    wanted = torch.is_grad_enabled() and not modes.off(gm)
    if wanted and any(_needs_grad(x) for x in example_inputs):
        log.warning(
            "xllm compiles inference only; this graph needs gradients and runs eagerly. Call the "
            "model under torch.no_grad() or torch.inference_mode(), or requires_grad_(False)."
        )
        return gm.forward
    modes.strip(gm)
    device = npu.device_of(example_inputs)
    vendor = npu.require() if device is not None else None
    _specialise_floats(gm)
    placeholders = [n for n in gm.graph.nodes if n.op == "placeholder"]
    replaced = replace_experts(gm, dict(zip(placeholders, example_inputs, strict=True)))
    if replaced:
        log.info("experts regions compiled as moe_experts: %s", ", ".join(replaced))
    imported = from_dynamo(gm, example_inputs, _is_weight)
    written = {imported.inputs[k] for k in imported.graph.state.values()}
    used = [i for i, n in enumerate(placeholders) if _is_weight(n) and i not in written]
    call = _Call(imported, options, example_inputs, used, device, vendor)
    if imported.islands:
        log.warning("eager islands (not compiled): %s", ", ".join(imported.islands))
    return call


def _needs_grad(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.requires_grad


def _is_weight(n: torch.fx.Node) -> bool:
    """Dynamo marks a module's parameters and buffers as static inputs."""
    static = "_dynamo_static_input_type" in n.meta.get("tensor_dict", {})
    return static or isinstance(n.meta.get("example_value"), torch.nn.Parameter)


def _specialise_floats(gm: torch.fx.GraphModule) -> None:
    """With dynamic=True Dynamo passes Python floats (eps, scale) as 0-d inputs. They are constants
    of the model: ask for a restart that makes them so."""
    from torch._dynamo.exc import TensorifyScalarRestartAnalysis
    from torch._dynamo.symbolic_convert import TensorifyState

    again = False
    for n in gm.graph.nodes:
        arg = n.meta.get("grapharg") if n.op == "placeholder" else None
        if arg is None or not arg.pass_arg_as_tensor:
            continue
        memo = getattr(n.meta["example_value"], "item_memo", None)
        name = getattr(getattr(memo, "node", None), "_expr", None)
        if name is not None and not TensorifyState.should_specialize(str(name)):
            TensorifyState.specialize(str(name))
            again = True
    if again:
        raise TensorifyScalarRestartAnalysis("xllm makes Python floats constants")


class _Call:
    """The compiled graph as Dynamo calls it. Weights are prepacked copies; when the model's own
    tensors change (a load_state_dict, an optimiser's step), they are packed again."""

    def __init__(
        self,
        imported: Imported,
        options: Mapping[str, Any],
        example_inputs: Sequence[Any],
        weights: list[int],
        device: torch.device | None = None,
        vendor: Any = None,
    ) -> None:
        self.imported = imported
        self.options = options
        self.weights = weights
        self.device, self.vendor = device, vendor  # an NPU, and torch_npu
        self.state = set(imported.graph.state.values())
        self.stamp = self._stamp(example_inputs)
        self.compiled, self.executor = self._build()

    def _build(self) -> tuple[Compiled, Callable[..., list[torch.Tensor]]]:
        wanted: dict[str, Any] = {
            "strict": bool(self.options.get("strict", False)),
            "quantize": self.options.get("quantize"),
        }
        if self.device is not None:
            target = npu.make_target(self.options.get("target"), self.vendor, self.device)
            compiled = compile_graph(self.imported, target, **wanted)
            return compiled, npu.executor(compiled, self.vendor, self.device)
        compiled = compile_graph(self.imported, self.options.get("target", "cpu"), **wanted)
        return compiled, executor(compiled, self.options.get("threads"))

    def _stamp(self, args: Sequence[Any]) -> list[tuple[int, int]]:
        return [
            (t.data_ptr(), 0 if t.is_inference() else t._version)
            for t in (args[i] for i in self.weights)
        ]

    def __call__(self, *args: Any) -> tuple[Any, ...]:
        if self._stamp(args) != self.stamp:
            self._refresh(args)
        given = [args[i] for i in self.imported.inputs]
        given = [size_argument(x, self.device) if isinstance(x, int) else x for x in given]
        strided = {k: t for k, t in enumerate(given) if k in self.state and not t.is_contiguous()}
        for k, t in strided.items():
            given[k] = t.contiguous()
        outs = self.executor(*given)
        for k, t in strided.items():
            t.copy_(given[k])
        for k in self.state:  # torch does not see the write, nor would a graph that packed it
            if not given[k].is_inference():
                torch.autograd.graph.increment_version(given[k])
        return tuple(outs[x] if kind == "value" else x for kind, x in self.imported.outputs)

    def _refresh(self, args: Sequence[Any]) -> None:
        """Pack the weights again; the library comes from the cache."""
        for value, (i, part) in self.imported.weights.items():
            if self.imported.graph.consts[value].shape != args[i].shape:  # type: ignore[union-attr]
                raise UnsupportedError(f"weight {value.name} changed its shape; recompile")
            self.imported.graph.consts[value] = part_of(args[i], part)
        self.compiled, self.executor = self._build()
        self.stamp = self._stamp(args)


__all__ = ["xllm"]
