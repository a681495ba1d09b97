"""See ordering.py."""

from xcompile.codegen.ascend.ordering import build_argmax as build

__all__ = ["build"]
