"""Gradient modes that a model switches itself (``@torch.inference_mode()`` on its forward).

Dynamo keeps them as nodes of its graph. What is compiled here has no gradients anyway, and torch
cannot trace inference mode's tensors, so the nodes go.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch.autograd import grad_mode

_SWITCHES = (
    grad_mode._enter_inference_mode,
    grad_mode._exit_inference_mode,
    torch._C._set_grad_enabled,
)


def off(gm: torch.fx.GraphModule) -> bool:
    """Whether the graph itself switches gradients off for every tensor that it computes."""
    depth = 0
    for n in gm.graph.nodes:
        if n.op == "call_function" and n.target in _SWITCHES:
            depth += _change(n)
        elif n.op.startswith("call") and depth < 1 and _is_tensor(n):
            return False
    return True


def strip(gm: torch.fx.GraphModule) -> None:
    """Removes the switches."""
    found = [n for n in gm.graph.nodes if n.op == "call_function" and n.target in _SWITCHES]
    for n in reversed(found):
        gm.graph.erase_node(n)
    if found:
        gm.recompile()


def _is_tensor(n: torch.fx.Node) -> bool:
    return isinstance(n.meta.get("example_value"), torch.Tensor)


def _change(n: torch.fx.Node) -> int:
    """+1 where gradients are switched off, -1 where on again."""
    if n.target is grad_mode._exit_inference_mode:
        entered: Any = n.args[0]
        return -1 if entered.args[0] else 0
    if n.target is grad_mode._enter_inference_mode:
        return 1 if n.args[0] else 0
    return -1 if n.args[0] else 1


__all__ = ["off", "strip"]
