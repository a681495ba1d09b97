"""Plans for attention over ragged contexts: coverage, balance, the published scheme."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from xcompile.cli import app
from xcompile.cli_plan import parse_lengths
from xcompile.errors import XCompileError
from xcompile.runtime.attention_plan import MODES, AttentionPlan, cuts, plan_attention

LENGTHS = st.lists(st.one_of(st.integers(0, 5000), st.sampled_from([0, 1, 127, 128, 129, 32768])),
                   max_size=60)  # fmt: skip


def _lognormal(g: np.random.Generator) -> list[int]:
    return np.clip(g.lognormal(8.5, 1, 48), 128, 32768).astype(int).tolist()


def covered(plan: AttentionPlan, lengths: list[int], heads: int) -> bool:
    """Every (request, head block, token) exactly once, parts numbered in the order of tokens."""
    spans: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    for items in plan.cores:
        for i in items:
            spans.setdefault((i.request, i.head), []).append((i.begin, i.end, i.part, i.parts))
    want = {(r, h) for r, n in enumerate(lengths) if n for h in range(heads)}
    if spans.keys() != want:
        return False
    for (r, _), found in spans.items():
        found.sort()
        edges = [0, *(end for _, end, _, _ in found)]
        if [b for b, _, _, _ in found] != edges[:-1] or edges[-1] != lengths[r]:
            return False
        if [p for _, _, p, _ in found] != list(range(len(found))):
            return False
        if any(parts != len(found) for _, _, _, parts in found):
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(LENGTHS, st.integers(1, 32), st.sampled_from([16, 64, 128]), st.integers(1, 3))
def test_every_token_is_read_once(lengths: list[int], cores: int, block: int, heads: int) -> None:
    for mode in MODES:
        plan = plan_attention(lengths, cores, block=block, heads=heads, mode=mode)
        assert covered(plan, lengths, heads)
        assert len(plan.cores) == cores


@settings(max_examples=300, deadline=None)
@given(LENGTHS, st.integers(1, 48), st.floats(0, 4))
def test_no_core_has_much_more_than_its_share(
    lengths: list[int], cores: int, overhead: float
) -> None:
    plan = plan_attention(lengths, cores, overhead=overhead)
    blocks = [-(-n // 128) for n in lengths if n]
    total = sum(b + overhead for b in blocks)
    ideal = max(total / cores, 1 + overhead if blocks else 0)
    assert plan.makespan <= ideal + overhead + 1 + 1e-6


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        ([2048] * 24 + [32768], 0.15),
        ([2049] * 25, 0.6),
        (np.random.default_rng(0).integers(512, 8192, 24).tolist(), 0.65),
        (np.random.default_rng(0).integers(2049, 3073, 32).tolist(), 0.7),
        (_lognormal(np.random.default_rng(0)), 0.45),
    ],
    ids=["outlier", "one-too-many", "wide", "spread", "lognormal"],
)
def test_shorter_than_round_robin(lengths: list[int], most: float) -> None:
    base = plan_attention(lengths, 24, mode="round_robin").makespan
    assert plan_attention(lengths, 24).makespan <= most * base


def test_equal_lengths_cost_no_more_than_round_robin() -> None:
    for n in (24, 48, 96):
        base = plan_attention([4096] * n, 24, mode="round_robin").makespan
        assert plan_attention([4096] * n, 24).makespan <= 1.02 * base


def test_the_published_scheme() -> None:
    """25 x 2049 on 24 cores: one request too many is split over all of them."""
    plan = plan_attention([2049] * 25, 24, mode="xllm")
    base = plan_attention([2049] * 25, 24, mode="round_robin").makespan
    assert plan.makespan / base == pytest.approx(0.56, abs=0.056)
    assert len(plan.merge) == 1
    # not where its own conditions exclude it
    for lengths, cores in (([2048] * 25, 24), ([2049] * 24, 23)):
        same = plan_attention(lengths, cores, mode="round_robin")
        assert plan_attention(lengths, cores, mode="xllm").cores == same.cores


@pytest.mark.parametrize(
    ("lengths", "ratios"),
    [
        (lambda g: [2049] * 25, (0.56, 1.00, 0.56)),
        (lambda g: g.integers(2049, 3074, 32).tolist(), (0.68, 0.84, 0.64)),
        (lambda g: g.integers(2049, 3074, 48).tolist(), (0.90, 0.90, 0.91)),
        (lambda g: g.integers(512, 8193, 24).tolist(), (1.00, 1.00, 0.59)),
        (_lognormal, (0.82, 0.78, 0.39)),
        (lambda g: [2048] * 24 + [32768], (1.00, 0.94, 0.11)),
    ],
    ids=["one-too-many", "spread-32", "spread-48", "wide", "lognormal", "outlier"],
)
def test_ratios_to_round_robin_as_published(
    lengths: Callable[[np.random.Generator], list[int]], ratios: tuple[float, ...]
) -> None:
    """Medians over draws, 24 cores: the published scheme, longest first, and balanced."""
    g = np.random.default_rng(2)
    found = []
    for _ in range(60):
        case = lengths(g)
        base, *others = (
            plan_attention(case, 24, mode=m).makespan
            for m in ("round_robin", "xllm", "lpt", "balanced")
        )
        found.append([x / base for x in others])
    assert np.median(found, 0).tolist() == pytest.approx(ratios, rel=0.1)


def test_the_table_has_the_same_cuts() -> None:
    table = cuts([300, 0, 1000, 5], 4)
    assert table.shape == (5, 2)
    assert table[0].tolist() == [0, 0]
    assert table[-1].tolist() == [4, 0]
    assert (np.diff(table[:, 0]) >= 0).all()
    assert cuts([], 3).tolist() == [[0, 0]] * 4
    assert cuts([0, 0], 3).shape == (4, 2)


@pytest.mark.parametrize("bad", [{"cores": 0}, {"block": 0}, {"heads": 0}, {"overhead": -1.0}])
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        plan_attention([1], **{"cores": 2, **bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        plan_attention([1, -2], 2)
    with pytest.raises(ValueError, match="modes"):
        plan_attention([1], 2, mode="best")


def test_the_command_draws_every_mode(tmp_path: Path) -> None:
    out = tmp_path / "plan.svg"
    result = CliRunner().invoke(app, ["plan", "--lengths", "2048x24,32768", "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert all(mode in result.output for mode in MODES)
    texts = [t.text or "" for t in ElementTree.parse(out).iter("{http://www.w3.org/2000/svg}text")]
    assert [t.partition(":")[0] for t in texts[: len(MODES)]] == list(MODES)
    assert texts[len(MODES) :] == ["0", "50", "100", "150", "200", "250"]  # blocks


def test_the_picture_of_the_page_is_what_the_command_draws(tmp_path: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    page = (docs / "mla.md").read_text()
    (line,) = re.findall(r"^xcompile plan (.*) -o plan.svg$", page, re.MULTILINE)
    out = tmp_path / "plan.svg"
    result = CliRunner().invoke(app, ["plan", *line.split(), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_text() == (docs / "plan.svg").read_text()


def test_a_plan_without_work_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "plan.svg"
    assert CliRunner().invoke(app, ["plan", "--lengths", "0", "-o", str(out)]).exit_code == 0
    assert ElementTree.parse(out).getroot() is not None


def test_lengths_as_they_are_typed() -> None:
    assert parse_lengths("3, 2x2,0") == [3, 2, 2, 0]
    for bad in ("", "2x", "x3", "-1", "1.5"):
        with pytest.raises(XCompileError, match="is not a length"):
            parse_lengths(bad)
