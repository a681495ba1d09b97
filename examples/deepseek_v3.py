"""DeepSeek-V3 in small: compile, save, load in another process, generate the same tokens.

    python examples/deepseek_v3.py              the whole way, compared with eager
    xcompile examples/deepseek_v3.py -o out     the same model from the command line

The weights are random; the structure is the real one: multi-head latent attention with low-rank
queries and keys, rotary and plain parts of a head, a first dense layer, then routed experts
(grouped sigmoid router with corrections) and a shared expert.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import transformers

PROMPTS = [[1, 17, 101, 42, 9, 77, 5], [1, 3, 3, 7], [1, 200, 150, 100, 50, 25, 12, 6, 3]]
NEW_TOKENS = 24


def build(seed: int = 0) -> transformers.DeepseekV3ForCausalLM:
    """A random model whose routers and attention are well spread, so that a mistake shows."""
    config = transformers.DeepseekV3Config(
        vocab_size=512,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=64,
        num_hidden_layers=4,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=16,
        n_shared_experts=1,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        q_lora_rank=64,
        kv_lora_rank=48,
        qk_nope_head_dim=32,
        qk_rope_head_dim=16,
        v_head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.DeepseekV3ForCausalLM(config).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            p.copy_(1 + 0.1 * torch.randn(p.shape, generator=rng))
        else:
            scale = 1.0 if "embed_tokens" in name else 1.3 / math.sqrt(p.shape[-1])
            p.copy_(scale * torch.randn(p.shape, generator=rng))
    for name, b in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            b.copy_(0.1 * torch.randn(b.shape, generator=rng))
    model.generation_config = transformers.GenerationConfig(pad_token_id=0, bos_token_id=1)
    return model


model = build()

SERVE = """
import json, sys, time
import xcompile
exe = xcompile.load(sys.argv[1])
prompts, count = json.loads(sys.argv[2]), int(sys.argv[3])
exe.generate(prompts, 2)  # the first steps touch the memory
start = time.perf_counter()
tokens = exe.generate(prompts, count)
seconds = time.perf_counter() - start
assert "transformers" not in sys.modules
print(json.dumps([tokens, seconds]))
"""


def eager() -> tuple[list[list[int]], float]:
    """Greedy continuations by transformers, and the seconds they took."""

    def run(prompt: list[int], count: int) -> list[int]:
        ids = torch.tensor([prompt])
        out = model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=None)
        return out[0, len(prompt) :].tolist()

    run(PROMPTS[0], 2)
    start = time.perf_counter()
    tokens = [run(p, NEW_TOKENS) for p in PROMPTS]
    return tokens, time.perf_counter() - start


def serve(path: Path) -> tuple[list[list[int]], float]:
    """The same by the artifact, in a process that never imports transformers."""
    command = [sys.executable, "-c", SERVE, str(path), json.dumps(PROMPTS), str(NEW_TOKENS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"the serving process failed:\n{result.stderr}")
    tokens, seconds = json.loads(result.stdout.splitlines()[-1])
    return tokens, seconds


def main() -> None:
    import xcompile

    warnings.simplefilter("ignore", FutureWarning)  # of torch about its own code
    count = sum(p.numel() for p in model.parameters())
    print(f"model     DeepSeek-V3, {count / 1e6:.1f} M parameters, 4 layers, 16 experts")
    start = time.perf_counter()
    exe = xcompile.compile(model)
    seconds = time.perf_counter() - start
    plan = exe.compiled.plan
    print(
        f"compiled  {seconds:.1f} s: {len(plan.launches)} launches of {len(plan.kernels)} kernels"
    )
    want, eager_seconds = eager()
    with tempfile.TemporaryDirectory() as tmp:
        path = exe.save(Path(tmp) / "deepseek_v3")
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        print(f"saved     {size / 1e6:.1f} MB, loaded again in a new process")
        got, seconds = serve(path)
    total = sum(map(len, want))
    print(
        f"eager     {eager_seconds:.2f} s, {total / eager_seconds:.0f} tokens/s (prompt by prompt)"
    )
    print(f"xcompile  {seconds:.3f} s, {total / seconds:.0f} tokens/s (all prompts in one batch)")
    if got != want:
        sys.exit(f"tokens    differ\n  eager    {want}\n  xcompile {got}")
    print(f"tokens    equal: {total} of {total}, the first are {got[0][:8]}")


if __name__ == "__main__":
    main()
