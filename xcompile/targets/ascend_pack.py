"""Weights as the cube unit reads them.

`nz{P}`: w[..., N, K] -> [..., N/P, K/k0, P, k0], zero padded, k0 = 32 bytes. A panel of P rows over
any range of K is one contiguous transfer, lies in L1 as NZ, and goes to L0B without transposition.
`nz{P}_gated`: of two weights, a panel holds P/2 rows of the first, then P/2 of the second.
`nz{P}_experts_gated`: w[E, 2I, K], gate's rows then up's, as such panels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F

KIND = re.compile(r"nz(\d+)(_gated|_experts_gated|_experts)?")


def pack(
    kind: str, weights: Sequence[torch.Tensor], out: torch.Tensor | None = None
) -> torch.Tensor:
    """A constant packed; into `out` if that is given. Works on meta tensors."""
    if kind == "raw":
        (w,) = weights
        return w.contiguous() if out is None else out.copy_(w)
    found = KIND.fullmatch(kind)
    assert found is not None, kind
    if found[2] == "_experts_gated":
        weights = weights[0].chunk(2, dim=-2)
    return panels(weights, int(found[1]), out)


def panels(
    weights: Sequence[torch.Tensor], panel: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    *lead, n, k = weights[0].shape
    width = panel // len(weights)
    k0 = 32 // weights[0].dtype.itemsize
    if out is None:
        out = weights[0].new_empty([*lead, -(-n // width), -(-k // k0), panel, k0])
    for part, w in zip(out.split(width, -2), weights, strict=True):
        padded = F.pad(w, (0, -k % k0, 0, -n % width))
        # [.., N/w, w, K/k0, k0] -> [.., N/w, K/k0, w, k0]
        part.copy_(padded.unflatten(-1, (-1, k0)).unflatten(-3, (-1, width)).transpose(-3, -2))
    return out
