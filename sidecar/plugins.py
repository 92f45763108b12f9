"""Loads interceptors that a config names. What their code raises becomes a PluginError that names them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from interceptors.contract import Interceptor
from sidecar.config.faults import visible
from sidecar.errors import SidecarError
from sidecar.logs import place


class PluginError(SidecarError):
    """An interceptor of the config's cannot be loaded."""


def load(use: str, settings: dict[str, Any]) -> Interceptor:
    """An instance of the class `use`, made with `settings` as keyword arguments.

    use: "/absolute/path/file.py:Class" or "package.module:Class".  Raises PluginError. Runs the module's code.
    """
    where, _, name = use.rpartition(":")
    try:
        module = _from_file(where) if where.endswith(".py") else importlib.import_module(where)
    except (Exception, SystemExit) as error:  # an interceptor must not end the program, least of all as a success
        raise PluginError(f"{use}: expected a module that can be imported, came {_said(error)}") from error
    made = getattr(module, name, None)
    if not isinstance(made, type) or not issubclass(made, Interceptor):
        value = f"the class {made.__name__}" if isinstance(made, type) else f"a value of type {type(made).__name__}"
        came = value if made is not None else "nothing of that name"
        raise PluginError(f"{use}: expected a subclass of interceptors.contract.Interceptor, came {came}")
    try:
        return made(**settings)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{use}: expected a class that takes these settings, came {_said(error)}") from error


def _from_file(path: str) -> ModuleType:
    name = f"langtrain_plugin_{path.encode().hex()}"  # one module a file, however often it is named
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _said(error: BaseException) -> str:
    # The text of a plug-in's own exception could quote its settings; Python's own says what the operator needs.
    known = (ImportError, OSError, SyntaxError, TypeError)
    kind = type(error).__name__
    return f"{kind}: {visible(str(error))}" if isinstance(error, known) else f"{kind} at {place(error)}"
