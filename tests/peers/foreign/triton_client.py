"""Triton's client, unmodified: python triton_client.py CASES ADDRESS [CA CERTIFICATE KEY]

Runs the cases of `CASES` (digits, words, double, sums, around, refused) and writes one JSON object, what each gave, to
stdout.
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


def sums(client: Any) -> dict[str, Any]:
    """Two sequences of a model that keeps state, one by number and one by text; what it says they are called."""
    found: dict[str, Any] = {}
    for name in (42, "forty-two"):
        for value in (1, 2):
            tensor = triton.InferInput("input", [1], "INT64")
            tensor.set_data_from_numpy(np.array([value]))
            result = client.infer("sums", [tensor], client_timeout=TIMEOUT, sequence_id=name)
            said = result.get_response(as_json=True)["parameters"]["sequence_id"]
            found.setdefault(str(name), []).append([*result.as_numpy("sum").reshape(-1).tolist(), said])
    return found


def around(client: Any) -> dict[str, Any]:
    """Inputs, outputs and code by other ways than messages; and what there is."""
    there = triton.InferInput("input", [1, 64], "FP64")
    there.set_shared_memory("region", 512)
    here = triton.InferInput("input", [1, 64], "FP64")
    here.set_data_from_numpy(np.zeros((1, 64)))
    out = triton.InferRequestedOutput("predict")
    out.set_shared_memory("region", 8)
    options: dict[str, Any] = {"client_timeout": TIMEOUT}
    index = client.get_model_repository_index(as_json=True, client_timeout=TIMEOUT)
    return {
        "index": sorted(model["name"] for model in index["models"]),
        "input": error(lambda: client.infer("digits", [there], **options)),
        "output": error(lambda: client.infer("digits", [here], outputs=[out], **options)),
        "register": error(lambda: client.register_system_shared_memory("region", "/region", 512, **options)),
        "status": error(lambda: client.get_system_shared_memory_status(**options)),
        "cuda": error(lambda: client.unregister_cuda_shared_memory(**options)),
        "trace": error(lambda: client.get_trace_settings(**options)),
        "log": error(lambda: client.update_log_settings({"log_verbose_level": 1}, **options)),
        "config": error(lambda: client.load_model("digits", config="{}", **options)),
        "files": error(lambda: client.load_model("digits", config="{}", files={"file:1/model.py": b""}, **options)),
        "plain": error(lambda: client.infer("digits", [here], **options))[:1],
    }


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
