"""The tiling search: what it picks fits every buffer, for the shapes of real models and others."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from xcompile.errors import XCompileError
from xcompile.targets.ascend import CHIPS
from xcompile.targets.ascend_tiling import (
    MAX_SLOTS,
    SAMPLES,
    Choice,
    Product,
    Tile,
    check,
    cost,
    floor,
    in_place,
    search,
)

# hidden, heads, (q_lora, kv_lora, nope, rope, v) or (kv heads, head dim), dense, expert, experts,
# vocabulary
MODELS = {
    "DeepSeek-V3": (7168, 128, (1536, 512, 128, 64, 128), 18432, 2048, 256, 129280),
    "Kimi-K2": (7168, 64, (1536, 512, 128, 64, 128), 18432, 2048, 384, 163840),
    "DeepSeek-V2-Lite": (2048, 16, (0, 512, 128, 64, 128), 10944, 1408, 64, 102400),
    "Qwen3-30B-A3B": (2048, 32, (4, 128), 6144, 768, 128, 151936),
}


def projections(name: str) -> set[tuple[int, int, bool]]:
    """(N, K, gated) of every linear of a model, merged as the passes merge them and not."""
    hidden, heads, attention, dense, expert, experts, vocabulary = MODELS[name]
    out = {(vocabulary, hidden, False), (experts, hidden, False)}
    for inner in (dense, expert, 2 * expert):  # a shared expert may be two
        out |= {(inner, hidden, True), (inner, hidden, False), (hidden, inner, False)}
    if len(attention) == 2:
        kv, dim = attention
        out |= {
            (heads * dim, hidden, False),
            (kv * dim, hidden, False),
            (hidden, heads * dim, False),
        }
        return out | {((heads + 2 * kv) * dim, hidden, False)}
    q_lora, kv_lora, nope, rope, v = attention
    queries = heads * (nope + rope)
    out |= {(kv_lora + rope, hidden, False), (hidden, heads * v, False)}
    out |= {(heads * (nope + v), kv_lora, False)}
    if q_lora:
        out |= {(q_lora, hidden, False), (q_lora + kv_lora + rope, hidden, False)}
        return out | {(queries, q_lora, False)}
    return out | {(queries, hidden, False), (queries + kv_lora + rope, hidden, False)}


def assert_fits(chip_name: str, p: Product, choice: Choice, lo: int = 1, hi: int = 8192) -> None:
    """Every buffer, from the sizes and not from the search's own rule."""
    chip = CHIPS[chip_name]
    panel, k0 = choice.panel, 32 // p.size
    assert panel % (32 if p.gated else 16) == 0
    assert choice.regimes[-1][0] == hi
    assert [top for top, _ in choice.regimes] == sorted({top for top, _ in choice.regimes})
    for _, t in choice.regimes:
        assert min(t.rows, t.group, t.wide, t.kb, t.kc, t.ka, t.band) >= 1
        assert t.rows % 16 == 0 and t.kb % k0 == 0 and t.kc % t.kb == 0 and t.ka % t.kc == 0
        assert 2 <= t.slots <= MAX_SLOTS and t.wide <= MAX_SLOTS
        assert 2 * t.rows * t.kb * p.size <= chip.l0a
        assert 2 * panel * t.kb * p.size <= chip.l0b
        assert t.wide * t.group * t.rows * panel * 4 <= chip.l0c
        assert (2 * t.rows * t.ka + t.slots * t.group * panel * t.kc) * p.size <= chip.l1
        assert panel // 16 * (t.kb // k0) <= 255  # repeats of LoadData
        assert t.group * panel <= 4095  # columns of Fixpipe
        assert choice.sums >= t.rows * t.group * panel and choice.columns >= t.group * panel
    # the packed weight is that of panels that cover N
    width = panel // 2 if p.gated else panel
    assert (p.panels(panel) - 1) * width < p.n <= p.panels(panel) * width


CASES = [
    (name, chip, size)
    for name in MODELS
    for chip in sorted(CHIPS)
    for size in (2, 4)
]  # fmt: skip


@pytest.mark.parametrize(("name", "chip", "size"), CASES, ids=lambda v: str(v))
def test_shapes_of_models(name: str, chip: str, size: int) -> None:
    for n, k, gated in sorted(projections(name)):
        p = Product(n, k, size, gated)
        assert_fits(chip, p, search(CHIPS[chip], p))


@pytest.mark.parametrize("chip", sorted(CHIPS))
def test_random_shapes_and_bounds(chip: str) -> None:
    rng = random.Random(chip)
    for _ in range(60):
        n, k = (int(2 ** rng.uniform(0, 17)) for _ in range(2))
        p = Product(n, k, rng.choice((2, 4)), rng.random() < 0.3, rng.choice((1, 1, 16)))
        lo = int(2 ** rng.uniform(0, 13))
        hi = int(lo * 2 ** rng.uniform(0, 4))
        assert_fits(chip, p, search(CHIPS[chip], p, lo, hi), lo, min(hi, SAMPLES[-1]))


@pytest.mark.parametrize("size", [2, 4])
def test_computed_matrices(size: int) -> None:
    for chip in CHIPS.values():
        for n in (None, 1, 17, 64, 100, 5000):
            panel, tile = in_place(chip, size, n)
            assert panel <= 128 and (n is None or panel >= min(n, 128))
            assert_fits(chip.name, Product(n or 1, 999, size), Choice(panel, ((8192, tile),)))


GOOD = Tile(rows=128, group=1, wide=2, kb=128, kc=256, ka=512, slots=3, band=16)


@pytest.mark.parametrize(
    ("panel", "change", "why"),
    [
        (128, {"rows": 120}, "multiple of 16"),
        (100, {}, "multiple of 16"),
        (128, {"rows": 256}, "L0A"),
        (256, {"wide": 1}, "L0B"),
        (128, {"wide": 3}, "L0C"),
        (128, {"ka": 1024}, "L1"),
        (128, {"slots": 9}, "2 to 4"),
        (128, {"kb": 96}, "whole steps"),
        (128, {"group": 0}, "empty"),
    ],
)
def test_a_tile_that_does_not_fit_is_refused(panel: int, change: dict[str, int], why: str) -> None:
    chip = CHIPS["ascend910b1"]
    check(chip, 2, Choice(128, ((8192, GOOD),)))
    with pytest.raises(XCompileError, match=why):
        check(chip, 2, Choice(panel, ((8192, GOOD._replace(**change)),)))


def test_a_chip_without_room_is_refused() -> None:
    with pytest.raises(XCompileError, match="no tile fits"):
        search(replace(CHIPS["ascend910b1"], l1=1024), Product(64, 64, 2))


def test_the_model_never_promises_more_than_the_hardware_does() -> None:
    chip = CHIPS["ascend910b1"]
    for n, k, gated in sorted(projections("DeepSeek-V3")):
        p = Product(n, k, 2, gated)
        choice = search(chip, p)
        for m in SAMPLES:
            tile = next(t for top, t in choice.regimes if m <= top)
            least = floor(chip, p, m)
            assert least <= cost(chip, p, choice.panel, [tile], [m])[0, 0] <= 3 * least + 5000


def test_tiles_as_cpp() -> None:
    assert GOOD.c() == "Tiling{128, 1, 2, 128, 256, 512, 3, 16}"
    two = Choice(128, ((16, GOOD), (64, GOOD._replace(rows=16))))
    assert two.c("m") == f"m <= 16 ? {GOOD.c()} : {GOOD._replace(rows=16).c()}"
