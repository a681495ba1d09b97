"""Program and Signature as JSON, and back.

A manifest is untrusted: `read_program` and `read_signature` check the type and the range of
everything, so that a damaged one is refused here and not by a crash of the step.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import sympy
import torch

from xcompile.errors import ArtifactError, XCompileError
from xcompile.executable import Signature
from xcompile.ir import DTYPE_NAMES, DTYPES, Type
from xcompile.ops.island import resolve
from xcompile.plan import Packed, Plan
from xcompile.runtime.generate import ModelSpec
from xcompile.runtime.program import Arg, Buffer, Island, Program, TensorSpec
from xcompile.symbolic import Dim, Range, dim_str, evaluate, free_names, parse_dim
from xcompile.targets import Target

SPACES = ("arena", "input", "output", "const")
MAX_BYTES = 1 << 46  # of one buffer: more than any machine addresses, less than overflows
MAX_STEPS = 1 << 20


# -- writing ----------------------------------------------------------------------------------
def constants(plan: Plan) -> dict[str, Type]:
    """Packed constants: unique names and types, in the library's order."""
    out: dict[str, Type] = {}
    for c in plan.consts:
        name, k = c.name, 1
        while name in out:
            k += 1
            name = f"{c.name}#{k}"
        out[name] = packed_type(c, plan.target)
    return out


def packed_type(c: Packed, target: Target) -> Type:
    """Type of a constant after packing, without touching its data."""
    metas = [torch.empty([int(d) for d in v.shape], dtype=v.dtype, device="meta") for v in c.values]
    t = target.pack(c.kind, metas)
    return Type(t.dtype, tuple(t.shape))


def program_json(plan: Plan) -> dict[str, Any]:
    """The plan's Program, with the types of its constants."""
    p = plan.program()
    return {
        "inputs": [_spec_json(s) for s in p.inputs],
        "outputs": [_spec_json(s) for s in p.outputs],
        "state": p.state,
        "symbols": [
            {"name": s, "lo": r.lo, "hi": r.hi, "hint": r.hint} for s, r in p.symbols.items()
        ],
        "consts": [{"name": n, "type": str(t)} for n, t in constants(plan).items()],
        "buffers": [
            {"name": b.name, "bytes": dim_str(b.nbytes), "live": [b.first, b.last]}
            | ({} if b.shares is None else {"shares": b.shares})
            for b in p.buffers
        ],
        "islands": [_island_json(i) for i in p.islands],
        "steps": p.steps,
    }


def fingerprint(program: Mapping[str, Any], target: str) -> str:
    """What ties a library to its program: `host.cpp` holds it, `load` compares it.

    Without it a manifest of another model, or one edited by hand, would let the kernels write
    outside their buffers.
    """
    text = json.dumps([program, target], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plan_fingerprint(plan: Plan, target: Target) -> str:
    return fingerprint(program_json(plan), str(target))


def signature_json(s: Signature) -> dict[str, Any]:
    step = s.step and {
        "kv_shapes": [list(x) for x in s.step.kv_shapes],
        "page": s.step.page,
        "dtype": DTYPE_NAMES[s.step.dtype],
        "max_context": s.step.max_context,
    }
    return {
        "inputs": s.inputs,
        "names": s.names,
        "results": [[kind, x if kind == "value" else encode(x)] for kind, x in s.results],
        "keys": s.keys,
        "single": s.single,
        "step": step,
        "eos": s.eos,
    }


def _spec_json(s: TensorSpec) -> dict[str, str]:
    return {"name": s.name, "type": str(s.type)}


def _arg_json(a: Arg) -> list[Any]:
    return [a.space, a.index] if a.offset == 0 else [a.space, a.index, dim_str(a.offset)]


def _island_json(i: Island) -> dict[str, Any]:
    return {
        "target": i.target,
        "spec": encode(i.spec),
        "args": [_arg_json(a) for a in i.args],
        "arg_types": [str(t) for t in i.arg_types],
        "results": [_arg_json(a) for a in i.results],
        "result_types": [str(t) for t in i.result_types],
        "after": i.after,
        "origin": i.origin,
    }


def encode(x: Any) -> Any:
    """A literal as JSON. What JSON lacks becomes an object with one key, the type's name."""
    match x:
        case None | bool() | str() | int():
            return x
        case float():
            return x if math.isfinite(x) else {"float": str(x)}
        case tuple():
            return {"tuple": [encode(v) for v in x]}
        case list():
            return [encode(v) for v in x]
        case sympy.Expr():
            return {"dim": dim_str(x)}
        case torch.dtype():
            if x in DTYPE_NAMES:
                return {"dtype": DTYPE_NAMES[x]}
    raise XCompileError(f"{x!r} ({type(x).__name__}) cannot be stored in an artifact")


# -- reading ----------------------------------------------------------------------------------
class Reader:
    """Typed access to parsed JSON; every error names the place in the manifest."""

    def __init__(self, data: Any, where: str = "manifest.json") -> None:
        self.data, self.where = data, where

    def fail(self, expected: str) -> NoReturn:
        shown = repr(self.data)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ArtifactError(f"{self.where} is {shown}, expected {expected}")

    def get(self, key: str) -> Reader:
        """A member of an object; a missing one reads as None."""
        if not isinstance(self.data, dict):
            self.fail("an object")
        return Reader(self.data.get(key), f"{self.where}: {key}" if ":" not in self.where
                      else f"{self.where}.{key}")  # fmt: skip

    def each(self) -> list[Reader]:
        if not isinstance(self.data, list):
            self.fail("a list")
        return [Reader(x, f"{self.where}[{k}]") for k, x in enumerate(self.data)]

    def text(self, pattern: str = r"[^\x00]*", limit: int = 4096) -> str:
        if not isinstance(self.data, str) or not re.fullmatch(pattern, self.data[: limit + 1]):
            self.fail("a text" if pattern.startswith("[^") else f"a text like {pattern}")
        if len(self.data) > limit:
            self.fail(f"at most {limit} characters")
        return self.data

    def whole(self, lo: int = 0, hi: int = 1 << 62) -> int:
        """An int of lo..hi, both included."""
        if type(self.data) is not int or not lo <= self.data <= hi:
            self.fail(f"a whole number of {lo}..{hi}")
        return self.data

    def flag(self) -> bool:
        if not isinstance(self.data, bool):
            self.fail("true or false")
        return self.data


class _Types:
    """Parses dims and types over the manifest's symbols; equal texts are parsed once."""

    def __init__(self, symbols: Mapping[str, Range]) -> None:
        self.symbols = symbols
        self.env = {s: r.hint for s, r in symbols.items()}
        self.dims: dict[str, Dim] = {}

    def dim(self, r: Reader) -> Dim:
        """A dim that is a valid count of bytes or elements at the hinted sizes."""
        text = r.text()
        if text not in self.dims:
            self.dims[text] = _guarded(r, "a dim", lambda: self._dim(text))
        return self.dims[text]

    def _dim(self, text: str) -> Dim:
        d = parse_dim(text)
        if unknown := free_names(d) - self.symbols.keys():
            raise XCompileError(f"unknown symbols {sorted(unknown)}")
        if not 0 <= evaluate(d, self.env) < MAX_BYTES:
            raise XCompileError("a size that no machine has")
        return d

    def type(self, r: Reader) -> Type:
        text = r.text()
        m = re.fullmatch(r"(\w+)\[(.*)\]", text)
        if m is None or m[1] not in DTYPES:
            r.fail("a type such as f32[T, 96]")
        dims = [self.dim(Reader(d, r.where)) for d in _split(m[2])]
        if len(dims) > 64:
            r.fail("at most 64 dims")
        t = Type(DTYPES[m[1]], tuple(dims))
        if self.size(t) >= MAX_BYTES:
            r.fail("a smaller tensor")
        return t

    def size(self, t: Type) -> int:
        """Bytes at the hinted sizes."""
        return math.prod(evaluate(d, self.env) for d in t.shape) * t.dtype.itemsize

    def spec(self, r: Reader) -> TensorSpec:
        return TensorSpec(r.get("name").text(), self.type(r.get("type")))


def _split(text: str) -> list[str]:
    """The parts between the commas that stand outside of parentheses."""
    parts, depth, first = [], 0, 0
    for k, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(text[first:k])
            first = k + 1
    return [p.strip() for p in [*parts, text[first:]]] if text.strip() else []


def read_program(r: Reader) -> tuple[Program, dict[str, Type]]:
    """The Program, and the constants' types by name."""
    symbols: dict[str, Range] = {}
    for s in r.get("symbols").each():
        name = s.get("name").text(r"[A-Za-z_]\w*", 64)
        lo, hi = s.get("lo").whole(), s.get("hi").whole()
        if name in symbols or lo > hi:
            s.fail("a new symbol with lo <= hi")
        symbols[name] = Range(lo, hi, s.get("hint").whole())
    types = _Types(symbols)
    consts = {x.get("name").text(): types.type(x.get("type")) for x in r.get("consts").each()}
    if len(consts) != len(r.get("consts").each()):
        r.get("consts").fail("constants with different names")
    if any(free_names(d) for t in consts.values() for d in t.shape):
        r.get("consts").fail("constants of fixed size")
    steps = r.get("steps").whole(0, MAX_STEPS)
    program = Program(
        inputs=[types.spec(x) for x in r.get("inputs").each()],
        outputs=[types.spec(x) for x in r.get("outputs").each()],
        state=[],
        symbols=symbols,
        buffers=[_buffer(x, types, steps) for x in r.get("buffers").each()],
        consts=list(consts),
        islands=[],
        steps=steps,
    )
    program.state = [x.whole(0, len(program.inputs) - 1) for x in r.get("state").each()]
    if program.state != sorted(set(program.state)):
        r.get("state").fail("inputs in ascending order")
    _check_shares(r.get("buffers"), program.buffers)
    space = {
        "arena": [b.size(types.env) for b in program.buffers],
        "input": [types.size(s.type) for s in program.inputs],
        "output": [types.size(s.type) for s in program.outputs],
        "const": [types.size(t) for t in consts.values()],
    }
    program.islands = [_island(x, types, space, steps) for x in r.get("islands").each()]
    if [i.after for i in program.islands] != sorted(i.after for i in program.islands):
        r.get("islands").fail("islands in the order in which they run")
    if steps < len(program.islands):
        r.get("steps").fail("a step for every island")
    return program, consts


def _buffer(r: Reader, types: _Types, steps: int) -> Buffer:
    live = [x.whole(0, max(steps - 1, 0)) for x in r.get("live").each()]
    if len(live) != 2 or live[0] > live[1]:
        r.get("live").fail("[first step, last step]")
    shares = r.get("shares")
    return Buffer(
        r.get("name").text(),
        types.dim(r.get("bytes")),
        live[0],
        live[1],
        None if shares.data is None else shares.whole(),
    )


def _check_shares(r: Reader, buffers: list[Buffer]) -> None:
    """Every chain of shared buffers must end: following one would never return otherwise."""
    good: set[int] = set()
    for i in range(len(buffers)):
        chain, k = [], i
        while k not in good:
            chain.append(k)
            up = buffers[k].shares
            if up is None:
                break
            if up >= len(buffers) or len(chain) > len(buffers):
                Reader(up, f"{r.where}[{k}].shares").fail("a buffer that does not share this one")
            k = up
        good.update(chain)


def _island(r: Reader, types: _Types, space: Mapping[str, list[int]], steps: int) -> Island:
    def args(key: str, kinds: tuple[Type, ...]) -> tuple[Arg, ...]:
        items = r.get(key).each()
        if len(items) != len(kinds):
            r.get(key).fail(f"{len(kinds)} operands, one for each type")
        return tuple(_arg(x, t, types, space) for x, t in zip(items, kinds, strict=True))

    arg_types = tuple(types.type(x) for x in r.get("arg_types").each())
    result_types = tuple(types.type(x) for x in r.get("result_types").each())
    target = r.get("target").text(r"\w+::\w+(\.\w+)?", 256)
    _guarded(r.get("target"), "a torch operator", lambda: resolve(target))
    spec = decode(r.get("spec"), types)
    wanted = _operands(r.get("spec"), spec)
    if wanted != len(arg_types):
        r.get("spec").fail(f"{len(arg_types)} tensor operands")
    return Island(
        target,
        spec,
        args("args", arg_types),
        arg_types,
        args("results", result_types),
        result_types,
        r.get("after").whole(0, steps),
        r.get("origin").text(),
    )


def _arg(r: Reader, t: Type, types: _Types, space: Mapping[str, list[int]]) -> Arg:
    items = r.each()
    if len(items) not in (2, 3) or items[0].data not in SPACES:
        r.fail('["arena", "input", "output" or "const", index, offset]')
    sizes = space[items[0].data]
    index = items[1].whole(0, len(sizes) - 1)
    offset = types.dim(items[2]) if len(items) == 3 else 0
    if evaluate(offset, types.env) + types.size(t) > sizes[index]:
        r.fail("an operand inside its buffer")
    return Arg(items[0].data, index, offset)


def _operands(r: Reader, spec: Any) -> int:
    """Tensor operands of an island's spec: (positional, ((name, value), ...))."""

    def count(x: Any) -> int:
        match x:
            case ("t", _):
                return 1
            case ("l", tuple(items)):
                return sum(map(count, items))
            case tuple():
                r.fail("tuples tagged t or l")
        return 0

    match spec:
        case (tuple(positional), tuple(keyword)):
            if all(isinstance(k, tuple) and len(k) == 2 and type(k[0]) is str for k in keyword):
                return sum(map(count, positional)) + sum(count(v) for _, v in keyword)
    r.fail("positional and keyword arguments")


def decode(r: Reader, types: _Types, depth: int = 0) -> Any:
    """Inverse of `encode`."""
    if depth > 16:
        r.fail("less nesting")
    match r.data:
        case None | bool() | str():
            return r.data
        case int():
            return r.whole(-(1 << 63), (1 << 63) - 1)
        case float():
            return r.data
        case list():
            return [decode(x, types, depth + 1) for x in r.each()]
        case {"tuple": list()}:
            return tuple(decode(x, types, depth + 1) for x in r.get("tuple").each())
        case {"dtype": str(name)} if name in DTYPES:
            return DTYPES[name]
        case {"float": "inf" | "-inf" | "nan" as text}:
            return float(text)
        case {"dim": str()}:
            return types.dim(r.get("dim"))
    r.fail("a literal")


def _guarded(r: Reader, what: str, call: Callable[[], Any]) -> Any:
    """sympy and torch raise what they like on nonsense; here it is the manifest's fault."""
    try:
        return call()
    except Exception as e:
        raise ArtifactError(f"{r.where} is not {what}: {e}") from None


def read_signature(r: Reader, program: Program) -> Signature:
    names = [x.text() for x in r.get("names").each()]
    inputs = [x.whole(0, len(names) - 1) for x in r.get("inputs").each()]
    if len(inputs) != len(program.inputs):
        r.get("inputs").fail(f"{len(program.inputs)} positions, one for each input")
    types = _Types(program.symbols)
    results: list[tuple[str, Any]] = []
    for x in r.get("results").each():
        pair = x.each()
        if len(pair) != 2 or pair[0].data not in ("value", "const"):
            x.fail('["value", output] or ["const", literal]')
        if pair[0].data == "value":
            results.append(("value", pair[1].whole(0, len(program.outputs) - 1)))
        else:
            results.append(("const", decode(pair[1], types)))
    keys = None
    if r.get("keys").data is not None:
        keys = [x.text() for x in r.get("keys").each()]
        if len(keys) != len(results):
            r.get("keys").fail(f"{len(results)} names, one for each result")
    single = r.get("single").flag()
    if single and len(results) != 1:
        r.get("single").fail("false, for there is not one result")
    step = None if r.get("step").data is None else _model_spec(r.get("step"))
    eos = [x.whole(0, 1 << 40) for x in r.get("eos").each()]
    return Signature(inputs, names, results, keys, single, step, eos)


def _model_spec(r: Reader) -> ModelSpec:
    shapes = []
    for x in r.get("kv_shapes").each():
        # a cache of latents holds no values of its own
        sizes = [y.whole(int(k < 2), 1 << 24) for k, y in enumerate(x.each())]
        if len(sizes) != 3:
            x.fail("[heads, key size, value size]")
        shapes.append((sizes[0], sizes[1], sizes[2]))
    dtype = r.get("dtype").text(r"\w+")
    if dtype not in DTYPES:
        r.get("dtype").fail(f"one of {', '.join(DTYPES)}")
    return ModelSpec(
        tuple(shapes),
        r.get("page").whole(1, 1 << 20),
        DTYPES[dtype],
        r.get("max_context").whole(1, 1 << 31),
    )
