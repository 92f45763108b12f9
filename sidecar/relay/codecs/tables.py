"""The methods of each known service, as data: which sides are unary, what a call needs, how its messages name models.

Field numbers are those of Triton's grpc_service.proto, MLServer's dataplane.proto, KServe's grpc_predict_v2.proto
and tensorflow_serving/apis/*.proto. What stands in none of them is not known: streaming on both sides, naming
no model, so that a rule that names models refuses it, and in need of a permission that only rules give that name it.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from interceptors.access import (
    DEPLOY,
    INFERENCE,
    LOAD_CONFIG,
    LOAD_FILES,
    LOG_SETTINGS,
    READ,
    SHARED_MEMORY,
    TRACE_SETTINGS,
)
from sidecar.relay.codecs.batches import Count, examples, one, shapes, tensors
from sidecar.relay.codecs.names import Find, each_spec, either, none, pair, spec, streamed
from sidecar.relay.codecs.parameters import Demand, nothing, of_load, shared_memory


class Row(NamedTuple):
    """permission: what a call needs.  request, response: how messages on that side name models.

    count: how a request says its batch size.  demand: what else a request demands, of `special`.
    parameters: its messages may have parameters of the call; wrapped: its answers a level deeper.
    lists: its answers list models.
    """

    permission: str
    request: Find = none
    response: Find = none
    unary_request: bool = True
    unary_response: bool = True
    count: Count = one
    demand: Demand = nothing
    special: tuple[str, ...] = ()
    parameters: bool = False
    wrapped: bool = False
    lists: bool = False


Service: TypeAlias = dict[str, Row]

MODEL = pair(1, 2)
# Triton and MLServer: repository_name = 1, model_name = 2. KServe: model_name = 1.
REPOSITORY_MODEL = either(2, 1)

BATCH = shapes(5, 3)  # ModelInferRequest { repeated InferInputTensor inputs = 5; }, { repeated int64 shape = 3; }
EXAMPLES = examples(2)
# A map's entry has its value in field 2, as NamedTensorProto has its tensor.
TENSORS = tensors((2, 2))

INFER = Row(
    INFERENCE, MODEL, MODEL, count=BATCH, demand=shared_memory, special=(SHARED_MEMORY,), parameters=True
)  # fmt: skip
STREAM = INFER._replace(response=streamed, unary_request=False, unary_response=False, wrapped=True)
LOAD = Row(DEPLOY, REPOSITORY_MODEL, demand=of_load, special=(LOAD_FILES, LOAD_CONFIG))
INDEX = Row(READ, lists=True)

OPEN_INFERENCE: dict[str, Service] = {
    "inference.GRPCInferenceService": {
        "ServerLive": Row(READ),
        "ServerReady": Row(READ),
        "ServerMetadata": Row(READ),
        "ModelReady": Row(READ, MODEL),
        "ModelMetadata": Row(READ, MODEL, pair(1)),
        "ModelInfer": INFER,
        "ModelStreamInfer": STREAM,
        "ModelConfig": Row(READ, MODEL),
        "ModelStatistics": Row(READ, MODEL),
        "RepositoryIndex": INDEX,
        "RepositoryModelLoad": LOAD,
        "RepositoryModelUnload": Row(DEPLOY, REPOSITORY_MODEL),
        "SystemSharedMemoryStatus": Row(SHARED_MEMORY),
        "SystemSharedMemoryRegister": Row(SHARED_MEMORY),
        "SystemSharedMemoryUnregister": Row(SHARED_MEMORY),
        "CudaSharedMemoryStatus": Row(SHARED_MEMORY),
        "CudaSharedMemoryRegister": Row(SHARED_MEMORY),
        "CudaSharedMemoryUnregister": Row(SHARED_MEMORY),
        "TraceSetting": Row(TRACE_SETTINGS, pair(2)),
        "LogSettings": Row(LOG_SETTINGS),
    },
    "inference.model_repository.ModelRepositoryService": {
        "RepositoryIndex": INDEX,
        "RepositoryModelLoad": LOAD._replace(request=pair(2)),
        "RepositoryModelUnload": Row(DEPLOY, pair(2)),
    },
}

TF_SERVING: dict[str, Service] = {
    "tensorflow.serving.PredictionService": {
        "Classify": Row(INFERENCE, spec(1), spec(2), count=EXAMPLES),
        "Regress": Row(INFERENCE, spec(1), spec(2), count=EXAMPLES),
        "Predict": Row(INFERENCE, spec(1), spec(2), count=TENSORS),
        "MultiInference": Row(INFERENCE, each_spec(1, 1), each_spec(1, 1), count=EXAMPLES),
        "GetModelMetadata": Row(READ, spec(1), spec(1)),
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": Row(READ, spec(1)),
        # It says from where models are loaded, and unloads every one that it does not name, so it concerns all.
        "HandleReloadConfigRequest": Row(LOAD_CONFIG),
    },
    "tensorflow.serving.SessionService": {
        "SessionRun": Row(INFERENCE, spec(1), spec(3), count=TENSORS),
    },
}

# What any server may have beside its own protocol.
COMMON: dict[str, Service] = {
    "grpc.health.v1.Health": {
        "Check": Row(READ),
        "List": Row(READ),
        "Watch": Row(READ, unary_response=False),
    },
    "grpc.reflection.v1.ServerReflection": {
        "ServerReflectionInfo": Row(READ, unary_request=False, unary_response=False),
    },
    "grpc.reflection.v1alpha.ServerReflection": {
        "ServerReflectionInfo": Row(READ, unary_request=False, unary_response=False),
    },
}

# The sidecar's own, as the protocol files have them.
OWN: Final[dict[str, str]] = {
    "/langtrain.v1.AdministratorService/ClaimAdministrator": "administrators.claim",
    "/langtrain.v1.ApiKeyService/CreateApiKey": "api_keys.create",
    "/langtrain.v1.ApiKeyService/GetApiKey": "api_keys.read",
    "/langtrain.v1.ApiKeyService/ListApiKeys": "api_keys.read",
    "/langtrain.v1.ApiKeyService/RotateApiKey": "api_keys.rotate",
    "/langtrain.v1.ApiKeyService/FetchApiKey": "api_keys.fetch",
    "/langtrain.v1.ApiKeyService/RevokeApiKey": "api_keys.revoke",
    "/langtrain.v1.PolicyService/CreateRole": "roles.write",
    "/langtrain.v1.PolicyService/UpdateRole": "roles.write",
    "/langtrain.v1.PolicyService/DeleteRole": "roles.write",
    "/langtrain.v1.PolicyService/GetRole": "roles.read",
    "/langtrain.v1.PolicyService/ListRoles": "roles.read",
    "/langtrain.v1.PolicyService/CreateGroup": "groups.write",
    "/langtrain.v1.PolicyService/UpdateGroup": "groups.write",
    "/langtrain.v1.PolicyService/DeleteGroup": "groups.write",
    "/langtrain.v1.PolicyService/GetGroup": "groups.read",
    "/langtrain.v1.PolicyService/ListGroups": "groups.read",
    "/langtrain.v1.PolicyService/CreateGrant": "grants.write",
    "/langtrain.v1.PolicyService/RevokeGrant": "grants.write",
    "/langtrain.v1.PolicyService/GetGrant": "grants.read",
    "/langtrain.v1.PolicyService/ListGrants": "grants.read",
    "/langtrain.v1.PolicyService/CreatePolicy": "policies.write",
    "/langtrain.v1.PolicyService/UpdatePolicy": "policies.write",
    "/langtrain.v1.PolicyService/DeletePolicy": "policies.write",
    "/langtrain.v1.PolicyService/GetPolicy": "policies.read",
    "/langtrain.v1.PolicyService/ListPolicies": "policies.read",
    "/langtrain.v1.PolicyService/ListPolicyVersions": "policies.read",
    "/langtrain.v1.PolicyService/Check": "access.check",
    "/langtrain.v1.PolicyService/CheckMany": "access.check",
    "/langtrain.v1.PolicyService/Explain": "access.explain",
    "/langtrain.v1.PolicyService/Simulate": "access.explain",
    "/langtrain.v1.PolicyService/ListAccess": "access.explain",
    "/langtrain.v1.RevocationService/RevokeToken": "tokens.revoke",
    "/langtrain.v1.RevocationService/RevokeTokens": "tokens.revoke",
    "/langtrain.v1.RevocationService/RevokeCertificate": "certificates.revoke",
    "/langtrain.v1.RevocationService/ListRevocations": "revocations.read",
    "/langtrain.v1.SidecarService/GetStatus": "sidecar.status",
    "/langtrain.v1.SidecarService/WatchStatus": "sidecar.status",
    "/langtrain.v1.SidecarService/CheckConfig": "sidecar.config.check",
    "/langtrain.v1.SidecarService/Drain": "sidecar.drain",
    "/langtrain.v1.SidecarService/GetLogLevel": "sidecar.logs.read",
    "/langtrain.v1.SidecarService/SetLogLevel": "sidecar.logs.write",
}
