"""The troubleshooting page is complete: every reason, log event, alert, check and kind in the code, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from ruamel.yaml import YAML

from sidecar.config.model import Config
from sidecar.config.shape import field_at
from sidecar.policy import builtin
from sidecar.relay.codecs.registry import registry
from sidecar.relay.upstream.dial import DialError
from sidecar.telemetry.metrics import ABUSE_CLOSURES
from tests.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "troubleshooting.md"
DOTTED = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
FORM = re.compile(r"[a-z0-9_]+\.\{\}|(\{\}|[a-z0-9_]+)\.[a-z_]+:\{\}|\{\}\.[a-z_]+")
LOGGING = ("debug", "info", "warning", "error")
# Dotted texts that are neither reasons nor kinds: of files, libraries, protocols and the host's names.
OTHER_TEXTS = {
    "ca.pem", "calls.sock", "streams.sock", "events.jsonl", "limits.bin", "proofs.bin", "state.db", "state.lock",
    "example.org", "sidecar.app", "cel.cel", "id.issuer", "id.jti", "id.serial",
    "grant.grant_id", "grant.resources", "grant.role", "policy.condition", "policy.effect", "policy.name",
    "client.address", "error.type", "rpc.method", "langtrain.decision", "langtrain.model", "langtrain.principal",
    "grpc.max_concurrent_streams", "grpc.max_receive_message_length", "grpc.ssl_target_name_override",
}  # fmt: skip
# Reasons that are spelt like a key of the config.
ALSO_KEYS = {"upstream.queue_timeout"}
# Kinds that are spelt like a permission.
ALSO_PERMISSIONS = {"sidecar.drain"}
# As OTHER_TEXTS, of texts that are put together.
OTHER_FORMS = {
    "authorization.{}", "batch.{}", "langtrain.{}", "sidecar.{}", "{}.begins", "{}.certificate", "{}.expires", "{}.pem",
    "{}.principal", "{}.version", "{}.{}",
}  # fmt: skip
# Reasons that helpers put together, and the helper that is given the rest of each.
HELPERS = {"identify.{}": "unauthenticated", "request.{}": "_invalid"}


@cache
def trees() -> tuple[ast.Module, ...]:
    """The program's modules, without the demo."""
    files = [*(REPOSITORY / "sidecar").rglob("*.py"), *(REPOSITORY / "interceptors").rglob("*.py")]
    return tuple(ast.parse(file.read_text("utf-8")) for file in files if "demo" not in file.parts)


@cache
def nodes(kind: type[ast.AST]) -> list[ast.AST]:
    return [node for tree in trees() for node in ast.walk(tree) if isinstance(node, kind)]


def calls(*names: str) -> Iterator[ast.Call]:
    """Calls of a function or method of one of these names."""
    for node in nodes(ast.Call):
        assert isinstance(node, ast.Call)
        if getattr(node.func, "id", getattr(node.func, "attr", "")) in names:
            yield node


def texts(node: ast.AST) -> list[str]:
    return [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def form(node: ast.JoinedStr) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


def dotted() -> set[str]:
    """Every reason and kind in the code; of those with a part that varies, `{}` stands for it."""
    parts = {id(part) for node in nodes(ast.JoinedStr) for part in ast.walk(node)}
    found = {
        str(node.value)
        for node in nodes(ast.Constant)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
    }
    permissions = registry("auto").permissions - ALSO_PERMISSIONS
    permissions |= builtin.NAMES.union(*(role.permissions for role in builtin.ROLES))
    found = {text for text in found if DOTTED.fullmatch(text)} - OTHER_TEXTS - permissions
    found = {text for text in found if text in ALSO_KEYS or field_at(Config, tuple(text.split("."))) is None}
    forms = {form(node) for node in nodes(ast.JoinedStr) if isinstance(node, ast.JoinedStr)}
    forms = {each for each in forms if FORM.fullmatch(each)} - OTHER_FORMS
    for family, helper in HELPERS.items():
        forms.remove(family)
        found |= {family.format(texts(call.args[0])[0]) for call in calls(helper)}
    forms.remove("http2.{}")
    found |= {f"http2.{code.lower()}" for code in faults()}
    return found | forms


def faults() -> set[str]:
    """HTTP/2's error codes with which a connection is ended for what came on it."""
    given = [call.args[0] for call in calls("ConnectionFault", "abort") if call.args]
    codes = {node.attr for node in given if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode"}
    return codes - {"NO_ERROR"}


def floods() -> set[str]:
    """What is said of a connection that goes beyond a limit."""
    ended = [call for call in calls("ConnectionFault", "abort") if call.args]
    return {text for call in ended if "ENHANCE_YOUR_CALM" in ast.unparse(call.args[0]) for text in texts(call.args[1])}


def logged() -> set[str]:
    """Every event that is logged. `level` is a method of a log's in crew.py."""
    found = set[str]()
    for call in calls(*LOGGING, "level"):
        owner = getattr(call.func, "value", None)
        if owner is None or getattr(owner, "id", "") in ("log", "_log"):
            found |= {text for text in texts(call.args[0]) if re.fullmatch(r"[a-z_]+", text)} if call.args else set()
    return found


def alerts() -> set[str]:
    groups = YAML(typ="safe").load(REPOSITORY / "deploy" / "prometheus" / "alerts.yaml")["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def checks() -> set[str]:
    """Of the probes."""
    return {text for call in calls("Check") if call.args for text in texts(call.args[0])[:1]}


def results() -> set[str]:
    """Of attempts to connect to a model server."""
    return {"success", DialError.result, *(kind.result for kind in DialError.__subclasses__())}


def drops() -> set[str]:
    """Why spans and lines of the access log are lost."""
    names = ("FULL", "QUEUE_FULL", "COLLECTOR", "INVALID", "UNWRITTEN")
    found = set[str]()
    for file in (REPOSITORY / "sidecar" / "telemetry").glob("*.py"):
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") in names and node.value is not None:
                found |= set(texts(node.value))
    return found


def statuses() -> set[str]:
    """Of exits."""
    given = [call.args[0] for call in calls("exit", "_exit") if call.args]
    return {str(each.value) for each in given if isinstance(each, ast.Constant)}


def rows(*heads: str) -> dict[str, str]:
    """What stands in backticks in the first column of tables with one of these heads → its whole row."""
    found: dict[str, str] = {}
    head = ""
    for line in PAGE.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            head = ""
        elif not head:
            head = line.split("|")[1].strip()
        elif head in heads and not line.startswith("| ---"):
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            assert names, line
            for name in names:
                assert name not in found, f"{name} stands there twice"
                found[name] = line
    return found


def told(*heads: str) -> set[str]:
    return {re.sub(r"<[a-z]+>", "{}", name) for name in rows(*heads)}


PARTS: list[tuple[str, tuple[str, ...], Callable[[], set[str]]]] = [
    ("reasons and kinds", ("reason", "kind"), lambda: dotted() | {"deadline"}),
    ("floods", ("sentence",), floods),
    ("log events", ("event",), logged),
    ("alerts", ("alert",), alerts),
    ("checks", ("check",), checks),
    ("drops", ("dropped for",), drops),
    ("exit statuses", ("exit status",), statuses),
    ("results", ("result",), results),
]


@pytest.mark.parametrize(("heads", "coded"), [part[1:] for part in PARTS], ids=[part[0] for part in PARTS])
def test_the_page_has_what_the_code_can_say_and_nothing_else(
    heads: tuple[str, ...], coded: Callable[[], set[str]]
) -> None:
    in_page, in_code = told(*heads), coded()
    assert in_code, "nothing was found in the code"
    assert in_page - in_code == set(), "the page has more than the code"
    assert in_code - in_page == set(), "the code has more than the page"


def test_statuses_and_messages_are_those_of_the_code() -> None:
    """Of denials whose code, reason and message are written out side by side."""
    page, looked = rows("reason"), 0
    for call in calls("Deny", "Cause", "WireFault", "fail"):
        if len(call.args) < 2 or not isinstance(call.args[1], ast.Constant) or call.args[1].value not in page:
            continue
        row = page[str(call.args[1].value)]
        code = re.fullmatch(r"Code\.([A-Z_]+)", ast.unparse(call.args[0]))
        said = [code[1]] if code else []
        if len(call.args) > 2 and isinstance(call.args[2], ast.Constant):
            said.append(str(call.args[2].value))
        above = "the same" in row
        assert above or [text for text in said if text not in row] == [], row
        looked += 1
    assert looked > 40


def test_levels_are_those_of_the_code() -> None:
    page = rows("event")
    for call in calls(*LOGGING):
        if getattr(getattr(call.func, "value", None), "id", "") in ("log", "_log"):
            for event in texts(call.args[0]):
                level = page[event].split("|")[2]
                assert getattr(call.func, "attr", "") in level, f"{event} is logged as another level than {level}"


def test_what_alerts_say_of_themselves() -> None:
    page = rows("alert")
    groups = YAML(typ="safe").load(REPOSITORY / "deploy" / "prometheus" / "alerts.yaml")["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert page[rule["alert"]].split("|")[2].strip() == rule["labels"]["severity"]


def test_the_sentences_are_a_metrics_label() -> None:
    assert f"`{ABUSE_CLOSURES.name}{{reason}}`" in PAGE.read_text("utf-8")
