"""What a hook's result means: the one place where exceptions, missing verdicts and observing are judged.

Hooks answer at once or by a generator that asks. Plans run the first kind straight and come here for the rest.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeVar

from interceptors.contract import (
    RAISED,
    AnswerError,
    Ask,
    Call,
    Code,
    Deny,
    Detail,
    Fault,
    Forward,
    Interceptor,
    Message,
    Pass,
    Steps,
    Verdict,
    check_denial_field,
)

R = TypeVar("R")
EXCUSED: Final = Pass()  # the call goes on although the link gave no verdict; a fact it promised is not waited for


def listen(steps: Steps[R], question: Ask[Any] | None = None) -> Steps[R]:
    """Run `steps` to its end: its questions go out, the answers go in, its result comes back.

    question: what `steps` asked already, or None where it has not been started.
    Raises TypeError where it yields anything but an Ask, and whatever it raises itself. When this generator is
    closed half-way, `steps` is closed too.
    """
    try:
        asked = next(steps) if question is None else question
        while True:
            if not isinstance(asked, Ask):
                steps.close()
                raise TypeError(f"a hook yielded {type(asked).__name__}, expected a question (Ask)")
            try:
                answer = yield asked
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as error:  # what the driver throws is the hook's to handle
                asked = steps.throw(error)
            else:
                asked = steps.send(answer)
    except StopIteration as done:
        result: R = done.value
        return result


def settle(steps: Steps[R]) -> R | Steps[R]:
    """The result of `steps` where it asks nothing; else a generator that puts its first question and goes on."""
    try:
        question = next(steps)
    except StopIteration as done:
        result: R = done.value
        return result
    return listen(steps, question)


def failed(call: Call, link: Interceptor, hook: str, error: BaseException) -> Verdict:
    """What an exception in a hook means: an observer's is noted and passes, a guard's denies.

    The caller learns the type of the exception at most, through the reason; its text stays in `call.faults`.
    """
    call.note_fault(Fault(link.name, hook, error))
    if link.observer:
        return EXCUSED
    code = Code.UNAVAILABLE if isinstance(error, AnswerError) else Code.INTERNAL
    return Deny(code, f"{link.name}.error:{type(error).__name__}")


def refuse(call: Call, denial: Deny, observe: bool) -> Pass | Deny:
    """`denial`; in a chain that only observes, a note of it, and the call goes on."""
    if not observe:
        return denial
    call.note_denial(denial)
    return EXCUSED


def judge(call: Call, link: Interceptor, hook: str, got: object, observe: bool) -> Steps[Verdict]:
    """The verdict that a hook's result comes to. got: what the hook returned, a generator that asks included."""
    if isinstance(got, Generator):
        try:
            got = yield from listen(got)
        except RAISED as error:
            got = failed(call, link, hook, error)
    if isinstance(got, Pass):
        return got
    if isinstance(got, Forward):
        messages: tuple[object, ...] = got.messages
        if type(messages) is tuple and all(isinstance(message, Message) for message in messages):
            return got
        return refuse(call, Deny(Code.INTERNAL, f"{link.name}.forward"), observe)
    if isinstance(got, Deny):
        return refuse(call, got if _sound(got) else Deny(Code.INTERNAL, f"{link.name}.denial"), observe)
    return refuse(call, Deny(Code.INTERNAL, f"{link.name}.no_verdict"), observe)


def _sound(denial: Deny) -> bool:
    """Whether `denial` can be sent; it never reads as success to the caller."""
    try:
        for name, value in denial.trailers:
            check_denial_field(name, value)
        for detail in denial.details:
            if not (isinstance(detail, Detail) and type(detail.type_url) is str and type(detail.value) is bytes):
                return False
        tuples = type(denial.trailers) is tuple and type(denial.details) is tuple
        texts = isinstance(denial.reason, str) and isinstance(denial.public, str)
        return tuples and texts and isinstance(denial.code, Code) and denial.code is not Code.OK
    except (AttributeError, TypeError, ValueError):
        return False
