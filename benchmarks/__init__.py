"""Benchmarks: run them from the repository's root, `python -m benchmarks.model_bench --help`."""
