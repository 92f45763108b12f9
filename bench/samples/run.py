"""Runs one block, in a process of its own: `python -m bench.samples.run < BLOCK`, one JSON line a statement.

Each top-level statement runs for itself, in one namespace after the prelude; one that fails keeps none after it from
running. Every call is counted where it returns.
"""

from __future__ import annotations

import ast
import json
import sys
import warnings
from contextlib import redirect_stdout
from typing import Any, Final

from bench.samples import prelude
from bench.samples.document import calls

COUNTED: Final = "_counted"  # the name under which statements find what counts their calls


def main() -> None:
    code = sys.stdin.read()
    answers = sys.stdout
    namespace: dict[str, Any] = {name: getattr(prelude, name) for name in prelude.__all__}
    with redirect_stdout(sys.stderr):
        for statement in ast.parse(code).body:
            print(json.dumps(run(statement, namespace)), file=answers, flush=True)


def run(statement: ast.stmt, namespace: dict[str, Any]) -> dict[str, Any]:
    """error: "" where it ran.  warnings: what it was warned of.  returned: numbers of its calls that returned."""
    returned: set[int] = set()

    def counted(number: int, called: Any, /, *arguments: Any, **named: Any) -> Any:
        result = called(*arguments, **named)
        returned.add(number)
        return result

    for number, call in enumerate(calls(statement)):
        call.args = [ast.Constant(number), call.func, *call.args]
        call.func = ast.Name(COUNTED, ast.Load())
    namespace[COUNTED] = counted
    error = ""
    program = compile(ast.fix_missing_locations(ast.Module([statement], [])), "sample", "exec")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            exec(program, namespace)
        except (Exception, SystemExit) as raised:
            error = f"{type(raised).__name__}: {raised}"
    texts = [f"{warning.category.__name__}: {warning.message}" for warning in said]
    return {"error": error, "warnings": texts, "returned": sorted(returned)}


if __name__ == "__main__":
    main()
