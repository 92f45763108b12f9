"""A budget of 100 a day, asked for by 2,000 calls at once over all workers; then with one of them killed meanwhile.

Each round has a method of its own, and so a budget of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import grpc

from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given

BUDGET = 100
CALLS = 2000
CONNECTIONS = 20  # of 100 streams each, the most that the sidecar takes on one
KILL_AFTER = 20  # calls answered
WORKERS = 4
AGAIN = 10  # calls of each spent budget after a restart
LIMITS = {"limits": [{"per": ["identity", "method"], "rate": f"{BUDGET}/day", "name": "daily"}]}
STATE = "budgets"


def run(stage: Stage, given: Given) -> list[Figure]:
    granted, arrived, under_kill = [], [], []
    methods = [f"/bench.Echo/Round{number}" for number in range(2 * given.rounds)]
    with stage.sidecar(WORKERS, state=STATE, more=LIMITS) as scene:
        for number, method in enumerate(methods):
            kills = number % 2 == 1
            codes = asyncio.run(_ask(scene, method, CALLS, kills))
            came = stage.counts().get(method, 0)
            if kills:
                under_kill.append(came)
            else:
                granted.append(codes["OK"])
                arrived.append(came)
    before = stage.counts()
    again = []
    for _ in range(2):
        with stage.sidecar(WORKERS, state=STATE, more=LIMITS) as scene:
            again += [asyncio.run(_ask(scene, method, AGAIN, False))["OK"] for method in methods]
            os.kill(scene.process.pid, signal.SIGKILL)
            scene.process.ended(10)
    extra = sum(stage.counts().values()) - sum(before.values()) - 1  # asking for the counts counts as well
    about = f"{CALLS} calls at once on a budget of {BUDGET}/day, {WORKERS} workers"
    wrong = sum(count != BUDGET for count in (*granted, *arrived))
    return [
        Figure(f"{about}: granted", "calls", granted, bar=BUDGET),
        Figure(f"{about}: rounds with another number than {BUDGET}", "rounds", [wrong], bar=0),
        Figure(f"{about}, one killed (-9) meanwhile: reached the model server", "calls", under_kill, bar=BUDGET),
        Figure(f"after a restart and after kill -9 of the supervisor: granted of {len(methods)} spent budgets",
               "calls", [max(0, sum(again), extra)], bar=0),
    ]  # fmt: skip


async def _ask(scene: Scene, method: str, count: int, kills: bool) -> Counter[str]:
    """What became of so many calls at once."""
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    options += [("grpc.enable_retries", 0)]  # a client that heeds the pushback would wait for 14 minutes
    channels = [
        grpc.aio.secure_channel(scene.address, scene.pki.credentials(), options) for _ in range(min(CONNECTIONS, count))
    ]
    codes: Counter[str] = Counter()
    ready = asyncio.Event()

    async def one(channel: Any) -> None:
        try:
            await channel.unary_unary(method)(b"m", timeout=60)
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1
        else:
            codes["OK"] += 1
        if codes.total() >= KILL_AFTER:
            ready.set()

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    calls = [asyncio.ensure_future(one(channels[number % len(channels)])) for number in range(count)]
    if kills:
        await ready.wait()
        os.kill(sorted(scene.workers().values())[0], signal.SIGKILL)
    await asyncio.gather(*calls)
    for channel in channels:
        await channel.close()
    return codes
