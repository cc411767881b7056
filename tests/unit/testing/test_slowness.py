"""What must not come of slowness is found in paces and in what workers log."""

from tests.faults.harness.slowness import Pace, Slowness

FENCED = (
    "12:00:00 CRITICAL FATAL [users-fault-0#producer-8] [thrd:main]: Fatal error: Local: This instance has been fenced "
    "by a newer instance: Broker: Producer attempted an operation with an old epoch"
)
REOPENED = (
    "12:00:00 ERROR   users: the producer cannot go on: Local: Fatal error; going on from the last commit in 0.1 s"
)
TAKEN_OVER = "12:00:00 INFO    users-fault-0 has left the group; its open transaction, if there was one, is ended"
TIMED_OUT = "12:00:00 WARNING Kafka: 1825 message(s) timed out on users.event [0]"


def test_a_pace_is_held_against_the_share_that_was_left() -> None:
    assert Pace("hogs", free=1_000, slow=125, share=0.25).of_share == 0.5
    slowness = Slowness([Pace("hogs", 1_000, 125, 0.25), Pace("disk", 1_000, 124, 0.25)])
    (behind,) = slowness.broken
    assert "disk: 124.0/s, and 1,000.0/s without" in behind


def test_a_fenced_producer_and_an_ended_worker_are_told() -> None:
    slowness = Slowness()
    slowness.read(
        [FENCED, TIMED_OUT, REOPENED, "12:00:00 INFO    users: assigned users.command 0 1"], ["worker 1 code 1: …"]
    )
    assert (len(slowness.fenced), slowness.timed_out, slowness.reopened) == (1, 1, 1)
    assert slowness.broken == ["a worker ended: worker 1 code 1: …", f"fenced: {FENCED}"]


def test_what_is_slow_and_no_more_is_not_told() -> None:
    slowness = Slowness([Pace("hogs", 1_000, 300, 0.25)])
    slowness.read([TIMED_OUT], [])
    assert slowness.broken == []


def test_who_was_taken_over_from_is_not_fenced_by_its_own_time_out() -> None:
    slowness = Slowness()
    slowness.read([TAKEN_OVER, FENCED, FENCED.replace("fault-0", "fault-1")], [])
    assert slowness.taken_over == 1
    assert slowness.fenced == [FENCED.replace("fault-0", "fault-1")]
