"""KServe's own client, which sends typed contents: python kserve_client.py ADDRESS [CA CERTIFICATE KEY]

Writes what the model `double` made of a few numbers, and the server's and model's state, as JSON to stdout.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
from kserve import InferenceGRPCClient, InferInput, InferRequest  # type: ignore[import-not-found]

NUMBERS = [0.5, -1.25, 3.0, 1e10]


async def run(address: str, credentials: grpc.ChannelCredentials | None) -> dict[str, Any]:
    tensor = InferInput("input", [len(NUMBERS)], "FP32", NUMBERS)
    async with InferenceGRPCClient(address, creds=credentials, timeout=30) as client:
        response = await client.infer(InferRequest("double", [tensor]))
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model_ready": await client.is_model_ready("double"),
            "doubled": [float(number) for number in response.outputs[0].as_numpy()],
        }


def main() -> None:
    address, *files = sys.argv[1:]
    credentials = None
    if files:
        ca, certificate, key = (Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    print(json.dumps(asyncio.run(run(address, credentials))))


if __name__ == "__main__":
    main()
