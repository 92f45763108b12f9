"""Attacks a sidecar from a process of its own: `python -m bench.abuse.attacker HOST:PORT FOLDER SECONDS MODE...`.

FOLDER holds ca.pem and attacker.pem. It prints a tally as JSON.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.abuse.modes import MODES, Mode
from bench.abuse.peer import CutError, OverError, Peer, Tally, Target

AGAIN_S = 0.005  # between connections, so that none is a busy loop of refusals


def contexts(folder: Path) -> Callable[[], ssl.SSLContext]:
    """Contexts that present attacker.pem; each may be changed at will."""

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context.load_cert_chain(folder / "attacker.pem")
        context.set_alpn_protocols(["h2"])
        return context

    return make


def attack(modes: Sequence[Mode], target: Target, seconds: float) -> Tally:
    """Run all of these at once, each on its connections, for so long."""
    until = time.monotonic() + seconds
    tallies = [Tally() for mode in modes for _ in range(mode.connections)]
    peers = [mode for mode in modes for _ in range(mode.connections)]
    errors: list[Exception] = []  # of our own
    threads = [
        threading.Thread(target=_repeat, args=(mode, target, until, tally, errors), daemon=True)
        for mode, tally in zip(peers, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    if errors:
        raise errors[0]
    whole = Tally()
    for tally in tallies:
        whole.connections += tally.connections
        whole.cut += tally.cut
        whole.codes += tally.codes
        whole.resets += tally.resets
    return whole


def _repeat(mode: Mode, target: Target, until: float, tally: Tally, errors: list[Exception]) -> None:
    while time.monotonic() < until:
        peer = Peer(target, until, tally)
        try:
            if mode.greets:
                peer.connect()
                peer.greet()
            mode.attack(peer)
        except CutError:
            tally.cut += 1
        except OverError:
            return
        except Exception as error:
            errors.append(error)
            return
        finally:
            peer.leave()
        time.sleep(AGAIN_S)


def main() -> int:
    address, folder, seconds, *names = sys.argv[1:]
    host, _, port = address.rpartition(":")
    target = Target(host, int(port), contexts(Path(folder)), "127.0.0.2")
    tally = attack([MODES[name] for name in names], target, float(seconds))
    print(json.dumps(tally.record()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
