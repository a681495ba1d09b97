"""Compile time and memory of one subject, in a process and with caches of its own.

    python -m benchmarks.cold xcompile --model ds-mini

Prints one JSON object. Time runs from a loaded model to the first decoded token (and from there to
the first prefill), so it includes everything that a subject imports and compiles on the way; CPU
time includes that of child processes. The model_bench script starts this one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from typing import Any


def run(subject: str, options: list[str]) -> dict[str, Any]:
    """Runs this module in a new process with empty caches. Raises RuntimeError with its output."""
    with tempfile.TemporaryDirectory() as tmp:
        caches = {"XC_CACHE_DIR": f"{tmp}/xc", "TORCHINDUCTOR_CACHE_DIR": f"{tmp}/inductor"}
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cold", subject, *options]
        result = subprocess.run(
            command, env={**os.environ, **caches}, capture_output=True, text=True, check=False
        )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-4000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subject")
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--experts", default="grouped_mm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()

    import torch

    from benchmarks.measure import Stopwatch, reset_peak, rss
    from benchmarks.models import DTYPES, build
    from benchmarks.subjects import Tokens, make

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model = build(args.model, DTYPES[args.dtype], experts=args.experts, quick=args.quick)
    tokens = Tokens(model.config.vocab_size, args.context)
    loaded = rss()
    reset_peak()
    watch = Stopwatch()
    subject: Any = make(args.subject, model, tokens, args.threads)
    subject.decode(1)()
    decode = watch.read()
    watch = Stopwatch()
    subject.prefill()()
    prefill = watch.read()
    peak = rss(peak=True)
    stages = {}
    if args.subject == "xcompile":
        stages = subject.exe.compiled.seconds
        del model
    gc.collect()
    print(json.dumps({
        "subject": args.subject, "decode": decode, "prefill": prefill, "stages": stages,
        "loaded_bytes": loaded, "peak_bytes": peak, "resident_bytes": rss(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
