"""One kernel per node: C++ text, and the pointers that it takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from xcompile.codegen.expr import STORAGE, address, expression, load, register, store
from xcompile.codegen.loops import LoopEmitter, make_space, padded, row_indices
from xcompile.codegen.operands import (
    Operand,
    attribute,
    operand,
    operands,
    symbol_lines,
    used_symbols,
)
from xcompile.codegen.render import render
from xcompile.errors import UnsupportedError
from xcompile.ir import DTYPE_NAMES, Graph, Node, Value
from xcompile.layout import Layout, row_stride
from xcompile.ops.matmul import LINEAR
from xcompile.ops.moe import MOE_EXPERTS, is_gated
from xcompile.ops.moe_int8 import MOE_EXPERTS_INT8
from xcompile.passes.fuse_epilogue import GATE
from xcompile.plan import Packed, Source
from xcompile.symbolic import Dim, c_expr, dim_str, product
from xcompile.targets import Target


@dataclass(frozen=True)
class Kernel:
    """Source of one kernel and the operands it expects, in order."""

    name: str
    source: str
    args: tuple[Source, ...]
    unit: str = ""


class KernelBuilder:
    """Renders kernels for one graph on one target."""

    def __init__(self, target: Target, graph: Graph, layouts: dict[Value, Layout]) -> None:
        self.target = target
        self.graph = graph
        self.layouts = layouts
        self.symbols = sorted(graph.symbols)

    def build(self, n: Node) -> Kernel:
        body = n.body
        for m in body.nodes if body is not None else [n]:
            _check_dtypes(m)
        if body is not None and any(m.op is LINEAR for m in body.nodes):
            return self._linear(n, body)
        if n.op is LINEAR:
            return self._linear(n, None)
        if body is not None:
            return self._loop(n, body)
        return self._generic(n)

    # -- common ---------------------------------------------------------------------------
    def _finish(self, n: Node, label: str, args: list[Source], text: str) -> Kernel:
        used = symbol_lines(text, self.symbols)
        digest = hashlib.sha256(("\n".join(used) + text).encode()).hexdigest()[:8]
        name = f"{label}_{digest}"
        source = render(
            self.target.template_path,
            "kernel.j2",
            name=name,
            symbols=used,
            text=text.rstrip("\n").replace("@NAME@", name),
            doc=describe(n, self.symbols),
        )
        return Kernel(name, source, tuple(args))

    def _row_strides(self, v: Value) -> tuple[Dim, ...]:
        return self.layouts[v].strides

    # -- fused loops ----------------------------------------------------------------------
    def _loop(self, n: Node, body: Graph) -> Kernel:
        reduces = any(m.op.reduces for m in body.nodes)
        ramps = [m for m in body.nodes if m.op.name == "iota"]
        operands: list[tuple[Value | Node, tuple[Dim, ...]]] = [
            (b, self.layouts[v].strides) for b, v in zip(body.inputs, n.inputs, strict=True)
        ]
        operands += [
            (b, self.layouts[v].strides) for b, v in zip(body.outputs, n.outputs, strict=True)
        ]
        operands += [(m, _ramp_strides(m)) for m in ramps]
        space = make_space(body, operands, reduces)
        emitter = LoopEmitter(body, space)
        phases, buffers = emitter.emit()
        index = [f"i{k}" for k in range(len(space.rows))]
        bases = []
        for k, v in enumerate(body.inputs):
            at = address(index, space.strides[v][:-1])
            bases.append(f"const {STORAGE[v.dtype]}* x{k}_ = a{k} + {at};")
        for k, v in enumerate(body.outputs):
            at = address(index, space.strides[v][:-1])
            bases.append(f"{STORAGE[v.dtype]}* y{k}_ = b{k} + {at};")
        for m in ramps:
            at = address(index, space.strides[m][:-1])
            start = c_expr(m.attrs["start"])
            bases.append(f"const i64 {emitter.label[m.out]}_ = {start} + {at};")
        text = render(
            self.target.template_path,
            "loop.j2",
            inputs=[STORAGE[v.dtype] for v in body.inputs],
            outputs=[STORAGE[v.dtype] for v in body.outputs],
            rows=c_expr(product(space.rows)),
            columns=c_expr(space.columns),
            flat=space.flat,
            indices=row_indices(space.rows),
            bases=bases,
            prologue=emitter.prologue,
            phases=phases,
            buffers=buffers,
        )
        args: list[Source] = [*n.inputs, *n.outputs]
        return self._finish(n, "loop", args, text)

    # -- linear with epilogue -------------------------------------------------------------
    def _linear(self, n: Node, body: Graph | None) -> Kernel:
        linears = [m for m in body.nodes if m.op is LINEAR] if body is not None else [n]
        outer = dict(zip(body.inputs, n.inputs, strict=True)) if body is not None else {}
        x, w = (outer.get(v, v) for v in linears[0].inputs)
        weights = [outer.get(m.inputs[1], m.inputs[1]) for m in linears]
        if any(v not in self.graph.consts for v in weights):
            raise UnsupportedError(f"linear with a weight that is not a constant ({n.origin})")
        lda = row_stride(x.shape, self._row_strides(x))
        assert lda is not None
        rows = product(x.shape[:-1])
        columns = product([len(linears), w.shape[0]])
        kind = "panels" if len(linears) == 1 else "panels_gated"
        read = {v for m in body.nodes if m.op is not LINEAR for v in m.inputs} if body else set()
        extra = [v for b, v in outer.items() if b in read]
        body_of = {o: b for b, o in outer.items()}
        rank = n.out.type.rank
        lines: list[str] = []
        names = {m.out: f"acc_[{'GATE + ' if k else ''}j]" for k, m in enumerate(linears)}
        if len(linears) == 1:
            names = {linears[0].out: "acc_[j]"}
        computed = {m.out for m in linears}
        row_dims, index = list(n.out.shape[:-1]), [f"i{k}" for k in range(rank - 1)]
        bases: list[str] = []
        for k, v in enumerate(extra):
            strides = padded(self._row_strides(v), v.shape, rank)
            at = address(index, strides[:-1])
            bases.append(f"const {STORAGE[v.dtype]}* x{k}_ = c.x{k} + {at};")
            step = strides[-1]
            j = "0" if step == 0 else "(n + j)" if step == 1 else f"(n + j) * {c_expr(step)}"
            names[body_of[v]] = f"x{k}"
            lines.append(f"const {register(v.dtype)} x{k} = {load(f'x{k}_[{j}]', v.dtype)};")
        if body is not None:
            for k, m in enumerate(body.nodes):
                if m.op is LINEAR:
                    continue
                lines.append(
                    f"const {register(m.out.dtype)} v{k} = {expression(m, names, computed)};"
                )
                names[m.out] = f"v{k}"
                computed.add(m.out)
        result = body.outputs[0] if body is not None else n.out
        strides = self._row_strides(n.out)
        bases.append(f"{STORAGE[n.out.dtype]}* y_ = c.y + {address(index, strides[:-1])};")
        step = strides[-1]
        at = "n + j" if step == 1 else f"(n + j) * {c_expr(step)}"
        lines.append(store(f"y_[{at}]", names[result], n.out.dtype))
        symbols = used_symbols("\n".join((*bases, *lines, *map(c_expr, row_dims))), self.symbols)
        text = render(
            self.target.template_path,
            "linear.j2",
            ctype=STORAGE[x.dtype],
            extra=[STORAGE[v.dtype] for v in extra],
            out=STORAGE[n.out.dtype],
            lda=c_expr(lda),
            M=c_expr(rows),
            N=c_expr(columns),
            K=c_expr(x.shape[-1]),
            gated=len(linears) == 2,
            gate=GATE,
            captured=symbols,
            indices=[s.replace("= r;", "= m + row;") for s in row_indices(row_dims)],
            bases=bases,
            lines=lines,
        )
        args: list[Source] = [x, Packed(kind, tuple(weights)), *extra, n.out]
        return self._finish(n, "linear", args, text)

    # -- everything else: templates/<target>/<op>.j2, found by name -------------------------
    def _generic(self, n: Node) -> Kernel:
        packing = {k: kind for (op, k), kind in PACKING.items() if op == n.op.name}
        if n.op is MOE_EXPERTS and not is_gated(n.inputs[3].shape, n.inputs[4].shape):
            packing[3] = "experts"  # up alone
        if n.op is MOE_EXPERTS_INT8 and not is_gated(n.inputs[3].shape, n.inputs[5].shape):
            packing |= {3: "experts", 4: "scales"}
        found = operands(n, self.graph, packing, lambda v, k: self._operand(v, k, n.out.type.rank))
        args = found.args
        workspace = "nullptr"
        if n.op.workspace is not None:
            workspace = f"(void*)a[{len(args)}]"
            args.append(n.op.workspace([v.type for v in n.inputs], n.attrs))
        text = render(
            self.target.template_path,
            f"{n.op.name}.j2",
            ins=found.ins,
            outs=found.outs,
            attrs={k: attribute(v, STORAGE) for k, v in n.attrs.items()},
            workspace=workspace,
            row_lines=row_indices(list(n.out.shape[:-1])),
        )
        return self._finish(n, n.op.name, args, text)

    def _operand(self, v: Value, place: int, rank: int) -> Operand:
        ctype = STORAGE[v.dtype]
        return operand(v, self.layouts[v], f"({ctype}*)a[{place}]", ctype, rank)


FLOATS = {torch.float32, torch.bfloat16}
ORDERED = {*FLOATS, torch.int64}
# op -> element types that its kernel exists for; other ops take all
DTYPES = dict.fromkeys(
    (
        "linear",
        "head_linear",
        "matmul",
        "attention",
        "paged_attention",
        "mla_attention",
        "moe_experts",
        "moe_experts_int8",
        "moe_route",
        "rope",
    ),
    FLOATS,
) | dict.fromkeys(("topk", "argmax", "sort", "cumsum"), ORDERED)


def _check_dtypes(n: Node) -> None:
    allowed = DTYPES.get(n.op.name)
    if allowed is None:
        return
    bad = next((v for v in n.inputs if v.dtype.is_floating_point and v.dtype not in FLOATS), None)
    bad = bad or next((v for v in n.inputs[:1] if v.dtype not in allowed), None)
    if bad is not None:
        known = ", ".join(sorted(DTYPE_NAMES[d] for d in allowed))
        raise UnsupportedError(
            f"{n.op.name} of {bad.type} (at {n.origin or 'the graph'}) is not supported on cpu, "
            f"which has it for {known}; cast first"
        )
    if n.op.name == "attention" and len(n.inputs) > 3 and n.inputs[3].type.rank == 4:
        mask, given = n.inputs[3], n.inputs[0]
        if mask.dtype not in (torch.bool, torch.float32, given.dtype):
            raise UnsupportedError(
                f"attention of {given.type} with a mask {mask.type} (at {n.origin or 'the graph'}) "
                "is not supported on cpu; the mask must be bool, f32 or of the query's type"
            )


# (op, operand) -> how the constant in it is packed
PACKING = {
    ("moe_experts", 3): "experts_gated",
    ("moe_experts", 4): "experts",
    ("moe_experts_int8", 3): "experts_gated",
    ("moe_experts_int8", 4): "scales_gated",
    ("moe_experts_int8", 5): "experts",
    ("moe_experts_int8", 6): "scales",
    ("head_linear", 1): "experts",
    ("mla_attention", 6): "experts",
    ("mla_attention", 7): "experts",
    ("mla_attention", 8): "experts",
}


def _ramp_strides(m: Node) -> tuple[Dim, ...]:
    return tuple(m.attrs["step"] if k == m.attrs["dim"] else 0 for k in range(m.out.type.rank))


def describe(n: Node, symbols: list[str]) -> list[str]:
    """The node as IR text, one line per inner node, without names that differ between layers."""
    types = ", ".join(str(v.type) for v in n.outputs)
    head = f"{types} = {n.op.name}({', '.join(str(v.type) for v in n.inputs)})"
    if n.body is None:
        return [head]
    names = {v: f"%a{k}" for k, v in enumerate(n.body.inputs)}
    lines = [head]
    for k, m in enumerate(n.body.nodes):
        names[m.out] = f"%{k}"
        attrs = ", ".join(
            f"{a}={v if not hasattr(v, 'free_symbols') else dim_str(v)}"
            for a, v in m.attrs.items()
            if a in ("value", "dtype")
        ).replace("torch.", "")
        args = ", ".join(names[v] for v in m.inputs)
        lines.append(f"  %{k}: {m.out.type} = {m.op.name}({args}) {attrs}".rstrip())
    return lines
