"""The routers of transformers' families, compiled, against their own code: ties, extreme scores,
1 to 8 of 4 to 256 experts, 1 to 4096 rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from tests.zoo_moe import H, tiny
from xcompile import compile as xcompile
from xcompile.executable import Executable
from xcompile.frontend import torch_ops

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
FAST = {"deepseek_v3": (256, 8), "deepseek_v2": (16, 3), "mixtral": (8, 2), "qwen3_moe": (128, 8),
        "gpt_oss": (32, 4), "granitemoe": (40, 8), "laguna": (12, 5),
        "lfm2_moe": (4, 1), "aria": (64, 7), "minimax_m2": (33, 2), "kolibri1": (8, 3)}  # fmt: skip
LIFTED = {"deepseek_v3", "deepseek_v2", "mixtral", "qwen3_moe", "gpt_oss", "granitemoe", "lfm2_moe",
          "aria", "minimax_m2", "laguna"}  # fmt: skip
ALL = (
    "afmoe", "aria", "axk1", "axk2", "bailing_hybrid", "beam", "cohere2_moe", "deepseek_v2",
    "deepseek_v3", "deepseek_v32", "diffusion_gemma", "dots1", "dots3_note", "ernie4_5_moe",
    "exaone_moe", "flex_olmo", "flint", "gemma4", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa",
    "gpt_oss", "granitemoe", "granitemoe_swa", "granitemoehybrid", "granitemoeshared",
    "hunyuan_v1_moe", "hy_v3", "hy_v4", "inkling", "jamba", "kimi_linear",
    "kolibri1", "laguna", "lfm2_moe", "longcat_flash", "mellum", "mimo_v2_flash", "minimax",
    "minimax_m2", "minimax_m3_vl", "mistral4", "mistral_large4", "mixtral", "muse_spark",
    "nemotron_h", "olmoe", "openai_privacy_filter", "qwen2_moe", "qwen3_5_moe", "qwen3_moe",
    "qwen3_next", "qwen3_omni_moe", "qwen3_vl_moe", "solar_open", "unlimited_ocr",
)  # fmt: skip
SIZES = ((4, 1), (8, 2), (16, 4), (64, 6), (256, 8))


def is_choice(outs: Any) -> bool:
    return isinstance(outs, tuple) and any(
        isinstance(t, torch.Tensor) and t.dtype == I64 and t.dim() == 2 for t in outs
    )


class Found(Exception):
    """Ends a model's run at its first router."""


class Router(nn.Module):
    """A family's router as its model calls it: weights, experts, and what experts make of them."""

    def __init__(self, family: str, dtype: torch.dtype, experts: int, chosen: int) -> None:
        super().__init__()
        model = tiny(family, dtype, experts, chosen)
        found: list[tuple[nn.Module, tuple]] = []

        def hook(module: nn.Module, args: tuple, kwargs: dict, outs: Any) -> None:
            if is_choice(outs) and not kwargs:
                found.append((module, args))
                raise Found  # what follows cannot take every k (longcat_flash: not 1)

        for module in model.modules():
            module.register_forward_hook(hook, with_kwargs=True)
        with torch.no_grad(), suppress(Found):
            model(torch.arange(3, 9)[None], use_cache=False)
        self.router, args = found[0]
        for module in model.modules():
            module._forward_hooks.clear()
        self.batched = args[0].dim() == 3
        for k, t in enumerate(args[1:]):
            self.register_buffer(f"given{k}", t)
        self.given = len(args) - 1
        rng = torch.Generator().manual_seed(0)
        rows = max(experts, *(t.shape[-1] for t in self.router(*args) if t.dim() > 1))
        self.up = nn.Parameter(torch.randn(rows, 16, 16, generator=rng).to(dtype) / 4)
        self.down = nn.Parameter(torch.randn(rows, 16, 8, generator=rng).to(dtype) / 3)

    def choose(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        more = [getattr(self, f"given{k}") for k in range(self.given)]
        outs = self.router(x[None] if self.batched else x, *more)
        (index,) = (t for t in outs if t.dtype == I64)
        weight = next(t for t in outs if t.shape == index.shape and t is not index)
        return weight, index

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weight, index = self.choose(x)
        y = torch_ops.moe_experts(x[:, :16].contiguous(), index, weight, self.up, self.down, "silu")
        return weight, index, y


class Routers(nn.Module):
    def __init__(self, routers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.routers = nn.ModuleList(routers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(t for r in self.routers for t in r(x))


@cache
def compiled(
    cases: tuple[tuple[str, int, int], ...], dtype: torch.dtype
) -> tuple[Routers, Executable]:
    routers = Routers([Router(f, dtype, e, k) for f, e, k in cases]).requires_grad_(False)
    rows = torch.export.Dim("T", max=8192)
    x = torch.randn(7, H).to(dtype)
    return routers, xcompile(routers, (x,), dynamic_shapes=({0: rows},), threads=2, strict=True)


def stable_topk(x: torch.Tensor, k: int, dim: int = -1, *_: Any, **__: Any) -> Any:
    """Ties by index, as moe_route and topk of the IR have them; torch takes any."""
    values, indices = torch.sort(x, dim=dim, descending=True, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


def rows_of(n: int, dtype: torch.dtype) -> torch.Tensor:
    """Usual rows; then zeros, whose scores are all equal, and rows of extreme scores."""
    rng = torch.Generator().manual_seed(n)
    x = torch.randn(n, H, generator=rng)
    x[n // 2 :: 5] = 0.0
    x[n // 2 + 1 :: 5] *= 300.0
    x[n // 2 + 2 :: 5] *= 1e-4
    return x.to(dtype)


def check(family: str, router: Any, got: Sequence[torch.Tensor], x: torch.Tensor) -> None:
    topk = mock.patch.object(torch, "topk", stable_topk)
    with topk, mock.patch.object(torch.Tensor, "topk", stable_topk):
        weight, index = router.choose(x)
    wide = x.dtype == F32
    assert got[0].dtype == weight.dtype and got[1].dtype == I64
    order, mine = index.sort(-1), got[1].sort(-1)
    same = (order[0] == mine[0]).all(-1)
    equal = (x == 0).all(-1)  # exact ties: nothing is rounded
    assert bool(same[equal].all()), f"{family}: a tie is broken otherwise"
    allowed = (1 if wide else 100) * 1e-3
    assert float((~same).float().mean()) <= allowed or int((~same).sum()) <= 1, family
    want, given = weight.gather(1, order[1]), got[0].gather(1, mine[1])
    bar = 2e-5 if wide else 2e-2
    assert torch.equal(given.isnan(), want.isnan()), family
    given, want = given.nan_to_num(), want.nan_to_num()
    error = (given - want).abs().double() - bar * want.abs().double()
    assert float(error[same].amax()) <= (1e-6 if wide else 2e-2), family
    with torch.no_grad():  # forced routing: the experts on our own choice
        y = torch_ops.moe_experts(
            x[:, :16].contiguous(), got[1], got[0], router.up, router.down, "silu"
        )
    ours, want = got[2].double().nan_to_num(), y.double().nan_to_num()
    norm = (ours - want).norm() / want.norm().clamp_min(1e-30)
    assert float(norm) <= (1e-5 if wide else 3e-2), family


CASES = tuple((f, e, k) for f, (e, k) in FAST.items())


@pytest.mark.parametrize("n", [1, 2, 40, 4096])
def test_routers_choose_as_their_own_code(n: int) -> None:
    routers, run = compiled(CASES, F32)
    x = rows_of(n, F32)
    got = run(x)
    for k, (family, _, _) in enumerate(CASES):
        check(family, routers.routers[k], got[3 * k : 3 * k + 3], x)


def test_routers_become_one_op_where_it_has_their_form() -> None:
    _, run = compiled(CASES, F32)
    assert run.compiled is not None
    names = [n.op.name for n in run.compiled.graph.nodes]
    assert names.count("moe_experts") == len(CASES)
    assert names.count("moe_route") == len(LIFTED)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(("experts", "chosen"), SIZES)
@pytest.mark.parametrize("first", range(0, len(ALL), 12))
def test_every_router_at_every_size(
    first: int, experts: int, chosen: int, dtype: torch.dtype
) -> None:
    cases = tuple((f, experts, chosen) for f in ALL[first : first + 12])
    routers, run = compiled(cases, dtype)
    for n in (1, 300):
        x = rows_of(n, dtype)
        got = run(x)
        for k, (family, _, _) in enumerate(cases):
            check(family, routers.routers[k], got[3 * k : 3 * k + 3], x)
    compiled.cache_clear()
