"""What runs a compiled step. Needs torch, but no compiler and no model source."""

assert __name__ == "xcompile.runtime", "import runtime as xcompile.runtime"
