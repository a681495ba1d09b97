"""Attention sinks and windows on the CPU: the ops against their references, gpt_oss end to end."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers

from tests.helpers import (
    LEVELS_HERE,
    OPS,
    Batch,
    assert_close_to_reference,
    call,
    compiled,
    graph_of,
)
from tests.test_families import Driver, assert_follows_eager, eager_rows, force_routing, greedy
from tests.test_kernels import RAGGED, Cases, paged_arguments
from tests.zoo_moe import spread
from xcompile import compile as xcompile
from xcompile.compiler import executor
from xcompile.errors import UnsupportedError
from xcompile.executable import Executable
from xcompile.frontend import huggingface as hf
from xcompile.ir import Graph, Type, Value
from xcompile.symbolic import Range, symbol
from xcompile.targets.cpu import best_isa

F32, BF16, I64 = torch.float32, torch.bfloat16, torch.int64
DTYPES = {"f32": F32, "bf16": BF16}
FAST = [(best_isa(), "bf16"), ("avx2", "f32")]
KINDS = [
    pytest.param(level, dtype, marks=() if (level, dtype) in FAST else pytest.mark.slow)
    for level in LEVELS_HERE for dtype in DTYPES
]  # fmt: skip
SHAPES = [(4, 2, 24, 20), (16, 1, 64, 64)]


def sinks_for(heads: int) -> torch.Tensor:
    """Some that hardly count, some that take nearly all."""
    return torch.linspace(-8.0, 8.0, heads)


# -- kernels ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("level", "dtype"), KINDS)
def test_dense_attention_with_sinks(level: str, dtype: str) -> None:
    b = Cases(DTYPES[dtype])
    for name, (n, h, hk, s, t, d, dv) in {
        "one query": (2, 4, 2, 1, 37, 24, 20),
        "some": (1, 6, 3, 5, 300, 64, 64),
        "square": (1, 2, 2, 64, 64, 32, 32),
    }.items():
        q, k, v = b.random(n, h, s, d), b.random(n, hk, t, d), b.random(n, hk, t, dv)
        keep = torch.rand(n, 1, s, t, generator=b.rng) > 0.3
        keep[..., -1, :] = False  # sees nothing but the sink
        sinks = sinks_for(h)
        b.case(name, "attention", q, k, v, sinks, causal=False, scale=d**-0.5)
        b.case(f"{name}, causal", "attention", q, k, v, sinks, causal=True, scale=d**-0.5)
        b.case(f"{name}, mask", "attention", q, k, v, keep, sinks, causal=False, scale=d**-0.5)
    b.check(b.run(f"cpu/{level}"))


@cache
def paged(dtype: torch.dtype, shape: tuple[int, ...], level: str, window: int, sinks: bool) -> Any:
    heads, kv, d, dv = shape
    t, r, m, s = (symbol(n) for n in ("T", "R", "M", "slots"))
    types = [
        Type(dtype, (t, heads, d)), Type(dtype, (s, kv, d)), Type(dtype, (s, kv, dv)),
        Type(I64, (r + 1,)), Type(I64, (r,)), Type(I64, (r, m)),
    ]  # fmt: skip
    types += [Type(F32, (heads,))] * sinks
    symbols = {"T": Range(1, 512, 8), "R": Range(1, 64, 2), "M": Range(1, 1024, 4),
               "slots": Range(1, 1 << 16, 64)}  # fmt: skip
    attrs = {"scale": d**-0.5, "page": 4} | ({"window": window} if window else {})

    def build(g: Graph, *values: Value) -> list[Value]:
        return [g.add(OPS["paged_attention"], *values, **attrs)]

    g = graph_of(build, *types, symbols=symbols)
    return g, compiled(g, f"cpu/{level}")


@pytest.mark.parametrize(("window", "sinks"), [(0, True), (5, False), (200, True)])
@pytest.mark.parametrize(("level", "dtype"), KINDS)
def test_paged_attention_with_sinks_and_windows(
    level: str, dtype: str, window: int, sinks: bool
) -> None:
    for shape in SHAPES:
        g, library = paged(DTYPES[dtype], shape, level, window, sinks)
        runs = [executor(library, n) for n in (1, 3)]
        for name in RAGGED:
            args = paged_arguments(name, DTYPES[dtype], *shape)
            args += [sinks_for(shape[0])] * sinks
            got = [call(g, run, args)[0] for run in runs]
            Batch(g, args, [f"{name}, {shape}"]).check(got[:1])
            assert torch.equal(got[0], got[1]), name


def test_keys_before_the_window_are_not_read() -> None:
    g, library = paged(BF16, (4, 2, 24, 20), best_isa(), 5, False)
    args = paged_arguments("long context", BF16, 4, 2, 24, 20)
    want = call(g, executor(library, 2), args)[0]
    seen = torch.zeros(args[1].shape[0], dtype=torch.bool)
    for r, (new, context) in enumerate(zip(*RAGGED["long context"], strict=True)):
        at = torch.arange(max(0, context - new - 64), context)
        seen[args[5][r, at // 4] * 4 + at % 4] = True
    for cache_ in args[1:3]:
        cache_[~seen] = float("nan")
    assert torch.equal(call(g, executor(library, 2), args)[0], want)


def test_sinks_of_another_type_are_refused() -> None:
    q = Type(BF16, (1, 4, 1, 8))
    with pytest.raises(Exception, match=r"attention takes sinks f32\[4\], given bf16\[4\]"):
        graph_of(
            lambda g, *x: [g.add(OPS["attention"], *x, causal=False, scale=1.0)],
            q, q, q, Type(BF16, (4,)),
        )  # fmt: skip


# -- models ----------------------------------------------------------------------------------------
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20], [30 + i for i in range(21)]]
FEEDS = [
    [PROMPTS[0], PROMPTS[1], [], PROMPTS[3][:9]],  # a prompt in pieces, one waiting
    [[21], [22], PROMPTS[2], PROMPTS[3][9:]],  # decode and prefill in one step
    [[23, 24], [25], [26, 27, 28], [29]],
    [[], [], [], [31]],
]


def gpt_oss(dtype: torch.dtype = F32) -> Any:
    """Layers of a window of 16 tokens alternate with full ones."""
    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        vocab_size=97, hidden_size=32, intermediate_size=24, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_local_experts=4,
        num_experts_per_tok=2, max_position_embeddings=128, sliding_window=16, pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        attn_implementation="eager",
    )  # fmt: skip
    model = transformers.GptOssForCausalLM(config).eval().requires_grad_(False)
    spread(model)
    for layer in model.model.layers:
        layer.self_attn.sinks.mul_(10)
    return model.to(dtype)


@cache
def gpt_oss_and_step() -> tuple[Any, Executable]:
    model = gpt_oss()
    return model, xcompile(model, threads=2, strict=True)


def test_gpt_oss_step_is_eager() -> None:
    model, run = gpt_oss_and_step()
    assert run.compiled is not None and not run.compiled.imported.islands
    ops = [n for n in run.compiled.imported.graph.nodes if n.op.name == "paged_attention"]
    assert [n.attrs.get("window") for n in ops] == [16, None] * 2
    assert all(len(n.inputs) == 7 for n in ops)
    assert_follows_eager(Driver(run, len(PROMPTS)), model, FEEDS)


def test_gpt_oss_generates_what_transformers_does() -> None:
    model, run = gpt_oss_and_step()
    assert run.generate(PROMPTS, 6, eos=()) == greedy(model, PROMPTS, 6)


def test_gpt_oss_in_bf16_is_as_close_as_eager() -> None:
    model, exact = gpt_oss(BF16), gpt_oss(F32)
    exact.load_state_dict({k: v.float() for k, v in model.state_dict().items()})
    assert force_routing(model) == force_routing(exact) == 4
    run = xcompile(model, threads=2, strict=True)
    ids = torch.randint(3, 97, (5, 40), generator=torch.Generator().manual_seed(0)).tolist()
    # rows of a step decide the routing here, so prompts go one at a time
    got = torch.cat([Driver(run, 1)([p]) for p in ids])
    eager, reference = eager_rows(model, ids), eager_rows(exact, ids)
    assert_close_to_reference(got, eager, reference, what="gpt_oss")


def test_torch_compile_of_a_prepared_gpt_oss() -> None:
    model = gpt_oss()
    ids = torch.tensor([PROMPTS[3]])
    want = model(ids, use_cache=False).logits
    with hf.prepared(model):
        torch._dynamo.reset()
        got = torch.compile(model, backend="xllm")(ids, use_cache=False).logits
    assert float((got - want).norm() / want.norm()) < 1e-5


def test_ascend_refuses_sinks_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"paged_attention with .* only on cpu"):
        xcompile(gpt_oss(), target="ascend910b")
