"""The relay and the playbook agree on random chains: what reached the model server, the client, and the links.

The playbook knows no bytes, no streams and no windows, so it tells what the chain means; here the same chain runs over
HTTP/2 that is cut anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interceptors.chain import Chain
from tests.interceptors.random_chains import ANSWERS, Script, build, scripts
from tests.playbook import Transcript
from tests.playbook import run as play
from tests.relay.ends import Tapped
from tests.relay.world import SHAPES, World

SHAPE_OF = {(method.unary_request, method.unary_response): shape for shape, method in SHAPES.items()}
METADATA = ((b"x-a", b"1"),)
HEADERS = ((b"x-head", b"h"),)
TRAILERS = ((b"x-last", b"l"),)
ENDS = (["END"], ["RST"], ["END", "RST"])  # the last, where the model server had not answered all yet
KINDS = [["HEADERS", *data, *end] for data in ([], ["DATA"]) for end in ENDS]


def cuts() -> st.SearchStrategy[Callable[[bytes], Iterable[bytes]]]:
    """How a byte stream arrives: in pieces of these sizes, again from the first when they run out."""

    def cutting(sizes: list[int]) -> Callable[[bytes], Iterable[bytes]]:
        def cut(data: bytes) -> Iterable[bytes]:
            at = count = 0
            while at < len(data):
                size = sizes[count % len(sizes)]
                yield data[at : at + size]
                at, count = at + size, count + 1

        return cut

    return st.lists(st.integers(1, 40) | st.just(10_000), min_size=1, max_size=4).map(cutting)


def relayed(script: Script, world: World, status: int, at_once: bool, apart: bool) -> Transcript:
    """A call through the relay as a transcript. apart: the bytes of each message rest before the next one comes."""

    def settle() -> None:
        world.settle()
        while world.answers.waiting:
            world.answers.settle()
            world.settle()

    def answer(call: Tapped) -> None:
        call.head(*HEADERS)
        for raw in script.responses:
            call.message(raw)
        call.trailers((b"grpc-status", b"%d" % status), (b"grpc-message", b"so"), *TRAILERS)

    world.answers.holds = not at_once
    world.answer = answer
    call = world.call(SHAPE_OF[script.method.unary_request, script.method.unary_response], *METADATA)
    for raw in script.requests:
        if not call.ended:
            call.message(raw)
        if apart:
            settle()
    if not call.ended:
        call.half_close()
    settle()
    assert call.ended
    told = Transcript(client=call.messages, status=call.status, message=call.message_text.decode())
    if call.all("TRAILERS"):
        assert call.head is not None
        told.client_headers = call.head[2:]
        told.trailers = call.trailers[2:]
    assert len(world.tap) <= 1
    for tapped in world.tap:
        told.upstream_headers = tapped.headers[6:]
        told.upstream = tapped.messages
        told.half_closed = tapped.ended
        told.reset = tapped.reset is not None
        assert tapped.kinds in KINDS
    return told


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    scripts(), st.sampled_from([0, 5]), st.booleans(), st.booleans(), cuts(), cuts(), st.sampled_from([1, 2, 7, 16_384])
)
def test_agreement(
    script: Script, status: int, at_once: bool, apart: bool, cut: Any, cut_back: Any, frame: int
) -> None:
    pages: tuple[list[str], list[str]] = ([], [])
    plain, wired = (Chain([build(behaviour, page) for behaviour in script.behaviours]) for page in pages)
    wanted = play(
        plain,
        script.method,
        script.requests,
        script.responses,
        headers=METADATA,
        response_headers=HEADERS,
        trailers=(status, "so", TRAILERS),
        answers=ANSWERS,
    )
    with World(wired, cut=cut, cut_back=cut_back, frame=frame) as world:
        told = relayed(script, world, status, at_once, apart)
    assert told.upstream_headers == wanted.upstream_headers
    assert (told.upstream, told.client) == (wanted.upstream, wanted.client)
    assert (told.status, told.message) == (wanted.status, wanted.message)
    assert told.half_closed == wanted.half_closed
    assert pages[0] == pages[1]
    if wanted.reset and not wanted.half_closed:
        assert told.reset
    if wanted.denied is None:
        assert (told.client_headers, told.trailers) == (wanted.client_headers, wanted.trailers)
        assert not told.reset
    elif wanted.client_headers is not None:
        assert told.client_headers == wanted.client_headers
    else:
        assert told.client_headers is None
