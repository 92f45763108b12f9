"""A Triton client as anybody would write it: it knows nothing of the sidecar but its address and certificates.

Runs in the model server's environment, by the demo and by hand. Prints one JSON object: the model's answer, or the
gRPC error (exit status 1).

    python client.py --url 127.0.0.1:8443 --ca ca.pem --certificate alice.pem --key alice-key.pem topics "Hello"
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton

TIMEOUT = 20.0  # seconds


def digits(client: triton.InferenceServerClient, images: list[list[float]], headers: dict[str, str]) -> dict[str, Any]:
    """images: (n, 64), grey values 0 to 16. Returns the digit of each."""
    data = np.asarray(images, dtype=np.float64)
    tensor = triton.InferInput("images", list(data.shape), "FP64")
    tensor.set_data_from_numpy(data)
    answer = client.infer("digits", [tensor], headers=headers, client_timeout=TIMEOUT)
    return {"model": "digits", "digits": answer.as_numpy("predict").ravel().tolist()}


def topics(client: triton.InferenceServerClient, texts: list[str], headers: dict[str, str]) -> dict[str, Any]:
    """Returns for each text its topic, how sure the model is, and the text as the model saw it."""
    data = np.array([[text.encode()] for text in texts], dtype=np.object_)
    tensor = triton.InferInput("text", list(data.shape), "BYTES")
    tensor.set_data_from_numpy(data)
    answer = client.infer("topics", [tensor], headers=headers, client_timeout=TIMEOUT)
    columns = (answer.as_numpy(name).ravel().tolist() for name in ("topic", "confidence", "seen"))
    return {
        "model": "topics",
        "answers": [
            {"topic": topic.decode(), "confidence": round(confidence, 3), "seen": seen.decode()}
            for topic, confidence, seen in zip(*columns, strict=True)
        ],
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask the demo's models.")
    parser.add_argument("--url", required=True, help="host:port of the sidecar, or of a model server")
    parser.add_argument("--ca", help="PEM file of the CA that the server's certificate must chain to; none: no TLS")
    parser.add_argument("--certificate", help="PEM file of the client's certificate")
    parser.add_argument("--key", help="PEM file of the client's private key")
    parser.add_argument("--traceparent", help="W3C trace context to call under")
    models = parser.add_subparsers(dest="model", required=True)
    models.add_parser("digits").add_argument(
        "images", type=Path, help="JSON file: {digits: {images: [[64 numbers], …]}}"
    )
    models.add_parser("topics").add_argument("texts", nargs="+")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    client = triton.InferenceServerClient(
        options.url,
        ssl=options.ca is not None,
        root_certificates=options.ca,
        certificate_chain=options.certificate,
        private_key=options.key,
    )
    headers = {"traceparent": options.traceparent} if options.traceparent else {}
    try:
        if options.model == "digits":
            images = json.loads(options.images.read_text("utf-8"))["digits"]["images"]
            answer = digits(client, images, headers)
        else:
            answer = topics(client, options.texts, headers)
    except triton.InferenceServerException as error:
        print(json.dumps({"status": str(error.status()), "message": error.message()}))
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
