"""An MLServer runtime that keeps state between requests: the sum of each sequence, whose id its answers say again."""

from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters


class Sums(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self._sums: dict[Any, Any] = {}
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        name = payload.parameters.sequence_id
        self._sums[name] = self._sums.get(name, 0) + NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("sum", self._sums[name])
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=[output], parameters=Parameters(sequence_id=name)
        )
