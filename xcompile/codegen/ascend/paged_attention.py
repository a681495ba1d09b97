"""See attention.py."""

from xcompile.codegen.ascend.attention import build

__all__ = ["build"]
