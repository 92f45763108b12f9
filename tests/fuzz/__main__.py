"""Run atheris on one target: `python -m tests.fuzz TARGET --seconds 1200`. What it finds is kept in .cache/fuzz.

An input that fails is written to .cache/fuzz, and the exit status is not 0. `--keep` brings what adds coverage into the
committed corpus, and only that.
"""

from __future__ import annotations

import argparse
import sys
from time import process_time

import atheris

with atheris.instrument_imports(include=["sidecar", "interceptors"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.corpus import CORPUS, inputs, keep, worthwhile
from tests.fuzz.seeds import seeds
from tests.processes import REPOSITORY

_WORK = REPOSITORY / ".cache" / "fuzz"
_SLOW_S = 1.0  # of CPU; what takes longer is a hang
_STUCK_S = 60  # of the clock, on a machine that others use as well
_MEMORY = 2048  # MiB
_LONGEST = 1024  # bytes of an input


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=0, help="how long at most; 0: until an input fails")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs at most; -1: any number")
    parser.add_argument("--seed", type=int, default=0, help="of what is random; 0: another each time")
    parser.add_argument("--keep", action="store_true", help="bring what .cache/fuzz has found into the corpus, and end")
    arguments = parser.parse_args()
    name, target = arguments.target, TARGETS[arguments.target]
    if arguments.keep:
        every = {*inputs(name), *(file.read_bytes() for file in (_WORK / name).iterdir())}
        print(f"{name}: {keep(CORPUS / name, worthwhile(target, every))} inputs of {len(every)} are new in the corpus")
        return
    keep(_WORK / name, (*seeds(name), *inputs(name)))
    options = [
        f"-max_total_time={arguments.seconds}", f"-runs={arguments.runs}", f"-seed={arguments.seed}",
        f"-max_len={_LONGEST}", f"-timeout={_STUCK_S}", f"-rss_limit_mb={_MEMORY}",
        f"-artifact_prefix={_WORK}/{name}-", "-verbosity=0", "-print_final_stats=1", str(_WORK / name),
    ]  # fmt: skip

    def run(octets: bytes) -> None:
        begin = process_time()
        target(octets)
        assert process_time() - begin < _SLOW_S, "it hangs"

    atheris.Setup([sys.argv[0], *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
