"""The virtual environment of the demo's model server and client, apart from the sidecar's.

MLServer wants protobuf 6 and a Python below 3.13; the sidecar needs neither. A stamp, written last, tells a finished
environment from one that was interrupted; a finished one is used again, offline too.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sidecar.demo.children import Children
from sidecar.demo.errors import DemoError

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
NEWEST = (3, 12)  # MLServer 1.7.1: Requires-Python <3.13
OLDEST = (3, 11)
INSTALL_S = 600.0

Progress = Callable[[str], None]


def ensure(directory: Path, progress: Progress) -> Path:
    """The Python of a finished environment below `directory`, made where there is none. Raises DemoError.

    progress: told in a few words how far it is.
    """
    home = directory / "environment"
    python = home / "bin" / "python"
    stamp = home / ".complete"
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory / ".lock", progress):
        wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
        if stamp.is_file() and stamp.read_text("utf-8") == wanted and python.exists() and _succeeds(str(python), ""):
            progress("there already")
            return python
        stamp.unlink(missing_ok=True)
        interpreter = _interpreter()
        progress("creating")
        try:
            with Children(directory) as children:
                _run(
                    children, "venv", [interpreter, "-m", "venv", "--without-pip", "--clear", str(home)], lambda _: None
                )
                _install(children, python, progress)
            stamp.write_text(wanted, "utf-8")
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
    return python


@contextmanager
def _alone(lock: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file, so that two demos do not install into one environment."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another demo that is installing")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _succeeds(python: str, code: str) -> bool:
    return subprocess.run([python, "-c", code], check=False, capture_output=True).returncode == 0


def _interpreter() -> str:
    """A Python that MLServer supports."""
    if importlib.util.find_spec("pip") is None:
        raise DemoError(f"{sys.executable} has no pip, which installs the demo's model server: python -m ensurepip")
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return sys.executable
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and _succeeds(found, "import venv"):
            return found
    raise DemoError(
        f"MLServer, the demo's model server, runs on Python 3.11 or 3.12; this is {sys.version.split()[0]}, and no "
        "python3.12 or python3.11 with venv is on the PATH. Install one; the sidecar itself runs on this Python."
    )


def _install(children: Children, python: Path, progress: Progress) -> None:
    total = len(re.findall(r"^[\w.-]+==", REQUIREMENTS.read_text("utf-8"), re.MULTILINE))

    def told(said: str) -> None:
        fetched = len(re.findall(r"^Collecting ", said, re.MULTILINE))
        done = "Installing collected packages" in said
        progress("installing" if done else f"fetched {fetched} of {total} packages")

    # This environment's pip serves the other one. What it would compile at once is compiled when first imported.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    options = ["--progress-bar", "off", "--no-compile", "--no-deps", "--require-hashes"]
    try:
        _run(children, "pip", [*pip, "install", *options, "-r", str(REQUIREMENTS)], told)
    except DemoError as error:
        raise DemoError(
            f"{error}\n\nThe model server's packages could not be installed. The first run needs a package index: "
            "check the network, or pip's settings (PIP_INDEX_URL, https_proxy). Later runs work offline."
        ) from None


def _run(children: Children, name: str, command: list[str], told: Callable[[str], None]) -> None:
    """Run to its end. told: called with all its output, again and again. Raises DemoError where it fails."""
    child = children.start(name, command, directory=REQUIREMENTS.parent)

    def ended() -> int | None:
        told(child.said())
        return child.process.poll()

    try:
        status = child.wait_for(f"the end of {name}", ended, INSTALL_S)
        said = child.tail()
    finally:
        child.log.unlink()
    if status != 0:
        raise DemoError(f"{name} failed with status {status}:\n{said}")
