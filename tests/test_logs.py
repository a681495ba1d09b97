"""log1p, softplus, log_sigmoid and logsumexp as compositions, against torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from xcompile import compile as xcompile

CASES = {
    "log1p": lambda x: torch.log1p(x.abs()),
    "log1p below 0": lambda x: torch.log1p(-x.abs().clamp(max=0.999)),
    "softplus": F.softplus,
    "softplus, beta": lambda x: F.softplus(x, beta=2.5, threshold=3),
    "log_sigmoid": F.logsigmoid,
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "logsumexp, first": lambda x: torch.logsumexp(x, 0, keepdim=True),
    "logsumexp, both": lambda x: torch.logsumexp(x, (0, 1)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_functions_of_logarithms_are_those_of_torch(dtype: torch.dtype) -> None:
    sizes = [0.0, 1e-30, 1e-9, 1e-5, 1e-3, 0.3, 1.0, 7.0, 19.9, 20.1, 88.0, 1e4, 1e30]
    x = torch.tensor([s * v for v in sizes for s in (1, -1)]).view(2, 13).to(dtype)
    rows = torch.stack([x[0], x[1], torch.full((13,), -float("inf")), x[0].flip(0) / 3])

    def model(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(f(y if "sum" in name else x) for name, f in CASES.items())

    run = xcompile(model, (x, rows.to(dtype)), strict=True)
    got = run(x, rows.to(dtype))
    for name, a, b in zip(CASES, got, model(x, rows.to(dtype)), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype, name
        tight = 4e-7 if dtype == torch.float32 else 4e-3
        torch.testing.assert_close(a, b, rtol=tight * 2, atol=1e-37, msg=lambda m, n=name: n + m)
