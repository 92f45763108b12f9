"""Compiles the modules that every call runs through, by mypyc: into wheels, as hatchling's build hook, and for a
checkout into .cache/compiled. Never beside the sources, where what is stale would be run in place of what is edited.

Which modules: pyproject.toml, [tool.hatch.build.targets.wheel.hooks.custom].
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT: Final = Path(__file__).resolve().parents[1]
TREE: Final = ROOT / ".cache" / "compiled"
PACKAGES: Final = ("sidecar", "interceptors", "detectors")
GROUP: Final = "langtrain_sidecar"  # names the library that holds the code of all modules
# Other packages' types are not there where a wheel is built, nor needed; `make check` judges the sources.
MYPY: Final = ("--ignore-missing-imports", "--follow-imports=silent", "--no-warn-unused-ignores")


class CompiledHook(BuildHookInterface[Any]):
    """Puts compiled modules into a wheel, beside their sources; off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM is true."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._out = Path(tempfile.mkdtemp(prefix="compiled-"))
        build(Path(self.root), self.config["modules"], self._out)
        for library in self._out.rglob("*.so"):
            build_data["force_include"][str(library)] = str(library.relative_to(self._out))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._out)


def modules(root: Path) -> list[str]:
    """The patterns that name what is compiled."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    named: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return named


def sources(root: Path, patterns: list[str]) -> list[str]:
    """The files that `patterns` name, relative to `root`. Raises FileNotFoundError where one names none."""
    found: list[str] = []
    for pattern in patterns:
        files = [file for file in sorted(root.glob(pattern)) if file.name != "__init__.py"]
        if not files:
            raise FileNotFoundError(f"pyproject.toml names {pattern} as a module to compile, which is not there")
        found += [str(file.relative_to(root)) for file in files]
    return found


def build(root: Path, patterns: list[str], out: Path) -> None:
    """Compile what `patterns` name under `root`, each at its module's place in `out`."""
    from mypyc.build import mypycify  # needed to build alone
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    with tempfile.TemporaryDirectory(prefix="mypyc-") as scratch:
        before = os.getcwd()
        os.chdir(root)  # mypyc names modules by their paths from here
        try:
            named = [f"--cache-dir={scratch}/types", *MYPY, *sources(root, patterns)]
            # A C file for each module: compiled side by side, in two fifths of the time, to code as fast.
            extensions = mypycify(named, target_dir=f"{scratch}/c", group_name=GROUP, debug_level="0", multi_file=True)
            command = build_ext(Distribution({"name": GROUP, "packages": [], "ext_modules": extensions}))
            command.build_lib, command.build_temp = str(out), f"{scratch}/objects"
            command.parallel = os.cpu_count()
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(before)


def digest(root: Path) -> str:
    """Of all that a compiled tree is made from: sources, settings, compiler and interpreter."""
    found = hashlib.sha256(f"{sys.version} {platform.machine()} {metadata.version('mypy')}".encode())
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*")) if file.is_file()]
    for file in (root / "pyproject.toml", Path(__file__), *files):
        if "__pycache__" not in file.parts:
            found.update(f"{file.relative_to(root)} {file.stat().st_size}\n".encode() + file.read_bytes())
    return found.hexdigest()


def main() -> int:
    """Have TREE hold this checkout, compiled; it is left alone where nothing has changed. Print where it is."""
    wanted, stamp = digest(ROOT), TREE / "digest"
    if not stamp.is_file() or stamp.read_text() != wanted:
        TREE.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="compiled-", dir=TREE.parent))
        try:
            for package in PACKAGES:
                shutil.copytree(ROOT / package, fresh / package, ignore=shutil.ignore_patterns("__pycache__"))
            build(ROOT, modules(ROOT), fresh)
            (fresh / "digest").write_text(wanted)
            shutil.rmtree(TREE, ignore_errors=True)
            fresh.rename(TREE)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    print(TREE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
