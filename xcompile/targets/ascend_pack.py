"""Weights as the cube unit reads them.

`nz{P}`: w[..., N, K] -> [..., N/P, K/k0, P, k0], zero padded, k0 = 32 bytes. A panel of P rows over
any range of K is one contiguous transfer, lies in L1 as NZ, and goes to L0B without transposition.
`nz{P}_gated`: of two weights, a panel holds P/2 rows of the first, then P/2 of the second.
`nz{P}_experts_gated`: w[E, 2I, K], gate's rows then up's, as such panels.
`row{P}...`: a bias b[E, N] for weights packed alike -> float32 [E, N/P, P].
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F

KIND = re.compile(r"(nz|row)(\d+)(_gated|_experts_gated|_experts)?")


def pack(
    kind: str, weights: Sequence[torch.Tensor], out: torch.Tensor | None = None
) -> torch.Tensor:
    """A constant packed; into `out` if that is given. Works on meta tensors."""
    if kind == "raw":
        (w,) = weights
        return w.contiguous() if out is None else out.copy_(w)
    found = KIND.fullmatch(kind)
    assert found is not None, kind
    if found[1] == "row":
        weights = [w.float().unsqueeze(-1) for w in weights]
    if found[3] == "_experts_gated":
        weights = weights[0].chunk(2, dim=-2)
    return panels(weights, int(found[2]), out, rows=found[1] == "row")


def panels(
    weights: Sequence[torch.Tensor],
    panel: int,
    out: torch.Tensor | None = None,
    *,
    rows: bool = False,
) -> torch.Tensor:
    """Weights [..., N, K] in panels; rows: K is 1, and not padded."""
    *lead, n, k = weights[0].shape
    width = panel // len(weights)
    k0 = 1 if rows else 32 // weights[0].dtype.itemsize
    if out is None:
        out = weights[0].new_empty([*lead, -(-n // width), -(-k // k0), panel, k0])
    for part, w in zip(out.split(width, -2), weights, strict=True):
        padded = F.pad(w, (0, -k % k0, 0, -n % width))
        # [.., N/w, w, K/k0, k0] -> [.., N/w, K/k0, w, k0]
        part.copy_(padded.unflatten(-1, (-1, k0)).unflatten(-3, (-1, width)).transpose(-3, -2))
    return out
