"""The sample interceptor as its readers will copy it."""

from __future__ import annotations

import pytest

from examples.interceptors.mask_emails import EMAIL, MaskEmails, mask, stars
from interceptors.contract import Method, View
from sidecar.relay.codecs.fields import Field, Fields

INFER = Method("/inference.GRPCInferenceService/ModelInfer", True, True)
FLOAT_THAT_LOOKS_LIKE_TEXT = b"\0\0\0\0ann@b.cd"  # 12 bytes: three FP32


def tensor(datatype: str, *elements: bytes) -> Fields:
    contents = Fields(Field(8, 2, element) for element in elements)
    fields = [Field.text(1, "text"), Field.text(2, datatype)]
    return Fields([*fields, Field.message(5, contents)] if elements else fields)


def request(*tensors: Fields, raw: tuple[bytes, ...] = ()) -> Fields:
    fields = [Field.text(1, "topics"), *(Field.message(5, each) for each in tensors)]
    return Fields.decode(Fields([*fields, *(Field(7, 2, data) for data in raw)]).encode())


def element(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"write to ann.lee+x@mail.example.org.", b"write to " + b"*" * 26 + b"."),
        (b"a@b.cd e@f.gh", b"****** ******"),
        (b"@example.org", b"@example.org"),
        (b"ann@example", b"ann@example"),
        (b"ann@example.c", b"ann@example.c"),
        (b"", b""),
    ],
)
def test_stars(text: bytes, expected: bytes) -> None:
    assert stars(text) == expected


def test_a_long_text_without_an_address_is_scanned_once() -> None:
    assert EMAIL.search(b"a" * 1_000_000) is None


def test_elements_in_the_tensor_are_masked() -> None:
    assert mask(request(tensor("BYTES", b"to a@b.cd", b"none"))) == request(tensor("BYTES", b"to ******", b"none"))


def test_raw_elements_are_masked_and_numbers_are_not() -> None:
    tensors = (tensor("FP32"), tensor("BYTES"))
    text = element(b"to a@b.cd") + element(b"")
    came = mask(request(*tensors, raw=(FLOAT_THAT_LOOKS_LIKE_TEXT, text)))
    assert came == request(*tensors, raw=(FLOAT_THAT_LOOKS_LIKE_TEXT, element(b"to ******") + element(b"")))


def test_an_address_that_begins_an_element_does_not_run_into_its_length() -> None:
    text = b"a@b.cd".ljust(0x61)  # the length is an "a"
    assert mask(request(tensor("BYTES"), raw=(element(text),))) == request(
        tensor("BYTES"), raw=(element(text.replace(b"a@b.cd", b"******")),)
    )


@pytest.mark.parametrize("raw", [(b"\x05\0\0\0abc",), (b"\x01",), (b"", b"")])
def test_malformed_raw_contents_are_refused(raw: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|ends at"):
        mask(request(tensor("BYTES"), raw=raw))


def test_only_inference_is_looked_into() -> None:
    link = MaskEmails()
    assert link.depth(INFER, frozenset()) is View.DECODED
    assert link.depth(Method("/inference.GRPCInferenceService/ServerLive"), frozenset()) is None
