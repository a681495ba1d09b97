"""See ordering.py."""

from xcompile.codegen.ascend.ordering import build_sort as build

__all__ = ["build"]
