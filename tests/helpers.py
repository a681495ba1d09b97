"""What the compiler's tests share: the numeric bar, an exact evaluator, and running a graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F

from xcompile.compiler import Compiled, compile_graph, executor, make_target
from xcompile.frontend.fx import Imported
from xcompile.ir import Graph, Node, Op, Type, Value, evaluate_node
from xcompile.ops import registry
from xcompile.ops.moe import ACTIVATIONS, gate, is_gated
from xcompile.passes import PIPELINE, run_pipeline
from xcompile.runtime.executor import Executor
from xcompile.symbolic import Range
from xcompile.targets.cpu import LEVELS, best_isa, missing_features

OPS = registry()
FACTOR, ULPS = 1.25, 4
LEVELS_HERE = [level for level in LEVELS if not missing_features(level)]
FAST_LEVELS = [x for x in LEVELS_HERE if x in {best_isa(), "avx2", "portable"}]
TWO_LEVELS = [best_isa(), "portable"]  # where even three would take too long
Build = Callable[..., "Sequence[Value]"]
# Operands that a kernel takes only as constants.
WEIGHTS: dict[str, tuple[int, ...]] = {
    "linear": (1,),
    "head_linear": (1,),
    "mla_attention": (6, 7, 8),
    "moe_experts": (3, 4),
    "moe_experts_int8": (3, 4, 5, 6),
}


# -- the numeric bar -------------------------------------------------------------------------------
def assert_close_to_reference(
    ours: torch.Tensor,
    eager: torch.Tensor,
    reference: torch.Tensor,
    *,
    ulps: float = ULPS,
    what: str = "result",
) -> None:
    """Our error against `reference` is at most 1.25 x eager's in the same dtype, plus a few ulp.

    Both the largest and the root-mean-square error are held to it. Integers and bools, and the
    places of NaN and infinity, must agree exactly.
    """
    assert ours.shape == eager.shape == reference.shape, f"{what}: shape {tuple(ours.shape)}"
    assert ours.dtype == eager.dtype, f"{what}: {ours.dtype}, eager has {eager.dtype}"
    if not ours.dtype.is_floating_point:
        wrong = int((ours != eager).sum())
        assert not wrong, f"{what}: {wrong} of {ours.numel()} {ours.dtype} elements differ"
        return
    a, b, c = (t.double() for t in (ours, eager, reference))
    finite = b.isfinite()
    assert torch.equal(a.isfinite(), finite), f"{what}: NaN or infinity in other places"
    special = ~finite
    assert torch.equal(a[special].nan_to_num(7.0), b[special].nan_to_num(7.0)), f"{what}: specials"
    a, b, c = a[finite], b[finite], c[finite]
    if not a.numel():
        return
    ulp = torch.finfo(ours.dtype).eps
    for name, size in (("largest", torch.max), ("rms", _rms)):
        ours_off, eager_off = float(size((a - c).abs())), float(size((b - c).abs()))
        limit = FACTOR * eager_off + ulps * ulp * float(size(c.abs()))
        assert ours_off <= limit, (
            f"{what}: {name} error {ours_off:.3g}, eager's is {eager_off:.3g}, allowed {limit:.3g}"
        )


def _rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean().sqrt()


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """|got - want| / |want| in the Euclidean norm."""
    return float((got.double() - want.double()).norm() / want.double().norm())


# -- the same graph in float64 ---------------------------------------------------------------------
def exact_eval(graph: Graph, args: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The graph in float64 throughout: every float operand, constant, cast and accumulator."""
    env = graph.bind([a.shape for a in args])
    known = {v: _wide(t) for v, t in zip(graph.inputs, args, strict=True)}
    known |= {v: _wide(t) for v, t in graph.consts.items() if t is not None}
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        _exact_nodes(graph, known, env)
    return [known[v] for v in graph.outputs]


def _exact_nodes(graph: Graph, known: dict[Value, torch.Tensor], env: Mapping[str, int]) -> None:
    for n in graph.nodes:
        args = [known[v] for v in n.inputs]
        if n.op.name == "moe_experts":
            outs: Sequence[torch.Tensor] = [_exact_experts(args, **n.attrs)]
        else:
            attrs = {k: _wide_dtype(v) for k, v in n.attrs.items()}
            outs = evaluate_node(Node(n.op, n.inputs, attrs, n.outputs), args, env)
        known.update(zip(n.outputs, outs, strict=True))


def _wide(t: torch.Tensor) -> torch.Tensor:
    return t.double() if t.is_floating_point() else t


def _wide_dtype(a: Any) -> Any:
    return torch.float64 if isinstance(a, torch.dtype) and a.is_floating_point else a


def _exact_experts(
    args: Sequence[torch.Tensor], act: str, limit: float = 0.0, alpha: float = 1.0
) -> torch.Tensor:
    x, expert, weight, gate_up, down, *bias = args
    out = torch.zeros_like(x)
    for e in expert.unique().tolist():
        up_bias, down_bias = (b[e] for b in bias) if bias else (None, None)
        h = F.linear(x, gate_up[e], up_bias)
        if is_gated(gate_up.shape, down.shape):
            h = gate(act, *h.chunk(2, -1), limit, alpha)
        else:
            h = ACTIVATIONS[act](h)
        share = (weight * (expert == e)).sum(-1, keepdim=True)
        out += F.linear(h, down[e], down_bias) * share
    return out


# -- building and running --------------------------------------------------------------------------
def in_dtype(args: Sequence[torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
    """The floats among an op's operands in a dtype, but for the scales behind int8 weights."""
    scales = {k + 1 for k, a in enumerate(args) if a.dtype == torch.int8}
    return [
        a.to(dtype) if a.is_floating_point() and k not in scales else a for k, a in enumerate(args)
    ]


def type_of(t: torch.Tensor) -> Type:
    return Type(t.dtype, tuple(t.shape))


def add(g: Graph, op: str, *args: Value, **attrs: Any) -> Value:
    """Appends op; returns its first result."""
    return g.add(OPS[op], *args, **attrs)


def graph_of(build: Build, *types: Type | torch.Tensor, state: Mapping[int, int] | None = None,
             symbols: Mapping[str, Range] | None = None) -> Graph:  # fmt: skip
    """A verified graph: build(graph, *inputs) returns its outputs."""
    g = Graph(symbols=dict(symbols or {}))
    given = [type_of(t) if isinstance(t, torch.Tensor) else t for t in types]
    g.outputs = list(build(g, *[g.input(t, f"x{k}") for k, t in enumerate(given)]))
    g.state = dict(state or {})
    g.verify()
    return g


def imported(g: Graph) -> Imported:
    """A graph whose caller gives its inputs and takes its outputs as they are."""
    values = [("value", k) for k in range(len(g.outputs) - len(g.state))]
    return Imported(g, inputs=list(range(len(g.inputs))), outputs=values)


def optimised(g: Graph, names: Sequence[str] | None = None) -> Graph:
    """The graph after the pipeline, or after the passes named."""
    return run_pipeline(g, make_target("cpu"), names=PIPELINE if names is None else names)[0]


def compiled(g: Graph, target: str = "cpu") -> Compiled:
    return compile_graph(imported(g), target)


def call(g: Graph, run: Executor, args: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """All outputs of a compiled graph, the new states among them; `args` stay as they are."""
    mine = [a.clone() for a in args]
    outs = iter(run(*mine))
    return [mine[g.state[o]] if o in g.state else next(outs) for o in range(len(g.outputs))]


def run_graph(g: Graph, args: Sequence[torch.Tensor], target: str = "cpu") -> list[torch.Tensor]:
    """Compiles and runs a graph with two threads."""
    return call(g, executor(compiled(g, target), 2), args)


@dataclass
class Batch:
    """Many small cases as one graph, so that one compilation serves them all."""

    graph: Graph = field(default_factory=Graph)
    args: list[torch.Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # one per output

    def input(self, t: torch.Tensor) -> Value:
        self.args.append(t)
        return self.graph.input(type_of(t), f"x{len(self.args) - 1}")

    def const(self, t: torch.Tensor) -> Value:
        return self.graph.const(t, f"c{len(self.graph.consts)}")

    def output(self, name: str, *values: Value) -> None:
        self.graph.outputs += values
        self.names += [name] * len(values)

    def op(self, name: str, op: Op, args: Sequence[torch.Tensor], attrs: Mapping[str, Any],
           const: Sequence[int] = ()) -> None:  # fmt: skip
        """A case of one op; operands numbered in `const` become constants."""
        values = [self.const(t) if k in const else self.input(t) for k, t in enumerate(args)]
        self.graph.add(op, *values, **attrs)
        self.output(name, *self.graph.nodes[-1].outputs)

    def check(self, got: Sequence[torch.Tensor], ulps: float = ULPS) -> None:
        """Holds every output to the bar and names those that miss it."""
        eager = self.graph.eval(*self.args)
        exact = exact_eval(self.graph, self.args)
        missed = []
        for row in zip(self.names, got, eager, exact, strict=True):
            try:
                assert_close_to_reference(*row[1:], ulps=ulps, what=row[0])
            except AssertionError as e:
                missed.append(str(e).splitlines()[0])
        assert not missed, "\n".join(missed)

    def run(self, target: str = "cpu", threads: int = 2) -> list[torch.Tensor]:
        return executor(compiled(self.graph, target), threads)(*self.args)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    with mock.patch.dict("os.environ", values):
        yield
