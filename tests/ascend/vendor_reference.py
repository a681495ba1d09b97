"""The vendor's operators on CPU: schemas from the torch_npu wheel, results from our references.

`install` defines the operators that the emitted modules can call, so a wrong keyword, a missing
argument or a wrong type is rejected as torch_npu would reject it. The implementations also check
what torch_npu's own meta functions let pass (k above the number of experts, inner sizes that
differ) and what its documentation demands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from xcompile.ops.attention import _paged_ref as paged_ref
from xcompile.ops.norm import RMS_NORM
from xcompile.ops.rope import ROPE
from xcompile.ops.route import DEFAULTS, MOE_ROUTE

IMPLEMENTATIONS: dict[str, Callable] = {}


def implements(f: Callable) -> Callable:
    IMPLEMENTATIONS[f.__name__] = f
    return f


def install(text: str) -> torch.library.Library:
    """Defines torch.ops.npu; `text` is the wheel's file of schemas."""
    found: dict[str, str] = {}
    for schema in re.findall(r"^(?:- )?\s*func: (\w+\(.*\) -> .*)$", text, re.MULTILINE):
        found.setdefault(schema.partition("(")[0], schema)  # derivatives come after
    library = torch.library.Library("npu", "DEF")
    for name, f in IMPLEMENTATIONS.items():
        library.define(found[name])
        library.impl(name, f, "CompositeExplicitAutograd")
    return library


def seen(name: str) -> None:
    CALLS[name] = CALLS.get(name, 0) + 1


CALLS: dict[str, int] = {}


def _float(*tensors: torch.Tensor) -> None:
    for t in tensors:
        assert t.dtype in (torch.float32, torch.float16, torch.bfloat16)
        assert t.dtype == tensors[0].dtype


@implements
def npu_rms_norm(
    self: torch.Tensor, gamma: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    seen("npu_rms_norm")
    _float(self, gamma)
    assert 2 <= self.dim() <= 8 and gamma.shape == self.shape[-1:]
    rstd = self.float().square().mean(-1, keepdim=True).add(epsilon).rsqrt()
    return RMS_NORM.ref(self, gamma, eps=epsilon), rstd


@implements
def npu_add_rms_norm(
    x1: torch.Tensor, x2: torch.Tensor, gamma: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    seen("npu_add_rms_norm")
    _float(x1, x2, gamma)
    assert x1.shape == x2.shape
    x = x1 + x2
    y, rstd = npu_rms_norm(x, gamma, epsilon)
    return y, rstd, x


@implements
def npu_swiglu(self: torch.Tensor, dim: int = -1) -> torch.Tensor:
    seen("npu_swiglu")
    _float(self)
    assert self.shape[dim] % 2 == 0
    a, b = self.float().chunk(2, dim)
    return (F.silu(a) * b).to(self.dtype)


@implements
def npu_rotary_mul(
    self: torch.Tensor,
    r1: torch.Tensor,
    r2: torch.Tensor,
    rotary_mode: str = "half",
    rotate: torch.Tensor | None = None,
) -> torch.Tensor:
    seen("npu_rotary_mul")
    _float(self, r1, r2)
    assert self.dim() == r1.dim() == r2.dim() == 4 and rotary_mode == "half" and rotate is None
    assert self.shape[-1] == r1.shape[-1] == r2.shape[-1] < 896
    return ROPE.ref(self, r1, r2, interleaved=False)


@implements
def npu_moe_gating_top_k_softmax_v2(
    x: torch.Tensor,
    *,
    k: int = 1,
    finished: torch.Tensor | None = None,
    renorm: int = 0,
    output_softmax: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    seen("npu_moe_gating_top_k_softmax_v2")
    _float(x)
    assert finished is None and not output_softmax and 0 < k <= min(x.shape[-1], 1024)
    score = "softmax_topk" if renorm else "softmax"
    y, index = MOE_ROUTE.ref(x, **{**DEFAULTS, "k": k, "score": score})
    return y.to(x.dtype), index.int(), x.new_empty(0, dtype=torch.float32)


@implements
def npu_moe_gating_top_k(
    x: torch.Tensor,
    k: int,
    *,
    bias: torch.Tensor | None = None,
    input_ids: torch.Tensor | None = None,
    tid2eid: torch.Tensor | None = None,
    k_group: int = 1,
    group_count: int = 1,
    group_select_mode: int = 0,
    renorm: int = 0,
    norm_type: int = 0,
    out_flag: bool = False,
    routed_scaling_factor: float = 1.0,
    eps: float = 1e-20,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    seen("npu_moe_gating_top_k")
    _float(x, *([] if bias is None else [bias]))
    experts = x.shape[-1]
    size = experts // group_count
    assert x.dim() == 2 and experts <= 2048 and experts % group_count == 0 and size > 2
    assert 1 <= k_group <= group_count and 1 <= k <= size * k_group and renorm == 0
    assert -(-size // 32) * 32 * group_count <= 2048 and norm_type == 1
    assert input_ids is None and tid2eid is None
    attrs = {**DEFAULTS, "k": k, "score": "sigmoid", "groups": group_count, "topk_group": k_group}
    attrs |= {"group_score": ("max", "top2sum")[group_select_mode], "renorm": True, "eps": eps}
    given = [x] if bias is None else [x, bias]
    y, index = MOE_ROUTE.ref(*given, **{**attrs, "scale": routed_scaling_factor})
    return y.to(x.dtype), index.int(), x.new_empty(0, dtype=torch.float32)


@implements
def npu_moe_init_routing_v2(
    x: torch.Tensor,
    expert_idx: torch.Tensor,
    *,
    scale: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    active_num: int = -1,
    expert_capacity: int = -1,
    expert_num: int = -1,
    drop_pad_mode: int = 0,
    expert_tokens_num_type: int = 0,
    expert_tokens_num_flag: bool = False,
    quant_mode: int = -1,
    active_expert_range: Sequence[int] = (),
    row_idx_type: int = 0,
    x_dtype: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    seen("npu_moe_init_routing_v2")
    _float(x)
    n, k = expert_idx.shape
    assert x.dim() == 2 and x.shape[0] == n and expert_idx.dtype == torch.int32 and k <= expert_num
    assert scale is None and offset is None and drop_pad_mode == 0 and quant_mode == -1
    assert active_num in (-1, 0, n * k) and list(active_expert_range) == [0, expert_num]
    assert expert_tokens_num_type == 1 and expert_tokens_num_flag and row_idx_type == 0
    flat = expert_idx.flatten().long()
    assert not n or (int(flat.min()) >= 0 and int(flat.max()) < expert_num)
    order = flat.argsort(stable=True)
    index = torch.empty_like(order)
    index[order] = torch.arange(n * k)
    counts = torch.bincount(flat, minlength=expert_num)
    return x[order // k], index.int(), counts, x.new_empty(0, dtype=torch.float32)


@implements
def npu_grouped_matmul(
    x: Sequence[torch.Tensor],
    weight: Sequence[torch.Tensor],
    *,
    group_list: torch.Tensor | None = None,
    split_item: int = 0,
    group_type: int | None = None,
    group_list_type: int = 0,
    **rest: object,
) -> list[torch.Tensor]:
    seen("npu_grouped_matmul")
    assert not any(v for v in rest.values())
    ((a,), (b,)) = x, weight
    _float(a, b)
    assert group_list is not None and group_list.dtype == torch.int64
    assert group_list.shape == b.shape[:1] and 1 < len(group_list) <= 1024
    assert split_item in (2, 3) and group_type == 0 and group_list_type == 1
    assert a.dim() == 2 and b.dim() == 3 and a.shape[1] == b.shape[1]
    assert int(group_list.sum()) == a.shape[0] and max(a.shape[1], b.shape[2]) < 65536
    parts = a.split(group_list.tolist())
    return [torch.cat([p @ w for p, w in zip(parts, b, strict=True)])]


@implements
def npu_moe_finalize_routing(
    expanded_permuted_rows: torch.Tensor,
    skip1: torch.Tensor | None,
    skip2: torch.Tensor | None,
    bias: torch.Tensor | None,
    scales: torch.Tensor | None,
    expanded_src_to_dst_row: torch.Tensor,
    export_for_source_row: torch.Tensor | None,
    drop_pad_mode: int = 0,
    k: int = 1,
) -> torch.Tensor:
    seen("npu_moe_finalize_routing")
    rows, index = expanded_permuted_rows, expanded_src_to_dst_row
    assert skip1 is None and skip2 is None and bias is None and scales is not None
    assert export_for_source_row is None and drop_pad_mode == 2 and index.dtype == torch.int32
    _float(rows, scales)
    chosen = rows[index.long()].unflatten(0, scales.shape).float()
    return (chosen * scales.float()[..., None]).sum(1).to(rows.dtype)


@implements
def npu_fused_infer_attention_score(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    atten_mask: torch.Tensor | None = None,
    actual_seq_lengths: Sequence[int] | None = None,
    actual_seq_lengths_kv: Sequence[int] | None = None,
    block_table: torch.Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    block_size: int = 0,
    pre_tokens: int = 0,
    next_tokens: int = 0,
    **rest: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    seen("npu_fused_infer_attention_score")
    assert not any(v for v in rest.values())
    assert query.dtype == key.dtype == value.dtype and query.dtype.itemsize == 2
    assert query.is_contiguous() and key.is_contiguous() and value.is_contiguous()
    assert input_layout == "BSH" and block_table is not None and block_table.dtype == torch.int32
    assert actual_seq_lengths is not None and actual_seq_lengths_kv is not None
    requests, longest, width = query.shape
    dim, multiple = width // num_heads, 128 if longest > 1 else 16
    assert 0 < block_size <= 512 and block_size % multiple == 0 and dim % 16 == 0 and dim <= 512
    assert key.shape == value.shape and key.shape[1:] == (block_size, num_key_value_heads * dim)
    assert len(actual_seq_lengths) == len(actual_seq_lengths_kv) == len(block_table) == requests
    assert num_heads % num_key_value_heads == 0 and num_heads // num_key_value_heads <= 64
    if longest > 1:
        assert sparse_mode == 3 and atten_mask is not None and atten_mask.dtype == torch.bool
        assert torch.equal(atten_mask, torch.ones(2048, 2048, dtype=torch.bool).triu(1))
    else:
        assert sparse_mode == 0 and atten_mask is None
    out = torch.zeros_like(query)
    cu = torch.tensor([0, *actual_seq_lengths]).cumsum(0)
    q = torch.cat([query[r, :n] for r, n in enumerate(actual_seq_lengths)])
    k, v = (t.view(-1, num_key_value_heads, dim) for t in (key, value))
    lens = torch.tensor(list(actual_seq_lengths_kv))
    result = paged_ref(
        q.view(-1, num_heads, dim), k, v, cu, lens, block_table.long(), scale=scale, page=block_size
    )
    for r, n in enumerate(actual_seq_lengths):
        out[r, :n] = result[int(cu[r]) : int(cu[r]) + n].flatten(1)
    return out, query.new_zeros(1, dtype=torch.float32)
