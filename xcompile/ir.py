"""The IR: ordered SSA nodes over tensor values, one IR at every level.

A `Graph` is an ordered list of frozen `Node`s; the order is the order of effects. A node has one
or more results. A state write is functional (``%c1 = index_copy(%c0, ...)``): the op declares
which operand a result may overwrite, the planner does it in place, and `verify` rejects a later
use of the old value once the graph says that an input is updated by an output. Dims are ints or
sympy expressions over the graph's symbols, each with a range.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy
import torch

from xcompile.errors import ShapeError, XCompileError
from xcompile.lazy import made
from xcompile.symbolic import Dim, Range, dim_str, evaluate, free_names, product, same

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "u8": torch.uint8,
    "bool": torch.bool,
}
DTYPE_NAMES = {v: k for k, v in DTYPES.items()}


@dataclass(frozen=True)
class Type:
    """Element type and shape of a value."""

    dtype: torch.dtype
    shape: tuple[Dim, ...]

    @property
    def numel(self) -> Dim:
        return product(self.shape)

    @property
    def nbytes(self) -> Dim:
        return product((*self.shape, self.dtype.itemsize))

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{DTYPE_NAMES.get(self.dtype, self.dtype)}[{', '.join(map(dim_str, self.shape))}]"

    def same(self, other: Type) -> bool:
        return (
            self.dtype == other.dtype
            and self.rank == other.rank
            and all(map(same, self.shape, other.shape))
        )


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor. Identity is the object; `name` is only a hint for printing."""

    type: Type
    name: str = ""

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    @property
    def dtype(self) -> torch.dtype:
        return self.type.dtype


Attrs = Mapping[str, Any]
Infer = Callable[[Sequence[Type], Attrs], Sequence[Type]]
Ref = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Op:
    """What the compiler knows of an operation.

    infer   operand types, attrs -> result types; raises ShapeError with a readable message
    ref     torch function of (operands..., **attrs): the interpreter and the tests' oracle
    aten    overload names that the FX frontend maps here one to one, operand by operand
    expr    C++ expression over {0}, {1}, ... (pointwise only: then `infer` and fusion follow)
    alias   result index -> operand index whose storage the result may overwrite
    reduces `expr` folds elements of the last dim instead of mapping them
    view    the result is a strided view of operand 0: no launch, no bytes
    strides operand index -> "any", "last" (unit last stride), "rows" (also one row stride > 0),
            "matrix" (unit last stride, rows apart) or "turned" (that, or its transpose); operands
            that are not named must be contiguous
    order   how the first result lies in memory: dims from outermost to innermost
    cost    operand types, result types, attrs -> flops
    workspace  operand types, attrs -> bytes of scratch shared by the team
    sample  rng -> (operands, attrs): random inputs from which the op tests itself
    """

    name: str
    infer: Infer
    ref: Ref
    aten: tuple[str, ...] = ()
    expr: str | None = None
    alias: Mapping[int, int] = field(default_factory=dict)
    view: bool = False
    reduces: bool = False
    strides: Mapping[int, str] = field(default_factory=dict)
    order: tuple[int, ...] | None = None
    cost: Callable[[Sequence[Type], Sequence[Type], Attrs], Dim] | None = None
    workspace: Callable[[Sequence[Type], Attrs], Dim] | None = None
    sample: Callable[[torch.Generator], tuple[list[torch.Tensor], dict[str, Any]]] | None = None

    @property
    def pointwise(self) -> bool:
        return self.expr is not None and not self.reduces

    def __repr__(self) -> str:
        return f"Op({self.name})"


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an op. `origin` is the module path it came from, for reports."""

    op: Op
    inputs: tuple[Value, ...]
    attrs: Attrs
    outputs: tuple[Value, ...]
    origin: str = ""

    @property
    def out(self) -> Value:
        return self.outputs[0]

    @property
    def body(self) -> Graph | None:
        return self.attrs.get("body")


def make(op: Op, *inputs: Value, origin: str = "", name: str = "", **attrs: Any) -> Node:
    """A node with freshly inferred results."""
    types = op.infer([v.type for v in inputs], attrs)
    return Node(op, inputs, attrs, tuple(Value(t, name) for t in types), origin)


@dataclass
class Graph:
    """A function of tensors.

    inputs   values given at run time, by name
    consts   values known at compile time (weights), with their tensors
    outputs  results, in order
    state    output index -> input index: that output is the input's new content (in place)
    symbols  the symbolic dims, with their ranges
    """

    inputs: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    consts: dict[Value, torch.Tensor | None] = field(default_factory=dict)
    state: dict[int, int] = field(default_factory=dict)
    symbols: dict[str, Range] = field(default_factory=dict)

    # -- building -------------------------------------------------------------------------
    def input(self, type: Type, name: str) -> Value:
        v = Value(type, name)
        self.inputs.append(v)
        return v

    def const(self, tensor: torch.Tensor, name: str) -> Value:
        v = Value(Type(tensor.dtype, tuple(tensor.shape)), name)
        self.consts[v] = tensor
        return v

    def add(self, op: Op, *inputs: Value, origin: str = "", name: str = "", **attrs: Any) -> Value:
        """Append a node; returns its first result."""
        node = make(op, *inputs, origin=origin, name=name, **attrs)
        self.nodes.append(node)
        return node.out

    # -- reading --------------------------------------------------------------------------
    def producers(self) -> dict[Value, Node]:
        return {v: n for n in self.nodes for v in n.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """Value -> nodes that read it (a node once per operand)."""
        out: dict[Value, list[Node]] = {}
        for n in self.nodes:
            for v in n.inputs:
                out.setdefault(v, []).append(n)
        return out

    def walk(self) -> Iterator[Node]:
        """All nodes, group bodies included."""
        for n in self.nodes:
            yield n
            if n.body is not None:
                yield from n.body.walk()

    # -- rewriting ------------------------------------------------------------------------
    def with_nodes(
        self, nodes: Iterable[Node], mapping: Mapping[Value, Value] | None = None
    ) -> Graph:
        """The same graph over other nodes; `mapping` renames values in operands and outputs."""
        m = _closure(mapping or {})
        new = [
            replace(n, inputs=tuple(m.get(v, v) for v in n.inputs))
            if any(v in m for v in n.inputs)
            else n
            for n in nodes
        ]
        return replace(
            self,
            inputs=list(self.inputs),
            nodes=new,
            outputs=[m.get(v, v) for v in self.outputs],
            consts=dict(self.consts),
            state=dict(self.state),
            symbols=dict(self.symbols),
        )

    # -- checking -------------------------------------------------------------------------
    def verify(self) -> None:
        """Raise XCompileError unless the graph is well formed; re-runs every shape inference."""
        known: set[Value] = set()
        for v in itertools.chain(self.inputs, self.consts):
            if v in known:
                raise XCompileError(f"value {v.name!r} is defined twice")
            known.add(v)
            self._check_symbols(v, f"value {v.name!r}")
        if len({*self.state.values()}) != len(self.state):
            raise XCompileError(f"two outputs update one input: {self.state}")
        for o, i in self.state.items():
            if not (0 <= o < len(self.outputs) and 0 <= i < len(self.inputs)):
                raise XCompileError(f"there is no output {o} or no input {i} to update")
        dead: dict[Value, Node] = {}
        writes = self._in_place_writes()
        for i, n in enumerate(self.nodes):
            where = f"node {i} ({n.op.name}{' of ' + n.origin if n.origin else ''})"
            for v in n.inputs:
                if v not in known:
                    raise XCompileError(f"{where} reads a value that is not defined before it")
                if v in dead:
                    raise XCompileError(
                        f"{where} reads %{v.name} after {dead[v].op.name} overwrote it in place"
                    )
            types = n.op.infer([v.type for v in n.inputs], n.attrs)
            if len(types) != len(n.outputs):
                raise XCompileError(f"{where} has {len(n.outputs)} results, infer {len(types)}")
            for v, t in zip(n.outputs, types, strict=True):
                if not v.type.same(t):
                    raise XCompileError(f"{where} says {v.type}, shape inference says {t}")
                if v in known:
                    raise XCompileError(f"{where} defines a value twice")
                known.add(v)
            for v in n.outputs:
                self._check_symbols(v, where)
            if n.body is not None:
                replace(n.body, symbols=self.symbols).verify()
            for v in n.inputs:
                if n in writes.get(v, ()):
                    dead[v] = n
        for v in self.outputs:
            if v not in known:
                raise XCompileError(f"output %{v.name} is never defined")
            if v in dead:
                raise XCompileError(
                    f"output %{v.name} is returned after {dead[v].op.name} overwrote it in place"
                )
        for o, i in self.state.items():
            if not self.outputs[o].type.same(self.inputs[i].type):
                raise XCompileError(
                    f"output {o} ({self.outputs[o].type}) cannot update input "
                    f"{self.inputs[i].name!r} ({self.inputs[i].type})"
                )

    def _check_symbols(self, v: Value, where: str) -> None:
        for s in sorted({s for d in v.shape for s in free_names(d)} - self.symbols.keys()):
            raise XCompileError(f"{where} uses symbol {s}, which the graph does not have")

    def _in_place_writes(self) -> dict[Value, list[Node]]:
        """Values on the chain from an updated input to its output -> the nodes that write them."""
        made = self.producers()
        out: dict[Value, list[Node]] = {}
        for o, i in self.state.items():
            v, chain = self.outputs[o], []
            while v is not self.inputs[i] and v in made:
                n = made[v]
                operand = n.op.alias.get(n.outputs.index(v))
                if operand is None:
                    break
                v = n.inputs[operand]
                chain.append((v, n))
            for old, n in chain if v is self.inputs[i] else []:
                out.setdefault(old, []).append(n)
        return out

    # -- running --------------------------------------------------------------------------
    def bind(self, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
        """Symbol values from the inputs' concrete shapes. Raises ShapeError."""
        return bind_shapes([(v.name, v.type) for v in self.inputs], self.symbols, shapes)

    def eval(self, *args: torch.Tensor, env: Mapping[str, int] | None = None) -> list[torch.Tensor]:
        """Run the graph with the ops' torch references. Inputs are never modified."""
        env = env if env is not None else self.bind([a.shape for a in args])
        known: dict[Value, torch.Tensor] = dict(zip(self.inputs, args, strict=True))
        for v, t in self.consts.items():
            if t is None:
                raise XCompileError(f"constant {v.name!r} has no data in this text form")
            known[v] = t
        last = {v: n for n in self.nodes for v in n.inputs}
        keep = {*self.outputs, *self.inputs, *self.consts}
        for n in self.nodes:
            outs = evaluate_node(n, [known[v] for v in n.inputs], env)
            known.update(zip(n.outputs, outs, strict=True))
            for v in {*n.inputs}:
                if last.get(v) is n and v not in keep:
                    known.pop(v, None)
        return [known[v] for v in self.outputs]


def evaluate_node(
    n: Node, args: Sequence[torch.Tensor], env: Mapping[str, int]
) -> Sequence[torch.Tensor]:
    """Results of one node through its torch reference."""
    if n.body is not None:
        return n.body.eval(*args, env=env)
    out = n.op.ref(*map(made, args), **{k: concrete(v, env) for k, v in n.attrs.items()})
    return out if isinstance(out, list | tuple) else (out,)


def concrete(attr: Any, env: Mapping[str, int]) -> Any:
    """An attribute with its symbolic parts replaced by ints."""
    if isinstance(attr, sympy.Expr):
        return evaluate(attr, env)
    if isinstance(attr, tuple):
        return tuple(concrete(a, env) for a in attr)
    return attr


def _closure(m: Mapping[Value, Value]) -> dict[Value, Value]:
    """Follow chains a -> b -> c in a renaming."""
    out = {}
    for k, v in m.items():
        while v in m:
            v = m[v]
        out[k] = v
    return out


def bind_shapes(
    inputs: Sequence[tuple[str, Type]],
    symbols: Mapping[str, Range],
    shapes: Sequence[Sequence[int]],
) -> dict[str, int]:
    """Symbol values from concrete shapes of (name, type) inputs.

    Raises ShapeError when a rank, a fixed size or a symbol's range does not fit.
    """
    env: dict[str, int] = {}
    dims: list[tuple[str, Type, int, Dim, int]] = []
    for (name, t), shape in zip(inputs, shapes, strict=True):
        if len(shape) != t.rank:
            raise ShapeError(f"input {name!r} is {t}, given shape {tuple(shape)}")
        for k, (d, n) in enumerate(zip(t.shape, shape, strict=True)):
            dims.append((name, t, k, d, int(n)))
            if isinstance(d, sympy.Symbol):
                env.setdefault(d.name, int(n))
    for _, _, _, d, n in dims:  # affine dims such as R + 1
        missing = free_names(d) - env.keys()
        if len(missing) == 1 and isinstance(d, sympy.Expr):
            (s,) = (s for s in d.free_symbols if s.name in missing)
            known = {x: env[x.name] for x in d.free_symbols if x.name in env}
            solutions = sympy.solve(d.subs(known) - n, s)
            if len(solutions) == 1 and solutions[0].is_Integer:
                env[s.name] = int(solutions[0])
    for name, t, k, d, n in dims:
        if free_names(d) <= env.keys() and evaluate(d, env) != n:
            what = f"{dim_str(d)} = {evaluate(d, env)}" if free_names(d) else dim_str(d)
            raise ShapeError(
                f"input {name!r} has size {n} in dim {k}; this graph was compiled for {what} ({t})"
            )
    for s, r in symbols.items():
        if s in env and env[s] not in r:
            raise ShapeError(
                f"dim {s} is {env[s]}, outside the compiled range {r.lo}..{r.hi}; compile with a "
                f"wider range (--dynamic {s}=LO:HI)"
            )
    return env
