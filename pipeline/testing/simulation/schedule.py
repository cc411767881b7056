"""A schedule: all that determines one history, as a value, made from a seed or written out by a test."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pipeline.testing import points

# At the last, a commit's offsets have joined the transaction, and it is not yet decided.
POINTS = (*points.POINTS, "producer.commit:offsets")
STEP = "step"  # a fault at the n-th call of all
CHANGELOGS = 2.0  # the share of "slow" and "markers" that means all changelogs of the service
TIMED_OUT_MS = 90_000  # transactions open since the first seconds would be timed out by then
MANY = 40  # records of a poll if each call takes long
TIME = "time"  # a fault at the n-th millisecond
_WRITING = tuple(
    f"producer.{call}:{when}" for call in ("produce", "produce_last", "flush") for when in ("before", "after")
)
_TABLE = tuple(f"store.{call}:before" for call in ("get", "scan", "write", "position", "flush"))
# At which points each kind may strike: those where the real world can do the same. `()`: at any point.
PLACES: dict[str, tuple[str, ...]] = {
    "crash": (),  # the process is killed; restarted after `size` seconds, 0: not before calm
    "pause": (),  # it hangs for `size` seconds, then goes on as if nothing had happened
    "stop": (),  # it is asked to stop, and restarted after `size` seconds
    "abort": (*_WRITING, "producer.commit:before", "producer.commit:offsets"),  # the broker aborts the transaction
    "fence": (),  # the producer's epoch is raised
    "unknown": ("producer.commit:after",),  # committed, but the reply is lost
    "late": ("producer.commit:before",),  # the request arrives `size` seconds later, after its time-out
    "unreachable": ("reader.ends:before", "reader.facts:before", "consumer.bounds:before"),
    "damage": _TABLE,  # a local table cannot be read
    "rebalance": (),  # the group begins a new generation
    "expel": (),  # the group expels the member, which does not notice
    "slow": (),  # a topic answers no reader for `size` seconds
    "markers": (),  # commits to a topic or the group's offsets stay invisible for `size` s
    "skew": (),  # the machine's clock jumps by `size` seconds
    "compact": (TIME,),  # the cleaner compacts all topics
    "truncate": (TIME,),  # retention removes what all have folded, and what compaction made obsolete
    "day": (TIME,),  # at the next quiet moment a day passes, and the cleaner removes deletions
}
KINDS = tuple(PLACES)
PLACES["busy"] = (TIME,)  # from now on, each call of a worker takes `size` seconds
PLACES["twin"] = (TIME,)  # another worker starts under the name of one, with another home directory
PLACES["forget"] = (TIME,)  # a service stops, and meanwhile the broker forgets its offsets, or one is set by hand
PLACES["anew"] = (TIME,)  # a topic of a service is deleted and made again, while it runs or is stopped
PLACES["astray"] = ()  # the group's or a log's reader is told, wrongly, that its offset is out of range


class Sent(NamedTuple):
    """A command of a client. `id`: empty for a new one. `age_ms`: how long before `at_ms` it was issued.

    `wait_ms`: after how long it is due; 0: at once. `aside`: how many partitions beside that of its key it is stored,
    as by a producer that spreads keys otherwise.
    """

    at_ms: int
    aggregate: str
    key: str
    command: Any
    id: str = ""
    age_ms: int = 0
    wait_ms: int = 0
    aside: int = 0


class Operation(NamedTuple):
    """An operator's action, "redrive" or "discard", on the `nth` key that has parked records at that time.

    Or "resume": have all services go on that are held or paused; "pause": pause the `nth` service. `limit`: the largest
    number of records; a redrive stops earlier if one raises.
    """

    at_ms: int
    action: str
    nth: int = 0
    limit: int = 1


class Fault(NamedTuple):
    """`kind` strikes when workers reach `point` for the `nth` time. `size`, `share`: see PLACES and `World`."""

    kind: str
    point: str
    nth: int
    size: float = 0.0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """The determinants of a history. `switches`: calls, counted over all workers, at which another worker goes on.

    `mended_ms`: until then the topology's code is broken, if the simulation can break it; 0: it never is. `cleared`:
    operators empty the queues before the judgement. `raising`: the share and the number of raising records that hold a
    service; None: as it declares.
    """

    commands: tuple[Sent, ...] = ()
    faults: tuple[Fault, ...] = ()
    switches: tuple[int, ...] = ()
    workers: int = 2
    partitions: int = 2
    standby: bool = False
    protocol: str = "classic"
    operations: tuple[Operation, ...] = ()
    mended_ms: int = 0
    cleared: bool = False
    records_per_poll: int = 4
    raising: tuple[float | None, int | None] = None, None


Commands = Callable[[random.Random], Iterable[tuple[str, str, Any]]]


def from_seed(seed: int, commands: Commands) -> Schedule:
    """Make the schedule of a seed. `commands(random)` yields (aggregate, key, command)."""
    rng = random.Random(seed)
    asked = list(commands(rng))
    at_ms, sent = 0, []
    pace_ms = rng.choice((5, 30, 200, 800))
    for each in asked:
        at_ms += rng.randrange(2 * pace_ms)
        sent.append(Sent(at_ms, *each))
    faults: list[Fault] = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        faults.append(_fault(rng, at_ms))
    scene = rng.random()
    if scene < 0.1:
        faults += _absence(rng)
        at_ms = max(at_ms, 9000)
        for each in list(commands(rng))[:5]:
            at_ms += rng.randrange(1500)
            sent.append(Sent(at_ms, *each))
    elif scene < 0.2:
        faults += _handover(rng)
    sent += _again(random.Random(f"again {seed}"), sent)
    later = random.Random(f"later {seed}")
    sent = [each._replace(wait_ms=later.choice((0,) * 12 + (1, 300, 2_000, 10_000))) for each in sent]
    if seed % 8 == 3:
        faults += _trouble(random.Random(f"trouble {seed}"), sent)
    if seed % 8 == 7:
        faults = list(_corner(random.Random(f"corner {seed}"), sent))
    parking = random.Random(f"parking {seed}")
    operations, mended_ms = _operators(parking, at_ms) if parking.random() < 0.5 else ((), 0)
    raising: tuple[float | None, int | None] = None, None
    if mended_ms and seed % 16 == 2:
        poison = random.Random(f"poison {seed}")
        raising = 0.05, poison.choice((1, 2, 4))
        operations = tuple(sorted((*operations, *_poison(poison, commands, sent, at_ms))))
    if seed % 32 == 18:
        operations = tuple(sorted((*operations, *_misplaced(random.Random(f"misplaced {seed}"), sent, at_ms))))
    density = rng.choice((0.0, 0.01, 0.05, 0.2))
    switches = tuple(n for n in range(1, 2500) if rng.random() < density) if density else ()
    return Schedule(
        tuple(sent),
        tuple(faults),
        switches,
        workers=rng.choice((1, 2, 2, 2, 3)),
        standby=rng.random() < (0.8 if 0.1 <= scene < 0.2 else 0.3),  # standbys for the take-over
        protocol=rng.choice(("classic", "classic", "consumer")),
        operations=operations,
        mended_ms=mended_ms,
        cleared=parking.random() < 0.7,
        records_per_poll=MANY if any(fault.kind == "busy" for fault in faults) else 4,
        raising=raising,
    )


def with_mishap(schedule: Schedule, rng: random.Random, commands: Commands, kind: str = "") -> Schedule:
    """Have a service's offsets forgotten, or a topic of it made anew, in place of the schedule's faults. `kind`: which.

    It happens once there are commits, and there are commands before and after it.
    """
    sent = [each._replace(at_ms=min(each.at_ms, 4_000), wait_ms=0) for each in schedule.commands]
    sent += [Sent(90_000 + 50 * n, *each) for n, each in enumerate(list(commands(rng))[:6])]
    fault = Fault(
        kind or rng.choice(("forget", "anew")), TIME, rng.choice((3_000, 5_000, 7_000)), 0.0, round(rng.random(), 2)
    )
    return replace(schedule, commands=tuple(sent), faults=(fault,))


def with_pauses(schedule: Schedule, rng: random.Random) -> Schedule:
    """Have operators pause services and have them go on, beside all else that happens."""
    end_ms = max((sent.at_ms for sent in schedule.commands), default=0) + 5_000
    acts = ("pause", "pause", "resume")
    times = sorted(rng.randrange(end_ms) for _ in range(rng.randrange(2, 9)))
    operations = [Operation(at_ms, rng.choice(acts), rng.randrange(4)) for at_ms in times]
    return replace(schedule, operations=tuple(sorted([*schedule.operations, *operations])))


def _operators(rng: random.Random, end_ms: int) -> tuple[tuple[Operation, ...], int]:
    """Break the code for a while; meanwhile operators redrive and discard, some of them too early."""
    mended_ms = rng.choice((1, rng.randrange(1, end_ms + 2), end_ms + rng.randrange(1, 20_000)))
    operations = [
        Operation(
            rng.randrange(mended_ms + 10_000),
            rng.choice(("redrive", "redrive", "redrive", "discard")),
            rng.randrange(4),
            rng.choice((1, 2, 100)),
        )
        for _ in range(rng.randrange(8))
    ]
    return tuple(sorted(operations)), mended_ms


def _misplaced(rng: random.Random, sent: list[Sent], end_ms: int) -> list[Operation]:
    """Let some commands come from a producer that spreads keys otherwise. Operators redrive and discard these."""
    sent[:] = [each._replace(aside=1) if rng.random() < 0.3 else each for each in sent]
    actions = ("redrive", "redrive", "discard")
    return [
        Operation(rng.randrange(end_ms + 5_000), rng.choice(actions), rng.randrange(4), rng.choice((1, 2, 100)))
        for _ in range(rng.randrange(6))
    ]


def _poison(rng: random.Random, commands: Commands, sent: list[Sent], end_ms: int) -> Iterable[Operation]:
    """Add bursts, of which some may raise. Operators resume what is held, some of them too early."""
    for _ in range(rng.randrange(1, 3)):
        at_ms = rng.randrange(end_ms + 1)
        sent += [Sent(at_ms, *each) for each in list(commands(rng))[:8]]
    return [Operation(rng.randrange(end_ms + 20_000), "resume") for _ in range(rng.randrange(4))]


def _again(rng: random.Random, sent: list[Sent]) -> list[Sent]:
    """Resend some commands, as clients without a reply do; rarely, another command has the same id."""
    found = []
    for n, each in enumerate(sent):
        if rng.random() < 0.25:
            after_ms = rng.choice((0, 3, 100, 1_000, 6_000))
            sent[n] = each._replace(id=f"again-{n}")
            ahead_ms = rng.choice((0, 0, 2_000, 30_000, 90_000))  # of the sender's clock
            sent[n] = sent[n]._replace(age_ms=-ahead_ms)
            age_ms = rng.choice((after_ms, after_ms, 0)) - ahead_ms
            again = sent[n]._replace(at_ms=each.at_ms + after_ms, age_ms=age_ms)
            if rng.random() < 0.1:
                again = again._replace(command=rng.choice([s for s in sent if s.aggregate == each.aggregate]).command)
            found.append(again)
    return found


_OFTEN = ("crash", "crash", "crash", "pause", "pause", "slow", "markers", "abort", "expel", "rebalance")
_COMMIT = tuple(point for point in POINTS if point.startswith(("producer.commit", "producer.flush", "store.write")))


def _fault(rng: random.Random, end_ms: int) -> Fault:
    kind = rng.choice(KINDS if rng.random() < 0.5 else _OFTEN)
    places = PLACES[kind]
    size = {"skew": rng.uniform(-3600.0, 3600.0), "late": rng.choice((0.01, 0.05, 0.2, 1.0, 20.0))}.get(
        kind, rng.choice((0.05, 0.5, 3.0, 8.0, 15.0))
    )
    if places == (TIME,):
        return Fault(kind, TIME, rng.randrange(end_ms + 2000), size)
    where = rng.random()
    if places:
        point, most = rng.choice(places), 60
    elif where < 0.4:
        point, most = STEP, 3000
    elif where < 0.7:
        point, most = rng.choice(_COMMIT), 60
    else:
        point, most = rng.choice(POINTS), 60
    nth = int(math.exp(rng.uniform(0.0, math.log(most))))
    return Fault(kind, point, nth, round(size, 2), round(rng.random(), 2))


def _absence(rng: random.Random) -> Iterable[Fault]:
    """Stop a worker while others go on, maybe until deletions have been compacted away."""
    yield Fault("crash", STEP, rng.randrange(100, 1000), rng.choice((0.0, 18.0)), rng.choice((0.0, 0.3, 1.0)))
    if rng.random() < 0.6:
        yield Fault("day", TIME, 17_000)


def _handover(rng: random.Random) -> Iterable[Fault]:
    """Move partitions while the last commits are not yet visible everywhere."""
    nth = rng.randrange(1, 12)
    kind = rng.choice(("slow", "markers"))
    yield Fault(kind, "producer.flush:after", nth, rng.choice((9.0, 15.0)), rng.choice((CHANGELOGS, 0.99)))
    yield Fault(rng.choice(("crash", "pause")), "producer.commit:after", nth, 8.0, round(rng.random(), 2))


def _trouble(rng: random.Random, sent: list[Sent]) -> Iterable[Fault]:
    """Make a machine slow while many commands wait, or give it another one's name."""
    if rng.random() < 0.5:
        late = [each._replace(at_ms=TIMED_OUT_MS) for each in sent[:1]]  # the trouble lasts until then
        sent[:] = [each._replace(at_ms=min(each.at_ms, 500)) for each in sent] + late
        yield Fault("busy", TIME, rng.randrange(400, 900), rng.choice((0.2, 0.5, 1.0)), round(rng.random(), 2))
    else:
        yield Fault("twin", TIME, rng.randrange(5_000), 0.0, round(rng.random(), 2))


# Calls that are rare, and faults that lead to them.
_CORNERS = {
    "listener.lost": ("pause",),
    "consumer.bounds": ("astray",),
    "consumer.close": ("stop", "fence"),
    "producer.close": ("stop", "fence"),
    "reader.close": ("stop", "fence"),
    "producer.abort": ("abort",),
    "store.wipe": ("astray",),
    "store.flush": ("later",),
    "producer.park": ("refused",),  # if the commands have such a record
}


def _corner(rng: random.Random, sent: list[Sent]) -> Iterable[Fault]:
    """Crash in a call that is rarely made."""
    call = rng.choice(tuple(_CORNERS))
    kind = rng.choice(_CORNERS[call])
    nth = rng.randrange(1, 4)
    if kind == "later":  # tables are flushed once a minute
        sent += [each._replace(at_ms=each.at_ms + 62_000) for each in sent[:3]]
        nth = rng.randrange(1, 3)
    elif kind == "abort":
        nth = 1
        yield Fault(kind, "producer.commit:before", rng.randrange(1, 12))
    elif kind != "refused":
        nth = 1 if kind == "pause" else nth
        yield Fault(kind, STEP, rng.randrange(100, 1500), 8.0, 0.0 if call == "consumer.bounds" else 0.9)
    yield Fault("crash", f"{call}:{rng.choice(('before', 'after'))}", nth, 0.5, round(rng.random(), 2))
