"""Runs every code block of the product document as written, against a fresh sidecar, and tells what of it ran.

    python -m bench.samples [DOCUMENT]

Statement by statement, after `bench/samples/prelude.py`; the caller is an administrator by the sidecar's config. The
share is a measure, no test: the exit status is 0 whatever it is, and 1 where nothing could be measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.harness import results
from bench.harness.errors import BenchError
from bench.harness.paths import RESULTS, ROOT
from bench.harness.processes import Processes, exit_on_signals, free_port
from bench.harness.sidecar import START_S, listening_in
from bench.samples.document import Block, Statement, blocks
from sidecar.certs import dev

DOCUMENT: Final = ROOT.parent / "shared" / "product" / "security-overview.txt"
ADMINISTRATOR: Final = f"spiffe://{dev.TRUST_DOMAIN}/team/alice"
LIMIT_S: Final = 60.0  # of a block
COMMAND: Final = "make samples"
RAN, FAILED, SKIPPED = "ran", "did not run", "branch not taken"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a statement. error: "" where it ran.  calls: of each of its calls, RAN, FAILED or SKIPPED."""

    statement: Statement
    error: str
    warnings: tuple[str, ...]
    calls: tuple[str, ...]


def main() -> int:
    arguments = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    arguments.add_argument("document", nargs="?", type=Path, default=DOCUMENT)
    arguments.add_argument("--out", type=Path, default=RESULTS / "samples.json")
    given = arguments.parse_args()
    try:
        found = blocks(given.document.read_text("utf-8"))
    except OSError as error:
        print(f"no product document: {error}; give its path", file=sys.stderr)
        return 1
    exit_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="samples-") as folder, serving(Path(folder)) as environment:
            outcomes = [run(block, environment) for block in found]
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    for number, (block, outcome) in enumerate(zip(found, outcomes, strict=True), 1):
        show(number, block, outcome)
    total = share([each for outcome in outcomes for each in outcome])
    print(f"in all: {said(total)}")
    record = {
        "bench": "samples",
        "machine": results.machine(),
        "command": COMMAND,
        "share": total,
        "blocks": [written(block, outcome) for block, outcome in zip(found, outcomes, strict=True)],
    }
    given.out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {os.path.relpath(given.out, ROOT)}")
    return 0


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, str]]:
    """A sidecar of its own in `folder`, and the environment in which clients find it as its administrator."""
    certificates = folder / "certs"
    dev.create(certificates, now=datetime.now(UTC))
    file = folder / "sidecar.yaml"  # JSON is YAML
    file.write_text(json.dumps(config(certificates, folder / "state")))
    with Processes(folder / "run") as processes:
        process = processes.start("sidecar", [sys.executable, "-m", "sidecar", "serve", "--config", str(file)])
        listening = process.wait_for(lambda: listening_in(process.output()), "listen", START_S)
        files = {"CA": "ca.pem", "CERT": "alice.pem", "KEY": "alice-key.pem"}
        yield {
            "LANGTRAIN_ENDPOINT": str(listening["address"]),
            **{f"LANGTRAIN_{name}": str(certificates / path) for name, path in files.items()},
        }


def config(certificates: Path, state: Path) -> dict[str, Any]:
    """Defaults, on SQLite, with policies and API keys on; no model server is called."""
    return {
        "listen": {
            "address": "127.0.0.1:0",
            "tls": {
                "certificate": str(certificates / "server.pem"),
                "key": str(certificates / "server-key.pem"),
                "client_ca": str(certificates / "ca.pem"),
            },
        },
        "upstream": {"address": f"127.0.0.1:{free_port()}"},
        "state": {"directory": str(state)},
        "authentication": {"mtls": {"trust_domains": [dev.TRUST_DOMAIN]}, "api_keys": {}},
        "authorization": {
            "rules": [{"identities": [ADMINISTRATOR], "methods": ["/langtrain.v1.**"], "permissions": ["*"]}],
            "policies": True,
            "bootstrap_admins": [ADMINISTRATOR],
        },
    }


def run(block: Block, environment: Mapping[str, str]) -> list[Outcome]:
    """What came of each statement. Those that a block does not come to within LIMIT_S did not run."""
    command = [sys.executable, "-m", "bench.samples.run"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, input=block.code.encode(), stdout=subprocess.PIPE,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
        output, missing = done.stdout, f"its process ended with status {done.returncode}"
    except subprocess.TimeoutExpired as error:
        output, missing = error.stdout or b"", f"not done in {LIMIT_S:g} s"
    answers = [json.loads(line) for line in output.decode().splitlines()]
    unheard = {"error": missing, "warnings": [], "returned": []}
    answers += [unheard] * (len(block.statements) - len(answers))
    return [outcome(statement, answer) for statement, answer in zip(block.statements, answers, strict=True)]


def outcome(statement: Statement, answer: Mapping[str, Any]) -> Outcome:
    # A statement that ran to its end and made no such call went another way.
    otherwise = FAILED if answer["error"] else SKIPPED
    calls = [RAN if number in answer["returned"] else otherwise for number in range(len(statement.calls))]
    return Outcome(statement, answer["error"], tuple(answer["warnings"]), tuple(calls))


def share(outcomes: list[Outcome]) -> dict[str, int]:
    """How many statements and calls ran, and of how many; calls in branches that were not taken count in neither.

    warned: of how many statements something was warned.
    """
    calls = [call for each in outcomes for call in each.calls if call != SKIPPED]
    return {
        "statements_ran": sum(not each.error for each in outcomes),
        "statements": len(outcomes),
        "calls_ran": calls.count(RAN),
        "calls": len(calls),
        "warned": sum(bool(each.warnings) for each in outcomes),
    }


def said(count: Mapping[str, int]) -> str:
    percent = 100 * count["calls_ran"] / count["calls"] if count["calls"] else 100.0
    warned = f", {count['warned']} with warnings" if count["warned"] else ""
    return (
        f"{count['statements_ran']} of {count['statements']} statements ran{warned}, "
        f"{count['calls_ran']} of {count['calls']} calls ({percent:.0f}%)"
    )


def show(number: int, block: Block, outcomes: list[Outcome]) -> None:
    print(f"{number}. {block.title}: {said(share(outcomes))}")
    for each in outcomes:
        print(f"   {'✗' if each.error else '✓'} line {each.statement.line:3}  {each.statement.text}")
        for call, state in zip(each.statement.calls, each.calls, strict=True):
            print(f"              {state:16}  {call.text}() in line {call.line}")
        for text in (*each.warnings, each.error):
            if text:
                print(f"              {text}")


def written(block: Block, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "title": block.title,
        "share": share(outcomes),
        "statements": [
            {
                "line": each.statement.line,
                "text": each.statement.text,
                "ran": not each.error,
                "error": each.error,
                "warnings": each.warnings,
                "calls": [
                    {"line": call.line, "call": call.text, "state": state}
                    for call, state in zip(each.statement.calls, each.calls, strict=True)
                ],
            }
            for each in outcomes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
