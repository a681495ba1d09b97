"""The rope kernel on strided, broadcast and odd-sized operands."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tests.helpers import OPS, Batch
from xcompile import sim
from xcompile.ops.rope import ROPE

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
TYPES = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat16_t"}
F32, F16, BF16 = TYPES
# x, cos, dim, interleaved, whether cos holds one half
KINDS = [
    (BF16, BF16, 64, False, False),
    (BF16, BF16, 64, True, False),
    (BF16, F32, 64, True, True),
    (F32, F32, 128, False, True),
    (F32, F32, 64, True, False),
    (F16, F32, 128, False, False),
    (F16, F16, 128, True, True),
    (F32, F32, 8, False, False),
    (BF16, BF16, 24, True, True),
    (F16, F16, 80, False, False),
    (F32, BF16, 12, True, False),
]
SOURCE = '#include "rope.h"\nusing namespace AscendC;\n'
ENTRY = """
extern "C" __global__ __vector__ void rope{k}(GM_ADDR x, GM_ADDR c, GM_ADDR s, GM_ADDR y, GM_ADDR d) {{
  TPipe pipe;
  xc::Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  const __gm__ int64_t* v = (const __gm__ int64_t*)d;
  xc::RopeRows r;
  r.rank = 4;
  for (int k = 0; k < 4; ++k) {{
    r.size[k] = v[k], r.x[k] = v[4 + k], r.y[k] = v[8 + k], r.cos[k] = v[12 + k], r.sin[k] = v[16 + k];
    if (k < 3) r.last[k] = v[20 + k];
  }}
  xc::Rope<{x}, {c}, {c}, {dim}, {pairs}, {half}>().run(pipe, team, x, c, s, y, r);
  PipeBarrier<PIPE_ALL>();
}}
"""  # noqa: E501
for number, (tx, tc, size, pairs, half) in enumerate(KINDS):
    SOURCE += ENTRY.format(
        k=number, x=TYPES[tx], c=TYPES[tc], dim=size,
        pairs=str(pairs).lower(), half=str(half).lower(),
    )  # fmt: skip


def span(t):
    """A contiguous tensor that starts where t does and holds all of it."""
    size = 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))
    return t.as_strided((size if t.numel() else 0,), (1,))


def strides(t, rank):
    own = [0 if n == 1 else s for n, s in zip(t.shape, t.stride(), strict=True)]
    return [0] * (rank - t.dim()) + own


def launch(kind, x, cos, sin, y, blocks=48, seed=0):
    """Runs the kernel; operands may be views. What y's view leaves out stays as it is."""
    rows = [[1] * (5 - x.dim()) + list(x.shape[:-1])]
    rows += [strides(t, 5)[:4] for t in (x, y, cos, sin)]
    last = [t.stride(-1) if t.shape[-1] > 1 else 1 for t in (x, cos, sin)]
    dims = torch.tensor([*itertools.chain(*rows), *last])
    kernel = sim.load(SOURCE, f"rope{kind}", include=[LIB])
    return kernel(span(x), span(cos), span(sin), span(y), dims, blocks=blocks, seed=seed)


def angles(shape, dtype, rng):
    a = torch.rand(shape, generator=rng) * 50
    return a.cos().to(dtype), a.sin().to(dtype)


def check(kind, x, cos, sin, y=None, **kw):
    interleaved = KINDS[kind][3]
    y = torch.full(x.shape, 7.0, dtype=x.dtype) if y is None else y
    result = launch(kind, x, cos, sin, y, **kw)
    exact = ROPE.ref(x.double(), cos.double(), sin.double(), interleaved=interleaved)
    eager = ROPE.ref(x, cos.to(x.dtype), sin.to(x.dtype), interleaved=interleaved)
    ours, theirs = (y.double() - exact).abs(), (eager.double() - exact).abs()
    eps = torch.finfo(x.dtype).eps
    assert (ours <= 1.25 * theirs + 2 * eps * exact.abs().clamp(min=1)).all()
    return result


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_slices_of_heads(kind):
    """q of multi-head latent attention: the end of each head, cos over heads."""
    tx, tc, dim, _, half = KINDS[kind]
    rng = torch.Generator().manual_seed(kind)
    for tokens, heads, blocks in ((9, 5, 3), (1, 128, 48), (130, 1, 1), (3, 40, 1), (0, 4, 2)):
        q = torch.randn(tokens, heads, dim + 40, generator=rng).to(tx)
        cos, sin = angles((tokens, 1, dim // 2 if half else dim), tc, rng)
        check(kind, q[..., 40:], cos, sin, blocks=blocks, seed=tokens)


@pytest.mark.parametrize("kind", [0, 1, 3, 4, 8])
def test_layouts(kind):
    tx, tc, dim, _, half = KINDS[kind]
    rng = torch.Generator().manual_seed(kind)
    width = dim // 2 if half else dim
    # [B, H, S, D] that is laid out as [B, S, H, D], written so and as it is indexed
    x = torch.randn(2, 37, 3, dim, generator=rng).to(tx).transpose(1, 2)
    cos, sin = angles((2, 1, 37, width), tc, rng)
    check(kind, x, cos, sin)
    y = torch.zeros(2, 37, 3, dim, dtype=tx).transpose(1, 2)
    check(kind, x, cos, sin, y, blocks=5)
    # cos for all of a batch, and for nothing
    check(kind, x, cos[:1], sin[:1], blocks=2)
    check(kind, x, cos[0, 0], sin[0, 0], blocks=2)
    check(kind, x, *(t[0, 0, 0] for t in (cos, sin)), blocks=2)
    # cos and sin rows of a table, five dims, the result part of a wider row
    x = torch.randn(2, 2, 3, 5, dim, generator=rng).to(tx).permute(1, 0, 3, 2, 4)
    table, other = angles((2, 5, 1, width + 8), tc, rng)
    wide = torch.zeros(2, 2, 5, 3, dim + 16, dtype=tx)
    check(kind, x, table[..., 8:], other[..., :width], wide[..., 16:], blocks=4)
    assert not wide[..., :16].any()
    # elements that do not lie side by side
    x = torch.randn(4, dim, 6, generator=rng).to(tx).transpose(1, 2)
    cos, sin = angles((4, width, 6), tc, rng)
    check(kind, x, cos.transpose(1, 2), sin.transpose(1, 2), blocks=3)


def test_long_rows_of_cores():
    """More rows than fit one tile, cos of each row its own."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(3000, 64, generator=rng).bfloat16()
    cos, sin = angles((3000, 64), torch.bfloat16, rng)
    for kind, blocks in ((0, 1), (1, 7)):
        check(kind, x, cos, sin, blocks=blocks)


def test_emitted(rng):
    """The template, in a compiled graph."""
    b = Batch()
    for shape, angle, dtype, interleaved in (
        ((2, 3, 5, 8), (2, 1, 5, 8), F32, False),
        ((9, 5, 64), (9, 1, 32), BF16, True),
        ((7, 64), (7, 64), F16, True),
        ((128,), (64,), F32, False),
        ((2, 1, 2, 3, 32), (3, 32), BF16, False),
    ):
        x, (cos, sin) = torch.randn(shape, generator=rng).to(dtype), angles(angle, dtype, rng)
        b.op(f"rope of {shape}", OPS["rope"], [x, cos, sin], {"interleaved": interleaved})
    b.check(b.run("ascend910b"))
