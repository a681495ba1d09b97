"""The command line's application object, and how its commands fail."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer
from typer.core import TyperGroup

from xcompile.errors import XCompileError

BAD_INPUT, INTERRUPTED = 2, 130
FIRST = ("compile", "run", "inspect", "bench", "opt")


class _CompileByDefault(TyperGroup):
    """`xcompile model.py` means `xcompile compile model.py`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help", "-h", "--version"}
        if args and args[0] not in known:
            args = ["compile", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Any) -> list[str]:
        """What everybody uses comes first in --help."""
        return sorted(self.commands, key=lambda name: FIRST.index(name) if name in FIRST else 99)


app = typer.Typer(
    cls=_CompileByDefault,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def fail(message: object, code: int = BAD_INPUT) -> typer.Exit:
    """Print an error and give the exception that ends the command."""
    print(f"error: {message}", file=sys.stderr)
    return typer.Exit(code)


def handled(f: Callable[..., None]) -> Callable[..., None]:
    """Errors of the user's making become one message and exit code 2, Ctrl-C becomes 130."""

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> None:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            f(*args, **kwargs)
        except XCompileError as e:
            raise fail(e) from None
        except KeyboardInterrupt:
            raise fail("interrupted", INTERRUPTED) from None
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None

    return call
