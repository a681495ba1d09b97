"""Progress on the terminal: silent unless stderr is one and XC_PROGRESS is not 0."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def enabled() -> bool:
    return sys.stderr.isatty() and os.environ.get("XC_PROGRESS", "1") != "0"


@contextmanager
def step(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a named step while the block runs; call the result with (done, total)."""
    if not enabled():
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
