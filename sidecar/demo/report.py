"""How the demo prints what it did: a table, events, a trace, and the commands to carry on with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.demo.calls import Caller
from sidecar.demo.collector import Span
from sidecar.demo.guard import Guard
from sidecar.demo.steps import TICKET, Step, Trace


def table(console: Console, taken: Sequence[Step]) -> None:
    rows = Table(title="Through the sidecar, over mTLS", title_justify="left", show_lines=True)
    rows.add_column("tried")
    rows.add_column("what came of it")
    rows.add_column("")
    for step in taken:
        mark = Text("ok", "green") if step.fine else Text("NOT OK", "bold red")
        rows.add_row(Text(step.what), Text(step.came), mark)
    console.print(rows)


def events(console: Console, recorded: Sequence[dict[str, Any]]) -> None:
    """The audit trail, the fields that tell these events apart."""
    rows = Table(title="Recorded, one JSON line each, fsynced", title_justify="left")
    for column in ("time", "kind", "principal", "model", "status", "reason"):
        rows.add_column(column, overflow="fold")
    for event in recorded:
        time_of_day = event["time"][11:23]
        status = str(event["status"]) if event["status"] >= 0 else "–"
        cells = (time_of_day, event["kind"], event["principal"], event["model"], status, event["reason"])
        rows.add_row(*(Text(cell or "–") for cell in cells))
    console.print(rows)


def trace(console: Console, client: Trace, span: Span) -> None:
    """The client's span and, below it, the sidecar's."""
    console.print(f"Trace {client.trace_id}")
    console.print(f"  client     span {client.span_id}")
    console.print(f"  └ sidecar  span {span.span_id}  {span.name}  {span.milliseconds:.1f} ms", markup=False)
    for name, value in sorted(span.attributes.items()):
        console.print(f"      {name} = {value}", markup=False)


def by_hand(console: Console, caller: Caller, guard: Guard) -> None:
    """Commands that can be copied whole; printed without wrapping, so that they stay whole."""
    commands = {
        "Ask a model (try another text, or --certificate of mallory or batch)": caller.command(
            "alice", "topics", TICKET
        ),
        "Follow what is recorded": ["tail", "-f", str(guard.events_file)],
        "Read the sidecar's config": ["cat", str(guard.directory / "sidecar.yaml")],
    }
    console.print("\nCarry on by hand, from another terminal:", style="bold")
    for what, command in commands.items():
        console.print(f"\n  # {what}", style="dim", markup=False)
        console.print(f"  {shlex.join(command)}", soft_wrap=True, markup=False)
    console.print("\nCtrl-C stops everything and removes these files.", style="bold")
