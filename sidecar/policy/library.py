"""The CEL library's own module (common-expression-language), without the package around it.

The package brings a command line of its own, which costs every process 34 MB and shows nothing that is used here.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cel.cel import Context, Program, compile
else:
    _package = find_spec("cel")  # found, and not run
    _found = _package and PathFinder.find_spec("cel.cel", _package.submodule_search_locations)
    if _found is None or _found.loader is None:
        raise ImportError("the distribution common-expression-language is not installed")
    _module = module_from_spec(_found)
    _found.loader.exec_module(_module)
    Context, Program, compile = _module.Context, _module.Program, _module.compile

__all__ = ["Context", "Program", "compile"]
