"""Asking the worker that holds a partition: the steps, without I/O, for clients of threads and of event loops alike."""

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


class Sleep(NamedTuple):
    """Let so much time pass."""

    seconds: float


class Blocking(NamedTuple):
    """Call this, which asks the broker and blocks; what it returns is the answer, what it raises is to be thrown."""

    function: Callable[[], Any]


class HttpCall(NamedTuple):
    """Ask this of the worker at `holder`; an answer is its `Answer`, none is None. `body`: JSON to be posted."""

    holder: str
    path: str
    query: Mapping[str, str]
    timeout_s: float
    body: Any = None


class Wait(NamedTuple):
    """Wait for what another thread gives; after the time-out TimeoutError is to be thrown."""

    future: Future[Any]
    timeout_s: float | None


class Open(NamedTuple):
    """Ask this for a stream, and close the one before; as HttpCall, but the body of an answer of 200 is for Read."""

    call: HttpCall


class Read(NamedTuple):
    """Take the next bytes of the stream that is open; empty where it has ended."""


class Items(NamedTuple, Generic[T]):
    """Hand these to the caller, one by one."""

    items: Sequence[T]


class Answer(NamedTuple):
    """What a worker has answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


Json = dict[str, Any]
Step = Sleep | Blocking | HttpCall | Wait
Steps = Generator[Step, Any, T]  # that come to one thing
Stream = Generator[Step | Open | Read | Items[T], Any, None]  # to many, one after the other


def patiently(clock: Callable[[], float], patience_s: float, attempt: Callable[[], Steps[T]]) -> Steps[T]:
    """The steps of an attempt, which begins again where it raises TableUnavailable, until patience ends."""
    deadline = clock() + patience_s
    while True:
        try:
            return (yield from attempt())
        except TableUnavailable:
            if clock() > deadline:
                raise
        yield Sleep(RETRY_S)


class OwnerRequest(NamedTuple):
    """How to ask for a table's partition. `clock`: seconds, for the patience with partitions that move."""

    router: Router
    clock: Callable[[], float]
    patience_s: float

    def steps(
        self,
        table: str,
        partition: int,
        path: str,
        query: Mapping[str, str],
        *,
        wait_s: float = 0.0,
        body: Any = None,
    ) -> Steps[Answer]:
        """Asks until there is an answer, or until patience ends: a partition that moves is back soon.

        Answers with 200, 304 or a problem that asking again does not change; raises TableUnavailable.
        """
        question = HttpCall("", path, query, TIMEOUT_S + wait_s, body)
        return patiently(self.clock, self.patience_s, lambda: self._once(table, partition, question))

    def of_any(self, path: str, query: Mapping[str, str], *, timeout_s: float, body: Any = None) -> Steps[Answer]:
        """Asks any worker of any service, which passes on what is another's; as `steps` otherwise."""
        question = HttpCall("", path, query, timeout_s, body)
        return patiently(self.clock, self.patience_s, lambda: self._any(question))

    def _any(self, question: HttpCall) -> Steps[Answer]:
        services = self.router.topology.services
        workers: list[str] = yield Blocking(lambda: [url for name in services for url in self.router.workers(name)])
        if not workers:
            self.router.forget_all()
            raise TableUnavailable("no worker runs; start one with: pipeline worker")
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
            raise TableUnavailable(f"the worker at {holder} does not answer; ask again")
        if answer.status >= 500:
            forget()
        if answer.status == 503:
            error = problem_of(answer, holder)
            raise error if isinstance(error, TableUnavailable) else TableUnavailable(str(error))
        return answer


def problem_of(answer: Answer, holder: str = "") -> PipelineError | None:
    """The error that an answer tells of; None where it is none."""
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
