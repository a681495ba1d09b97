"""What benchmarks/groupgemm_ascend.py compares computes the same, with every check on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.groupgemm_ascend import FUSED, HIDDEN, INT8, UNFUSED, Call, align, bf16, route
from xcompile.codegen.ascend.moe_experts import choose
from xcompile.ops.moe import MOE_EXPERTS
from xcompile.targets.ascend import CHIPS
from xcompile.targets.ascend_pack import pack


@pytest.mark.parametrize("routing", ["uniform", "zipf", "onehot"])
def test_separate_operations_equal_the_fused_kernel(routing: str) -> None:
    n, k, experts, inner = 70, 2, 5, 80
    chip = CHIPS["ascend910b"]
    g = torch.Generator().manual_seed(0)
    ids = route(routing, n, k, experts)
    call = Call.make(ids, experts, inner)
    up = (torch.randn(experts, 2 * inner, HIDDEN, generator=g) / HIDDEN**0.5).bfloat16()
    down = (torch.randn(experts, HIDDEN, inner, generator=g) / inner**0.5).bfloat16()
    x, _, weight, *_, space = call.memory
    x.normal_(generator=g)
    weight.uniform_(generator=g)
    panels = choose(chip, inner, True).panel, choose(chip, HIDDEN, False).panel
    packed = (
        align(pack(f"nz{panels[0]}_experts_gated", [up])),
        align(pack(f"nz{panels[1]}_experts", [down])),
    )
    results = []
    for kernels in (FUSED, UNFUSED):
        y = bf16(*x.shape)
        again = replace(call, memory=(*call.memory[:3], *packed, y, space))
        run = again.run(kernels, checks="all")
        assert list(run.us) == [name for name, _ in kernels] and run.read > 0
        results.append(y)
    assert torch.equal(*results)
    exact = MOE_EXPERTS.ref(
        x.double(), ids, weight.double(), up.double(), down.double(), act="silu"
    )
    torch.testing.assert_close(results[0].double(), exact, rtol=0.02, atol=0.02)


def test_int8_runs() -> None:
    """Its packed sizes and workspace are the kernel's: every check is on."""
    run = Call.int8(route("uniform", 20, 2, 5), 5, 80).run(INT8, checks="all")
    assert list(run.us) == ["int8"] and run.total > 0
