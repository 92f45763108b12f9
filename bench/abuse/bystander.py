"""An honest caller: `python -m bench.abuse.bystander HOST:PORT FOLDER METHOD TIMEOUT_S`, until SIGTERM.

FOLDER holds ca.pem and bystander.pem. Calls are made at a steady rate on connections that stay, and others each on a
connection of its own; each begins when it is due, whether or not others have ended. It prints a line once it was
answered, and at the end what it found, as JSON: milliseconds, and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest

RATE = 50.0  # calls a second
CHANNELS = 2
FRESH_S = 0.25  # between calls on fresh connections
HEALTH = "/grpc.health.v1.Health/Check"
OWN = "langtrain.v1.SidecarService"  # whose health the sidecar answers for itself


class Bystander:
    def __init__(self, address: str, folder: Path, method: str, timeout_s: float) -> None:
        self._address, self._method, self._timeout_s = address, method, timeout_s
        identity = (folder / "bystander.pem").read_bytes()
        self._credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), identity, identity)
        self._message = HealthCheckRequest(service=OWN).SerializeToString() if method == HEALTH else b"x" * 100
        self._expected = b"\x08\x01" if method == HEALTH else b"ok"
        self.steady: list[float] = []  # seconds of each call
        self.fresh: list[float] = []
        self.answers: Counter[str] = Counter()
        self.details: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def _channel(self) -> Any:
        # What a message inflates to is its reader's business: 66 MiB take 20 ms of processor time, which at this rate
        # is more than there is, and would be measured in place of the sidecar.
        options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1),
                   ("grpc.enable_retries", 0), ("grpc.per_message_decompression", 0)]  # fmt: skip
        return grpc.aio.secure_channel(self._address, self._credentials, options)

    async def _call(self, channel: Any, times: list[float]) -> None:
        begun = time.monotonic()
        try:
            found = await channel.unary_unary(self._method)(self._message, timeout=self._timeout_s)
            answer = "OK" if found == self._expected else "WRONG"
        except grpc.aio.AioRpcError as error:
            answer = error.code().name
            if len(self.details) < 5:
                self.details.append(f"{answer}: {error.details()}")
        self.answers[answer] += 1
        times.append(time.monotonic() - begun)

    async def _call_fresh(self) -> None:
        channel = self._channel()
        await self._call(channel, self.fresh)
        await channel.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        channels = [self._channel() for _ in range(CHANNELS)]
        for channel in channels:
            await self._call(channel, [])
        self.answers.clear()
        self.details.clear()
        print("begun", flush=True)
        begun = due = fresh = time.monotonic()
        number = 0
        while not stop.is_set():
            now = time.monotonic()
            while due <= now:
                due += 1 / RATE
                number += 1
                self._begin(self._call(channels[number % CHANNELS], self.steady))
            if fresh <= now:
                fresh += FRESH_S
                self._begin(self._call_fresh())
            await asyncio.sleep(max(0.0, min(due, fresh) - time.monotonic()))
        await asyncio.gather(*self._tasks)
        print(json.dumps({
            "seconds": round(time.monotonic() - begun, 1), "answers": dict(self.answers), "details": self.details,
            "steady_ms": quantiles(self.steady), "fresh_ms": quantiles(self.fresh),
        }), flush=True)  # fmt: skip
        for channel in channels:
            await channel.close()


def quantiles(seconds: list[float]) -> dict[str, float]:
    times = sorted(seconds) or [0.0]
    return {
        "p50": round(1e3 * times[len(times) // 2], 1),
        "p99": round(1e3 * times[int(0.99 * (len(times) - 1))], 1),
        "worst": round(1e3 * times[-1], 1),
    }


def main() -> int:
    address, folder, method, timeout_s = sys.argv[1:]
    asyncio.run(Bystander(address, Path(folder), method, float(timeout_s)).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
