"""A sample interceptor: e-mail addresses in texts sent to a model become stars before the model sees them.

    interceptors:
      - use: ./examples/interceptors/mask_emails.py:MaskEmails

It reads Open Inference v2 requests, and in them the tensors of datatype BYTES. A stand-in for real redaction: it
knows one pattern and masks in one direction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from interceptors.contract import PASS, Call, Code, Deny, Forward, Hook, Interceptor, Message, Method, View
from sidecar.relay.codecs.fields import Field, Fields

METHODS = frozenset(f"/inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))
# The counts bound how far a search goes back: the whole text is scanned in time proportional to its length.
EMAIL = re.compile(rb"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}")

# Field numbers of inference.ModelInferRequest and the messages within (Open Inference Protocol, grpc_predict_v2.proto).
INPUTS, RAW_INPUTS = 5, 7
DATATYPE, CONTENTS = 2, 5
BYTES_CONTENTS = 8


class MaskEmails(Interceptor):
    name = "mask-emails"
    view = View.DECODED

    def depth(self, method: Method, obligations: frozenset[str]) -> View | None:
        return View.DECODED if method.path in METHODS else None

    def on_request(self, call: Call, message: Message) -> Hook:
        request = cast(Fields, message.body)
        try:
            masked = mask(request)
        except ValueError:  # CodecError is one
            return Deny(Code.INVALID_ARGUMENT, "mask-emails.malformed")
        return PASS if masked == request else Forward((Message.of(call, masked, False),))


def mask(request: Fields) -> Fields:
    """`request` with the addresses in its texts masked. Raises ValueError where it is malformed.

    A tensor's elements stand in its own message, or those of all tensors in raw_input_contents, in the same order.
    """
    tensors, raw = request.messages(INPUTS), request.all(RAW_INPUTS)
    if raw and len(raw) != len(tensors):
        raise ValueError(f"{len(tensors)} inputs have {len(raw)} raw contents, expected as many or none")
    if raw:
        masked = [
            field._replace(payload=b"".join(masked_elements(bytes(field.payload)))) if is_text(tensor) else field
            for tensor, field in zip(tensors, raw, strict=True)
        ]
        return request.with_fields(RAW_INPUTS, *masked)
    return request.with_fields(INPUTS, *(Field.message(INPUTS, masked_tensor(tensor)) for tensor in tensors))


def is_text(tensor: Fields) -> bool:
    return tensor.text(DATATYPE) == "BYTES"


def masked_elements(raw: bytes) -> Iterator[bytes]:
    """The elements of a raw BYTES tensor, each behind its length in four bytes, little-endian."""
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if end > len(raw):
            raise ValueError(f"an element ends at byte {end} of {len(raw)}")
        yield raw[at : at + 4]
        yield stars(raw[at + 4 : end])
        at = end


def masked_tensor(tensor: Fields) -> Fields:
    if not is_text(tensor):
        return tensor
    contents = tensor.message(CONTENTS)
    elements = (field._replace(payload=stars(bytes(field.payload))) for field in contents.all(BYTES_CONTENTS))
    return tensor.with_fields(CONTENTS, Field.message(CONTENTS, contents.with_fields(BYTES_CONTENTS, *elements)))


def stars(text: bytes) -> bytes:
    """As long as it was, so that no length changes."""
    return EMAIL.sub(lambda found: b"*" * len(found[0]), text)
