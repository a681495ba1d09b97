"""Plan -> source files: phases, the kernels that run them, the host program.

lib/        what all kernels share, hand-written
phases/     one device function per distinct phase
kernels/    one kernel per distinct launch: its phases, SyncAll where one waits for another
host.cpp    the step on the ACL API: launches in order, capture and replay
main.cpp    a program around it, which needs no Python
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from xcompile import tensorfile
from xcompile.codegen.ascend.builder import device
from xcompile.codegen.operands import pointer
from xcompile.codegen.render import render
from xcompile.ir import Type
from xcompile.manifest import constants, plan_fingerprint
from xcompile.plan import Launch, Plan
from xcompile.runtime.program import Arg
from xcompile.symbolic import c_expr
from xcompile.targets.ascend import Ascend

MAX_POINTERS = 48  # more come from a table in global memory
ORDER = {"cube": 0, "mix": 1, "vector": 2}
INCLUDE = re.compile(r'^#include "(?:(?:\.\./)?lib/)?([\w.]+\.h)"', re.MULTILINE)


@dataclass
class Group:
    """Launches that share one kernel. `pointers` are the kernel's; a call has its function, its
    arguments as C++ and whether all cores meet before it."""

    unit: str
    launches: list[Launch]
    name: str = ""
    source: str = ""
    pointers: list[Arg] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    function: str
    unit: str
    args: list[str]
    sync: bool


def groups(plan: Plan, target: Ascend) -> list[Group]:
    """The kernels of a step, in order, with their sources."""
    out = []
    for launches in _dealt(plan, target.launches):
        units = {x.unit for x in launches}
        stages = {x.stage for x in launches}
        alone = len(units) == 1 and (units != {"cube"} or len(stages) == 1)
        g = Group(units.pop() if alone else "mix", launches)
        _write(plan, target, g)
        out.append(g)
    return out


def _dealt(plan: Plan, policy: str) -> Iterator[list[Launch]]:
    """Launches of one kernel each. Within a stage the order is free: cube work first."""
    ordered = sorted(plan.launches, key=lambda x: (x.stage, ORDER[x.unit]))
    if policy == "phase":
        yield from ([x] for x in ordered)
        return
    if policy == "step":
        if ordered:
            yield ordered
        return
    group: list[Launch] = []
    for x in ordered:
        waits = group and (group[-1].unit == "vector" or x.stage != group[-1].stage)
        if waits and x.unit != "vector":
            yield group
            group = []
        group.append(x)
    if group:
        yield group


def alone(plan: Plan, target: Ascend, launch: Launch) -> Group:
    """A kernel of one launch; its pointers are those of whole buffers."""
    g = Group(launch.unit, [launch])
    _write(plan, target, g, len(launch.args), bases=True)
    return g


def _write(
    plan: Plan, target: Ascend, g: Group, most: int = MAX_POINTERS, bases: bool = False
) -> None:
    """Fills in name, source and pointers: bare ones where they are at most `most`, and of whole
    buffers if `bases` is set."""
    index: dict[Arg, int] = {}
    calls: list[Call] = []
    symbols: set[str] = set()
    for k, x in enumerate(g.launches):
        args = []
        for a in x.args:
            fixed = isinstance(a.offset, int) and not (bases and a.offset)
            base = a if fixed else Arg(a.space, a.index)
            p = index.setdefault(base, len(index))
            if fixed:
                args.append(f"p{p}")
            else:
                symbols |= {str(s) for s in getattr(a.offset, "free_symbols", ())}
                args.append(f"p{p} + {device(c_expr(a.offset))}")
        sync = k > 0 and x.stage != g.launches[k - 1].stage
        calls.append(Call(x.kernel, x.unit, args, sync))
    g.pointers = list(index)
    labels = list(dict.fromkeys(x.kernel.rsplit("_", 1)[0] for x in g.launches))
    context = {
        "unit": g.unit,
        "calls": calls,
        "phases": list(dict.fromkeys(c.function for c in calls)),
        "pointers": len(index),
        "table": len(index) > most,
        "symbols": [f"const i64 {s} = s[{plan.symbols.index(s)}];" for s in sorted(symbols)],
    }
    text = render(target.template_path, "kernel.j2", name="@", **context)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    g.name = "_".join([*labels[:4], *(["etc"] if len(labels) > 4 else []), digest])
    g.source = render(target.template_path, "kernel.j2", name=g.name, **context)


def emit(plan: Plan, target: Ascend) -> dict[str, str]:
    """File name -> text."""
    made = groups(plan, target)
    files = {f"phases/{name}.h": text for name, text in sorted(plan.kernels.items())}
    files |= {f"kernels/{g.name}.asc": g.source for g in made}
    files["main.cpp"] = _main(plan, target)
    files |= _library(target, files)
    names = list(dict.fromkeys(g.name for g in made))
    program = plan.program()
    launches = [
        {
            "kernel": g.name,
            "blocks": "cores->vector" if g.unit == "vector" else "cores->cube",
            "args": [pointer(a, len(program.inputs)) for a in g.pointers],
            "doc": _doc(g),
        }
        for g in made
    ]
    files["host.cpp"] = render(
        target.template_path,
        "host.j2",
        kernels=names,
        launches=launches,
        symbols=plan.symbols,
        inputs=len(program.inputs),
        outputs=len(program.outputs),
        buffers=len(program.buffers),
        most=max((len(x["args"]) for x in launches), default=1),
        tables=sum(len(g.pointers) for g in made if len(g.pointers) > MAX_POINTERS),
        table_of=MAX_POINTERS,
        program=plan_fingerprint(plan, target),
    )
    files["CMakeLists.txt"] = render(
        target.template_path, "cmake.j2", kernels=names, arch=target.chip.arch
    )
    return dict(sorted(files.items()))


def _doc(g: Group) -> list[str]:
    """What a launch computes, a line per node."""
    return [
        ", ".join(str(v.type) for v in x.node.outputs) + f" = {x.node.op.name}  {x.node.origin}"
        for x in g.launches
    ]


def _main(plan: Plan, target: Ascend) -> str:
    """main.cpp: what the program has to know of the step."""
    program = plan.program()
    numbers = {s: k for k, s in enumerate(plan.symbols)}
    ranges = [(s, program.symbols[s]) for s in plan.symbols]
    bindings = [
        f"{{{k}, {d}, {numbers[str(size)]}}}"
        for k, x in enumerate(program.inputs)
        for d, size in enumerate(x.type.shape)
        if str(size) in numbers
    ]
    buffers = [
        f"{{{c_expr(b.nbytes)}, {b.first}, {b.last}, {-1 if b.shares is None else b.shares}}}"
        for b in program.buffers
    ]
    return render(
        target.template_path,
        "main.j2",
        symbols=plan.symbols,
        ranges=[f"{{{_text(s)}, {r.lo}, {r.hi}}}" for s, r in ranges],
        bindings=bindings,
        inputs=[_tensor(x.name, x.type) for x in program.inputs],
        outputs=[_tensor(x.name, x.type) for x in program.outputs],
        consts=[_tensor(name, t) for name, t in constants(plan).items()],
        buffers=buffers,
        state=program.state,
        cube=target.chip.aic,
        vector=target.chip.aiv,
    )


def _tensor(name: str, t: Type) -> str:
    shape = ", ".join(map(c_expr, t.shape))
    return f"{{{_text(name)}, {_text(tensorfile.NAMES[t.dtype])}, {{{shape}}}}}"


def _text(s: str) -> str:
    """A C++ string literal."""
    return json.dumps(s, ensure_ascii=False)


def _library(target: Ascend, files: dict[str, str]) -> dict[str, str]:
    """The headers of lib/ that the emitted files reach."""
    folder = target.template_path / "lib"
    todo = [h for text in files.values() for h in INCLUDE.findall(text)]
    out: dict[str, str] = {}
    while todo:
        name = todo.pop()
        path = folder / name
        if f"lib/{name}" in out or not path.exists():
            continue
        out[f"lib/{name}"] = path.read_text()
        todo += INCLUDE.findall(out[f"lib/{name}"])
    return out
