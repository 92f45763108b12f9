"""ModelStreamInfer with MLServer's own stubs, for Triton's client reads another message in its answers:

    python mlserver_stream.py ADDRESS MODELS [CA CERTIFICATE KEY]

Sends one text to each of MODELS (comma-separated) on one stream, the next one when the words of the last are in,
and writes the words, the status and its message as JSON to stdout.
"""

import json
import queue
import sys
from pathlib import Path
from typing import Any

import grpc
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

TEXT = "one two three"


def request(model: str) -> Any:
    contents = pb.InferTensorContents(bytes_contents=[TEXT.encode()])
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1, 1], contents=contents)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor])


def run(channel: grpc.Channel, models: list[str]) -> dict[str, Any]:
    requests: queue.Queue[Any] = queue.Queue()
    call = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests.get, None), timeout=30)
    words: list[str] = []
    try:
        for model in models:
            requests.put(request(model))
            words += [next(call).outputs[0].contents.bytes_contents[0].decode() for _ in TEXT.split()]
        requests.put(None)
        assert not list(call)
    except grpc.RpcError:
        requests.put(None)
    return {"words": words, "status": call.code().name, "message": call.details()}


def main() -> None:
    address, models, *files = sys.argv[1:]
    if files:
        ca, certificate, key = (Path(file).read_bytes() for file in files)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))
    else:
        channel = grpc.insecure_channel(address)
    with channel:
        print(json.dumps(run(channel, models.split(","))))


if __name__ == "__main__":
    main()
