"""KServe's model server with one model, `double`, on loopback: python kserve_server.py GRPC_PORT HTTP_PORT

KServe binds every interface and has no setting against it; both of its servers are told 127.0.0.1 here.
"""

import sys
from typing import Any

import grpc.aio
import kserve  # type: ignore[import-not-found]
import uvicorn  # type: ignore[import-not-found]
from kserve.protocol.infer_type import InferOutput, InferRequest, InferResponse  # type: ignore[import-not-found]

HOST = "127.0.0.1"


class Double(kserve.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__("double")
        self.ready = True

    def predict(self, payload: InferRequest, headers: object = None, response_headers: object = None) -> InferResponse:
        numbers = payload.inputs[0].as_numpy() * 2
        output = InferOutput("doubled", list(numbers.shape), payload.inputs[0].datatype)
        output.set_data_from_numpy(numbers, binary_data=bool(payload.inputs[0]._raw_data))
        return InferResponse(payload.id, self.name, [output])


def on_loopback() -> None:
    serve, configure = grpc.aio.server, uvicorn.Config.__init__

    def server(*arguments: Any, **settings: Any) -> Any:
        made: Any = serve(*arguments, **settings)
        bind = made.add_insecure_port
        made.add_insecure_port = lambda address: bind(address.replace("[::]", HOST))
        return made

    def init(self: object, *arguments: object, **settings: object) -> None:
        configure(self, *arguments, **{**settings, "host": HOST})

    grpc.aio.server = server
    uvicorn.Config.__init__ = init


if __name__ == "__main__":
    on_loopback()
    kserve.ModelServer(grpc_port=int(sys.argv[1]), http_port=int(sys.argv[2])).start([Double()])
