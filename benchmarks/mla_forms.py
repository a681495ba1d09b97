"""Absorbed against expanded latent attention in whole models, on the CPU: where each is faster.

    python -m benchmarks.mla_forms --door compile --batch 4 --new 1
    python -m benchmarks.mla_forms --door step --context 2048
    python -m benchmarks.mla_forms --door step --context 2048 --wide

`compile`: `--new` tokens after a context through torch.compile over a cache of transformers, with
and without the pass rewrite_mla. `step`: a prompt, or its piece after `--past` tokens, through the
serving step that chooses a form for each request, against one that absorbs all, and one that caches
keys and values of all heads. `--wide`: one layer with the widths of DeepSeek-V3's attention and 32
heads. Pairs in one process, on the same weights; CPU time. A ratio above 1 means that the first of
a pair is faster.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.measure import paired
from benchmarks.models import DTYPES, build
from benchmarks.subjects import Ours, Tokens
from xcompile.frontend import hf_mla
from xcompile.passes import rewrite_mla
from xcompile.targets.cpu import Cpu

Step = Callable[[], Any]


WIDE = {
    "num_hidden_layers": 1,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}


def forced(module: Any, name: str, answer: bool) -> Any:
    """A decision of ours, made for it."""
    return mock.patch.object(module, name, lambda *args: answer)


def through_compile(a: argparse.Namespace, model: Any) -> None:
    """Each form against transformers itself: torch.compile keeps one of them at a time."""
    ids = torch.randint(3, model.config.vocab_size, (a.batch, a.context))
    past = model(ids, use_cache=True).past_key_values

    def step(run: Callable[..., Any]) -> Tensor:
        cache = copy.copy(past)
        cache.layers = [copy.copy(layer) for layer in past.layers]
        return run(ids[:, : a.new], past_key_values=cache, use_cache=True).logits

    for name, answer in (("absorbed", True), ("expanded", False)):
        torch._dynamo.reset()
        run = torch.compile(model, backend="xllm", dynamic=True, options={"threads": 1})
        with forced(rewrite_mla, "_pays", answer):
            step(run), step(run)
            show(f"{a.batch} x {a.new} after {a.context}", name, partial(step, run), "eager",
                 partial(step, model), a.pairs)  # fmt: skip


def through_step(a: argparse.Namespace, model: Any) -> None:
    """A prompt, in pairs of what the step chooses and each form."""
    tokens = Tokens(model.config.vocab_size, a.context)
    chosen = Ours(model, tokens, 1).prefill(a.past)
    with mock.patch.object(Cpu, "chooses_mla", False):
        absorbed = Ours(model, tokens, 1).prefill(a.past)
    with forced(hf_mla, "is_mla", False):
        cached = Ours(model, tokens, 1).prefill(a.past)
    for name, peer in (("absorbed", absorbed), ("all heads cached", cached)):
        show(f"{a.context} tokens after {a.past}", "chosen", chosen, name, peer, a.pairs)


def show(what: str, one: str, mine: Step, other: str, peer: Step, count: int) -> None:
    mine(), peer()
    pairs = paired(mine, peer, count, 0.3)
    first, second = (1e3 * median(x["cpu"]) for x in (pairs.ours, pairs.peer))
    print(f"{what}: {one} {first:.1f} ms, {other} {second:.1f} ms, ratio "
          f"{pairs.ratio('cpu').text(2)}", flush=True)  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--door", choices=["compile", "step"], default="compile")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--new", type=int, default=1)
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    p.add_argument("--past", type=int, default=0)
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--wide", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = build("ds-mini", DTYPES[a.dtype], **(WIDE if a.wide else {}))
    (through_step if a.door == "step" else through_compile)(a, model)


if __name__ == "__main__":
    main()
