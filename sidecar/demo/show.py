"""The demo as a story: set up, call, look at what became of the calls, tear down.

On a terminal it stays up until Ctrl-C, for the user to play; otherwise it ends by itself. Whatever ends it, no
process and no temporary file is left; the model server's environment is kept for the next time.
"""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from sidecar.demo import environment, guard, model_server, report, steps
from sidecar.demo.calls import Caller
from sidecar.demo.children import Child, Children
from sidecar.demo.collector import Collector, collecting
from sidecar.demo.errors import DemoError
from sidecar.demo.guard import Guard

DIRECTORY = Path(".cache", "demo")
ENDINGS = (signal.SIGTERM, signal.SIGHUP)  # as Ctrl-C
PLAIN_WIDTH = 120  # columns, where there is no terminal
INTERRUPTED = 130  # exit status, as a shell says it


@dataclass(frozen=True, slots=True)
class Stand:
    """What has been set up."""

    caller: Caller
    guard: Guard
    sidecar: Child
    samples: Path
    trained: dict[str, object]


def run(directory: Path = DIRECTORY) -> int:
    """Show it all; 0 where every step happened as promised.

    directory: keeps the model server's environment from one run to the next.
    """
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    stays = sys.stdin.isatty() and sys.stdout.isatty()
    status = INTERRUPTED
    before = {ending: signal.signal(ending, _interrupt) for ending in ENDINGS}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="langtrain-sidecar-demo-") as temporary,
            collecting() as collector,
            Children(Path(temporary)) as children,
        ):
            stand = _set_up(console, directory.resolve(), Path(temporary), children, collector)
            status = _show(console, stand, collector)
            if stays:
                _stay(console, stand)
    except DemoError as error:
        console.print(str(error), style="red", markup=False)
        status = 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)
    return status


def _set_up(console: Console, directory: Path, temporary: Path, children: Children, collector: Collector) -> Stand:
    with _stage(console, "An environment for MLServer and tritonclient") as progress:
        python = environment.ensure(directory, progress)
    with _stage(console, "Training two models, a classifier of digits and one of support tickets"):
        trained = model_server.train(children, python, temporary / "models")
    with _stage(console, "Starting MLServer on loopback"):
        ports = model_server.start(children, python, temporary / "models")
    with _stage(console, "Development certificates, and the sidecar before MLServer"):
        guard.make_certificates(temporary, datetime.now(UTC))
        protected, process = guard.start(children, temporary, ports, collector.address)
    caller = Caller(python, protected.address, temporary / "certs")
    return Stand(caller, protected, process, temporary / "models" / "samples.json", trained)


def _show(console: Console, stand: Stand, collector: Collector) -> int:
    """Take the steps and print the table; the exit status."""
    trace = steps.Trace(secrets.token_hex(16), secrets.token_hex(8))
    with _stage(console, "Calling the models as an unmodified Triton client does"):
        taken = [
            steps.classify_digits(stand.caller, stand.samples, stand.trained, trace),
            *steps.classify_ticket(stand.caller),
            steps.stranger(stand.caller),
            steps.nobody(stand.caller),
        ]
        step, events = steps.recorded(stand.guard, trace)
        taken.append(step)
        step, span = steps.traced(collector, trace)
        taken.append(step)
    report.table(console, taken)
    report.events(console, events)
    if span is not None:
        report.trace(console, trace, span)
    failed = [step.what for step in taken if not step.fine]
    if failed:
        console.print(f"Not as promised: {'; '.join(failed)}. The sidecar said last:", style="red", markup=False)
        console.print(stand.sidecar.tail(), markup=False)
    return 1 if failed else 0


def _stay(console: Console, stand: Stand) -> None:
    """Keep everything up until it is interrupted, or the sidecar ends."""
    report.by_hand(console, stand.caller, stand.guard)
    stand.sidecar.process.wait()
    raise DemoError(f"the sidecar ended. It said last:\n{stand.sidecar.tail()}")


@contextmanager
def _stage(console: Console, what: str) -> Iterator[Callable[[str], None]]:
    """Say what is being done, and how long it took. Yields what to tell the progress to."""
    begin = time.monotonic()
    if console.is_terminal:
        with console.status(f"{what} …") as status:
            yield lambda note: status.update(f"{what}: {note} …")
    else:
        console.print(f"{what} …")
        yield lambda note: None
    console.print(f"{what}: {time.monotonic() - begin:.1f} s")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
