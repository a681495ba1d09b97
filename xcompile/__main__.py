"""`python -m xcompile` is the command line."""

from xcompile.cli import main

main()
