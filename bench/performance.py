"""Writes the tables of docs/performance.md from bench/results/relay.json: `python -m bench.performance`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.harness.paths import RESULTS, ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- what follows is written by `make performance` -->\n", "<!-- up to here -->\n"


NOT_YET = "Not measured yet: `make bench-relay`, then `make performance`.\n"


def read(results: Path = RESULTS / "relay.json") -> dict[str, Any] | None:
    """The results, None before there are any."""
    if not results.is_file():
        return None
    told: dict[str, Any] = json.loads(results.read_text("utf-8"))
    return told


def tables(told: dict[str, Any] | None) -> str:
    """The machine, each bar beside what was measured, and every proxy under every load, as Markdown."""
    if told is None:
        return NOT_YET
    machine, rows = told["machine"], told["rows"]
    lines = [
        f"Measured on {machine['cores']} cores of {machine['processor']}, kernel {machine['kernel']}, "
        f"Python {machine['python']}; {told['set_up']['build']} build.",
        "",
        "| load | compared | ratio | bar | |",
        "|---|---|---:|---:|---|",
    ]
    lines += [
        f"| {row['load']} | {ratio['what']}, {ratio['of']} to {ratio['to']} | "
        f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}) | "
        f"{ratio.get('bar', '')} | {verdict(ratio)} |"
        for row in rows.values()
        for ratio in row["ratios"]
    ]
    for name, row in rows.items():
        lines += ["", f"**{name}**: {row['load']}; medians of {row['rounds']} rounds (`{row['command']}`)", ""]
        lines += ["| proxy | CPU a call, µs | median call, µs | waited for its core |", "|---|---:|---:|---:|"]
        lines += [
            f"| {title} | {spread(entry['cpu_us'])} | {spread(entry['p50_us']) if 'p50_us' in entry else ''} | "
            f"{entry['waited']:.0%} |"
            for title, entry in row["entries"].items()
        ]
    return "\n".join(lines) + "\n"


def spread(found: dict[str, float]) -> str:
    return f"{found['median']:.1f} ({found['low']:.1f} to {found['high']:.1f})"


def verdict(ratio: dict[str, Any]) -> str:
    if "bar" not in ratio:
        return ""
    return "reached" if ratio["met"] else "**missed**"


def rewritten(document: str, told: dict[str, Any] | None) -> str:
    """`document` with its tables made anew."""
    before, _, rest = document.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables(told)}\n{END}{after}"


def main() -> None:
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text("utf-8"), read()), "utf-8")


if __name__ == "__main__":
    main()
