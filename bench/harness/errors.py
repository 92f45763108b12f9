"""The one error of benchmarks."""


class BenchError(Exception):
    """A part is missing or did not start, or a round is void; the message says what to do or what came."""
