"""The eager island: a torch op that no rule knows. It runs in torch between two compiled segments;
the report names it and strict compilation refuses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from xcompile.errors import UnsupportedError
from xcompile.ir import Attrs, Op, Type


def _infer(types: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [Type(d, s) for d, s in zip(attrs["dtypes"], attrs["shapes"], strict=True)]


FORBIDDEN = {"aten::from_file"}  # an artifact is untrusted: its islands may not touch files


def resolve(name: str) -> Any:
    """torch operator from "namespace::op.overload". Raises UnsupportedError if it is unknown."""
    if name.partition(".")[0] in FORBIDDEN:
        raise UnsupportedError(f"eager island {name} is not allowed: it reads files")
    namespace, _, rest = name.partition("::")
    base, _, overload = rest.partition(".")
    try:
        op = getattr(getattr(getattr(torch.ops, namespace), base), overload or "default")
        if not isinstance(op, torch._ops.OpOverload):  # a text must not reach other attributes
            raise AttributeError(name)
        return op
    except AttributeError:
        raise UnsupportedError(f"eager island {name}: this torch has no such operator") from None


def _ref(
    *args: torch.Tensor, target: str, spec: tuple, dtypes: tuple, shapes: tuple
) -> list[torch.Tensor]:
    tensors = iter(args)

    def fill(a: Any) -> Any:
        if isinstance(a, tuple):
            tag, value = a
            return next(tensors) if tag == "t" else [fill(x) for x in value]
        return a

    positional, keyword = spec
    out = resolve(target)(*[fill(a) for a in positional], **{k: fill(v) for k, v in keyword})
    outs = out if isinstance(out, list | tuple) else [out]
    return [o.contiguous() for o in outs if isinstance(o, torch.Tensor)]


# torch_call {target, spec, dtypes, shapes}; spec: (positional, ((name, value), ...)) where
# ("t", 0) stands for the next tensor operand and ("l", (...)) for a list.
TORCH_CALL = Op("torch_call", _infer, _ref)
