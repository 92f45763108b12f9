"""Interop clients and servers that Debian's compilers build, each in a folder of its own under .cache/peers:

    python -m tests.peers.toolchains [go] [cpp] [java]

builds those named, or all; what is there and matches its sources is left as it is. One whose compiler or library is
missing is left out, and named with the packages it needs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.parts import require
from tests.peers.venvs import CACHE, HERE

PROTOS = HERE / "protos"
JARS = Path("/usr/share/java")
CLASS_PATH = [
    JARS / f"{name}.jar"
    for name in (
        *("grpc-api", "grpc-context", "grpc-core", "grpc-netty", "grpc-protobuf", "grpc-protobuf-lite", "grpc-stub"),
        *("netty-buffer", "netty-codec", "netty-codec-http", "netty-codec-http2", "netty-common", "netty-handler"),
        *("netty-resolver", "netty-transport", "perfmark-api", "guava", "gson", "protobuf"),
        "geronimo-annotation-1.3-spec",
    )
]
GO_PATH = "/usr/share/gocode"


class ToolchainError(Exception):
    """A peer could not be built; the message ends with what the compiler said."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One language's peers.

    build: compiles its sources into a folder.  programs, files: what it needs, of the Debian packages `packages`.
    """

    name: str
    build: Callable[[Path, Path], None]
    programs: tuple[str, ...]
    files: tuple[Path, ...]
    packages: tuple[str, ...]

    @property
    def sources(self) -> Path:
        return HERE / self.name

    @property
    def folder(self) -> Path:
        return CACHE / self.name

    def command(self, role: str) -> list[str]:
        """What runs its "client" or "server"; skips the test where it is not built."""
        missing = f"{self.name} peers are not built ({self.needs()}): python -m tests.peers.toolchains {self.name}"
        require(self.made(), missing)
        if self.name == "java":
            path = ":".join(map(str, [self.folder / "classes", *CLASS_PATH]))
            # The client compiler alone and few threads: a JVM of seconds beside others on few cores.
            return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, role.capitalize()]
        return [str(self.folder / role)]

    def needs(self) -> str:
        return f"Debian packages {' '.join(self.packages)}"

    def missing(self) -> list[str]:
        programs = [program for program in self.programs if shutil.which(program) is None]
        return programs + [str(file) for file in self.files if not file.exists()]

    def made(self) -> bool:
        stamp = self.folder / "built"
        return stamp.exists() and stamp.read_text() == self._digest()

    def make(self) -> None:
        """Build it anew. Raises ToolchainError where a compiler refuses."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.build(self.sources, self.folder)
        (self.folder / "built").write_text(self._digest())

    def _digest(self) -> str:
        sources = [*sorted(file for file in self.sources.rglob("*") if file.is_file()), PROTOS / "interop.proto"]
        return hashlib.sha256(b"\0".join(source.read_bytes() for source in [Path(__file__), *sources])).hexdigest()


def _go(sources: Path, folder: Path) -> None:
    stubs = folder / "src" / "interop"
    stubs.mkdir(parents=True)
    environment = {"GO111MODULE": "off", "GOFLAGS": "", "GOPATH": f"{folder}:{GO_PATH}", "GOCACHE": f"{folder}/cache"}
    generator = folder / "protoc-gen-go"
    _run(["go", "build", "-o", str(generator), "github.com/golang/protobuf/protoc-gen-go"], environment)
    _protoc(f"--plugin={generator}", f"--go_out=plugins=grpc:{stubs}")
    for role in ("client", "server"):
        _run(["go", "build", "-o", str(folder / role), str(sources / role / "main.go")], environment)


def _cpp(sources: Path, folder: Path) -> None:
    _protoc(f"--plugin=protoc-gen-grpc={_program('grpc_cpp_plugin')}", f"--cpp_out={folder}", f"--grpc_out={folder}")
    libraries = subprocess.run(
        ["pkg-config", "--libs", "grpc++", "protobuf"], check=True, capture_output=True, text=True
    ).stdout.split()
    stubs = [folder / "interop.pb.cc", folder / "interop.grpc.pb.cc"]
    roles = [sources / "client.cc", sources / "server.cc"]
    for source in (*stubs, *roles):
        _run(["g++", "-std=c++17", "-Wall", f"-I{folder}", "-c", str(source), "-o", str(_object(folder, source))])
    for role in roles:
        objects = [str(_object(folder, source)) for source in (*stubs, role)]
        _run(["g++", *objects, "-o", str(folder / role.stem), *libraries])


def _object(folder: Path, source: Path) -> Path:
    return folder / f"{source.stem}.o"


def _java(sources: Path, folder: Path) -> None:
    stubs = folder / "src"
    stubs.mkdir()
    plugin = f"--plugin=protoc-gen-grpc-java={_program('grpc_java_plugin')}"
    _protoc(plugin, f"--java_out={stubs}", f"--grpc-java_out={stubs}")
    files = [str(file) for file in (*stubs.rglob("*.java"), *sources.glob("*.java"))]
    path = ":".join(map(str, CLASS_PATH))
    _run(["javac", "-proc:none", "-nowarn", "-cp", path, "-d", str(folder / "classes"), *files])


def _protoc(*options: str) -> None:
    _run(["protoc", f"-I{PROTOS}", *options, "interop.proto"])


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} was there when the build began"
    return found


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    variables = {**os.environ, **(environment or {})}
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise ToolchainError(f"{' '.join(command)} failed:\n{ran.stderr[-4000:]}")


GO = Toolchain(
    "go",
    _go,
    ("go", "protoc"),
    (Path(GO_PATH, "src/google.golang.org/grpc"),),
    ("golang-go", "golang-google-grpc-dev", "protobuf-compiler"),
)
CPP = Toolchain(
    "cpp",
    _cpp,
    ("g++", "pkg-config", "protoc", "grpc_cpp_plugin"),
    (Path("/usr/include/grpcpp/grpcpp.h"), Path("/usr/include/google/protobuf/message.h")),
    ("g++", "libgrpc++-dev", "libprotobuf-dev", "protobuf-compiler-grpc"),
)
JAVA = Toolchain(
    "java",
    _java,
    ("java", "javac", "protoc", "grpc_java_plugin"),
    tuple(CLASS_PATH),
    (
        *("default-jdk-headless", "libgrpc-java", "libnetty-java", "libperfmark-java", "libprotobuf-java"),
        *("libguava-java", "libgoogle-gson-java", "libgeronimo-annotation-1.3-spec-java"),
        *("protobuf-compiler", "protobuf-compiler-grpc-java-plugin"),
    ),
)
TOOLCHAINS = {toolchain.name: toolchain for toolchain in (GO, CPP, JAVA)}


def _ensure(toolchain: Toolchain) -> bool:
    if toolchain.made():
        _tell(f"{toolchain.name}: there")
        return True
    if missing := toolchain.missing():
        _tell(f"{toolchain.name}: left out, for {', '.join(missing)} is missing ({toolchain.needs()})")
        return True
    _tell(f"{toolchain.name}: building")
    try:
        toolchain.make()
    except ToolchainError as error:
        _tell(f"{toolchain.name}: {error}")
        return False
    return True


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(names: list[str]) -> int:
    unknown = set(names) - set(TOOLCHAINS)
    if unknown:
        _tell(f"unknown toolchains {sorted(unknown)}: expected some of {', '.join(TOOLCHAINS)}")
        return 2
    with ThreadPoolExecutor(os.cpu_count()) as builders:
        built = list(builders.map(_ensure, [TOOLCHAINS[name] for name in names or TOOLCHAINS]))
    return 0 if all(built) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
