"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import xcompile
from xcompile import hostcc, inspect_graph
from xcompile.cli import app
from xcompile.cli_compile import dim_names, named_dims
from xcompile.errors import XCompileError
from xcompile.passes import PIPELINE
from xcompile.report import Step, number
from xcompile.text import parse, to_text

ROOT = Path(__file__).parent.parent
MLP = ROOT / "examples" / "mlp.py"


def cli(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args])


def refused(result: Result) -> str:
    """The message of a command that failed as it should: one error, exit code 2."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.startswith("error: "), result.stderr
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def mlp(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "mlp"
    result = cli(MLP, "-o", out, "--dynamic", "batch=1:64", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "3 launches" in result.stdout
    return out


def model(folder: Path, text: str) -> Path:
    path = folder / "model.py"
    path.write_text(text)
    return path


# -- help -------------------------------------------------------------------------------------
def test_version():
    assert cli("--version").stdout == f"xcompile {xcompile.__version__}\n"


@pytest.mark.parametrize("command", ["compile", "run", "inspect", "bench", "opt"])
def test_help_has_examples(command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert f"xcompile {command if command != 'compile' else 'mlp.py'} " in result.stdout
    assert command in cli("--help").stdout


def test_help_is_quick():
    """Torch is imported by the commands, not by the command line."""
    code = "import sys, xcompile.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- compile, run -----------------------------------------------------------------------------
def test_run_example_and_check(mlp):
    result = cli("run", mlp)
    assert result.exit_code == 0, result.output
    assert "float32 [4, 10]" in result.stdout
    result = cli("run", mlp, "--check")
    assert result.exit_code == 0, result.output
    assert "relative distance to eager" in result.stdout
    assert "passed" in result.stdout


def test_check_fails_with_exit_code_1(mlp, monkeypatch):
    monkeypatch.setattr("xcompile.check.FP32_BAR", -1.0)
    result = cli("run", mlp, "--check")
    assert result.exit_code == 1
    assert "failed: 1 of 1" in result.stdout


def test_run_on_files(mlp, tmp_path):
    x = np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", input=x)
    result = cli("run", mlp, "--inputs", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert result.exit_code == 0, result.output
    (y,) = np.load(tmp_path / "y.npz").values()
    want = xcompile.load(mlp)(torch.from_numpy(x))
    np.testing.assert_array_equal(y, want.numpy())


def test_run_refuses_bad_inputs(mlp, tmp_path):
    file = tmp_path / "x.npz"
    for arrays, words in (
        ({"input": np.zeros((65, 64), np.float32)}, "is 65, outside the compiled range 1..64"),
        ({"input": np.zeros((4, 63), np.float32)}, "has size 63"),
        ({"input": np.zeros((4, 64), np.int64)}, "int64"),
        ({"input": np.array(["a"])}, "dtype"),
        ({"other": np.zeros(3)}, "'input' is missing; inputs: input"),
        ({"input": np.zeros((4, 64)), "more": np.zeros(1)}, "'more' is no input"),
    ):
        np.savez(file, **arrays)
        assert words in refused(cli("run", mlp, "--inputs", file))
    np.savez(file, input=np.array([{}], dtype=object))  # never unpickled
    assert "is not a .npz" in refused(cli("run", mlp, "--inputs", file))
    file.write_text("no zip")
    assert "is not a .npz" in refused(cli("run", mlp, "--inputs", file))
    assert "is not a .npz" in refused(cli("run", mlp, "--inputs", tmp_path / "none.npz"))


def test_run_refuses_what_does_not_fit_together(mlp):
    assert "give one of" in refused(cli("run", mlp, "--check", "--tokens", "1"))
    assert "no language model" in refused(cli("run", mlp, "--tokens", "1,2"))
    assert "no language model" in refused(cli("run", mlp, "--prompt", "Hello"))
    assert "--requests is for" in refused(cli("bench", mlp, "--requests", 2))
    assert "no artifact" in refused(cli("run", mlp / "nothing"))


def test_run_damaged_artifact(mlp, tmp_path):
    out = Path(shutil.copytree(mlp, tmp_path / "out"))
    (out / "plan.txt").write_text("changed")
    assert "plan.txt" in refused(cli("run", out))
    assert "plan.txt" in refused(cli("inspect", out))


def test_bench(mlp):
    result = cli("bench", mlp, "--repeat", 5, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "5 runs, 1 threads, batch=4" in result.stdout
    assert " ms " in result.stdout and "B/s" in result.stdout


def test_emit(tmp_path):
    out = tmp_path / "out"
    result = cli("compile", MLP, "-o", out, "--emit", "ir")
    assert result.exit_code == 0, result.output
    assert to_text(parse(result.stdout)) == result.stdout
    assert result.stdout == (out / "graph.xir").read_text()
    result = cli(MLP, "-o", out, "--emit", "plan", "--emit", "sources", "--no-examples")
    assert "# 3 launches" in result.stdout
    assert "// ==== host.cpp" in result.stdout
    assert "no examples were recorded" in refused(cli("run", out))


def test_default_name_dict_inputs_and_functions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model(
        tmp_path,
        "import torch\ndef model(x, y): return {'z': x * y + 1}\n"
        "def inputs(): return {'x': torch.ones(3, 4), 'y': torch.ones(4)}\n"
        "dynamic_shapes = {'y': None, 'x': {0: torch.export.Dim('n', min=2, max=9)}}\n",
    )
    result = cli("model.py", "--dtype", "bf16")
    assert result.exit_code == 0, result.output
    exe = xcompile.load(tmp_path / "model")
    got = exe(x=torch.full((5, 4), 2.0).bfloat16(), y=torch.ones(4).bfloat16())
    assert torch.equal(got["z"], torch.full((5, 4), 3.0).bfloat16())
    assert exe.executor.program.symbols["n"].hi == 9
    assert cli("run", "model", "--check").exit_code == 0


# -- bad model files --------------------------------------------------------------------------
GOOD = "import torch\nmodel = torch.nn.Linear(4, 4)\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torch\nmodel = (\n", "model.py:2: '(' was never closed"),
        ("x = 1\n\nraise ValueError('boom')\n", "model.py:3: ValueError: boom\n    raise"),
        ("import nothing_like_this\n", "model.py:1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)\n", "model.py:2: SystemExit"),
        ("other = 1\n", "defines no `model` (a torch module or function); it defines: other"),
        ("", "it defines: nothing"),
        ("model = 3\n", "`model` is a int"),
        ("import torch\nmodel = torch.nn.ReLU\n", "`model` is the class ReLU"),
        (GOOD, "defines no `inputs`"),
        (GOOD + "inputs = 3\n", "`inputs` is a int"),
        (GOOD + "def inputs():\n    return 1 / 0\n", "model.py:4: ZeroDivisionError"),
        (GOOD + "inputs = (torch.ones(3, 5),)\n", "torch.export could not trace Linear"),
        (GOOD + "inputs = (torch.ones(3, 4),)\ndynamic_shapes = ({0: 'a b'},)\n", "'a b' cannot"),
        (GOOD + "model.half()\ninputs = (torch.ones(3, 4).half(),)\n", "linear of f16[3, 4]"),
    ],
)
def test_bad_model_files(tmp_path, text, words):
    out = tmp_path / "out"
    assert words in refused(cli(model(tmp_path, text), "-o", out))
    assert not out.exists()


def test_no_such_file(tmp_path):
    assert "no such file" in refused(cli(tmp_path / "none.py"))
    assert "is not a Python file" in refused(cli(model(tmp_path, GOOD).rename(tmp_path / "m.txt")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "gpu"], "unknown target 'gpu'"),
        (["--target", "cpu/sse9"], "unknown CPU level 'sse9'"),
        (["--dynamic", "batch"], "expected NAME=LO:HI"),
        (["--dynamic", "batch=9:3"], "expected NAME=LO:HI with LO <= HI"),
        (["--dynamic", "rows=1:3"], "no such dim; dims named in dynamic_shapes: batch"),
        (["--dynamic", "batch=6:9"], "torch.export could not trace"),
    ],
)
def test_bad_options(tmp_path, options, words):
    assert words in refused(cli(MLP, "-o", tmp_path / "out", *options))
    assert not list(tmp_path.iterdir())


def test_unsupported_dtype(tmp_path):
    result = cli(MLP, "-o", tmp_path / "out", "--dtype", "fp8")
    assert result.exit_code == 2
    assert "'fp8' is not one of 'fp32', 'bf16'" in result.stderr


def test_no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    hostcc.compiler.cache_clear()
    try:
        message = refused(cli(MLP, "-o", tmp_path / "out"))
    finally:
        hostcc.compiler.cache_clear()
    assert "no C++ compiler: 'no-such-compiler'" in message
    assert "apt-get install g++" in message
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be(tmp_path):
    """Refused before the model is even imported."""
    file = model(tmp_path, "raise SystemExit('imported')")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    assert "no folder" in refused(cli(file, "-o", tmp_path / "a" / "b"))
    assert "holds other files" in refused(cli(file, "-o", tmp_path / "notes"))
    assert "it is a file" in refused(cli(file, "-o", file))


def test_read_only_output():
    assert "cannot write /proc/" in refused(cli(MLP, "-o", "/proc/self/out"))


def test_strict_names_the_islands(tmp_path):
    text = "import torch\ndef model(x): return torch.special.i0(x)\ninputs = (torch.ones(4),)\n"
    message = refused(cli(model(tmp_path, text), "-o", tmp_path / "out", "--strict"))
    assert "refuses eager islands: aten::special_i0" in message
    assert not (tmp_path / "out").exists()


def test_interrupt(tmp_path):
    """Ctrl-C: exit code 130, one line, nothing written."""
    text = "import sys, time\nprint('ready', flush=True)\ntime.sleep(60)\n"
    # What a background job of a shell starts ignores the signal until it asks for it.
    start = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('xcompile.cli', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", start, model(tmp_path, text), "-o", tmp_path / "out"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as p:
        assert p.stdout is not None and p.stdout.readline() == b"ready\n"
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=30)
    assert p.returncode == 130
    assert err == b"error: interrupted\n"
    assert sorted(x.name for x in tmp_path.iterdir() if x.name != "__pycache__") == ["model.py"]


def test_closed_pipe(mlp):
    command = [sys.executable, "-m", "xcompile", "opt", mlp / "graph.xir"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as p:
        assert p.stdout is not None
        p.stdout.close()
        assert p.stderr is not None
        assert b"Traceback" not in p.stderr.read()


# -- dims -------------------------------------------------------------------------------------
def test_names_in_dynamic_shapes_become_dims():
    shapes, unused = named_dims({"x": {0: "n", 1: None}, "y": ("n", "m")}, {"n": (2, 5)})
    assert shapes["x"][0] is shapes["y"][0]
    assert (shapes["x"][0].min, shapes["x"][0].max) == (2, 5)
    assert shapes["y"][1].__name__ == "m"
    assert unused == []
    assert dim_names(shapes) == {"n", "m"}
    with pytest.raises(XCompileError, match="cannot be the name"):
        named_dims({"x": {0: "no name"}}, {})


# -- opt --------------------------------------------------------------------------------------
TEXT = """graph {
  symbol n in [1, 8] hint 4
  input %x: f32[n, 4]
  const %w: f32[4]
  %0: f32[n, 4] = mul(%x, %w)
  %1: f32[n, 4] = exp(%0)
  return %1
}
"""


def test_opt(tmp_path):
    file = tmp_path / "g.xir"
    file.write_text(TEXT)
    assert cli("opt", file).stdout == TEXT
    result = cli("opt", file, "-p", "all", "-o", tmp_path / "out.xir")
    assert result.exit_code == 0, result.output
    graph = parse((tmp_path / "out.xir").read_text())
    assert [n.op.name for n in graph.nodes] == ["group"]
    assert f"there is no pass 'nosuch'; passes: {PIPELINE[0]}, " in refused(
        cli("opt", file, "-p", "nosuch")
    )
    assert "cannot write" in refused(cli("opt", file, "-o", tmp_path / "g.xir" / "x"))
    file.write_text(TEXT.replace("exp", "expp"))
    assert "line 6: found 'expp', expected an op's name" in refused(cli("opt", file))
    file.write_bytes(b"\xff\xfe")
    assert "g.xir" in refused(cli("opt", file))
    assert "No such file" in refused(cli("opt", tmp_path / "none.xir"))


# -- inspect ----------------------------------------------------------------------------------
class Page(HTMLParser):
    """Collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and v]


def test_inspect(mlp, tmp_path):
    result = cli("inspect", mlp, "--html", tmp_path / "i.html", "--svg", tmp_path / "g.svg")
    assert result.exit_code == 0, result.output
    for words in ("linear", "symbols  batch 1..64", "islands  none", "input: f32[batch, 64]"):
        assert words in result.stdout
    page = Page()
    text = (tmp_path / "i.html").read_text()
    page.feed(text)
    assert page.links == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert 'class="buffer"' in text
    picture = ET.parse(tmp_path / "g.svg").getroot()
    nodes = [r for r in picture.iter() if r.get("class") == "node"]
    assert len(nodes) == 3
    assert "cannot write" in refused(cli("inspect", mlp, "--svg", "/proc/self/x.svg"))


def steps(layers: int) -> list[Step]:
    """An embedding, equal layers of three launches, a head."""
    out = [Step("embedding_00000000", "embedding", "embed", "0", "1", "f32[4]")]
    for k in range(layers):
        at = len(out) - 1
        for j, (name, after) in enumerate((("q", (at,)), ("k", (at,)), ("o", (at + 1, at + 2)))):
            place = f"model.layers.{k}.{name}<&>"
            out.append(Step(f"linear_0000000{j}", "linear", place, "1", "2", "f32[4]", after))
    out.append(Step("linear_11111111", "linear", "head", "1", "1", "f32[4]", (len(out) - 1,)))
    return out


def test_equal_layers_are_drawn_once():
    boxes = inspect_graph.boxes(steps(40))
    assert [len(b.steps) for b in boxes] == [1, 3, 1]
    assert boxes[1].title == "model.layers.0 to 39: 40 times the same"
    many = steps(40)
    svg = inspect_graph.draw(many, [(1, 1)] * len(many))
    assert svg.count('class="node"') == 5
    ET.fromstring(svg)


def test_boxes_do_not_overlap_and_edges_go_down():
    for box in inspect_graph.boxes(steps(3)):
        at, width, height = inspect_graph.place(box)
        assert len(set(at.values())) == len(at)
        assert all(0 <= x <= width and 0 <= y <= height for x, y in at.values())
        for k, s in enumerate(box.steps, box.first):
            assert all(at[a][1] < at[k][1] for a in s.after if a in at)


def test_empty_graph_draws():
    ET.fromstring(inspect_graph.draw([], []))


def test_numbers():
    assert [number(x, "B") for x in (0, 999, 1000, 123456, 1.5e9)] == [
        "0 B", "999 B", "1 kB", "123 kB", "1.5 GB"]  # fmt: skip


# -- language models --------------------------------------------------------------------------
@pytest.mark.slow
def test_language_model(tmp_path):
    """A serving step: ranges, generation, benchmark, and its answers against eager's."""
    source = (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.zoo import zoo\nmodel = zoo('mixtral')\n"
    )
    file, out = model(tmp_path, source), tmp_path / "out"
    message = refused(cli(file, "-o", out, "--dynamic", "n=1:4"))
    assert "a serving step has T, R, context" in message
    result = cli(file, "-o", out, "--dynamic", "T=1:64", "--dynamic", "context=1:256")
    assert result.exit_code == 0, result.output
    assert cli("run", out, "--check").exit_code == 0
    result = cli("run", out, "--tokens", "1,5,9", "--max-new-tokens", 6)
    from tests.zoo import zoo

    eager = zoo("mixtral").generate(torch.tensor([[1, 5, 9]]), max_new_tokens=6, do_sample=False)
    assert [int(x) for x in result.stdout.split(",")] == eager[0, 3:].tolist()
    result = cli("bench", out, "--requests", 3, "--context", 65, "--repeat", 3)
    assert "T=3, R=3" in result.stdout and "tokens/s" in result.stdout
    assert "outside" in refused(cli("bench", out, "--requests", 65))
    assert "compiled for 256" in refused(cli("bench", out, "--requests", 1, "--context", 999))
    assert "holds no tokenizer" in refused(cli("run", out, "--prompt", "Hello"))
    assert "expected token ids" in refused(cli("run", out, "--tokens", "a"))
    assert "error" in refused(cli("run", out, "--tokens", "9999"))
    assert "exceed the context of 256" in refused(
        cli("run", out, "--tokens", "1", "--max-new-tokens", 300)
    )


@pytest.mark.slow
def test_deepseek_example(tmp_path):
    script = ROOT / "examples" / "deepseek_v3.py"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tokens    equal: 72 of 72" in done.stdout


@pytest.mark.slow
def test_bf16_experts_pass_or_are_marked(tmp_path):
    out = tmp_path / "ds"
    result = cli(ROOT / "examples" / "deepseek_v3.py", "-o", out, "--dtype", "bf16")
    assert result.exit_code == 0, result.output
    result = cli("run", out, "--check")
    assert result.exit_code == 0, result.output
    assert "near a tie" in result.stdout
    assert ("passed with exceptions" in result.stdout) == ("! " in result.stdout)
    kept = json.loads((out / "manifest.json").read_text())["program"]["consts"]
    assert any("e_score_correction_bias" in c["name"] and c["type"].startswith("f32") for c in kept)


def test_time_is_not_wasted_on_import():
    start = time.perf_counter()
    assert cli("--version").exit_code == 0
    assert time.perf_counter() - start < 1
