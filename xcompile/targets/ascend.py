"""The Ascend target: chip variants as data, and how emitted Ascend C is built and run.

Nothing here has run on a device: emitted programs run in the simulator of `runtime/sim`, from the
same sources that CANN would compile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from xcompile.errors import ArtifactError, XCompileError
from xcompile.targets import ROOT, Builder, Stored, Target

if TYPE_CHECKING:
    from xcompile.compiler import Compiled
    from xcompile.ir import Graph, Value
    from xcompile.layout import Layout
    from xcompile.manifest import Reader
    from xcompile.plan import Launch, Plan

LAUNCHES = ("phase", "pair", "step")
KB = 1024


@dataclass(frozen=True)
class Chip:
    """Sizes in bytes, bandwidths in bytes per second, clocks in Hz.

    arch        __NPU_ARCH__
    aic, aiv    cube and vector cores; emitted host code asks the device and takes what it has
    ub          unified buffer a kernel may use: 192 KB less 256 B in kernels of both core types,
                less 8 KB that the vendor's compiler reserves by default
    hbm, l2     what all cores together read from memory, and from L2
    """

    name: str
    arch: int
    aic: int
    aiv: int
    clock: float
    ub: int = 184 * KB - 256
    l1: int = 512 * KB - 256
    l0a: int = 64 * KB
    l0b: int = 64 * KB
    l0c: int = 128 * KB
    bt: int = 1 * KB
    fb: int = 7 * KB
    l2: int = 192 * KB * KB
    hbm: float = 1.5e12
    l2_rate: float = 5.2e12
    fractal_l0a: str = "ZZ"

    @property
    def part(self) -> str:
        """The part that stands for it in the simulator."""
        return "ascend910b1" if self.name == "ascend910b" else self.name


# Core counts, clocks and sizes: platform_config/*.ini of CANN 8.1.RC1 (the 950's from the platform
# pages of asc-devkit). Bandwidths: what the devkit's data_copy sample measures on a 24-core part
# (1.48 to 1.50 TB/s from memory, 5.2 TB/s from L2) and, for the others, in proportion to their
# description files; see runtime/sim/src/chips.cpp. 910B means the 24-core 910B1.
CHIPS: dict[str, Chip] = {
    c.name: c
    for c in (
        Chip("ascend910b", 2201, 24, 48, 1.85e9),
        Chip("ascend910b1", 2201, 24, 48, 1.85e9),
        Chip("ascend910b2", 2201, 24, 48, 1.8e9, l2_rate=5.06e12),
        Chip("ascend910b3", 2201, 20, 40, 1.8e9, hbm=1.333e12, l2_rate=4.216e12),
        Chip("ascend910b4", 2201, 20, 40, 1.5e9, l2=96 * KB * KB, hbm=1.014e12, l2_rate=3.514e12),
        Chip("ascend910_93", 2201, 24, 48, 1.85e9),
        Chip(
            "ascend950", 3510, 32, 64, 1.65e9, ub=240 * KB, l1=512 * KB, l0c=256 * KB, bt=4 * KB,
            l2=128 * KB * KB, hbm=1.63e12, fractal_l0a="NZ",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Ascend(Target):
    """Ascend C kernels and a host program on the ACL API.

    launches  how phases share kernels: "phase" (one each), "pair" (the vector phases behind a cube
              phase join its kernel; the default) or "step" (one persistent kernel for the step)
    """

    launches: str = "pair"
    concurrent = True
    chooses_mla = True

    def __str__(self) -> str:
        return f"{self.isa}/{self.launches}"

    @property
    def chip(self) -> Chip:
        return CHIPS[self.isa]

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "isa": self.isa, "launches": self.launches}

    def prepare(self) -> None:
        """Nothing: emitted sources are built where they run."""

    def builder(self, graph: Graph, layouts: dict[Value, Layout]) -> Builder:
        from xcompile.codegen.ascend.builder import AscendBuilder

        return AscendBuilder(self, graph, layouts)

    def emit(self, plan: Plan) -> dict[str, str]:
        from xcompile.codegen.ascend.sources import emit

        return emit(plan, self)

    def kernels(self, plan: Plan) -> list[tuple[str, str, list[Launch]]]:
        from xcompile.codegen.ascend.sources import groups

        return [(g.name, g.unit, g.launches) for g in groups(plan, self)]

    def build(self, sources: Mapping[str, str]) -> bytes:
        return b""  # by CANN or the simulator, where it runs

    def pack(
        self, kind: str, weights: Sequence[torch.Tensor], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        from xcompile.targets.ascend_pack import pack

        return pack(kind, weights, out)

    def executor(self, compiled: Compiled, threads: int | None) -> Any:
        from xcompile.runtime.ascend import AscendExecutor

        plan = compiled.plan
        weights = lambda: (compiled.pack(i) for i in range(len(plan.consts)))
        return AscendExecutor(plan.program(), compiled.sources, weights, self.chip)

    def restore(self, stored: Stored, threads: int | None) -> Any:
        from xcompile.runtime.ascend import AscendExecutor

        root = stored.path / "src"
        sources = {name: _text(root / name) for name in stored.sources}
        if f'"{stored.fingerprint}"' not in sources.get("host.cpp", ""):
            raise ArtifactError(f"{root / 'host.cpp'} is of another program than the manifest's")
        return AscendExecutor(
            stored.program, sources, lambda: iter(stored.tensors), self.chip, stored.fingerprint
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise ArtifactError(f"{path}: {e}") from None


def ascend(name: str) -> Ascend:
    """ "ascend910b" or another chip; "ascend910b/step" sets `launches`. Raises XCompileError."""
    chip, _, launches = name.partition("/")
    if chip not in CHIPS:
        raise XCompileError(f"unknown Ascend chip {chip!r}; known: {', '.join(CHIPS)}")
    if CHIPS[chip].arch != 2201:
        raise XCompileError(
            f"{chip}: its sizes are known, but no kernels are written for it yet (it lays L0A out "
            "as NZ and has another vector unit); use ascend910b or ascend910_93"
        )
    target = Ascend("ascend", chip, ROOT / "templates" / "ascend")
    if launches not in ("", *LAUNCHES):
        raise XCompileError(f"{name}: launches are phase, pair or step, given {launches!r}")
    return replace(target, launches=launches) if launches else target


def stored_ascend(r: Reader) -> Ascend:
    """The target of an artifact. Raises ArtifactError for a chip that this version lacks."""
    isa, launches = (r.get(key).text(limit=64) for key in ("isa", "launches"))
    if launches not in LAUNCHES:
        r.get("launches").fail(f"one of {', '.join(LAUNCHES)}")
    try:
        return ascend(f"{isa}/{launches}")
    except XCompileError as e:
        raise ArtifactError(f"{r.where}: {e}") from None
