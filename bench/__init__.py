"""Benchmarks: each module is one, run as `python -m bench.<name>`; `bench.harness` is what they share."""
