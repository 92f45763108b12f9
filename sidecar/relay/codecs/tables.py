"""The methods of each known service, as data: which sides are unary, and how their messages name models.

Field numbers are those of Triton's grpc_service.proto, MLServer's dataplane.proto, KServe's grpc_predict_v2.proto
and tensorflow_serving/apis/*.proto. What stands in none of them is not known: streaming on both sides, naming
no model, so that a rule that names models refuses it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sidecar.relay.codecs.batches import Count, examples, one, shapes, tensors
from sidecar.relay.codecs.names import Find, each_spec, either, none, pair, spec, streamed


class Row(NamedTuple):
    """request, response: how messages on that side name models.  count: how a request says its batch size."""

    request: Find = none
    response: Find = none
    unary_request: bool = True
    unary_response: bool = True
    count: Count = one


Service: TypeAlias = dict[str, Row]

MODEL = pair(1, 2)
# Triton and MLServer: repository_name = 1, model_name = 2. KServe: model_name = 1.
REPOSITORY_MODEL = either(2, 1)

BATCH = shapes(5, 3)  # ModelInferRequest { repeated InferInputTensor inputs = 5; }, { repeated int64 shape = 3; }
EXAMPLES = examples(2)
# A map's entry has its value in field 2, as NamedTensorProto has its tensor.
TENSORS = tensors((2, 2))

OPEN_INFERENCE: dict[str, Service] = {
    "inference.GRPCInferenceService": {
        "ServerLive": Row(),
        "ServerReady": Row(),
        "ServerMetadata": Row(),
        "ModelReady": Row(MODEL),
        "ModelMetadata": Row(MODEL, pair(1)),
        "ModelInfer": Row(MODEL, MODEL, count=BATCH),
        "ModelStreamInfer": Row(MODEL, streamed, False, False, BATCH),
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
        "Classify": Row(spec(1), spec(2), count=EXAMPLES),
        "Regress": Row(spec(1), spec(2), count=EXAMPLES),
        "Predict": Row(spec(1), spec(2), count=TENSORS),
        "MultiInference": Row(each_spec(1, 1), each_spec(1, 1), count=EXAMPLES),
        "GetModelMetadata": Row(spec(1), spec(1)),
    },
    "tensorflow.serving.ModelService": {
        "GetModelStatus": Row(spec(1)),
        # It unloads every model that it does not name, so it concerns all.
        "HandleReloadConfigRequest": Row(),
    },
    "tensorflow.serving.SessionService": {
        "SessionRun": Row(spec(1), spec(3), count=TENSORS),
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
