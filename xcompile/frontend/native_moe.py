"""Mixtures of experts of hand-written models, found by what their parts do.

DeepSeek's own code and its many descendants keep each expert as a module and loop over those that
were hit, which depends on data. Here a mixture is a module with

    one ModuleList of experts, each   down(act(gate x) * up x)   with three matrices and no biases,
    a router, which returns weights [N, k] and expert ids [N, k] for rows [N, H],
    perhaps other parts (shared experts) whose results on the same rows are added.

Names do not matter: which matrix is which and which activation it is are found by trying, and the
substitute is run against the module's own forward before it is used. The experts' weights become
views of one stacked tensor, so that memory holds them once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xcompile.frontend import torch_ops
from xcompile.ops.moe import ACTIVATIONS

UP, DOWN = "_xllm_gate_up", "_xllm_down"
ROWS = 17  # of a trial


@dataclass(frozen=True)
class Mixture:
    """What the parts of a module are: names of its children, of an expert's parameters."""

    experts: str
    router: str
    weights_first: bool
    shared: tuple[str, ...]
    gate: str
    up: str
    down: str
    act: str


def candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold a list of like modules of three matrices each."""
    for path, module in model.named_modules():
        if _experts_of(module) is not None:
            yield path, module


def describe(module: nn.Module) -> Mixture | str:
    """What the parts of a candidate are, or why it is no mixture that moe_experts can stand for."""
    name = _experts_of(module)
    assert name is not None
    experts: Any = module.get_submodule(name)
    if any(e is None for e in experts):
        return "some of its experts are elsewhere (expert parallelism)"
    first = dict(experts[0].named_parameters())
    dtypes = {p.dtype for e in experts for p in e.parameters()}
    if len(dtypes) > 1 or next(iter(dtypes)).itemsize < 2:
        return f"its experts' weights are {', '.join(sorted(map(str, dtypes)))}"
    shapes = [{n: p.shape for n, p in e.named_parameters()} for e in experts]
    if any(s != shapes[0] for s in shapes):
        return "its experts differ in shape"
    roles = _roles(experts[0], first)
    if roles is None:
        return "its experts are not down(act(gate x) * up x) with an activation of moe_experts"
    others = [n for n, child in module.named_children() if n != name and child is not None]
    rows = _rows(first[roles[0]])
    for router in others:
        order = _routes(module.get_submodule(router), rows, len(experts))
        if order is not None:
            shared = tuple(n for n in others if n != router)
            return Mixture(name, router, order, shared, *roles)
    return "no part of it returns weights and expert ids for rows"


def forward(module: Any, m: Mixture, x: Tensor) -> Tensor:
    """The mixture's result for ``[..., H]``."""
    rows = x.reshape(-1, x.shape[-1])
    first, second = getattr(module, m.router)(rows)
    weight, index = (first, second) if m.weights_first else (second, first)
    up, down = getattr(module, UP), getattr(module, DOWN)
    y = torch_ops.moe_experts(rows, index.to(torch.int64), weight, up, down, m.act)
    for name in m.shared:
        y = y + getattr(module, name)(rows)
    return y.view(x.shape)


def substitute(module: nn.Module, m: Mixture) -> None:
    """Stacks the experts' weights and gives the instance its forward."""
    _stack(module, m)
    own: Any = module
    own.forward = partial(forward, module, m)
    own._apply = partial(_apply, module, m)
    own._xllm_hook = module.register_load_state_dict_post_hook(partial(_loaded, m))


def undo(module: nn.Module) -> None:
    """The class's own forward again; the weights stay views of one tensor."""
    own: Any = module
    own._xllm_hook.remove()
    for name in ("forward", "_apply", "_xllm_hook"):
        del module.__dict__[name]
    for name in (UP, DOWN):
        delattr(module, name)


def trials(module: nn.Module, m: Mixture) -> Iterator[tuple[str, Tensor]]:
    """Inputs to compare a substitute on."""
    weight = dict(getattr(module, m.experts)[0].named_parameters())[m.gate]
    rows = _rows(weight)
    yield "rows", rows
    yield "a batch", rows[: ROWS - 1].view(2, -1, rows.shape[1])
    yield "one row", rows[:1]


# -- finding out -----------------------------------------------------------------------------------
def _experts_of(module: nn.Module) -> str | None:
    lists = [n for n, c in module.named_children() if isinstance(c, nn.ModuleList)]
    if len(lists) != 1:
        return None
    listed: Any = module.get_submodule(lists[0])
    experts = [e for e in listed if e is not None]
    if len(experts) < 2 or len({type(e) for e in experts}) > 1:
        return None
    for e in experts:
        if [p.dim() for p in e.parameters()] != [2, 2, 2]:
            return None
    return lists[0]


def _rows(weight: Tensor) -> Tensor:
    """Random rows for a matrix, long enough that activations differ in its results."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, weight.shape[1], generator=rng, dtype=torch.float32).to(weight.device)
    size = (x @ weight.float().t()).std().clamp(1e-6, 1e6)
    return (2 * x / size).to(weight.dtype)


def _roles(expert: nn.Module, weights: dict[str, nn.Parameter]) -> tuple[str, str, str, str] | None:
    """Names of gate, up and down, and the activation, that come nearest to what an expert does."""
    best: tuple[float, tuple[str, str, str, str]] | None = None
    for gate, up, down in permutations(weights):
        g, u, d = (weights[n] for n in (gate, up, down))
        if g.shape != u.shape or d.shape != g.shape[::-1]:
            continue
        x = _rows(g)
        want = expert(x).float()
        for act, function in ACTIVATIONS.items():
            got = F.linear(function(F.linear(x, g)) * F.linear(x, u), d).float()
            error = float((got - want).norm() / want.norm().clamp_min(1e-30))
            if best is None or error < best[0]:
                best = error, (gate, up, down, act)
        if best is None or best[0] != best[0]:
            return None
    bar = max(1e-5, 2 * torch.finfo(next(iter(weights.values())).dtype).eps)
    return best[1] if best is not None and best[0] <= bar else None


def _routes(part: nn.Module, rows: Tensor, experts: int) -> bool | None:
    """Whether a part returns (weights, ids), True, or (ids, weights), False, else None."""
    try:
        out = part(rows)
    except Exception:  # no part that takes rows: not the router
        return None
    if not (isinstance(out, tuple) and len(out) == 2 and all(isinstance(t, Tensor) for t in out)):
        return None
    if out[0].shape != out[1].shape or out[0].dim() != 2 or len(out[0]) != len(rows):
        return None
    for ids, weights in (out[::-1], out):
        if weights.dtype.is_floating_point and ids.dtype in (torch.int64, torch.int32):
            fits = int(ids.min()) >= 0 and int(ids.max()) < experts
            return ids is out[1] if fits else None
    return None


# -- one tensor for all experts --------------------------------------------------------------------
def _owned(module: nn.Module, m: Mixture) -> Iterator[tuple[nn.Module, str, str, int, slice]]:
    """Each parameter: owner, name, the buffer it lies in, its expert and its rows there."""
    experts: Any = module.get_submodule(m.experts)
    inner = dict(experts[0].named_parameters())[m.gate].shape[0]
    places = {
        m.gate: (UP, slice(inner)),
        m.up: (UP, slice(inner, None)),
        m.down: (DOWN, slice(None)),
    }
    for at, expert in enumerate(experts):
        for name, (buffer, rows) in places.items():
            path, _, leaf = name.rpartition(".")
            yield expert.get_submodule(path), leaf, buffer, at, rows


def _stack(module: nn.Module, m: Mixture) -> None:
    experts: Any = module.get_submodule(m.experts)
    first = dict(experts[0].named_parameters())
    gate, down = first[m.gate].detach(), first[m.down].detach()
    inner, hidden = gate.shape
    with torch.no_grad():
        up = gate.new_empty((len(experts), 2 * inner, hidden))
        module.register_buffer(UP, up, persistent=False)
        module.register_buffer(
            DOWN, down.new_empty((len(experts), hidden, inner)), persistent=False
        )
        for owner, leaf, buffer, at, rows in _owned(module, m):
            view = getattr(module, buffer)[at, rows]
            view.copy_(getattr(owner, leaf))
            # A parameter made of a view shares its memory and its version counter.
            setattr(owner, leaf, nn.Parameter(view, requires_grad=False))


def _tied(module: nn.Module, m: Mixture) -> bool:
    return all(
        getattr(owner, leaf).data_ptr() == getattr(module, buffer)[at, rows].data_ptr()
        for owner, leaf, buffer, at, rows in _owned(module, m)
    )


def _apply(module: Any, m: Mixture, fn: Any, recurse: bool = True) -> nn.Module:
    """nn.Module._apply moves or converts tensors one by one; experts then lie together again."""
    type(module)._apply(module, fn, recurse)
    if not _tied(module, m):
        _stack(module, m)
    return module


def _loaded(m: Mixture, module: nn.Module, _: Any) -> None:
    """After load_state_dict, which may have assigned other tensors."""
    if not _tied(module, m):
        _stack(module, m)
    for name in (UP, DOWN):
        torch.autograd.graph.increment_version(getattr(module, name))


__all__ = ["Mixture", "candidates", "describe", "forward", "substitute", "trials", "undo"]
