"""Of what there is, callers see what they may read."""

from __future__ import annotations

import pytest

from interceptors.authorize import Authorize, Rule
from interceptors.chain import Chain
from interceptors.contract import Code, Deny, View
from interceptors.facts import Principal
from interceptors.visible import Visible
from sidecar.relay.codecs.registry import registry
from tests.interceptors.test_authorize import A, known
from tests.playbook import Transcript, run
from tests.relay.codecs.inference import ORACLE

CODECS = registry("open-inference")
PATH = "/inference.GRPCInferenceService/RepositoryIndex"
INDEX = ORACLE["Index"](models=[{"name": name, "version": "1"} for name in ("digits", "fraud-1", "secret")])
EVERY = INDEX.SerializeToString()


def called(*rules: Rule, path: str = PATH, principal: Principal = A, answer: bytes = EVERY) -> Transcript:
    method = CODECS.method(path)
    assert method is not None
    chain = Chain([known(principal), Authorize(rules), Visible()])
    return run(chain, method, [b""], [answer], codec=CODECS.codec(path))


def rule(models: tuple[str, ...] | None, permissions: tuple[str, ...] | None = None) -> Rule:
    return Rule((A.name,), ("/**",), models, permissions)


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        ([rule(None)], ["digits", "fraud-1", "secret"]),
        ([rule(("digits",))], ["digits"]),
        ([rule(("digits", "fraud-*"))], ["digits", "fraud-1"]),
        ([rule(("digits",)), rule(("fraud-*",))], ["digits", "fraud-1"]),
        ([rule(("other",))], []),
        ([rule(("digits",), ("models.read",)), rule(("secret",), ("models.inference",))], ["digits"]),
    ],
)
@pytest.mark.parametrize("path", [PATH, "/inference.model_repository.ModelRepositoryService/RepositoryIndex"])
def test_an_index_has_what_its_caller_may_read(rules: list[Rule], seen: list[str], path: str) -> None:
    told = called(*rules, path=path)
    assert told.denied is None
    (raw,) = told.client
    assert [model.name for model in ORACLE["Index"].FromString(raw).models] == seen


def test_whoever_may_not_read_is_denied() -> None:
    told = called(rule(None, ("models.inference",)))
    assert told.denied == Deny(Code.PERMISSION_DENIED, "authorize.permission:models.read", "permission denied")
    assert told.upstream_headers is None


def test_an_index_that_cannot_be_read_is_not_passed_on() -> None:
    told = called(rule(("digits",)), answer=b"\xff")
    assert (told.denied, told.client) == (
        Deny(Code.INTERNAL, "visible.malformed", "response message cannot be read"), []
    )  # fmt: skip
    assert called(rule(None), answer=b"\xff").client == [b"\xff"]


def test_no_other_answer_is_looked_at() -> None:
    link = Visible()
    methods = [method for path in CODECS.paths if (method := CODECS.method(path))]
    assert {method.path for method in methods if link.depth(method, frozenset()) is View.BYTES} == {
        PATH, "/inference.model_repository.ModelRepositoryService/RepositoryIndex",
    }  # fmt: skip
