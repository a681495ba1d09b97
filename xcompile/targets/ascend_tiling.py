"""Tiles of the cube kernels: which fit a chip's buffers, and which a cost model finds fastest.

The kernels are in templates/ascend/lib/gemm*.h; the names of `Tile` are those of its Tiling. Rates
are bytes per cycle and core without contention, from the same sources as the simulator's
(runtime/sim/src/costs.cpp).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xcompile.errors import XCompileError
from xcompile.targets.ascend import Chip

Array = NDArray[np.float64]

GM_L1, GM_L1_NZ, NZ_ROW, ISSUE = 110.0, 117.0, 2.3, 17.0
LINE = 110.0  # bytes' time of a line of 512 bytes that is written in part
L1_L0A, L1_L0B, L0C_GM, MTE1_START = 256.0, 128.0, 86.0, 4.0
MMAD_HEAD = 6.0
RUN = 0.02  # what a further tile must gain, for its code
READ, STALL = 150.0, 0.75  # latency; how much of a shortage of B shows
START = 1200.0  # the first transfer and the last tile, which nothing overlaps
MAX_SLOTS = 4
DEEPEST = 2048  # K of a transfer of A
SAMPLES = (1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Tile(NamedTuple):
    """One way to cut a product; in elements. See Tiling in gemm_deal.h."""

    rows: int
    group: int
    wide: int
    kb: int
    kc: int
    ka: int
    slots: int
    band: int

    def c(self) -> str:
        return f"Tiling{{{', '.join(map(str, self))}}}"


@dataclass(frozen=True)
class Choice:
    """The packing of a weight, and tiles: the first whose bound is at least M."""

    panel: int
    regimes: tuple[tuple[int, Tile], ...]

    @property
    def sums(self) -> int:
        """Floats of the largest sub-tile."""
        return max(t.rows * t.group for _, t in self.regimes) * self.panel

    @property
    def columns(self) -> int:
        """Of the widest sub-tile."""
        return max(t.group for _, t in self.regimes) * self.panel

    def c(self, m: str) -> str:
        """The tile for M rows, as C++."""
        *some, (_, last) = self.regimes
        return "".join(f"{m} <= {top} ? {t.c()} : " for top, t in some) + last.c()


@dataclass(frozen=True)
class Product:
    """y[M, n] = x[M, k] w[n, k]^T of elements of `size` bytes.

    gated  two weights of n rows
    count  of products that run together
    fused  sums go to vector cores as float
    """

    n: int
    k: int
    size: int
    gated: bool = False
    count: int = 1
    fused: bool = False

    def panels(self, panel: int) -> int:
        return -(-self.n // (panel // 2 if self.gated else panel))


def problem(chip: Chip, size: int, panel: int, t: Tile) -> str | None:
    """Why a tile does not fit; None if it does."""
    k0 = 32 // size
    bits = [
        (panel % 16 or panel < 16, f"a panel of {panel} rows is not a multiple of 16"),
        (t.rows % 16 or t.rows < 16, f"{t.rows} rows are not a multiple of 16"),
        (min(t.group, t.wide, t.kb, t.band) < 1, "an empty tile"),
        (t.kb % k0 or t.kc % max(t.kb, 1) or t.ka % max(t.kc, 1), "K is not cut in whole steps"),
        (not 2 <= t.slots <= MAX_SLOTS, f"{t.slots} weight buffers; the kernel takes 2 to 4"),
        (t.wide > MAX_SLOTS, f"{t.wide} sub-tiles; the kernel takes at most {MAX_SLOTS}"),
        (t.rows * t.kb * size > chip.l0a // 2, "two tiles of A do not fit L0A"),
        (panel * t.kb * size > chip.l0b // 2, "two tiles of B do not fit L0B"),
        (t.rows * t.group * panel * 4 * t.wide > chip.l0c, "a task's results do not fit L0C"),
        (_l1(t, panel, size) > chip.l1, "the buffers do not fit L1"),
        (t.kb // k0 * (panel // 16) > 255, "a load to L0B has more than 255 fractals"),
        (t.group * panel > 4095, "a result has more than 4095 columns"),
        (panel // 16 * (t.rows // 16) > 512, "a panel's results have more than 512 fractals"),
    ]
    return next((why for wrong, why in bits if wrong), None)


def check(chip: Chip, size: int, choice: Choice) -> None:
    """Raises XCompileError for a choice that a kernel could not run."""
    for _, t in choice.regimes:
        why = problem(chip, size, choice.panel, t)
        if why is not None:
            raise XCompileError(f"{t} with panels of {choice.panel} on {chip.name}: {why}")


def _l1(t: Tile, panel: int, size: int) -> int:
    return size * (2 * t.rows * t.ka + t.slots * t.group * panel * t.kc)


@lru_cache(maxsize=1024)
def candidates(chip: Chip, size: int, panel: int, deepest: int) -> tuple[Tile, ...]:
    """Tiles of a panel width that fit; depths of K are as large as the buffers and K allow."""
    out: list[Tile] = []
    for rows in (128, 64, 32, 16):
        for group in range(1, 9):
            for wide in range(1, MAX_SLOTS + 1):
                fits = rows * group * panel * 4 * wide <= chip.l0c
                if fits and (group == 1 or group * panel <= 256):
                    out += _deep(chip, size, panel, rows, group, wide, deepest)
    return tuple(out)


def _deep(
    chip: Chip, size: int, panel: int, rows: int, group: int, wide: int, deepest: int
) -> Iterator[Tile]:
    k0 = 32 // size
    kb = min(chip.l0a // 2 // (rows * size), chip.l0b // 2 // (panel * size))
    kb = min(kb, 255 // (panel // 16) * k0, 512, deepest)
    kb = _down(kb, 4 * k0) or _down(kb, k0)
    for transfer in (64 * 1024, 32 * 1024):
        kc = min(max(_down(transfer // (group * panel * size), kb), kb), -(-deepest // kb) * kb)
        for slots in (4, 3):
            room = chip.l1 - slots * group * panel * kc * size
            most = min(room // (2 * rows * size), DEEPEST, -(-deepest // kc) * kc)
            for ka in sorted({_down(most, kc), _down(min(most, 1280 // size), kc)}):
                if ka * size >= min(1024, deepest * size):
                    t = Tile(rows, group, wide, kb, kc, ka, slots, 1)
                    if problem(chip, size, panel, t) is None:
                        yield t


def band(chip: Chip, p: Product, rows: Any) -> Any:
    """Row blocks whose A fills at most about half of L2."""
    return np.maximum(1, int(0.45 * chip.l2) // (rows * p.k * p.size))


def _down(value: int, unit: int) -> int:
    return value // unit * unit


def cost(chip: Chip, p: Product, panel: int, tiles: Sequence[Tile], ms: Sequence[int]) -> Array:
    """Cycles of one product, about, for each tile and each M."""
    t = Tile(*np.array(tiles, dtype=np.float64).T[:, :, None])
    m, panels, cores = np.array(ms, dtype=np.float64)[None], p.panels(panel), chip.aic
    rows = 16 * _up(_up(m, _up(m, t.rows)), 16)
    blocks = _up(m, rows)
    per = t.group * t.wide
    whole = p.count * blocks * _up(panels, per)
    rest = whole % cores
    parts = np.where(rest > 0, np.minimum(cores // np.maximum(rest, 1), per), 1)
    part = _up(per, parts)
    real = np.minimum(rows, m)
    deep = -(-p.k // (32 // p.size)) * (2 if p.size == 4 else 1)
    steps, pieces, depth = _up(p.k, t.kb), _up(p.k, t.ka), np.minimum(t.ka, p.k)
    piece = ISSUE + real * (NZ_ROW + depth * p.size / GM_L1_NZ)  # a piece of A
    # Of Fixpipe: runs of a row, each with the lines of 512 bytes that it covers in part.
    runs, run = (2 * t.group, panel * 2) if p.gated else (1, t.group * panel * 4)
    if not p.fused and not p.gated:
        run = t.group * panel * p.size
    fix = real * runs * (run + LINE * np.where(run % 512 == 0, 0.0, 1.0)) / L0C_GM
    spare = np.minimum(chip.l0c // (t.rows * t.group * panel * 4), MAX_SLOTS) - t.wide

    def task(count: Any) -> Any:
        """One task of `count` panels: the slowest of the core's pipes."""
        subs = _up(count, t.group)
        cube = count * (rows / 16 * (panel // 16) * deep + MMAD_HEAD * steps)
        mte1 = subs * (steps * rows / 16 * MTE1_START + p.k * rows * p.size / L1_L0A)
        mte1 = mte1 + count * (steps * MTE1_START + p.k * panel * p.size / L1_L0B)
        load = count * (_up(p.k, t.kc) * ISSUE + p.k * panel * p.size / GM_L1)
        work = _either(cube, mte1, 12)
        # While a piece of A comes, the core lives on what it has of B.
        items = subs * pieces * _up(depth, t.kc)
        wait = piece + READ + (load - (t.slots - 1) * work) / items
        work = work + pieces * np.maximum(0.0, STALL * wait)
        # Without a further buffer, the next task's first sums wait for this one's to leave.
        late = np.maximum(0.0, fix - (subs - 1) * work / items)
        work = work + np.where(spare < 1, late, 0.0)
        return np.maximum(np.maximum(work, load + pieces * piece), subs * fix)

    core = whole // cores * task(np.minimum(per, panels))
    core = core + np.where(rest > 0, task(np.minimum(part, panels)), 0)
    weights = p.count * panels * panel * p.k * p.size
    moved = weights * _up(blocks, band(chip, p, t.rows)) + (p.k + p.n) * p.count * m * p.size
    hbm = moved * chip.clock / chip.hbm
    # In the last round, few cores do not ask for all that memory gives.
    last = np.minimum(rest * _up(per, part), cores)
    rate = np.minimum(chip.hbm / chip.clock, np.maximum(last, 1) * GM_L1)
    slower = weights * rest / whole * (1 / rate - chip.clock / chip.hbm)
    hbm = hbm + np.where(blocks == 1, slower, 0)
    l2 = whole * p.k * p.size * (real + per * panel) * chip.clock / chip.l2_rate
    return np.asarray(_either(_either(core, hbm, 8), l2, 8) + START)


def _up(a: Any, b: Any) -> Any:
    return -(-a // b)


def _either(a: Any, b: Any, sharp: int) -> Any:
    """About the larger; more where both are, since they do not overlap without gaps."""
    return np.maximum(a, b) * (1 + (np.minimum(a, b) / np.maximum(a, b)) ** sharp) ** (1 / sharp)


def floor(chip: Chip, p: Product, m: int) -> float:
    """Cycles that no tile goes below: arithmetic and memory."""
    n = p.n * (2 if p.gated else 1)
    cube = m * n * p.k / (256 * (32 // p.size)) * (2 if p.size == 4 else 1) / chip.aic
    moved = p.count * (m * (p.k + p.n) + n * p.k) * p.size
    return max(p.count * cube, moved * chip.clock / chip.hbm)


@lru_cache(maxsize=4096)
def search(
    chip: Chip,
    p: Product,
    lo: int = 1,
    hi: int = 8192,
    regimes: int = 4,
    panels: tuple[int, ...] = (),
) -> Choice:
    """The panel width (of `panels`, if given) and tiles with the least loss over M = lo .. hi,
    decode and prefill alike; to the fourth power, since the worst case counts most.

    Raises XCompileError if nothing fits.
    """
    hi = max(1, min(hi, SAMPLES[-1]))
    lo = max(1, min(lo, hi))
    samples = sorted({lo, hi, *(m for m in SAMPLES if lo < m < hi)})
    floors = np.array([floor(chip, p, m) + START for m in samples])
    best: tuple[float, Choice] | None = None
    grain = 32 if p.gated else 16
    for panel in panels or range(grain, 257, grain):
        k0 = 32 // p.size
        tiles = candidates(chip, p.size, panel, min(-(-p.k // k0) * k0, DEEPEST))
        if not tiles:
            continue
        loss, picks = _intervals((cost(chip, p, panel, tiles, samples) / floors) ** 4, regimes)
        if best is None or loss < best[0]:
            found = [(samples[end], tiles[k]) for end, k in picks]
            tops = [(m, t._replace(band=int(band(chip, p, t.rows)))) for m, t in found]
            best = loss, Choice(panel, tuple(tops))
    if best is None:
        raise XCompileError(f"{p}: no tile fits the buffers of {chip.name}")
    check(chip, p.size, best[1])
    return best[1]


@lru_cache(maxsize=64)
def in_place(chip: Chip, size: int, n: int | None = None) -> tuple[int, Tile]:
    """Panel width and tile for a product of computed matrices with n columns (None: unknown)."""
    k0 = 32 // size
    panel = min(128, -(-n // 16) * 16) if n is not None else 128
    tile = Tile(128, 1, 2, 8 * k0, 16 * k0, 32 * k0, 3, 64)
    check(chip, size, Choice(panel, ((SAMPLES[-1], tile),)))
    return panel, tile


def _intervals(losses: Array, most: int) -> tuple[float, list[tuple[int, int]]]:
    """At most `most` runs of samples (columns) with one row each, and the least sum; a run is its
    last sample and its row."""
    count = losses.shape[1]
    ends = np.concatenate([np.zeros((len(losses), 1)), losses.cumsum(1)], 1)
    best: dict[tuple[int, int], tuple[float, list[tuple[int, int]]]] = {(0, 0): (0.0, [])}
    for end in range(1, count + 1):
        for start in range(end):
            run = ends[:, end] - ends[:, start]
            k = int(run.argmin())
            for used in range(most):
                before = best.get((used, start))
                if before is None:
                    continue
                total = before[0] + float(run[k]) + RUN
                if total < best.get((used + 1, end), (float("inf"), []))[0]:
                    best[used + 1, end] = total, [*before[1], (end - 1, k)]
    return min(v for (_, end), v in best.items() if end == count)
