"""Triton's client, unmodified: python triton_client.py CASES ADDRESS [CA CERTIFICATE KEY]

Runs the cases of `CASES` (digits, words, double, refused) and writes one JSON object, what each gave, to stdout.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

SEED = 11
TIMEOUT = 30.0  # seconds


def state(client: Any, model: str) -> dict[str, Any]:
    """What the server says of itself and of one model."""
    return {
        "live": client.is_server_live(client_timeout=TIMEOUT),
        "ready": client.is_server_ready(client_timeout=TIMEOUT),
        "model_ready": client.is_model_ready(model, client_timeout=TIMEOUT),
        "server": client.get_server_metadata(as_json=True, client_timeout=TIMEOUT),
        "model": client.get_model_metadata(model, as_json=True, client_timeout=TIMEOUT),
    }


def infer(client: Any, model: str, values: Any, kind: str, output: str, **options: Any) -> Any:
    tensor = triton.InferInput("input", list(values.shape), kind)
    tensor.set_data_from_numpy(values)
    result = client.infer(model, [tensor], request_id="call", client_timeout=TIMEOUT, **options)
    found = result.as_numpy(output)
    # Arrays that come raw have bytes; text comes as an array of objects.
    return [each.decode() if isinstance(each, bytes) else each for each in found.reshape(-1).tolist()]


def digits(client: Any) -> dict[str, Any]:
    """scikit-learn's classifier: small, big and compressed requests, concurrent ones, and a caller's own metadata."""
    images = np.random.default_rng(SEED).random((1000, 64))
    answers = {count: infer(client, "digits", images[:count], "FP64", "predict") for count in (1, 10, 1000)}
    packed = {
        algorithm: infer(client, "digits", images, "FP64", "predict", compression_algorithm=algorithm)
        for algorithm in ("gzip", "deflate")
    }
    with_headers = infer(client, "digits", images[:3], "FP64", "predict", headers={"x-request-source": "tests"})
    return {
        **state(client, "digits"),
        "answers": answers,
        "packed": packed,
        "with_headers": with_headers,
        "at_once": at_once(client, images),
    }


def at_once(client: Any, images: Any) -> list[Any]:
    """64 requests in flight together through the client's asynchronous call."""
    futures: list[Future[Any]] = []
    for image in images[:64]:
        tensor = triton.InferInput("input", [1, 64], "FP64")
        tensor.set_data_from_numpy(image.reshape(1, 64))
        future: Future[Any] = Future()
        client.async_infer("digits", [tensor], partial(keep, future), client_timeout=TIMEOUT)
        futures.append(future)
    return [future.result(TIMEOUT).as_numpy("predict").tolist() for future in futures]


def keep(future: "Future[Any]", result: Any, error: Exception | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def words(client: Any) -> dict[str, Any]:
    """A text model, and a model that is not there."""
    text = np.array(["ein Würfel fällt ☂ nicht weit"], dtype=object)
    return {
        **state(client, "words"),
        "answer": infer(client, "words", text, "BYTES", "words"),
        "missing": error(lambda: infer(client, "missing", text, "BYTES", "words")),
    }


def double(client: Any) -> dict[str, Any]:
    numbers = np.random.default_rng(SEED).random((500, 3), dtype=np.float32)
    return {**state(client, "double"), "doubled": infer(client, "double", numbers, "FP32", "doubled")}


def refused(client: Any) -> dict[str, Any]:
    """What a caller meets that may not do what it tries."""
    text = np.array(["anything"], dtype=object)
    return {
        "words": error(lambda: infer(client, "words", text, "BYTES", "words")),
        "live": error(lambda: client.is_server_live(client_timeout=TIMEOUT)),
    }


def error(call: Callable[[], object]) -> list[str]:
    try:
        return ["OK", repr(call())]
    except InferenceServerException as caught:
        return [str(caught.status()), str(caught.message())]


def main() -> None:
    cases, address, *files = sys.argv[1:]
    security: dict[str, Any] = {}
    if files:
        ca, certificate, key = files
        security = {"ssl": True, "root_certificates": ca, "certificate_chain": certificate, "private_key": key}
    with triton.InferenceServerClient(address, **security) as client:
        print(json.dumps({case: globals()[case](client) for case in cases.split(",")}))


if __name__ == "__main__":
    main()
