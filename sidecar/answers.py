"""Answers to what links ask: question type → answerer. Only `app` imports this."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from interceptors.contract import AnswerError, Ask

Answerer = Callable[[Any], Awaitable[Any]]
Reply = Callable[[Any, Exception | None], None]


class Answers:
    """Answers on the event loop; what nobody can answer, or fails, is an AnswerError to the link that asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, table: Mapping[type, Answerer]) -> None:
        self._loop = loop
        self._table = dict(table)
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, question: Ask[Any], reply: Reply) -> None:
        answerer = self._table.get(type(question))
        if answerer is None:
            reply(None, AnswerError(f"nothing here answers {type(question).__name__}"))
            return
        task = self._loop.create_task(self._answer(answerer, question, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, answerer: Answerer, question: Ask[Any], reply: Reply) -> None:
        try:
            value = await answerer(question)
        except Exception as error:
            reply(None, error if isinstance(error, AnswerError) else AnswerError(type(error).__name__))
        else:
            reply(value, None)
