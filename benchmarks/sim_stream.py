"""Matrix products as streams of instructions, where the arithmetic would take hours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Matmul:
    """C = A B in half on a grid of cube cores, two buffers in L1 and in L0."""

    m: int
    n: int
    k: int
    grid: tuple[int, int]  # cores along m and n
    base: tuple[int, int, int]
    steps: tuple[int, int] = (1, 1)  # blocks of K that one transfer of A, of B brings to L1
    transposed: bool = False  # B is [n, k]
    out: int = 2  # bytes of an element of C


MATMULS = {
    "sample": Matmul(8192, 8192, 8192, (4, 6), (128, 256, 64), (8, 4), True),
    "few cores": Matmul(4096, 5120, 4096, (2, 2), (64, 64, 256), out=4),
    "small base": Matmul(4096, 5120, 4096, (4, 5), (64, 64, 256), out=4),
    "large base": Matmul(4096, 5120, 4096, (4, 5), (128, 256, 64), out=4),
    "large transfers": Matmul(4096, 5120, 4096, (4, 5), (128, 256, 64), (4, 4), out=4),
}


def matmul_stream(s: Matmul) -> Iterator[str]:
    """The instructions of one launch, for tests/sim/replay_driver.cpp."""
    base_m, base_n, base_k = s.base
    # Whole base blocks to each core, the last one of a row or column gets what is left.
    each_m = math.ceil(s.m / s.grid[0] / base_m) * base_m
    each_n = math.ceil(s.n / s.grid[1] / base_n) * base_n
    a, b, c = 0, s.m * s.k * 2, (s.m + s.n) * s.k * 2
    cube_steps = base_m * base_n * base_k // 4096
    cores = s.grid[0] * s.grid[1]
    yield f"launch matmul aic {cores}\n"
    token = 0
    for core in range(cores):
        yield f"core {core}\n"
        row0, column0 = core % s.grid[0] * each_m, core // s.grid[0] * each_n
        free: dict[str, list[int]] = {"a": [0, 0], "b": [0, 0], "l0": [0, 0]}
        turn = {"a": 0, "b": 0}
        step = 0
        for i in range(row0, min(row0 + each_m, s.m), base_m):
            for j in range(column0, min(column0 + each_n, s.n), base_n):
                for k in range(0, s.k, base_k):
                    for name, steps in zip("ab", s.steps, strict=True):
                        if k // base_k % steps:
                            continue
                        half = turn[name] % 2
                        if free[name][half]:
                            yield f"wait MTE2 {free[name][half]}\n"
                        deep = steps * base_k
                        if name == "a" or s.transposed:
                            rows, width, pitch = base_m if name == "a" else base_n, deep, s.k
                            at = (a, i) if name == "a" else (b, j)
                            gm = at[0] + (at[1] * pitch + k) * 2
                        else:
                            rows, width, pitch = deep, base_n, s.n
                            gm = b + (k * pitch + j) * 2
                        yield f"x MTE2 mte_gm_l1_nd2nz src=GM dst=L1 bytes={rows * width * 2} "
                        span = ((rows - 1) * pitch + width) * 2
                        yield f"bursts={rows} gm={gm} span={span}\n"
                        token += 1
                        yield f"set MTE2 {token}\nwait MTE1 {token}\n"
                    half = step % 2
                    if free["l0"][half]:
                        yield f"wait MTE1 {free['l0'][half]}\n"
                    yield f"x MTE1 mte_l1_l0a src=L1 dst=L0A bytes={base_m * base_k * 2}\n"
                    yield f"x MTE1 mte_l1_l0b src=L1 dst=L0B bytes={base_n * base_k * 2}\n"
                    for name, steps in zip("ab", s.steps, strict=True):
                        if (k // base_k + 1) % steps == 0:
                            token += 1
                            free[name][turn[name] % 2] = token
                            turn[name] += 1
                            yield f"set MTE1 {token}\n"
                    token += 1
                    yield f"set MTE1 {token}\nwait M {token}\n"
                    yield f"x M mad repeats={cube_steps} dtype=half\n"
                    token += 1
                    free["l0"][half] = token
                    yield f"set M {token}\n"
                    step += 1
                token += 1
                yield f"set M {token}\nwait FIX {token}\n"
                yield f"x FIX fix_l0c_gm src=L0C dst=GM bytes={base_m * base_n * s.out} "
                span = ((base_m - 1) * s.n + base_n) * s.out
                yield f"bursts={base_m} gm={c + (i * s.n + j) * s.out} span={span}\n"
    yield "run\n"
