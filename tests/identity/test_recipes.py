"""The access guide's recipes, read from the page, with tokens and key sets of the shapes that the issuers document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from interceptors.chain import Chain
from interceptors.contract import Code, Method
from interceptors.facts import Principal
from sidecar import wiring
from sidecar.config.load import parse
from sidecar.config.model import Config
from sidecar.identity.held import Told
from tests.identity.issuing import jwk, jwks, token
from tests.playbook import STARTED, Session
from tests.processes import REPOSITORY

PAGE = REPOSITORY / "docs" / "access.md"
HEADING = re.compile(r"^#### (.+?)\n(.*?)(?=^#{2,4} )", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REST = "listen: {tls: {client_ca: ca.pem, client_certificates: none}}\nupstream: {address: '127.0.0.1:8001'}\n"
LIVE = Method("/inference.GRPCInferenceService/ServerLive")
NOW = int(STARTED)
MODELS = "https://models.example.org"
UNKNOWN_ISSUER = (Code.UNAUTHENTICATED, "identify.token_issuer")
AUDIENCE = (Code.UNAUTHENTICATED, "identify.token_audience")
SUBJECT = (Code.UNAUTHENTICATED, "identify.token_subject")
TYPE = (Code.UNAUTHENTICATED, "identify.token_type")
LIFETIME = (Code.UNAUTHENTICATED, "identify.token_lifetime")
NO_RULE = (Code.PERMISSION_DENIED, "authorize.no_rule")


@dataclass(frozen=True)
class Shape:
    """What an issuer documents. source: where.  header: less its algorithm and key id.  claims: of a token that is let
    in.  key: members of a published key beside the public key itself; None for one that is not there.

    name, roles, attributes: what the recipe makes of it.  refused: changes of the claims, and what becomes of them.
    """

    source: str
    claims: Mapping[str, Any]
    name: str
    attributes: Mapping[str, Any]
    refused: Mapping[str, tuple[Mapping[str, Any], tuple[Code, str]]]
    header: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = "RS256"
    key: Mapping[str, Any] = field(default_factory=dict)
    roles: frozenset[str] = frozenset()


SHAPES = {
    "Okta": Shape(
        "developer.okta.com/docs/reference/api/oidc: access tokens of a custom authorization server; no `typ`",
        {
            "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "aud": "api://default",
            "iss": "https://acme.okta.com/oauth2/default", "iat": NOW, "exp": NOW + 3600,
            "cid": "0oa1hm4POxgJM6CPu0g4", "scp": ["models.score"], "sub": "0oa1hm4POxgJM6CPu0g4",
            "groups": ["Everyone", "ml-platform"],
        },
        "user:okta/0oa1hm4POxgJM6CPu0g4",
        {"client": "0oa1hm4POxgJM6CPu0g4", "scopes": ("models.score",)},
        {
            "the organisation's own server": ({"iss": "https://acme.okta.com", "aud": "https://acme.okta.com"},
                                              UNKNOWN_ISSUER),
            "another server of the organisation": ({"iss": "https://acme.okta.com/oauth2/aus9o8wzkhckw9TLa0h7z"},
                                                   UNKNOWN_ISSUER),
            "another organisation": ({"iss": "https://globex.okta.com/oauth2/default"}, UNKNOWN_ISSUER),
            "another API": ({"aud": "api://billing"}, AUDIENCE),
            "an ID token": ({"aud": "0oa1hm4POxgJM6CPu0g4"}, AUDIENCE),
            "a user": ({"sub": "ada@acme.com", "uid": "00uid4BxXw6I6TV4m0g3"}, NO_RULE),
        },
        header={"typ": None},
        key={"alg": "RS256"},
        roles=frozenset({"builtin.ml_engineer"}),
    ),
    "Microsoft Entra ID": Shape(
        "learn.microsoft.com/entra/identity-platform/access-token-claims-reference: v2.0",
        {
            "aud": "00001111-aaaa-2222-bbbb-3333cccc4444", "ver": "2.0", "iat": NOW, "nbf": NOW, "exp": NOW + 3900,
            "iss": "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0",
            "aio": "E2ZgYPjNGiSQ", "azp": "22223333-cccc-4444-dddd-5555eeee6666", "azpacr": "1",
            "oid": "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb", "rh": "0.AXEA", "roles": ["Models.Score", "Models.Other"],
            "sub": "aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb", "tid": "aaaabbbb-0000-cccc-1111-dddd2222eeee",
            "uti": "kH4S0nNqRkq0eX1BAAAA",
        },
        "user:entra/aaaaaaaa-0000-1111-2222-bbbbbbbbbbbb",
        {"client": "22223333-cccc-4444-dddd-5555eeee6666"},
        {
            "another tenant": ({"iss": "https://login.microsoftonline.com/bbbbcccc-1111-dddd-2222-eeee3333ffff/v2.0"},
                               UNKNOWN_ISSUER),
            "a token of v1.0": ({"iss": "https://sts.windows.net/aaaabbbb-0000-cccc-1111-dddd2222eeee/", "ver": "1.0"},
                                UNKNOWN_ISSUER),
            "another API": ({"aud": "00000003-0000-0000-c000-000000000000"}, AUDIENCE),
            "a user without the scope profile": ({"oid": None}, SUBJECT),
            "another service": ({"oid": "cccccccc-0000-1111-2222-dddddddddddd"}, NO_RULE),
        },
        header={"typ": "JWT", "x5t": "i6lGk3FZzxRcUb2C3nEQ7syHJlY"},
        key={"x5t": "i6lGk3FZzxRcUb2C3nEQ7syHJlY", "x5c": ["MIIDBTCCAe2gAwIBAgIQ"], "issuer": "…/v2.0"},
        roles=frozenset({"builtin.ml_engineer"}),
    ),
    "Kubernetes service accounts": Shape(
        "kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin: a projected token; no `typ`",
        {
            "aud": ["sidecar"], "exp": NOW + 3600, "iat": NOW, "nbf": NOW,
            "iss": "https://kubernetes.default.svc.cluster.local", "jti": "aed34954-b33a-4142-b1ec-389d6bbb4936",
            "kubernetes.io": {
                "namespace": "ml",
                "node": {"name": "my-node", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
                "pod": {"name": "trainer-0", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
                "serviceaccount": {"name": "trainer", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
            },
            "sub": "system:serviceaccount:ml:trainer",
        },
        "user:kubernetes/system:serviceaccount:ml:trainer",
        {"namespace": "ml", "pod": "trainer-0"},
        {
            "the API server's own audience": ({"aud": ["https://kubernetes.default.svc.cluster.local"]}, AUDIENCE),
            "another namespace": ({"sub": "system:serviceaccount:web:trainer"}, NO_RULE),
            "a namespace that begins so": ({"sub": "system:serviceaccount:ml2:trainer"}, NO_RULE),
            "another cluster": ({"iss": "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE"}, UNKNOWN_ISSUER),
            "one that is extended to a year": ({"exp": NOW + 31_536_000}, LIFETIME),
            "a legacy secret's": (
                {"iss": "kubernetes/serviceaccount", "aud": None, "exp": None, "iat": None, "nbf": None},
                UNKNOWN_ISSUER,
            ),
        },
        header={"typ": None},
        key={"alg": "RS256"},
    ),
    "SPIRE": Shape(
        "SPIFFE JWT-SVID 2 and 3; spire/support/oidc-discovery-provider/handler.go: keys have `alg`, and no `use`",
        {
            "aud": ["spiffe://example.org/sidecar"], "exp": NOW + 300, "iat": NOW, "iss": "https://oidc.example.org",
            "sub": "spiffe://example.org/ml/trainer",
        },
        "user:spire/spiffe://example.org/ml/trainer",
        {},
        {
            "another workload": ({"sub": "spiffe://example.org/web/shop"}, NO_RULE),
            "a path that goes deeper": ({"sub": "spiffe://example.org/ml/a/b"}, NO_RULE),
            "another trust domain": ({"sub": "spiffe://globex.org/ml/trainer"}, NO_RULE),
            "for somebody else": ({"aud": ["spiffe://example.org/database"]}, AUDIENCE),
            "without jwt_issuer": ({"iss": None}, UNKNOWN_ISSUER),
        },
        header={"typ": "JWT"},
        algorithm="ES256",
        key={"use": None, "alg": "ES256"},
    ),
    "GitHub Actions": Shape(
        "docs.github.com/actions/reference/security/oidc",
        {
            "actor": "ada", "actor_id": "12", "aud": MODELS, "base_ref": "", "event_name": "workflow_dispatch",
            "exp": NOW + 300, "head_ref": "", "iat": NOW, "nbf": NOW - 300,
            "iss": "https://token.actions.githubusercontent.com",
            "job_workflow_ref": "acme/ml/.github/workflows/train.yaml@refs/heads/main",
            "jti": "1e410ab1-302e-4e33-8c5f-869a4bd12c3b", "ref": "refs/heads/main", "ref_protected": "true",
            "ref_type": "branch", "repository": "acme/ml", "repository_id": "128", "repository_owner": "acme",
            "repository_owner_id": "65", "repository_visibility": "private", "run_attempt": "1", "run_id": "30",
            "run_number": "10", "runner_environment": "github-hosted", "sha": "b8962f4eaff8e14fc646cb22c596c81e67d7",
            "sub": "repo:acme/ml:ref:refs/heads/main", "workflow": "train",
            "workflow_ref": "acme/ml/.github/workflows/train.yaml@refs/heads/main",
        },
        "user:github/repo:acme/ml:ref:refs/heads/main",
        {
            "repository": "acme/ml", "owner": "65", "ref": "refs/heads/main",
            "workflow": "acme/ml/.github/workflows/train.yaml@refs/heads/main",
        },
        {
            "another repository": ({"sub": "repo:globex/ml:ref:refs/heads/main", "repository": "globex/ml"}, NO_RULE),
            "another branch": ({"sub": "repo:acme/ml:ref:refs/heads/main2"}, NO_RULE),
            "a branch below": ({"sub": "repo:acme/ml:ref:refs/heads/main/x"}, NO_RULE),
            "a pull request": ({"sub": "repo:acme/ml:pull_request"}, NO_RULE),
            "who took over a name": ({"sub": "repo:acme@66/ml@129:environment:production"}, NO_RULE),
            "the audience that comes unasked": ({"aud": "https://github.com/acme"}, AUDIENCE),
            "GitHub Enterprise Server": ({"iss": "https://github.example.org/_services/token"}, UNKNOWN_ISSUER),
        },
        header={"typ": "JWT", "x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE"},
        key={"alg": "RS256", "x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE", "x5c": ["MIIDKzCCAhOgAwIBAgIUDnwm6eRIqGFA3o"]},
    ),
    "GitLab CI": Shape(
        "docs.gitlab.com/ci/secrets/id_token_authentication",
        {
            "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/ml",
            "user_id": "1", "user_login": "ada", "user_email": "ada@acme.com", "user_access_level": "developer",
            "pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch",
            "ref_path": "refs/heads/main", "ref_protected": "true", "groups_direct": ["acme"], "runner_id": 1,
            "runner_environment": "gitlab-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "project_visibility": "private", "ci_config_ref_uri": "gitlab.com/acme/ml//.gitlab-ci.yml@refs/heads/main",
            "ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b", "iss": "https://gitlab.com", "iat": NOW, "nbf": NOW - 5,
            "exp": NOW + 3600, "sub": "project_path:acme/ml:ref_type:branch:ref:main", "aud": MODELS,
        },
        "user:gitlab/project_path:acme/ml:ref_type:branch:ref:main",
        {"project": "acme/ml", "ref": "main", "protected": "true"},
        {
            "another project": ({"sub": "project_path:globex/ml:ref_type:branch:ref:main"}, NO_RULE),
            "a tag of the branch's name": ({"sub": "project_path:acme/ml:ref_type:tag:ref:main"}, NO_RULE),
            "for somebody else": ({"aud": "https://vault.example.com"}, AUDIENCE),
            "a GitLab of somebody's own": ({"iss": "https://gitlab.example.com"}, UNKNOWN_ISSUER),
        },
        header={"typ": "JWT"},
        key={"alg": "RS256"},
    ),
}  # fmt: skip


def recipes() -> dict[str, str]:
    """By their headings, what the page shows."""
    found = {title: BLOCK.findall(text) for title, text in HEADING.findall(PAGE.read_text("utf-8"))}
    return {title: blocks[0] for title, blocks in found.items() if blocks}


@cache
def loaded(title: str) -> Config:
    return parse(REST + recipes()[title], Path("/etc/sidecar"), {})


def chain(title: str) -> Chain:
    """The links that decide, with the issuer's keys as if they had just been fetched from where the recipe says."""
    config, shape = loaded(title), SHAPES[title]
    told = Told(lambda: 0.0)
    published = {**jwk(shape.algorithm), **shape.key}
    (source,) = wiring.sources(config)
    told.listen(source.key, (jwks({name: value for name, value in published.items() if value is not None}), STARTED))
    return Chain([wiring.identification(config, wiring.keys(config, told)), wiring.authorization(config)])


def called(title: str, changed: Mapping[str, Any], **how: Any) -> Session:
    shape = SHAPES[title]
    said = {name: value for name, value in {**shape.claims, **changed}.items() if value is not None}
    header = {**shape.header, **how.pop("header", {})}
    text = token(said, shape.algorithm, header=header, without=[name for name in header if header[name] is None], **how)
    session = Session(chain(title), LIVE, [(b"authorization", f"Bearer {text}".encode())])
    session.start()
    return session


def test_every_recipe_has_its_shape() -> None:
    assert recipes().keys() == SHAPES.keys()


@pytest.mark.parametrize("title", SHAPES)
def test_it_lets_in_whom_it_names(title: str) -> None:
    shape, session = SHAPES[title], called(title, {})
    assert session.told.denied is None
    principal = session.call.get(Principal)
    assert (principal.kind, principal.name, principal.tenant) == ("user", shape.name, "default")
    assert principal.roles == shape.roles
    assert dict(principal.attributes) == shape.attributes


@pytest.mark.parametrize(
    ("title", "which"), [(title, which) for title, shape in SHAPES.items() for which in shape.refused]
)
def test_it_keeps_out_others(title: str, which: str) -> None:
    changed, expected = SHAPES[title].refused[which]
    denied = called(title, changed).told.denied
    assert denied is not None
    assert (denied.code, denied.reason) == expected


@pytest.mark.parametrize("title", SHAPES)
def test_it_is_verified(title: str) -> None:
    """By the key that is published, and in time."""
    reasons = {
        "identify.token_signature": called(title, {}, which=1),
        "identify.token_expired": called(title, {"exp": NOW}),
        "identify.token_early": called(title, {"nbf": NOW + 61}),
    }
    for reason, session in reasons.items():
        assert session.told.denied is not None
        assert session.told.denied.reason == reason


def test_who_is_meant_by_number_is_let_in() -> None:
    """Of a repository that was made of late."""
    session = called("GitHub Actions", {"sub": "repo:acme@65/ml@128:environment:production"})
    assert session.told.denied is None


@pytest.mark.parametrize("title", ["Microsoft Entra ID", "GitHub Actions", "GitLab CI"])
def test_types_are_pinned(title: str) -> None:
    for kind in ("at+jwt", None):
        denied = called(title, {}, header={"typ": kind}).told.denied
        assert denied is not None
        assert (denied.code, denied.reason) == TYPE
