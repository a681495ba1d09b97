"""FX graphs (functional, pre-dispatch ATen) -> IR.

`from_export` takes a `torch.export.ExportedProgram`, `from_dynamo` what Dynamo gives a backend.
Symbolic ints never become nodes: their sympy expressions go straight into the dims.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
import torch.fx
from torch.utils._sympy.functions import CleanDiv, FloorDiv, Mod, PythonMod
from torch.utils._sympy.numbers import int_oo

from xcompile.errors import ShapeError, UnsupportedError
from xcompile.frontend import inplace
from xcompile.ir import DTYPE_NAMES, Graph, Op, Type, Value, make
from xcompile.ops import aten_map
from xcompile.ops.infer import broadcast
from xcompile.ops.island import TORCH_CALL
from xcompile.ops.leaf import FULL
from xcompile.ops.pointwise import CAST
from xcompile.ops.view import EXPAND, RESHAPE
from xcompile.symbolic import UNBOUNDED, Dim, Range, same, simplify, symbol


@dataclass(frozen=True)
class Complex:
    """A complex tensor as two real values: complex arithmetic is lowered at import."""

    re: Value
    im: Value


Names = Mapping[str, str]
PLACEMENT = {"device", "layout", "pin_memory", "memory_format"}  # islands: CPU, contiguous, always


class Importer:
    """Builds one Graph from one FX graph; converters call its helpers."""

    def __init__(
        self, names: Names | None = None, shape_env: Any = None, bounds: Mapping | None = None
    ) -> None:
        self.graph = Graph()
        self.bounds = bounds or {}
        self.names = names or {}
        self.shape_env = shape_env
        self.env: dict[torch.fx.Node, Any] = {}
        self.node: torch.fx.Node | None = None
        self._consts: dict[tuple, Value] = {}

    # -- dims -----------------------------------------------------------------------------
    def dim(self, d: Any) -> Dim:
        """An int or our expression for an int, SymInt or sympy expression of torch."""
        if isinstance(d, int) and not isinstance(d, bool):
            return d
        e = d.node.expr if isinstance(d, torch.SymInt) else d
        table = {}
        for s in e.free_symbols:
            ours = symbol(self.names.get(s.name, s.name))
            self.graph.symbols.setdefault(ours.name, self._range(s))
            table[s] = ours
        e = e.xreplace(table).replace(PythonMod, Mod).replace(CleanDiv, FloorDiv)
        return simplify(e)

    def _range(self, s: sympy.Symbol) -> Range:
        env = self.shape_env
        r = self.bounds.get(s, env.var_to_range.get(s) if env is not None else None)
        lo = int(r.lower) if r is not None and r.lower not in (-int_oo, -sympy.oo) else 1
        hi = int(r.upper) if r is not None and r.upper not in (int_oo, sympy.oo) else UNBOUNDED
        hints = getattr(env, "backed_var_to_val", None) or getattr(env, "var_to_val", {})
        hint = int(hints.get(s, max(lo, 1)))
        return Range(max(lo, 0), min(hi, UNBOUNDED), hint)

    def shape(self, dims: Sequence[Any]) -> tuple[Dim, ...]:
        return tuple(self.dim(self.get(d)) for d in dims)

    def type_of(self, t: torch.Tensor) -> Type:
        if t.dtype not in DTYPE_NAMES:
            raise UnsupportedError(f"dtype {t.dtype} (at {self.where()}) is not supported")
        return Type(t.dtype, tuple(self.dim(d) for d in t.shape))

    # -- values ---------------------------------------------------------------------------
    def get(self, arg: Any) -> Any:
        """The value of an FX argument: Value, Complex, dim, list of these, or a literal."""
        if isinstance(arg, torch.fx.Node):
            return self.env[arg]
        if isinstance(arg, list | tuple):
            return [self.get(a) for a in arg]
        return arg

    def add(self, op: Op, *inputs: Value, **attrs: Any) -> Value:
        return self.results(op, *inputs, **attrs)[0]

    def results(self, op: Op, *inputs: Value, **attrs: Any) -> tuple[Value, ...]:
        n = make(op, *inputs, origin=self.origin(), **attrs)
        self.graph.nodes.append(n)
        return n.outputs

    def scalar(self, x: Any) -> Value:
        """A 0-d value for a Python number or a dim; Values pass through."""
        if isinstance(x, Value):
            return x
        if isinstance(x, bool):
            dtype = torch.bool
        else:
            dtype = torch.float32 if isinstance(x, float) else torch.int64
        return self.add(FULL, shape=(), value=x, dtype=dtype)

    def cast(self, x: Value, dtype: torch.dtype) -> Value:
        return x if x.dtype == dtype else self.add(CAST, x, dtype=dtype)

    def reshape(self, x: Value, shape: tuple[Dim, ...]) -> Value:
        if len(shape) == x.type.rank and all(map(same, shape, x.shape)):
            return x
        return self.add(RESHAPE, x, shape=shape)

    def expand(self, x: Value, shape: tuple[Dim, ...]) -> Value:
        if len(shape) == x.type.rank and all(map(same, shape, x.shape)):
            return x
        return self.add(EXPAND, x, shape=shape)

    def pointwise(self, op: Op, *args: Any) -> Value:
        """A pointwise op on values and Python scalars, in the dtype that torch computed it in."""
        vals = [self.scalar(a) for a in args]
        want = self.expected()
        out = op.infer([v.type for v in vals], {})[0].dtype
        if want is not None and out != want.dtype and want.dtype in DTYPE_NAMES:
            if out == torch.bool:
                return self.cast(self.add(op, *vals), want.dtype)
            first = 1 if op.name == "where" else 0
            vals[first:] = [
                v if v.type.rank == 0 and want.dtype.is_floating_point and v.dtype != torch.bool
                else self.cast(v, want.dtype)
                for v in vals[first:]
            ]  # fmt: skip
        return self.add(op, *vals)

    def const(self, t: torch.Tensor, name: str) -> Value:
        """A constant; tensors that share storage, shape and strides become one."""
        t = t.detach()
        key = (t.data_ptr(), tuple(t.shape), t.stride(), t.dtype, t.numel() and t.storage_offset())
        if key not in self._consts or not t.numel():
            self._consts[key] = self.graph.const(t, name)
        return self._consts[key]

    def parameter(self, t: torch.Tensor, name: str) -> Value | Complex:
        """A constant, or the two parts of a complex one."""
        if not t.is_complex():
            return self.const(t, name)
        return Complex(*(self.const(part_of(t, p), f"{name}.{p}") for p in ("real", "imag")))

    # -- the FX node at hand --------------------------------------------------------------
    def expected(self) -> torch.Tensor | None:
        val = self.node.meta.get("val") if self.node is not None else None
        return val if isinstance(val, torch.Tensor) else None

    def origin(self) -> str:
        if self.node is None:
            return ""
        stack = self.node.meta.get("nn_module_stack") or {}
        path = next(reversed(stack.values()))[0] if stack else ""
        path = str(path).replace(".forward.args[0]", "")  # a substitute, see native_moe
        return path.replace("L['self'].", "").replace("L['self']", "")

    def where(self) -> str:
        return f"{self.node.target} in {self.origin() or 'the graph'}" if self.node else "the graph"

    # -- the walk -------------------------------------------------------------------------
    def run(self, g: torch.fx.Graph) -> None:
        for n in g.nodes:
            if n.op != "call_function":
                continue
            self.node = n
            val = n.meta.get("val")
            if isinstance(val, torch.SymInt | int) and not isinstance(val, bool):
                self.env[n] = self.dim(val)
            elif n.target is operator.getitem:
                self.env[n] = self.env[n.args[0]][n.args[1]]
            elif isinstance(n.target, torch._ops.OpOverload):
                if inplace.is_write(n):
                    inplace.write(self, n)
                else:
                    self.env[n] = self._call(n)
            elif val is not None and not isinstance(val, torch.Tensor):
                self.env[n] = val  # SymBool and friends: only asserts read them
            else:
                raise UnsupportedError(f"cannot import the call {self.where()}")
        self.node = None

    def _call(self, n: torch.fx.Node) -> Any:
        from xcompile.frontend.aten import CONVERT, IGNORE

        assert isinstance(n.target, torch._ops.OpOverload)
        name = str(n.target).removeprefix("aten.")
        if name in IGNORE:
            return None
        args = [self.get(a) for a in n.args]
        kwargs = {k: self.get(v) for k, v in n.kwargs.items()}
        out: Any = None
        if name in CONVERT:
            out = CONVERT[name](self, *args, **kwargs)
        elif name in aten_map() and not _has_complex(args):
            out = self._mapped(aten_map()[name], n, args, kwargs)
        if out is None:
            return self._island(n, args, kwargs)
        self._check(n, out)
        return out

    def _mapped(self, op: Op, n: torch.fx.Node, args: list, kwargs: dict) -> Any:
        if op.pointwise:
            return self.pointwise(op, *args) if not kwargs else None
        schema = n.target._schema.arguments  # type: ignore[union-attr]
        named = dict(zip((a.name for a in schema), args, strict=False)) | kwargs
        values = [v for v in named.values() if isinstance(v, Value)]
        absent = {a.name for a in schema if str(a.type) == "Optional[Tensor]"}
        attrs = {k: v for k, v in named.items() if not isinstance(v, Value) and k not in absent}
        attrs = {k: v for k, v in attrs.items() if v is not None}  # an option that is left out
        out = self.results(op, *values, **attrs)
        return out[0] if len(out) == 1 else list(out)

    def _check(self, n: torch.fx.Node, out: Any) -> None:
        """What we made must have the type that torch recorded."""
        val = n.meta.get("val")
        if isinstance(out, Value) and isinstance(val, torch.Tensor):
            want = self.type_of(val)
            if not out.type.same(want):
                raise UnsupportedError(f"{self.where()} became {out.type}, torch says {want}")

    def _island(self, n: torch.fx.Node, args: list, kwargs: dict) -> Any:
        """A node that torch runs at run time."""
        val = n.meta.get("val")
        outs = [val] if isinstance(val, torch.Tensor) else list(val or [])
        if not outs or not all(isinstance(o, torch.Tensor) for o in outs):
            raise UnsupportedError(f"{self.where()} has no tensor result; cannot even run eagerly")
        values: list[Value] = []

        def spec(a: Any) -> Any:
            if isinstance(a, Complex):
                raise UnsupportedError(f"{self.where()}: complex tensors are not supported here")
            if isinstance(a, Value):
                values.append(a)
                return ("t", 0)
            if isinstance(a, list | tuple):
                return ("l", tuple(spec(x) for x in a))
            return a

        positional = tuple(spec(a) for a in args)
        keyword = tuple((k, spec(v)) for k, v in kwargs.items() if k not in PLACEMENT)
        types = [self.type_of(o) for o in outs]
        result = self.results(
            TORCH_CALL,
            *values,
            target=n.target._schema.name + "." + (n.target._overloadname or "default"),  # type: ignore[union-attr]
            spec=(positional, keyword),
            dtypes=tuple(t.dtype for t in types),
            shapes=tuple(t.shape for t in types),
        )
        return result[0] if isinstance(val, torch.Tensor) else list(result)


def size_argument(n: int, device: torch.device | None) -> torch.Tensor:
    """A Python int as a compiled graph takes it: the number of rows, of no elements each."""
    if n < 0:
        raise ShapeError(f"an int argument of a compiled graph must not be negative, given {n}")
    return torch.empty((n, 0), dtype=torch.uint8, device=device)


def part_of(t: torch.Tensor, part: str) -> torch.Tensor:
    """A tensor, or one part of a complex one; part: "", "real", "imag"."""
    return getattr(t.detach(), part).contiguous() if part else t.detach()


def _has_complex(args: Any) -> bool:
    if isinstance(args, list | tuple):
        return any(map(_has_complex, args))
    return isinstance(args, Complex)


@dataclass
class Imported:
    """An imported graph and how the caller's arguments and results map to it.

    inputs   for each graph input: position in the flat user arguments
    outputs  for each flat user result: ("value", index among the outputs that are not state) or
             ("const", literal)
    weights  constant -> position and part ("", "real", "imag") of its argument (Dynamo only)
    """

    graph: Graph
    inputs: list[int]
    outputs: list[tuple[str, Any]]
    islands: list[str] = field(default_factory=list)
    weights: dict[Value, tuple[int, str]] = field(default_factory=dict)


def _shape_env(g: torch.fx.Graph) -> Any:
    for n in g.nodes:
        val = n.meta.get("val")
        if isinstance(val, torch.SymInt):
            return val.node.shape_env
        if isinstance(val, torch.Tensor):
            for d in val.shape:
                if isinstance(d, torch.SymInt):
                    return d.node.shape_env
    return None


def from_export(ep: torch.export.ExportedProgram, names: Names | None = None) -> Imported:
    """Import an exported program. `names` renames torch's symbols. Raises UnsupportedError."""
    if ep.dialect == "TRAINING":  # not functional yet
        if inplace.simple(ep.graph):
            try:
                imported = _from_export(ep, names)
            except UnsupportedError:  # torch's own functional form may still do
                imported = None
            if imported is not None and not imported.islands:
                return imported
        ep = ep.run_decompositions({})
    return _from_export(ep, names)


def _from_export(ep: torch.export.ExportedProgram, names: Names | None) -> Imported:
    sig = ep.graph_signature
    if sig.buffers_to_mutate:
        raise _writes_buffers(sorted(sig.buffers_to_mutate.values()))
    imp = Importer(names, _shape_env(ep.graph), ep.range_constraints)
    placeholders = [n for n in ep.graph.nodes if n.op == "placeholder"]
    tensors = {**ep.state_dict, **ep.constants}
    attrs = {**sig.inputs_to_parameters, **sig.inputs_to_buffers}
    attrs |= sig.inputs_to_lifted_tensor_constants
    user = set(sig.user_inputs)
    positions: list[int] = []
    at = -1
    for n in placeholders:
        val = n.meta.get("val")
        if n.name in attrs:
            imp.env[n] = imp.const(tensors[attrs[n.name]], attrs[n.name])
            continue
        at += n.name in user
        if isinstance(val, torch.Tensor):
            imp.env[n] = imp.graph.input(imp.type_of(val), n.name)
            positions.append(at)
        else:
            imp.env[n] = imp.dim(val) if isinstance(val, torch.SymInt) else val
    given = {n: imp.env[n] for n in placeholders}
    imp.run(ep.graph)
    output = next(n for n in ep.graph.nodes if n.op == "output").args[0]
    for n, before in given.items():
        if imp.env[n] is not before:  # written in place while importing
            if before not in imp.graph.inputs:
                raise _writes_buffers([n.name])
            imp.graph.state[len(imp.graph.outputs)] = imp.graph.inputs.index(before)
            imp.graph.outputs.append(imp.env[n])
    by_name = {n.name: n for n in placeholders}
    outs: list[tuple[str, Any]] = []
    for arg, spec in zip(output, sig.output_specs, strict=True):
        v = imp.get(arg)
        if spec.kind == torch.export.graph_signature.OutputKind.USER_INPUT_MUTATION:
            target = imp.env[by_name[spec.target]]
            imp.graph.state[len(imp.graph.outputs)] = imp.graph.inputs.index(target)
            imp.graph.outputs.append(v)
        elif isinstance(v, Value):
            outs.append(("value", len(imp.graph.outputs)))
            imp.graph.outputs.append(v)
        else:
            outs.append(("const", v))
    return _finish(imp, positions, outs)


def _writes_buffers(names: list[str]) -> UnsupportedError:
    return UnsupportedError(
        f"the model writes its own buffers {names}; pass such state as tensor arguments instead"
    )


def from_dynamo(
    gm: torch.fx.GraphModule, args: Sequence[Any], is_const: Callable[[torch.fx.Node], bool]
) -> Imported:
    """Import what Dynamo hands to a backend. `args` are the real example inputs; placeholders for
    which `is_const` holds (a module's parameters and buffers) become constants."""
    from torch._functorch.aot_autograd import aot_export_module

    named = [n for n in gm.graph.nodes if n.op == "placeholder"]
    fakes = [n.meta["example_value"] for n in named]
    fx: Any
    sig: Any
    with torch.no_grad():
        fx, sig = aot_export_module(gm, fakes, trace_joint=False, pre_dispatch=True)
    imp = Importer(None, _shape_env(fx.graph) or _shape_env(gm.graph))
    positions: list[int] = []
    weights: dict[Value, tuple[int, str]] = {}
    inner = [n for n in fx.graph.nodes if n.op == "placeholder"]
    lifted = {**sig.inputs_to_parameters, **sig.inputs_to_buffers}  # held by the graph module
    owned = dict(gm.named_parameters()) | dict(gm.named_buffers())
    for n in inner:
        if n.name in lifted:
            imp.env[n] = imp.const(owned[lifted[n.name]], lifted[n.name])
    tokens = set(sig.input_tokens)  # torch threads effects through the graph; ours is ordered
    inner = [n for n in inner if n.name not in lifted and n.name not in tokens]
    for i, (n, src) in enumerate(zip(inner, named, strict=True)):
        val = n.meta.get("val", src.meta["example_value"])
        if isinstance(val, torch.Tensor):
            if is_const(src) and n.name not in sig.user_inputs_to_mutate.values():
                made = imp.env[n] = imp.parameter(args[i], source_name(src))
                if isinstance(made, Complex):
                    weights |= {made.re: (i, "real"), made.im: (i, "imag")}
                else:
                    weights[made] = i, ""
            else:
                imp.env[n] = imp.graph.input(imp.type_of(val), source_name(src))
                positions.append(i)
        else:
            imp.env[n] = imp.dim(val) if isinstance(val, torch.SymInt) else val
    for node in fx.graph.nodes:
        if node.op == "get_attr":
            imp.env[node] = imp.const(getattr(fx, str(node.target)), str(node.target))
    imp.run(fx.graph)
    bound = {d for v in imp.graph.inputs for d in v.shape}
    for i, n in enumerate(inner):
        size = imp.env[n]
        if isinstance(size, sympy.Symbol) and size not in bound:
            # A Python int that no shape tells: rows of nothing tell it (see size_argument).
            imp.graph.input(Type(torch.uint8, (size, 0)), source_name(named[i]))
            positions.append(i)
    output = next(n for n in fx.graph.nodes if n.op == "output")
    by_name = {n.name: n for n in inner}
    outs: list[tuple[str, Any]] = []
    for arg in output.args[0][len(sig.output_tokens) :]:
        v = imp.get(arg)
        mutated = sig.user_inputs_to_mutate.get(getattr(arg, "name", ""))
        if mutated is not None and len(imp.graph.state) < len(sig.user_inputs_to_mutate):
            target = imp.env[by_name[mutated]]
            imp.graph.state[len(imp.graph.outputs)] = imp.graph.inputs.index(target)
            imp.graph.outputs.append(v)
        elif isinstance(v, Value):
            outs.append(("value", len(imp.graph.outputs)))
            imp.graph.outputs.append(v)
        else:
            outs.append(("const", v))
    imported = _finish(imp, positions, outs)
    imported.weights = {v: i for v, i in weights.items() if v in imported.graph.consts}
    return imported


def source_name(n: torch.fx.Node) -> str:
    """A readable name for a Dynamo placeholder: "model.layers.0.mlp.gate.weight"."""
    name = n.name.removeprefix("l_").removesuffix("_")
    for tag in ("_modules_", "_parameters_", "_buffers_"):
        name = name.replace(tag, ".")
    return name.removeprefix("self.")


def _finish(imp: Importer, positions: list[int], outs: list[tuple[str, Any]]) -> Imported:
    g = imp.graph
    if any(isinstance(v, Complex) for v in g.outputs):
        raise UnsupportedError("complex outputs are not supported")
    live = set(g.outputs)
    for n in reversed(g.nodes):  # what shape arithmetic left behind is not the user's business
        if live & set(n.outputs):
            live.update(n.inputs)
    g.nodes = [n for n in g.nodes if live & set(n.outputs)]
    g.consts = {v: t for v, t in g.consts.items() if v in live}
    g.verify()
    plain = [o for o in range(len(g.outputs)) if o not in g.state]
    outs = [(kind, plain.index(x) if kind == "value" else x) for kind, x in outs]
    return Imported(g, positions, outs, islands(g))


def islands(g: Graph) -> list[str]:
    """Torch operators that stay eager, and where."""
    return [f"{n.attrs['target']} ({n.origin})" for n in g.nodes if n.op is TORCH_CALL]


__all__ = ["Complex", "Imported", "Importer", "broadcast", "from_dynamo", "from_export", "islands"]
