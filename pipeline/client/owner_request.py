"""Requests to the worker that owns a partition, as steps without I/O, shared by the clients for threads and asyncio."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline import errors
from pipeline.adapters.kafka.owners import Router
from pipeline.errors import NotYet, PipelineError, TableUnavailable

RETRY_S = 0.1
TIMEOUT_S = 15.0

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Sleep(NamedTuple):
    """A step: let some seconds pass."""

    seconds: float


class Blocking(NamedTuple):
    """A step: call this function, which blocks. Send back what it returns, or throw what it raises."""

    function: Callable[[], Any]


class HttpCall(NamedTuple):
    """A step: send this request to the worker at `holder`. Send back its Answer, or None if there is none.

    `body`: JSON to post.
    """

    holder: str
    path: str
    query: Mapping[str, str]
    timeout_s: float
    body: Any = None


class Wait(NamedTuple):
    """A step: wait for a result from another thread. Throw TimeoutError after the time-out."""

    future: Future[Any]
    timeout_s: float | None


class Open(NamedTuple):
    """A step: open a stream and close the one before. As HttpCall, but Read takes the body of a 200 answer."""

    call: HttpCall


class Read(NamedTuple):
    """A step: read the next bytes of the open stream. Send back b"" if it has ended."""


class Items(NamedTuple, Generic[T_co]):
    """A step: hand these to the caller, one by one."""

    items: Sequence[T_co]


class Answer(NamedTuple):
    """A worker's HTTP response."""

    status: int
    body: Any
    headers: Mapping[str, str]


Json = dict[str, Any]
Step = Sleep | Blocking | HttpCall | Wait
Steps = Generator[Step, Any, T]  # with one result
Stream = Generator[Step | Open | Read | Items[T], Any, None]  # with many items


def patiently(clock: Callable[[], float], patience_s: float, attempt: Callable[[], Steps[T]]) -> Steps[T]:
    """Repeat an attempt while it raises TableUnavailable, until patience ends."""
    deadline = clock() + patience_s
    while True:
        try:
            return (yield from attempt())
        except TableUnavailable:
            if clock() > deadline:
                raise
        yield Sleep(RETRY_S)


class OwnerRequest(NamedTuple):
    """How to ask the owner of a partition. `clock`: seconds; `patience_s`: how long to retry while partitions move."""

    router: Router
    clock: Callable[[], float]
    patience_s: float

    def steps(
        self, table: str, partition: int, path: str, query: Mapping[str, str], *, wait_s: float = 0.0, body: Any = None
    ) -> Steps[Answer]:
        """Ask until there is an answer, or until patience ends; a moving partition soon has an owner again.

        Returns an answer with status 200 or 304, or a problem that asking again does not change. Raises
        TableUnavailable.
        """
        question = HttpCall("", path, query, TIMEOUT_S + wait_s, body)
        return patiently(self.clock, self.patience_s, lambda: self._once(table, partition, question))

    def of_any(self, path: str, query: Mapping[str, str], *, timeout_s: float, body: Any = None) -> Steps[Answer]:
        """Ask any worker of any service; it forwards what another one owns. Otherwise as `steps`."""
        question = HttpCall("", path, query, timeout_s, body)
        return patiently(self.clock, self.patience_s, lambda: self._any(question))

    def _any(self, question: HttpCall) -> Steps[Answer]:
        services = self.router.topology.services
        workers: list[str] = yield Blocking(lambda: [url for name in services for url in self.router.workers(name)])
        if not workers:
            self.router.forget_all()
            raise TableUnavailable(f"no worker runs; start one with: pipeline worker {self.router.topology.name}")
        return (yield from self._of(workers[0], question, self.router.forget_all))

    def _once(self, table: str, partition: int, question: HttpCall) -> Steps[Answer]:
        def forget() -> None:
            self.router.forget(table)

        try:
            holder: str = yield Blocking(lambda: self.router.holder(table, partition))
            return (yield from self._of(holder, question, forget))
        except TableUnavailable as error:
            if question.query.get("consistency") != "eventual":
                raise
            members: list[str] = yield Blocking(lambda: self.router.members(table))
            for member in members:
                try:
                    return (yield from self._of(member, question, forget))
                except TableUnavailable:
                    continue
            raise error

    def _of(self, holder: str, question: HttpCall, forget: Callable[[], None]) -> Steps[Answer]:
        answer: Answer | None = yield question._replace(holder=holder)
        if answer is None:
            forget()
            raise TableUnavailable(f"the worker at {holder} does not respond; ask again")
        if answer.status >= 500:
            forget()
        if answer.status == 200 and not isinstance(answer.body, dict):  # another program has the address by now
            forget()
            raise TableUnavailable(f"what answers at {holder} is no worker; ask again")
        if answer.status == 503:
            error = problem_of(answer, holder)
            raise error if isinstance(error, TableUnavailable) else TableUnavailable(str(error))
        return answer


def problem_of(answer: Answer, holder: str = "") -> PipelineError | None:
    """Return the error that an answer carries; None if it carries none."""
    if answer.status in (200, 304):
        return None
    told = answer.body if isinstance(answer.body, dict) else {}
    detail = told.get("detail", f"the worker {holder} answered {answer.status}")
    if told.get("error") == NotYet.__name__:
        return NotYet(detail, told.get("behind", ()))
    kind = getattr(errors, str(told.get("error")), None)
    if isinstance(kind, type) and issubclass(kind, PipelineError) and kind is not errors.NoReply:
        return kind(detail)
    return TableUnavailable(detail) if answer.status >= 500 else PipelineError(detail)
