"""langtrain.v1.PolicyService: protobuf to values and back, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import Message

from interceptors.contract import Code
from langtrain.v1 import policies_pb2 as pb
from langtrain.v1.policies_pb2_grpc import PolicyServiceServicer
from sidecar.errors import RequestError, SidecarError
from sidecar.internal.called import caller_of
from sidecar.policy import messages, questions
from sidecar.policy.asked import Asked
from sidecar.policy.desk import MOST_PAGE, Page, PolicyDesk
from sidecar.policy.inquiry import Inquiry

PAGE: Final = 100
MOST_QUESTIONS: Final = 1_000
SERVICE: Final = "/langtrain.v1.PolicyService/"


class PoliciesOffError(SidecarError):
    """The config does not let roles and policies decide."""

    code = Code.FAILED_PRECONDITION
    public = "roles and policies are off: authorization.policies is not set"
    wire_reason = "POLICIES_OFF"


class Counter(NamedTuple):
    """Whom the service asks. clock: Unix seconds."""

    desk: PolicyDesk
    inquiry: Inquiry
    clock: Callable[[], float]


class PolicyService(PolicyServiceServicer):
    """Safe for many threads."""

    def __init__(self, counter: Counter | None) -> None:
        """counter: None where policies are off."""
        self._counter = counter

    @property
    def _desk(self) -> PolicyDesk:
        return self._open.desk

    @property
    def _inquiry(self) -> Inquiry:
        return self._open.inquiry

    @property
    def _open(self) -> Counter:
        if self._counter is None:
            raise PoliciesOffError("authorization.policies is not set")
        return self._counter

    # --- roles --------------------------------------------------------------------------------------------------

    def CreateRole(self, request: pb.CreateRoleRequest, context: grpc.ServicerContext) -> pb.CreateRoleResponse:
        asked = _asked(context, "CreateRole", request)
        role = messages.read_role(request.role, asked.caller.tenant)
        return pb.CreateRoleResponse(role=messages.role(self._desk.create(asked, role, request.role.description)))

    def UpdateRole(self, request: pb.UpdateRoleRequest, context: grpc.ServicerContext) -> pb.UpdateRoleResponse:
        asked, said = _asked(context, "UpdateRole", request), request.role
        role = messages.read_role(said, asked.caller.tenant)
        return pb.UpdateRoleResponse(role=messages.role(self._desk.update(asked, role, said.description, said.version)))

    def DeleteRole(self, request: pb.DeleteRoleRequest, context: grpc.ServicerContext) -> pb.DeleteRoleResponse:
        self._desk.remove(
            _asked(context, "DeleteRole", allow_lockout=request.allow_lockout),
            "role",
            request.name,
            request.version,
            force=request.force,
        )
        return pb.DeleteRoleResponse()

    def GetRole(self, request: pb.GetRoleRequest, context: grpc.ServicerContext) -> pb.GetRoleResponse:
        return pb.GetRoleResponse(role=messages.role(self._desk.get(_asked(context, "GetRole"), "role", request.name)))

    def ListRoles(self, request: pb.ListRolesRequest, context: grpc.ServicerContext) -> pb.ListRolesResponse:
        page = self._page(context, "ListRoles", "role", request)
        return pb.ListRolesResponse(roles=map(messages.role, page.stored), next_page_token=page.after)

    # --- groups -------------------------------------------------------------------------------------------------

    def CreateGroup(self, request: pb.CreateGroupRequest, context: grpc.ServicerContext) -> pb.CreateGroupResponse:
        asked = _asked(context, "CreateGroup", request)
        group = messages.read_group(request.group, asked.caller.tenant)
        return pb.CreateGroupResponse(group=messages.group(self._desk.create(asked, group, request.group.description)))

    def UpdateGroup(self, request: pb.UpdateGroupRequest, context: grpc.ServicerContext) -> pb.UpdateGroupResponse:
        asked, said = _asked(context, "UpdateGroup", request), request.group
        group = messages.read_group(said, asked.caller.tenant)
        updated = self._desk.update(asked, group, said.description, said.version)
        return pb.UpdateGroupResponse(group=messages.group(updated))

    def DeleteGroup(self, request: pb.DeleteGroupRequest, context: grpc.ServicerContext) -> pb.DeleteGroupResponse:
        self._desk.remove(
            _asked(context, "DeleteGroup", allow_lockout=request.allow_lockout),
            "group",
            request.name,
            request.version,
            force=request.force,
        )
        return pb.DeleteGroupResponse()

    def GetGroup(self, request: pb.GetGroupRequest, context: grpc.ServicerContext) -> pb.GetGroupResponse:
        found = self._desk.get(_asked(context, "GetGroup"), "group", request.name)
        return pb.GetGroupResponse(group=messages.group(found))

    def ListGroups(self, request: pb.ListGroupsRequest, context: grpc.ServicerContext) -> pb.ListGroupsResponse:
        page = self._page(context, "ListGroups", "group", request)
        return pb.ListGroupsResponse(groups=map(messages.group, page.stored), next_page_token=page.after)

    # --- grants -------------------------------------------------------------------------------------------------

    def CreateGrant(self, request: pb.CreateGrantRequest, context: grpc.ServicerContext) -> pb.CreateGrantResponse:
        asked = _asked(context, "CreateGrant", request)
        grant = messages.read_grant(request.grant, asked.caller.tenant)
        return pb.CreateGrantResponse(grant=messages.grant(self._desk.create(asked, grant)))

    def RevokeGrant(self, request: pb.RevokeGrantRequest, context: grpc.ServicerContext) -> pb.RevokeGrantResponse:
        asked = _asked(context, "RevokeGrant", allow_lockout=request.allow_lockout)
        self._desk.remove(asked, "grant", request.grant_id, reason=request.reason)
        return pb.RevokeGrantResponse()

    def GetGrant(self, request: pb.GetGrantRequest, context: grpc.ServicerContext) -> pb.GetGrantResponse:
        found = self._desk.get(_asked(context, "GetGrant"), "grant", request.grant_id)
        return pb.GetGrantResponse(grant=messages.grant(found))

    def ListGrants(self, request: pb.ListGrantsRequest, context: grpc.ServicerContext) -> pb.ListGrantsResponse:
        page = self._page(context, "ListGrants", "grant", request, request.member, request.role)
        return pb.ListGrantsResponse(grants=map(messages.grant, page.stored), next_page_token=page.after)

    # --- policies -----------------------------------------------------------------------------------------------

    def CreatePolicy(self, request: pb.CreatePolicyRequest, context: grpc.ServicerContext) -> pb.CreatePolicyResponse:
        asked, said = _asked(context, "CreatePolicy", request), request.policy
        policy = messages.read_policy(said, asked.caller.tenant)
        return pb.CreatePolicyResponse(policy=messages.policy(self._desk.create(asked, policy, said.description)))

    def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: grpc.ServicerContext) -> pb.UpdatePolicyResponse:
        asked, said = _asked(context, "UpdatePolicy", request), request.policy
        policy = messages.read_policy(said, asked.caller.tenant)
        updated = self._desk.update(asked, policy, said.description, said.version)
        return pb.UpdatePolicyResponse(policy=messages.policy(updated))

    def DeletePolicy(self, request: pb.DeletePolicyRequest, context: grpc.ServicerContext) -> pb.DeletePolicyResponse:
        self._desk.remove(_asked(context, "DeletePolicy"), "policy", request.name, request.version)
        return pb.DeletePolicyResponse()

    def GetPolicy(self, request: pb.GetPolicyRequest, context: grpc.ServicerContext) -> pb.GetPolicyResponse:
        found = self._desk.get(_asked(context, "GetPolicy"), "policy", request.name, request.version)
        return pb.GetPolicyResponse(policy=messages.policy(found))

    def ListPolicies(self, request: pb.ListPoliciesRequest, context: grpc.ServicerContext) -> pb.ListPoliciesResponse:
        page = self._page(context, "ListPolicies", "policy", request)
        return pb.ListPoliciesResponse(policies=map(messages.policy, page.stored), next_page_token=page.after)

    def ListPolicyVersions(
        self, request: pb.ListPolicyVersionsRequest, context: grpc.ServicerContext
    ) -> pb.ListPolicyVersionsResponse:
        asked = _asked(context, "ListPolicyVersions")
        page = self._desk.versions(asked, request.name, request.page_token, page_size(request.page_size))
        return pb.ListPolicyVersionsResponse(policies=map(messages.policy, page.stored), next_page_token=page.after)

    # --- what is decided ----------------------------------------------------------------------------------------

    def Check(self, request: pb.CheckRequest, context: grpc.ServicerContext) -> pb.CheckResponse:
        asked = _asked(context, "Check")
        question = questions.read_question(request.question, "question.", asked, self._open.clock())
        (made,) = self._inquiry.check(asked.caller.tenant, [question])
        return pb.CheckResponse(decision=questions.decision(made, question.now))

    def CheckMany(self, request: pb.CheckManyRequest, context: grpc.ServicerContext) -> pb.CheckManyResponse:
        asked = _asked(context, "CheckMany")
        _check_count(len(request.questions), least=1)
        read = questions.read_questions(request.questions, asked, self._open.clock())
        made = self._inquiry.check(asked.caller.tenant, read)
        pairs = zip(read, made, strict=True)
        return pb.CheckManyResponse(decisions=[questions.decision(each, question.now) for question, each in pairs])

    def Explain(self, request: pb.ExplainRequest, context: grpc.ServicerContext) -> pb.ExplainResponse:
        asked = _asked(context, "Explain")
        question = questions.read_question(request.question, "question.", asked, self._open.clock())
        return questions.explained(self._inquiry.explain(question), question.now)

    def Simulate(self, request: pb.SimulateRequest, context: grpc.ServicerContext) -> pb.SimulateResponse:
        asked = _asked(context, "Simulate")
        _check_count(len(request.questions), least=0)
        tenant = asked.caller.tenant
        change = questions.read_change(request, tenant)
        read = questions.read_questions(request.questions, asked, self._open.clock())
        found, calls = self._inquiry.simulate(tenant, change, read, questions.read_window(request))
        return questions.simulated(found, calls, request.most_changed)

    def ListAccess(self, request: pb.ListAccessRequest, context: grpc.ServicerContext) -> pb.ListAccessResponse:
        asked, most = _asked(context, "ListAccess"), page_size(request.page_size)
        about = pb.Question(permission=request.permission, resource=request.resource)
        question = questions.read_question(about, "", asked, self._open.clock())
        found, after = self._inquiry.reach(question, request.page_token, most)
        return pb.ListAccessResponse(reaches=map(questions.reach, found), next_page_token=after)

    def _page(
        self, context: grpc.ServicerContext, method: str, kind: str, request: Any, member: str = "", role: str = ""
    ) -> Page:
        asked = _asked(context, method)
        return self._desk.page(asked, kind, request.page_token, page_size(request.page_size), member, role)


def _check_count(count: int, least: int) -> None:
    """Raises RequestError."""
    if not least <= count <= MOST_QUESTIONS:
        raise RequestError([("questions", f"expected {least} to {MOST_QUESTIONS}, came {count}")])


def page_size(said: int) -> int:
    """Raises RequestError."""
    if not 0 <= said <= MOST_PAGE:
        raise RequestError([("page_size", f"expected 1 to {MOST_PAGE}, came {said}")])
    return said or PAGE


def _asked(
    context: grpc.ServicerContext, method: str, request: Message | None = None, allow_lockout: bool = False
) -> Asked:
    """request: one that changes something under an idempotency key, and says itself what it allows, if anything."""
    caller = caller_of(context)
    if request is None:
        return Asked(caller, SERVICE + method, allow_lockout=allow_lockout)
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("idempotency_key")
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
    key: str = getattr(request, "idempotency_key")  # noqa: B009 - of each of them
    return Asked(caller, SERVICE + method, key, digest, getattr(request, "allow_lockout", False))
