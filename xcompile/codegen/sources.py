"""Plan -> source files: kernels in a few translation units, the host step, the kernel library."""

from __future__ import annotations

import hashlib

from xcompile.codegen import library
from xcompile.codegen.operands import pointer
from xcompile.codegen.render import render
from xcompile.manifest import plan_fingerprint
from xcompile.plan import Plan
from xcompile.targets import Target

PARTS = 2  # translation units that the emitted kernels are dealt over: parsing headers costs more


def emit(plan: Plan, target: Target) -> dict[str, str]:
    """File name -> text. Identical plans give identical text."""
    digest = hashlib.sha256(plan.text().encode() + "".join(plan.kernels).encode()).hexdigest()[:12]
    files = {"host.cpp": _host(plan, target, digest)}
    kernels = sorted(plan.kernels.items())
    for part in range(min(PARTS, len(kernels))):
        texts = [text for _, text in kernels[part::PARTS]]
        files[f"kernels_{part}.cpp"] = render(
            target.template_path, "kernels.j2", digest=digest, part=part, kernels=texts
        )
    return files | library.sources(target.template_path / "lib", plan.kernels.values())


def _host(plan: Plan, target: Target, digest: str) -> str:
    program = plan.program()
    segments: list[list[dict]] = [[] for _ in range(len(plan.islands) + 1)]
    for x in plan.launches:
        types = ", ".join(str(v.type) for v in x.node.outputs)
        segments[x.segment].append(
            {
                "doc": f"{types} = {x.node.op.name}  {x.node.origin}".rstrip(),
                "kernel": x.kernel,
                "args": [pointer(a, len(program.inputs)) for a in x.args],
            }
        )
    return render(
        target.template_path,
        "host.j2",
        digest=digest,
        kernels=sorted(plan.kernels),
        segments=segments,
        symbols=plan.symbols,
        inputs=len(program.inputs),
        outputs=len(program.outputs),
        buffers=len(plan.buffers),
        program=plan_fingerprint(plan, target),
    )
