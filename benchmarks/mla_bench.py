"""Attention over ragged contexts, MLA first: the front door to the measurements of each target.

    python -m benchmarks.mla_bench --target cpu [options of benchmarks.mla_cpu]
    python -m benchmarks.mla_bench --target ascend [options of benchmarks.mla_ascend]
    python -m benchmarks.mla_bench --target plan [options of benchmarks.mla_plan]

`--help` after a target lists its options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

TARGETS = {
    "cpu": "benchmarks.mla_cpu",
    "ascend": "benchmarks.mla_ascend",
    "plan": "benchmarks.mla_plan",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark of one target with the options that are left."""
    given = list(sys.argv[1:] if argv is None else argv)
    wants_help = given in (["-h"], ["--help"])
    p = argparse.ArgumentParser(
        prog="mla_bench", description=__doc__, add_help=wants_help,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--target", choices=list(TARGETS), default="cpu")
    chosen, options = p.parse_known_args(given)
    name = TARGETS[chosen.target]
    try:
        module = import_module(name)
    except ModuleNotFoundError as e:
        if e.name != name:
            raise
        raise SystemExit(f"mla_bench: {name} is not part of this checkout") from None
    sys.argv = [name, *options]
    module.main()


if __name__ == "__main__":
    main()
