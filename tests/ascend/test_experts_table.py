"""The index table of routed experts: every (row, expert, panel) is in one tile of one core.

A probe kernel builds the table and walks the tiles as the real kernel does, and writes them down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from xcompile import sim
from xcompile.codegen.ascend.moe_experts import workspace_bytes

LIB = Path(__file__).parents[2] / "templates" / "ascend" / "lib"
ROOM, WORDS, HEAD = 1 << 15, 8, 16  # tiles of a core, int32 of a tile, int32 in front of all
CUTS = [("half", 128, 128, 128, 128), ("half", 64, 32, 16, 48), ("float", 32, 64, 64, 128)]
ENTRY = """
extern "C" __global__ __mix__(1, 2) void probe{at}(
    GM_ADDR expert, GM_ADDR space_, GM_ADDR tiles, GM_ADDR head, int64_t n, int64_t k, int64_t e,
    int64_t h, int64_t i) {{
  using First = MoeTile<{t}, {p1}, {r1}, true>;
  using Second = MoeTile<{t}, {p2}, {r2}, false>;
  TPipe pipe;
  Team team{{(int32_t)GetBlockIdx(), (int32_t)GetBlockNum()}};
  const MoeSizes s{{n, k, e, h, i, h}};
  const MoeSpace space(space_, s, MOE_RING * First::SUMS * sizeof({t}), sizeof({t}), sizeof({t}));
  if ASCEND_IS_AIV {{
    team.count *= 2;
    MoeSort sort;
    sort.run(pipe, team, s, space, expert);
    PipeBarrier<PIPE_ALL>();
    pipe.Reset();
  }}
  SyncAll<false>();
  i64 rows = 0;
  if ASCEND_IS_AIV {{
    rows = moeDeal<First, Second>(pipe, team, s, space);
    if (team.index == 0) {{
      const GM_ADDR at[] = {{space.counts, space.entries, space.tokens, space.places}};
      GlobalTensor<int32_t> out = global<int32_t>(head);
      for (int32_t j = 0; j < 4; ++j) out.SetValue(j, (int32_t)(at[j] - space_));
      out.SetValue(4, (int32_t)rows);
    }}
    PipeBarrier<PIPE_ALL>();
  }}
  SyncAll<false>();
  if ASCEND_IS_AIV {{
    pipe.Reset();
    moePlaces(pipe, team, space, rows);
    PipeBarrier<PIPE_ALL>();
  }}
  if ASCEND_IS_AIC {{
    refreshScalar(global<int32_t>(space.table));
    const i64 part = ({room} + 1) * {words};
    GlobalTensor<int32_t> out = global<int32_t>(tiles);
    list<First>(space, team, 0, i, h, out[2 * team.index * part]);
    list<Second>(space, team, 1, h, i, out[(2 * team.index + 1) * part]);
  }}
}}
"""
LIST = """
#include "experts_tile.h"
using namespace xc;
template <class Tile>
__aicore__ inline void list(const MoeSpace& space, Team team, int32_t product, i64 width, i64 depth,
                            GlobalTensor<int32_t> out) {
  MoeWalk<Tile> walk;
  int32_t count = 0;
  for (walk.init(space, team, product, width, depth); walk.live; walk.next()) {
    const MoeTask& t = walk.task;
    const i64 values[] = {t.expert, t.row, t.m, t.m16, t.panel, t.panels, t.load, t.keep};
    ++count;
    for (int32_t j = 0; j < WORDS; ++j) out.SetValue(count * WORDS + j, (int32_t)values[j]);
  }
  out.SetValue(0, count);
}
"""


def source() -> str:
    text = LIST.replace("WORDS", str(WORDS))
    for at, (t, p1, r1, p2, r2) in enumerate(CUTS):
        text += ENTRY.format(at=at, t=t, p1=p1, r1=r1, p2=p2, r2=r2, room=ROOM, words=WORDS)
    return text


@dataclass(frozen=True)
class Tile:
    expert: int
    row: int
    m: int
    m16: int
    panel: int
    panels: int
    load: int
    keep: int


def route(kind: str, n: int, k: int, e: int, g: torch.Generator) -> torch.Tensor:
    """Expert ids [n, k], most of them different within a token."""
    if kind == "random":
        return torch.rand(n, e, generator=g).topk(min(k, e), -1).indices
    if kind == "zipf":
        score = -torch.log(torch.rand(n, e, generator=g)) * torch.arange(1, e + 1.0)
        return score.topk(min(k, e), -1, largest=False).indices
    if kind == "hot":  # one expert takes everything
        return torch.full((n, k), e - 1)
    if kind == "warm":  # one expert is in every token, the other slots are random
        ids = torch.randint(0, e, (n, k), generator=g)
        ids[:, 0] = e // 3
        return ids
    if kind == "even":
        return (torch.arange(n)[:, None] * k + torch.arange(k)) % e
    assert kind == "nobody"  # ids that no expert has
    return torch.tensor([-1, e, 2**40])[torch.randint(0, 3, (n, k), generator=g)]


def tiles_of(
    at: int, ids: torch.Tensor, e: int, h: int, i: int, blocks: int, seed: int
) -> tuple[list[list[Tile]], list[list[Tile]]]:
    """What each core does in both products; the sorted rows are checked on the way."""
    n, k = ids.shape
    t, p1, r1, _, _ = CUTS[at]
    size = 4 if t == "float" else 2
    space = torch.zeros(workspace_bytes(n * k, e, h, i, size, p1 * r1), dtype=torch.uint8)
    tiles = torch.zeros(blocks, 2, (ROOM + 1), WORDS, dtype=torch.int32)
    head = torch.zeros(HEAD, dtype=torch.int32)
    kernel = sim.load(source(), f"probe{at}", blocks=blocks, seed=seed, include=[LIB])
    kernel(ids, space, tiles, head, n, k, e, h, i)

    flat = ids.flatten()
    known = (flat >= 0) & (flat < e)
    entries = torch.where(known)[0][flat[known].argsort(stable=True)]
    rows = len(entries)
    counts, at_entries, at_tokens, places = (int(x) for x in head[:4])
    ints = lambda start, count: space[start : start + 4 * count].view(torch.int32).long()
    assert int(head[4]) == rows
    assert torch.equal(ints(counts, e), flat[known].bincount(minlength=e))
    assert torch.equal(ints(at_entries, rows), entries)
    assert torch.equal(ints(places, n * k)[entries], torch.arange(rows))
    assert torch.equal(ints(at_tokens, rows), entries // k)
    lists = [
        [[Tile(*x) for x in part[1 : 1 + int(part[0, 0])].tolist()] for part in product]
        for product in tiles.unbind(1)
    ]
    return lists[0], lists[1]


def covered(lists: list[list[Tile]], flat: torch.Tensor, panels: int, most: int) -> None:
    """Each sorted row meets each panel of its own expert's weights once."""
    owner = flat.sort().values
    times = torch.zeros(len(owner), panels, dtype=torch.int32)
    for core in lists:
        before: Tile | None = None
        for t in core:
            assert 0 < t.m <= t.m16 <= most and t.m16 % 16 == 0 and t.m > t.m16 - 16
            assert t.panels > 0 and t.panel + t.panels <= panels and t.row + t.m <= len(owner)
            assert bool((owner[t.row : t.row + t.m] == t.expert).all())
            times[t.row : t.row + t.m, t.panel : t.panel + t.panels] += 1
            # Rows that are not loaded are those that the tile before left there.
            same = before is not None and (before.expert, before.row, before.m) == (
                *(t.expert, t.row),
                t.m,
            )
            assert t.load or (same and before is not None and before.keep)
            assert before is None or not before.keep or (same and not t.load)
            before = t
        assert before is None or not before.keep
    assert bool((times == 1).all())


def shrink(at: int, width: int) -> int:
    """Fewer results for narrow panels, not to list hundreds of thousands of tiles."""
    return min(width, 1000) if at == 1 else width


def check(
    at: int, kind: str, n: int, k: int, e: int, h: int, i: int, blocks: int, seed: int
) -> None:
    h, i = shrink(at, h), shrink(at, i)
    ids = route(kind, n, k, e, torch.Generator().manual_seed(n * 31 + e))
    _, p1, r1, p2, r2 = CUTS[at]
    first, second = tiles_of(at, ids, e, h, i, blocks, seed)
    flat = ids.flatten()
    flat = flat[(flat >= 0) & (flat < e)]
    covered(first, flat, -(-i // (p1 // 2)), r1)
    covered(second, flat, -(-h // p2), r2)


KINDS = ("random", "zipf", "hot", "warm", "even", "nobody")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 37, 300, 4096])
def test_every_row_meets_every_panel_once(kind: str, n: int) -> None:
    g = torch.Generator().manual_seed(n + len(kind))
    pick = lambda *options: options[int(torch.randint(0, len(options), (), generator=g))]
    for at in range(len(CUTS)):
        e, k = pick(4, 7, 64, 130, 256), pick(1, 2, 3, 8)
        h, i = pick(40, 520, 2048, 7168), pick(24, 200, 768, 2048)
        check(at, kind, n, min(k, e), e, h, i, pick(1, 2, 5, 20, 24), seed=pick(0, 3, 11))


@pytest.mark.parametrize("seed", [1, 2, 5, 9])
def test_any_interleaving(seed: int) -> None:
    """The checks of the simulator find no race, in whatever order the cores run."""
    check(0, "zipf", 500, 8, 64, 2048, 768, 24, seed)
    check(1, "warm", 1200, 4, 33, 520, 200, 7, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_more(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    pick = lambda *options: options[int(torch.randint(0, len(options), (), generator=g))]
    for _ in range(8):
        e, k, n = (
            pick(4, 5, 16, 63, 64, 128, 200, 256),
            pick(*range(1, 9)),
            pick(1, 3, 16, 129, 777, 2048, 4096),
        )
        at, kind, blocks = pick(0, 1, 2), pick(*KINDS), pick(1, 2, 3, 8, 13, 20, 23, 24)
        h, i = pick(16, 96, 1000, 2048, 7168), pick(16, 48, 96, 768, 1408, 2048)
        check(at, kind, n, min(k, e), e, h, i, blocks, seed)


@pytest.mark.parametrize("h,i,e", [(7168, 2048, 16), (2048, 768, 128), (2048, 1408, 64)])
@pytest.mark.parametrize("n", [64, 1024, 4096])
def test_a_hot_expert_spreads_over_all_cores(n: int, h: int, i: int, e: int) -> None:
    ids = route("hot", n, 1, e, torch.Generator())
    for lists in tiles_of(0, ids, e, h, i, 24, 0):
        work = [sum(t.m16 * t.panels for t in core) for core in lists]
        panels = sum(t.panels for core in lists for t in core)
        # as even as whole panels of a block of rows allow
        assert max(work) <= 1.15 * sum(work) / 24 + 128 * (panels > 0)
