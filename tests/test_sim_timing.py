"""The simulator's cycle model: replays of written event streams, against published figures."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from xcompile.sim import library

ROOT = Path(__file__).parent.parent
KB = 1024


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "driver"
    lib = library.library()
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", f"-I{library.INCLUDE}"]
    command += [f"-I{library.SOURCES}", str(ROOT / "tests" / "sim" / "replay_driver.cpp")]
    command += [str(lib), f"-Wl,-rpath,{lib.parent}", "-o", str(out)]
    subprocess.run(command, check=True)
    return out


def replay(driver: Path, text: str, **env: str) -> list[dict[str, Any]]:
    """The reports of the launches in `text` (see replay_driver.cpp)."""
    environment = {**os.environ, "XC_SIM_CHIP": "ascend910b1", **env}
    r = subprocess.run(
        [driver], input=text, capture_output=True, text=True, env=environment, check=False
    )
    assert r.returncode == 0 and not r.stderr, r.stderr
    launches: list[dict[str, Any]] = json.loads(r.stdout)["launches"]
    return launches


def cycles(driver: Path, body: str, kind: str = "aiv", blocks: int = 1) -> float:
    return float(replay(driver, f"launch k {kind} {blocks}\n{body}\nrun\n")[0]["cycles"])


def read(address: int, size: int, extra: str = "") -> str:
    return f"x MTE2 mte_gm_ub src=GM dst=UB gm={address} span={size} bytes={size} bursts=1 {extra}"


def write(address: int, size: int, extra: str = "") -> str:
    return f"x MTE3 mte_ub_gm src=UB dst=GM gm={address} span={size} bytes={size} bursts=1 {extra}"


# Published: pto-isa's table for a2a3, head + slope x repeat + tail; one instruction alone.
TABLE = {"vadds": (13, 1, 18), "vmuls": (11, 1, 15), "vdiv": (11, 4, 19), "vexp": (13, 2, 18)}
TABLE |= {"vcadd": (14, 7, 32), "vcgadd": (14, 1, 24), "vreducev2": (14, 14, 20)}
TABLE |= {"vbitsort": (20, 16, 0), "vln": (13, 2, 20), "vconv": (14, 1, 13)}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("repeats", [1, 64])
def test_vector_table(driver: Path, name: str, repeats: int) -> None:
    head, slope, tail = TABLE[name]
    got = cycles(driver, f"x V {name} repeats={repeats} dtype=float")
    assert got == pytest.approx(head + slope * repeats + tail, abs=3)  # and its dispatch


# Sample bank_conflict_ub of the vendor's devkit: ticks of 20 ns for 1000 Adds of 64 repeats.
BANKS = [
    (2390, "0x0", "0x10100", "0x20000"),
    (4167, "0x0", "0x4000", "0x10000"),
    (4167, "0x0", "0x10000", "0x14100"),
    (2389, "0x0", "0x10100", "0x4000"),
    (3751, "0x0", "0x10100", "0x4020"),
    (2390, "0x0", "0x10100", "0x10100"),
    (3584, "0x0/0/1", "0x10100", "0x10100"),
    (2389, "0x0/0/8", "0x10100", "0x10100"),
]


@pytest.mark.parametrize("ticks,a,b,z", BANKS)
def test_bank_conflicts(driver: Path, ticks: int, a: str, b: str, z: str) -> None:
    add = f"x V vadd repeats=64 dtype=float dependent=1 vsrc0={a} vsrc1={b} vdst={z}"
    got = cycles(driver, f"times 1000\n{add}\nend")
    assert got * 50 / 1850 == pytest.approx(ticks, rel=0.12)


def test_independent_instructions_overlap(driver: Path) -> None:
    one, dependent = "x V vadd repeats=8", "x V vadd repeats=8 dependent=1"
    assert cycles(driver, f"times 10\n{one}\nend") == pytest.approx(10 * 8 + 24, abs=3)
    assert cycles(driver, f"times 10\n{dependent}\nend") == pytest.approx(10 * 32, abs=3)


def test_mad(driver: Path) -> None:
    """128 x 64 x 256 in half: 512 steps and 6 cycles; float takes twice the steps."""
    assert cycles(driver, "x M mad repeats=512 dtype=half", "aic") == pytest.approx(518, abs=3)
    assert cycles(driver, "x M mad repeats=512 dtype=float", "aic") == pytest.approx(1030, abs=3)


def test_flags_order_pipes(driver: Path) -> None:
    body = "x V vadd cycles=100\nset V 1\nwait MTE3 1\nx MTE3 copy cycles=50"
    assert cycles(driver, body) == pytest.approx(150, abs=8)
    assert cycles(driver, "x V vadd cycles=100\nx MTE3 copy cycles=50") == pytest.approx(100, abs=8)


def test_scalar_wait_stops_dispatch(driver: Path) -> None:
    body = "x V vadd cycles=100\nset V 1\nwait S 1\nx MTE3 copy cycles=50"
    assert cycles(driver, body) == pytest.approx(150, abs=8)


def test_barrier_all(driver: Path) -> None:
    body = "x V vadd cycles=100\nx MTE3 copy cycles=70\nbarrier all\nx V vadd cycles=10"
    assert cycles(driver, body) == pytest.approx(110, abs=8)


def test_full_queue_stops_dispatch(driver: Path) -> None:
    """The 33rd waiting instruction of a pipe holds up what other pipes get after it."""
    few = "times 10\nx V vadd cycles=100\nend\nx MTE3 copy cycles=3000"
    many = "times 60\nx V vadd cycles=100\nend\nx MTE3 copy cycles=3000"
    assert cycles(driver, few) == pytest.approx(3020, abs=20)
    assert cycles(driver, many) == pytest.approx(6000, abs=400)


def test_cross_core_flag(driver: Path) -> None:
    body = "core 0\nx M mad cycles=1000\nset M 7\ncore 1\nwait V 7\nx V vadd cycles=100"
    assert cycles(driver, body, "mix11") == pytest.approx(1100 + 200, abs=10)


def test_waves(driver: Path) -> None:
    """48 vector cores: 49 blocks take two waves."""
    full = "\n".join(f"core {c}\nx V vadd cycles=100000" for c in range(48))
    assert cycles(driver, full, blocks=48) == pytest.approx(100000, rel=0.02)
    more = full + "\ncore 48\nx V vadd cycles=100000"
    assert cycles(driver, more, blocks=49) == pytest.approx(200000, rel=0.02)


def test_blocks_that_wait_for_later_ones(driver: Path) -> None:
    body = "\n".join(f"core {c}\nwait V 1\nx V vadd cycles=10" for c in range(48))
    body += "\ncore 48\nset V 1"
    r = replay(driver, f"launch k aiv 49\n{body}\nrun\n")
    assert "note" in r[0]


def test_l2_keeps_what_fits(driver: Path) -> None:
    n = 32 * KB
    again = replay(driver, f"launch k aiv 1\n{read(1 << 20, n)}\n{read(1 << 20, n)}\nrun\n")[0]
    assert again["bytes"]["HBM read"] == n and again["bytes"]["L2 hit"] == n
    hint = "hint=1"
    past = replay(
        driver, f"launch k aiv 1\n{read(1 << 20, n, hint)}\n{read(1 << 20, n, hint)}\nrun\n"
    )[0]
    assert past["bytes"]["HBM read"] == 2 * n


def test_l2_evicts_and_writes_back(driver: Path) -> None:
    mb = 1 << 20
    body = "\n".join(write(i * mb, mb) for i in range(400))
    r = replay(driver, f"launch k aiv 1\n{body}\nrun\n")[0]
    assert r["bytes"]["HBM write"] == pytest.approx((400 - 192) * mb, rel=0.02)


def test_l2_lives_on_between_launches(driver: Path) -> None:
    text = f"launch k aiv 1\n{read(0, 65536)}\nrun\n"
    warm = replay(driver, text + text)
    assert warm[1]["bytes"]["HBM read"] == 0 and warm[1]["cycles"] < warm[0]["cycles"]
    cold = replay(driver, text + "cold\n" + text)
    assert cold[1]["cycles"] == cold[0]["cycles"]


def test_cores_share_hbm(driver: Path) -> None:
    """One core reads at its own speed, 48 at that of HBM: 1.5 TB/s."""
    n = 256 * KB
    one = cycles(driver, "\n".join(read(i * n, n) for i in range(16)))
    assert 16 * n / one == pytest.approx(58.6, rel=0.05)
    many = "\n".join(
        f"core {c}\n" + "\n".join(read((c * 16 + i) * n, n) for i in range(16)) for c in range(48)
    )
    all_cores = cycles(driver, many, blocks=48)
    assert 48 * 16 * n / all_cores * 1.85e-3 == pytest.approx(1.5, rel=0.05)


def test_large_transfers_are_faster(driver: Path) -> None:
    """PERF: from 16 KB a transfer reaches nearly the full bandwidth."""

    def speed(size: int) -> float:
        pair = "{}\nset MTE2 {}\nwait S {}"
        lines = [pair.format(read(i * size, size), i + 1, i + 1) for i in range(8)]
        return 8 * size / cycles(driver, "\n".join(lines))

    assert speed(512) < speed(4096) < speed(16384) < speed(65536)
    assert speed(512) < 0.1 * speed(65536)


def test_deterministic_and_balanced_report(driver: Path) -> None:
    body = "\n".join(
        f"core {c}\n{read(c * 9000, 9000)}\nset MTE2 {c + 1}\nwait V {c + 1}\nx V vexp repeats=9"
        for c in range(48)
    )
    text = f"launch k aiv 48\n{body}\nrun\n"
    first, second = replay(driver, text), replay(driver, text)
    assert first == second
    k = first[0]["kinds"]["AIV"]
    assert k["cores"] == 48 and k["instructions"]["V"] == 48
    assert 0 < k["busy"]["MTE2"] < 1 and k["waits"]["V"]["MTE2"] > 0
    assert first[0]["bytes"]["GM->UB"] == 48 * 9000


def test_unknown_mnemonic_is_listed(driver: Path) -> None:
    r = subprocess.run(
        [driver],
        input="launch k aiv 1\nx V vmystery repeats=3\nrun\n",
        capture_output=True,
        check=False,
        text=True,
    )
    assert json.loads(r.stdout)["unknown"] == ["vmystery"]


def test_trace_file(driver: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    body = f"{read(0, 4096)}\nset MTE2 1\nwait V 1\nx V vexp repeats=9"
    replay(driver, f"launch k aiv 1\n{body}\nrun\n" * 2, XC_SIM_TRACE=str(out))
    events = json.loads(out.read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    assert sum(e["name"] == "vexp" for e in slices) == 2
    copy = next(e for e in slices if e["name"] == "mte_gm_ub")
    wait = next(e for e in slices if e.get("cat") == "wait")
    assert copy["args"]["bytes"] == 4096 and wait["ts"] >= 0
    starts = [e["ts"] for e in slices if e["name"] == "k"]
    assert len(starts) == 2 and starts[1] > starts[0]
    assert not list(tmp_path.glob("*.tmp"))


def test_report_file(driver: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    replay(driver, "launch k aiv 1\nx V vexp repeats=9\nrun\n", XC_SIM_REPORT=str(out))
    assert json.loads(out.read_text())["launches"][0]["name"] == "k"
    r = subprocess.run(
        [driver],
        input="launch k aiv 1\nx V vexp repeats=9\nrun\n",
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "XC_SIM_REPORT": "1"},
    )
    assert "AIV busy" in r.stderr


def test_a_million_events(driver: Path) -> None:
    add = "x V vadd repeats=4 vsrc0=0 vsrc1=0x8000 vdst=0x10000\nset V 5\nwait MTE3 5"
    body = (
        f"times 80000\n{read(4096, 16384)}\n{add}\n{write(1 << 24, 16384)}\nx V vexp repeats=3\nend"
    )
    begin = time.perf_counter()
    r = replay(driver, f"launch k aiv 1\n{body}\nrun\n")
    assert r[0]["kinds"]["AIV"]["instructions"]["V"] == 160000
    assert time.perf_counter() - begin < 20  # most of it is reading the text
