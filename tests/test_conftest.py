"""The options and fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

pytest_plugins = ["pytester"]


def test_golden_compares_and_updates(pytester):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())

    def run(text: str, *args: str) -> str:
        pytester.makepyfile(test_it=f"def test_it(golden):\n    golden('a.txt', {text!r})\n")
        return pytester.runpytest_inprocess(*args).stdout.str()

    assert "there is no tests/golden/a.txt" in run("one\n")
    assert "1 passed" in run("one\n", "--update-golden")
    assert "1 passed" in run("one\n")
    out = run("other\n")
    assert "-one" in out
    assert "+other" in out
    assert "--update-golden" in out


def test_slow_tests_wait_until_asked_for(pytester):
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow")
    pytester.makepyfile(
        "import pytest\ndef test_a(): pass\n@pytest.mark.slow\ndef test_b(): pass\n"
    )
    for args, outcome in [
        ((), {"passed": 1, "deselected": 1}),
        (("--slow",), {"passed": 2}),
        (("-m", "slow"), {"passed": 1, "deselected": 1}),
    ]:
        pytester.runpytest_inprocess(*args).assert_outcomes(**outcome)
