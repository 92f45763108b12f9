"""A budget of 100 a day, asked for by 2,000 calls at once over all workers; then with one of them killed meanwhile.

Each round has an identity of its own, and so a budget of its own; and a method of its own, by which the model server
counts.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any

import grpc

from bench.harness.results import Figure
from bench.harness.scene import Scene, Stage
from bench.operations.given import Given
from sidecar.certs.authority import Issued

BUDGET = 100
CALLS = 2000
CONNECTIONS = 20  # of 100 streams each, the most that the sidecar takes on one
KILL_AFTER = 20  # calls answered
WORKERS = 4
AGAIN = 10  # calls of each spent budget after a restart
CLIENTS = "spiffe://example.org/bench/rounds/"
CONFIG = {
    "limits": [{"per": "identity", "rate": f"{BUDGET}/day", "name": "daily"}],
    "authorization": {"rules": [{"identities": [f"{CLIENTS}*"], "methods": ["/bench.Echo/*"]}]},
}
STATE = "budgets"


@dataclass(frozen=True, slots=True)
class Round:
    """kills: whether a worker is killed meanwhile."""

    method: str
    client: Issued
    kills: bool


def run(stage: Stage, given: Given) -> list[Figure]:
    rounds = [
        Round(f"/bench.Echo/Round{number}", stage.pki.leaf(name=f"{CLIENTS}{number}"), number % 2 == 1)
        for number in range(2 * given.rounds)
    ]
    codes, came = [], []
    with stage.sidecar(WORKERS, state=STATE, more=CONFIG) as scene:
        for each in rounds:
            codes.append(asyncio.run(_ask(scene, each, CALLS)))
            came.append(stage.counts().get(each.method, 0))
    again = []
    for _ in range(2):
        with stage.sidecar(WORKERS, state=STATE, more=CONFIG) as scene:
            spent = [Round(each.method, each.client, False) for each in rounds]
            again += [asyncio.run(_ask(scene, each, AGAIN))["OK"] for each in spent]
            os.kill(scene.process.pid, signal.SIGKILL)
            scene.process.ended(10)
    extra = sum(stage.counts().get(each.method, 0) for each in rounds) - sum(came)
    whole = [number for number, each in enumerate(rounds) if not each.kills]
    granted = [codes[number]["OK"] for number in whole]
    arrived = [came[number] for number in whole]
    about = f"{CALLS} calls at once on a budget of {BUDGET}/day, {WORKERS} workers"
    return [
        Figure(f"{about}: granted", "calls", granted, bar=BUDGET),
        Figure(f"{about}: rounds with another number than {BUDGET}, granted or at the model server", "rounds",
               [sum(count != BUDGET for count in (*granted, *arrived))], bar=0),
        Figure(f"{about}: refused as UNAVAILABLE, the ledger being busy", "calls",
               [codes[number]["UNAVAILABLE"] for number in whole]),
        Figure(f"{about}, one killed (-9) meanwhile: reached the model server", "calls",
               [came[number] for number, each in enumerate(rounds) if each.kills], bar=BUDGET),
        Figure(f"after a restart and after kill -9 of the supervisor: granted of {len(rounds)} spent budgets",
               "calls", [max(extra, sum(again))], bar=0),
    ]  # fmt: skip


async def _ask(scene: Scene, asked: Round, count: int) -> Counter[str]:
    """What became of so many calls at once."""
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
    options += [("grpc.enable_retries", 0)]  # a client that heeds the pushback would wait for 14 minutes
    credentials = scene.pki.credentials(asked.client)
    channels = [grpc.aio.secure_channel(scene.address, credentials, options) for _ in range(min(CONNECTIONS, count))]
    codes: Counter[str] = Counter()
    begun = asyncio.Event()

    async def one(channel: Any) -> None:
        try:
            await channel.unary_unary(asked.method)(b"m", timeout=60)
        except grpc.aio.AioRpcError as error:
            codes[error.code().name] += 1
        else:
            codes["OK"] += 1
        if codes.total() >= KILL_AFTER:
            begun.set()

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    calls = [asyncio.ensure_future(one(channels[number % len(channels)])) for number in range(count)]
    if asked.kills:
        await begun.wait()
        os.kill(min(scene.workers().values()), signal.SIGKILL)
    await asyncio.gather(*calls)
    for channel in channels:
        await channel.close()
    return codes
