"""The methods of each known service, as data: which sides are unary, and how their messages name models.

Field numbers are those of Triton's grpc_service.proto, MLServer's dataplane.proto, KServe's grpc_predict_v2.proto
and tensorflow_serving/apis/*.proto. What stands in none of them is not known: streaming on both sides, naming
no model, so that a rule that names models refuses it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sidecar.relay.codecs.names import Find, each_spec, either, none, pair, spec, streamed


class Row(NamedTuple):
    """request, response: how messages on that side name models."""

    request: Find = none
    response: Find = none
    unary_request: bool = True
    unary_response: bool = True


Service: TypeAlias = dict[str, Row]

MODEL = pair(1, 2)
# Triton and MLServer: repository_name = 1, model_name = 2. KServe: model_name = 1.
REPOSITORY_MODEL = either(2, 1)

OPEN_INFERENCE: dict[str, Service] = {
    "inference.GRPCInferenceService": {
        "ServerLive": Row(),
        "ServerReady": Row(),
        "ServerMetadata": Row(),
        "ModelReady": Row(MODEL),
        "ModelMetadata": Row(MODEL, pair(1)),
        "ModelInfer": Row(MODEL, MODEL),
        "ModelStreamInfer": Row(MODEL, streamed, False, False),
        "ModelConfig": Row(MODEL),
        "ModelStatistics": Row(MODEL),
        "RepositoryIndex": Row(),
        "RepositoryModelLoad": Row(REPOSITORY_MODEL),
        "RepositoryModelUnload": Row(REPOSITORY_MODEL),
        "SystemSharedMemoryStatus": Row(),
        "SystemSharedMemoryRegister": Row(),
        "SystemSharedMemoryUnregister": Row(),
        "CudaSharedMemoryStatus": Row(),
        "CudaSharedMemoryRegister": Row(),
        "CudaSharedMemoryUnregister": Row(),
        "TraceSetting": Row(pair(2)),
        "LogSettings": Row(),
    },
    "inference.model_repository.ModelRepositoryService": {
        "RepositoryIndex": Row(),
        "RepositoryModelLoad": Row(pair(2)),
        "RepositoryModelUnload": Row(pair(2)),
    },
}

TF_SERVING: dict[str, Service] = {
    "tensorflow.serving.PredictionService": {
        "Classify": Row(spec(1), spec(2)),
        "Regress": Row(spec(1), spec(2)),
        "Predict": Row(spec(1), spec(2)),
        "MultiInference": Row(each_spec(1, 1), each_spec(1, 1)),
        "GetModelMetadata": Row(spec(1), spec(1)),
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": Row(spec(1)),
        # It unloads every model that it does not name, so it concerns all.
        "HandleReloadConfigRequest": Row(),
    },
    "tensorflow.serving.SessionService": {
        "SessionRun": Row(spec(1), spec(3)),
    },
}

# What any server may have beside its own protocol.
COMMON: dict[str, Service] = {
    "grpc.health.v1.Health": {
        "Check": Row(),
        "List": Row(),
        "Watch": Row(unary_response=False),
    },
    "grpc.reflection.v1.ServerReflection": {
        "ServerReflectionInfo": Row(unary_request=False, unary_response=False),
    },
    "grpc.reflection.v1alpha.ServerReflection": {
        "ServerReflectionInfo": Row(unary_request=False, unary_response=False),
    },
}
