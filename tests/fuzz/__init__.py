"""Fuzzing: generated frame sequences against two other implementations, and coverage-guided inputs for what parses.

`differential` compares our connections' verdicts with those of h2 and nghttp2; `targets` are what atheris feeds.
"""
