"""Where registers lie in UB: slots by lifetime, banks, offsets for a capacity."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from xcompile.codegen.ascend.chain_lower import Lowering
from xcompile.codegen.ascend.chain_space import COLUMN, ROW, TILE
from xcompile.codegen.ascend.chain_steps import BLOCK, WIDTH, Reg, Slot, Stage, Step

END = 1 << 30
REGION = 64 * 1024  # a read and a write of one bank exclude each other; banks differ by region
QUEUES = ("in", "out", "rowIn", "rowOut")


@dataclass(frozen=True)
class Capacity:
    """What a tile may hold: elements with pads, rows, columns. `ins` and `outs` are the buffers of
    the queues; one will do where the vector unit is what takes long."""

    elements: int
    rows: int
    columns: int
    ins: int = 2
    outs: int = 2

    def buffers(self, queue: str) -> int:
        return {"in": self.ins, "out": self.outs, "work": 1}.get(queue, 2)


def up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


class Memory:
    """Slots of all registers of a group."""

    def __init__(self, x: Lowering) -> None:
        self.x = x
        self.pool: list[Slot] = []  # of TILE and BLOCK registers
        self.kept: list[Slot] = []  # others'
        self.queued: list[list[Slot]] = []  # per stage
        for stage in x.stages:
            self._scan(stage)
        self._share()
        for reg in self._regs():
            if reg.place is None:
                reg.place = self._keep(reg)
            elif reg.place.buffer == "work" and reg.place not in self.pool:
                self._add(reg.place)
        self._banks()

    def _share(self) -> None:
        """Columns that are only converted on arrival lie where tiles do, then not live."""
        used = {r for stage in self.x.stages for s in (*stage.before, *stage.tiles) for r in s.regs}
        tiles = iter([p for p in self.pool if p.domain == TILE and p.width == 4])
        for o, r in self.x.column_loads:
            if r not in used and r.place is not None and r.place.domain == COLUMN and o.size < 8:
                r.place = next(tiles, r.place)

    def _add(self, slot: Slot) -> Slot:
        if slot not in self.kept:
            self.kept.append(slot)
        return slot

    def _keep(self, reg: Reg) -> Slot:
        return self._add(Slot("work", _domain(reg), _width(reg)))

    def _steps(self) -> list[Step]:
        return [
            *self.x.columns,
            *(s for stage in self.x.stages for s in (*stage.before, *stage.tiles)),
        ]

    def _regs(self) -> list[Reg]:
        regs = [r for s in self._steps() for r in s.regs]
        regs += self.x.constants.values()
        regs += self.x.tables.values()
        regs += [r for _, r in self.x.column_loads]
        return list(dict.fromkeys(regs))

    # -- lifetimes ----------------------------------------------------------------------------
    def _scan(self, stage: Stage) -> None:
        first: dict[Reg, int] = {}
        last: dict[Reg, int] = {}
        for k, s in enumerate([*stage.before, *stage.tiles]):
            for r in s.regs:
                first.setdefault(r, k)
                last[r] = k
            if stage.before and s.dst.kind == BLOCK:
                last[s.dst] = END  # every tile of the rows reads it
        busy: dict[Slot, list[tuple[int, int, Reg]]] = defaultdict(list)
        loaded = [r for _, r in (*stage.loads, *stage.accs)]
        stored = [r for _, r in stage.stores]
        queued = []
        for r in loaded:
            assert r.place is not None
            queued.append(r.place)
            busy[r.place].append((-1, last.get(r, -1), r))
        for r in stored:
            assert r.place is not None
            queued.append(r.place)
            busy[r.place].append((first[r], END, r))
        self.queued.append(queued)
        spare = [r.place for r in (*stored, *loaded) if r.place and r.place.domain == TILE]
        for k, s in enumerate([*stage.before, *stage.tiles]):
            for r in (*s.temps, s.dst):
                if r.place is None and r.kind in (TILE, BLOCK) and first[r] == k:
                    slot = self._choose(r, s, k, last, busy, spare)
                    r.place = slot
                    busy[slot].append((k, last[r], r))

    def _choose(
        self,
        r: Reg,
        s: Step,
        k: int,
        last: dict[Reg, int],
        busy: dict[Slot, list[tuple[int, int, Reg]]],
        spare: list[Slot],
    ) -> Slot:
        domain, width = _domain(r), _width(r)

        def free(slot: Slot) -> bool:
            return all(
                b < k or a > last[r] or (b == k and s.alias and r is s.dst and x in s.sources)
                for a, b, x in busy[slot]
            )

        same = [p for p in self.pool if p.domain == domain and p.width == width]
        wider = sorted(
            (p for p in self.pool if p.domain == domain == TILE and p.width > width),
            key=lambda p: p.width,
        )
        dying = [x.place for x in s.sources if s.alias and last[x] == k and x.place in same]
        others = sorted(
            (p for p in spare if domain == TILE and p.width >= width), key=lambda p: p.width
        )
        for slot in (*dying, *same, *others, *wider):
            if slot is not None and free(slot):
                return slot
        slot = Slot("work", domain, width)
        self.pool.append(slot)
        return slot

    # -- banks --------------------------------------------------------------------------------
    def _banks(self) -> None:
        """Operands that are read at once should lie in different halves of 512 bytes."""
        edges: Counter[tuple[int, int]] = Counter()
        slots: dict[int, Slot] = {}
        for s in self._steps():
            places = [r.place for r in s.pair]
            for a in places:
                for b in places:
                    if a is not None and b is not None and a is not b:
                        slots[id(a)], slots[id(b)] = a, b
                        edges[id(a), id(b)] += 1
        weight: Counter[int] = Counter()
        for (of, _), w in edges.items():
            weight[of] += w
        done: set[int] = set()
        for of, _ in weight.most_common():
            near = [(slots[to], w) for (x, to), w in edges.items() if x == of and to in done]
            odd = sum(w for to, w in near if to.odd)
            slots[of].odd = sum(w for _, w in near) > 2 * odd
            done.add(of)

    # -- bytes --------------------------------------------------------------------------------
    def size(self, slot: Slot, c: Capacity) -> int:
        tile, rows, columns = up(c.elements, 128), up(c.rows, 128), up(c.columns, 128)
        match slot.domain:
            case "tile":
                return slot.width * tile
            case "bits":
                return tile // 8
            case "row":
                return slot.width * rows if slot.width else rows // 8
            case "column":
                return slot.width * columns if slot.width else columns // 8
            case "block":
                return 32 * up(c.rows, 8)
            case "constant":
                return slot.width
            case "across":
                return columns * up(c.rows * slot.width, 32)
            case "tile apart":
                return 32 * tile
            case "column apart":
                return 32 * columns
            case "row apart":
                return max(32, 8 * slot.width) * up(c.rows, 8)
        raise AssertionError(slot.domain)

    def lay(self, slots: list[Slot], c: Capacity) -> int:
        """Gives the slots their offsets; the bytes they take."""
        at = 0
        for slot in slots:
            n = self.size(slot, c)
            if n >= 512:
                at = up(at, 256)
                if (at // 256) % 2 != slot.odd:
                    at += 256
            slot.offset = at
            at += up(n, 32)
        return up(at, 512)

    def layout(self, c: Capacity, ub: int = 0) -> dict[str, int]:
        """Bytes of each buffer (of one of the queues'). If `ub` leaves room for it, what tiles are
        computed in begins at a region, apart from what moves."""
        out: dict[str, int] = {}
        for stage in self.queued:
            for name in ("in", "out"):
                n = self.lay([s for s in stage if s.buffer == name], c)
                out[name] = max(out.get(name, 0), n)
        rows = [r.place for _, r in self.x.row_loads if r.place]
        out["rowIn"] = self.lay(rows, c)
        out["rowOut"] = self.lay([r.place for _, r in self.x.row_stores if r.place], c)
        base = sum(n * c.buffers(name) for name, n in out.items())
        slots = [*self.pool, *self.kept]
        wide = [p for p in slots if p.domain in (TILE, COLUMN) and p.width > 1]
        small = self.lay([p for p in slots if p not in wide], c)
        size = self.lay(wide, c)
        gap = up(base + small, REGION) - base - small
        start = small + gap if base + small + gap + size <= ub else small
        for slot in wide:
            slot.offset += start
        out["work"] = start + size
        return out

    def total(self, c: Capacity) -> int:
        return sum(n * c.buffers(name) for name, n in self.layout(c).items())


def _domain(r: Reg) -> str:
    if r.ctype == "bits" and r.kind == TILE:
        return "bits"
    return r.kind


def _width(r: Reg) -> int:
    if r.kind == BLOCK:
        return 32
    return WIDTH[r.ctype] if r.width is None else r.width


__all__ = ["COLUMN", "ROW", "Capacity", "Memory", "up"]
