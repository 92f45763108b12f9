"""An MLServer runtime that answers a text with its words in upper case, all at once or one by one."""

from collections.abc import AsyncIterator

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Words(MLModel):  # type: ignore[misc]
    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        return self._answer(_words(payload))

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        async for payload in payloads:
            for word in _words(payload):
                yield self._answer([word])

    def _answer(self, words: list[str]) -> InferenceResponse:
        output = StringCodec.encode_output("words", words, use_bytes=True)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])


def _words(payload: InferenceRequest) -> list[str]:
    (text,) = StringCodec.decode_input(payload.inputs[0])
    return [word.upper() for word in text.split()]
