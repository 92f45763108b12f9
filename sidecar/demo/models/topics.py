"""MLServer runtime of the demo's text model: tickets in, topics out. MLServer loads it from the model's folder."""

from __future__ import annotations

import joblib
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class Topics(MLModel):
    """Input: `text`, BYTES (n, 1). Outputs: `topic` BYTES, `confidence` FP64, and `seen`, the text as it came in."""

    async def load(self) -> bool:
        self._model = joblib.load(await get_model_uri(self._settings))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        confidence = self._model.predict_proba(texts).max(axis=1, keepdims=True)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                StringCodec.encode_output("topic", list(self._model.predict(texts))),
                NumpyCodec.encode_output("confidence", confidence),
                StringCodec.encode_output("seen", texts),
            ],
        )
