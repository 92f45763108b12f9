"""Clients: the same steps, asked one after the other in a thread, or awaited in an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import update_wrapper
from inspect import Parameter, Signature, signature
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar

import grpc
from google.protobuf.message import Message

from langtrain.calls import Steps, prepared
from langtrain.channel import Connection, PathLike, Settings, Token, settings, shared, shared_aio
from langtrain.errors import SidecarError, of_call

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Callable[..., Any])
TIMEOUT_S: Final = 10.0


class Connecting(TypedDict, total=False):
    """As of `Caller`."""

    ca: PathLike | None
    cert: PathLike | None
    key: PathLike | None
    token: Token | None
    timeout_s: float
    unsafe_plaintext: bool


class Caller:
    """Where a sidecar is and who calls it, as `langtrain.channel` has it. Every call raises SidecarError if it fails.

    timeout_s: deadline of each call, connecting and retries included.
    Those with the same settings share a connection. A call that may be asked again is, up to four times, while the
    sidecar is not reached.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        ca: PathLike | None = None,
        cert: PathLike | None = None,
        key: PathLike | None = None,
        token: Token | None = None,
        timeout_s: float = TIMEOUT_S,
        unsafe_plaintext: bool = False,
    ) -> None:
        self._settings = settings(endpoint, ca=ca, cert=cert, key=key, token=token, unsafe_plaintext=unsafe_plaintext)
        self._timeout_s = timeout_s
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.endpoint!r})"

    def _open(self) -> Settings:
        if self._closed:
            raise ValueError(f"{self!r} is closed")
        return self._settings


class Client(Caller):
    """For many threads."""

    _connection: Connection | None = None

    def close(self) -> None:
        """Of its own calls; who shares the connection goes on."""
        self._closed, self._connection = True, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> Connection:
        where = self._open()
        # Asked for each time: after a fork it is another.
        self._connection = shared(where)
        return self._connection

    def _run(self, steps: Steps[R]) -> R:
        try:
            request = next(steps)
            while True:
                try:
                    response = self._ask(request)
                except SidecarError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            result: R = done.value
            return result

    def _ask(self, request: Message) -> Any:
        method = self._connected().method(request)
        try:
            return method(prepared(request), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise of_call(error) from None

    def _stream(self, request: Message, part: Callable[[Any], R]) -> Generator[R]:
        """A part of each response as it comes, until the sidecar ends or the generator is closed. No deadline."""
        responses = self._connected().method(request)(request)
        try:
            for response in responses:
                yield part(response)
        except grpc.RpcError as error:
            raise of_call(error) from None
        finally:
            responses.cancel()


class AsyncClient(Caller):
    """For the tasks of event loops. It may be made outside of one."""

    _connection: Connection | None = None

    async def close(self) -> None:
        """Of its own calls; who shares the connection goes on."""
        self._closed, self._connection = True, None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _connected(self) -> Connection:
        where = self._open()
        self._connection = shared_aio(where)
        return self._connection

    async def _run(self, steps: Steps[R]) -> R:
        try:
            request = next(steps)
            while True:
                try:
                    response = await self._ask(request)
                except SidecarError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(response)
        except StopIteration as done:
            result: R = done.value
            return result

    async def _ask(self, request: Message) -> Any:
        method = self._connected().method(request)
        try:
            return await method(prepared(request), timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise of_call(error) from None

    async def _stream(self, request: Message, part: Callable[[Any], R]) -> AsyncGenerator[R]:
        """As `Client._stream`."""
        responses = self._connected().method(request)(request)
        try:
            async for response in responses:
                yield part(response)
        except grpc.RpcError as error:
            raise of_call(error) from None
        finally:
            responses.cancel()


def blocking(steps: Callable[P, Steps[R]]) -> Callable[Concatenate[Client, P], R]:
    """Steps as a method of a `Client`."""

    @_as_method(steps)
    def method(self: Client, /, *arguments: P.args, **named: P.kwargs) -> R:
        return self._run(steps(*arguments, **named))

    return method


def awaited(steps: Callable[P, Steps[R]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]:
    """Steps as a method of an `AsyncClient`."""

    @_as_method(steps)
    async def method(self: AsyncClient, /, *arguments: P.args, **named: P.kwargs) -> R:
        return await self._run(steps(*arguments, **named))

    return method


def _as_method(steps: Callable[..., Any]) -> Callable[[M], M]:
    """Name, text and signature of steps for a method, which takes an object besides."""

    def decorate(method: M) -> M:
        named: Any = update_wrapper(method, steps)
        named.__name__ = steps.__name__.lstrip("_")
        of = Parameter("self", Parameter.POSITIONAL_ONLY)
        named.__signature__ = Signature([of, *signature(steps).parameters.values()])
        return method

    return decorate
