from pathlib import Path

import pytest

from interceptors.contract import Interceptor
from sidecar.plugins import PluginError, load

SOURCE = """
from dataclasses import dataclass
from interceptors.contract import Interceptor

@dataclass
class Shout(Interceptor):
    name = "shout"
    loud: bool = False

    def __post_init__(self) -> None:
        if self.loud == "secret":
            raise ValueError(self.loud)
        if self.loud == "exit":
            raise SystemExit(0)

class NoInterceptor:
    pass

value = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "shout.py"
    made.write_text(SOURCE)
    return made


def test_a_class_of_a_file_is_made_with_its_settings(file: Path) -> None:
    link = load(f"{file}:Shout", {"loud": True})
    assert isinstance(link, Interceptor)
    assert link.name == "shout"
    assert vars(link) == {"loud": True}


def test_a_file_is_one_module_however_often_it_is_named(file: Path) -> None:
    assert type(load(f"{file}:Shout", {})) is type(load(f"{file}:Shout", {"loud": True}))


def test_a_class_of_a_module() -> None:
    assert load("interceptors.record:Record", {}).name == "record"


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        ("Whisper", {}, "expected a subclass of interceptors.contract.Interceptor, came nothing of that name"),
        ("NoInterceptor", {}, "expected a subclass of interceptors.contract.Interceptor, came the class NoInterceptor"),
        ("value", {}, "expected a subclass of interceptors.contract.Interceptor, came a value of type int"),
        (
            "Shout",
            {"volume": 1},
            "expected a class that takes these settings, came TypeError: Shout.__init__() got an unexpected keyword "
            "argument 'volume'",
        ),
        ("Shout", {"loud": "secret"}, "expected a class that takes these settings, came ValueError at shout.py:12"),
        ("Shout", {"loud": "exit"}, "expected a class that takes these settings, came SystemExit at shout.py:14"),
    ],
)
def test_what_is_no_interceptor(file: Path, name: str, settings: dict[str, object], problem: str) -> None:
    with pytest.raises(PluginError) as raised:
        load(f"{file}:{name}", settings)
    assert str(raised.value) == f"{file}:{name}: {problem}"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('hunter2')", "came RuntimeError at broken.py:1"),
        ("raise SystemExit(0)", "came SystemExit at broken.py:1"),
        ("def (", "came SyntaxError: "),
        ("import nowhere_at_all", "came ModuleNotFoundError: "),
    ],
)
def test_a_module_that_does_not_import(tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(PluginError) as raised:
        load(f"{tmp_path}/broken.py:A", {})
    assert f"expected a module that can be imported, {problem}" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="came FileNotFoundError"):
        load(f"{tmp_path}/none.py:A", {})
    with pytest.raises(PluginError, match="came ModuleNotFoundError: No module named 'nowhere_at_all'"):
        load("nowhere_at_all:A", {})
