"""What benchmarks share: pinned processes, CPU from schedstat, load by h2load, peers, rounds and results.

Everything listens on loopback, ends within a bound, and is stopped however the benchmark ends.
BenchError is the one error: a part is missing, did not start, or a round is void.
"""
