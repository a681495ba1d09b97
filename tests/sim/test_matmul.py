"""The Matmul object and its tiling against numpy: types, formats, batches, mixed kernels."""

from __future__ import annotations

import ctypes
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xcompile import sim

SOURCE = Path(__file__).parent / "kernels" / "matmul.asc"
NAMES = """
usedCoreNum M N Ka Kb singleCoreM singleCoreN singleCoreK baseM baseN baseK depthA1 depthB1 stepM
stepN isBias transLength iterateOrder shareMode shareL1Size shareL0CSize shareUbSize batchM batchN
singleBatchM singleBatchN stepKa stepKb depthAL1CacheUB depthBL1CacheUB dbL0A dbL0B dbL0C
ALayoutInfoB ALayoutInfoS ALayoutInfoN ALayoutInfoG ALayoutInfoD BLayoutInfoB BLayoutInfoS
BLayoutInfoN BLayoutInfoG BLayoutInfoD CLayoutInfoB CLayoutInfoS1 CLayoutInfoN CLayoutInfoG
CLayoutInfoS2 BatchNum mxTypePara
"""
FIELDS = NAMES.split()
F16 = np.float16
# C name -> numpy, matmul_tiling::DataType
TYPES = {
    "half": (np.float16, 1),
    "float": (np.float32, 0),
    "bfloat16_t": (np.uint16, 27),
    "int8_t": (np.int8, 2),
    "int4b_t": (np.int8, 29),
    "int32_t": (np.int32, 3),
}
PRODUCTS = [
    (t, c, b, ta, tb)
    for t, c, b in [
        ("half", "float", "float"),
        ("half", "half", "half"),
        ("bfloat16_t", "float", "float"),
        ("bfloat16_t", "bfloat16_t", "float"),
        ("float", "float", "float"),
        ("int8_t", "int32_t", "int32_t"),
        ("int4b_t", "int32_t", "int32_t"),
    ]
    for ta in (0, 1)
    for tb in (0, 1)
    if t in ("half", "float", "int8_t") or ta == 0
]


def whole(t: str, c: str, b: str, ta: int, tb: int, *more: str) -> str:
    return f"whole<{', '.join([t, c, b, str(bool(ta)).lower(), str(bool(tb)).lower(), *more])}>"


QUANT = [("int8_t", "half"), ("int8_t", "int8_t"), ("half", "int8_t")]
NAMED = [
    *(whole(*p) for p in PRODUCTS),
    *(whole(t, c, "int32_t" if t == "int8_t" else "float", 0, 0) for t, c in QUANT),
    whole("half", "float", "float", 0, 0, "CFG_MDL"),
    whole("half", "float", "float", 0, 0, "CFG_NORM", "CubeFormat::NZ"),
    whole("half", "float", "float", 0, 0, "kSplit", "CubeFormat::NZ"),
]


def kernel(name: str, **options: Any) -> sim.Kernel:
    return sim.load(SOURCE, name, instantiate=NAMED, **options)


@cache
def host() -> ctypes.CDLL:
    kernel("upper")  # the library of the simulator is there
    return ctypes.CDLL(str(sim.build(SOURCE, instantiate=NAMED)))


def ints(*v: int) -> Any:
    return (ctypes.c_int32 * len(v))(*v)


def tiling(
    m: int,
    n: int,
    k: int,
    dtype: str = "half",
    out: str = "float",
    bias: str = "",
    trans: tuple[int, int] = (0, 0),
    dim: int = 1,
    fix: tuple[int, int] = (0, 0),
    single: tuple[int, int, int] = (0, 0, 0),
    split_k: bool = False,
    schedule: int = 0,
    org_k: tuple[int, int] | None = None,
    ok: bool = True,
) -> dict[str, int]:
    result, parts = ints(*[0] * 50), ints(0, 0, 0)
    code = host().make_tiling(
        ints(m, n, k, *(org_k or (k, k))),
        ints(TYPES[dtype][1], TYPES[out][1], TYPES[bias or "float"][1]),
        ints(*trans, bool(bias), split_k),
        ints(*fix),
        ints(*single),
        dim,
        schedule,
        result,
        parts,
    )
    assert (code == 0) == ok
    t = dict(zip(FIELDS, result, strict=True))
    if ok:
        assert t["usedCoreNum"] == parts[0] <= dim
    return t


def packed(t: dict[str, int], **changes: int) -> np.ndarray:
    return np.array([(t | changes)[f] for f in FIELDS], np.int32)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def bf16(x: np.ndarray) -> np.ndarray:
    u = x.astype(np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def unbf16(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.uint32) << 16).view(np.float32)


def store(dtype: str, x: np.ndarray) -> np.ndarray:
    if dtype == "bfloat16_t":
        return bf16(x)
    if dtype == "int4b_t":
        v = (x.astype(np.int64) & 15).astype(np.uint8).reshape(-1, 2)
        return v[:, 0] | v[:, 1] << 4
    return x.astype(TYPES[dtype][0])


def values(dtype: str, shape: tuple[int, ...], *seed: int) -> np.ndarray:
    """Small whole numbers, exact in every type and every order of addition."""
    return rng(*seed).integers(-7, 8, shape).astype(np.float64)


SHAPES = [
    (128, 128, 128, 1),
    (33, 50, 70, 1),
    (200, 330, 96, 3),
    (16, 700, 48, 5),
    (300, 40, 520, 4),
]


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda p: "-".join(map(str, p)))
def test_products(product: tuple[str, str, str, int, int]):
    t, c, b, ta, tb = product
    run = kernel(whole(*product))
    for i, (m, n, k, dim) in enumerate(SHAPES):
        if t == "int4b_t":
            m, n, k = m + m % 2, n + n % 2, k + k % 2
        x, y, z = values(t, (m, k), i, 0), values(t, (k, n), i, 1), values(b, (n,), i, 2)
        bias = b if i % 2 else ""
        how = tiling(m, n, k, t, c, bias, (ta, tb), dim)
        if t == "int4b_t" and (how["singleCoreN"] % 2 or how["singleCoreK"] % 2):
            continue
        want = x @ y + (z if bias else 0)
        got = np.zeros((m, n), TYPES[c][0])
        blocks = how["usedCoreNum"]
        a = store(t, np.ascontiguousarray(x.T if ta else x))
        w = store(t, np.ascontiguousarray(y.T if tb else y))
        run(a, w, store(b, z), sim.Out(got), None, packed(how), 0, 0, 0, blocks=blocks)
        if c == "bfloat16_t":
            assert (got == bf16(want)).all()
        else:
            assert (got == want.astype(got.dtype)).all()


def test_float_order_and_hf32():
    m, n, k = 40, 72, 200
    x, y = rng(1).standard_normal((m, k), np.float32), rng(2).standard_normal((k, n), np.float32)
    run, how = kernel(whole("float", "float", "float", 0, 0)), packed(tiling(m, n, k, "float"))
    got = np.empty((m, n), np.float32)
    run(x, y, None, sim.Out(got), None, how, 0, 0, 0)
    want = np.zeros((m, n), np.float32)
    for i in range(k):
        want += x[:, i : i + 1] * y[i]
    assert (got == want).all()  # each addition in float, in the order of k

    def cut(v: np.ndarray) -> np.ndarray:
        u = v.view(np.uint32)
        return ((u + 0x7FF + ((u >> 12) & 1)) & 0xFFFFF000).astype(np.uint32).view(np.float32)

    run(x, y, None, sim.Out(got), None, how, 0, 0, 1)
    want = cut(x).astype(np.float64) @ cut(y).astype(np.float64)
    assert np.allclose(got, want, rtol=1e-5, atol=1e-4)
    assert not np.allclose(got, x.astype(np.float64) @ y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("types", QUANT, ids="-".join)
def test_quantised_results(types: tuple[str, str]):
    t, c = types
    m, n, k = 48, 80, 96
    b = "int32_t" if t == "int8_t" else "float"
    x, y, z = values(t, (m, k), 3), values(t, (k, n), 4), values(b, (n,), 5)
    how = tiling(m, n, k, t, c, b)
    run = kernel(whole(t, c, b, 0, 0))
    exact = x @ y + z
    scales = rng(6).uniform(0.01, 0.2, n).astype(np.float32)
    bits = (scales.view(np.uint32) & 0xFFFFE000).astype(np.uint64)
    offsets = np.zeros(n, np.int64) if c == "half" else rng(7).integers(-20, 20, n)
    vector = bits | 1 << 46 | (offsets & 0x1FF).astype(np.uint64) << 37

    def want(bits: np.ndarray, offset: Any) -> np.ndarray:
        v = exact.astype(np.float32) * bits.astype(np.uint32).view(np.float32)
        return v.astype(F16) if c == "half" else np.clip(np.rint(v) + offset, -128, 127)

    got = np.empty((m, n), TYPES[c][0])
    args = store(t, x), store(t, y), store(b, z)
    run(*args, sim.Out(got), vector, packed(how), 0, 0, 2)
    assert (got == want(bits, offsets)).all()
    run(*args, sim.Out(got), None, packed(how), 0, int(vector[3]), 0)
    assert (got == want(bits[3:4], offsets[3])).all()
    found = kernel(whole(t, c, b, 0, 0), check=False)(*args, got, None, packed(how), 0, 0, 0).errors
    assert "SetQuantScalar" in found[0].text


def test_atomic_add_over_split_k():
    m, n, k = 128, 256, 640
    x, y = values("half", (m, k), 8), values("half", (k, n), 9)
    how = tiling(m, n, k, dim=5, single=(128, 256, 128), split_k=True)
    got = np.ones((m, n), np.float32)
    for seed in range(3):
        run = kernel(whole("half", "float", "float", 0, 0), seed=seed)
        run(x.astype(F16), y.astype(F16), None, got, None, packed(how), 1, 0, 0, blocks=5)
    assert (got == 1 + 3 * (x @ y)).all()


@pytest.mark.parametrize("width", [16, 8])
def test_fractal_result(width: int):
    m, n, k = 64, 160, 48
    x, y = values("half", (m, k), 10), values("half", (k, n), 11)
    name = whole(
        "half", "float", "float", 0, 0, "CFG_NORM" if width == 16 else "kSplit", "CubeFormat::NZ"
    )
    got = np.empty((n // width, m, width), np.float32)
    kernel(name)(
        x.astype(F16), y.astype(F16), None, sim.Out(got), None, packed(tiling(m, n, k)), 0, 0, 0
    )
    assert (got.transpose(1, 0, 2).reshape(m, n) == x @ y).all()


def nz(x: np.ndarray) -> np.ndarray:
    r, c = x.shape
    return np.ascontiguousarray(x.reshape(r, c // 16, 16).transpose(1, 0, 2))


@pytest.mark.parametrize("order", [0, 1])
def test_tiles_of_fractal_inputs(order: int):
    m, n, k = 96, 160, 64
    x, y = values("half", (m, k), 12), values("half", (k, n), 13)
    how = tiling(m, n, k, trans=(0, 1), fix=(32, 48))
    for step in (1, 2):
        got = np.empty((m, n), np.float32)
        kernel("nz_tiles")(
            nz(x.astype(F16)), nz(y.T.astype(F16)), sim.Out(got),
            packed(how, iterateOrder=order, stepM=step, stepN=step),
        )  # fmt: skip
        assert (got == x @ y).all()


def test_scalar_matrix_and_sum_over_calls():
    m, n, k = 64, 112, 128
    x, y = values("half", (m, k), 14), values("half", (k, n), 15)
    how = packed(tiling(m, n, k, fix=(64, 112)))
    sums, c = np.empty(n, np.float32), np.empty((m, n), np.float32)
    kernel("scalar_and_partial")(x.astype(F16), y.astype(F16), sim.Out(sums), sim.Out(c), how)
    assert (sums == y.sum(0)).all() and (c == x @ y).all()


def test_upper_triangle():
    m = n = 128
    x, y = values("half", (m, 64), 16), values("half", (64, n), 17)
    got = np.full((m, n), 5, np.float32)
    kernel("upper")(x.astype(F16), y.astype(F16), got, packed(tiling(m, n, 64, fix=(32, 32))))
    block = np.arange(m) // 32
    assert (got == np.where(block[:, None] > block, 5, x @ y)).all()


def test_constant_tiling():
    x, y = values("half", (64, 128), 18), values("half", (128, 96), 19)
    got = np.empty((64, 96), np.float32)
    kernel("constant")(x.astype(F16), y.astype(F16), sim.Out(got))
    assert (got == x @ y).all()


def mixed(mode: int, **options: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    m, n, k = 256, 256, 96
    x, y = values("half", (m, k), 20), values("half", (k, n), 21)
    how = tiling(m, n, k, dim=4, fix=(64, 64), single=(128, 128, k))
    got, work = np.empty((m, n), np.float32), np.zeros((m, n), np.float32)
    run = kernel("mixed", **options)
    r = run(x.astype(F16), y.astype(F16), sim.Out(got), work, packed(how), mode, blocks=2)
    return got, x @ y + 1, r


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_vector_core_uses_the_tiles(mode: int):
    for seed in range(3):
        got, want, _ = mixed(mode, seed=seed)
        assert (got == want).all()


def test_result_that_nobody_waited_for():
    _, _, r = mixed(3, check=False)
    assert r.errors[0].rule == "race"


def test_inputs_in_ub_and_l1():
    m, n, k = 64, 96, 48
    x, y = values("half", (m, k), 22), values("half", (k, n), 23)
    how = packed(tiling(m, n, k, dim=2, single=(32, 96, k)))
    got = np.empty((m, n), np.float32)
    kernel("local_inputs")(x.astype(F16), nz(y.astype(F16)), sim.Out(got), how, blocks=1)
    assert (got == (x + 1) @ y).all()


@pytest.mark.parametrize("groups", [(2, 2), (1, 3)])
def test_batches_of_heads(groups: tuple[int, int]):
    (ga, gb), heads, s1, s2, d = groups, 2, 48, 80, 64
    x, y = values("half", (1, s1, heads, ga, d), 24), values("half", (1, s2, heads, gb, d), 25)
    g = max(groups)
    z = values("float", (heads * g, s2), 26)
    how = tiling(s1, s2, d, bias="float", trans=(0, 1))
    layouts = dict(
        zip(
            FIELDS[33:48],
            [1, s1, heads, ga, d, 1, s2, heads, gb, d, 1, s1, heads, g, s2],
            strict=True,
        ),
        BatchNum=heads * g,
    )
    got = np.empty((heads * g, s1, s2), np.float32)
    kernel("batches")(
        x.astype(F16), y.astype(F16), z.astype(np.float32), sim.Out(got),
        packed(how, **layouts), heads * ga, heads * gb,
    )  # fmt: skip
    xb, yb = np.broadcast_to(x, (1, s1, heads, g, d)), np.broadcast_to(y, (1, s2, heads, g, d))
    want = np.einsum("bsngd,btngd->ngst", xb, yb).reshape(got.shape) + z[:, None]
    assert (got == want).all()


def test_plain_batches():
    x, y = values("half", (6, 40, 64), 27), values("half", (3, 64, 72), 28)
    got = np.empty((6, 40, 72), np.float32)
    kernel("plain_batches")(
        x.astype(F16), y.astype(F16), sim.Out(got), packed(tiling(40, 72, 64)), 6, 3
    )
    assert (got == x @ y.repeat(2, 0)).all()


def test_shared_product_is_computed_once():
    x, y = values("half", (64, 64), 29), values("half", (64, 64), 30)
    got = np.zeros((64, 64), np.float32)
    kernel("shared")(x.astype(F16), y.astype(F16), got, packed(tiling(64, 64, 64)))
    assert (got == x @ y).all()


def test_refusals():
    x = np.zeros((64, 64), np.float16)
    c, how = np.zeros((64, 64), np.float32), packed(tiling(64, 64, 64))

    def texts(name: str) -> list[str]:
        return [e.text for e in kernel(name, check=False)(x, x, c, how).errors]

    found = texts("too_large")
    assert any("L0C" in t for t in found) and any("L1" in t for t in found)
    assert any("ISTRANS" in t for t in texts("not_transposed"))
    assert any("ASCENDC_CUBE_ONLY" in t for t in texts("served_by_nobody"))


def test_tilings_are_legal():
    random = rng(31)
    for _ in range(300):
        t = random.choice(["half", "float", "int8_t"])
        out = "int32_t" if t == "int8_t" else "float"
        size = np.dtype(TYPES[t][0]).itemsize
        m, n, k = (int(2 ** random.uniform(0, 12)) for _ in range(3))
        trans = int(random.integers(2)), int(random.integers(2))
        bias = "" if random.integers(2) else out
        dim = int(random.integers(1, 25))
        h = tiling(m, n, k, t, out, bias, trans, dim)
        assert -(-m // h["singleCoreM"]) * -(-n // h["singleCoreN"]) == h["usedCoreNum"] <= dim
        assert h["singleCoreK"] == k and h["isBias"] == bool(bias)
        assert h["baseM"] % 16 == h["baseN"] % 16 == 0 == h["baseK"] % max(16, 32 // size)
        a, b = h["baseM"] * h["baseK"] * size, h["baseN"] * h["baseK"] * size
        assert a * h["dbL0A"] <= 65536 and b * h["dbL0B"] <= 65536
        assert h["baseM"] * h["baseN"] * 4 * h["dbL0C"] <= 131072
        assert h["depthA1"] * a + h["depthB1"] * b + bool(bias) * h["baseN"] * 4 <= 512 * 1024 - 256
        assert (
            h["depthA1"] % (h["stepM"] * h["stepKa"])
            == 0
            == h["depthB1"] % (h["stepN"] * h["stepKb"])
        )


def test_tilings_follow_what_was_asked():
    # Two cores split the rows of a square and the columns of a tall product, as blocks are wide.
    assert tiling(512, 512, 128, dim=2)["singleCoreM"] == 256
    assert tiling(512, 128, 128, dim=2, fix=(128, 64))["singleCoreN"] == 64
    # A single row of blocks is cut along N only.
    assert tiling(128, 7679, 128, dim=24)["singleCoreM"] == 128
    h = tiling(512, 1024, 2048, dim=4, fix=(64, 128))
    assert (h["baseM"], h["baseN"]) == (64, 128)
    h = tiling(256, 768, 512, dim=6, single=(128, 256, 512))
    assert (h["singleCoreM"], h["singleCoreN"], h["usedCoreNum"]) == (128, 256, 6)
    h = tiling(640, 1024, 192, dim=8, schedule=2)
    assert h["stepM"] <= 3 and h["stepKa"] == h["stepKb"] == -(-192 // h["baseK"]) <= 3
    tiling(12, 64, 64, fix=(48, 64), ok=False)
    tiling(512, 512, 64, fix=(512, 256), ok=False)


def test_speed():
    x, y = values("half", (1024, 1024), 32), values("half", (1024, 1024), 33)
    how = tiling(1024, 1024, 1024, dim=8)
    run, got = (
        kernel(whole("half", "float", "float", 0, 0, "CFG_MDL")),
        np.empty((1024, 1024), np.float32),
    )
    begin = time.time()
    r = run(
        x.astype(F16),
        y.astype(F16),
        None,
        sim.Out(got),
        None,
        packed(how),
        0,
        0,
        0,
        blocks=how["usedCoreNum"],
    )
    assert time.time() - begin < 20
    assert (got == x @ y).all()
    # 2^30 products at 4096 per cycle and core take at least 32768 cycles on 8 cores.
    assert 32768 <= r.cycles < 100000
