"""The only jinja2 environment of the project."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from xcompile.errors import UnsupportedError


@cache
def environment(folder: Path) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(folder: Path, template: str, **context: Any) -> str:
    """Text of a template. Raises UnsupportedError when the target has none for this op."""
    try:
        return environment(folder).get_template(template).render(**context)
    except jinja2.TemplateNotFound:
        name = template.removesuffix(".j2")
        raise UnsupportedError(f"target {folder.name} has no kernel for op {name!r}") from None
