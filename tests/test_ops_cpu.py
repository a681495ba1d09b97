"""Every op on the CPU target against its reference: all levels, fp32 and bf16, odd and tiny sizes.

All cases of one dtype are outputs of one graph, because each compilation costs a compiler run.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from tests.helpers import FAST_LEVELS, LEVELS_HERE, OPS, WEIGHTS, Batch, call, compiled, in_dtype
from xcompile.compiler import executor
from xcompile.ir import Op
from xcompile.ops.norm import DECOMPOSE
from xcompile.ops.reduce import REDUCTIONS

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
SAMPLED = {n: op for n, op in OPS.items() if op.sample}
BY_ROW = {*REDUCTIONS, "topk", "sort", "cumsum", "argmax", "gather"}
Case = tuple[str, Op, list[torch.Tensor], dict[str, Any]]

LEVELS = [
    pytest.param(level, marks=() if level in FAST_LEVELS else pytest.mark.slow)
    for level in LEVELS_HERE
]


def rows(args: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    """Only `count` of the first dim of the first operand, and of all that share it."""
    n = args[0].shape[0]
    return [a[:count] if a.dim() and a.shape[0] == n else a for a in args]


def cases(dtype: torch.dtype, rng: torch.Generator) -> Iterator[Case]:
    """Samples, then the same with no row, one row, and one column, where the op has that."""
    for name, op in SAMPLED.items():
        assert op.sample is not None
        args, attrs = op.sample(rng)
        args = in_dtype(args, dtype)
        yield name, op, args, attrs
        yield from _tiny(name, op, args, attrs)


def _tiny(name: str, op: Op, args: list[torch.Tensor], attrs: dict[str, Any]) -> Iterator[Case]:
    if name in ("full", "iota"):
        for shape in ((0, 3), (1, 1), (1, 7)):
            yield f"{name} {shape}", op, [], {**attrs, "shape": shape}
    elif name == "embedding":
        for k in (0, 1):
            yield f"embedding of {k}", op, [args[0], args[1][:k]], attrs
    elif name == "index_copy":
        x, index, src = args
        for k in (0, 1):
            yield f"index_copy of {k}", op, [x, index[:k], src[:k]], attrs
    elif name == "reshape":
        yield "reshape of 0", op, [args[0][:0]], {"shape": (0, 5, 12)}
        yield "reshape of 1", op, [args[0][:1]], {"shape": (60, 1)}
    elif name == "expand":
        yield "expand of 0", op, [args[0][:0]], {"shape": (2, 0, 5, 10)}
    elif name == "cat":
        yield "cat of nothing", op, [args[0][:, :0], *args[1:]], attrs
        yield "cat of 0 rows", op, rows(args, 0), attrs
    elif name not in ("paged_attention", "mla_attention"):  # they have files of their own
        for k in (0, 1):
            yield f"{name} of {k} rows", op, rows(args, k), attrs
    if args and (op.pointwise or op in DECOMPOSE or name in BY_ROW):
        one = [a[..., :1] for a in args]
        if name == "gather":
            one[1] = torch.zeros_like(one[1])
        yield f"{name} of 1 column", op, one, {**attrs, "k": 1} if name == "topk" else attrs
    if op.pointwise and args:
        yield f"{name} of scalars", op, [a.flatten()[0] for a in args], attrs


@cache
def batch(dtype: str) -> Batch:
    b = Batch()
    for name, op, args, attrs in cases(DTYPES[dtype], torch.Generator().manual_seed(0)):
        b.op(name, op, [a.contiguous() for a in args], attrs, WEIGHTS.get(name.split(" ")[0], ()))
    b.graph.verify()
    return b


@cache
def results(dtype: str, level: str, threads: int) -> list[torch.Tensor]:
    return call(batch(dtype).graph, executor(library(dtype, level), threads), batch(dtype).args)


@cache
def library(dtype: str, level: str) -> Any:
    return compiled(batch(dtype).graph, f"cpu/{level}")


def test_every_op_has_a_case_and_a_level_to_run_on() -> None:
    assert {n.split(" ")[0] for n in batch("f32").names} == {*SAMPLED}
    assert "portable" in FAST_LEVELS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_op_is_as_close_as_eager(level: str, dtype: str) -> None:
    batch(dtype).check(results(dtype, level, 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", LEVELS)
def test_bits_do_not_depend_on_the_threads(level: str, dtype: str) -> None:
    want = results(dtype, level, 1)
    for threads in (2, 3):
        for name, a, b in zip(
            batch(dtype).names, want, results(dtype, level, threads), strict=True
        ):
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)), f"{name}, {threads} threads"


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_earlier_calls(dtype: str) -> None:
    run = executor(library(dtype, FAST_LEVELS[0]), 2)
    first, second = (call(batch(dtype).graph, run, batch(dtype).args) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
