"""What a target is: limits, templates, how its sources become something callable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Target:
    """A place to run. `isa` is the instruction-set level that the build is for."""

    name: str
    isa: str
    template_path: Path
    panel: int = 32  # columns of one packed weight panel

    def __str__(self) -> str:
        return f"{self.name}/{self.isa}"
