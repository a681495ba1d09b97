"""What each node of a fused group becomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE, Operand
from xcompile.codegen.ascend.chain_steps import (
    BLOCK,
    COUNT,
    NARROW,
    Item,
    Reg,
    Scalar,
    Slot,
    Step,
    cast_text,
    conversion,
    literal,
    names,
)
from xcompile.codegen.ascend.instructions import (
    FLIP,
    JOIN,
    REDUCE,
    function,
    instruction,
    register,
)
from xcompile.errors import UnsupportedError
from xcompile.ir import Node, Value
from xcompile.ops.infer import promote
from xcompile.symbolic import same

if TYPE_CHECKING:
    from xcompile.codegen.ascend.chain_lower import Lowering


def lower(x: Lowering, n: Node) -> Reg:
    """The register of a node's result."""
    if n.op.reduces:
        return _reduce(x, n)
    special = {"cast": _cast, "where": _where, "iota": _iota, "full": _full}.get(n.op.name)
    if special is not None:
        return special(x, n)
    if n.op.name == "pow":
        found = _power(x, n)
        if found is not None:
            return found
    return _pointwise(x, n)


def joined(items: Sequence[Item]) -> str:
    """What a result is, of what its operands are."""
    kinds = {i.kind for i in items if isinstance(i, Reg)}
    if not kinds:
        return ROW
    return kinds.pop() if len(kinds) == 1 else TILE


def _pointwise(x: Lowering, n: Node) -> Reg:
    name = n.op.name
    compute = promote([v.type for v in n.inputs])
    if n.out.dtype.is_floating_point and not compute.is_floating_point:
        compute = n.out.dtype
    ctype = register(compute)
    if name == "not" and ctype != "bits":
        return x.convert(_not_zero(x, x.in_class(x.item(n.inputs[0]), ctype)), "bits")
    logic = name in ("and", "or", "not")
    if ctype == "bits" and not logic:
        ctype = "int32_t"
    items = [x.in_class(x.item(v), ctype) for v in n.inputs]
    if name in FLIP and isinstance(items[0], Scalar) and isinstance(items[1], Reg):
        name, items = FLIP[name], items[::-1]
    result = "bits" if name in FLIP else ctype
    made = _call(x, n.out, name, items, ctype, result)
    return x.convert(made, register(n.out.dtype))


def _not_zero(x: Lowering, a: Item) -> Reg:
    reg = a if isinstance(a, Reg) else x.filled(a, ROW, "float")
    zero = "0.0f" if reg.ctype == "float" else "int32_t(0)"
    return x.call(x.new(reg.kind, "bits"), "op::eq", reg, zero, alias=False)


def _call(x: Lowering, out: Value, name: str, items: list[Item], ctype: str, result: str) -> Reg:
    """name(items), each in its register class; a scalar or a broadcast in place where it may be."""
    ins = instruction(name)
    x.headers.add(ins.header)
    kind = joined(items)
    if all(isinstance(i, Scalar) for i in items):
        items = [x.filled(items[0], kind, ctype), *items[1:]]
    if name == "div":
        found = _divided(x, out, items, kind)
        if found is not None:
            return found
    regs = [i for i in items if isinstance(i, Reg)]
    if kind == TILE and ins.spread and len(regs) == 2 and any(r.kind != TILE for r in regs):
        return _spread(x, out, ins.spread, regs, ctype)
    args: list[Reg | str] = []
    numbers = sum(isinstance(i, Scalar) for i in items)
    for i in items:
        if isinstance(i, Scalar) and ins.scalars and numbers == 1:
            args.append(x.text(i, ctype))
        else:
            args.append(x.filled(i, kind, ctype))
    scratch = ins.temps if ctype == "float" else ins.ints
    temps = [x.new(kind, ctype) for _ in range(scratch)]
    temps += [x.new(kind, "bits") for _ in range(ins.bits if ctype == "float" else 0)]
    constants = [x.constant(literal(c)) for c in ins.constants]
    home = x.home(out, result, kind) if result in ("float", "int32_t") else None
    dst = x.new(kind, result, home)
    text, found_regs = names([*args, *temps, *constants])
    sources = tuple(r for r in args if isinstance(r, Reg))
    whole = tuple(r for r in sources if r.kind in (TILE, COLUMN))
    call = f"{function(name)}({{0}}, {text}, {COUNT[kind]});"
    # names() numbers registers in the order of the text: sources, scratch, constants
    step = Step(call, dst, sources, (*temps, *constants), result == ctype,
                whole if len(whole) > 1 else ())  # fmt: skip
    assert found_regs == (*sources, *temps, *constants)
    return x.emit(step)


def _spread(x: Lowering, out: Value, name: str, regs: list[Reg], ctype: str) -> Reg:
    """An instruction on a tile and a value a row, or a row of elements, or on both of these."""
    a, b = regs
    if TILE not in (a.kind, b.kind):  # one of each
        if a.kind == COLUMN:
            a = x.spread(a)
        else:
            b = x.spread(b)
    first = a.kind != TILE
    tile, other = (b, a) if first else (a, b)
    dst = x.new(TILE, ctype, x.home(out, ctype, TILE))
    flip = ", true" if first else ""
    if other.kind == ROW:
        return x.call(dst, f"rowwise<{name}Op{flip}>", tile, x.block(other), tail="t")
    return x.call(dst, f"columnwise<{name}Op{flip}>", tile, other, tail="t")


def _divided(x: Lowering, out: Value, items: list[Item], kind: str) -> Reg | None:
    """Division by a scalar, or of one: with 64 equal elements, as there is no such instruction."""
    a, b = items
    if isinstance(a, Reg) and isinstance(b, Reg):
        return None
    reg, number = (a, b) if isinstance(a, Reg) else (b, a)
    assert isinstance(reg, Reg) and isinstance(number, Scalar)
    dst = x.new(kind, "float", x.home(out, "float", kind))
    flip = ", true" if reg is b else ""
    lanes = x.constant(x.text(number, "float"))
    text = f"constant<DivOp{flip}>({{0}}, {{1}}, {{2}}, {COUNT[kind]});"
    return x.emit(Step(text, dst, (reg,), (lanes,), True))


def _power(x: Lowering, n: Node) -> Reg | None:
    """Powers that are products or roots."""
    e = x.scalar(n.inputs[1])
    if e is None or not isinstance(e.value, int | float):
        return None
    a = x.in_class(x.item(n.inputs[0]), "float")
    if isinstance(a, Scalar):
        return None
    value = float(e.value)
    simple = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}
    if value in simple:
        return _call(x, n.out, simple[value], [a], "float", "float")
    if value == 1.0:
        return a
    if value not in (3.0, 4.0):
        return None
    square = x.call(x.new(a.kind, "float"), "op::square", a)
    dst = x.new(a.kind, "float", x.home(n.out, "float", a.kind))
    return x.call(dst, "op::mul", square, a if value == 3.0 else square)


def cast_source(x: Lowering, n: Node) -> Reg:
    """What a cast converts, as a float. A computed 16-bit value rounds where its type changes."""
    v = n.inputs[0]
    if v.dtype in NARROW and not x.exact(v):
        return x.convert(x.narrow(v), "float")
    return x.convert(x.reg(v), "float")


def _cast(x: Lowering, n: Node) -> Reg:
    v, to = n.inputs[0], n.out.dtype
    if to == torch.bool:
        return x.convert(x.reg(v), "bits")
    if to in NARROW:
        return x.convert(x.narrow(n.out), "float")
    if to.is_floating_point:
        return cast_source(x, n)
    return x.convert(cast_source(x, n) if v.dtype in NARROW else x.reg(v), "int32_t")


def _where(x: Lowering, n: Node) -> Reg:
    c = x.convert(x.reg(n.inputs[0]), "bits")
    ctype = register(n.out.dtype)
    a, b = (x.in_class(x.item(v), ctype) for v in n.inputs[1:])
    kind = joined([c, a, b])
    c = x.filled(c, kind, "bits")
    if ctype == "bits":
        a, b = x.filled(a, kind, ctype), x.filled(b, kind, ctype)
        other = x.call(x.new(kind, ctype), "op::not_", c)
        left = x.call(x.new(kind, ctype), "op::and_", c, a)
        right = x.call(x.new(kind, ctype), "op::and_", other, b)
        return x.call(x.new(kind, ctype), "op::or_", left, right)
    if ctype != "float" or (isinstance(a, Scalar) and isinstance(b, Scalar)):
        a = x.filled(a, kind, ctype)
        b = b if ctype == "float" else x.filled(b, kind, ctype)
    if isinstance(a, Scalar):
        c = x.call(x.new(kind, "bits"), "op::not_", c)
        a, b = b, a
    a = x.filled(a, kind, ctype)
    other_arg: Reg | str = x.text(b, ctype) if isinstance(b, Scalar) else x.filled(b, kind, ctype)
    return x.call(x.new(kind, ctype, x.home(n.out, ctype, kind)), "op::where", c, a, other_arg)


def _full(x: Lowering, n: Node) -> Reg:
    return x.filled(Scalar(n.attrs["value"], n.out.dtype), ROW, register(n.out.dtype))


def _iota(x: Lowering, n: Node) -> Reg:
    g = x.grid
    kind = g.ramp_kind(n)
    strides = g.space.strides[n]
    start = g.dim(n.attrs["start"])
    if kind == ROW:
        first = f"{start} + {g.row_at(strides[:-1])}"
        step = g.dim(strides[-2]) if g.rows else "0"
    else:
        first, step = f"{start} + t.col * {g.dim(strides[-1])}", g.dim(strides[-1])
    dst = x.new(kind, "int32_t")
    text = f"static_cast<int32_t>({first}), static_cast<int32_t>({step})"
    made = x.call(dst, "op::iota", text)
    return x.convert(made, register(n.out.dtype))


def _reduce(x: Lowering, n: Node) -> Reg:
    name = n.op.name
    item = x.item(n.inputs[0])
    ctype = register(n.out.dtype)
    work = "float" if ctype == "float" else "int32_t"
    a = x.filled(x.in_class(item, work), TILE, work)
    home = x.home(n.out, ctype, ROW) if ctype == work else None
    dst = x.new(ROW, work, home)
    temps: list[Reg] = []
    if work == "float":
        temps = [x.new(TILE, "float", width=1)]
        call = f"reduceRows<ReduceType::{REDUCE[name]}>(TO, {{1}}, {{2}}, t);"
    else:
        neutral = {"sum": "0", "amax": "-2147483647 - 1", "amin": "2147483647"}[name]
        temps = [x.new(TILE, work), x.new(ROW, work), x.table(ROW, "kBlock")]
        call = (
            f"op::add({{2}}, {{1}}, int32_t(0), n); reduceRows<{JOIN[name]}Op>(TO, {{2}}, {{3}}, "
            f"{{4}}, int32_t({neutral}), t);"
        )
    if x.staged and ctype != work:
        raise UnsupportedError(f"{name} of {n.inputs[0].type}: rows too long to be reduced")
    if x.staged:
        temps.append(x.new(ROW, work))
        more = f"{{{len(temps) + 1}}}"
        text = call.replace("TO", f"first ? {{0}} : {more}") + (
            f" if (!first) {JOIN[name]}({{0}}, {{0}}, {more}, static_cast<int32_t>(t.rows()));"
        )
    else:
        text = call.replace("TO", "{0}")
    step = Step(text, dst, (a,), tuple(temps))
    x.stage.tiles.append(step)
    return x.convert(dst, ctype)


# -- results ------------------------------------------------------------------------------------
def store(x: Lowering, o: Operand) -> None:
    """The calls that leave a result in its buffer, from where it is moved to memory."""
    if o.kind == TILE and not same(o.column, 1):
        raise UnsupportedError(f"a fused result {o.value.type} whose columns lie apart")
    if o not in x.placed:
        _fill(x, o)
    (x.stage.stores if o.kind == TILE else x.row_stores).append((o, x.placed[o]))


def _fill(x: Lowering, o: Operand) -> None:
    v = x.root(o.value)
    if x.loaded(v) and x.operand[v].kind == o.kind and x.unit(x.operand[v]) and x.unit(o):
        return _moved(x, o, x.load(v))
    found = x.scalar(v)
    if found is not None:
        reg = x.filled(found, o.kind, register(v.dtype))
    else:
        reg = x.narrow(v) if v.dtype in NARROW else x.reg(v)
    if o in x.placed:
        return None
    if o.kind == ROW and not x.unit(o):
        return _apart(x, o, reg)
    if reg.kind != o.kind:
        if reg.ctype == o.ctype:
            x.spread(reg, o)
            return None
        reg = x.spread(reg)
    if reg.ctype == o.ctype:
        return _moved(x, o, reg)
    path = _path(reg.ctype, o.ctype)
    if len(path) > 1:
        reg = x.convert(reg, path[-2])
    x.emit(Step(cast_text(reg.ctype, o.ctype, COUNT[o.kind]), x.new(o.kind, o.ctype, o), (reg,)))
    return None


def _path(src: str, dst: str) -> list[str]:
    return ["half", dst] if src == "bits" else conversion(src, dst)


def _moved(x: Lowering, o: Operand, reg: Reg) -> None:
    """A copy into the result's buffer."""
    text = (
        "op::move({0}.template ReinterpretCast<uint8_t>(), "
        f"{{1}}.template ReinterpretCast<uint8_t>(), {COUNT[o.kind]} * {o.size});"
    )
    x.emit(Step(text, x.new(o.kind, o.ctype, o), (reg,)))


def _apart(x: Lowering, o: Operand, reg: Reg) -> None:
    """Values a row that do not lie side by side in memory: each in a block of its own."""
    if o.size == 1:
        raise UnsupportedError(f"a fused result {o.value.type} whose elements do not lie together")
    x.placed[o] = dst = x.at(BLOCK, o.ctype, Slot("rowOut", "row apart", o.size))
    if o.size == 8:
        reg = x.block(x.convert(reg, "int32_t"))
        x.emit(Step(cast_text("int32_t", "int64_t", "8 * m"), dst, (reg,)))
    else:
        x.call(dst, "blocks", x.convert(reg, o.ctype), tail="t.rows()", alias=False)
