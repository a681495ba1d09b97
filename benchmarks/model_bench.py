"""Decode and prefill of small MoE models: ours against Hugging Face, Inductor and llama.cpp.

    python -m benchmarks.model_bench --model ds-mini --dtype bf16 --threads 1

Checks the logits first, then times pairs (ours, peer, ours, peer, ...) in one process on the same
weights, and reports medians with ranges. Compile time and memory are taken from processes of their
own. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor

from benchmarks import cold
from benchmarks.bandwidth import Bandwidth, last_level_cache
from benchmarks.llamacpp import LlamaCpp, huge_pages
from benchmarks.measure import Pairs, Range, huge_share, paired
from benchmarks.models import (
    DTYPES,
    MODELS,
    ExpertCounter,
    build,
    experts_total,
    prefill_flops,
    step_bytes,
)
from benchmarks.subjects import VARIANTS, Eager, Inductor, Ours, Tokens
from xcompile.check import FACTOR
from xcompile.targets.cpu import best_isa

FP32_BAR = 1e-4  # relative error of logits against Hugging Face
PEERS: dict[str, Any] = {x.name: x for x in (Eager, Inductor, LlamaCpp)}
STANDARD = (Eager.name, Inductor.name)  # llama.cpp is a build of its own: only when asked for


def errors(got: Tensor, want: Tensor) -> list[float]:
    """||got - want|| / ||want|| of every row, in double precision."""
    got, want = got.double(), want.double()
    return ((got - want).norm(dim=-1) / want.norm(dim=-1)).tolist()


def agreement(got: Tensor, want: Tensor) -> float:
    """Share of rows with the same largest logit."""
    return float((got.argmax(-1) == want.argmax(-1)).double().mean())


class ModelBench:
    """All cases of one model in one dtype."""

    def __init__(self, name: str, dtype: str, args: argparse.Namespace) -> None:
        self.name, self.dtype, self.args = name, dtype, args
        self.clock = args.clock or ("cpu" if args.threads == 1 else "wall")
        self.model = build(name, DTYPES[dtype], experts=args.experts, quick=args.quick)
        self.tokens = Tokens(self.model.config.vocab_size, args.context)
        self.ours = Ours(self.model, self.tokens, args.threads)
        self.peers = {peer: PEERS[peer](self.model, self.tokens) for peer in args.peers}
        self.cases = [f"decode:{b}" for b in args.batches]
        if args.prefill:
            self.cases.append(f"prefill:{args.context}")

    def huge_pages(self) -> float:
        """Share of our packed weights that is on 2 MB pages."""
        return huge_share(self.ours.exe.executor.weights.pointers[0])

    # -- correctness ----------------------------------------------------------------------
    def check(self) -> dict[str, Any]:
        """Logits of every case against Hugging Face; in bf16 both against fp32 as well.

        In bf16 a request that is routed to another expert by rounding differs as a whole, in either
        implementation; the bar is on the median request there, and on the worst one in fp32. It is
        that of `xcompile run --check`: few prompts say little. All decode steps share one.
        """
        mine = self._logits(self.ours)
        theirs = self._logits(Eager(self.model, self.tokens))
        other = self.peers.get(LlamaCpp.name)
        others = self._logits(other) if other else {}
        truth = theirs
        if self.dtype != "fp32":
            truth = self._logits(Eager(copy.deepcopy(self.model).float(), self.tokens))
        result: dict[str, Any] = {"ok": True}
        for case, got in mine.items():
            hf, exact = theirs[case], truth[case]
            compared = {"ours-hf": errors(got, hf)}
            if truth is theirs:
                ok = max(compared["ours-hf"]) <= FP32_BAR
            else:
                compared |= {"ours-fp32": errors(got, exact), "hf-fp32": errors(hf, exact)}
                prompts = len(got) if case.startswith("prefill") else 1
                bar = FACTOR * (1 + 2 / prompts**0.5) * median(compared["hf-fp32"])
                ok = median(compared["ours-fp32"]) <= bar
            if case in others:
                compared["llama.cpp-fp32"] = errors(others[case], exact)
            row: dict[str, Any] = {
                k: {"median": median(v), "worst": max(v)} for k, v in compared.items()
            }
            row["argmax"] = agreement(got, hf)
            shown = ", ".join(
                f"{k} {row[k]['median']:.1e} (worst {row[k]['worst']:.1e})" for k in compared
            )
            failed = "" if ok else "   FAILED"
            print(f"  {case:12} relL2 {shown}; same argmax {row['argmax']:.0%}{failed}", flush=True)
            result[case] = row
            result["ok"] &= ok
        return result

    def _logits(self, subject: Any) -> dict[str, Tensor]:
        """Of every case, for several prompts or several new tokens after one."""
        out = {}
        for case in self.cases:
            step = self._step(subject, case)
            out[case] = torch.cat([step() for _ in range(VARIANTS)])
        return out

    @staticmethod
    def _step(subject: Any, case: str) -> Any:
        kind, _, size = case.partition(":")
        return subject.decode(int(size)) if kind == "decode" else subject.prefill()

    # -- speed ----------------------------------------------------------------------------
    def time(self, case: str, bandwidth: Bandwidth) -> list[dict[str, Any]]:
        """One record per peer."""
        kind, _, size = case.partition(":")
        count = int(size)
        work: dict[str, Any] = {}
        if kind == "decode":
            with ExpertCounter(self.model) as counter:
                step = Eager(self.model, self.tokens)._dynamic(count)
                counter.hits.clear()  # those of the prompt
                for _ in range(4):
                    step()
            work["experts_hit"] = counter.mean
            work["experts"] = experts_total(self.model.config)
            work["bytes"] = step_bytes(self.model, count, self.args.context, counter.mean)
        else:
            work["flops"] = prefill_flops(self.model, count)
        mine = self._step(self.ours, case)
        records = []
        for name, peer in self.peers.items():
            if name == Inductor.name and kind == "decode" and count not in self.args.inductor:
                continue
            before = bandwidth.read()
            pairs = paired(mine, self._step(peer, case), self.args.pairs, self.args.seconds)
            after = bandwidth.read()
            record = self._record(case, name, count, pairs, work)
            record["note"] = peer.note
            record["bandwidth"] = {c: (before[c] + after[c]) / 2 for c in before}
            records.append(record)
            print(describe(record), flush=True)
        return records

    def _record(
        self, case: str, peer: str, tokens: int, pairs: Pairs, work: dict[str, Any]
    ) -> dict[str, Any]:
        def clocks(spent: dict[str, list[float]]) -> dict[str, Any]:
            return {
                c: asdict(Range.of(v).map(lambda seconds: tokens / seconds))
                for c, v in spent.items()
            }

        return {
            "model": self.name, "dtype": self.dtype, "threads": self.args.threads, "case": case,
            "peer": peer, "clock": self.clock, "pairs": self.args.pairs, "tokens": tokens,
            "ours": clocks(pairs.ours), "theirs": clocks(pairs.peer),
            "ratio": {c: asdict(pairs.ratio(c)) for c in pairs.ours}, **work,
        }  # fmt: skip

    # -- compile time and memory ----------------------------------------------------------
    def cold(self) -> list[dict[str, Any]]:
        """Compile time and memory of every subject, each in a new process."""
        a = self.args
        options = [f"--model={self.name}", f"--dtype={self.dtype}", f"--threads={a.threads}",
                   f"--context={a.context}", f"--experts={a.experts}"]  # fmt: skip
        options += ["--quick"] if a.quick else []
        records = []
        for subject in (Ours.name, *self.peers):
            record = cold.run(subject, options)
            record |= {"model": self.name, "dtype": self.dtype, "threads": a.threads}
            records.append(record)
            print(describe_cold(record, records[0]), flush=True)
        return records


def describe(r: dict[str, Any]) -> str:
    """A record of `ModelBench.time` as two lines."""
    clock = r["clock"]
    other = "wall" if clock == "cpu" else "cpu"
    ours, theirs, ratio = (Range(**r[key][clock]) for key in ("ours", "theirs", "ratio"))
    note = f" ({r['note']})" if r["note"] else ""
    line = (
        f"  {r['case']:12} tokens/s: xcompile {ours.text()}, {r['peer']}{note} {theirs.text()}; "
        f"ratio {ratio.text(2)} ({other}: {Range(**r['ratio'][other]).text(2)})"
    )
    speed = r["bandwidth"][clock]
    if "bytes" not in r:
        rate = r["flops"] * ours.median / r["tokens"] / 1e9
        return f"{line}\n{'':15}{rate:.0f} GFLOP/s; read bandwidth {speed / 1e9:.1f} GB/s"
    steps = ours.median / r["tokens"]
    return (
        f"{line}\n{'':15}{r['bytes'] / 1e9:.3f} GB per step ({r['experts_hit']:.1f} of "
        f"{r['experts']} experts), {r['bytes'] * steps / 1e9:.1f} of {speed / 1e9:.1f} GB/s: "
        f"{r['bytes'] * steps / speed:.0%} of the bandwidth roofline"
    )


def describe_cold(r: dict[str, Any], ours: dict[str, Any]) -> str:
    """A record of `ModelBench.cold` as one line."""
    share = ours["decode"]["cpu"] / r["decode"]["cpu"]
    note = f", ours takes {share:.2f} of that" if r is not ours else ""
    if r["stages"]:
        note += " (" + ", ".join(f"{k} {v:.1f}" for k, v in r["stages"].items()) + " s wall)"
    return (
        f"  {r['subject']:10} first decode {r['decode']['wall']:.1f} s wall, "
        f"{r['decode']['cpu']:.1f} s CPU; first prefill after that {r['prefill']['wall']:.1f} s, "
        f"{r['prefill']['cpu']:.1f} s{note}; memory: {r['loaded_bytes'] / 1e9:.2f} GB with the "
        f"model, peak {r['peak_bytes'] / 1e9:.2f}, after {r['resident_bytes'] / 1e9:.2f}"
    )


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """What the numbers depend on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else "unknown",
        "cpus": os.cpu_count(),
        "isa": best_isa(),
        "last_level_cache": last_level_cache(),
        "threads": args.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "context": args.context,
        "experts": args.experts,
    }


def plot(speeds: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of tokens/s with their ranges: a panel per model and dtype, a group per case."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install 'xcompile[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in speeds:
        panels.setdefault((r["model"], r["dtype"]), []).append(r)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5 * len(panels), 4), squeeze=False, layout="constrained"
    )
    subjects = [Ours.name, *dict.fromkeys(r["peer"] for r in speeds)]
    for axis, ((model, dtype), records) in zip(axes[0], panels.items(), strict=True):
        cases = list(dict.fromkeys(r["case"] for r in records))
        bars = {(r["case"], r["peer"]): r["theirs"][r["clock"]] for r in records}
        bars |= {(r["case"], Ours.name): r["ours"][r["clock"]] for r in records}
        width = 0.8 / len(subjects)
        for k, subject in enumerate(subjects):
            shown = [(i, bars[c, subject]) for i, c in enumerate(cases) if (c, subject) in bars]
            at = [i + (k - (len(subjects) - 1) / 2) * width for i, _ in shown]
            middle = [b["median"] for _, b in shown]
            spread = [
                [b["median"] - b["low"] for _, b in shown],
                [b["high"] - b["median"] for _, b in shown],
            ]
            axis.bar(at, middle, width, yerr=spread, capsize=2, label=subject)
        axis.set_xticks(range(len(cases)), cases)
        axis.set_yscale("log")
        axis.set_title(f"{model} {dtype}, {records[0]['threads']} thread(s)")
        axis.set_ylabel(f"tokens/s ({records[0]['clock']} time)")
    axes[0][0].legend()
    figure.savefig(path, dpi=150)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(x) for x in text.split(",") if x]

    def among(known: Sequence[str]) -> Any:
        def names(text: str) -> list[str]:
            chosen = list(known) if text == "all" else text.split(",")
            wrong = [x for x in chosen if x not in known]
            if wrong:
                raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(known)}")
            return chosen

        return names

    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", type=among(MODELS), help="names, or all (the default)")
    p.add_argument("--dtype", type=among(list(DTYPES)), default=["bf16"], help="bf16,fp32 or all")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--batches", type=numbers, default=[1, 4, 16], help="of decode: 1,4,16")
    p.add_argument("--context", type=int, default=512, help="cached tokens, and prompt length")
    p.add_argument("--no-prefill", dest="prefill", action="store_false")
    p.add_argument(
        "--peers",
        type=among(list(PEERS)),
        help="eager, inductor, llama.cpp or all (default: eager,inductor)",
    )
    p.add_argument("--no-inductor", action="store_true", help="it compiles for minutes")
    p.add_argument(
        "--inductor", type=numbers, metavar="BATCHES", help="its decode batches (default: all)"
    )
    p.add_argument("--experts", default="grouped_mm", help="the peers' experts implementation")
    p.add_argument("--pairs", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.3, help="least time of a turn")
    p.add_argument(
        "--clock", choices=["cpu", "wall"], help="default: cpu with one thread, else wall"
    )
    p.add_argument(
        "--cold", action=argparse.BooleanOptionalAction, help="measure compile time and memory"
    )
    p.add_argument("--json", type=Path, help="write all records")
    p.add_argument("--plot", type=Path, help="write a chart (needs matplotlib)")
    p.add_argument(
        "--quick",
        action="store_true",
        help="a test of this script: a tiny ds-mini against eager, unless told otherwise",
    )
    args = p.parse_args(argv)
    if args.quick:
        args.pairs, args.seconds, args.context = min(args.pairs, 3), 0.02, 64
        args.batches = [b for b in args.batches if b <= 4] or [1]
    args.model = args.model or list(MODELS[:1] if args.quick else MODELS)
    args.peers = args.peers or ([Eager.name] if args.quick else list(STANDARD))
    args.cold = not args.quick if args.cold is None else args.cold
    if args.no_inductor:
        args.peers = [x for x in args.peers if x != Inductor.name]
    args.inductor = args.batches if args.inductor is None else args.inductor
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when logits differ."""
    args = parse(argv)
    if LlamaCpp.name in args.peers:
        huge_pages()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    about = machine(args)
    print(", ".join(f"{k} {v}" for k, v in about.items()), flush=True)
    result: dict[str, Any] = {"machine": about, "checks": [], "cold": [], "speed": []}
    bandwidth = Bandwidth(args.threads, (64 << 20) if args.quick else None)
    ok = True
    with tempfile.TemporaryDirectory() as tmp:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tmp)
        for name in args.model:
            for dtype in args.dtype:
                print(f"\n{name} {dtype}, {args.threads} thread(s)", flush=True)
                bench = ModelBench(name, dtype, args)
                print(f"  weights on 2 MB pages: {bench.huge_pages():.0%}")
                check = bench.check()
                ok &= check["ok"]
                check |= {"model": name, "dtype": dtype, "huge_pages": bench.huge_pages()}
                result["checks"].append(check)
                for case in bench.cases:
                    result["speed"] += bench.time(case, bandwidth)
                if args.cold:
                    result["cold"] += bench.cold()
                if args.json:
                    args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        plot(result["speed"], args.plot)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
