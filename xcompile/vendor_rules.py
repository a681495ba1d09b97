"""Which nodes the vendor's operators compute, under what conditions, and the calls.

The conditions are those of the operators' documentation (torch_npu 2.13.0 and the CANN operators
behind it); none of this has run on a device.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from xcompile.codegen.eager import dim
from xcompile.errors import UnsupportedError, XCompileError
from xcompile.ir import Node, Value
from xcompile.ops.moe import unusual
from xcompile.symbolic import Dim, same

if TYPE_CHECKING:
    from xcompile.vendor_ops import Writer

ACTIVATIONS = {
    "silu": ("swiglu", ""),
    "gelu": ("geglu", "F.gelu(gate)"),
    "gelu_tanh": ("geglu_tanh", 'F.gelu(gate, approximate="tanh")'),
    "relu": ("reglu", "torch.relu(gate)"),
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
HALF = FLOATS[:2]

# A rule writes a node's lines; False leaves the node to ATen.
Rule = Callable[["Writer", Node], bool]


def _norm_ok(n: Node) -> bool:
    x, w = n.inputs
    return x.dtype in FLOATS and w.dtype == x.dtype and 2 <= x.type.rank <= 8


def _rms_norm(out: Writer, n: Node) -> bool:
    if not _norm_ok(n):
        return False
    x, w = out.args(n)
    call = f"torch.ops.npu.npu_rms_norm({x}, {w}, epsilon={n.attrs['eps']!r})[0]"
    out.assign(n, call, n.outputs)
    return True


def _add(out: Writer, n: Node) -> bool:
    """A residual sum and the norm of it."""
    a, b = n.inputs
    if not (a.type.same(n.out.type) and b.type.same(n.out.type)):
        return False
    norms = [u for u in out.users.get(n.out, []) if u.op.name == "rms_norm"]
    if not norms or norms[0].inputs[0] is not n.out or not _norm_ok(norms[0]):
        return False
    norm = norms[0]
    if norm.inputs[1] not in out.names:
        return False
    x, y = out.args(n)
    made = (out.fresh("rms_norm"), out.fresh("add"))
    out.names |= {norm.out: made[0], n.out: made[1]}
    w = out.names[norm.inputs[1]]
    call = f"torch.ops.npu.npu_add_rms_norm({x}, {y}, {w}, epsilon={norm.attrs['eps']!r})"
    out.add(n, f"{made[0]}, _, {made[1]} = {call}", made, (*n.inputs, norm.inputs[1]))
    out.done.add(norm)
    return True


@dataclass(frozen=True)
class Gated:
    """silu(y[..., start:start+I]) * y[..., start+I:stop], and the nodes that only it reads."""

    y: Value
    start: Dim
    stop: Dim
    nodes: frozenset[Node]


def gated(
    n: Node, made: Mapping[Value, Node], users: Mapping[Value, Sequence[Node]]
) -> Gated | None:
    if n.op.name != "mul":
        return None
    for gate, up in (n.inputs, n.inputs[::-1]):
        act = made.get(gate)
        if act is None or act.op.name != "silu" or len(users[gate]) != 1:
            continue
        g, u = made.get(act.inputs[0]), made.get(up)
        if g is None or u is None or g.op.name != "slice" or u.op.name != "slice":
            continue
        y, a, b = g.inputs[0], g.attrs, u.attrs
        ok = u.inputs[0] is y and y.dtype in FLOATS
        ok = ok and a["dim"] == b["dim"] == y.type.rank - 1 and a["step"] == b["step"] == 1
        if ok and a["stop"] == b["start"] and same(g.out.shape[-1], u.out.shape[-1]):
            private = {m for m in (g, u) if len(users[m.out]) == 1}
            return Gated(y, a["start"], b["stop"], frozenset({act, *private}))
    return None


def _mul(out: Writer, n: Node) -> bool:
    found = out.gated.get(n)
    if found is None:
        return False
    x = out.names[found.y]
    whole = found.start == 0 and same(found.stop, found.y.shape[-1])
    part = x if whole else f"{x}[..., {dim(found.start)}:{dim(found.stop)}]"
    out.assign(n, f"torch.ops.npu.npu_swiglu({part}, dim=-1)", n.outputs, "swiglu", [found.y])
    return True


def _rope(out: Writer, n: Node) -> bool:
    x, cos, sin = n.inputs
    rank, width = x.type.rank, x.shape[-1]
    ok = x.dtype in FLOATS and cos.dtype == sin.dtype == x.dtype and 2 <= rank <= 4
    if not (ok and int(width) < 896 and cos.type.rank == sin.type.rank == rank):
        return False
    shapes = [(1,) * (4 - rank) + v.shape for v in n.inputs]
    if not all(_rows_ok(shapes[0], s) for s in shapes[1:]):
        return False
    lead = "" if rank == 4 else f"[{', '.join(['None'] * (4 - rank))}]"
    text = [f"{a}{lead}" for a in out.args(n)]
    if same(cos.shape[-1], width // 2):
        text[1:] = [f"torch.cat([{a}, {a}], -1)" for a in text[1:]]
    if n.attrs["interleaved"]:
        text[0] = f"{text[0]}.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)"
    call = f'torch.ops.npu.npu_rotary_mul({", ".join(text)}, rotary_mode="half")'
    out.assign(n, call + "[0]" * (4 - rank), n.outputs)
    return True


def _rows_ok(x: Sequence, r: Sequence) -> bool:
    """Rows of r that the vendor's kernel can broadcast to x: 11SD, B1SD, BNSD, 1S1D, BS1D, S11D,
    SB1D. Which dims are heads is unknown, so all that are fixed must be below 1000."""
    kinds = {"11=", "=1=", "===", "1=1", "==1", "=11"}
    wanted = "".join("*" if x[k] == 1 else "=" if same(x[k], r[k]) else "1" for k in range(3))
    fits = all(same(x[k], r[k]) or r[k] == 1 for k in range(3))
    small = all(d < 1000 for d in x[:3] if isinstance(d, int))
    return fits and small and any(re.fullmatch(wanted.replace("*", "."), k) for k in kinds)


def _paged_attention(out: Writer, n: Node) -> bool:
    q, k, v = n.inputs[:3]
    page, (heads, width), kv = n.attrs["page"], q.shape[1:], k.shape[1]
    sizes = page % 16 == 0 and page <= 512 and int(width) % 16 == 0 and int(width) <= 512
    heads_ok = int(heads) // int(kv) <= 64 and int(heads) <= 256 and heads * width < 65535
    made = [out.made.get(x) for x in (k, v)]
    whole = all(m is None or m.op.name == "index_copy" for m in made)  # no strided views
    if len(n.inputs) > 6 or "window" in n.attrs:
        return False
    if not (q.dtype in HALF and same(v.shape[2], width) and sizes and heads_ok and whole):
        out.notes["Attention by ATen: the vendor's takes 16-bit types, k and v of one width that is"
                  " a multiple of 16, and pages of a multiple of 16 rows."] = None  # fmt: skip
        return False
    out.helpers.add("fused_attention")
    if page % 128:
        out.helpers.add("paged_attention")
        out.notes[f"Attention in pages of {page} rows: the vendor's for steps of single tokens, "
                  "ATen for others, which would need a multiple of 128."] = None  # fmt: skip
    given = ", ".join([*out.args(n), repr(n.attrs["scale"]), str(page)])
    out.assign(n, f"fused_attention({given})", n.outputs)
    return True


def _moe_route(out: Writer, n: Node) -> bool:
    """Softmax without groups or bias, or sigmoid with weights that are normalised."""
    a, x = n.attrs, n.inputs[0]
    experts, k, groups = int(x.shape[-1]), a["k"], a["groups"]
    if not 1 <= k <= experts // groups * a["topk_group"]:
        raise XCompileError(f"routing to {k} of {experts} experts ({n.origin or 'the graph'})")
    plain = not a["biased"] and a["floor"] == float("-inf") and a["compute"] == torch.float32
    logits = out.names[x] + ("" if x.dtype == torch.float32 else ".float()")
    if not plain:
        return False
    if a["score"] != "sigmoid":
        if groups > 1 or len(n.inputs) > 1 or k > 1024 or a["eps"] > 1e-12:
            return False
        renorm = int(a["renorm"] or a["score"] == "softmax_topk")
        call = f"torch.ops.npu.npu_moe_gating_top_k_softmax_v2({logits}, k={k}, renorm={renorm})"
        scale = "" if a["scale"] == 1 else f" * {a['scale']!r}"
    else:
        size = experts // groups
        if not a["renorm"] or size <= 2 or experts > 2048 or -(-size // 32) * 32 * groups > 2048:
            return False
        given = [logits, f"k={k}"]
        if len(n.inputs) > 1:
            wide = "" if n.inputs[1].dtype == torch.float32 else ".float()"
            given.append(f"bias={out.names[n.inputs[1]]}{wide}")
        given += [f"k_group={a['topk_group']}", f"group_count={groups}"]
        given.append(f"group_select_mode={int(a['group_score'] == 'top2sum')}")
        given += ["renorm=0", "norm_type=1", f"routed_scaling_factor={float(a['scale'])!r}"]
        call = f"torch.ops.npu.npu_moe_gating_top_k({', '.join(given)}, eps={a['eps']!r})"
        scale = ""
        if groups > 1 and len(n.inputs) > 1 and a["mask"] != float("-inf"):
            note = (
                "Routing: the vendor's never takes an expert of a group that lost; the model "
                f"scores those {a['mask']!r}, which wins against a negative choice."
            )
            out.notes[note] = None
    weight, expert = (out.fresh(s) for s in ("weight", "expert"))
    out.names |= dict(zip(n.outputs, (weight, expert), strict=True))
    out.add(n, f"{weight}, {expert}, _ = {call}", (weight, expert), n.inputs)
    cast = "" if a["dtype"] == torch.float32 else f".to({a['dtype']})"
    if scale or cast:
        out.add(n, f"{weight} = ({weight}{scale}){cast}" if scale else f"{weight} = {weight}{cast}")
    if any(u.op.name != "moe_experts" for u in out.users.get(n.outputs[1], [])) or (
        n.outputs[1] in out.graph.outputs
    ):
        out.add(n, f"{expert} = {expert}.long()")
    return True


def _moe_experts(out: Writer, n: Node) -> bool:
    if words := unusual(n):
        raise UnsupportedError(
            f"experts with {', '.join(words)} ({n.origin or 'the graph'}) are not expressed by the "
            "vendor's operators"
        )
    x, expert, _, gate_up, down = n.inputs
    experts, k = int(gate_up.shape[0]), int(expert.shape[1])
    where = n.origin or "the graph"
    if k > experts:
        raise XCompileError(f"{k} of {experts} experts per token ({where})")
    if not same(gate_up.shape[2], x.shape[1]) or not same(down.shape[2] * 2, gate_up.shape[1]):
        raise XCompileError(f"experts' weights {gate_up.type}, {down.type} for {x.type} ({where})")
    widths = [int(d) for w in (gate_up, down) for d in w.shape[1:]]
    if x.dtype not in FLOATS or not 1 < experts <= 1024 or max(widths) >= 65536:
        raise UnsupportedError(
            f"the vendor's grouped matmul takes 2 to 1024 experts of widths below 65536, of f32, "
            f"f16 or bf16; given {x.type}, {gate_up.type} ({where})"
        )
    name, text = ACTIVATIONS[n.attrs["act"]]
    out.helpers.add("moe_experts")
    out.activations[name] = text
    out.assign(n, f"moe_experts({', '.join(out.args(n))}, {name})", n.outputs)
    return True


RULES: dict[str, Rule] = {
    "rms_norm": _rms_norm,
    "add": _add,
    "mul": _mul,
    "rope": _rope,
    "paged_attention": _paged_attention,
    "moe_route": _moe_route,
    "moe_experts": _moe_experts,
}
