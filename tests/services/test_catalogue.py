"""Every method that we serve demands a permission, and the program knows which."""

from __future__ import annotations

import re
from importlib import import_module

from google.protobuf import descriptor_pb2

from interceptors.access import SENSITIVE, covers
from langtrain.v1 import permissions_pb2
from sidecar.policy.builtin import BY_NAME
from sidecar.relay import routes
from sidecar.relay.codecs.tables import OWN
from sidecar.services import catalogue
from tests.processes import REPOSITORY

PROTOS = REPOSITORY / "proto"
PERMISSION = re.compile(
    r"(access|administrators|api_keys|certificates|grants|groups|policies|revocations|roles|sidecar|tokens)(\.[a-z]+)+"
)


def test_every_method_of_every_protocol_file_declares_its_permission() -> None:
    """Read from the files that there are, so that none is missed by what the program lists."""
    declared = {}
    for file in sorted(PROTOS.rglob("*.proto")):
        module = import_module(".".join(file.relative_to(PROTOS).with_suffix("").parts) + "_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                options = method.GetOptions()
                path = f"/{service.full_name}/{method.name}"
                assert options.HasExtension(permissions_pb2.permission), f"{path} declares no permission"
                declared[path] = options.Extensions[permissions_pb2.permission]
    assert declared == catalogue.permissions()
    assert [text for text in declared.values() if not PERMISSION.fullmatch(text)] == []


def test_the_permissions_of_the_sidecar() -> None:
    service, keys = "/langtrain.v1.SidecarService/", "/langtrain.v1.ApiKeyService/"
    policies, revoking = "/langtrain.v1.PolicyService/", "/langtrain.v1.RevocationService/"
    assert catalogue.permissions() == {
        "/langtrain.v1.AdministratorService/ClaimAdministrator": "administrators.claim",
        f"{keys}CreateApiKey": "api_keys.create",
        f"{keys}GetApiKey": "api_keys.read",
        f"{keys}ListApiKeys": "api_keys.read",
        f"{keys}RotateApiKey": "api_keys.rotate",
        f"{keys}FetchApiKey": "api_keys.fetch",
        f"{keys}RevokeApiKey": "api_keys.revoke",
        f"{policies}CreateRole": "roles.write",
        f"{policies}UpdateRole": "roles.write",
        f"{policies}DeleteRole": "roles.write",
        f"{policies}GetRole": "roles.read",
        f"{policies}ListRoles": "roles.read",
        f"{policies}CreateGroup": "groups.write",
        f"{policies}UpdateGroup": "groups.write",
        f"{policies}DeleteGroup": "groups.write",
        f"{policies}GetGroup": "groups.read",
        f"{policies}ListGroups": "groups.read",
        f"{policies}CreateGrant": "grants.write",
        f"{policies}RevokeGrant": "grants.write",
        f"{policies}GetGrant": "grants.read",
        f"{policies}ListGrants": "grants.read",
        f"{policies}CreatePolicy": "policies.write",
        f"{policies}UpdatePolicy": "policies.write",
        f"{policies}DeletePolicy": "policies.write",
        f"{policies}GetPolicy": "policies.read",
        f"{policies}ListPolicies": "policies.read",
        f"{policies}ListPolicyVersions": "policies.read",
        f"{policies}Check": "access.check",
        f"{policies}CheckMany": "access.check",
        f"{policies}Explain": "access.explain",
        f"{policies}Simulate": "access.explain",
        f"{policies}ListAccess": "access.explain",
        f"{revoking}RevokeToken": "tokens.revoke",
        f"{revoking}RevokeTokens": "tokens.revoke",
        f"{revoking}RevokeCertificate": "certificates.revoke",
        f"{revoking}ListRevocations": "revocations.read",
        f"{service}GetStatus": "sidecar.status",
        f"{service}WatchStatus": "sidecar.status",
        f"{service}CheckConfig": "sidecar.config.check",
        f"{service}Drain": "sidecar.drain",
        f"{service}GetLogLevel": "sidecar.logs.read",
        f"{service}SetLogLevel": "sidecar.logs.write",
    }
    assert catalogue.streams() == {f"{service}WatchStatus"} == routes.STREAMS.difference(routes.REFLECTION)


def test_the_relay_knows_what_our_own_methods_need() -> None:
    assert catalogue.permissions() == OWN


def test_the_protocol_files_are_no_package() -> None:
    """`proto` is the name of another distribution's package."""
    assert list(PROTOS.rglob("*.py")) == []


def test_a_method_without_one_is_found() -> None:
    options = descriptor_pb2.MethodOptions()
    assert not options.HasExtension(permissions_pb2.permission)
    assert options.Extensions[permissions_pb2.permission] == ""


def test_the_documents_table_is_this_one() -> None:
    text = (REPOSITORY / "docs" / "services.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)/(\w+)` \| `([a-z_.]+)` \|", text, re.MULTILINE)
    assert {
        f"/langtrain.v1.{service}/{method}": permission for service, method, permission in rows
    } == catalogue.permissions()


def test_who_guards_access_may_do_all_but_make_keys_and_run_the_sidecar() -> None:
    held = BY_NAME["builtin.security_officer"].permissions
    lacking = {
        permission
        for permission in catalogue.permissions().values()
        if permission not in held and (permission in SENSITIVE or not any(covers(each, permission) for each in held))
    }
    assert lacking == {
        "administrators.claim",  # by a rule of its own whoever is known has it, and a credential is what it takes
        "api_keys.create", "api_keys.rotate",
        "sidecar.config.check", "sidecar.drain", "sidecar.logs.read", "sidecar.logs.write", "sidecar.status",
    }  # fmt: skip
