"""Tests of the benchmarks' own parts; no figure is asserted here."""
