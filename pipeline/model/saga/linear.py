"""The usual saga: steps done one after the other; if one cannot be done, those before it are undone, last first.

A step asks one or several aggregates at once. What a participant must promise, for late and repeated commands to be
harmless: of each saga and step it does one thing once, undoes it once, and does not do what has been undone already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pipeline.errors import TopologyError
from pipeline.model.aggregate import Rejected
from pipeline.model.context import EventContext, asks_context
from pipeline.model.saga.saga import Ask, Intervention, Owed, Replied, Saga, Started, Summary, TimeUp, timer
from pipeline.model.saga.steps import STUCK_AFTER, TIMEOUT, Did, Progress, Step, To, check_steps, diagram

S = TypeVar("S")

ACTIONS = ("retry", "skip", "abort")
RUNNING, COMPENSATING, DONE, UNDONE = "running", "compensating", "done", "undone"


def linear_saga(
    name: str,
    *,
    state: S,
    begin: object,
    begun: Callable[..., Any],
    asks: Mapping[str, object],
    versions: Mapping[int, Sequence[Step]],
) -> Saga[S]:
    """A saga that does its steps in order, and undoes them in reverse if one fails.

    `state`: the initial state, a frozen dataclass with a field `progress: Progress = Progress()`.
    `begin`: the class of the message that begins it, `begun(message)` the state then. With a parameter `context`
    `begun` is given an EventContext, such as for the saga's key.
    `versions`: the steps by version. A new instance goes by the highest, one under way by the version that it began
    with; a version may be taken out once no instance runs by it. Raises TopologyError.
    """
    for version, steps in versions.items():
        check_steps(f"saga {name!r}, version {version}", steps)
    if not versions or min(versions) < 1:
        raise TopologyError(f"saga {name!r}: versions are numbered from 1 on; give at least one")
    in_context = asks_context(begun, f"saga {name!r}: its begun", ["the message"], EventContext)
    runner = _Runner(begin, begun, {version: tuple(steps) for version, steps in versions.items()})
    return Saga(
        name,
        begin,
        asks,
        state,
        runner.evolve_in_context if in_context else runner.evolve,
        runner.plan,
        runner.summary,
        runner.refuse,
        actions=ACTIONS,
        version=max(versions),
        turn=runner.turn,
        diagram=diagram(versions[max(versions)]),
    )


class _Runner:
    """Runs the definitions of one linear saga."""

    def __init__(self, begin: object, begun: Callable[..., Any], versions: Mapping[int, tuple[Step, ...]]) -> None:
        self.begin: Any = begin
        self.begun, self.versions = begun, versions

    # --- evolve -------------------------------------------------------------------------------------------------------

    def evolve(self, state: Any, message: Any) -> Any:
        p: Progress = state.progress
        if not p.status:
            if isinstance(message, Started):
                return replace(state, progress=Progress(message.version))
            if isinstance(message, self.begin):
                state = self.begun(message)
                return replace(state, progress=self._enter(state, Progress(p.definition, RUNNING), 0))
        if p.status not in (RUNNING, COMPENSATING):
            return state
        match message:
            case Replied():
                p = self._replied(state, p, message)
            case TimeUp(timer):
                p = self._time_up(state, p, timer)
            case Intervention(action):
                p = self._intervened(state, p, action)
        return replace(state, progress=p)

    def evolve_in_context(self, state: Any, message: Any, context: EventContext) -> Any:
        """Return what `evolve` does, for a `begun` that asks for its context."""
        return _Runner(self.begin, partial(self.begun, context=context), self.versions).evolve(state, message)

    def _enter(self, state: Any, p: Progress, index: int) -> Progress:
        """Go on with the step at `index`, or what follows it if there is nothing to do."""
        steps = self._steps(p)
        for step in steps[index:]:
            if places := _places(step.do, state):
                return self._try(p, step.name, places)
            p = replace(p, done=(*p.done, Did(step.name, _places(step.undo, state))))
        return self._end(p, DONE)

    def _try(self, p: Progress, step: str, places: tuple[int, ...]) -> Progress:
        return replace(p, step=step, attempt=1, backoff=False, pending=places, failed=(), did=(), doubtful=())

    def _end(self, p: Progress, status: str) -> Progress:
        return Progress(p.definition, status, trouble=p.trouble, reason=p.reason)

    def _replied(self, state: Any, p: Progress, reply: Replied) -> Progress:
        label, _, place = reply.step.rpartition(".")
        n = int(place) if place.isdecimal() else -1
        if label != _label(p) or reply.attempt > p.attempt:
            return p
        if reply.accepted and n in (*p.pending, *p.failed):  # to this attempt, or to an earlier one after all
            pending, failed = _without(p.pending, n), _without(p.failed, n)
            p = replace(p, pending=pending, failed=failed, did=(*p.did, n))
            return p if pending or (failed and p.backoff) else self._answered(state, p)
        if reply.accepted or reply.attempt < p.attempt or n not in p.pending:
            return p
        worse = not p.failed or not self._step(p).retry.is_worth(reply.reason)
        trouble = reply.reason if worse else p.trouble
        p = replace(p, pending=_without(p.pending, n), failed=(*p.failed, n), trouble=trouble)
        return p if p.pending else self._answered(state, p)

    def _time_up(self, state: Any, p: Progress, timer: str) -> Progress:
        if p.backoff and timer == _timer(p, "backoff"):
            return self._again(p)
        if not p.backoff and timer == _timer(p, "timeout"):
            step = self._step(p)
            if (p.status == COMPENSATING or step.must) and not step.ask_again:
                return replace(p, stuck=True)
            return self._answered(state, self._in_doubt(p))
        return p

    def _in_doubt(self, p: Progress) -> Progress:
        """Stop waiting for replies."""
        trouble = TIMEOUT if p.pending and not p.failed else p.trouble
        doubtful = _union(p.doubtful, p.pending)
        return replace(p, pending=(), failed=(*p.failed, *p.pending), doubtful=doubtful, trouble=trouble)

    def _answered(self, state: Any, p: Progress) -> Progress:
        """Continue once all replies to an attempt have come."""
        step = self._step(p)
        if not p.failed:
            return self._went_well(state, p)
        retry = step.retry
        if p.status == RUNNING and not step.must and not (p.attempt < retry.attempts and retry.is_worth(p.trouble)):
            return self._compensate(state, p, p.trouble)
        return replace(p, backoff=True, stuck=p.attempt >= max(STUCK_AFTER, retry.attempts))

    def _again(self, p: Progress) -> Progress:
        return replace(p, attempt=p.attempt + 1, backoff=False, pending=tuple(sorted(p.failed)), failed=())

    def _went_well(self, state: Any, p: Progress) -> Progress:
        if p.status == COMPENSATING:
            return self._undo(state, replace(p, done=p.done[:-1], stuck=False))
        index = [step.name for step in self._steps(p)].index(p.step)
        return self._enter(state, replace(p, done=_with_this(p), stuck=False), index + 1)

    def _compensate(self, state: Any, p: Progress, reason: str) -> Progress:
        return self._undo(state, replace(p, status=COMPENSATING, done=_with_this(p), stuck=False, reason=reason))

    def _undo(self, state: Any, p: Progress) -> Progress:
        """Go on undoing: the last thing done, or what comes before if there is nothing to undo."""
        steps = {step.name: step for step in self._steps(p)}
        while p.done:
            last = p.done[-1]
            if last.places and steps[last.step].undo is not None:
                return self._try(p, last.step, last.places)
            p = replace(p, done=p.done[:-1])
        return self._end(p, UNDONE)

    # --- a person's hand ----------------------------------------------------------------------------------------------

    def _intervened(self, state: Any, p: Progress, action: str) -> Progress:
        if action == "retry":
            return self._again(self._in_doubt(p))
        if action == "skip":
            return self._went_well(state, replace(self._in_doubt(p), failed=()))
        if action == "abort" and p.status == RUNNING and not self._step(p).must:
            return self._compensate(state, self._in_doubt(p), "aborted")
        return p

    def refuse(self, state: Any, asked: Intervention) -> Rejected | None:
        """Retry: now instead of later. Skip: go on as if it had succeeded. Abort: undo all."""
        p: Progress = state.progress
        if not p.status:
            return Rejected("unknown_saga")
        if asked.action not in ACTIONS:
            return Rejected("unknown_action", {"actions": ", ".join(ACTIONS)})
        if p.status not in (RUNNING, COMPENSATING):
            return Rejected("already_settled", {"status": p.status})
        if asked.action == "abort" and p.status == COMPENSATING:
            return Rejected("already_compensating")
        if asked.action == "abort" and self._step(p).must:
            return Rejected("no_way_back", {"step": p.step})
        return None

    # --- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, state: Any) -> list[Owed]:
        p: Progress = state.progress
        if p.status not in (RUNNING, COMPENSATING):
            return []
        step = self._step(p)
        if p.backoff:
            return [timer(_timer(p, "backoff"), step.retry.after_s(p.attempt))]
        send = step.do if p.status == RUNNING else step.undo
        assert send is not None
        commands, label = send(state), _label(p)
        owed: list[Owed] = [Ask(f"{label}.{n}", *commands[n], p.attempt) for n in p.pending]
        if step.timeout_s is not None:
            owed.append(timer(_timer(p, "timeout"), step.timeout_s))
        return owed

    def turn(self, state: Any) -> object:
        p: Progress = state.progress
        return p.status, p.step, p.attempt, p.backoff

    def summary(self, state: Any) -> Summary:
        p: Progress = state.progress
        waits_for = tuple(f"{_label(p)}.{n}" for n in (p.failed if p.backoff else p.pending))
        return Summary("stuck" if p.stuck else p.status, p.step, p.attempt, waits_for, p.reason or p.trouble)

    def _steps(self, p: Progress) -> tuple[Step, ...]:
        if p.definition not in self.versions:
            raise TopologyError(
                f"an instance runs by version {p.definition} of its saga, which knows {sorted(self.versions)}; "
                "put that version back until the instance has ended"
            )
        return self.versions[p.definition]

    def _step(self, p: Progress) -> Step:
        return next(step for step in self._steps(p) if step.name == p.step)


def _places(commands: Callable[[Any], Sequence[To]] | None, state: Any) -> tuple[int, ...]:
    return () if commands is None else tuple(range(len(commands(state))))


def _with_this(p: Progress) -> tuple[Did, ...]:
    """What there is to undo, with what the step under way has done, or may have."""
    return (*p.done, Did(p.step, _union(p.did, p.doubtful)))


def _without(places: tuple[int, ...], place: int) -> tuple[int, ...]:
    return tuple(other for other in places if other != place)


def _union(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted({*one, *other}))


def _label(p: Progress) -> str:
    return p.step if p.status == RUNNING else f"undo-{p.step}"


def _timer(p: Progress, kind: str) -> str:
    return f"{_label(p)}/{p.attempt}/{kind}"
