"""Asking the worker that holds a partition: the steps, without I/O, for clients of threads and of event loops alike."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, NamedTuple

from pipeline import errors
from pipeline.adapters.kafka.owners import Router
from pipeline.errors import NotYet, PipelineError, TableUnavailable

RETRY_S = 0.1
TIMEOUT_S = 15.0


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


class Answer(NamedTuple):
    """What a worker has answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


Steps = Generator[Sleep | Blocking | HttpCall, Any, Answer]


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
    ) -> Steps:
        """Asks until there is an answer, or until patience ends: a partition that moves is back soon.

        Answers with 200, 304 or a problem that asking again does not change; raises TableUnavailable.
        """
        question = HttpCall("", path, query, TIMEOUT_S + wait_s, body)
        deadline = self.clock() + self.patience_s
        while True:
            try:
                return (yield from self._once(table, partition, question))
            except TableUnavailable:
                if self.clock() > deadline:
                    raise
            yield Sleep(RETRY_S)

    def _once(self, table: str, partition: int, question: HttpCall) -> Steps:
        try:
            holder: str = yield Blocking(lambda: self.router.holder(table, partition))
            return (yield from self._of(holder, table, question))
        except TableUnavailable as error:
            if question.query.get("consistency") != "eventual":
                raise
            members: list[str] = yield Blocking(lambda: self.router.members(table))
            for member in members:
                try:
                    return (yield from self._of(member, table, question))
                except TableUnavailable:
                    continue
            raise error

    def _of(self, holder: str, table: str, question: HttpCall) -> Steps:
        answer: Answer | None = yield question._replace(holder=holder)
        if answer is None:
            self.router.forget(table)
            raise TableUnavailable(f"the worker at {holder} does not answer; ask again")
        if answer.status >= 500:
            self.router.forget(table)
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
