"""mla_attention on Ascend: requests absorbed or expanded by their lengths, alone and mixed, in the
simulator with all checks."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any
from unittest import mock

import pytest
import torch

from tests.helpers import Batch, call, compiled
from tests.test_families import Driver, assert_follows_eager
from tests.test_mla_attention import Lengths, Shape, arguments, graph
from tests.zoo import zoo
from xcompile import compile as xcompile
from xcompile.codegen.ascend import mla_attention
from xcompile.codegen.ascend.mla_attention import FEWEST, rule
from xcompile.compiler import executor
from xcompile.passes import run_pipeline
from xcompile.runtime.ascend import AscendExecutor, Cores
from xcompile.symbolic import evaluate
from xcompile.targets.ascend import ascend

TARGET = "ascend910b1"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
SHAPES: dict[str, Shape] = {  # heads, nope, rope, rank, v
    "odd": (3, 20, 7, 36, 25),
    "mini": (4, 64, 32, 256, 64),
    "wide": (16, 128, 64, 512, 128),
    "128 heads": (128, 16, 16, 512, 16),
    "never": (2, 40, 8, 32, 40),  # keys and values are wider than latents: stays absorbed
}
LENGTHS: dict[str, Lengths] = {  # new tokens and context of each request
    "a prompt": ([150], [150]),
    "one to four queries": ([1, 2, 3, 4, 4], [300, 2, 129, 4, 40]),
    "few rows": ([FEWEST - 1, FEWEST, FEWEST + 1], [FEWEST - 1, FEWEST, FEWEST + 1]),
    "mixed": ([1, 130, 0, 2, 70, 0, 1], [90, 130, 5, 2, 75, 0, 33]),
    "around a page": ([63, 64, 65, 1], [63, 64, 65, 16]),
    "chunks over a cache": ([200, 40, 1], [290, 620, 0]),
    "break-even": ([41, 42, 43], [141, 142, 143]),
}
# MlaRule without `most`. "often" chooses where the rule never would.
FORMS = {"absorbed": (1 << 40, 1, 0, 0), "expanded": (1, 1, 0, -1), "often": (FEWEST, 1, 50, 0)}


@contextmanager
def made(form: str | None, room: int | None) -> Iterator[None]:
    """The choice made for the kernel, and another bound of its workspace."""
    with pytest.MonkeyPatch.context() as patch:
        if form is not None:
            patch.setattr(mla_attention, "rule", lambda *a: FORMS[form])
        if room is not None:
            patch.setattr(mla_attention, "ROOM", room)
        yield


@lru_cache(maxsize=4)  # each holds its workspace, and the simulator's shadow of it
def step(
    dtype: str, shape: str, form: str | None = None, room: int | None = None, page: int = 16
) -> AscendExecutor:
    with made(form, room):
        run = executor(compiled(graph(DTYPES[dtype], SHAPES[shape], page), TARGET))
    assert isinstance(run, AscendExecutor)
    return run


def attended(
    dtype: str,
    shape: str,
    lengths: Lengths,
    *,
    form: str | None = None,
    room: int | None = None,
    page: int = 16,
    seeds: Sequence[int] = (0,),
    cores: int = 24,
    args: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """The result, the same bits for all orders of cores, held to the numeric bar."""
    g, run = graph(DTYPES[dtype], SHAPES[shape], page), step(dtype, shape, form, room, page)
    args = args or arguments(lengths, DTYPES[dtype], SHAPES[shape], page)
    out: list[torch.Tensor] = []
    with mock.patch.object(run, "_cores", lambda: Cores(cores, 2 * cores)):
        for seed in seeds:
            with mock.patch.object(run, "options", replace(run.options, seed=seed)):
                out += call(g, run, args)
    units = 8 if dtype == "f32" else 4  # the cube core adds products one after the other
    Batch(g, args, [f"{lengths}"]).check(out[:1], ulps=units)
    assert all(torch.equal(x, out[0]) for x in out[1:])
    return out[0]


def slow(values: Iterable[Any]) -> list[Any]:
    return [pytest.param(v, marks=pytest.mark.slow) for v in values]


def expands(shape: Shape, dtype: str, new: int, before: int) -> bool:
    """What MlaRequests finds, with room for all keys."""
    heads, nope, rope, rank, v = shape
    size = DTYPES[dtype].itemsize
    fewest, saved, extra, _ = rule(rank, rope, nope, v, heads, size, heads > 64 and size == 2)
    pairs = new * before + new * (new + 1) // 2
    return new >= fewest and pairs * saved > before * extra


def break_even(shape: Shape, dtype: str, before: int) -> int:
    """The fewest new tokens that are expanded after `before` cached ones."""
    return next(n for n in range(1, 4000) if expands(shape, dtype, n, before))


FAST = {("bf16", "mini"), ("f16", "odd")}
CASES = [
    pytest.param(d, s, marks=() if (d, s) in FAST else pytest.mark.slow)
    for d in DTYPES
    for s in SHAPES
]


@pytest.mark.parametrize(("dtype", "shape"), CASES)
def test_lengths_around_every_choice(dtype: str, shape: str) -> None:
    page = 12 if shape == "odd" else 16
    for k, lengths in enumerate(LENGTHS.values()):
        cores = (24, 3, 1)[k % 3]
        attended(dtype, shape, lengths, form="often", page=page, seeds=(k, k + 9), cores=cores)


@pytest.mark.parametrize("before", [0, 150, 1000])
def test_the_form_is_that_of_the_rule(before: int) -> None:
    """To the bit the form that is made for it, on both sides of the break-even."""
    even = break_even(SHAPES["mini"], "bf16", before)
    for new, form in ((even - 1, "absorbed"), (even, "expanded"), (even + 3, "expanded")):
        assert_takes(form, ([new], [new + before]))


def assert_takes(form: str, lengths: Lengths) -> None:
    got = attended("bf16", "mini", lengths)
    other = "expanded" if form == "absorbed" else "absorbed"
    assert torch.equal(got, attended("bf16", "mini", lengths, form=form))
    assert not torch.equal(got, attended("bf16", "mini", lengths, form=other))


def test_a_short_prompt_is_expanded_unless_something_else_is_absorbed() -> None:
    assert_takes("expanded", ([20], [20]))
    assert_takes("expanded", ([20, 0, 40], [20, 9, 40]))
    assert_takes("absorbed", ([20, 1], [20, 60]))


@pytest.mark.slow
def test_where_values_are_wider_than_latents_nothing_is_expanded() -> None:
    lengths = [300], [300]
    got = attended("bf16", "never", lengths)
    assert torch.equal(got, attended("bf16", "never", lengths, form="absorbed"))


# Bytes of "mini" in bf16: a key of a head 256, an absorbed token 4096.
@pytest.mark.parametrize("room", [60 * 256, *slow(n * 256 for n in (130, 300, 700))])
def test_a_small_workspace(room: int) -> None:
    """Absorbed tokens come in pieces, heads and requests one after the other, and a request whose
    keys do not fit is absorbed."""
    long = [40, 1, 100, 0, 33, 20, 2], [40, 70, 260, 9, 33, 61, 2]
    attended("bf16", "mini", long, form="often", room=room, cores=5)
    for new, keys in ((50, 60), (100, 130), (100, 131), (90, 301)):
        got = attended("bf16", "mini", ([new], [keys]), form="often", room=room)
        form = "expanded" if keys * 256 <= room else "absorbed"
        want = attended("bf16", "mini", ([new], [keys]), form=form)
        # Other rounds are other shares of cores, whose parts are added up in another order.
        assert (got - want).float().norm() <= 3e-3 * want.float().norm()


def test_more_requests_than_a_batch_has() -> None:
    attended("bf16", "mini", ([17, 1, 18] * 15, [17, 40, 20] * 15), form="often")


@pytest.mark.slow
@pytest.mark.parametrize("page", [1, 128])
def test_pages_of_any_size(page: int) -> None:
    attended("bf16", "mini", ([80, 1, 40], [93, 13, 129]), form="often", page=page, cores=20)


def test_what_no_request_owns_does_not_matter() -> None:
    """Slots behind a context, pages of nobody and rows of no request may be NaN."""
    args = arguments(([70, 1, 100], [70, 37, 171]), torch.bfloat16, SHAPES["mini"])
    want = attended("bf16", "mini", ([], []), form="often", args=args)
    used = torch.zeros(args[1].shape[0], dtype=torch.bool)
    for r, n in enumerate([70, 37, 171]):
        at = torch.arange(n)
        used[args[4][r, at // 16] * 16 + at % 16] = True
    args[1][~used] = float("nan")
    args[0] = torch.cat((args[0], torch.full_like(args[0][:3], float("nan"))))
    g, run = graph(torch.bfloat16, SHAPES["mini"]), step("bf16", "mini", "often")
    got = call(g, run, args)[0]
    assert torch.equal(got[:-3], want)
    assert not got[-3:].any()


def test_scores_that_grow_along_the_context() -> None:
    args = arguments(([200, 2], [390, 700]), torch.bfloat16, SHAPES["mini"])
    args[1] *= (1 + torch.arange(len(args[1])) / 300)[:, None, None].bfloat16()
    attended("bf16", "mini", ([], []), form="often", args=args)


def test_a_captured_step_replays_for_other_lengths() -> None:
    """Grid, arguments and workspace are those of a capacity; the choice is made anew."""
    run = step("bf16", "mini", "often")
    g = graph(torch.bfloat16, SHAPES["mini"])
    with mock.patch.object(run, "capture", True):
        for lengths in (([60, 5], [60, 80]), ([5, 60], [80, 64]), ([1, 64], [33, 64])):
            args = arguments(lengths, torch.bfloat16, SHAPES["mini"])
            Batch(g, args, [f"{lengths}"]).check(call(g, run, args))
    assert len(run._graphs) == 1


def test_lengths_that_fit_nothing_are_harmless() -> None:
    """Contexts shorter than their queries or longer than their block table, or tokens beyond q."""
    shape, g = SHAPES["mini"], graph(torch.bfloat16, SHAPES["mini"])
    for index, value in ((3, 50), (3, 1 << 40), (3, -5), (2, -1)):
        args = arguments(([60, 1], [64, 7]), torch.bfloat16, shape)
        want = attended("bf16", "mini", ([], []), form="often", args=args)
        args[index].view(-1)[0] = value
        got = call(g, step("bf16", "mini", "often"), args)[0]
        assert torch.equal(got[60:], want[60:])


def test_the_workspace_is_bounded() -> None:
    g = run_pipeline(graph(torch.bfloat16, SHAPES["wide"]), ascend(TARGET))[0]
    (n,) = [n for n in g.nodes if n.op.name == "mla_attention"]
    heads, nope, _, rank, v = SHAPES["wide"]
    t, keys = n.inputs[0].shape[0], 16 * n.inputs[5].shape[0] * n.inputs[5].shape[1]
    size = mla_attention.room_bytes(heads * rank * 4, (nope + v) * 2, heads, t, keys)
    few, many = {"T": 4, "R": 4, "M": 8}, {"T": 8192, "R": 64, "M": 4096}
    assert evaluate(size, few) == 512 * heads * (nope + v) * 2
    assert evaluate(size, many) == mla_attention.ROOM


@pytest.mark.slow
def test_long_prompts_beside_decode_in_a_whole_model() -> None:
    model = zoo("deepseek_v3")
    with made("often", None):
        run = xcompile(model, strict=True, target=TARGET)
    assert run.compiled is not None
    assert "mla_attention" in {x.node.op.name for x in run.compiled.plan.launches}
    long = [(7 * i) % 60 + 3 for i in range(120)]
    feeds = [
        [[5, 6, 7], long[:45], [], []],
        [[21], long[45:], [], [9, 8, 7, 6]],
        [[22], [23], [], [24]],
    ]
    assert_follows_eager(Driver(run, 4), model, feeds)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_random_steps(dtype: str) -> None:
    rng = random.Random(dtype)
    cases = (("odd", None, 1), ("mini", 100 * 256, 16), ("mini", None, 128))
    for case in range(24):
        count = rng.randrange(1, 9)
        new = [rng.choice((0, 1, 1, 2, 4, 15, rng.randrange(1, 200))) for _ in range(count)]
        lens = [n + rng.choice((0, 0, rng.randrange(600))) for n in new]
        if not sum(new):
            continue
        shape, room, page = cases[case // 8]
        attended(
            dtype, shape, (new, lens), form="often", room=room, page=page,
            seeds=(case,), cores=rng.randint(1, 24),
        )  # fmt: skip
