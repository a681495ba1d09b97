"""What `xcompile verify` feeds a kernel: sizes, extreme values, valid indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sympy
import torch

from xcompile.ir import Node, Type, Value
from xcompile.plan import Launch
from xcompile.symbolic import Dim, Range, evaluate, free_names

MOST_FLOPS, MOST_BYTES = 4e8, 3e7  # of one case, where sizes can be chosen
ODD = (3, 7, 13, 33, 5, 65, 17, 129)
MANY = 1031
CACHE = {"paged_attention": 1, "mla_attention": 2}  # the operand that has all slots
LARGE = {torch.float16: 200.0}  # others: 1e4
TINY = {torch.float16: 1e-6}  # others: 1e-30


@dataclass(frozen=True)
class Case:
    """One run of a kernel.

    kind    how its floats are: random, zeros, large, tiny or mixed
    seed    of the simulator; `data` of the values
    blocks  cores; None: all of the chip
    """

    env: Mapping[str, int]
    kind: str = "random"
    seed: int = 0
    data: int = 0
    blocks: int | None = None

    def __str__(self) -> str:
        sizes = ", ".join(f"{k}={v}" for k, v in self.env.items())
        cores = f", {self.blocks} cores" if self.blocks else ""
        return f"{self.kind}{' at ' if sizes else ''}{sizes}, seed {self.seed}{cores}"


# -- cases --------------------------------------------------------------------------------------
def cases(x: Launch, symbols: Mapping[str, Range], seeds: int, rounds: int) -> list[Case]:
    """The runs that a launch gets: several sizes under several seeds, extreme values, few cores."""
    sizes = environments(x, symbols)
    plenty = large(x, symbols)
    out = [
        Case(env, "random", seed, data=97 * k + 13 * seed + r)
        for k, env in enumerate(sizes)
        for seed in range(seeds)
        for r in range(rounds)
    ]
    out += [Case(env, "random", k % seeds, data=k) for k, env in enumerate(plenty)]
    middle = sizes[min(2, len(sizes) - 1)]
    floats = any(v.dtype.is_floating_point for v in x.node.inputs)
    if floats:
        kinds = ("zeros", "large", "tiny", "mixed")
        out += [Case(middle, kind, k % seeds, data=k) for k, kind in enumerate(kinds)]
    return out + [Case(middle, "random", n % seeds, data=n, blocks=n) for n in (1, 3)]


def environments(x: Launch, symbols: Mapping[str, Range]) -> list[dict[str, int]]:
    """Values of the symbols: the hinted ones first, then small, odd and uneven ones."""
    return _distinct(
        x,
        symbols,
        lambda k, r: r.hint,
        lambda k, r: r.lo,
        lambda k, r: ODD[k % len(ODD)],
        lambda k, r: 2 * r.hint + 3,
        lambda k, r: ODD[(k + 3) % len(ODD)] if k % 2 else 2 * r.hint + 1,
    )


def large(x: Launch, symbols: Mapping[str, Range]) -> list[dict[str, int]]:
    """Each symbol in turn so large that kernels loop, the others odd; all as large as can be."""
    used = sorted(_names(x) & symbols.keys())
    each = [
        lambda k, r, big=j: MANY if k == big else ODD[(k + 4) % len(ODD)] for j in range(len(used))
    ]
    return _distinct(x, symbols, *each, lambda k, r: MANY // 2) if used else []


def _distinct(
    x: Launch, symbols: Mapping[str, Range], *picks: Callable[[int, Range], int]
) -> list[dict[str, int]]:
    """What each function picks for the symbols that a launch uses, in order and in range."""
    used = sorted(_names(x) & symbols.keys())
    found: list[dict[str, int]] = []
    for pick in picks:
        env = {s: r.hint for s, r in symbols.items()}
        for k, s in enumerate(used):
            env[s] = min(max(pick(k, symbols[s]), symbols[s].lo), symbols[s].hi)
        env = _fitting(x, symbols, used, env)
        if env not in found:
            found.append(env)
    return found


def _names(x: Launch) -> set[str]:
    n = x.node
    nodes = n.body.nodes if n.body is not None else [n]
    dims: list[object] = [d for v in (*n.inputs, *n.outputs) for d in v.shape]
    dims += [a for m in nodes for a in m.attrs.values()]
    dims += [d for m in nodes for a in m.attrs.values() if isinstance(a, tuple) for d in a]
    return set().union(*map(free_names, dims)) if dims else set()


def _fitting(
    x: Launch, symbols: Mapping[str, Range], used: Sequence[str], env: dict[str, int]
) -> dict[str, int]:
    """Sizes that the op can have at all, and that the simulator runs in about a second."""
    env = valid(x.node, env)
    while evaluate(x.flops, env) > MOST_FLOPS or evaluate(x.nbytes, env) > MOST_BYTES:
        smaller = {s: max(symbols[s].lo, env[s] * 2 // 3) for s in used}
        smaller = valid(x.node, {**env, **smaller})
        if smaller == env:
            break
        env = smaller
    return env


def valid(n: Node, env: dict[str, int]) -> dict[str, int]:
    """Sizes under which an op has inputs: no more tokens than pages or slots hold."""
    env = dict(env)
    if n.op.name in CACHE:
        q, k = n.inputs[0].shape, n.inputs[CACHE[n.op.name]].shape
        lens, tables = (v.shape for v in n.inputs[4:6])
        page = int(n.attrs["page"])
        _set(env, k[0], max(page, _at(k[0], env)))
        room = _at(lens[0], env) * min(_at(tables[1], env), _at(k[0], env) // page) * page
        _set(env, q[0], min(_at(q[0], env), room))
    elif n.op.name == "index_copy":
        x, index, _ = (v.shape for v in n.inputs)
        rows = _at(x[n.attrs["dim"]], env)
        _set(env, index[0], min(_at(index[0], env), rows))
    return env


def _at(d: Dim, env: Mapping[str, int]) -> int:
    return evaluate(d, env)


def _set(env: dict[str, int], d: Dim, value: int) -> None:
    if isinstance(d, sympy.Symbol):
        env[d.name] = value


# -- values -------------------------------------------------------------------------------------
class Feed:
    """Makes the inputs of one node in one case."""

    def __init__(self, n: Node, case: Case) -> None:
        self.n, self.case, self.env = n, case, case.env
        self.rng = torch.Generator().manual_seed(1000 * case.data + len(case.kind))
        self.sizes = [self.shape(v.type) for v in n.inputs]
        self.made: dict[int, torch.Tensor] = {}
        self.weights: dict[Value, torch.Tensor] = {}

    def shape(self, t: Type) -> list[int]:
        return [evaluate(d, self.env) for d in t.shape]

    def __call__(self, k: int) -> torch.Tensor:
        """Operand k."""
        if k not in self.made:
            v = self.n.inputs[k]
            special = SPECIAL.get(self.n.op.name)
            made = special(self, k) if special else None
            self.made[k] = self.plain(v, k) if made is None else made
        return self.made[k]

    def plain(self, v: Value, k: int) -> torch.Tensor:
        if v.dtype.is_floating_point:
            return self.floats(self.sizes[k], v.dtype)
        if v.dtype == torch.bool:
            return self.ints(self.sizes[k], 2).bool()
        if self.n.body is not None or self.n.op.pointwise:
            return (1 + self.ints(self.sizes[k], 62)).to(v.dtype)
        others = [d for j, s in enumerate(self.sizes) if j != k for d in s]
        return self.ints(self.sizes[k], max(min(others, default=63), 1)).to(v.dtype)

    def floats(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        x = torch.randn(list(shape), generator=self.rng)
        match self.case.kind:
            case "zeros":
                x = torch.where(x > 1, -0.0, 0.0)
            case "large":
                x = x.clamp(-3, 3) * LARGE.get(dtype, 1e4) / 3
            case "tiny":
                x = x * TINY.get(dtype, 1e-30)
            case "mixed":
                pick = torch.randint(6, list(shape), generator=self.rng)
                for k, scale in enumerate((0.0, -0.0, LARGE.get(dtype, 1e4) / 8, 1e-3)):
                    x = torch.where(pick == k, x * scale, x)
        return x.to(dtype)

    def ints(self, shape: Sequence[int], below: int) -> torch.Tensor:
        return torch.randint(0, below, list(shape), generator=self.rng)

    def order(self, n: int) -> torch.Tensor:
        return torch.randperm(n, generator=self.rng)

    def weight(self, v: Value) -> torch.Tensor:
        """A constant that is a matrix, or an expert's: scaled so that products stay in range."""
        if self.n.op.name == "mla_attention" and v is self.n.inputs[7]:
            return self.weight(self.n.inputs[6]).transpose(1, 2).contiguous()
        if v in self.weights:
            return self.weights[v]
        shape = [int(d) for d in v.shape]
        fan = shape[-1] if len(shape) > 1 else 1
        x = torch.randn(shape, generator=self.rng) / math.sqrt(max(fan, 1))
        made = x.to(v.dtype) if v.dtype.is_floating_point else self.ints(shape, 2).to(v.dtype)
        self.weights[v] = made
        return made


def _embedding(f: Feed, k: int) -> torch.Tensor | None:
    return f.ints(f.sizes[1], f.sizes[0][0]) if k == 1 else None


def _gather(f: Feed, k: int) -> torch.Tensor | None:
    return f.ints(f.sizes[1], max(f.sizes[0][-1], 1)) if k == 1 else None


def _scatter(f: Feed, k: int) -> torch.Tensor | None:
    """Different places in each row: of two writes to one, any may win."""
    if k != 1:
        return None
    *lead, n = f.sizes[1]
    rows = [f.order(f.sizes[0][-1])[:n] for _ in range(math.prod(lead))]
    return (
        torch.stack(rows).view(f.sizes[1]) if rows else torch.zeros(f.sizes[1], dtype=torch.int64)
    )


def _index_copy(f: Feed, k: int) -> torch.Tensor | None:
    return f.order(f.sizes[0][f.n.attrs["dim"]])[: f.sizes[1][0]] if k == 1 else None


def _experts(f: Feed, k: int) -> torch.Tensor | None:
    """Different experts for each token; in every third case all tokens take the same ones."""
    if k != 1:
        return torch.rand(f.sizes[2], generator=f.rng).to(f.n.inputs[2].dtype) if k == 2 else None
    (tokens, chosen), experts = f.sizes[1], f.sizes[3][0]
    if f.case.data % 3 == 2:
        return f.order(experts)[:chosen].expand(tokens, chosen).contiguous()
    scores = torch.rand(tokens, experts, generator=f.rng)
    return scores.argsort(-1)[:, :chosen].contiguous()


def _attention(f: Feed, k: int) -> torch.Tensor | None:
    """A float mask holds zeros and what hides a key."""
    v = f.n.inputs[k]
    if k != 3 or v.type.rank == 1 or not v.dtype.is_floating_point:
        return None
    hidden = torch.rand(f.sizes[3], generator=f.rng) < 0.3
    never = -math.inf if f.case.data % 2 else torch.finfo(v.dtype).min
    return torch.zeros(f.sizes[3]).masked_fill(hidden, never).to(v.dtype)


def _paged(f: Feed, k: int) -> torch.Tensor | None:
    """Ragged requests, some without tokens; contexts up to the block table's room."""
    if k < 3 or k > 5:
        return None
    tokens, slots = f.sizes[0][0], f.sizes[CACHE[f.n.op.name]][0]
    requests, width = f.sizes[5]
    page = int(f.n.attrs["page"])
    pages = slots // page
    room = min(width, pages) * page
    if 3 not in f.made:
        counts = [0] * requests
        left = tokens
        for i, r in enumerate(f.order(requests).tolist()):  # the last ones take what is left
            rest = (requests - i - 1) * room
            low = max(0, left - rest)
            counts[r] = max(low, min(int(f.ints([1], min(room, left) + 1)), room))
            left -= counts[r]
        new = torch.tensor(counts, dtype=torch.int64)
        old = [int(f.ints([1], room - c + 1)) if c else 0 for c in counts]
        f.made[3] = torch.cat([torch.zeros(1, dtype=torch.int64), new.cumsum(0)])
        f.made[4] = new + torch.tensor(old, dtype=torch.int64)
        if requests * width <= pages:
            f.made[5] = f.order(pages)[: requests * width].view(requests, width)
        else:  # requests share pages
            f.made[5] = f.ints([requests, width], pages)
    return f.made[k]


def _mla(f: Feed, k: int) -> torch.Tensor | None:
    """U comes twice, the second time transposed."""
    return f(6).transpose(1, 2).contiguous() if k == 7 else _paged(f, k)


SPECIAL: dict[str, Callable[[Feed, int], torch.Tensor | None]] = {
    "embedding": _embedding,
    "gather": _gather,
    "scatter": _scatter,
    "index_copy": _index_copy,
    "moe_experts": _experts,
    "moe_experts_int8": _experts,
    "attention": _attention,
    "paged_attention": _paged,
    "mla_attention": _mla,
}
