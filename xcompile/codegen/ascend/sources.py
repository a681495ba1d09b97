"""Plan -> source files: phases, the kernels that run them, the host program.

lib/        what all kernels share, hand-written
phases/     one device function per distinct phase
kernels/    one kernel per distinct launch: its phases, SyncAll where one waits for another
host.cpp    the step on the ACL API: launches in order, capture and replay
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xcompile.codegen.ascend.builder import device
from xcompile.codegen.render import render
from xcompile.manifest import plan_fingerprint
from xcompile.plan import Launch, Plan
from xcompile.runtime.program import Arg
from xcompile.symbolic import c_expr, dim_str
from xcompile.targets.ascend import Ascend

MAX_POINTERS = 48  # more come from a table in global memory
ORDER = {"cube": 0, "mix": 1, "vector": 2}
INCLUDE = re.compile(r'^#include "(?:\.\./lib/)?([\w.]+\.h)"', re.MULTILINE)


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


def _write(plan: Plan, target: Ascend, g: Group) -> None:
    index: dict[Arg, int] = {}
    calls: list[Call] = []
    symbols: set[str] = set()
    for k, x in enumerate(g.launches):
        args = []
        for a in x.args:
            fixed = isinstance(a.offset, int)
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
        "table": len(index) > MAX_POINTERS,
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
    files |= _library(target, files)
    names = list(dict.fromkeys(g.name for g in made))
    program = plan.program()
    launches = [
        {
            "kernel": g.name,
            "blocks": "cores->vector" if g.unit == "vector" else "cores->cube",
            "args": [_pointer(a, len(program.inputs)) for a in g.pointers],
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
    files["CMakeLists.txt"] = render(target.template_path, "cmake.j2", kernels=names)
    return dict(sorted(files.items()))


def _doc(g: Group) -> list[str]:
    """What a launch computes, a line per node."""
    return [
        ", ".join(str(v.type) for v in x.node.outputs) + f" = {x.node.op.name}  {x.node.origin}"
        for x in g.launches
    ]


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


def _pointer(a: Arg, inputs: int) -> str:
    base = {
        "arena": f"arena + at[{a.index}]",
        "const": f"c[{a.index}]",
        "input": f"io[{a.index}]",
        "output": f"io[{inputs + a.index}]",
    }[a.space]
    return base if a.offset == 0 else f"{base} + {dim_str(a.offset)}"


__all__: Sequence[str] = ["emit", "groups"]
