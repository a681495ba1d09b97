"""Options and fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from pathlib import Path

import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xcompile")
    group.addoption(
        "--update-golden", action="store_true", help="rewrite tests/golden from this run's texts"
    )
    group.addoption(
        "--slow",
        action="store_true",
        help="also run the tests marked slow (-m slow runs only those); default: deselect them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow") or config.option.markexpr:
        return
    slow = [i for i in items if i.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [i for i in items if not i.get_closest_marker("slow")]


@pytest.fixture
def rng() -> torch.Generator:
    """Random numbers that are the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` compares a text with the file tests/golden/<name>."""
    update = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        hint = "look at the change, then run pytest with --update-golden"
        if not path.exists():
            pytest.fail(f"there is no tests/golden/{name}; {hint}", pytrace=False)
        want = path.read_text(encoding="utf-8")
        if text != want:
            diff = unified_diff(
                want.splitlines(), text.splitlines(), f"golden/{name}", "this run", lineterm=""
            )
            pytest.fail("\n".join([f"{name} changed; {hint}", *diff]), pytrace=False)

    return check
