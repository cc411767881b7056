"""Whether a worker lives, and whether it is ready: by what its lanes' threads have noted, without asking them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.adapters.kafka import away

if TYPE_CHECKING:
    from pipeline.worker.host import LaneHost
    from pipeline.worker.metrics.lag_watch import Lag

Json = dict[str, Any]
LIVE_S = 60.0  # for so long a lane may take for one step, as a commit may that waits for the broker …
LIVE_AWAY_S = 180.0  # … or while no broker answers: longer than all patience of one step
TURN_S = 10.0  # a lane that takes longer for a step is alive, and not ready
STALE_S = 30.0  # for so long at least, what was last measured of the lag holds
WHYS_MAX = 50  # of one service, in an answer


class Lags(Protocol):
    """How far partitions are behind, as it was last measured; see LagWatch."""

    @property
    def lags(self) -> Sequence[Lag]: ...
    def age_s(self) -> float | None: ...


class Health:
    """Looks at the lanes of a worker. `ready_lag_s`: how far behind a service that is ready may be at most.

    `trouble`: returns why the brokers do not answer, or nothing.
    """

    def __init__(
        self,
        hosts: Sequence[LaneHost],
        lag: Lags,
        ready_lag_s: float,
        trouble: Callable[[], str] = away.trouble_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts, self._lag, self._ready_lag_s = hosts, lag, ready_lag_s
        self._stopping, self._trouble, self._clock = False, trouble, clock

    async def close(self) -> None:
        """Note that the worker is stopping."""
        self._stopping = True

    def live(self) -> tuple[bool, Json]:
        """Return whether each lane turns, and the answer that says so.

        What another process would not cure, such as a broker that is away, leaves it true.
        """
        now_s, most_s = self._clock(), LIVE_AWAY_S if self._trouble() else LIVE_S
        services, lives = {}, True
        for host in self._hosts:
            idle_s = max(0.0, now_s - host.stepped_s)
            told: Json = {"live": idle_s <= most_s, "last_step_s": round(idle_s, 3)}
            if idle_s > most_s:
                told["why"] = [_stands(idle_s)]
            lives &= told["live"]
            services[host.plan.service.name] = told
        return lives, {"live": lives, "services": services}

    def ready(self) -> tuple[bool, Json]:
        """Return whether all services are restored and fold what comes, and the answer that says what is not so."""
        whys = []
        if self._stopping:
            whys.append(_why("stopping", "the worker is stopping"))
        if trouble := self._trouble():
            whys.append(_why("broker", f"Kafka does not answer: {trouble}"))
        services = {host.plan.service.name: self._service(host) for host in self._hosts}
        is_ready = not whys and all(told["ready"] for told in services.values())
        return is_ready, {"ready": is_ready, "why": whys, "services": services}

    def _service(self, host: LaneHost) -> Json:
        whys = list(self._whys(host))
        stats = host.stats
        told: Json = {
            "ready": not whys,
            "assigned": stats.assigned,
            "restoring": stats.restoring,
            "parked_keys": stats.held_keys,
            "why": whys[:WHYS_MAX],
        }
        return told | ({"more": len(whys) - WHYS_MAX} if len(whys) > WHYS_MAX else {})

    def _whys(self, host: LaneHost) -> Iterator[Json]:
        stats, lane, idle_s = host.stats, host.lane, self._clock() - host.stepped_s
        if idle_s > TURN_S:
            yield _stands(idle_s)
        if host.trouble:
            yield _why("opening", f"the service is being opened again: {host.trouble}")
        elif host.plan.source_topics and not stats.joined:
            yield _why("group", f"the consumer group {host.plan.group} has not assigned it partitions yet")
        if stats.held:
            yield _why("held", stats.held_why)
        for tp, waits_for, detail in lane.places.stops():
            yield {"partition": "{}-{}".format(*tp), **_why(waits_for.value, detail)}
        yield from self._lags(host.plan.service.name)
        for reader, what in list(stats.waiting.items()):
            yield _why("schema", f"{reader} waits before {what}")
        for (table, partition), view in list(lane.views.items()):
            if view.age_s is not None and (why := self._copy(table, view.age_s())):
                yield {"partition": f"{table}-{partition}", **why}

    def _lags(self, service: str) -> Iterator[Json]:
        age_s = self._lag.age_s()
        if age_s is None:
            yield _why("lag", "how far it is behind has not been measured yet")
        elif age_s > max(self._ready_lag_s, STALE_S):
            yield _why("lag", f"how far it is behind could not be measured for {age_s:.0f} s")
        for lag in self._lag.lags:
            if lag.service == service and lag.seconds is not None and lag.seconds > self._ready_lag_s:
                behind = f"its next record was appended {lag.seconds:.0f} s ago; {self._ready_lag_s:g} s are allowed"
                yield {"partition": "{}-{}".format(*lag.tp), **_why("lag", behind)}

    def _copy(self, table: str, age_s: float | None) -> Mapping[str, str] | None:
        if age_s is None:
            return _why("copy", f"the copy {table!r} has not caught up with its source yet")
        if age_s > self._ready_lag_s:
            return _why("copy", f"the copy {table!r} is {age_s:.0f} s behind; {self._ready_lag_s:g} s are allowed")
        return None


def _stands(idle_s: float) -> Json:
    return _why(
        "standing", f"the lane has been in one step for {idle_s:.0f} s; it waits for Kafka, or its code for something"
    )


def _why(reason: str, detail: str) -> Json:
    return {"reason": reason, "detail": detail}
